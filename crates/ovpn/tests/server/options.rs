//! Options of the server and of single clients act: stock clients judge.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use ovpn_testkit::{Pair, Program, Running, Star, run, serial, wait_for};

use super::rig::*;

#[test]
fn single_clients_have_options_of_their_own() {
    let dir = folder("opt-ccd");
    let star = Star::new("opt-ccd", 2).unwrap();
    fs::create_dir(dir.path().join("ccd")).unwrap();
    dir.write(
        "ccd/client1",
        "ping-restart 0\npush-remove \"route 10.1\"\npush \"route 10.3.0.0 255.255.0.0\"\nmax-routes-per-client 3\n\
         iroute 10.9.0.0 255.255.0.0\niroute 10.8.0.0 255.255.0.0\n",
    )
    .unwrap();
    dir.write("ccd/client2", "push-reset\npush \"topology subnet\"\npush \"route-gateway 10.77.0.1\"\n")
        .unwrap();
    let more = "proto udp\nclient-config-dir ccd\npush \"route 10.1.0.0 255.255.0.0\"\n\
                push \"route 10.2.0.0 255.255.0.0\"\n";
    let config = format!("{SERVER}{more}").replace("keepalive 5 20", "keepalive 1 3");
    let mut server = start_server_with(&star.hub, &dir, &config);
    server.wait_for_text(UP, LIMIT).unwrap();
    let start = |leaf: usize, name: &str| {
        let config = client_config(&format!("10.10.{}.1", leaf + 1), name, "");
        let mut client =
            start_client(&stock("2.6.14"), &star.leaves[leaf], &dir, &format!("{name}.conf"), &config);
        client.wait_for_text(UP, LIMIT).unwrap();
        client
    };
    let first = start(0, "client1");
    let pushed = |client: &Running| -> String {
        client.stdout().lines().find(|line| line.contains("PUSH_REPLY")).unwrap().to_owned()
    };
    let reply = pushed(&first);
    assert!(
        !reply.contains("10.1.0.0") && reply.contains("10.2.0.0") && reply.contains("10.3.0.0"),
        "{reply}"
    );
    // Two addresses and one network are all that it may have.
    assert!(
        server.stdout().contains("max-routes-per-client (3) reached at 10.8.0.0/16"),
        "{}",
        server.stdout()
    );
    let second = start(1, "client2");
    let reply = pushed(&second);
    assert!(!reply.contains("10.2.0.0") && !reply.contains("ping "), "{reply}");
    // Both fall silent; only the first may.
    first.signal(19).unwrap();
    second.signal(19).unwrap();
    wait_for("the second client to be given up", LIMIT, || {
        server.stdout().contains("client2/10.10.2.2").then_some(())?;
        let gone =
            |line: &str| line.contains("client2/") && line.contains("Inactivity timeout (--ping-restart)");
        server.stdout().lines().any(gone).then_some(())
    })
    .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    first.signal(18).unwrap();
    ping(&star.leaves[0], "10.77.0.1");
    assert_eq!(count(&server.stdout(), "Inactivity timeout"), 1);
}

#[test]
fn limits_hold() {
    let dir = folder("opt-limits");
    let star = Star::new("opt-limits", 2).unwrap();
    let start = |leaf: usize, name: &str| {
        let config = client_config(&format!("10.10.{}.1", leaf + 1), name, "");
        start_client(&stock("2.6.14"), &star.leaves[leaf], &dir, &format!("{leaf}.conf"), &config)
    };
    {
        let mut server = start_server(&star.hub, &dir, "proto udp\nmax-clients 1\n");
        let mut first = start(0, "client1");
        first.wait_for_text(UP, LIMIT).unwrap();
        let mut second = start(1, "client2");
        server.wait_for_text("MULTI: new incoming connection dropped: max-clients reached", LIMIT).unwrap();
        first.signal(15).unwrap();
        second.wait_for_text(UP, LIMIT).unwrap();
    }
    {
        let mut server = start_server(&star.hub, &dir, "proto udp\nconnect-freq 1 3600\n");
        let mut first = start(0, "client1");
        first.wait_for_text(UP, LIMIT).unwrap();
        let second = start(1, "client2");
        server.wait_for_text("dropped: more new clients than connect-freq allows", LIMIT).unwrap();
        assert!(!second.stdout().contains(UP));
    }
    let _server = start_server(&star.hub, &dir, "proto udp\nduplicate-cn\n");
    let [mut first, mut second] = [start(0, "client1"), start(1, "client1")];
    first.wait_for_text(UP, LIMIT).unwrap();
    second.wait_for_text(UP, LIMIT).unwrap();
    ping(&star.leaves[0], "10.77.0.1");
    ping(&star.leaves[1], "10.77.0.1");
}

#[test]
fn fixed_addresses_and_closed_doors() {
    let dir = folder("opt-fixed");
    let pair = Pair::new("opt-fixed").unwrap();
    fs::create_dir(dir.path().join("ccd")).unwrap();
    dir.write("ccd/client1", "").unwrap();
    dir.write("ccd/client3", "disable\n").unwrap();
    dir.write("pool.txt", "client1,10.77.0.50,\nclient9,10.77.0.2,\n").unwrap();
    let _server = start_server(
        &pair.left,
        &dir,
        "proto udp\nclient-config-dir ccd\nccd-exclusive\nifconfig-pool-persist pool.txt 0\n",
    );
    let start = |name: &str| {
        let config = client_config("10.10.1.1", name, "");
        start_client(&stock("2.7.8"), &pair.right, &dir, "client.conf", &config)
    };
    for outside in ["client2", "client3"] {
        start(outside).wait_for_text("AUTH_FAILED", LIMIT).unwrap();
    }
    let mut client = start("client1");
    client.wait_for_text(UP, LIMIT).unwrap();
    assert!(client.stdout().contains("ifconfig 10.77.0.50 "), "{}", client.stdout());
    assert_eq!(content(dir.path().join("pool.txt")), "client1,10.77.0.50,\nclient9,10.77.0.2,\n");
}

#[test]
fn certificates_are_shown_to_scripts_and_name_their_owner() {
    let dir = folder("opt-certs");
    let pair = Pair::new("opt-certs").unwrap();
    fs::create_dir(dir.path().join("certs")).unwrap();
    script(
        &dir,
        "verify",
        r#"test "$1" = 1 && exit 0
openssl x509 -in "$peer_cert" -noout -subject >>seen.log
case "$2" in *client2*) exit 1;; esac"#,
    );
    let more = "proto udp4\nscript-security 2\ntls-verify ./verify\ntls-export-cert certs\nx509-username-field serialNumber CN\n";
    let own_name = |server: &str| {
        let line = server.lines().find(|line| line.contains("Peer Connection Initiated with")).unwrap();
        let (name, _) = line.split_once("] Peer Connection").unwrap();
        name.rsplit_once('[').unwrap().1.to_owned()
    };
    let start = |name: &str| {
        let config = client_config("10.10.1.1", name, "");
        start_client(&stock("2.6.14"), &pair.right, &dir, "client.conf", &config)
    };
    let mut server = start_server(&pair.left, &dir, more);
    start("client1").wait_for_text(UP, LIMIT).unwrap();
    let ours = own_name(&server.stdout());
    assert_eq!(ours, format!("0x{:X}_client1", serial("client1")));
    assert_eq!(content(dir.path().join("seen.log")).trim(), "subject=CN = client1");
    assert_eq!(fs::read_dir(dir.path().join("certs")).unwrap().count(), 0, "the files are gone again");
    let mut refused = start("client2");
    server.wait_for_text("VERIFY SCRIPT ERROR: depth=0, CN=client2", LIMIT).unwrap();
    assert!(!refused.stdout().contains(UP));
    refused.kill();
    server.signal(15).unwrap();
    server.wait(LIMIT).unwrap();
    // Stock gives the same name. (Only its first field: several are of the newest releases.)
    dir.write("server.conf", format!("{SERVER}proto udp4\nx509-username-field serialNumber\n")).unwrap();
    let mut theirs =
        stock("2.6.14").start(&pair.left, dir.path(), &["--config", "server.conf", "--disable-dco"]).unwrap();
    theirs.wait_for_text(UP, LIMIT).unwrap();
    start("client1").wait_for_text(UP, LIMIT).unwrap();
    assert_eq!(own_name(&theirs.stdout()), ours.strip_suffix("_client1").unwrap());
}

#[test]
fn tokens_are_judged_by_scripts_and_renewed_and_refusals_may_be_for_now() {
    let dir = folder("opt-tokens");
    let pair = Pair::new("opt-tokens").unwrap();
    fs::create_dir(dir.path().join("ccd")).unwrap();
    dir.write("ccd/client1", "override-username alice-by-card\n").unwrap();
    script(
        &dir,
        "verify",
        r#"echo "$session_state $username" >>verify.log
test -e once || { touch once; echo 'TEMP[backoff 1]:not yet' >$auth_failed_reason_file; exit 1; }
exit 0"#,
    );
    let _server = start_server(
        &pair.left,
        &dir,
        "proto udp\nscript-security 3\nauth-user-pass-verify ./verify via-env\nauth-gen-token 3600 external-auth\n\
         verify-client-cert optional\nclient-config-dir ccd\nreneg-sec 5 5\nhand-window 2\n",
    );
    dir.write("up.txt", "alice\nwonder\n").unwrap();
    let config = client_config("10.10.1.1", "client1", "auth-user-pass up.txt\nconnect-retry 1 1\n");
    let mut client = start_client(&stock("2.7.8"), &pair.right, &dir, "client.conf", &config);
    client.wait_for_text("AUTH_FAILED,TEMP", LIMIT).unwrap();
    client.wait_for_text(UP, LIMIT).unwrap();
    let log = wait_for("two renegotiations", LIMIT, || {
        Some(content(dir.path().join("verify.log"))).filter(|log| log.lines().count() >= 4)
    });
    let log = log.unwrap_or_else(|error| panic!("{error}\n{}", client.stdout()));
    let lines: Vec<&str> = log.lines().take(4).collect();
    let token = "Authenticated alice-by-card";
    assert_eq!(lines, ["Initial alice", "Initial alice", token, token]);
    ping(&pair.right, "10.77.0.1");
    assert_eq!(count(&client.stdout(), UP), 1);
}

/// The server renews a token by its clock, between renegotiations: each is good for twice that time only, so a client
/// that comes back later is let in with the last one or not at all.
#[test]
fn tokens_are_renewed_by_the_clock() {
    let dir = folder("opt-clock");
    let pair = Pair::new("opt-clock").unwrap();
    script(&dir, "verify", r#"echo "$session_state $username" >>verify.log"#);
    let _server = start_server(
        &pair.left,
        &dir,
        "proto udp\nscript-security 3\nauth-user-pass-verify ./verify via-env\n\
         auth-gen-token 3600 2 external-auth\nverify-client-cert optional\n",
    );
    dir.write("up.txt", "alice\nwonder\n").unwrap();
    let config = client_config("10.10.1.1", "client1", "auth-user-pass up.txt\nconnect-retry 1 1\n");
    let mut client = start_client(&stock("2.7.8"), &pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    let before = client.stdout().len();
    let tokens = || count(&client.stdout()[before..], "PUSH_REPLY,auth-token");
    wait_for("three new tokens", LIMIT, || (tokens() >= 3).then_some(()))
        .unwrap_or_else(|error| panic!("{error}\n{}", client.stdout()));
    client.signal(10).unwrap();
    wait_for("the client to be back", LIMIT, || (count(&client.stdout(), UP) == 2).then_some(())).unwrap();
    assert_eq!(content(dir.path().join("verify.log")), "Initial alice\nAuthenticated alice\n");
}

/// A token outlives the server that made it, where the next one has its key, and is good for twice the renewal: a client
/// that comes back in time is let in by it alone, one that comes back later by its password.
#[test]
fn a_token_expires() {
    let dir = folder("opt-expired");
    let pair = Pair::new("opt-expired").unwrap();
    script(&dir, "verify", r#"echo "asked" >>verify.log"#);
    let mut made = Program::ours(env!("CARGO_BIN_EXE_ovpn")).command_outside();
    made.current_dir(dir.path()).args(["--genkey", "auth-token", "token.key"]);
    run(&mut made, LIMIT).unwrap().success().unwrap();
    let more = "proto udp\nscript-security 3\nauth-user-pass-verify ./verify via-env\n\
                auth-gen-token 3600 4\nauth-gen-token-secret token.key\nkeepalive 60 300\n";
    let server = start_server(&pair.left, &dir, more);
    dir.write("up.txt", "alice\nwonder\n").unwrap();
    let config = client_config("10.10.1.1", "client1", "auth-user-pass up.txt\nconnect-retry 1 1\n");
    let mut client = start_client(&stock("2.7.8"), &pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    let asked = || count(&content(dir.path().join("verify.log")), "asked");
    assert_eq!(asked(), 1);
    // Dies without a word to its clients; another takes its place after a while, and the client comes back.
    let come_back = |mut server: Running, after: u64| {
        server.kill();
        std::thread::sleep(Duration::from_secs(after));
        let server = start_server(&pair.left, &dir, more);
        let ups = count(&client.stdout(), UP);
        client.signal(10).unwrap();
        let back = || (count(&client.stdout(), UP) > ups).then_some(());
        let back = wait_for("the client to be back", LIMIT, back);
        back.unwrap_or_else(|error| panic!("{error}\n{}\n{}", client.stdout(), server.stdout()));
        server
    };
    let server = come_back(server, 0);
    assert_eq!(asked(), 1, "the token does: {}", server.stdout());
    let server = come_back(server, 9);
    assert_eq!(asked(), 2, "{}", client.stdout());
    assert!(server.stdout().contains("the auth-token is expired"), "{}", server.stdout());
    assert!(client.stdout().contains("AUTH_FAILED,SESSION: token expired"), "{}", client.stdout());
}

/// `connect-freq-initial` bounds what a server answers to first packets; a client that goes on is no burden to it.
#[test]
fn first_packets_are_answered_at_a_limited_rate() {
    let dir = folder("opt-initial");
    let pair = Pair::new("opt-initial").unwrap();
    let _server = start_server(&pair.left, &dir, "proto udp\nconnect-freq-initial 3 3600\n");
    // A client that is served gives its place back.
    let config = client_config("10.10.1.1", "client1", "");
    let mut client = start_client(&stock("2.7.8"), &pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    let answers = pair.right.enter(|| {
        (0..10u8)
            .filter(|&number| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect("10.10.1.1:1194").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                socket.send(&[0x38, number, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0]).unwrap();
                socket.recv(&mut [0; 100]).is_ok()
            })
            .count()
    });
    assert_eq!(answers.unwrap(), 3);
    ping(&pair.right, "10.77.0.1");
}
