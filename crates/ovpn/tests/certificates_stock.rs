//! Certificates as people have them, made by Debian's easy-rsa and by openssl, with stock OpenVPN 2.6.14 at the other
//! end: RSA, EC and Ed25519, authorities in between, encrypted keys, PKCS#12, fingerprints without any authority.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{Pair, Program, Running, Site, StockOpenvpn, UP, run};

const LIMIT: Duration = Duration::from_secs(60);

fn ours() -> Program {
    Program::ours(env!("CARGO_BIN_EXE_ovpn"))
}

fn stock() -> Program {
    StockOpenvpn::release("2.6.14").unwrap().into()
}

fn openssl(dir: &Path, words: &str) -> String {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(words.split_whitespace());
    run(&mut command, LIMIT).unwrap().success().unwrap_or_else(|error| panic!("openssl {words}: {error}"))
}

/// easy-rsa's program: on the path, or where Debian puts it.
fn easy_rsa(dir: &Path, algorithm: &[(&str, &str)], words: &[&str]) {
    let debian = PathBuf::from("/usr/share/easy-rsa/easyrsa");
    let mut command = Command::new(if debian.exists() { debian } else { "easyrsa".into() });
    command.current_dir(dir).env("EASYRSA_BATCH", "1").env("EASYRSA_PKI", dir.join("pki"));
    command.envs(algorithm.iter().copied()).args(words);
    run(&mut command, LIMIT).unwrap().success().unwrap_or_else(|error| panic!("easyrsa {words:?}: {error}"));
}

/// A tunnel with these lines at each end, both ways round: ours as the client, then as the server.
fn both_ways(site: &Site, client: &str, server: &str) {
    for we_are_the_client in [true, false] {
        let pair = Pair::new("cert").unwrap();
        let (left, right) = if we_are_the_client { (ours(), stock()) } else { (stock(), ours()) };
        let (mut left, right) = start(site, &pair, (&left, client), (&right, server));
        let up = left.wait_for_text(UP, LIMIT);
        assert!(up.is_ok(), "{client}{server}\n{}\n{}", left.stdout(), right.stdout());
        pair.left.run("ping", &["-c", "1", "-w", "10", "10.77.0.1"]).unwrap();
    }
}

/// Starts a server at the right and a client at the left.
fn start(
    site: &Site,
    pair: &Pair,
    (left, client): (&Program, &str),
    (right, server): (&Program, &str),
) -> (Running, Running) {
    let server = format!(
        "dev tun\ndisable-dco\nproto udp4\ntopology subnet\nserver 10.77.0.0 255.255.255.0\ndh none\nkeepalive 20 60\n\
         verb 3\n{server}"
    );
    let client =
        format!("client\ndev tun\ndisable-dco\nremote 10.10.1.2 1194 udp4\nnobind\nverb 3\n{client}");
    let mut right = site.start(right, &pair.right, "server.conf", &server).unwrap();
    right.wait_for_text(UP, LIMIT).unwrap();
    (site.start(left, &pair.left, "client.conf", &client).unwrap(), right)
}

fn made_by_easy_rsa(algorithm: &[(&str, &str)]) {
    let site = Site::new("easyrsa").unwrap();
    let run = |words: &[&str]| easy_rsa(site.path(), algorithm, words);
    run(&["init-pki"]);
    run(&["build-ca", "nopass"]);
    run(&["build-server-full", "gate", "nopass"]);
    run(&["build-client-full", "alice", "nopass"]);
    let files =
        |name: &str| format!("ca pki/ca.crt\ncert pki/issued/{name}.crt\nkey pki/private/{name}.key\n");
    both_ways(
        &site,
        &(files("alice") + "remote-cert-tls server\nverify-x509-name gate name\n"),
        &(files("gate") + "remote-cert-tls client\n"),
    );
}

#[test]
fn easy_rsa_with_rsa_keys() {
    made_by_easy_rsa(&[("EASYRSA_ALGO", "rsa"), ("EASYRSA_KEY_SIZE", "2048")]);
}

#[test]
fn easy_rsa_with_ec_keys() {
    made_by_easy_rsa(&[("EASYRSA_ALGO", "ec"), ("EASYRSA_CURVE", "secp384r1")]);
}

#[test]
fn easy_rsa_with_ed25519_keys() {
    made_by_easy_rsa(&[("EASYRSA_ALGO", "ed"), ("EASYRSA_CURVE", "ed25519")]);
}

#[test]
fn encrypted_keys_and_pkcs12() {
    let site = Site::new("enc").unwrap();
    for name in ["client1", "server"] {
        openssl(
            site.path(),
            &format!(
                "pkcs8 -topk8 -v2 aes-256-cbc -in {name}.key -out {name}-enc.key -passout pass:wonderland"
            ),
        );
        openssl(
            site.path(),
            &format!(
                "pkcs12 -export -in {name}.crt -inkey {name}.key -certfile ca.crt -out {name}.p12 -passout pass:wonderland"
            ),
        );
    }
    site.write("pass.txt", "wonderland\n").unwrap();
    let encrypted =
        |name: &str| format!("ca ca.crt\ncert {name}.crt\nkey {name}-enc.key\naskpass pass.txt\n");
    both_ways(&site, &encrypted("client1"), &encrypted("server"));
    let packed = |name: &str| format!("pkcs12 {name}.p12\naskpass pass.txt\n");
    both_ways(&site, &packed("client1"), &packed("server"));
}

#[test]
fn authorities_in_between() {
    let site = Site::new("chain").unwrap();
    let dir = site.path();
    site.write("ca.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n")
        .unwrap();
    openssl(
        dir,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.crt -days 9 -subj /CN=root",
    );
    let sign = |name: &str, issuer: &str, extensions: &str| {
        openssl(
            dir,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ),
        );
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial -days 8 -extfile {extensions} -out {name}.crt"
            ),
        );
    };
    site.write("s.ext", "keyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n").unwrap();
    site.write("c.ext", "keyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n").unwrap();
    sign("middle", "root", "ca.ext");
    sign("gate", "middle", "s.ext");
    sign("alice", "middle", "c.ext");
    for name in ["gate", "alice"] {
        let both = site.read(&format!("{name}.crt")) + &site.read("middle.crt");
        site.write(&format!("{name}-chain.crt"), both).unwrap();
    }
    // Both ends know the root alone; the one in between comes with the certificate.
    let files = |name: &str| format!("ca root.crt\ncert {name}-chain.crt\nkey {name}.key\n");
    both_ways(&site, &(files("alice") + "remote-cert-tls server\n"), &files("gate"));
    // With extra-certs.
    let files =
        |name: &str| format!("ca root.crt\ncert {name}.crt\nkey {name}.key\nextra-certs middle.crt\n");
    both_ways(&site, &files("alice"), &files("gate"));
}

#[test]
fn fingerprints_without_an_authority() {
    let site = Site::new("print").unwrap();
    let make = |name: &str| {
        let words = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.crt -days 9 -subj /CN={name}"
        );
        openssl(site.path(), &words);
        let print = openssl(site.path(), &format!("x509 -in {name}.crt -noout -fingerprint -sha256"));
        print.trim().split_once('=').unwrap().1.to_owned()
    };
    let (gate, alice, _) = (make("gate"), make("alice"), make("mallory"));
    let files =
        |name: &str, print: &str| format!("cert {name}.crt\nkey {name}.key\npeer-fingerprint {print}\n");
    both_ways(&site, &files("alice", &gate), &files("gate", &alice));
    // Another certificate is refused, and our server says so.
    let pair = Pair::new("print").unwrap();
    let (_mallory, mut server) =
        start(&site, &pair, (&stock(), &files("mallory", &gate)), (&ours(), &files("gate", &alice)));
    server.wait_for_text("peer-fingerprint", LIMIT).unwrap();
    assert!(!server.stdout().contains("Peer Connection Initiated"), "{}", server.stdout());
}

/// What our program says, started with these lines as a client; it must end with code 1.
fn refusal(site: &Site, lines: &str) -> String {
    let pair = Pair::new("refuse").unwrap();
    let config = format!("client\ndev tun\nremote 10.10.1.2 1194 udp4\nnobind\n{lines}");
    let mut client = site.start(&ours(), &pair.left, "client.conf", &config).unwrap();
    let code = client.wait(LIMIT).unwrap().code();
    let said = client.stdout() + &client.stderr();
    assert_eq!(code, Some(1), "{said}");
    said
}

#[test]
fn what_cannot_be_used_is_refused_with_the_remedy() {
    let site = Site::new("weak").unwrap();
    openssl(
        site.path(),
        "req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out weak.crt -days 9 -subj /CN=weak",
    );
    openssl(site.path(), "dsaparam -genkey -out dsa.key 2048");
    openssl(site.path(), "req -x509 -new -key dsa.key -out dsa.crt -days 9 -subj /CN=dsa");
    for (lines, wanted) in [
        ("ca ca.crt\ncert weak.crt\nkey weak.key\n", "2048"),
        ("ca ca.crt\ncert dsa.crt\nkey dsa.key\n", "RSA"),
        ("ca ca.crt\ncert client1.crt\nkey server.key\n", "does not belong"),
        ("ca ca.crt\nkey client1.key\ncert missing.crt\n", "missing.crt"),
    ] {
        let said = refusal(&site, lines);
        assert!(said.contains(wanted), "{wanted:?} is not in what {lines:?} leads to:\n{said}");
    }
}
