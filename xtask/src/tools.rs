//! Programs that tests and the demo call: installed when missing and allowed, else named.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{has, is_root, run};

/// A program (found on the path) or a file (by its whole path), and the Debian package that brings it.
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
}

/// What the demo needs.
pub(crate) const DEMO: &[Tool] = &[
    Tool { program: "cc", package: "gcc" },
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "ping", package: "iputils-ping" },
    Tool { program: "openssl", package: "openssl" },
];

/// What the benchmark needs beyond that; the peers it measures are for whoever wants them.
pub(crate) const BENCH: &[Tool] = &[
    Tool { program: "iperf3", package: "iperf3" },
    Tool { program: "ethtool", package: "ethtool" },
    Tool { program: "python3", package: "python3" },
    Tool { program: "openvpn", package: "openvpn" },
];

/// What the tests need beyond that.
pub(crate) const TEST: &[Tool] = &[
    Tool { program: "sysctl", package: "procps" },
    Tool { program: "iperf3", package: "iperf3" },
    Tool { program: "tcpdump", package: "tcpdump" },
    Tool { program: "nft", package: "nftables" },
    Tool { program: "ethtool", package: "ethtool" },
    Tool { program: "jq", package: "jq" },
    Tool { program: "valgrind", package: "valgrind" },
    Tool { program: "faketime", package: "faketime" },
    Tool { program: "nc", package: "netcat-openbsd" },
    Tool { program: "openvpn", package: "openvpn" },
    Tool { program: "mmdebstrap", package: "mmdebstrap" },
    Tool { program: "python3", package: "python3" },
    Tool {
        program: "/usr/lib/python3/dist-packages/prometheus_client/parser.py",
        package: "python3-prometheus-client",
    },
    Tool { program: "/usr/share/easy-rsa/easyrsa", package: "easy-rsa" },
    Tool { program: "curl", package: "curl" },
    Tool { program: "zsh", package: "zsh" },
    Tool { program: "fish", package: "fish" },
    Tool { program: "systemd-analyze", package: "systemd" },
];

/// What the whole kernel lab needs beyond that: it builds the older driver for a guest of its own.
pub(crate) const LAB: &[Tool] =
    &[Tool { program: "make", package: "make" }, Tool { program: "debugfs", package: "e2fsprogs" }];

/// Makes sure that all of `tools` are there.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&str> =
        tools.iter().filter(|tool| !has(tool.program)).map(|tool| tool.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !(is_root() && has("apt-get")) {
        bail!("these Debian packages are missing: {list}\nInstall them with: sudo apt-get install {list}");
    }
    println!("installing {list}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-y"]).args(args);
        run(&mut command)
    };
    apt(&["update"])?;
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)
}
