//! The scenarios of the kernel's selftest tool, run by `ovpn-cli` on the engine, in network namespaces.
//!
//! The scripts in `ovpn_cli/` use the tool's grammar only; they run with any tool that has it (`OVPN_CLI`) and, with
//! `OVPN_DRIVER=kernel`, on the kernel's driver. Root is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{TempDir, run};

/// Runs one script with our program under the tool's name. Every stage it announces must have passed.
fn scenario(script: &str) {
    let dir = TempDir::new("scenario").unwrap();
    let tool = dir.path().join("ovpn-cli");
    let program = Path::new(env!("CARGO_BIN_EXE_ovpn"));
    // The kernel knows a process by the name it was started with; a link keeps that name.
    std::os::unix::fs::symlink(program, &tool).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ovpn_cli").join(script);
    let mut command = Command::new("bash");
    command.arg(&script).env("OVPN_CLI", &tool).env("OVPN_DRIVER", "engine").env("TMPDIR", dir.path());
    let output = run(&mut command, Duration::from_secs(110)).unwrap();
    let text = format!("{}{}", output.stdout, output.stderr);
    assert!(output.status.success(), "{}: {}\n{text}", script.display(), output.status);
    let plan: usize =
        output.stdout.lines().find_map(|line| line.strip_prefix("1..")).unwrap().trim().parse().unwrap();
    let passed = output.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, plan, "{text}");
}

macro_rules! scenarios {
    ($($name:ident: $script:literal,)*) => {
        $(#[test]
        fn $name() {
            scenario($script);
        })*

        #[test]
        fn every_script_is_run() {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ovpn_cli");
            let mut scripts: Vec<String> = std::fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.starts_with("test") && name.ends_with(".sh"))
                .collect();
            scripts.sort();
            let mut run = vec![$($script.to_owned()),*];
            run.sort();
            assert_eq!(scripts, run);
        }
    };
}

scenarios! {
    base: "test.sh",
    tcp: "test-tcp.sh",
    float: "test-float.sh",
    chachapoly: "test-chachapoly.sh",
    large_mtu: "test-large-mtu.sh",
    symmetric_id: "test-symmetric-id.sh",
    symmetric_id_tcp: "test-symmetric-id-tcp.sh",
    symmetric_id_float: "test-symmetric-id-float.sh",
    mark: "test-mark.sh",
    close_socket: "test-close-socket.sh",
    close_socket_tcp: "test-close-socket-tcp.sh",
    multihome: "test-multihome.sh",
}
