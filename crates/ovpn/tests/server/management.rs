//! A program at the management interface goes through a client's whole life with stock clients.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use ovpn_testkit::{Netns, Pair, Running, TempDir, wait_for};

use super::rig::*;

fn start(ns: &Netns, dir: &TempDir, more: &str) -> (Running, Program) {
    let server = start_server(ns, dir, &format!("management m.sock unix\n{more}"));
    let program = Program::connect(&dir.path().join("m.sock"));
    program.wait(">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info");
    (server, program)
}

fn login(name: &str) -> String {
    client_config("10.10.1.1", name, "auth-user-pass up.txt\nauth-retry nointeract\n")
}

#[test]
fn a_program_decides_about_clients() {
    let dir = folder("mgmt-auth");
    let pair = Pair::new("mgmt-auth").unwrap();
    std::fs::create_dir(dir.path().join("ccd")).unwrap();
    dir.write("ccd/client1", "iroute 10.9.0.0 255.255.0.0\n").unwrap();
    dir.write("up.txt", "alice\nwonder\n").unwrap();
    let (_server, mut program) = start(
        &pair.left,
        &dir,
        "proto udp\nmanagement-client-auth\nclient-config-dir ccd\nreneg-sec 14 14\nhand-window 12\n",
    );
    let mut client = start_client(&stock("2.6.14"), &pair.right, &dir, "client.conf", &login("client1"));
    let shown = program.group("CONNECT,0,1");
    assert_eq!(shown[0], "n_clients=0", "{shown:?}");
    for line in [
        "username=alice",
        "password=wonder",
        "common_name=client1",
        "untrusted_ip=10.10.1.2",
        "IV_VER=2.6.14",
    ] {
        assert!(shown.iter().any(|have| have == line), "{line} is missing in {shown:?}");
    }
    assert_eq!(program.ask("client-auth-nt 0 7"), "ERROR: client-auth-nt command failed");
    assert_eq!(program.ask("client-deny 3 1 no"), "ERROR: client-deny command failed");
    let pending = r#"client-pending-auth 0 1 "WEB_AUTH::https://login.example/" 20"#;
    assert_eq!(program.ask(pending), "SUCCESS: client-pending-auth command succeeded");
    client.wait_for_text("https://login.example/", LIMIT).unwrap();
    program.say("client-auth 0 1");
    program.say("push \"route 203.0.113.0 255.255.255.0\"");
    assert_eq!(program.ask("END"), "SUCCESS: client-auth command succeeded");
    client.wait_for_text(UP, LIMIT).unwrap();
    assert!(client.stdout().contains("route 203.0.113.0 255.255.255.0"), "{}", client.stdout());
    let established = program.group("ESTABLISHED,0");
    assert!(established.contains(&"ifconfig_pool_remote_ip=10.77.0.2".to_owned()), "{established:?}");
    let heard = program.heard();
    let addresses: Vec<&str> =
        heard.iter().filter_map(|line| line.strip_prefix(">CLIENT:ADDRESS,")).collect();
    assert_eq!(addresses, ["0,10.77.0.2,1", "0,fd77::1000,1", "0,10.9.0.0/255.255.0.0,0"]);
    ping(&pair.right, "10.77.0.1");

    assert_eq!(program.ask("bytecount 1"), "SUCCESS: bytecount interval changed");
    let counted = program.wait(">BYTECOUNT_CLI:0,");
    let numbers: Vec<u64> = counted.split(',').skip(1).map(|number| number.parse().unwrap()).collect();
    assert!(numbers.iter().all(|bytes| *bytes > 1000), "{counted}");
    assert_eq!(program.ask("bytecount 0"), "SUCCESS: bytecount interval changed");
    assert!(program.ask("load-stats").starts_with("SUCCESS: nclients=1,bytesin="));
    assert_eq!(program.ask("nclients"), "SUCCESS: nclients=1");
    for (command, start) in [
        ("status 1", "client1,10.10.1.2:"),
        ("status 2", "CLIENT_LIST,client1,10.10.1.2:"),
        ("status 3", "CLIENT_LIST\tclient1\t10.10.1.2:"),
    ] {
        let status = program.block(command);
        assert!(status.iter().any(|line| line.starts_with(start)), "{status:?}");
    }

    // Each renegotiation asks again; the program sees what it wants of the environment.
    assert_eq!(program.ask("env-filter 2"), "SUCCESS: env_filter_level=2");
    let shown = program.group("REAUTH,0,2");
    assert!(shown.contains(&"username=alice".to_owned()), "{shown:?}");
    assert!(!shown.iter().any(|line| line.starts_with("IV_")), "{shown:?}");
    assert_eq!(program.ask("client-auth-nt 0 2"), "SUCCESS: client-auth-nt command succeeded");
    ping(&pair.right, "10.77.0.1");

    assert_eq!(program.ask("client-kill 0 \"HALT,go home\""), "SUCCESS: client-kill command succeeded");
    assert!(client.wait(LIMIT).unwrap().success());
    assert!(client.stdout().contains("Halt command was pushed by server ('go home')"), "{}", client.stdout());
    let gone = program.group("DISCONNECT,0");
    assert!(gone.iter().any(|line| line.starts_with("time_duration=")), "{gone:?}");
    assert!(gone.iter().any(|line| line.starts_with("bytes_received=")), "{gone:?}");
}

#[test]
fn a_program_asks_back_and_refuses() {
    let dir = folder("mgmt-deny");
    let pair = Pair::new("mgmt-deny").unwrap();
    dir.write("up.txt", "alice\nwonder\n").unwrap();
    let (_server, mut program) =
        start(&pair.left, &dir, "proto udp\nmanagement-client-auth\nverify-client-cert none\n");
    let config = login("client1")
        .replace("auth-retry nointeract\n", "")
        .replace("cert client1.crt\nkey client1.key\n", "");
    let mut client = start_client(&stock("2.7.8"), &pair.right, &dir, "client.conf", &config);
    program.group("CONNECT,0,1");
    let challenge = r#"client-deny 0 1 "second factor" "CRV1:R,E:STATE:YWxpY2U=:Token?""#;
    assert_eq!(program.ask(challenge), "SUCCESS: client-deny command succeeded");
    client.wait_for_text("AUTH_FAILED,CRV1:R,E:STATE:YWxpY2U=:Token?", LIMIT).unwrap();
    client.wait(LIMIT).unwrap();
    program.group("DISCONNECT,0");

    // A challenge on the running connection, answered through the client's own management interface.
    let config = format!("{config}management c.sock unix\nmanagement-query-passwords\n");
    let mut client =
        start_client(&stock("2.6.14"), &pair.right, &dir, "client.conf", &config.replace(" up.txt", ""));
    let mut person = Program::connect(&dir.path().join("c.sock"));
    person.wait(">PASSWORD:Need 'Auth'");
    person.say("username Auth alice");
    person.say("password Auth wonder");
    program.group("CONNECT,1,1");
    let question = r#"client-pending-auth 1 1 "CR_TEXT:R,E:what is it" 30"#;
    assert_eq!(program.ask(question), "SUCCESS: client-pending-auth command succeeded");
    person.wait(">INFOMSG:CR_TEXT:R,E:what is it");
    person.say("cr-response Zm9ydHktdHdv");
    program.group("CR_RESPONSE,1,1,Zm9ydHktdHdv");
    assert_eq!(program.ask("client-auth-nt 1 1"), "SUCCESS: client-auth-nt command succeeded");
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.right, "10.77.0.1");
    // Without a message: RESTART, and the client is back with a login.
    assert_eq!(program.ask("client-kill 1"), "SUCCESS: client-kill command succeeded");
    client.wait_for_text("server-pushed-connection-reset", LIMIT).unwrap();
    program.group("DISCONNECT,1");
}

/// The segments that the server's side may send to a client that would take 1460 bytes by itself: what the client's
/// data plane leaves of that.
fn segment_size(pair: &Pair) -> u32 {
    pair.right.ip("route replace 10.77.0.1 dev tun0 advmss 1460").unwrap();
    let listener = pair.left.enter(|| TcpListener::bind("10.77.0.1:0")).unwrap().unwrap();
    let to = listener.local_addr().unwrap();
    let _stream = pair.right.enter(|| TcpStream::connect(to)).unwrap().unwrap();
    let (_accepted, _) = listener.accept().unwrap();
    let line = pair.left.run("ss", &["-Htin", "state", "established", "sport", "=", &to.port().to_string()]);
    let line = line.unwrap();
    let word = line.split_whitespace().find_map(|word| word.strip_prefix("mss:"));
    // What the time stamps of each segment take is not in it.
    word.unwrap_or_else(|| panic!("{line}")).parse::<u32>().unwrap() + 12
}

#[test]
fn options_of_connected_clients_are_changed() {
    let dir = folder("mgmt-update");
    let pair = Pair::new("mgmt-update").unwrap();
    let (_server, mut program) = start(&pair.left, &dir, "proto udp\npush \"route 10.54.0.0 255.255.0.0\"\n");
    let none = program.ask("push-update-broad \"route 10.55.0.0 255.255.0.0\"");
    assert_eq!(none, "ERROR: no client updated");
    let routes = |net: &str, there: bool| {
        wait_for(&format!("{net} {there}"), LIMIT, || {
            let routes = pair.right.ip("route").unwrap();
            (routes.contains(net) == there).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", pair.right.ip("route").unwrap()));
    };
    // The older release takes none; the newest and ours do.
    let config = client_config("10.10.1.1", "client1", "");
    for (cid, who) in ["2.6.14", "2.7.8", "ours"].into_iter().enumerate() {
        let mut client = if who == "ours" {
            dir.write("client.conf", &config).unwrap();
            let mut command = pair.right.command(env!("CARGO_BIN_EXE_ovpn"));
            Running::start(command.current_dir(dir.path()).args(["--config", "client.conf"])).unwrap()
        } else {
            start_client(&stock(who), &pair.right, &dir, "client.conf", &config)
        };
        client.wait_for_text(UP, LIMIT).unwrap();
        routes("10.54.0.0/16", true);
        let answer = program.ask(&format!("push-update-cid {cid} \"route 10.55.0.0 255.255.0.0\""));
        if who == "2.6.14" {
            assert_eq!(answer, "ERROR: no client updated");
        } else {
            assert_eq!(answer, "SUCCESS: 1 client(s) updated");
            routes("10.55.0.0/16", true);
            // Stock makes its device anew for that.
            reaches(&pair.right, "10.77.0.1");
            let answer = program.ask("push-update-broad \"-route\"");
            assert_eq!(answer, "SUCCESS: 1 client(s) updated");
            routes("10.55.0.0/16", false);
            reaches(&pair.right, "10.77.0.1");
        }
        if who == "ours" {
            for (mtu, segment) in [(1400, 1360), (1500, 1396)] {
                let answer = program.ask(&format!("push-update-cid {cid} \"tun-mtu {mtu}\""));
                assert_eq!(answer, "SUCCESS: 1 client(s) updated");
                wait_for("the new MTU", LIMIT, || {
                    pair.right.ip("link show tun0").ok()?.contains(&format!("mtu {mtu} ")).then_some(())
                })
                .unwrap();
                reaches(&pair.right, "10.77.0.1");
                assert_eq!(segment_size(&pair), segment, "tun-mtu {mtu}");
            }
        }
        client.signal(15).unwrap();
        client.wait(LIMIT).unwrap();
        wait_for("the client to be gone", LIMIT, || {
            (program.ask("nclients") == "SUCCESS: nclients=0").then_some(())
        })
        .unwrap();
    }
}

#[test]
fn a_server_waits_is_watched_and_obeys() {
    let dir = folder("mgmt-hold");
    let pair = Pair::new("mgmt-hold").unwrap();
    dir.write("pw", "open sesame\n").unwrap();
    let config = format!(
        "{SERVER}proto udp\npersist-tun\nmanagement m.sock unix pw\nmanagement-client-user root\n\
         management-client-group root\nmanagement-hold\nmanagement-up-down\nmanagement-log-cache 3\n"
    );
    let mut server = start_server_with(&pair.left, &dir, &config);
    let socket = dir.path().join("m.sock");
    let mut program = Program::connect(&socket);
    program.say("sesame");
    program.say("open sesame");
    program.wait("ENTER PASSWORD:ERROR: bad password");
    program.wait("ENTER PASSWORD:SUCCESS: password is correct");
    program.wait(">HOLD:Waiting for hold release:0");
    assert!(!server.stdout().contains("bound"), "it serves before the release: {}", server.stdout());
    assert_eq!(program.ask("signal SIGUSR1"), "ERROR: signal 'SIGUSR1' is currently ignored");
    assert_eq!(program.ask("signal SIGWINCH"), "ERROR: signal 'SIGWINCH' is not a known signal type");
    assert_eq!(program.ask("state on"), "SUCCESS: real-time state notification set to ON");
    assert_eq!(program.ask("hold release"), "SUCCESS: hold release succeeded");
    program.wait(">UPDOWN:UP");
    program.wait(">UPDOWN:ENV,dev=tun0");
    let names = |states: &[String]| -> Vec<String> {
        states.iter().filter_map(|line| line.split(',').nth(1)).map(str::to_owned).collect()
    };
    server.wait_for_text(UP, LIMIT).unwrap();
    let states = program.block("state all");
    assert_eq!(names(&states), ["CONNECTING", "ASSIGN_IP", "CONNECTED"], "{states:?}");
    assert!(states[2].ends_with(",CONNECTED,SUCCESS,10.77.0.1,,,,,fd77::1"), "{states:?}");
    assert_eq!(program.ask("pid"), format!("SUCCESS: pid={}", server.id()));
    assert_eq!(program.block("log all").len(), 3);
    assert_eq!(program.ask("kill nobody"), "ERROR: common name 'nobody' not found");
    assert_eq!(program.ask("kill 1.2.3.4:5"), "ERROR: client at address 1.2.3.4:5 not found");
    let answer = program.ask("remote-entry-count");
    assert_eq!(answer, "ERROR: The 'remote-entry-count' command is not supported by the current daemon mode");

    let mut client = start_client(
        &stock("2.5.1"),
        &pair.right,
        &dir,
        "client.conf",
        &client_config("10.10.1.1", "client1", ""),
    );
    client.wait_for_text(UP, LIMIT).unwrap();
    assert_eq!(program.ask("kill client1"), "SUCCESS: common name 'client1' found, 1 client(s) killed");
    wait_for("nobody", LIMIT, || (program.ask("nclients") == "SUCCESS: nclients=0").then_some(())).unwrap();

    // A restart holds again, on the same connection, with the same device.
    let index = pair.left.ip("-o link show tun0").unwrap();
    assert_eq!(program.ask("signal SIGUSR1"), "SUCCESS: signal SIGUSR1 thrown");
    wait_for("a second hold", LIMIT, || {
        (program.heard().iter().filter(|line| line.starts_with(">HOLD:")).count() == 2).then_some(())
    })
    .unwrap();
    assert!(
        program.heard().iter().any(|line| line.contains(",RECONNECTING,SIGUSR1,")),
        "{:?}",
        program.heard()
    );
    assert_eq!(program.ask("hold off"), "SUCCESS: hold flag set to OFF");
    assert_eq!(program.ask("hold release"), "SUCCESS: hold release succeeded");
    wait_for("a second start", LIMIT, || (count(&server.stdout(), UP) == 2).then_some(())).unwrap();
    let number = |text: &str| text.split(':').next().unwrap_or_default().trim().to_owned();
    assert_eq!(
        number(&pair.left.ip("-o link show tun0").unwrap()),
        number(&index),
        "the device was made anew"
    );
    assert_eq!(program.ask("signal SIGTERM"), "SUCCESS: signal SIGTERM thrown");
    program.wait(">UPDOWN:DOWN");
    assert!(server.wait(LIMIT).unwrap().success());
    assert!(program.heard().iter().any(|line| line.contains(",EXITING,SIGTERM,")), "{:?}", program.heard());
    assert!(!socket.exists(), "the socket stayed behind");
}

#[test]
fn a_server_calls_its_program_and_ends_with_it() {
    let dir = folder("mgmt-call");
    let pair = Pair::new("mgmt-call").unwrap();
    let listener = UnixListener::bind(dir.path().join("m.sock")).unwrap();
    let config = format!("{SERVER}proto udp\nmanagement m.sock unix\nmanagement-client\n");
    let mut server = start_server_with(&pair.left, &dir, &config);
    let (stream, _) = listener.accept().unwrap();
    let mut program = Program::over(stream);
    program.wait(">INFO:");
    server.wait_for_text(UP, LIMIT).unwrap();
    assert_eq!(program.ask("exit"), "<closed>");
    server.wait_for_text("SIGTERM[soft,management-exit]", Duration::from_secs(5)).unwrap();
    assert!(server.wait(LIMIT).unwrap().success());
}
