//! Certificates and keys in all their forms; OpenSSL's program makes them, stock OpenVPN judges.

use std::process::Command;

use ovpn_testkit::{Pair, TempDir};

use crate::scene::{LIMIT, UP, folder, ours, ping, stock_server};

fn openssl(dir: &TempDir, words: &str) {
    let output =
        Command::new("openssl").current_dir(dir.path()).args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "openssl {words}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Starts our client with these options; there are none by default.
fn run(pair: &Pair, dir: &TempDir, options: &str) -> ovpn_testkit::Running {
    let common = "client\ndev tun\nnobind\nremote 10.10.1.2 1194 udp4\nverb 3\nconnect-retry-max 1\n";
    dir.write("client.conf", format!("{common}{options}")).unwrap();
    ours(&pair.left, dir, &["--config", "client.conf"])
}

fn up(pair: &Pair, dir: &TempDir, options: &str) {
    let mut client = run(pair, dir, options);
    client.wait_for_text(UP, LIMIT).unwrap();
    ping(&pair.left, "10.77.0.1");
    client.signal(15).unwrap();
    assert!(client.wait(LIMIT).unwrap().success());
}

/// Ends with code 1 and this sentence.
fn refused(pair: &Pair, dir: &TempDir, options: &str, sentence: &str) {
    let mut client = run(pair, dir, options);
    let code = client.wait(LIMIT).unwrap().code();
    let text = client.stdout();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(sentence), "{text}");
}

#[test]
fn pkcs12_with_and_without_a_password_old_and_new() {
    let label = "key-p12";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let _server = stock_server(&pair.right, &dir, "proto udp4\nremote-cert-tls client\n");
    let export = "pkcs12 -export -inkey client.key -in client.crt -certfile ca.crt";
    openssl(&dir, &format!("{export} -out new.p12 -passout pass:secret"));
    openssl(&dir, &format!("{export} -out open.p12 -passout pass:"));
    openssl(&dir, &format!("{export} -legacy -out old.p12 -passout pass:secret"));
    dir.write("password", "secret\n").unwrap();
    dir.write("wrong", "guess\n").unwrap();
    // The CA comes along.
    up(&pair, &dir, "pkcs12 new.p12\naskpass password\nremote-cert-tls server\n");
    up(&pair, &dir, "pkcs12 open.p12\n");
    up(&pair, &dir, "pkcs12 old.p12\naskpass password\nca ca.crt\n");
    openssl(&dir, "base64 -in new.p12 -out new.b64");
    let inline = std::fs::read_to_string(dir.path().join("new.b64")).unwrap();
    up(&pair, &dir, &format!("<pkcs12>\n{inline}</pkcs12>\naskpass password\n"));
    refused(&pair, &dir, "pkcs12 new.p12\naskpass wrong\n", "password of the PKCS#12 file is wrong");
    refused(&pair, &dir, "pkcs12 ca.crt\n", "not a readable PKCS#12 file");
}

#[test]
fn encrypted_keys() {
    let label = "key-enc";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let _server = stock_server(&pair.right, &dir, "proto udp4\n");
    openssl(&dir, "pkcs8 -topk8 -v2 aes-256-cbc -in client.key -out enc.key -passout pass:secret");
    openssl(&dir, "pkcs8 -topk8 -v1 PBE-SHA1-3DES -in client.key -out old.key -passout pass:secret");
    dir.write("password", "secret\n").unwrap();
    dir.write("wrong", "guess\n").unwrap();
    let with =
        |key: &str, password: &str| format!("ca ca.crt\ncert client.crt\nkey {key}\naskpass {password}\n");
    up(&pair, &dir, &with("enc.key", "password"));
    refused(&pair, &dir, &with("enc.key", "wrong"), "the password is wrong");
    refused(&pair, &dir, &with("old.key", "password"), "openssl pkcs8 -topk8 -v2 aes-256-cbc");
}

/// A server whose certificate is signed with SHA-1.
#[test]
fn weak_signatures_need_the_insecure_profile() {
    let label = "key-sha1";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    openssl(
        &dir,
        "req -x509 -newkey rsa:2048 -nodes -sha256 -keyout weak-ca.key -out weak-ca.crt -subj /CN=weak -days 2",
    );
    openssl(&dir, "req -new -newkey rsa:2048 -nodes -keyout weak.key -out weak.csr -subj /CN=server");
    dir.write("extensions", "extendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n").unwrap();
    openssl(
        &dir,
        "x509 -req -sha1 -in weak.csr -CA weak-ca.crt -CAkey weak-ca.key -set_serial 7 -days 2 -out weak.crt -extfile extensions",
    );
    let _server = stock_server(
        &pair.right,
        &dir,
        "proto udp4\ntls-cert-profile insecure\ncert weak.crt\nkey weak.key\n",
    );
    let options = "ca weak-ca.crt\ncert client.crt\nkey client.key\n";
    refused(&pair, &dir, options, "`tls-cert-profile insecure`");
    up(&pair, &dir, &format!("{options}tls-cert-profile insecure\n"));
    refused(&pair, &dir, &format!("{options}tls-cert-profile suiteb\n"), "key on P-256 or P-384");
}

/// `crl-verify DIR dir`: a file named after the serial number revokes.
#[test]
fn a_folder_of_revoked_serial_numbers() {
    let label = "key-crldir";
    let dir = folder(label);
    let pair = Pair::new(label).unwrap();
    let _server = stock_server(&pair.right, &dir, "proto udp4\n");
    let revoked = dir.path().join("revoked");
    std::fs::create_dir(&revoked).unwrap();
    std::fs::write(revoked.join("1"), "").unwrap();
    let options = "ca ca.crt\ncert client.crt\nkey client.key\ncrl-verify revoked dir\n";
    up(&pair, &dir, options);
    let output = Command::new("openssl")
        .current_dir(dir.path())
        .args(["x509", "-in", "server.crt", "-noout", "-text"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let after = text.split("Serial Number:").nth(1).unwrap().trim_start();
    let first = after.split_whitespace().next().unwrap();
    let serial = if first.contains(':') {
        let hex: String = first.chars().filter(|c| *c != ':').collect();
        decimal(&hex)
    } else {
        first.to_owned()
    };
    std::fs::write(revoked.join(serial), "").unwrap();
    refused(&pair, &dir, options, "stands in the folder of `crl-verify`");
}

fn decimal(hex: &str) -> String {
    let mut digits = vec![0u32];
    for digit in hex.chars() {
        let mut carry = digit.to_digit(16).unwrap();
        for place in &mut digits {
            let value = *place * 16 + carry;
            *place = value % 10;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(carry % 10);
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from_digit(*digit, 10).unwrap()).collect()
}
