//! Peers that compress: half of the files in the field carry `comp-lzo` or `compress`. Stock 2.6.14 with
//! `allow-compression yes` really compresses here; we understand it, and never compress ourselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use ovpn_testkit::{Netns, Pair, Program, Running, Site, StockOpenvpn, TempDir, UP, transfer_text};

const LIMIT: Duration = Duration::from_secs(60);
const BYTES: u64 = 4 << 20;
/// As such files are: no `data-ciphers`, no `topology`.
const OLD: &str = "dev tun\nca ca.crt\ncipher AES-256-CBC\nkeepalive 20 60\nverb 3\nproto udp4\n";

struct Tunnel {
    pair: Pair,
    left: Running,
    right: Running,
}

fn stock(version: &str) -> Program {
    StockOpenvpn::release(version).unwrap().into()
}

/// A client at the left, a server at the right; one of them is `stock`.
fn tunnel(stock: &Program, we_are_the_client: bool, client: &str, server: &str) -> Tunnel {
    let pair = Pair::new("comp").unwrap();
    let site = Site::new("comp").unwrap();
    let ours = Program::ours(env!("CARGO_BIN_EXE_ovpn"));
    let (at_left, at_right) = if we_are_the_client { (&ours, stock) } else { (stock, &ours) };
    let only_stock = |is_ours: bool| match (is_ours, stock.knows_dco()) {
        (true, _) => "",
        (false, true) => "disable-dco\nallow-compression yes\n",
        (false, false) => "allow-compression yes\n",
    };
    let server = format!(
        "{OLD}{}topology subnet\nserver 10.77.0.0 255.255.255.0\ncert server.crt\nkey server.key\ndh none\n{server}",
        only_stock(!we_are_the_client)
    );
    let client = format!(
        "{OLD}{}client\nnobind\nremote 10.10.1.2 1194\ncert client1.crt\nkey client1.key\n{client}",
        only_stock(we_are_the_client)
    );
    let mut right = site.start(at_right, &pair.right, "server.conf", &server).unwrap();
    right.wait_for_text(UP, LIMIT).unwrap();
    let mut left = site.start(at_left, &pair.left, "client.conf", &client).unwrap();
    left.wait_for_text(UP, LIMIT).unwrap();
    for (ns, to) in [(&pair.left, "10.77.0.1"), (&pair.right, "10.77.0.2")] {
        let ping = ns.run("ping", &["-c", "1", "-w", "8", to]);
        assert!(ping.is_ok(), "no ping:\n{}\n{}", left.stdout(), right.stdout());
    }
    Tunnel { pair, left, right }
}

fn received(ns: &Netns) -> u64 {
    ns.run("cat", &["/sys/class/net/veth1/statistics/rx_bytes"]).unwrap().trim().parse().unwrap()
}

/// Bytes on the wire when text goes one way.
fn on_the_wire(from: &Netns, to: &Netns, address: &str) -> u64 {
    let before = received(to);
    transfer_text(from, to, address.parse().unwrap(), BYTES, LIMIT).unwrap();
    received(to) - before
}

/// Text crosses both ways; what stock sends is compressed where `compresses` says so, what we send never is.
fn text_crosses(we_are_the_client: bool, client: &str, server: &str, compresses: bool) {
    text_crosses_with(&stock("2.6.14"), we_are_the_client, client, server, compresses);
}

/// Stock's log.
fn text_crosses_with(
    stock: &Program,
    we_are_the_client: bool,
    client: &str,
    server: &str,
    compresses: bool,
) -> String {
    let what = format!("{client}/{server}");
    let tunnel = tunnel(stock, we_are_the_client, client, server);
    let (left, right) = (&tunnel.pair.left, &tunnel.pair.right);
    let up = on_the_wire(left, right, "10.77.0.1");
    let down = on_the_wire(right, left, "10.77.0.2");
    let (from_us, from_stock) = if we_are_the_client { (up, down) } else { (down, up) };
    assert!(from_us > BYTES, "{what}: we sent {from_us} bytes for {BYTES}");
    if compresses {
        assert!(from_stock < BYTES / 2, "{what}: stock sent {from_stock} bytes for {BYTES}");
    } else {
        assert!(from_stock > BYTES, "{what}: stock sent {from_stock} bytes for {BYTES}");
    }
    let (ours, stock) =
        if we_are_the_client { (&tunnel.left, &tunnel.right) } else { (&tunnel.right, &tunnel.left) };
    for log in [ours.stdout(), stock.stdout()] {
        assert!(log.contains("AES-256-GCM"), "{what}: another data cipher:\n{log}");
    }
    stock.stdout()
}

#[test]
fn our_client_and_a_compressing_server() {
    for framing in ["comp-lzo\n", "compress lz4\n", "compress lz4-v2\n"] {
        text_crosses(true, framing, framing, true);
    }
}

#[test]
fn our_server_and_a_compressing_client() {
    for framing in ["comp-lzo\n", "compress lz4\n", "compress lz4-v2\n"] {
        text_crosses(false, framing, framing, true);
    }
}

#[test]
fn framing_without_compression() {
    for framing in ["comp-lzo no\n", "compress\n", "compress stub-v2\n"] {
        for we_are_the_client in [true, false] {
            text_crosses(we_are_the_client, framing, framing, false);
        }
    }
}

#[test]
fn a_server_that_migrates() {
    text_crosses(true, "comp-lzo\n", "compress migrate\n", false);
    text_crosses(false, "comp-lzo\n", "compress migrate\n", false);
    // Nobody frames: nothing to migrate.
    text_crosses(false, "", "compress migrate\n", false);
}

/// Clients before 2.4 know no `stub-v2`: 2.5.1, with the name of what it announces changed in the program.
fn before_stub_v2(dir: &TempDir) -> Program {
    let release = StockOpenvpn::release("2.5.1").unwrap();
    let folder = release.path.parent().unwrap();
    let mut program = std::fs::read(folder.join("usr/sbin/openvpn")).unwrap();
    let name = b"IV_COMP_STUBv2=1";
    let at = program.windows(name.len()).position(|bytes| bytes == name).unwrap();
    program[at..][..name.len()].copy_from_slice(b"IV_COMP_STUBv0=1");
    let executable = |name: &str, bytes: &[u8]| {
        let path = dir.write(name, bytes).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    };
    let changed = executable("openvpn", &program);
    let start = std::fs::read_to_string(&release.path).unwrap();
    let (before, after) = (r#"r=$(dirname "$0")"#, r#""$r/usr/sbin/openvpn""#);
    assert!(start.contains(before) && start.contains(after), "{start}");
    let start = start.replace(before, &format!("r={}", folder.display()));
    let start = start.replace(after, &changed.display().to_string());
    StockOpenvpn::at(executable("run", start.as_bytes())).unwrap().into()
}

/// What `compress migrate` pushes to a client that frames is what the client then speaks: our data plane expects it.
#[test]
fn old_clients_are_steered_to_what_they_know() {
    let dir = TempDir::new("comp-old").unwrap();
    for (client, pushed) in [(stock("2.5.1"), "compress stub-v2"), (before_stub_v2(&dir), "comp-lzo no")] {
        let log = text_crosses_with(&client, false, "comp-lzo\n", "compress migrate\n", false);
        let reply = log.lines().find(|line| line.contains("PUSH_REPLY")).unwrap_or_default();
        assert!(reply.contains(pushed), "{log}");
    }
}

#[test]
fn what_the_server_pushes_goes() {
    for pushed in ["comp-lzo yes", "compress lz4-v2"] {
        let server = format!("{pushed}\npush \"{pushed}\"\n");
        text_crosses(true, "comp-lzo\n", &server, true);
    }
}
