//! What `ovpn init` and `ovpn profile add` make is run by stock OpenVPN on both sides: handshake, ping, revocation.
#![allow(clippy::expect_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{Pair, StockOpenvpn, TempDir, run};

const SECONDS_20: Duration = Duration::from_secs(20);

fn ovpn(args: &[&str]) -> String {
    run(Command::new(env!("CARGO_BIN_EXE_ovpn")).args(args), SECONDS_20)
        .and_then(ovpn_testkit::Output::success)
        .expect("ovpn succeeds")
}

/// Server and profile under one stock release.
fn judge(stock: &StockOpenvpn, label: &str, more: &[&str]) {
    let dir = TempDir::new("init").expect("folder");
    let made = dir.path().join("vpn");
    let at = made.to_string_lossy().into_owned();
    let mut init = vec!["init", "--endpoint", "10.10.1.1:11941", "--dir", &at];
    init.extend(more);
    ovpn(&init);
    let profile = dir.path().join("alice.ovpn").to_string_lossy().into_owned();
    ovpn(&["profile", "add", "alice", "--dir", &at, "--output", &profile]);
    let pair = Pair::new(label).expect("namespaces");
    let config = made.join("server.conf").to_string_lossy().into_owned();
    let mut server = stock.start(&pair.left, Path::new("/"), &["--config", &config]).expect("server");
    server.wait_for_text("Initialization Sequence Completed", SECONDS_20).expect("server is up");
    let mut client = stock.start(&pair.right, Path::new("/"), &["--config", &profile]).expect("client");
    client.wait_for_text("Initialization Sequence Completed", SECONDS_20).expect("client is up");
    pair.right.run("ping", &["-c", "2", "-i", "0.2", "-W", "2", "10.8.0.1"]).expect("ping");
    assert!(server.stdout().contains("VERIFY OK: depth=0, CN=alice"), "{}", server.stdout());
    client.signal(15).expect("alive");
    client.wait(SECONDS_20).expect("client ends");
    ovpn(&["profile", "revoke", "alice", "--dir", &at]);
    let mut again = stock.start(&pair.right, Path::new("/"), &["--config", &profile]).expect("client");
    server.wait_for_text("certificate revoked: CN=alice", SECONDS_20).expect("revoked");
    again.kill();
    server.signal(15).expect("alive");
    server.wait(SECONDS_20).expect("server ends");
}

#[test]
fn every_stock_release_runs_them() {
    let all: Vec<_> = StockOpenvpn::all().into_iter().filter(|s| !s.version.starts_with("2.5")).collect();
    assert!(!all.is_empty(), "no stock OpenVPN from 2.6 on (apt install openvpn)");
    for (number, stock) in all.iter().enumerate() {
        judge(stock, &format!("init{number}"), &[]);
    }
    judge(&all[0], "initt", &["--tcp"]);
}

#[test]
fn a_profile_of_an_imported_authority_works() {
    // An authority as easy-rsa leaves it, made by openssl itself.
    let stock = StockOpenvpn::any().expect("stock OpenVPN");
    let dir = TempDir::new("import").expect("folder");
    let pki = dir.path().join("pki");
    std::fs::create_dir_all(pki.join("private")).expect("folder");
    let openssl = |args: &[&str]| {
        run(Command::new("openssl").args(args).current_dir(&pki), SECONDS_20)
            .and_then(ovpn_testkit::Output::success)
            .expect("openssl")
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "private/ca.key",
        "-out",
        "ca.crt",
        "-days",
        "30",
        "-subj",
        "/CN=Easy-RSA CA",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]);
    std::fs::write(pki.join("index.txt"), "R\t360101000000Z\t251122101500Z\t0A1B\tunknown\t/CN=old\n")
        .expect("index");
    let at = pki.to_string_lossy().into_owned();
    judge(&stock, "import", &["--import", &at]);
}
