//! The drivers against real kernels.
//!
//! `in_the_lab` boots a kernel that has the driver `ovpn` (the kernel lab beside the repository, in QEMU) and runs all
//! other tests of this file in it, in one boot:
//!
//! ```text
//!   cargo test -p ovpn-kernel --test lab -- --ignored --exact in_the_lab --nocapture
//! ```
//!
//! On a machine whose own kernel has the driver, `--ignored inside::` runs them directly, as root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "lab/inside.rs"]
mod inside;

/// The lab's script.
fn lab() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/kernel-lab/lab")
}

#[test]
#[ignore = "boots a kernel in QEMU, which takes minutes"]
fn in_the_lab() {
    let share = std::env::temp_dir().join(format!("ovpn-kernel-lab-{}", std::process::id()));
    std::fs::create_dir_all(&share).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), share.join("tests")).unwrap();
    assert!(Command::new(lab()).arg("setup").status().unwrap().success(), "lab setup");
    let filter = std::env::var("OVPN_LAB_FILTER").unwrap_or_default();
    let script = "modprobe ovpn && exec ./tests --ignored --test-threads=1 --nocapture inside::";
    let status = Command::new(lab())
        .args(["run", "--timeout", "900", "--share"])
        .arg(&share)
        .args(["--", "bash", "-c", &format!("export OVPN_PATIENCE=8; {script}{filter}")])
        .status()
        .unwrap();
    std::fs::remove_dir_all(&share).unwrap();
    assert!(status.success(), "tests failed in the guest: {status}");
}
