//! `cargo xtask bench`: the tunnel benchmark beside the repository, with our release build among the peers.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{cargo, root, run};
use crate::tools;

/// Builds a release and hands `args` to the benchmark (default: ours against stock, three rounds).
pub(crate) fn bench(args: &[String]) -> Result<()> {
    let script = root().join("../shared/bench/tunnel-bench");
    if !script.is_file() {
        bail!("{} is not there: the tunnel benchmark lies beside the repository", script.display());
    }
    tools::ensure(tools::DEMO)?;
    tools::ensure(tools::TEST)?;
    run(cargo().args(["build", "--release", "--package", "ovpn"]))?;
    let mut command = Command::new(script);
    command.env("OURS", root().join("target/release/ovpn"));
    if args.is_empty() {
        command.args([
            "--rounds",
            "3",
            "raw-veth",
            "ours-*",
            "openvpn-2.?-aes256-udp",
            "wireguard-go",
            "gotatun",
            "boringtun",
        ]);
    } else {
        command.args(args);
    }
    run(&mut command)
}
