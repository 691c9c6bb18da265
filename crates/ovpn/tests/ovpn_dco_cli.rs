//! The walk-through of the Windows driver's test tool, on the engine: one end in each of two namespaces, then traffic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use ovpn_testkit::{Pair, Running, TempDir, wait_for};

const LIMIT: Duration = Duration::from_secs(15);

/// Our program under a tool's name.
fn tool(dir: &TempDir, name: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ovpn"), &path).unwrap();
    path
}

fn key() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ovpn_cli/data64.key").display().to_string()
}

/// Starts the tool on both ends with these transport arguments and, with `keyed`, keys; pings both ways.
fn walk_through(label: &str, left: &str, right: &str, keyed: bool) {
    let dir = TempDir::new(label).unwrap();
    let tool = tool(&dir, "ovpn-dco-cli");
    let pair = Pair::new(label).unwrap();
    let start = |ns: &ovpn_testkit::Netns, transport: &str, vpn: &str, gateway: &str, direction: &str| {
        let mut command = ns.command(&tool);
        command.args(transport.split(' ')).args([vpn, "255.255.255.0", gateway]);
        if keyed {
            command.args([&key(), direction]);
        }
        Running::start(&mut command).unwrap()
    };
    let mut one = start(&pair.left, left, "10.8.0.1", "10.8.0.50", "0");
    let mut other = start(&pair.right, right, "10.8.0.50", "10.8.0.1", "1");
    one.wait_for_text("device tun0", LIMIT).unwrap();
    other.wait_for_text("device tun0", LIMIT).unwrap();
    pair.left.run("ping", &["-qf", "-c", "100", "-w", "5", "10.8.0.50"]).unwrap();
    pair.right.run("ping", &["-qf", "-c", "50", "-s", "3000", "-w", "5", "10.8.0.1"]).unwrap();
    // Addresses beyond the link go to the gateway.
    assert!(pair.left.ip("route get 192.0.2.1").unwrap().contains("via 10.8.0.50 dev tun0"));
    assert!(pair.left.ip("link show tun0").unwrap().contains("mtu 1428"));
    // The statistics of the next second count what passed.
    wait_for("statistics", LIMIT, || {
        let text = one.stdout();
        let last = text.lines().rev().find(|line| line.starts_with("transport sent"))?.to_owned();
        (!last.starts_with("transport sent 0 ")).then_some(())
    })
    .unwrap();
}

#[test]
fn udp_over_ipv4() {
    walk_through(
        "dco4",
        "udp i4 10.10.1.1 1194 10.10.1.2 1195",
        "udp i4 10.10.1.2 1195 10.10.1.1 1194",
        true,
    );
}

#[test]
fn udp_over_ipv6() {
    let (one, other) = ("fd00:0:0:1::1 1194", "fd00:0:0:1::2 1195");
    walk_through("dco6", &format!("udp i6 {one} {other}"), &format!("udp i6 {other} {one}"), true);
}

#[test]
fn tcp() {
    walk_through("dcot", "tcp i4 10.10.1.1 1194 0.0.0.0 0", "tcp i4 10.10.1.2 0 10.10.1.1 1194", true);
}

#[test]
fn without_a_key() {
    walk_through(
        "dcon",
        "udp i4 10.10.1.1 1194 10.10.1.2 1195",
        "udp i4 10.10.1.2 1195 10.10.1.1 1194",
        false,
    );
}

/// The other end may be the Linux tool, with the key direction inverted.
#[test]
fn the_other_end_is_the_linux_tool() {
    let dir = TempDir::new("dcol").unwrap();
    let (windows, linux) = (tool(&dir, "ovpn-dco-cli"), tool(&dir, "ovpn-cli"));
    let pair = Pair::new("dcol").unwrap();
    let cli = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        pair.left.run(linux.to_str().unwrap(), &words).unwrap();
    };
    cli("new_iface tun0 P2P");
    pair.left.ip("addr add 10.8.0.1/24 dev tun0").unwrap();
    pair.left.ip("link set tun0 up").unwrap();
    cli("new_peer tun0 0 none 1194 10.10.1.2 1195");
    cli(&format!("new_key tun0 0 1 0 aes 0 {}", key()));
    let mut command = pair.right.command(&windows);
    let line = "udp i4 10.10.1.2 1195 10.10.1.1 1194 10.8.0.50 255.255.255.0 10.8.0.1";
    let mut other = Running::start(command.args(line.split(' ')).args([&key(), "1"])).unwrap();
    other.wait_for_text("device tun0", LIMIT).unwrap();
    pair.left.run("ping", &["-qf", "-c", "100", "-w", "5", "10.8.0.50"]).unwrap();
    cli("del_iface tun0");
}
