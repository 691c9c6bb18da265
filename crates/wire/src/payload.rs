//! Special payloads of the data channel: keepalive ping and OCC.
//!
//! ```text
//! ping  2a 18 7b f3 64 1e b4 cb 07 ed 2d 0a 98 1f c7 48                        exactly these 16 bytes
//! OCC   28 7f 34 6b d4 ef 7a 81 2d 56 b8 d3 af c5 45 9c | operation | body     options compatibility check
//! ```
//!
//! They stand in the place of an IP packet, inside the encryption. (OpenVPN wire protocol, data channel.)

/// The keepalive payload.
pub const PING: [u8; 16] =
    [0x2A, 0x18, 0x7B, 0xF3, 0x64, 0x1E, 0xB4, 0xCB, 0x07, 0xED, 0x2D, 0x0A, 0x98, 0x1F, 0xC7, 0x48];

/// What an options-compatibility-check payload begins with.
pub const OCC_MAGIC: [u8; 16] =
    [0x28, 0x7F, 0x34, 0x6B, 0xD4, 0xEF, 0x7A, 0x81, 0x2D, 0x56, 0xB8, 0xD3, 0xAF, 0xC5, 0x45, 0x9C];

/// The OCC operation of a peer that leaves (explicit-exit-notify).
pub const OCC_EXIT: u8 = 6;

/// The whole message of a peer that leaves.
pub const EXIT: [u8; 17] = {
    let mut message = [OCC_EXIT; 17];
    message.split_at_mut(16).0.copy_from_slice(&OCC_MAGIC);
    message
};

/// What an authenticated payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// An IPv4 packet, by its first nibble, not shorter than its header.
    Ipv4,
    /// An IPv6 packet, by its first nibble, not shorter than its header.
    Ipv6,
    /// A keepalive.
    Ping,
    /// The peer leaves.
    OccExit,
    /// Another options-compatibility-check message; nothing answers it.
    Occ,
    /// Nothing at all.
    Empty,
    /// None of these.
    Unknown,
}

/// Tells what a payload is.
#[inline]
pub fn classify(payload: &[u8]) -> Payload {
    match payload {
        [] => Payload::Empty,
        [first, ..] if first >> 4 == 4 && payload.len() >= 20 => Payload::Ipv4,
        [first, ..] if first >> 4 == 6 && payload.len() >= 40 => Payload::Ipv6,
        _ if payload == PING => Payload::Ping,
        _ => match payload.strip_prefix(&OCC_MAGIC) {
            Some([OCC_EXIT, ..]) => Payload::OccExit,
            Some(_) => Payload::Occ,
            None => Payload::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_told_apart() {
        let padded = |first: u8, len: usize| [vec![first], vec![0; len - 1]].concat();
        let occ = |rest: &[u8]| [&OCC_MAGIC[..], rest].concat();
        assert_eq!(classify(&[]), Payload::Empty);
        assert_eq!(classify(&PING), Payload::Ping);
        assert_eq!(classify(&[&PING[..], &[0]].concat()), Payload::Unknown, "a ping has no tail");
        assert_eq!(classify(&PING[..15]), Payload::Unknown);
        assert_eq!(classify(&occ(&[6])), Payload::OccExit);
        assert_eq!(classify(&occ(&[0])), Payload::Occ);
        assert_eq!(classify(&occ(&[])), Payload::Occ);
        assert_eq!(classify(&padded(0x45, 20)), Payload::Ipv4);
        assert_eq!(classify(&padded(0x45, 19)), Payload::Unknown);
        assert_eq!(classify(&padded(0x60, 40)), Payload::Ipv6);
        assert_eq!(classify(&padded(0x60, 39)), Payload::Unknown);
        assert_eq!(classify(&padded(0xFA, 40)), Payload::Unknown);
    }
}
