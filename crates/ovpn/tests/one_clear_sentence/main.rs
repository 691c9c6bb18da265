//! What goes wrong for people ends in one sentence that says what to do, at the side that can do something, and leaves
//! nothing behind. The other end is stock OpenVPN.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod clock;

use std::time::Duration;

use ovpn_testkit::{Identity, Netns, Pair, Pki, Program, Role, Running, Site, StockOpenvpn, UP, static_key};

const LIMIT: Duration = Duration::from_secs(60);

fn ours() -> Program {
    Program::ours(env!("CARGO_BIN_EXE_ovpn"))
}

fn stock() -> Program {
    StockOpenvpn::release("2.6.14").unwrap().into()
}

const SERVER: &str = "dev tun\ndisable-dco\nproto udp4\ntopology subnet\nserver 10.77.0.0 255.255.255.0\n\
                      push \"route 172.20.0.0 255.255.0.0\"\npush \"dhcp-option DNS 10.77.0.1\"\ndh none\nca ca.crt\nkeepalive 20 60\nverb 3\n";
const CLIENT: &str = "client\ndev tun\ndisable-dco\nremote 10.10.1.2 1194 udp4\nnobind\nca ca.crt\nverb 3\n\
                      hand-window 6\nconnect-retry-max 1\n";

fn files(name: &str) -> String {
    format!("cert {name}.crt\nkey {name}.key\n")
}

fn keep(site: &Site, name: &str, identity: &Identity) {
    site.write(&format!("{name}.crt"), &identity.cert).unwrap();
    site.write(&format!("{name}.key"), &identity.key).unwrap();
}

/// A folder with an authority that also made certificates of other times.
fn site() -> Site {
    let site = Site::new("sentence").unwrap();
    let pki = Pki::new().unwrap();
    site.write("ca.crt", pki.ca_cert()).unwrap();
    keep(&site, "server", &pki.issue("server", Role::Server).unwrap());
    keep(&site, "client1", &pki.issue("client1", Role::Client).unwrap());
    keep(&site, "client2", &pki.issue("client2", Role::Client).unwrap());
    keep(&site, "client3", &pki.issue("client3", Role::Client).unwrap());
    keep(&site, "old-server", &pki.issue_for("old-server", Role::Server, 2010, 2015).unwrap());
    keep(&site, "old-client", &pki.issue_for("old-client", Role::Client, 2010, 2015).unwrap());
    keep(&site, "early-server", &pki.issue_for("early-server", Role::Server, 2045, 2048).unwrap());
    keep(&site, "early-client", &pki.issue_for("early-client", Role::Client, 2045, 2048).unwrap());
    let stranger = Pki::new().unwrap();
    keep(&site, "strange-server", &stranger.issue("strange-server", Role::Server).unwrap());
    site.write("other.key", static_key(11)).unwrap();
    site.write("crl.pem", pki.revocation_list(&["client2", "server"]).unwrap()).unwrap();
    site.script("judge", r#"test "$(sed -n 2p "$1")" = right"#).unwrap();
    site.write("wrong", "alice\nwrong\n").unwrap();
    site
}

fn server(site: &Site, pair: &Pair, program: &Program, more: &str) -> Running {
    let mut server = site.start(program, &pair.right, "server.conf", &format!("{SERVER}{more}")).unwrap();
    server.wait_for_text(UP, LIMIT).unwrap();
    server
}

/// Devices, routes, rules and name servers.
fn state(ns: &Netns) -> String {
    let links = ns.ip("-o link show").unwrap();
    let devices = links.lines().filter_map(|line| line.split(": ").nth(1));
    let all = ["route show", "-6 route show", "rule show"].map(|what| ns.ip(what).unwrap()).concat();
    let names = ns.run("cat", &["/etc/resolv.conf"]).unwrap();
    let lines = devices.chain(all.lines()).chain(names.lines());
    lines.filter(|line| !line.starts_with("fe80::")).map(|line| format!("{line}\n")).collect()
}

/// A machine whose name servers are its own.
fn pair(label: &str) -> Pair {
    let pair = Pair::new(label).unwrap();
    pair.left.resolv_conf("nameserver 192.0.2.53\n").unwrap();
    pair
}

/// A stock client is turned away, with these words in one line of our server's log; the server goes on, and nothing of
/// the client is left there.
fn our_server_says(site: &Site, pair: &Pair, server: &mut Running, more: &str, words: &[&str]) {
    let before = state(&pair.right);
    let mut client = site.start(&stock(), &pair.left, "client.conf", &format!("{CLIENT}{more}")).unwrap();
    let found = ovpn_testkit::wait_for("the sentence", LIMIT, || {
        let log = server.stdout();
        log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    });
    assert!(found.is_ok(), "no line with {words:?}:\n{}", server.stdout());
    client.kill();
    assert!(server.ended().unwrap().is_none());
    assert_eq!(state(&pair.right), before);
}

/// Our client ends by itself, with these words in one line of its log, and nothing left.
fn our_client_says(site: &Site, pair: &Pair, more: &str, words: &[&str]) {
    let before = state(&pair.left);
    let mut client = site.start(&ours(), &pair.left, "client.conf", &format!("{CLIENT}{more}")).unwrap();
    client.wait(LIMIT).unwrap();
    let log = client.stdout();
    let said = |line: &str| words.iter().all(|word| line.contains(word));
    assert!(log.lines().any(said), "no line with {words:?}:\n{log}");
    assert_eq!(state(&pair.left), before);
}

#[test]
fn certificates_of_the_wrong_time_or_authority_at_the_client() {
    let site = site();
    for (name, words) in [
        ("old-server", ["expired", "this machine's clock", "renew it"]),
        ("early-server", ["valid only in", "this machine's clock", "set the clock"]),
        ("strange-server", ["not issued by", "same CA", "`ca`"]),
    ] {
        let pair = pair("sent-cl");
        let _server = server(&site, &pair, &stock(), &files(name));
        our_client_says(&site, &pair, &files("client1"), &words);
    }
}

#[test]
fn certificates_of_the_wrong_time_at_the_server() {
    let site = site();
    let pair = pair("sent-srv");
    let mut server = server(&site, &pair, &ours(), &files("server"));
    for (name, words) in [
        ("old-client", ["expired", "old-client", "renew it"]),
        ("early-client", ["valid only in", "this machine's clock", "set the clock"]),
    ] {
        our_server_says(&site, &pair, &mut server, &files(name), &words);
    }
}

#[test]
fn a_wrong_password() {
    let site = site();
    let judge = "script-security 2\nauth-user-pass-verify ./judge via-file\n";
    let login = files("client1") + "auth-user-pass wrong\n";
    {
        let pair = pair("sent-pw-cl");
        let _server = server(&site, &pair, &stock(), &(files("server") + judge));
        our_client_says(&site, &pair, &login, &["refused the login", "check username and password"]);
    }
    let pair = pair("sent-pw-srv");
    let mut server = server(&site, &pair, &ours(), &(files("server") + judge));
    let words = ["user 'alice'", "auth-user-pass-verify refused"];
    our_server_says(&site, &pair, &mut server, &login, &words);
}

#[test]
fn a_revoked_certificate() {
    let site = site();
    {
        // The client's own list names the server.
        let pair = pair("sent-rev-cl");
        let _server = server(&site, &pair, &stock(), &files("server"));
        let words = ["server's certificate", "is revoked by `crl-verify`", "needs a new one"];
        our_client_says(&site, &pair, &(files("client1") + "crl-verify crl.pem\n"), &words);
    }
    let pair = pair("sent-rev-srv");
    let mut server = server(&site, &pair, &ours(), &(files("server") + "crl-verify crl.pem\n"));
    let words = ["client's certificate", "client2", "is revoked by `crl-verify`"];
    our_server_says(&site, &pair, &mut server, &files("client2"), &words);
}

#[test]
fn our_client_is_told_that_its_certificate_is_revoked() {
    let site = site();
    let pair = pair("sent-rev-told");
    let _server = server(&site, &pair, &ours(), &(files("server") + "crl-verify crl.pem\n"));
    our_client_says(
        &site,
        &pair,
        &files("client2"),
        &["says that our certificate is revoked", "get a new one"],
    );
}

#[test]
fn a_wrong_key_and_nobody_at_all() {
    let site = site();
    let pair = pair("sent-key");
    let sentence = ["nothing came back", "firewall", "tls-crypt"];
    our_client_says(&site, &pair, &files("client1"), &sentence);
    let _server = server(&site, &pair, &stock(), &(files("server") + "tls-crypt static.key\n"));
    our_client_says(&site, &pair, &(files("client1") + "tls-crypt other.key\n"), &sentence);
}

#[test]
fn a_pool_without_a_free_address() {
    let site = site();
    let pair = pair("sent-pool");
    let only_two = SERVER.replace(
        "server 10.77.0.0 255.255.255.0",
        "mode server\ntls-server\nifconfig 10.77.0.1 255.255.255.0\nifconfig-pool 10.77.0.2 10.77.0.3 255.255.255.0",
    );
    let config = format!("{only_two}{}", files("server"));
    let mut server = site.start(&ours(), &pair.right, "server.conf", &config).unwrap();
    server.wait_for_text(UP, LIMIT).unwrap();
    let start = |name: &str, file: &str| {
        let config = format!("{CLIENT}{}", files(name));
        site.start(&stock(), &pair.left, file, &config).unwrap()
    };
    let mut first = start("client1", "client1.conf");
    first.wait_for_text(UP, LIMIT).unwrap();
    let mut second = start("client2", "client2.conf");
    second.wait_for_text(UP, LIMIT).unwrap();
    let _third = start("client3", "client3.conf");
    server.wait_for_text("no free --ifconfig-pool addresses are available", LIMIT).unwrap();
    let log = server.stdout();
    assert!(log.lines().any(|line| line.contains("no free") && line.contains("enlarge")), "{log}");
    pair.left.run("ping", &["-c", "1", "-w", "10", "10.77.0.1"]).unwrap();
}

#[test]
fn no_right_to_make_a_device() {
    let site = site();
    let pair = pair("sent-tun");
    let _server = server(&site, &pair, &stock(), &files("server"));
    let before = state(&pair.left);
    site.write("client.conf", format!("{CLIENT}{}", files("client1"))).unwrap();
    let mut command = pair.left.command("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
    let Program::Ours(program) = ours() else { unreachable!() };
    command.arg(program).args(["--config", "client.conf"]).current_dir(site.path());
    let mut client = Running::start(&mut command).unwrap();
    assert_eq!(client.wait(LIMIT).unwrap().code(), Some(1));
    let log = client.stdout();
    assert!(log.lines().any(|line| line.contains("CAP_NET_ADMIN") || line.contains("root")), "{log}");
    assert_eq!(state(&pair.left), before);
}
