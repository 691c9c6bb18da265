//! Test support: everything a test of ovpn-rs needs around the thing it tests.
//!
//! ```text
//!   Netns ──── veth ──── Netns      own network namespaces, removed when dropped
//!     │                    │
//!   Running              Running    programs inside them, killed when dropped, output kept
//!     └── Site: Pki, keys, configuration ──┘      Program: ours, or StockOpenvpn, the judge
//! ```
//!
//! Everything that leaves a trace outside the process (namespace, program, folder) is a guard: dropping it removes
//! the trace, also when a test fails. Names contain the process id, so that test runs side by side never meet.
//! Everything that waits has a time limit.
#![forbid(unsafe_code)]

mod echo;
mod instructions;
mod netns;
mod pki;
mod process;
mod program;
mod scenario;
mod site;
mod spread;
mod stock;
mod streams;
mod temp_dir;
mod topology;
mod transfer;

pub use echo::Echo;
pub use instructions::{Case, instructions};
pub use netns::Netns;
pub use pki::{Identity, Pki, Role, serial};
pub use process::{Output, Running, run};
pub use program::{Program, UP};
pub use scenario::Scenarios;
pub use site::{Site, static_key};
pub use spread::spread;
pub use stock::StockOpenvpn;
pub use streams::{Carried, Streams};
pub use temp_dir::TempDir;
pub use topology::{Pair, Star};
pub use transfer::{transfer, transfer_text};

use std::time::{Duration, Instant};

/// Calls `probe` every 20 ms until it gives a value, at most for `limit`.
///
/// # Errors
/// When the time is over; the error names `what` was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        anyhow::ensure!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
