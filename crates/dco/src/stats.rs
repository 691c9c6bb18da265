//! Counters, 64 bits wide, of one peer's lifetime.

use std::borrow::Cow;

/// Packets and bytes, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

/// The counters of one peer, as the kernel driver counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerStats {
    /// Inner IP packets: bytes of the inner packet.
    pub vpn: Counters,
    /// OpenVPN data packets from the opcode to the end, received ones counted before decryption; keepalive
    /// included, control packets and IP, UDP and TCP headers not.
    pub link: Counters,
}

/// Packets that a data plane dropped for one reason, since its device was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drops {
    /// Name for metrics and logs: lower case, words joined by `-`.
    pub reason: Cow<'static, str>,
    /// One sentence that tells a person what happened.
    pub description: Cow<'static, str>,
    /// How many.
    pub packets: u64,
}
