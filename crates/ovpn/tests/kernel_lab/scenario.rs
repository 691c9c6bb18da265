//! The scenarios of the kernel's selftest tool, by `ovpn-cli` on the kernel's driver.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use ovpn_testkit::Scenarios;

static PLACES: LazyLock<[std::path::PathBuf; 2]> =
    LazyLock::new(|| [crate::share().join("ovpn_cli"), crate::program()]);

fn on_the_kernels_driver() -> Scenarios<'static> {
    let [scripts, program]: [&Path; 2] = [&PLACES[0], &PLACES[1]];
    Scenarios { scripts, program, driver: "kernel", limit: Duration::from_secs(400) }
}

ovpn_testkit::scenarios! { #[ignore = "needs the kernel's driver"] on_the_kernels_driver }
