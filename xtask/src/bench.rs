//! `cargo xtask bench`: the tunnel benchmark beside the repository, with our release build among the peers.
//!
//! The benchmark measures whatever of its peers is present; those that are missing are named here, with the command
//! that fetches them.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{cargo, is_root, output, root, run};
use crate::tools;

/// What is compared if nothing else is asked for: the bare wire, ours, stock, and the userspace tunnels of others.
const DEFAULT: [&str; 8] =
    ["--rounds", "3", "raw-veth", "ours-*", "openvpn-2.?-aes256-udp", "wireguard-go", "gotatun", "boringtun"];

/// Builds a release and hands `args` to the benchmark (default: ours against stock and others, three rounds).
pub(crate) fn bench(args: &[String]) -> Result<()> {
    let folder = root().join("../shared/bench");
    let script = folder.join("tunnel-bench");
    if !script.is_file() {
        bail!("{} is not there: the tunnel benchmark lies beside the repository", script.display());
    }
    if !is_root() {
        bail!("the benchmark makes network namespaces: run `sudo -E env \"PATH=$PATH\" cargo xtask bench`");
    }
    tools::ensure(tools::DEMO)?;
    tools::ensure(tools::BENCH)?;
    run(cargo().args(["build", "--release", "--package", "ovpn"]))?;
    let ours = root().join("target/release/ovpn");
    for line in missing(&output(Command::new(&script).env("OURS", &ours).arg("--list"))?) {
        println!("not measured: {line}");
    }
    if folder.join("get-peers").is_file() {
        println!("(peers that Debian does not have are fetched by {})", shown(&folder.join("get-peers")));
    }
    // Tunnels of our own making, beside the benchmark's.
    run(cargo().args(["build", "--release", "--package", "ovpn-engine", "--examples"]))?;
    let examples = root().join("target/release/examples");
    let mut command = Command::new(script);
    command.env("OURS", ours);
    command.env("STATIC_TUNNEL", examples.join("static_tunnel"));
    command.env("BARE_TUNNEL", examples.join("bare_tunnel"));
    command.arg("--adapter").arg(root().join("bench/adapters.ini"));
    if args.is_empty() {
        command.args(DEFAULT);
    } else {
        command.args(args);
    }
    run(&mut command)
}

fn shown(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// The peers that the benchmark's list calls absent, with its reason.
fn missing(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(char::is_whitespace)?;
            let reason = rest.trim().strip_prefix("absent:")?;
            Some(format!("{name} ({})", reason.trim()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_absent_are_named() {
        let list = "raw-veth      \nwireguard-kernel    absent: no kernel module wireguard\nours-a   OpenVPN absent: x\n";
        assert_eq!(super::missing(list), ["wireguard-kernel (no kernel module wireguard)"]);
    }
}
