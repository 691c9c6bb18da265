//! The scenarios of the kernel's selftest tool, by `ovpn-cli` on the kernel's driver.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{TempDir, run};

use crate::{program, share};

/// Runs one script; every stage that it announces must have passed.
fn scenario(script: &str) {
    let dir = TempDir::new("scenario").unwrap();
    let tool = dir.path().join("ovpn-cli");
    symlink(program(), &tool).unwrap();
    let mut command = Command::new("bash");
    command.arg(share().join("ovpn_cli").join(script));
    command.env("OVPN_CLI", &tool).env("OVPN_DRIVER", "kernel").env("OVPN_TEST_LIMIT", "400");
    let output = run(command.env("TMPDIR", dir.path()), Duration::from_secs(420)).unwrap();
    let text = format!("{}{}", output.stdout, output.stderr);
    assert!(output.status.success(), "{script}: {}\n{text}", output.status);
    let plan: usize =
        output.stdout.lines().find_map(|line| line.strip_prefix("1..")).unwrap().trim().parse().unwrap();
    let passed = output.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(passed, plan, "{text}");
}

macro_rules! scenarios {
    ($($name:ident: $script:literal,)*) => {
        $(#[test]
        #[ignore = "needs the kernel's driver"]
        fn $name() {
            scenario($script);
        })*

        #[test]
        #[ignore = "needs the kernel's driver"]
        fn every_script_is_run() {
            let entries = std::fs::read_dir(share().join("ovpn_cli")).unwrap();
            let mut scripts: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            scripts.retain(|name| name.starts_with("test") && name.ends_with(".sh"));
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
