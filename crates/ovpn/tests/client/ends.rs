//! Ends of connections: peers that know no EXIT on the control channel, idle tunnels, point-to-point peers.

use ovpn_testkit::{Netns, Pair, Running, StockOpenvpn, TempDir};

use crate::scene::{LIMIT, SERVER, UP, client, folder, ours, ping};

/// The last release before EXIT moved to the control channel, where `cargo xtask stock` puts it.
fn old_stock() -> StockOpenvpn {
    let dir = std::env::var_os("OVPN_STOCK_DIR").map(std::path::PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME");
        std::path::Path::new(&home).join(".cache/ovpn-rs/stock")
    });
    StockOpenvpn::at(dir.join("2.5.1/run")).expect("stock 2.5.1 (cargo xtask stock)")
}

#[test]
fn an_old_server_is_told_that_the_client_leaves() {
    let label = "end-old";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    // 2.5 knows no `disable-dco`.
    let config = SERVER.replace("disable-dco\n", "");
    dir.write("server.conf", format!("{config}proto udp4\n")).unwrap();
    let mut server = old_stock().start(&pair.right, dir.path(), &["--config", "server.conf"]).unwrap();
    server.wait_for_text(UP, LIMIT).unwrap();
    let mut client = client(&pair.left, &dir, "remote 10.10.1.2 1194 udp4\nexplicit-exit-notify 2\n");
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.left, "10.77.0.1");
    client.signal(15).unwrap();
    assert!(client.wait(LIMIT).unwrap().success());
    assert!(client.stdout().contains("sending exit notification to peer"), "{}", client.stdout());
    server.wait_for_text("SIGTERM[soft,remote-exit] received, client-instance exiting", LIMIT).unwrap();
}

const PEER: &str =
    "dev tun\nproto udp4\nca ca.crt\nkeepalive 1 5\nverb 3\nexplicit-exit-notify 2\ncipher AES-256-GCM\n";

/// Two peers: ours on the left calls, the other waits.
fn peers(pair: &Pair, dir: &TempDir, stock: &StockOpenvpn, left: &str, right: &str) -> [Running; 2] {
    let client =
        "tls-client\nremote 10.10.1.2\ncert client.crt\nkey client.key\nifconfig 10.78.0.2 10.78.0.1\n";
    let server = "tls-server\ndh none\ncert server.crt\nkey server.key\nifconfig 10.78.0.1 10.78.0.2\n";
    dir.write("left.conf", format!("{PEER}{client}{left}")).unwrap();
    dir.write("right.conf", format!("{PEER}{server}{right}")).unwrap();
    let mut right = stock.start(&pair.right, dir.path(), &["--config", "right.conf"]).unwrap();
    let mut left = ours(&pair.left, dir, &["p2p", "left.conf"]);
    for peer in [&mut left, &mut right] {
        peer.wait_for_text(UP, LIMIT).unwrap();
    }
    ping(&pair.left, "10.78.0.1");
    [left, right]
}

#[test]
fn old_peers_tell_each_other_that_they_leave() {
    for we_leave in [true, false] {
        let label = if we_leave { "end-p2p-a" } else { "end-p2p-b" };
        let dir = folder(label);
        let pair = Pair::new(label).unwrap();
        let [mut ours, mut theirs] = peers(&pair, &dir, &old_stock(), "", "");
        if we_leave {
            ours.signal(15).unwrap();
            assert!(ours.wait(LIMIT).unwrap().success());
            // This release ends with its peer, and would say goodbye in turn.
            assert!(theirs.wait(LIMIT).unwrap().success());
            assert!(theirs.stdout().contains("SIGTERM received, sending exit"), "{}", theirs.stdout());
        } else {
            theirs.signal(15).unwrap();
            ours.wait_for_text("SIGUSR1[soft,remote-exit] received", LIMIT).unwrap();
        }
    }
}

fn clean(ns: &Netns) {
    let links = ns.ip("-o link show").unwrap();
    assert!(!links.contains("tun"), "{links}");
}

#[test]
fn a_peer_writes_its_status_asks_its_scripts_and_ends_when_idle() {
    let label = "end-idle";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    let script = dir.write("log", "#!/bin/sh\necho \"$script_type $*\" >>calls\n").unwrap();
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let [mut ours, _theirs] = peers(
        &pair,
        &dir,
        &StockOpenvpn::any().unwrap(),
        "status status.log 1\ninactive 2 100000\nscript-security 2\ntls-verify ./log\nipchange ./log\nup ./log\nup-delay\n",
        "disable-dco\n",
    );
    assert_eq!(ours.wait(LIMIT).unwrap().code(), Some(0));
    assert!(ours.stdout().contains("SIGTERM[soft,inactive] received"), "{}", ours.stdout());
    let status = std::fs::read_to_string(dir.path().join("status.log")).unwrap();
    assert!(status.starts_with("OpenVPN STATISTICS\nUpdated,") && status.ends_with("END\n"), "{status}");
    assert!(!status.contains("TUN/TAP read bytes,0\n"), "{status}");
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    let expected = [
        "tls-verify 1 CN=ovpn test CA",
        "tls-verify 0 CN=server",
        "ipchange 10.10.1.2 1194",
        "up tun0 1500 0 10.78.0.2 10.78.0.1 init",
    ];
    assert_eq!(calls.lines().collect::<Vec<_>>(), expected);
    clean(&pair.left);
}

#[test]
fn tls_verify_of_a_client_refuses() {
    let label = "end-verify";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let _server = crate::scene::stock_server(&pair.right, &dir, "proto udp4\n");
    let mut client = client(
        &pair.left,
        &dir,
        "remote 10.10.1.2 1194 udp4\nscript-security 2\ntls-verify /bin/false\nconnect-retry-max 1\n",
    );
    assert_eq!(client.wait(LIMIT).unwrap().code(), Some(1));
    assert!(client.stdout().contains("VERIFY SCRIPT ERROR: depth=1"), "{}", client.stdout());
    assert!(!client.stdout().contains(UP));
    clean(&pair.left);
}

#[test]
fn options_that_would_be_passed_over_are_refused_by_name() {
    let label = "end-refused";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    for (options, name) in [
        ("remote 10.10.1.2 443 tcp4\nfragment 1300\n", "`fragment`"),
        ("<connection>\nremote 10.10.1.2 1194 tcp4\nfragment 1300\n</connection>\n", "`fragment`"),
        ("management mgmt unix\nmanagement-external-key nopadding\n", "management-external-key pkcs1"),
        ("block-leaks\nuser nobody\n", "`block-leaks`"),
    ] {
        let mut client = client(&pair.left, &dir, &format!("remote 10.10.1.2 1194 udp4\n{options}"));
        let code = client.wait(LIMIT).unwrap().code();
        assert_eq!(code, Some(1), "{options}{}", client.stdout());
        assert!(client.stdout().contains(name), "{options}{}", client.stdout());
    }
}
