//! `cargo xtask test`: everything that CI runs, in the order in which a mistake shows soonest.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::run::{cargo, has, is_root, root, run};
use crate::{compat, install, stock, tools};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("fmt", fmt),
    ("clippy", clippy),
    ("doc", doc),
    ("deny", deny),
    ("crates", crates),
    ("instructions", instructions),
    ("program", program),
    ("matrix", matrix),
    ("install", install::check),
    ("kernel", kernel),
];

/// Runs the named steps, or all.
pub(crate) fn test(wanted: &[String]) -> Result<()> {
    if let Some(unknown) = wanted.iter().find(|name| STEPS.iter().all(|(step, _)| step != name)) {
        let known: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no step is called '{unknown}'; there are: {}", known.join(" "));
    }
    if !is_root() {
        bail!(
            "the tests make network namespaces and devices: run `sudo -E env \"PATH=$PATH\" cargo xtask test`"
        );
    }
    tools::ensure(tools::DEMO)?;
    tools::ensure(tools::TEST)?;
    let mut took = Vec::new();
    for (name, step) in STEPS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            println!("== {name}");
            let start = Instant::now();
            step()?;
            took.push(format!("{name} {:.0} s", start.elapsed().as_secs_f64()));
        }
    }
    println!("== all passed: {}", took.join(", "));
    Ok(())
}

fn fmt() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn doc() -> Result<()> {
    run(cargo().args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn deny() -> Result<()> {
    if !has("cargo-deny")
        && !cargo().args(["deny", "--version"]).output().is_ok_and(|out| out.status.success())
    {
        run(cargo().args(["install", "--quiet", "--locked", "cargo-deny"]))?;
    }
    run(cargo().args(["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}

/// Tests of the library crates; those that open devices make them in namespaces of their own.
fn crates() -> Result<()> {
    run(cargo()
        .args(["test", "--quiet", "--workspace", "--exclude", "ovpn", "--all-features"])
        .env("OVPN_STOCK_DIR", stock::fetch()?))
}

/// Instructions of each step of a packet's way, and of a handshake, against what is written down.
fn instructions() -> Result<()> {
    for package in ["ovpn-engine", "ovpn-control"] {
        run(cargo().args(["bench", "--quiet", "--package", package, "--bench", "instructions"]))?;
    }
    Ok(())
}

/// Tests of the program: in network namespaces, on its own and with stock peers, one after the other.
fn program() -> Result<()> {
    run(cargo()
        .args(["test", "--package", "ovpn", "--all-features", "--", "--test-threads=1"])
        .env("OVPN_STOCK_DIR", stock::fetch()?))
}

/// Every pairing with stock; `docs/compat.md` must say what comes out.
fn matrix() -> Result<()> {
    compat::run_matrix(false)
}

/// Everything there is to try in guests of the kernel lab: both kernels, the drivers alone and the whole program, built
/// with some optimization: debug builds are too slow under emulation. The variables that narrow it stand in
/// `crates/ovpn/tests/kernel_lab.rs`.
pub(crate) fn kernel() -> Result<()> {
    let lab = "../shared/kernel-lab/lab";
    if !root().join(lab).is_file() {
        bail!("{lab} is not there: the kernel lab lies beside the repository");
    }
    tools::ensure(tools::TEST)?;
    tools::ensure(tools::LAB)?;
    let program = match std::env::var_os("OVPN_LAB_PROGRAM") {
        Some(program) => program,
        None => {
            run(cargo().args(["build", "--quiet", "--profile", "lab", "--package", "ovpn"]))?;
            root().join("target/lab/ovpn").into()
        }
    };
    let test = ["test", "--package", "ovpn", "--all-features", "--test", "kernel_lab", "--"];
    run(cargo()
        .args(test)
        .args(["--ignored", "--exact", "in_the_lab", "--nocapture"])
        .env("OVPN_LAB_PROGRAM", program)
        .env("OVPN_STOCK_DIR", stock::fetch()?))
}
