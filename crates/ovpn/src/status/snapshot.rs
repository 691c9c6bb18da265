//! The snapshot: all that `ovpn status` and the metrics show. Its JSON form is described in `docs/operations.md`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The form's name and version; the number grows when a field changes its meaning or goes, not when one is added.
pub(crate) const SCHEMA: &str = "ovpn-status/1";

/// One moment of a running tunnel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// The program's version.
    pub(crate) program: String,
    /// The tunnel's name: the configuration file's without its ending.
    pub(crate) name: String,
    /// `client`, `server` or `p2p`.
    pub(crate) mode: String,
    /// Its process.
    pub(crate) pid: u32,
    /// When this was seen, seconds since 1970.
    pub(crate) time: f64,
    /// When the process started, seconds since 1970.
    pub(crate) started: u64,
    /// `connecting`, `resolve`, `tcp_connect`, `wait`, `auth`, `auth_pending`, `get_config`, `assign_ip`,
    /// `add_routes`, `connected`, `reconnecting`, `exiting`; a server is `connected` while it serves.
    pub(crate) state: String,
    /// Since when, seconds since 1970.
    pub(crate) state_since: u64,
    /// What carries the data; none while there is no device.
    pub(crate) data_plane: Option<Plane>,
    /// Handshakes since the process started.
    pub(crate) handshakes: Handshakes,
    /// What went through the device since it was made.
    pub(crate) traffic: Traffic,
    /// Packets that the data plane dropped, by reason; reasons that never occurred included.
    pub(crate) drops: Vec<Dropped>,
    /// The clients of a server; the server of a client; the other peer.
    pub(crate) peers: Vec<Peer>,
}

/// What carries the data, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plane {
    /// `engine`, `kernel (ovpn)`, `kernel (ovpn-dco-v2)`.
    pub(crate) driver: String,
    /// Its version.
    pub(crate) version: String,
    /// The device.
    pub(crate) device: String,
    /// Why it was chosen, most telling first.
    pub(crate) reasons: Vec<String>,
}

/// Counts of handshakes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handshakes {
    /// Connections begun.
    pub(crate) started: u64,
    /// Connections that got their first key.
    pub(crate) completed: u64,
    /// Connections that ended before they were up.
    pub(crate) failed: u64,
    /// Further keys of standing connections.
    pub(crate) rekeys: u64,
}

/// Bytes and packets; received is from peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// Bytes of inner packets.
    pub(crate) rx_bytes: u64,
    /// Bytes of inner packets.
    pub(crate) tx_bytes: u64,
    /// Inner packets.
    pub(crate) rx_packets: u64,
    /// Inner packets.
    pub(crate) tx_packets: u64,
}

/// Dropped packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    /// Name of the reason.
    pub(crate) reason: String,
    /// One sentence about it.
    pub(crate) description: String,
    /// How many.
    pub(crate) packets: u64,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Its certificate's common name, once known.
    pub(crate) name: Option<String>,
    /// What it logged in as.
    pub(crate) username: Option<String>,
    /// Where it is.
    pub(crate) address: Option<SocketAddr>,
    /// Addresses in the tunnel: a client's own; for a client's server, those that this host got from it.
    pub(crate) vpn_addresses: Vec<IpAddr>,
    /// Its id on the data channel; none until it is there.
    pub(crate) peer_id: Option<u32>,
    /// Since when it is connected, seconds since 1970.
    pub(crate) connected_since: Option<u64>,
    /// `AES-256-GCM`, …; none before the first key.
    pub(crate) cipher: Option<String>,
    /// `v1`, `v2` or `epoch`.
    pub(crate) data_format: Option<String>,
    /// Seconds since the key in use was installed.
    pub(crate) key_age: Option<f64>,
    /// What carries its data: `engine`, `kernel (ovpn)`, `kernel (ovpn-dco-v2)`; the reason stands above.
    pub(crate) data_plane: Option<String>,
    /// Keys installed since it connected.
    pub(crate) keys: u64,
    /// Inner packets.
    pub(crate) traffic: Traffic,
    /// Data packets on the outside: encryption and keepalive included, IP and UDP headers not.
    pub(crate) link: Traffic,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A server with one client that is up and one that is on its way.
    pub(in crate::status) fn sample() -> Snapshot {
        let traffic =
            Traffic { rx_bytes: 1_500_000, tx_bytes: 75_000_000, rx_packets: 9_000, tx_packets: 61_000 };
        let peer = Peer {
            name: Some("anna".to_owned()),
            username: None,
            address: Some("[2001:db8::7]:40961".parse().unwrap()),
            vpn_addresses: vec!["10.8.0.2".parse().unwrap(), "fd00::1000".parse().unwrap()],
            peer_id: Some(0),
            connected_since: Some(1_795_307_000),
            cipher: Some("AES-256-GCM".to_owned()),
            data_format: Some("epoch".to_owned()),
            key_age: Some(93.5),
            data_plane: Some("engine".to_owned()),
            keys: 2,
            traffic,
            link: Traffic { rx_bytes: 1_800_000, ..traffic },
        };
        let newcomer = Peer {
            name: None,
            address: Some("192.0.2.9:5000".parse().unwrap()),
            vpn_addresses: Vec::new(),
            peer_id: None,
            connected_since: None,
            cipher: None,
            data_format: None,
            key_age: None,
            data_plane: None,
            keys: 0,
            traffic: Traffic::default(),
            link: Traffic::default(),
            ..peer.clone()
        };
        let drop = |reason: &str, packets| Dropped {
            reason: reason.to_owned(),
            description: "Outside: for a reason.".to_owned(),
            packets,
        };
        Snapshot {
            schema: SCHEMA.to_owned(),
            program: "0.1.0".to_owned(),
            name: "office".to_owned(),
            mode: "server".to_owned(),
            pid: 4711,
            time: 1_795_307_100.25,
            started: 1_795_303_500,
            state: "connected".to_owned(),
            state_since: 1_795_303_501,
            data_plane: Some(Plane {
                driver: "engine".to_owned(),
                version: "0.1.0".to_owned(),
                device: "tun0".to_owned(),
                reasons: vec!["this kernel has no driver ovpn".to_owned()],
            }),
            handshakes: Handshakes { started: 5, completed: 3, failed: 1, rekeys: 7 },
            traffic,
            drops: vec![drop("not-authentic", 0), drop("replayed", 12)],
            peers: vec![peer, newcomer],
        }
    }

    #[test]
    fn the_json_form_is_the_documented_one() {
        let value = serde_json::to_value(sample()).unwrap();
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md"))
            .unwrap();
        // Every field, at every depth, stands in the document's table as `path.to.field`.
        fn walk(value: &serde_json::Value, path: &str, text: &str) {
            match value {
                serde_json::Value::Object(fields) => {
                    for (name, value) in fields {
                        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                        assert!(text.contains(&format!("| `{path}` |")), "`{path}` is not documented");
                        walk(value, &path, text);
                    }
                }
                serde_json::Value::Array(values) => {
                    for value in values.iter().filter(|value| value.is_object()) {
                        walk(value, &format!("{path}[]"), text);
                    }
                }
                _ => {}
            }
        }
        walk(&value, "", &text);
        assert_eq!(value["schema"], SCHEMA);
        assert!(text.contains(SCHEMA));
    }

    #[test]
    fn a_newer_program_may_tell_more() {
        let mut value = serde_json::to_value(sample()).unwrap();
        value["weather"] = "fine".into();
        value["peers"][0]["mood"] = 1.into();
        assert_eq!(serde_json::from_value::<Snapshot>(value).unwrap(), sample());
    }
}
