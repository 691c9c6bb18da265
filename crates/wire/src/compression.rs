//! Compression framings of old peers: spoken and expanded, never applied.
//!
//! ```text
//! V1 prefix  | FA | packet …                       not compressed     comp-lzo
//!            | 66 | LZO1X data …
//! V1 swap    | FB | packet[1..] … | packet[0] |    not compressed     compress, compress lz4
//!            | 69 | data[1..] …   | data[0] |      LZ4 block
//! V2         packet …                              unless its first byte is 50     compress stub-v2, lz4-v2
//!            | 50 | 00 | packet …                  not compressed
//!            | 50 | 01 | LZ4 block …     | 50 | 02 | LZO1X data …
//! ```
//!
//! (OpenVPN wire protocol, data channel, compression.)

/// V1: not compressed, the byte stands before the packet.
pub const V1_PREFIX: u8 = 0xFA;

/// V1: not compressed, the byte stands in the place of the packet's first, which has moved to the end.
pub const V1_SWAP: u8 = 0xFB;

/// V1: LZO1X data, the byte stands before it.
pub const V1_LZO: u8 = 0x66;

/// V1: an LZ4 block, the byte stands in the place of its first, which has moved to the end.
pub const V1_LZ4: u8 = 0x69;

/// V2: an algorithm byte follows.
pub const V2_ESCAPE: u8 = 0x50;

/// V2 algorithm: not compressed.
pub const V2_NONE: u8 = 0;

/// V2 algorithm: LZ4 block.
pub const V2_LZ4: u8 = 1;

/// V2 algorithm: LZO1X.
pub const V2_LZO: u8 = 2;

/// How a payload is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    /// The packet begins after this many bytes.
    Plain(usize),
    /// The packet's first byte is its last; drop the framing byte.
    Swapped,
    /// LZO1X data begins after this many bytes.
    Lzo(usize),
    /// An LZ4 block begins after this many bytes.
    Lz4(usize),
    /// An LZ4 block whose first byte is the payload's last.
    Lz4Swapped,
}

/// Reads V1 framing; `None` for an empty payload or an unknown byte.
pub fn inspect_v1(payload: &[u8]) -> Option<Framed> {
    match *payload.first()? {
        V1_PREFIX => Some(Framed::Plain(1)),
        V1_SWAP if payload.len() >= 2 => Some(Framed::Swapped),
        V1_LZO => Some(Framed::Lzo(1)),
        V1_LZ4 if payload.len() >= 2 => Some(Framed::Lz4Swapped),
        _ => None,
    }
}

/// Reads V2 framing; `None` for an empty payload or an unknown algorithm.
pub fn inspect_v2(payload: &[u8]) -> Option<Framed> {
    match *payload {
        [] => None,
        [V2_ESCAPE, V2_NONE, ..] => Some(Framed::Plain(2)),
        [V2_ESCAPE, V2_LZ4, ..] => Some(Framed::Lz4(2)),
        [V2_ESCAPE, V2_LZO, ..] => Some(Framed::Lzo(2)),
        [V2_ESCAPE, ..] => None,
        _ => Some(Framed::Plain(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framings_are_told_apart() {
        assert_eq!(inspect_v1(&[0xFA]), Some(Framed::Plain(1)));
        assert_eq!(inspect_v1(&[0xFB, 1]), Some(Framed::Swapped));
        assert_eq!(inspect_v1(&[0xFB]), None);
        assert_eq!(inspect_v1(&[0x66, 1]), Some(Framed::Lzo(1)));
        assert_eq!(inspect_v1(&[0x69, 1]), Some(Framed::Lz4Swapped));
        assert_eq!(inspect_v1(&[0x45, 1]), None);
        assert_eq!(inspect_v1(&[]), None);
        assert_eq!(inspect_v2(&[0x45, 1]), Some(Framed::Plain(0)));
        assert_eq!(inspect_v2(&[0x50, 0, 0x50]), Some(Framed::Plain(2)));
        assert_eq!(inspect_v2(&[0x50, 1]), Some(Framed::Lz4(2)));
        assert_eq!(inspect_v2(&[0x50, 2]), Some(Framed::Lzo(2)));
        assert_eq!(inspect_v2(&[0x50, 3]), None);
        assert_eq!(inspect_v2(&[0x50]), None);
        assert_eq!(inspect_v2(&[]), None);
    }
}
