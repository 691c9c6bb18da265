//! The private key stays with a program at the management interface, which signs each handshake.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ovpn_testkit::{Pair, TempDir, wait_for};

use crate::scene::{CLIENT, LIMIT, UP, folder, ours, ping, stock_server, wait_for_count};

fn openssl(dir: &Path, words: &str) -> Vec<u8> {
    let output = Command::new("openssl").current_dir(dir).args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A program that holds the key: answers questions for a certificate and for signatures, and tells which it was asked.
fn program(stream: UnixStream, dir: &Path, key: &'static str) -> std::thread::JoinHandle<Vec<String>> {
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        let mut writer = stream.try_clone().unwrap();
        writer.write_all(b"version 5\nhold release\n").unwrap();
        let mut asked = Vec::new();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(hint) = line.strip_prefix(">NEED-CERTIFICATE:") {
                let pem = std::fs::read_to_string(dir.join("client.crt")).unwrap();
                writer.write_all(format!("certificate\n{pem}END\n").as_bytes()).unwrap();
                asked.push(format!("certificate {hint}"));
            } else if let Some((data, algorithm)) =
                line.strip_prefix(">PK_SIGN:").and_then(|q| q.split_once(','))
            {
                std::fs::write(dir.join("data.b64"), format!("{data}\n")).unwrap();
                std::fs::write(dir.join("data"), openssl(&dir, "base64 -d -A -in data.b64")).unwrap();
                let more = match algorithm.split_once(',') {
                    Some((_, rest)) => {
                        let hash = rest.trim_start_matches("hashalg=").split(',').next().unwrap().to_owned();
                        format!(
                            " -pkeyopt digest:{hash} -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:digest"
                        )
                    }
                    None => String::new(),
                };
                let words = format!("pkeyutl -sign -inkey {key} -in data{more}");
                std::fs::write(dir.join("sig"), openssl(&dir, &words)).unwrap();
                let text = String::from_utf8(openssl(&dir, "base64 -in sig")).unwrap();
                writer.write_all(format!("pk-sig\n{text}END\n").as_bytes()).unwrap();
                asked.push(algorithm.to_owned());
            }
        }
        asked
    })
}

fn config(dir: &TempDir, more: &str) {
    let mut plain = CLIENT.replace("key client.key\n", "");
    if more.contains("external-cert") {
        plain = plain.replace("cert client.crt\n", "");
    }
    let management = "management mgmt unix\nmanagement-hold\nremote 10.10.1.2 1194 udp4\n";
    dir.write("client.conf", format!("{plain}{management}{more}")).unwrap();
}

/// Comes up and renegotiates once; what the program was asked.
fn signs(label: &str, key: &'static str, server: &str, more: &str, make: impl Fn(&TempDir)) -> Vec<String> {
    let dir = folder(label);
    make(&dir);
    let pair = Pair::new(label).unwrap();
    let _server = stock_server(&pair.right, &dir, &format!("proto udp4\n{server}"));
    config(&dir, more);
    let mut client = ours(&pair.left, &dir, &["--config", "client.conf"]);
    let path = dir.path().join("mgmt");
    let stream = wait_for("the management socket", LIMIT, || UnixStream::connect(&path).ok()).unwrap();
    let program = program(stream, dir.path(), key);
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.left, "10.77.0.1");
    wait_for_count(&client, "Control Channel: TLS", 2);
    ping(&pair.left, "10.77.0.1");
    client.signal(15).unwrap();
    assert!(client.wait(LIMIT).unwrap().success(), "{}", client.stdout());
    program.join().unwrap()
}

#[test]
fn an_elliptic_key_and_its_certificate_are_elsewhere() {
    let more = "management-external-key\nmanagement-external-cert token\nreneg-sec 3\n";
    let asked = signs("ek-ec", "client.key", "", more, |_| ());
    assert_eq!(asked.first().map(String::as_str), Some("certificate token"));
    let signed = asked.get(1..).unwrap();
    assert!(signed.len() >= 2 && signed.iter().all(|algorithm| algorithm == "ECDSA"), "{asked:?}");
}

/// A self-signed RSA certificate, which the server trusts beside its authority.
fn rsa(dir: &TempDir) {
    openssl(
        dir.path(),
        "req -x509 -newkey rsa:2048 -nodes -keyout rsa.key -out client.crt -subj /CN=client -days 2",
    );
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    dir.write("both.crt", read("ca.crt") + &read("client.crt")).unwrap();
}

#[test]
fn an_rsa_key_with_either_padding() {
    let asked =
        signs("ek-pss", "rsa.key", "ca both.crt\n", "management-external-key pss\nreneg-sec 3\n", rsa);
    assert!(
        asked.len() >= 2 && asked.iter().all(|a| a.starts_with("RSA_PKCS1_PSS_PADDING,hashalg=SHA")),
        "{asked:?}"
    );
    let asked = signs("ek-pkcs1", "rsa.key", "ca both.crt\n", "management-external-key\nreneg-sec 3\n", rsa);
    assert!(asked.len() >= 2 && asked.iter().all(|algorithm| algorithm == "RSA_PKCS1_PADDING"), "{asked:?}");
}

#[test]
fn nobody_signs() {
    let label = "ek-none";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let _server = stock_server(&pair.right, &dir, "proto udp4\n");
    config(&dir, "management-external-key\nhand-window 4\nconnect-retry-max 1\n");
    let mut client = ours(&pair.left, &dir, &["--config", "client.conf"]);
    let path = dir.path().join("mgmt");
    let mut stream = wait_for("the management socket", LIMIT, || UnixStream::connect(&path).ok()).unwrap();
    stream.write_all(b"hold off\nhold release\n").unwrap();
    client.wait_for_text("has signed within 4 s (pk-sig): look at the program", LIMIT).unwrap();
    assert!(!client.wait(LIMIT).unwrap().success());

    // A signal is heard meanwhile.
    config(&dir, "management-external-key\nhand-window 600\n");
    let mut client = ours(&pair.left, &dir, &["--config", "client.conf"]);
    let stream = wait_for("the management socket", LIMIT, || UnixStream::connect(&path).ok()).unwrap();
    (&stream).write_all(b"version 3\nhold release\n").unwrap();
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with(">PK_SIGN:") && line.ends_with(",ECDSA")));
    let asked = Instant::now();
    client.signal(15).unwrap();
    assert!(client.wait(LIMIT).unwrap().success(), "{}", client.stdout());
    assert!(asked.elapsed() < Duration::from_secs(10));
}
