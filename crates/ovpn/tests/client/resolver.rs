//! Name servers that the server pushes: in force while the tunnel is up, and nothing of them left behind.

use std::time::Duration;

use ovpn_testkit::{Netns, Pair, Running, TempDir, wait_for};

use crate::scene::{CLIENT, LIMIT, UP, folder, stock_server, wait_for_count};

const BEFORE: &str = "# of this machine\nnameserver 192.0.2.53\noptions timeout:1\n";
const PUSH: &str =
    "proto udp4\npush \"dhcp-option DNS 10.77.0.1\"\npush \"dhcp-option DOMAIN corp.example\"\n";

/// Our client where neither systemd-resolved nor resolvconf is at hand.
fn client(ns: &Netns, dir: &TempDir, more: &str) -> Running {
    dir.write("client.conf", format!("{CLIENT}remote 10.10.1.2 1194 udp4\n{more}")).unwrap();
    let mut command = ns.command("/usr/bin/env");
    command.args(["PATH=/nowhere", env!("CARGO_BIN_EXE_ovpn"), "--config", "client.conf"]);
    Running::start(command.current_dir(dir.path())).unwrap()
}

fn ends_clean(label: &str, more: &str) {
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let file = pair.left.resolv_conf(BEFORE).unwrap();
    let read = || std::fs::read_to_string(&file).unwrap();
    let _server = stock_server(&pair.right, &dir, PUSH);
    let mut client = client(&pair.left, &dir, more);
    client.wait_for_text(UP, LIMIT).unwrap();
    let ours = read();
    assert!(ours.ends_with("search corp.example\nnameserver 10.77.0.1\n"), "{ours}");
    assert!(client.stdout().contains("DNS settings applied with /etc/resolv.conf"), "{}", client.stdout());
    // Down and up again; where /dev/net/tun is root's alone, only a device that persists comes up as nobody.
    if !more.contains("user") || more.contains("persist-tun") {
        client.signal(10).unwrap();
        wait_for_count(&client, UP, 2);
        assert_eq!(read(), ours);
    }
    client.signal(15).unwrap();
    assert!(client.wait(LIMIT).unwrap().success(), "{}", client.stdout());
    assert_eq!(read(), BEFORE, "{}", client.stdout());
    assert!(!pair.left.ip("-o link show").unwrap().contains("tun"));
}

#[test]
fn name_servers_go_with_the_tunnel() {
    ends_clean("dns-root", "");
}

#[test]
fn a_client_that_gave_up_root_gives_the_name_servers_back() {
    ends_clean("dns-nobody", "user nobody\ngroup nogroup\n");
    ends_clean("dns-persist", "user nobody\npersist-tun\npersist-key\n");
}

#[test]
fn what_someone_else_wrote_stays() {
    let label = "dns-theirs";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let file = pair.left.resolv_conf(BEFORE).unwrap();
    let _server = stock_server(&pair.right, &dir, PUSH);
    let mut client = client(&pair.left, &dir, "");
    client.wait_for_text(UP, LIMIT).unwrap();
    std::fs::write(&file, "nameserver 198.51.100.1\n").unwrap();
    client.signal(15).unwrap();
    client.wait(LIMIT).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "nameserver 198.51.100.1\n");
    let said = wait_for("a sentence", Duration::from_secs(1), || {
        client.stdout().contains("was changed by someone else").then_some(())
    });
    assert!(said.is_ok(), "{}", client.stdout());
}
