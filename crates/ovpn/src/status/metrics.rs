//! The snapshot as Prometheus reads it (text exposition format 0.0.4), by that ecosystem's naming: base units,
//! `_total` for counters, `_info` for texts.

use std::fmt::Write as _;

use super::snapshot::{Peer, Snapshot, Traffic};

/// The `Content-Type` of [`render`]'s text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names of one direction's counters, and where to find them.
type Direction = (&'static str, &'static str, fn(&Traffic) -> u64);

const DIRECTIONS: [Direction; 4] = [
    ("receive_bytes_total", "Bytes of inner packets from", |t| t.rx_bytes),
    ("transmit_bytes_total", "Bytes of inner packets to", |t| t.tx_bytes),
    ("receive_packets_total", "Inner packets from", |t| t.rx_packets),
    ("transmit_packets_total", "Inner packets to", |t| t.tx_packets),
];

/// The whole text.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut out = Text::default();
    out.family("ovpn_build_info", "gauge", "Version and mode of the program; always 1.");
    out.sample("ovpn_build_info", &[("version", &snapshot.program), ("mode", &snapshot.mode)], 1);
    out.family("ovpn_start_time_seconds", "gauge", "When the process started, in seconds since 1970.");
    out.plain("ovpn_start_time_seconds", snapshot.started);
    out.family("ovpn_connected", "gauge", "1 while the tunnel is up (a server: while it serves), else 0.");
    out.plain("ovpn_connected", u8::from(snapshot.state == "connected"));
    out.family("ovpn_state_info", "gauge", "The tunnel's state by name; always 1.");
    out.sample("ovpn_state_info", &[("state", &snapshot.state)], 1);
    if let Some(plane) = &snapshot.data_plane {
        let reason = plane.reasons.first().map_or("", String::as_str);
        let labels = [
            ("driver", plane.driver.as_str()),
            ("version", &plane.version),
            ("device", &plane.device),
            ("reason", reason),
        ];
        out.family("ovpn_data_plane_info", "gauge", "What carries the data, and why; always 1.");
        out.sample("ovpn_data_plane_info", &labels, 1);
    }
    let handshakes = &snapshot.handshakes;
    for (name, help, value) in [
        ("started", "Connections begun.", handshakes.started),
        ("completed", "Connections that got their first key.", handshakes.completed),
        ("failed", "Connections that ended before they were up.", handshakes.failed),
    ] {
        let name = format!("ovpn_handshakes_{name}_total");
        out.family(&name, "counter", help);
        out.plain(&name, value);
    }
    out.family("ovpn_rekeys_total", "counter", "Further keys of standing connections.");
    out.plain("ovpn_rekeys_total", handshakes.rekeys);
    for (name, help, value) in DIRECTIONS {
        let name = format!("ovpn_device_{name}");
        out.family(&name, "counter", &format!("{help} all peers, since the device was made."));
        out.plain(&name, value(&snapshot.traffic));
    }
    if !snapshot.drops.is_empty() {
        out.family("ovpn_dropped_packets_total", "counter", "Packets that the data plane dropped.");
        for drop in &snapshot.drops {
            out.sample("ovpn_dropped_packets_total", &[("reason", &drop.reason)], drop.packets);
        }
    }
    out.family("ovpn_peers", "gauge", "Peers with a key.");
    out.plain("ovpn_peers", snapshot.peers.iter().filter(|peer| peer.cipher.is_some()).count());
    peers(&mut out, &snapshot.peers);
    out.0
}

fn peers(out: &mut Text, peers: &[Peer]) {
    let up: Vec<(&Peer, [String; 2])> = peers
        .iter()
        .filter_map(|peer| {
            let id = peer.peer_id?.to_string();
            Some((peer, [peer.name.clone().unwrap_or_default(), id]))
        })
        .collect();
    if up.is_empty() {
        return;
    }
    let labels = |own: &[String; 2]| [("peer", own[0].clone()), ("peer_id", own[1].clone())];
    out.family("ovpn_peer_info", "gauge", "Address, cipher and data format of a peer; always 1.");
    for (peer, own) in &up {
        let address = peer.address.map(|address| address.to_string()).unwrap_or_default();
        let [name, id] = labels(own);
        let texts = [
            name,
            id,
            ("address", address),
            ("cipher", peer.cipher.clone().unwrap_or_default()),
            ("format", peer.data_format.clone().unwrap_or_default()),
        ];
        out.sample("ovpn_peer_info", &texts, 1);
    }
    out.family(
        "ovpn_peer_connected_since_seconds",
        "gauge",
        "Since when a peer is connected, in seconds since 1970.",
    );
    for (peer, own) in &up {
        if let Some(since) = peer.connected_since {
            out.sample("ovpn_peer_connected_since_seconds", &labels(own), since);
        }
    }
    out.family("ovpn_peer_key_age_seconds", "gauge", "Age of the key that packets to a peer are sent with.");
    for (peer, own) in &up {
        if let Some(age) = peer.key_age {
            out.sample("ovpn_peer_key_age_seconds", &labels(own), age);
        }
    }
    for (name, help, value) in DIRECTIONS {
        let name = format!("ovpn_peer_{name}");
        out.family(&name, "counter", &format!("{help} one peer, since it connected."));
        for (peer, own) in &up {
            out.sample(&name, &labels(own), value(&peer.traffic));
        }
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        self.sample(name, &[] as &[(&str, &str)], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, impl AsRef<str>)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for c in text.as_ref().chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::sample;

    #[test]
    fn a_name_cannot_forge_a_sample() {
        let mut snapshot = sample();
        snapshot.peers[0].name = Some("a\"} 1\novpn_connected 0\\".to_owned());
        let text = render(&snapshot);
        assert!(text.contains(r#"peer="a\"} 1\novpn_connected 0\\",peer_id="0""#), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("ovpn_connected ")).count(), 1);
    }

    #[test]
    fn every_sample_has_help_and_type_before_it() {
        let text = render(&sample());
        let mut seen = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(seen.insert(rest.split(' ').next().unwrap().to_owned()), "{line} twice");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(seen.contains(name), "{line}");
            }
        }
        assert!(text.contains("ovpn_peers 1\n"), "{text}");
        assert!(text.contains("ovpn_dropped_packets_total{reason=\"replayed\"} 12\n"), "{text}");
        assert!(text.ends_with('\n'));
    }
}
