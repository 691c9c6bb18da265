//! Peers that send packets in pieces (`fragment N`), as stock does: both ways, in both roles.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use ovpn_testkit::{Netns, Pair, Program, Running, Site, StockOpenvpn, UP, transfer};

const LIMIT: Duration = Duration::from_secs(60);
const BYTES: u64 = 4 << 20;
/// Every packet that a namespace sends into the cable is lost with a chance of one in fifty.
const LOSS: &str = "add table inet lossy; \
    add chain inet lossy out { type filter hook output priority 0; }; \
    add rule inet lossy out oifname veth1 numgen random mod 50 < 1 drop";

struct Tunnel {
    pair: Pair,
    left: Running,
    right: Running,
}

/// A client and a server, or two equal peers.
#[derive(Clone, Copy)]
enum Form {
    Server,
    Peers,
}

/// TLS client at the left, TLS server at the right, one of them stock, both with `options`.
fn tunnel(we_are_the_client: bool, options: &str) -> Tunnel {
    tunnel_with("2.6.14", Form::Server, we_are_the_client, options)
}

fn tunnel_with(release: &str, form: Form, we_are_the_client: bool, options: &str) -> Tunnel {
    let pair = Pair::new("frag").unwrap();
    let site = Site::new("frag").unwrap();
    let ours = Program::ours(env!("CARGO_BIN_EXE_ovpn"));
    let stock: Program = StockOpenvpn::release(release).unwrap().into();
    let (at_left, at_right) = if we_are_the_client { (&ours, &stock) } else { (&stock, &ours) };
    let common = format!("dev tun\nca ca.crt\nkeepalive 1 30\nproto udp4\nverb 3\n{options}");
    let (client, server) = match form {
        Form::Server => ("client\n", "topology subnet\nserver 10.78.0.0 255.255.255.0\n"),
        Form::Peers => {
            ("tls-client\nifconfig 10.78.0.2 10.78.0.1\n", "tls-server\nifconfig 10.78.0.1 10.78.0.2\n")
        }
    };
    let server = format!("{common}{server}cert server.crt\nkey server.key\ndh none\n");
    let client = format!(
        "{common}{client}nobind\nremote 10.10.1.2 1194\nremote-cert-tls server\ncert client1.crt\nkey client1.key\n"
    );
    let mut right = site.start(at_right, &pair.right, "server.conf", &server).unwrap();
    if matches!(form, Form::Server) {
        right.wait_for_text(UP, LIMIT).unwrap();
    }
    let mut left = site.start(at_left, &pair.left, "client.conf", &client).unwrap();
    left.wait_for_text(UP, LIMIT).unwrap();
    right.wait_for_text(UP, LIMIT).unwrap();
    Tunnel { pair, left, right }
}

impl Tunnel {
    fn logs(&self) -> String {
        format!("{}\n{}", self.left.stdout(), self.right.stdout())
    }

    /// From now on larger datagrams would be cut by IP, and counted.
    fn narrow(&self, mtu: u16) {
        for ns in [&self.pair.left, &self.pair.right] {
            ns.run("ip", &["link", "set", "veth1", "mtu", &mtu.to_string()]).unwrap();
        }
    }

    fn ends(&self) -> [(&Netns, &Netns, &str); 2] {
        let Pair { left, right, .. } = &self.pair;
        [(left, right, "10.78.0.1"), (right, left, "10.78.0.2")]
    }

    /// Packets of all sizes, one piece and several, both ways.
    fn pings(&self) {
        for (from, _, to) in self.ends() {
            for size in ["56", "1115", "1116", "1117", "1118", "1119", "1120", "1144", "1145", "1400", "1472"]
            {
                let ping =
                    from.run("ping", &["-c", "2", "-i", "0.02", "-w", "5", "-M", "do", "-s", size, to]);
                assert!(ping.is_ok(), "no ping of {size} bytes: {ping:?}\n{}", self.logs());
            }
        }
    }

    fn transfers(&self, bytes: u64) {
        for (from, to, address) in self.ends() {
            let took = transfer(from, to, address.parse().unwrap(), bytes, LIMIT);
            assert!(took.is_ok(), "{took:?}\n{}", self.logs());
        }
    }

    /// Stock found nothing wrong with the headers.
    fn agrees(&self) {
        let logs = self.logs();
        assert!(!logs.contains("FRAG_IN error"), "{logs}");
    }
}

/// IP fragments made in a namespace so far.
fn ip_fragments(ns: &Netns) -> u64 {
    let snmp = ns.run("cat", &["/proc/net/snmp"]).unwrap();
    let mut rows = snmp.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let place = names.split(' ').position(|name| name == "FragCreates").unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

/// With `options`, no datagram's UDP payload is larger than `largest`. Returns the logs with us as client and as server.
fn crosses(release: &str, form: Form, options: &str, largest: u16) -> [String; 2] {
    [true, false].map(|we_are_the_client| {
        let tunnel = tunnel_with(release, form, we_are_the_client, options);
        let outside = || [&tunnel.pair.left, &tunnel.pair.right].map(ip_fragments);
        tunnel.narrow(largest + 28);
        let before = outside();
        tunnel.transfers(BYTES);
        tunnel.pings();
        assert_eq!(outside(), before, "{options} cut outside as well\n{}", tunnel.logs());
        tunnel.agrees();
        tunnel.logs()
    })
}

#[test]
fn packets_cross_in_pieces_none_of_which_is_too_large() {
    crosses("2.6.14", Form::Server, "fragment 1200\n", 1200);
    crosses("2.6.14", Form::Server, "fragment 1200 mtu\nmssfix 0\n", 1172);
}

#[test]
fn equal_peers_fragment() {
    crosses("2.6.14", Form::Peers, "fragment 1200\n", 1200);
}

/// Four bytes more around every piece: 2.7 speaks the epoch format with us.
#[test]
fn pieces_of_the_epoch_format_are_smaller() {
    for logs in crosses("2.7.8", Form::Server, "fragment 1200\nmssfix 0\n", 1200) {
        assert!(logs.contains("aead-epoch"), "{logs}");
    }
}

#[test]
fn compressing_peers_fragment_as_well() {
    let tunnel = tunnel(true, "fragment 600\ncomp-lzo no\nmssfix 0\n");
    tunnel.pings();
    tunnel.transfers(BYTES);
    tunnel.agrees();
}

#[test]
fn lost_pieces_cost_no_more_than_their_packets() {
    for we_are_the_client in [true, false] {
        let tunnel = tunnel(we_are_the_client, "fragment 500\nmssfix 0\n");
        for ns in [&tunnel.pair.left, &tunnel.pair.right] {
            ns.run("nft", &[LOSS]).unwrap();
        }
        tunnel.transfers(512 << 10);
        tunnel.agrees();
    }
}

#[test]
fn stock_sees_its_own_settings_in_ours() {
    for we_are_the_client in [true, false] {
        // It tells of differences only to whom it tells everything.
        let tunnel = tunnel(we_are_the_client, "fragment 1200\nverb 7\n");
        tunnel.pings();
        // For keepalives to come and go, with their headers.
        std::thread::sleep(Duration::from_millis(2500));
        tunnel.agrees();
        let logs = tunnel.logs();
        assert!(logs.contains("mtu-dynamic") && logs.contains("RECEIVED PING PACKET"), "{logs}");
        for difference in ["is used inconsistently", "is present in"] {
            assert!(!logs.contains(difference), "{difference}:\n{logs}");
        }
    }
}
