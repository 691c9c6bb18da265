//! The kernel's drivers, and the program on top of them, in real kernels.
//!
//! `in_the_lab` boots kernels of the kernel lab beside the repository (QEMU), two at once where there are processors
//! for it, and runs the other tests of this file in them:
//!
//! ```text
//!   newest Debian kernel   driver `ovpn`         scenario::  the kernel selftest tool's scenarios
//!     and in a guest of their own                driver::    the driver alone: conformance, refusals, events
//!                                                tunnel::    client and server against stock OpenVPN 2.7 and ourselves
//!                                                life::      killed, fallen back, events lost
//!   Debian 13's kernel     `ovpn-dco-v2`         v2::        the same as far as that driver has it, stock 2.6
//! ```
//!
//! ```text
//!   cargo xtask lab
//! ```
//!
//! `OVPN_LAB_FILTER` runs only tests whose names contain it, `OVPN_LAB_KERNEL=ovpn|dco-v2` one kernel only,
//! `OVPN_LAB_BOOTS=1` one guest after the other, `OVPN_LAB_PROGRAM` another program than our own build. It is the
//! step `kernel` of `cargo xtask test` (eight minutes on two idle cores).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[path = "kernel_lab/driver.rs"]
mod driver;
#[path = "kernel_lab/ends.rs"]
mod ends;
#[path = "kernel_lab/life.rs"]
mod life;
#[path = "kernel_lab/scenario.rs"]
mod scenario;
#[path = "kernel_lab/speed.rs"]
mod speed;
#[path = "kernel_lab/tunnel.rs"]
mod tunnel;
#[path = "kernel_lab/v2.rs"]
mod v2;

/// Time limit of one wait: emulation is slow, and the machine below it may be busy.
const LIMIT: Duration = Duration::from_secs(90);

/// Where the guest finds what was sent with it.
fn share() -> PathBuf {
    std::env::var_os("OVPN_LAB").expect("this runs in the lab's guest only").into()
}

/// Our program.
fn program() -> PathBuf {
    share().join("ovpn")
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn cache() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache")
}

/// Runs a command that must succeed.
#[track_caller]
fn must(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn copy(from: impl AsRef<Path>, to: &Path) {
    must(Command::new("cp").arg("-r").arg(from.as_ref()).arg(to));
}

/// A guest: its kernel, and what is run in it.
#[derive(Debug, Clone, Copy)]
struct Boot {
    driver: &'static str,
    /// Beginnings of the tests' names, each with how many of them run at once.
    groups: &'static [(&'static str, u8)],
}

/// The longest first.
const BOOTS: [Boot; 3] = [
    Boot { driver: "ovpn", groups: &[("scenario::", 2)] },
    Boot { driver: "ovpn", groups: &[("driver::", 1), ("tunnel::", 2), ("life::", 2), ("speed::", 1)] },
    Boot { driver: "dco-v2", groups: &[("v2::", 2)] },
];

impl Boot {
    /// Runs it to its end, and shows what it prints, with its name before each line.
    fn run(self, share: &Path, filter: &str) -> bool {
        let start = Instant::now();
        let mut command = Command::new(lab());
        command.args(["run", "--timeout", "2700", "--share"]).arg(share).args(["--", "bash", "guest.sh"]);
        command.args([self.driver, filter]);
        for (group, at_once) in self.groups {
            command.arg(format!("{group}={at_once}"));
        }
        if self.driver == "dco-v2" {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", here("tests/kernel_lab/qemu").display()));
            command.env("KERNEL_LAB_DIR", dco_v2_guest());
        }
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        for line in BufReader::new(reader).split(b'\n') {
            println!("{:6} | {}", self.driver, String::from_utf8_lossy(&line.unwrap()).trim_end());
        }
        let status = child.wait().unwrap();
        let first = self.groups[0].0;
        println!("{:6} | {first} and after: {status}, {} s", self.driver, start.elapsed().as_secs());
        status.success()
    }

    /// Whether a test that the filter lets through is in it.
    fn has(self, tests: &str, filter: &str) -> bool {
        let wanted = |line: &str| {
            let name = line.strip_suffix(": test")?;
            let measures = name.starts_with("speed::") && filter.is_empty();
            (name.contains(filter) && !measures && self.groups.iter().any(|group| name.starts_with(group.0)))
                .then_some(())
        };
        tests.lines().any(|line| wanted(line).is_some())
    }
}

fn lab() -> PathBuf {
    here("../../../shared/kernel-lab/lab")
}

/// Where the guest with `ovpn-dco-v2` lies.
fn dco_v2_guest() -> PathBuf {
    cache().join("ovpn-rs/kernel-lab-6.12")
}

#[test]
#[ignore = "boots kernels in QEMU, which takes minutes"]
fn in_the_lab() {
    let share = std::env::temp_dir().join(format!("ovpn-kernel-lab-{}", std::process::id()));
    std::fs::create_dir_all(&share).unwrap();
    // Symbols would only slow down the start of every program.
    let strip = |from: &Path, name: &str| {
        must(Command::new("strip").arg("-o").arg(share.join(name)).arg(from));
    };
    let ours = std::env::var_os("OVPN_LAB_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_ovpn").into());
    strip(Path::new(&ours), "ovpn");
    strip(&std::env::current_exe().unwrap(), "tests");
    copy(here("tests/ovpn_cli"), &share);
    copy(here("tests/kernel_lab/guest.sh"), &share);
    let stock =
        std::env::var_os("OVPN_STOCK_DIR").map_or_else(|| cache().join("ovpn-rs/stock"), PathBuf::from);
    copy(stock.join("2.6.14"), &share.join("stock-2.6.14"));

    let only = std::env::var("OVPN_LAB_KERNEL").unwrap_or_default();
    let filter = std::env::var("OVPN_LAB_FILTER").unwrap_or_default();
    let list = Command::new(std::env::current_exe().unwrap()).args(["--ignored", "--list"]).output().unwrap();
    let tests = String::from_utf8(list.stdout).unwrap();
    let mut boots = BOOTS.to_vec();
    boots.retain(|boot| boot.driver.contains(&only) && boot.has(&tests, &filter));
    assert!(!boots.is_empty(), "no test is called *{filter}*");

    must(Command::new(lab()).arg("setup"));
    if boots.iter().any(|boot| boot.driver == "dco-v2") {
        let make = here("tests/kernel_lab/dco-v2-guest.sh");
        must(Command::new(make).arg(cache().join("kernel-lab")).arg(dco_v2_guest()));
    }
    let at_once = std::env::var("OVPN_LAB_BOOTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(2));
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(boot) = boots.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !boot.run(&share, &filter) {
                        failed.lock().unwrap().push(*boot);
                    }
                }
            });
        }
    });
    std::fs::remove_dir_all(&share).unwrap();
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "tests failed in the guests {failed:?}");
}
