//! Our client and our point-to-point peer against stock OpenVPN, in namespaces.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use ovpn_testkit::{Netns, Pair, Running, StockOpenvpn, TempDir, static_key};

use crate::scene::{self, CLIENT, LIMIT, UP, ours, ping};

/// A folder with certificates and a static key, where both sides run.
fn folder(label: &str) -> TempDir {
    let dir = scene::folder(label);
    dir.write("static.key", static_key(7)).unwrap();
    dir
}

fn script(dir: &TempDir, name: &str, body: &str) {
    let path = dir.write(name, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn start_server(pair: &Pair, dir: &TempDir, more: &str) -> Running {
    scene::stock_server(&pair.right, dir, &format!("server-ipv6 fd77::/64\n{more}"))
}

fn start_client(pair: &Pair, dir: &TempDir, more: &str) -> Running {
    scene::client(&pair.left, dir, &format!("explicit-exit-notify 2\n{more}"))
}

/// What a client leaves on a machine: nothing.
fn assert_clean(ns: &Netns, before: &str) {
    let links = ns.ip("-o link show").unwrap();
    assert!(!links.contains("tun"), "{links}");
    assert_eq!(state(ns), before);
}

/// Routes and rules; link-local ones come and go by themselves.
fn state(ns: &Netns) -> String {
    let all = ["route show", "-6 route show", "rule show"].map(|what| ns.ip(what).unwrap()).concat();
    all.lines().filter(|line| !line.starts_with("fe80::")).map(|line| format!("{line}\n")).collect()
}

/// One connection: up, pings of both families, exit seen by the server, nothing left behind.
fn connect(label: &str, server_options: &str, client_options: &str) {
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let before = state(&pair.left);
    let mut server = start_server(&pair, &dir, server_options);
    let mut client = start_client(&pair, &dir, client_options);
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.left, "10.77.0.1");
    ping(&pair.left, "fd77::1");
    ping(&pair.right, "10.77.0.2");
    client.signal(15).unwrap();
    assert_eq!(client.wait(LIMIT).unwrap().code(), Some(0), "{}", client.stdout());
    assert!(client.stdout().contains("received, process exiting"), "{}", client.stdout());
    assert_clean(&pair.left, &before);
    server.wait_for_text("client-instance", LIMIT).unwrap();
}

#[test]
fn udp4_unwrapped() {
    connect("cl-udp4", "proto udp4\n", "remote 10.10.1.2 1194 udp4\n");
}

#[test]
fn udp6_with_tls_auth() {
    connect(
        "cl-udp6",
        "proto udp6\ntls-auth static.key 0\n",
        "remote fd00:0:0:1::2 1194 udp6\ntls-auth static.key 1\n",
    );
}

#[test]
fn tcp4_with_tls_crypt() {
    connect(
        "cl-tcp4",
        "proto tcp4-server\ntls-crypt static.key\n",
        "remote 10.10.1.2 1194 tcp4-client\ntls-crypt static.key\n",
    );
}

#[test]
fn chacha20_and_a_second_remote() {
    // Nobody listens at the first.
    connect(
        "cl-second",
        "proto udp4\ndata-ciphers CHACHA20-POLY1305\n",
        "hand-window 2\nremote 10.10.1.2 1199 udp4\nremote 10.10.1.2 1194 udp4\n",
    );
}

#[test]
fn redirect_gateway_routes_scripts_and_restarts() {
    let label = "cl-redirect";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    pair.left.ip("route add default via 10.10.1.254").unwrap();
    let before = state(&pair.left);
    script(&dir, "log", r#"echo "$script_type $*" >>calls; env >"$script_type.env""#);
    let _server = start_server(
        &pair,
        &dir,
        "proto udp4\npush \"redirect-gateway def1 ipv6\"\npush \"route 172.20.0.0 255.255.0.0\"\n",
    );
    let mut client = start_client(
        &pair,
        &dir,
        "remote 10.10.1.2 1194 udp4\npersist-tun\nscript-security 2\nup ./log\ndown ./log\nroute-up ./log\n",
    );
    client.wait_for_text(UP, LIMIT).unwrap();
    let routes = pair.left.ip("route show").unwrap();
    for wanted in ["0.0.0.0/1 via 10.77.0.1", "128.0.0.0/1 via 10.77.0.1", "172.20.0.0/16 via 10.77.0.1"] {
        assert!(routes.contains(wanted), "{routes}");
    }
    let routes6 = pair.left.ip("-6 route show").unwrap();
    for wanted in ["::/3 dev tun", "2000::/4 dev tun", "3000::/4 dev tun", "fc00::/7 dev tun"] {
        assert!(routes6.contains(wanted), "{routes6}");
    }
    // SIGUSR1 with persist-tun keeps the device and does not call `up` again.
    client.signal(10).unwrap();
    client.wait_for_text("Preserving previous TUN/TAP instance", LIMIT).unwrap();
    ping(&pair.left, "10.77.0.1");
    // SIGHUP starts over.
    client.signal(1).unwrap();
    client.wait_for_text("SIGHUP[hard,] received, process restarting", LIMIT).unwrap();
    let end = std::time::Instant::now() + LIMIT;
    while client.stdout().matches(UP).count() < 3 {
        assert!(std::time::Instant::now() < end, "{}", client.stdout());
        std::thread::sleep(Duration::from_millis(20));
    }
    ping(&pair.left, "10.77.0.1");
    client.signal(15).unwrap();
    assert!(client.wait(LIMIT).unwrap().success());
    assert_clean(&pair.left, &before);
    let calls = fs::read_to_string(dir.path().join("calls")).unwrap();
    let names: Vec<&str> = calls.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["up", "route-up", "down", "up", "route-up", "down"], "{calls}");
    assert!(calls.starts_with("up tun0 1500 0 10.77.0.2 255.255.255.0 init\n"), "{calls}");
    let env = fs::read_to_string(dir.path().join("route-up.env")).unwrap();
    for wanted in [
        "trusted_ip=10.10.1.2",
        "ifconfig_local=10.77.0.2",
        "ifconfig_netmask=255.255.255.0",
        "route_vpn_gateway=10.77.0.1",
        "route_net_gateway=10.10.1.254",
        "route_network_1=172.20.0.0",
        "redirect_gateway=1",
    ] {
        assert!(env.lines().any(|line| line == wanted), "{wanted}:\n{env}");
    }
}

#[test]
fn keys_are_renewed_under_traffic() {
    let label = "cl-reneg";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let mut server = start_server(&pair, &dir, "proto udp4\nreneg-sec 0\nhand-window 3\n");
    let mut client =
        start_client(&pair, &dir, "remote 10.10.1.2 1194 udp4\nreneg-sec 2\nhand-window 3\nverb 4\n");
    client.wait_for_text(UP, LIMIT).unwrap();
    let output =
        pair.left.try_run("ping", &["-c", "400", "-i", "0.02", "-W", "2", "10.77.0.1"], LIMIT).unwrap();
    assert!(output.stdout.contains("400 received"), "{}", output.stdout);
    let handshakes = server.stdout().matches("Control Channel: TLS").count();
    assert!(handshakes >= 4, "{handshakes} handshakes\n{}", server.stdout());
    assert!(server.ended().unwrap().is_none());
}

#[test]
fn a_refused_login_ends_with_code_0_and_a_sentence() {
    let label = "cl-refused";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let before = state(&pair.left);
    script(&dir, "verify", r#"test "$(sed -n 2p "$1")" = right"#);
    dir.write("wrong", "alice\nwrong\n").unwrap();
    dir.write("right", "alice\nright\n").unwrap();
    let _server = start_server(
        &pair,
        &dir,
        "proto udp4\nscript-security 2\nauth-user-pass-verify ./verify via-file\nauth-gen-token\n",
    );
    let mut client = start_client(&pair, &dir, "remote 10.10.1.2 1194 udp4\nauth-user-pass wrong\n");
    assert_eq!(client.wait(LIMIT).unwrap().code(), Some(0));
    let text = client.stdout();
    assert!(text.contains("AUTH: Received control message: AUTH_FAILED"), "{text}");
    assert!(text.contains("SIGTERM[soft,auth-failure] received, process exiting"), "{text}");
    assert_clean(&pair.left, &before);
    let mut client = start_client(&pair, &dir, "remote 10.10.1.2 1194 udp4\nauth-user-pass right\n");
    client.wait_for_text(UP, LIMIT).unwrap();
    assert!(!client.stdout().contains("SESS_ID_AT_"), "a token in the log: {}", client.stdout());
}

#[test]
fn a_silent_server_is_noticed_and_found_again() {
    let label = "cl-silent";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let mut server = start_server(&pair, &dir, "proto udp4\n");
    let mut client = start_client(&pair, &dir, "remote 10.10.1.2 1194 udp4\n");
    client.wait_for_text(UP, LIMIT).unwrap();
    server.kill();
    client.wait_for_text("SIGUSR1[soft,ping-restart] received, process restarting", LIMIT).unwrap();
    let _server = start_server(&pair, &dir, "proto udp4\n");
    let end = std::time::Instant::now() + LIMIT;
    while client.stdout().matches(UP).count() < 2 {
        assert!(std::time::Instant::now() < end, "{}", client.stdout());
        std::thread::sleep(Duration::from_millis(20));
    }
    ping(&pair.left, "10.77.0.1");
}

#[test]
fn what_cannot_work_is_said_and_ends_with_code_1() {
    let label = "cl-errors";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let end_of = |words: &[&str]| {
        let mut client = ours(&pair.left, &dir, words);
        let code = client.wait(LIMIT).unwrap().code();
        (code, client.stdout())
    };
    let (code, text) = end_of(&["--config", "missing.conf"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("missing.conf"), "{text}");
    dir.write(
        "client.conf",
        format!("{CLIENT}remote 10.10.1.2 1194 udp4\nhand-window 1\nconnect-retry-max 1\n"),
    )
    .unwrap();
    let (code, text) = end_of(&["client", "client.conf"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("connect-retry-max"), "{text}");
    let (code, text) = end_of(&["server", "client.conf"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("another mode"), "{text}");
    let (code, text) = end_of(&["client", "client.conf", "--ca", "client.key"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("client.key"), "{text}");
}

/// Two equal peers; `caller` has `remote`.
fn peers(label: &str, ours_is_tls_client: bool) {
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let common = "dev tun\nproto udp4\nca ca.crt\nkeepalive 1 5\nverb 3\n";
    let (client, server) = (
        "tls-client\nremote 10.10.1.2\ncert client.crt\nkey client.key\nifconfig 10.78.0.2 10.78.0.1\nexplicit-exit-notify 2\n",
        "tls-server\ndh none\ncert server.crt\nkey server.key\nifconfig 10.78.0.1 10.78.0.2\n",
    );
    dir.write("left.conf", format!("{common}{client}")).unwrap();
    dir.write("right.conf", format!("{common}{server}")).unwrap();
    let stock = StockOpenvpn::any().unwrap();
    let stock_words = |file: &'static str| ["--disable-dco", "--config", file];
    let (mut left, mut right) = if ours_is_tls_client {
        let right = stock.start(&pair.right, dir.path(), &stock_words("right.conf")).unwrap();
        (ours(&pair.left, &dir, &["p2p", "left.conf"]), right)
    } else {
        let right = ours(&pair.right, &dir, &["p2p", "right.conf"]);
        (stock.start(&pair.left, dir.path(), &stock_words("left.conf")).unwrap(), right)
    };
    left.wait_for_text(UP, LIMIT).unwrap();
    right.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.left, "10.78.0.1");
    left.signal(15).unwrap();
    assert!(left.wait(LIMIT).unwrap().success());
    right.wait_for_text("SIGUSR1[soft,remote-exit] received, process restarting", LIMIT).unwrap();
}

#[test]
fn p2p_as_tls_client() {
    peers("p2p-client", true);
}

#[test]
fn p2p_as_tls_server() {
    peers("p2p-server", false);
}

/// A program on a management socket.
struct Program(std::os::unix::net::UnixStream);

impl Program {
    fn connect(path: &std::path::Path) -> Self {
        let end = std::time::Instant::now() + LIMIT;
        loop {
            match std::os::unix::net::UnixStream::connect(path) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(LIMIT)).unwrap();
                    return Self(stream);
                }
                Err(error) => assert!(std::time::Instant::now() < end, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn say(&mut self, line: &str) {
        use std::io::Write as _;
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads lines until one contains `text`.
    fn hear(&mut self, text: &str) -> String {
        use std::io::Read as _;
        let mut line = Vec::new();
        let mut seen = String::new();
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap_or_else(|error| panic!("no {text:?} ({error}):\n{seen}"));
            line.push(byte[0]);
            if byte[0] == b'\n' {
                let text_line = String::from_utf8_lossy(&line).into_owned();
                seen.push_str(&text_line);
                if text_line.contains(text) {
                    return text_line;
                }
                line.clear();
            }
        }
    }
}

#[test]
fn a_program_holds_answers_and_ends_the_client() {
    let label = "cl-mgmt";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    script(&dir, "verify", r#"test "$(cat "$1" | tr '\n' ' ')" = "alice right ""#);
    let _server =
        start_server(&pair, &dir, "proto udp4\nscript-security 2\nauth-user-pass-verify ./verify via-file\n");
    let mut client = start_client(
        &pair,
        &dir,
        "remote 10.10.1.2 1194 udp4\nauth-user-pass\nauth-retry interact\nmanagement mgmt unix\nmanagement-hold\n\
         management-query-passwords\nstatus status.log 1\n",
    );
    let mut program = Program::connect(&dir.path().join("mgmt"));
    program.hear(">HOLD:Waiting for hold release:0");
    program.say("state on");
    program.hear("SUCCESS: real-time state notification set to ON");
    for (password, outcome) in [
        ("wrong", ">PASSWORD:Verification Failed: 'Auth'"),
        ("right", ",CONNECTED,SUCCESS,10.77.0.2,10.10.1.2,1194,"),
    ] {
        program.say("hold release");
        program.hear(">PASSWORD:Need 'Auth' username/password");
        program.say("username \"Auth\" alice");
        program.hear("SUCCESS: 'Auth' username entered");
        program.say(&format!("password \"Auth\" {password}"));
        program.hear(outcome);
    }
    ping(&pair.left, "10.77.0.1");
    program.say("status");
    program.hear("OpenVPN STATISTICS");
    program.hear("TUN/TAP read bytes,");
    std::thread::sleep(Duration::from_millis(1500));
    let status = fs::read_to_string(dir.path().join("status.log")).unwrap();
    assert!(status.starts_with("OpenVPN STATISTICS\nUpdated,") && status.ends_with("END\n"), "{status}");
    program.say("signal SIGTERM");
    program.hear("SUCCESS: signal SIGTERM thrown");
    assert!(client.wait(LIMIT).unwrap().success());
}
