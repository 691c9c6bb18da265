//! Revocation on the running server: it bites at once, and only whom it is meant for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod made;

use std::path::Path;
use std::time::{Duration, Instant};

use made::{LIMIT, UP, Vpn, ovpn};
use ovpn_testkit::{Star, StockOpenvpn, wait_for};

/// Revokes a connected client's name: it is cut within two seconds, and another client is not.
fn revoked_while_connected(stock: &StockOpenvpn, label: &str) {
    let vpn = Vpn::new(label, &[]);
    let star = Star::new(label, 2).unwrap();
    let (anna, bert) = (vpn.profile("add", "anna"), vpn.profile("add", "bert"));
    let mut server = vpn.serve(&star.hub, &[]);
    // The second client reaches the server through its own cable.
    let remote = ["--config", &bert, "--remote", "10.10.2.1", "1194"];
    let mut first = stock.start(&star.leaves[0], Path::new("/"), &["--config", &anna]).unwrap();
    let mut second = stock.start(&star.leaves[1], Path::new("/"), &remote).unwrap();
    first.wait_for_text(UP, LIMIT).unwrap();
    second.wait_for_text(UP, LIMIT).unwrap();
    let reaches = |leaf: usize| {
        let ping = ["-c", "1", "-W", "1", "10.8.0.1"];
        star.leaves[leaf].try_run("ping", &ping, LIMIT).unwrap().status.success()
    };
    assert!(reaches(0) && reaches(1));

    let revoked = Instant::now();
    ovpn(&["profile", "revoke", "anna", "--dir", &vpn.at]);
    wait_for("the revoked client's end", LIMIT, || {
        (!vpn.clients().contains(&"anna".to_owned())).then_some(())
    })
    .unwrap();
    let took = revoked.elapsed();
    assert!(took < Duration::from_secs(2), "{}: cut after {took:?}", stock.version);
    assert!(!reaches(0), "the tunnel is closed to it");
    assert!(reaches(1) && vpn.clients().contains(&"bert".to_owned()), "another client notices nothing");
    // It comes back and is refused.
    server.wait_for_text("revoked", Duration::from_secs(60)).unwrap();
    assert!(!vpn.clients().contains(&"anna".to_owned()));
    println!("{}: cut after {took:?}", stock.version);
}

#[test]
fn revoking_cuts_a_connected_client_of_2_6() {
    revoked_while_connected(&StockOpenvpn::release("2.6.14").unwrap(), "rev26");
}

#[test]
fn revoking_cuts_a_connected_client_of_2_7() {
    revoked_while_connected(&StockOpenvpn::release("2.7.8").unwrap(), "rev27");
}
