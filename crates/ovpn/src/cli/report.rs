//! What `get_peer` and `get_key` print.

use std::fmt::Write;

use ovpn_dco::{CipherAlg, Counters, KeyInfo, PeerInfo};

/// A peer, several lines.
pub(crate) fn peer(peer: &PeerInfo) -> String {
    let mut text = String::new();
    // Writing to a string never fails.
    let _ = writeln!(text, "* Peer {}", peer.id);
    let _ = writeln!(text, "\tTX peer ID: {}", peer.tx_id);
    if let Some(v4) = peer.vpn.v4 {
        let _ = writeln!(text, "\tVPN IPv4: {v4}");
    }
    if let Some(v6) = peer.vpn.v6 {
        let _ = writeln!(text, "\tVPN IPv6: {v6}");
    }
    if let Some(remote) = peer.remote {
        let _ = writeln!(text, "\tRemote: {remote}");
    }
    if let Some(local) = peer.local {
        let _ = writeln!(text, "\tLocal: {local}");
    }
    let _ = writeln!(text, "\tKeepalive interval: {}", peer.keepalive.interval.as_secs());
    let _ = writeln!(text, "\tKeepalive timeout: {}", peer.keepalive.timeout.as_secs());
    counters(&mut text, "VPN", &peer.stats.vpn);
    counters(&mut text, "LINK", &peer.stats.link);
    text
}

fn counters(text: &mut String, name: &str, counters: &Counters) {
    let _ = writeln!(text, "\t{name} RX bytes: {}", counters.rx_bytes);
    let _ = writeln!(text, "\t{name} TX bytes: {}", counters.tx_bytes);
    let _ = writeln!(text, "\t{name} RX packets: {}", counters.rx_packets);
    let _ = writeln!(text, "\t{name} TX packets: {}", counters.tx_packets);
}

/// A key, two lines; never its bytes.
pub(crate) fn key(key: &KeyInfo) -> String {
    let cipher = match key.cipher {
        CipherAlg::None => "none",
        CipherAlg::AesGcm => "aes",
        CipherAlg::ChaCha20Poly1305 => "chachapoly",
    };
    format!("\tKey ID: {}\n\tCipher: {cipher}\n", key.key_id)
}
