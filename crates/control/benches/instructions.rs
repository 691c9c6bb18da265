//! Instructions of a whole control handshake, both ends of it, held to `instructions.txt` within 5 %.
//!
//! `cargo bench -p ovpn-control --bench instructions`; needs valgrind.
#![allow(missing_docs, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use common::pki;
use common::{Weather, World};
use ovpn_control::Wrapping;
use ovpn_testkit::{Case, instructions};

/// Certificates and the gathering of entropy make the set-up differ by some 3 million from run to run; over so many
/// handshakes that is 1 %.
const TIMES: u32 = 64;

const CASES: &[Case] = &[
    Case {
        name: "handshake, tls-crypt",
        times: TIMES,
        run: |n| handshakes(|| Wrapping::TlsCrypt(pki::static_key(1)), n),
    },
    Case { name: "handshake, no wrapping", times: TIMES, run: |n| handshakes(|| Wrapping::None, n) },
];

fn handshakes(wrapping: fn() -> Wrapping, times: u32) {
    // Certificates are made once, as well as whatever the first handshake finds missing.
    for seed in 0..=u64::from(times) {
        let mut world = World::new(seed, Weather::FAIR, pki::client(wrapping()), pki::server(wrapping()));
        assert!(world.run_until(Duration::from_secs(5), World::established));
    }
}

fn main() -> ExitCode {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    instructions(&file, 0.05, CASES)
}
