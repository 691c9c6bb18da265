//! Development tasks: `cargo xtask demo | test | bench | compat | lab | stock | install`.
//!
//! Each task brings what it needs: on a Debian machine with root it installs missing packages itself, elsewhere it
//! says what to install.
#![forbid(unsafe_code)]

mod bench;
mod compat;
mod demo;
mod install;
mod run;
mod stock;
mod test;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask TASK

  demo              build, then show a tunnel between two network namespaces
  test [STEP…]      run every check and test that CI runs; STEP picks some: fmt clippy doc deny crates instructions
                    program matrix install kernel
  bench [ARG…]      run the tunnel benchmark with our release build against the peers that are installed
  compat            try us against every stock release and write the table in docs/compat.md
  lab               try the kernel's drivers, and the program on them, in emulated kernels (step `kernel` of the tests)
  stock             fetch the stock OpenVPN releases that the interoperability tests talk to
  install [PREFIX]  build and install the program, its links and service units (default prefix /usr/local)
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let result = match task.as_str() {
        "demo" => demo::demo(),
        "demo-receive" => demo::receive(),
        "demo-send" if rest.len() == 2 => demo::send(&rest[0], &rest[1]),
        "test" => test::test(&rest),
        "bench" => bench::bench(&rest),
        "compat" => compat::compat(),
        "lab" => test::kernel(),
        "stock" => stock::fetch().map(|dir| println!("stock releases are in {}", dir.display())),
        "install" => install::install(rest.first().map_or("/usr/local", String::as_str)),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("no task is called '{other}'\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
