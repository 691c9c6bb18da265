//! Data packet headers: DATA_V1, DATA_V2 and the epoch format.
//!
//! ```text
//! DATA_V2   | op·key-id | peer-id 24 | packet-id 32 | tag 16 | ciphertext …         24 bytes besides the payload
//!           |<----------- AAD 8 bytes ------------->|
//! epoch     | op·key-id | peer-id 24 | epoch 16 | counter 48 | ciphertext … | tag 16       28 bytes
//!           |<----------------- AAD 12 bytes --------------->|
//! DATA_V1   | op·key-id | packet-id 32 | tag 16 | ciphertext …                             21 bytes
//!                       |<--- AAD 4 -->|
//! none      | op·key-id | peer-id 24 | packet-id 32 | plaintext …                           8 bytes, tests only
//! ```
//!
//! All numbers are big-endian. (OpenVPN wire protocol, data channel.)

/// The first byte's opcode of a DATA_V1 packet.
pub const OPCODE_DATA_V1: u8 = 6;

/// The first byte's opcode of a DATA_V2 packet.
pub const OPCODE_DATA_V2: u8 = 9;

/// The peer id of a sender that was never given one: its packets are told apart by transport address.
pub const NO_PEER_ID: u32 = 0xFF_FFFF;

/// Shortest packet that is looked at, bytes.
pub const MIN_LEN: usize = 4;

/// Bytes a DATA_V2 packet has besides its payload.
pub const V2_OVERHEAD: usize = 24;

/// Bytes an epoch packet has besides its payload.
pub const EPOCH_OVERHEAD: usize = 28;

/// Bytes a DATA_V1 packet has besides its payload.
pub const V1_OVERHEAD: usize = 21;

/// Bytes an unencrypted test packet has besides its payload.
pub const NONE_OVERHEAD: usize = 8;

/// What a received packet is, by its first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A DATA_V2 packet (classic or epoch: the key decides).
    DataV2 {
        /// 24-bit peer id; [`NO_PEER_ID`] where the sender has none.
        peer_id: u32,
        /// 3-bit key id.
        key_id: u8,
    },
    /// A DATA_V1 packet; the peer is known by its address only.
    DataV1 {
        /// 3-bit key id.
        key_id: u8,
    },
    /// Anything else is the control channel's business.
    Control,
}

/// Tells data from control packets; `None` for packets shorter than [`MIN_LEN`], which are neither.
#[inline]
pub fn classify(packet: &[u8]) -> Option<Class> {
    let [first, peer_id @ ..] = *packet.first_chunk::<4>()?;
    let key_id = first & 7;
    Some(match first >> 3 {
        OPCODE_DATA_V2 => {
            let [a, b, c] = peer_id;
            Class::DataV2 { peer_id: u32::from_be_bytes([0, a, b, c]), key_id }
        }
        OPCODE_DATA_V1 => Class::DataV1 { key_id },
        _ => Class::Control,
    })
}

/// The first word of a DATA_V2 packet; the upper bits of `peer_id` and `key_id` are ignored.
#[inline]
pub const fn op32(peer_id: u32, key_id: u8) -> [u8; 4] {
    let [_, a, b, c] = peer_id.to_be_bytes();
    [OPCODE_DATA_V2 << 3 | key_id & 7, a, b, c]
}

/// A received packet of a format with a 32-bit packet id: DATA_V2 or DATA_V1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classic<'a> {
    /// What is authenticated besides the payload.
    pub aad: &'a [u8],
    /// The packet id as on the wire.
    pub packet_id: [u8; 4],
    /// The authentication tag.
    pub tag: &'a [u8; 16],
    /// The encrypted payload, possibly empty.
    pub ciphertext: &'a [u8],
}

impl<'a> Classic<'a> {
    /// Splits a DATA_V2 packet; `None` where it is too short.
    #[inline]
    pub fn parse_v2(packet: &'a [u8]) -> Option<Self> {
        let (aad, rest) = packet.split_first_chunk::<8>()?;
        let (tag, ciphertext) = rest.split_first_chunk()?;
        Some(Self { aad, packet_id: *aad.last_chunk()?, tag, ciphertext })
    }

    /// Splits a DATA_V1 packet; `None` where it is too short.
    #[inline]
    pub fn parse_v1(packet: &'a [u8]) -> Option<Self> {
        let (aad, rest) = packet.get(1..)?.split_first_chunk::<4>()?;
        let (tag, ciphertext) = rest.split_first_chunk()?;
        Some(Self { aad, packet_id: *aad, tag, ciphertext })
    }
}

/// A received packet of the epoch format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch<'a> {
    /// What is authenticated besides the payload.
    pub aad: &'a [u8; 12],
    /// Epoch (16 bits) and counter (48 bits).
    pub packet_id: EpochPacketId,
    /// The encrypted payload, possibly empty.
    pub ciphertext: &'a [u8],
    /// The authentication tag.
    pub tag: &'a [u8; 16],
}

impl<'a> Epoch<'a> {
    /// Splits an epoch packet; `None` where it is too short.
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (aad, rest) = packet.split_first_chunk::<12>()?;
        let (ciphertext, tag) = rest.split_last_chunk()?;
        Some(Self { aad, packet_id: EpochPacketId(u64::from_be_bytes(*aad.last_chunk()?)), ciphertext, tag })
    }
}

/// The 64-bit packet id of the epoch format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochPacketId(pub u64);

impl EpochPacketId {
    /// Largest counter within an epoch.
    pub const MAX_COUNTER: u64 = (1 << 48) - 1;

    /// Joins an epoch and a counter of at most 48 bits.
    #[inline]
    pub const fn new(epoch: u16, counter: u64) -> Self {
        Self((epoch as u64) << 48 | counter & Self::MAX_COUNTER)
    }

    /// The epoch.
    #[inline]
    pub const fn epoch(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The counter.
    #[inline]
    pub const fn counter(self) -> u64 {
        self.0 & Self::MAX_COUNTER
    }
}

/// A received packet without encryption (tests only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bare<'a> {
    /// The packet id.
    pub packet_id: u32,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Bare<'a> {
    /// Splits an unencrypted packet; `None` where it is too short.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, payload) = packet.split_first_chunk::<8>()?;
        Some(Self { packet_id: u32::from_be_bytes(*header.last_chunk()?), payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart_by_their_first_byte() {
        assert_eq!(
            classify(&[0x4D, 0x12, 0x34, 0x56]),
            Some(Class::DataV2 { peer_id: 0x12_3456, key_id: 5 })
        );
        assert_eq!(classify(&[0x33, 0, 0, 1]), Some(Class::DataV1 { key_id: 3 }));
        assert_eq!(classify(&[0x48, 0, 0]), None);
        for first in (0..=255).filter(|first| ![6, 9].contains(&(first >> 3))) {
            assert_eq!(classify(&[first, 0, 0, 0]), Some(Class::Control));
        }
        assert_eq!(op32(0x12_3456, 5), [0x4D, 0x12, 0x34, 0x56]);
    }

    #[test]
    fn short_packets_are_refused_and_shortest_ones_split() {
        let packet: Vec<u8> = (0..64).collect();
        for len in 0..64 {
            let packet = &packet[..len];
            assert_eq!(Classic::parse_v2(packet).is_some(), len >= V2_OVERHEAD);
            assert_eq!(Classic::parse_v1(packet).is_some(), len >= V1_OVERHEAD);
            assert_eq!(Epoch::parse(packet).is_some(), len >= EPOCH_OVERHEAD);
            assert_eq!(Bare::parse(packet).is_some(), len >= NONE_OVERHEAD);
        }
        let v2 = Classic::parse_v2(&packet[..25]).unwrap();
        assert_eq!((v2.aad, v2.packet_id, v2.ciphertext), (&packet[..8], [4, 5, 6, 7], &packet[24..25]));
        let v1 = Classic::parse_v1(&packet[..21]).unwrap();
        assert_eq!((v1.aad, v1.packet_id, v1.ciphertext), (&packet[1..5], [1, 2, 3, 4], &[][..]));
        let epoch = Epoch::parse(&packet[..29]).unwrap();
        assert_eq!((epoch.packet_id.epoch(), epoch.packet_id.counter()), (0x0405, 0x0607_0809_0A0B));
        assert_eq!((epoch.ciphertext, &epoch.tag[..]), (&packet[12..13], &packet[13..29]));
    }

    /// Packet-id encodings of OpenVPN's own unit tests.
    #[test]
    fn epoch_packet_ids_are_encoded_as_published() {
        assert_eq!(EpochPacketId::new(0x23, 1).0, 0x0023_0000_0000_0001);
        assert_eq!(EpochPacketId::new(0xF00F, EpochPacketId::MAX_COUNTER).0, 0xF00F_FFFF_FFFF_FFFF);
    }
}
