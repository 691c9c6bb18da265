//! The examples run: the client against stock OpenVPN as server, the driver with itself.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{Output, Pair, Pki, Role, Running, StockOpenvpn, TempDir, run};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_client_connects_to_stock_openvpn() {
    let dir = TempDir::new("example").unwrap();
    Pki::new().unwrap().write(&dir, &[("server", Role::Server), ("client", Role::Client)]).unwrap();
    let stock = StockOpenvpn::any().unwrap();
    let genkey = |words: &[&str]| {
        let mut command = Command::new(&stock.path);
        run(command.current_dir(dir.path()).args(words), LIMIT).and_then(Output::success).unwrap();
    };
    genkey(&["--genkey", "tls-crypt-v2-server", "v2.key"]);
    genkey(&["--tls-crypt-v2", "v2.key", "--genkey", "tls-crypt-v2-client", "v2-client.key"]);
    dir.write(
        "server.conf",
        "dev tun\ntopology subnet\nserver 10.77.0.0 255.255.255.0\nca ca.crt\ncert server.crt\nkey server.key\ndh none\n\
         tls-crypt-v2 v2.key\nkeepalive 5 20\nverb 3\n",
    )
    .unwrap();
    let block = |tag: &str, file: &str| {
        let text = std::fs::read_to_string(dir.path().join(file)).unwrap();
        format!("<{tag}>\n{}\n</{tag}>\n", text.trim_end())
    };
    let profile = format!(
        "client\ndev tun\nremote 10.10.1.1 1194\nnobind\n{}{}{}{}",
        block("ca", "ca.crt"),
        block("cert", "client.crt"),
        block("key", "client.key"),
        block("tls-crypt-v2", "v2-client.key")
    );
    let profile = dir.write("client.ovpn", profile).unwrap();
    let pair = Pair::new("example").unwrap();
    let mut server = stock.start(&pair.left, dir.path(), &["--config", "server.conf"]).unwrap();
    server.wait_for_text("Initialization Sequence Completed", LIMIT).unwrap();
    let mut client =
        Running::start(pair.right.command(Path::new(env!("CARGO_BIN_EXE_client"))).arg(&profile)).unwrap();
    client.wait_for_text("connected to 10.10.1.1:1194, AES-256-GCM", LIMIT).unwrap();
    pair.right.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", "10.77.0.1"]).unwrap();
}

#[test]
fn a_driver_of_ones_own_counts() {
    let text =
        run(&mut Command::new(env!("CARGO_BIN_EXE_custom_driver")), LIMIT).and_then(Output::success).unwrap();
    assert!(text.contains("control packet of 17 bytes"), "{text}");
    assert!(text.contains("peer 7: 1 data packets, 8 bytes"), "{text}");
}
