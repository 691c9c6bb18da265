//! The kernel's drivers, and the program on top of them, in real kernels.
//!
//! `in_the_lab` boots two kernels of the kernel lab beside the repository (QEMU) one after the other, and runs the other
//! tests of this file in them:
//!
//! ```text
//!   newest Debian kernel   driver `ovpn`         driver::    the driver alone: conformance, refusals, events
//!                                                scenario::  the kernel selftest tool's scenarios
//!                                                tunnel::    client and server against stock OpenVPN 2.7 and ourselves
//!                                                life::      killed, fallen back, events lost
//!   Debian 13's kernel     `ovpn-dco-v2`         v2::        the same as far as that driver has it, stock 2.6
//! ```
//!
//! ```text
//!   cargo test -p ovpn --test kernel_lab -- --ignored --exact in_the_lab --nocapture
//! ```
//!
//! `OVPN_LAB_FILTER` runs only tests whose names contain it, `OVPN_LAB_KERNEL=ovpn|dco-v2` one kernel only. Of all this
//! `cargo xtask test kernel` runs `driver::`; `cargo xtask lab` runs the rest too, which takes long under emulation, and
//! of which not everything has been seen to pass yet.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
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

#[test]
#[ignore = "boots kernels in QEMU, which takes minutes"]
fn in_the_lab() {
    let lab = here("../../../shared/kernel-lab/lab");
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

    must(Command::new(&lab).arg("setup"));
    let dco_v2 = cache().join("ovpn-rs/kernel-lab-6.12");
    let path = std::env::var("PATH").unwrap();
    let wrapped = format!("{}:{path}", here("tests/kernel_lab/qemu").display());
    let only = std::env::var("OVPN_LAB_KERNEL").unwrap_or_default();
    let mut failed = Vec::new();
    for (kernel, lab_dir, path) in [("ovpn", None, &path), ("dco-v2", Some(&dco_v2), &wrapped)] {
        if !kernel.contains(&only) {
            continue;
        }
        if let Some(guest) = lab_dir {
            let make = here("tests/kernel_lab/dco-v2-guest.sh");
            must(Command::new(make).arg(cache().join("kernel-lab")).arg(guest));
        }
        let start = Instant::now();
        let mut boot = Command::new(&lab);
        boot.args(["run", "--timeout", "1500", "--share"])
            .arg(&share)
            .args(["--", "bash", "guest.sh", kernel]);
        boot.arg(std::env::var("OVPN_LAB_FILTER").unwrap_or_default()).env("PATH", path);
        if let Some(dir) = lab_dir {
            boot.env("KERNEL_LAB_DIR", dir);
        }
        let status = boot.status().unwrap();
        println!("kernel with {kernel}: {status}, {:.0} s", start.elapsed().as_secs_f64());
        if !status.success() {
            failed.push(kernel);
        }
    }
    std::fs::remove_dir_all(&share).unwrap();
    assert!(failed.is_empty(), "tests failed in the guest with {failed:?}");
}
