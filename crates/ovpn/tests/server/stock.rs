//! The server against the stock client that is installed, in namespaces.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ovpn_testkit::{Netns, Pair, Pki, Role, Running, Star, StockOpenvpn, TempDir, static_key, wait_for};

use super::rig::{self, *};

fn start_client(ns: &Netns, dir: &TempDir, file: &str, config: &str) -> Running {
    rig::start_client(&StockOpenvpn::any().unwrap(), ns, dir, file, config)
}

#[test]
fn files_and_scripts_make_a_clients_configuration() {
    let dir = folder("srv-scripts");
    let pair = Pair::new("srv-scripts").unwrap();
    dir.write("tc.key", static_key(7)).unwrap();
    fs::create_dir(dir.path().join("ccd")).unwrap();
    dir.write("ccd/client1", "ifconfig-push 10.77.0.99 255.255.255.0\niroute 10.9.0.0 255.255.0.0\n")
        .unwrap();
    script(&dir, "connect", r#"env >connect.env; echo 'push "route 203.0.113.0 255.255.255.0"' >$1"#);
    script(&dir, "disconnect", "env >disconnect.env");
    script(&dir, "learn", r#"echo "$@" >>learn.log"#);
    let mut server = start_server(
        &pair.left,
        &dir,
        "proto udp\ntls-crypt tc.key\nclient-config-dir ccd\nscript-security 2\nclient-connect ./connect\n\
         client-disconnect ./disconnect\nlearn-address ./learn\nstatus status.log 1\nstatus-version 2\n\
         push \"route 10.9.0.0 255.255.0.0\"\nroute 10.9.0.0 255.255.0.0\n",
    );
    let config = client_config("10.10.1.1", "client1", "proto udp\ntls-crypt tc.key\n");
    let mut client = start_client(&pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    let seen = client.stdout();
    assert!(seen.contains("ifconfig 10.77.0.99 255.255.255.0"), "{seen}");
    assert!(seen.contains("ifconfig-ipv6 fd77::1000/64 fd77::1"), "{seen}");
    assert!(seen.contains("route 203.0.113.0 255.255.255.0"), "{seen}");
    assert!(!seen.contains("route 10.9.0.0"), "a route to the client itself was pushed: {seen}");
    ping(&pair.right, "10.77.0.1");
    ping(&pair.right, "fd77::1");
    ping(&pair.left, "10.77.0.99");
    pair.right.ip("addr add 10.9.0.1/32 dev lo").unwrap();
    ping(&pair.left, "10.9.0.1");

    let environment = content(dir.path().join("connect.env"));
    for line in [
        "common_name=client1",
        "ifconfig_pool_remote_ip=10.77.0.99",
        "script_type=client-connect",
        "trusted_ip=10.10.1.2",
        "tls_id_0=CN=client1",
        "IV_PLAT=linux",
    ] {
        assert!(environment.lines().any(|have| have == line), "{line} is missing in {environment}");
    }
    let status = dir.path().join("status.log");
    let row = wait_for("the client in the status file", LIMIT, || {
        content(&status)
            .lines()
            .find(|line| line.starts_with("CLIENT_LIST,client1,10.10.1.2:"))
            .map(str::to_owned)
    })
    .unwrap();
    assert!(row.contains(",10.77.0.99,fd77::1000,") && row.ends_with(",UNDEF,0,0,AES-256-GCM"), "{row}");
    assert!(content(&status).contains("ROUTING_TABLE,10.9.0.0/16,client1,"), "{}", content(&status));

    client.signal(15).unwrap();
    server.wait_for_text("remote-exit", LIMIT).unwrap();
    let left = wait_for("client-disconnect", LIMIT, || {
        Some(content(dir.path().join("disconnect.env"))).filter(|env| env.contains("time_duration"))
    })
    .unwrap();
    let received = left.lines().find_map(|line| line.strip_prefix("bytes_received=")).unwrap();
    assert!(received.parse::<u64>().unwrap() > 1000, "{left}");
    let log = wait_for("learn-address delete", LIMIT, || {
        Some(content(dir.path().join("learn.log"))).filter(|log| log.matches("delete").count() == 3)
    })
    .unwrap();
    for line in ["add 10.77.0.99 client1", "add fd77::1000 client1", "add 10.9.0.0/16 client1"] {
        assert!(log.contains(line), "{log}");
    }
}

#[test]
fn passwords_tokens_and_renegotiation() {
    let dir = folder("srv-auth");
    let pair = Pair::new("srv-auth").unwrap();
    dir.write("ta.key", static_key(7)).unwrap();
    script(
        &dir,
        "verify",
        r#"echo "$session_state" >>verify.log
test "$(head -1 $1):$(tail -1 $1)" = "alice:wonderland" && exit 0
echo "go away" >$auth_failed_reason_file; exit 1"#,
    );
    let mut server = start_server(
        &pair.left,
        &dir,
        "proto udp\ntls-auth ta.key 0\nauth SHA256\nscript-security 2\nauth-user-pass-verify ./verify via-file\n\
         auth-gen-token 3600\nusername-as-common-name\nreneg-sec 4 3\nhand-window 2\n",
    );
    dir.write("bad.txt", "alice\nlooking-glass\n").unwrap();
    dir.write("good.txt", "alice\nwonderland\n").unwrap();
    let config = |file: &str| {
        client_config(
            "10.10.1.1",
            "client1",
            &format!("proto udp\ntls-auth ta.key 1\nauth SHA256\nauth-user-pass {file}\n"),
        )
    };
    let mut refused = start_client(&pair.right, &dir, "bad.conf", &config("bad.txt"));
    refused.wait_for_text("AUTH_FAILED,go away", LIMIT).unwrap();
    refused.wait(LIMIT).unwrap();

    let mut client = start_client(&pair.right, &dir, "good.conf", &config("good.txt"));
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.right, "10.77.0.1");
    let keys = || client.stdout().matches("Control Channel: TLSv1.3").count();
    wait_for("two renegotiations", LIMIT, || (keys() >= 3).then_some(())).unwrap();
    ping(&pair.right, "10.77.0.1");
    ping(&pair.left, "10.77.0.2");
    server.wait_for_text("[alice] Peer Connection Initiated", LIMIT).unwrap();
    // Once for the wrong password, once for the right one: renegotiations show the token.
    assert_eq!(content(dir.path().join("verify.log")), "Initial\nInitial\n");
    assert!(!client.stdout().contains("AUTH_FAILED"), "{}", client.stdout());
    assert!(!server.stdout().contains("wonderland") && !server.stdout().contains("SESS_ID"));
}

#[test]
fn logins_may_be_decided_later() {
    let dir = folder("srv-defer");
    let pair = Pair::new("srv-defer").unwrap();
    script(
        &dir,
        "verify",
        r#"printf '20\nwebauth\nWEB_AUTH::https://login.example/\n' >$auth_pending_file
(sleep 2; printf 1 >$auth_control_file) >/dev/null 2>&1 &
exit 2"#,
    );
    script(
        &dir,
        "connect",
        r#"printf 2 >$client_connect_deferred_file
(sleep 1; echo 'push "echo late"' >$client_connect_config_file; printf 1 >$client_connect_deferred_file) \
  >/dev/null 2>&1 &"#,
    );
    let _server = start_server(
        &pair.left,
        &dir,
        "proto udp\nscript-security 3\nauth-user-pass-verify ./verify via-env\nclient-connect ./connect\n\
         verify-client-cert none\nusername-as-common-name\n",
    );
    dir.write("user.txt", "alice\nwonderland\n").unwrap();
    let config = "client\ndev tun\ndisable-dco\nremote 10.10.1.1 1194\nproto udp\nnobind\nca ca.crt\n\
                  auth-user-pass user.txt\nsetenv IV_SSO webauth\nverb 4\n";
    let mut client = start_client(&pair.right, &dir, "client.conf", config);
    client
        .wait_for_text("AUTH_PENDING received, extending handshake timeout from 60s to 20s", LIMIT)
        .unwrap();
    client.wait_for_text(UP, LIMIT).unwrap();
    assert!(client.stdout().contains("https://login.example/"), "{}", client.stdout());
    ping(&pair.right, "10.77.0.1");
}

#[test]
fn tls_crypt_v2_with_cookies() {
    let dir = folder("srv-v2");
    let pair = Pair::new("srv-v2").unwrap();
    let stock = StockOpenvpn::any().unwrap();
    for arguments in [
        vec!["--genkey", "tls-crypt-v2-server", "v2s.key"],
        vec!["--tls-crypt-v2", "v2s.key", "--genkey", "tls-crypt-v2-client", "v2c.key", "aGVsbG8="],
    ] {
        let mut command = stock.command(&pair.left, dir.path());
        ovpn_testkit::run(command.args(&arguments), LIMIT).unwrap().success().unwrap();
    }
    script(&dir, "v2", r#"echo "$metadata_type $(cat $metadata_file)" >v2.log"#);
    let _server = start_server(
        &pair.left,
        &dir,
        "proto udp\ntls-crypt-v2 v2s.key force-cookie\nscript-security 2\ntls-crypt-v2-verify ./v2\n",
    );
    let config = client_config("10.10.1.1", "client1", "proto udp\ntls-crypt-v2 v2c.key\n");
    let mut client = start_client(&pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.right, "10.77.0.1");
    assert_eq!(content(dir.path().join("v2.log")), "0 hello\n");
}

#[test]
fn tcp_clients_come_and_go() {
    let dir = folder("srv-tcp");
    let pair = Pair::new("srv-tcp").unwrap();
    let mut server = start_server(&pair.left, &dir, "proto tcp-server\n");
    let config =
        client_config("10.10.1.1", "client1", "proto tcp-client\n").replace("explicit-exit-notify 1\n", "");
    let mut client = start_client(&pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.right, "10.77.0.1");
    ping(&pair.left, "10.77.0.2");
    client.kill();
    server.wait_for_text("Connection reset, restarting", LIMIT).unwrap();
    let mut client = start_client(&pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.right, "10.77.0.1");
}

#[test]
fn several_clients_and_newer_namesakes() {
    let dir = folder("srv-many");
    let star = Star::new("srv-many", 2).unwrap();
    let mut server = start_server(&star.hub, &dir, "proto udp\nifconfig-pool-persist pool.txt\n");
    star.hub.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]).unwrap();
    let start = |leaf: usize, name: &str| {
        let config = client_config(&format!("10.10.{}.1", leaf + 1), name, "proto udp\n");
        let mut client = start_client(&star.leaves[leaf], &dir, &format!("{leaf}-{name}.conf"), &config);
        client.wait_for_text(UP, LIMIT).unwrap();
        client
    };
    let first = start(0, "client1");
    let second = start(1, "client2");
    assert!(first.stdout().contains("ifconfig 10.77.0.2 "), "{}", first.stdout());
    assert!(second.stdout().contains("ifconfig 10.77.0.3 "), "{}", second.stdout());
    ping(&star.leaves[0], "10.77.0.3");
    ping(&star.leaves[1], "10.77.0.2");
    drop(second);

    // The same name from elsewhere takes the older one's place and address.
    let newer = start(1, "client1");
    server.wait_for_text("replaced by a newer connection", LIMIT).unwrap();
    assert!(newer.stdout().contains("ifconfig 10.77.0.2 "), "{}", newer.stdout());
    ping(&star.leaves[1], "10.77.0.1");

    server.signal(15).unwrap();
    assert!(server.wait(LIMIT).unwrap().success());
    let persisted = content(dir.path().join("pool.txt"));
    assert_eq!(persisted, "client1,10.77.0.2,fd77::1000\nclient2,10.77.0.3,fd77::1001\n");
}

#[test]
fn a_client_that_starts_anew_on_its_port_takes_over() {
    let dir = folder("srv-again");
    let pair = Pair::new("srv-again").unwrap();
    let mut server = start_server(&pair.left, &dir, "proto udp\n");
    let config = client_config("10.10.1.1", "client1", "proto udp\n").replace("nobind", "bind\nlport 4711");
    for round in 0..3 {
        let mut client = start_client(&pair.right, &dir, "client.conf", &config);
        client.wait_for_text(UP, LIMIT).unwrap();
        assert!(client.stdout().contains("ifconfig 10.77.0.2 "), "round {round}: {}", client.stdout());
        ping(&pair.right, "10.77.0.1");
        ping(&pair.left, "10.77.0.2");
        client.kill();
    }
    server.wait_for_text("Inactivity timeout (--ping-restart)", Duration::from_secs(60)).unwrap();
}

#[test]
fn a_client_may_change_its_address() {
    let dir = folder("srv-float");
    let pair = Pair::new("srv-float").unwrap();
    let mut server = start_server(&pair.left, &dir, "proto udp\nreneg-sec 5 4\nhand-window 2\n");
    let config = client_config("10.10.1.1", "client1", "proto udp\n");
    let mut client = start_client(&pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.right, "10.77.0.1");
    pair.right.ip("addr add 10.10.1.3/24 dev veth1").unwrap();
    pair.right.ip("addr del 10.10.1.2/24 dev veth1").unwrap();
    pair.right.ip("addr replace 10.10.1.3/24 dev veth1").unwrap();
    ping(&pair.right, "10.77.0.1");
    ping(&pair.left, "10.77.0.2");
    server.wait_for_text("10.10.1.3", LIMIT).unwrap();
    // Control packets follow data packets: renegotiations go on over the new address.
    let keys = || client.stdout().matches("Control Channel: TLSv1.3").count();
    let before = keys();
    wait_for("a renegotiation after the float", LIMIT, || (keys() >= before + 2).then_some(())).unwrap();
    ping(&pair.left, "10.77.0.2");
}

#[test]
fn our_own_client_with_all_that_both_know() {
    let dir = folder("srv-own");
    let pair = Pair::new("srv-own").unwrap();
    for (proto, server) in [("udp", "udp"), ("tcp-client", "tcp-server")] {
        let mut server =
            start_server(&pair.left, &dir, &format!("proto {server}\nreneg-sec 5 4\nhand-window 2\n"));
        let config = client_config("10.10.1.1", "client1", &format!("proto {proto}\n"));
        dir.write("own.conf", config.replace("disable-dco\n", "")).unwrap();
        let mut command = pair.right.command(env!("CARGO_BIN_EXE_ovpn"));
        let mut client =
            Running::start(command.current_dir(dir.path()).args(["--config", "own.conf"])).unwrap();
        client.wait_for_text(UP, LIMIT).unwrap();
        ping(&pair.right, "10.77.0.1");
        ping(&pair.right, "fd77::1");
        ping(&pair.left, "10.77.0.2");
        std::thread::sleep(Duration::from_secs(7));
        ping(&pair.left, "10.77.0.2");
        client.signal(15).unwrap();
        assert!(client.wait(LIMIT).unwrap().success());
        server.signal(15).unwrap();
        assert!(server.wait(LIMIT).unwrap().success());
    }
}

#[test]
fn refusals_are_one_clear_sentence() {
    let dir = folder("srv-refuse");
    let pair = Pair::new("srv-refuse").unwrap();
    dir.write("tc.key", static_key(7)).unwrap();
    let other = content(dir.path().join("tc.key")).replace('7', "8");
    dir.write("other.key", other).unwrap();
    let mut server =
        start_server(&pair.left, &dir, "proto udp\ntls-crypt tc.key\nccd-exclusive\nclient-config-dir ccd\n");
    let start = |name: &str, key: &str| {
        let more = format!("proto udp\ntls-crypt {key}\nhand-window 3\nconnect-retry-max 1\n");
        start_client(&pair.right, &dir, "client.conf", &client_config("10.10.1.1", name, &more))
    };
    let mut wrong_key = start("client1", "other.key");
    server.wait_for_text("check that both sides use the same tls-auth, tls-crypt", LIMIT).unwrap();
    wrong_key.kill();

    let mut unknown = start("client2", "tc.key");
    unknown.wait_for_text("AUTH_FAILED", LIMIT).unwrap();
    server.wait_for_text("ccd-exclusive: ccd has no file for 'client2'", LIMIT).unwrap();

    // A certificate of another authority: TLS ends it, and the server says whose it was.
    let stranger = Pki::new().unwrap().issue("stranger", Role::Client).unwrap();
    dir.write("stranger.crt", stranger.cert).unwrap();
    dir.write("stranger.key", stranger.key).unwrap();
    let _stranger = start("stranger", "tc.key");
    server.wait_for_text("(CN=stranger) was not issued by our CA", LIMIT).unwrap();
}

/// Passes a client's connections on; from the word on it holds some of what the client sends up, as a network does that
/// loses packets: nothing is lost, and nothing overtakes.
fn slow_stream(ns: &Netns, port: u16, server: &'static str) -> Arc<AtomicBool> {
    let slow = Arc::new(AtomicBool::new(false));
    let word = Arc::clone(&slow);
    ns.enter(move || {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        std::thread::spawn(move || {
            let mut dice = 7_u64;
            for mut client in listener.incoming().flatten() {
                let mut there = TcpStream::connect(server).unwrap();
                there.set_nodelay(true).unwrap();
                client.set_nodelay(true).unwrap();
                let (mut back, mut home) = (there.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut back, &mut home));
                let (put, take) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
                std::thread::spawn(move || {
                    for (due, bytes) in take {
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        if there.write_all(&bytes).is_err() {
                            return;
                        }
                    }
                });
                let mut buf = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut buf) {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let held = slow.load(Ordering::Relaxed) && dice >> 63 == 0;
                    let late = if held { 350 + (dice >> 40) % 550 } else { 0 };
                    let due = Instant::now() + Duration::from_millis(late);
                    if put.send((due, buf[..length].to_vec())).is_err() {
                        break;
                    }
                }
            }
        });
    })
    .unwrap();
    word
}

/// A stock client goes on to its next key when a second is over, while the way back is held up: nothing of ours comes
/// too late for it, which would end its connection.
#[test]
fn renegotiations_over_a_slow_stream() {
    let dir = folder("srv-slow");
    let pair = Pair::new("srv-slow").unwrap();
    let _server = start_server(&pair.left, &dir, "proto tcp-server\nreneg-sec 0\n");
    let slow = slow_stream(&pair.left, 1195, "10.10.1.1:1194");
    let config = client_config("10.10.1.1", "client1", "reneg-sec 1\n");
    let config = config.replace("remote 10.10.1.1 1194\nproto udp", "remote 10.10.1.1 1195 tcp-client");
    let mut client = start_client(&pair.right, &dir, "client.conf", &config);
    client.wait_for_text(UP, LIMIT).unwrap();
    let keys = || client.stdout().matches("Control Channel: TLSv1.3").count();
    wait_for("quick renegotiations", LIMIT, || (keys() >= 4).then_some(())).unwrap();
    slow.store(true, Ordering::Relaxed);
    wait_for("slow renegotiations", LIMIT * 2, || (keys() >= 16).then_some(()))
        .unwrap_or_else(|error| panic!("{error}\n{}", client.stdout()));
    assert!(!client.stdout().contains("Fatal TLS error"), "{}", client.stdout());
    assert_eq!(client.stdout().matches(UP).count(), 1, "{}", client.stdout());
}
