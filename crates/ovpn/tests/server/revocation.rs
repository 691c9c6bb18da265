//! A revoked certificate: its owner is cut at once, and stays outside; nobody else notices.

use std::time::{Duration, Instant};

use ovpn_testkit::{Running, Star, TempDir, serial, wait_for};

use super::rig::*;

/// Issue: within so much time.
const AT_ONCE: Duration = Duration::from_secs(2);

fn two_clients(star: &Star, dir: &TempDir) -> [Running; 2] {
    [(0, "client1", "2.6.14"), (1, "client2", "2.7.8")].map(|(leaf, name, release)| {
        let config = client_config(&format!("10.10.{}.1", leaf + 1), name, "");
        let mut client =
            start_client(&stock(release), &star.leaves[leaf], dir, &format!("{name}.conf"), &config);
        client.wait_for_text(UP, LIMIT).unwrap();
        client
    })
}

fn expect_first_is_cut(
    server: &Running,
    star: &Star,
    dir: &TempDir,
    clients: &mut [Running; 2],
    start: Instant,
) {
    wait_for("the client to be cut off", LIMIT, || {
        server.stdout().contains("the client is cut off:").then_some(())
    })
    .unwrap();
    let took = start.elapsed();
    assert!(took < AT_ONCE, "{took:?}");
    let [first, second] = clients;
    first.wait_for_text("your certificate has been revoked", LIMIT).unwrap();
    assert!(first.wait(LIMIT).unwrap().success(), "told to stay away, it ends");
    assert_eq!(count(&server.stdout(), "the client is cut off:"), 1);
    ping(&star.leaves[1], "10.77.0.1");
    assert!(second.ended().unwrap().is_none());
    // It cannot come back.
    let config = client_config("10.10.1.1", "client1", "");
    let mut again = start_client(&stock("2.6.14"), &star.leaves[0], dir, "again.conf", &config);
    wait_for("a refusal", LIMIT, || {
        let seen = again.stdout();
        (seen.contains("certificate revoked") || seen.contains("AUTH_FAILED")).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", again.stdout()));
    assert!(!again.stdout().contains(UP));
    again.kill();
}

#[test]
fn a_list_that_changes_cuts_who_is_on_it() {
    let (dir, pki) = folder_and_authority("crl-file");
    let star = Star::new("crl-file", 2).unwrap();
    dir.write("crl.pem", pki.revocation_list(&[]).unwrap()).unwrap();
    let server = start_server(&star.hub, &dir, "proto udp\ncrl-verify crl.pem\nuser nobody\n");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut clients = two_clients(&star, &dir);
    // A file that is no list changes nothing.
    dir.write("crl.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").unwrap();
    wait_for("a complaint", LIMIT, || {
        server.stdout().contains("the former list stays in force").then_some(())
    })
    .unwrap();
    ping(&star.leaves[0], "10.77.0.1");
    let start = Instant::now();
    dir.write("crl.pem", pki.revocation_list(&["client1"]).unwrap()).unwrap();
    expect_first_is_cut(&server, &star, &dir, &mut clients, start);
}

#[test]
fn a_file_for_each_revoked_certificate() {
    let dir = folder("crl-dir");
    let star = Star::new("crl-dir", 2).unwrap();
    std::fs::create_dir(dir.path().join("revoked")).unwrap();
    let server = start_server(&star.hub, &dir, "proto udp\ncrl-verify revoked dir\n");
    let mut clients = two_clients(&star, &dir);
    let start = Instant::now();
    dir.write(&format!("revoked/{}", serial("client1")), "").unwrap();
    expect_first_is_cut(&server, &star, &dir, &mut clients, start);
}
