//! The scenarios of the kernel's selftest tool, run by `ovpn-cli` on the engine, in network namespaces.
//!
//! The scripts in `ovpn_cli/` use the tool's grammar only; they run with any tool that has it (`OVPN_CLI`) and, with
//! `OVPN_DRIVER=kernel`, on the kernel's driver. Root is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use ovpn_testkit::Scenarios;

fn on_the_engine() -> Scenarios<'static> {
    Scenarios {
        scripts: Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ovpn_cli")),
        program: Path::new(env!("CARGO_BIN_EXE_ovpn")),
        driver: "engine",
        peers: 6,
        limit: Duration::from_secs(90),
    }
}

ovpn_testkit::scenarios! { on_the_engine }
