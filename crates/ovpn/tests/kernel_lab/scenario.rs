//! The scenarios of the kernel's selftest tool, by `ovpn-cli` on the kernel's driver.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use ovpn_testkit::Scenarios;

static PLACES: LazyLock<[std::path::PathBuf; 2]> =
    LazyLock::new(|| [crate::share().join("ovpn_cli"), crate::program()]);

fn on_the_kernels_driver() -> Scenarios<'static> {
    let [scripts, program]: [&Path; 2] = [&PLACES[0], &PLACES[1]];
    // Emulation is slow: one client over IPv6 must do.
    Scenarios { scripts, program, driver: "kernel", peers: 4, limit: Duration::from_secs(600) }
}

ovpn_testkit::scenarios! { #[ignore = "needs the kernel's driver"] on_the_kernels_driver }
