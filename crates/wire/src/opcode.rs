//! The first byte of every packet: opcode and key id.
//!
//! ```text
//!   7 6 5 4 3   2 1 0
//!  +-----------+-------+
//!  |  opcode   | key id|
//!  +-----------+-------+
//! ```
//!
//! Source: OpenVPN wire protocol, "Transport framing".

use std::fmt;

/// What a packet is. The key-method-1 opcodes 1 and 2 are gone since OpenVPN 2.5 and have no value here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// Either side starts a renegotiation; always with a key id above 0.
    SoftResetV1 = 3,
    /// TLS bytes.
    ControlV1 = 4,
    /// Acknowledgements only: no message id, no payload.
    AckV1 = 5,
    /// Data without a peer id.
    DataV1 = 6,
    /// First packet of a TLS client.
    HardResetClientV2 = 7,
    /// First packet of a TLS server.
    HardResetServerV2 = 8,
    /// Data with a 24-bit peer id.
    DataV2 = 9,
    /// First packet of a TLS client that uses tls-crypt-v2: its wrapped key follows the packet.
    HardResetClientV3 = 10,
    /// Message 1 of a tls-crypt-v2 client that was asked to send its wrapped key again.
    ControlWkcV1 = 11,
}

impl Opcode {
    /// The opcode with this number, or `None`.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            3 => Self::SoftResetV1,
            4 => Self::ControlV1,
            5 => Self::AckV1,
            6 => Self::DataV1,
            7 => Self::HardResetClientV2,
            8 => Self::HardResetServerV2,
            9 => Self::DataV2,
            10 => Self::HardResetClientV3,
            11 => Self::ControlWkcV1,
            _ => return None,
        })
    }

    /// The opcode's number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether the packet belongs to the data channel.
    pub const fn is_data(self) -> bool {
        matches!(self, Self::DataV1 | Self::DataV2)
    }

    /// Whether the packet starts a session (hard, not soft reset).
    pub const fn is_hard_reset(self) -> bool {
        matches!(self, Self::HardResetClientV2 | Self::HardResetServerV2 | Self::HardResetClientV3)
    }

    /// Whether a wrapped client key follows the packet (tls-crypt-v2).
    pub const fn carries_wrapped_key(self) -> bool {
        matches!(self, Self::HardResetClientV3 | Self::ControlWkcV1)
    }

    /// Whether the body has a message id and a payload: every control packet but `ACK_V1`.
    pub const fn has_message(self) -> bool {
        !self.is_data() && !matches!(self, Self::AckV1)
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SoftResetV1 => "SOFT_RESET_V1",
            Self::ControlV1 => "CONTROL_V1",
            Self::AckV1 => "ACK_V1",
            Self::DataV1 => "DATA_V1",
            Self::HardResetClientV2 => "HARD_RESET_CLIENT_V2",
            Self::HardResetServerV2 => "HARD_RESET_SERVER_V2",
            Self::DataV2 => "DATA_V2",
            Self::HardResetClientV3 => "HARD_RESET_CLIENT_V3",
            Self::ControlWkcV1 => "CONTROL_WKC_V1",
        })
    }
}

/// A 3-bit key id: 0 for the first key of a session, then 1…7, 1…7: 0 never comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u8);

impl KeyId {
    /// The id of a session's first key.
    pub const FIRST: Self = Self(0);

    /// Checks the range `0..=7`.
    pub const fn new(id: u8) -> Option<Self> {
        if id <= 7 { Some(Self(id)) } else { None }
    }

    /// The id as a number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The id of the key that the next renegotiation makes.
    pub const fn next(self) -> Self {
        if self.0 == 7 { Self(1) } else { Self(self.0 + 1) }
    }

    /// Whether the key belongs to a renegotiation.
    pub const fn is_renegotiation(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The first byte of a packet, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FirstByte {
    /// What the packet is.
    pub opcode: Opcode,
    /// Which key of the session it belongs to.
    pub key_id: KeyId,
}

impl FirstByte {
    /// Takes the byte apart; `None` if the opcode is unknown or gone.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match Opcode::from_number(byte >> 3) {
            Some(opcode) => Some(Self { opcode, key_id: KeyId(byte & 7) }),
            None => None,
        }
    }

    /// The byte on the wire.
    pub const fn to_byte(self) -> u8 {
        self.opcode.number() << 3 | self.key_id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_known_or_refused() {
        for byte in 0..=255u8 {
            match FirstByte::from_byte(byte) {
                Some(first) => {
                    assert!((3..=11).contains(&(byte >> 3)));
                    assert_eq!(first.to_byte(), byte);
                }
                None => assert!(!(3..=11).contains(&(byte >> 3))),
            }
        }
    }

    #[test]
    fn known_first_bytes() {
        let first = |opcode| FirstByte { opcode, key_id: KeyId::FIRST }.to_byte();
        assert_eq!(first(Opcode::HardResetClientV2), 0x38);
        assert_eq!(first(Opcode::HardResetServerV2), 0x40);
        assert_eq!(first(Opcode::HardResetClientV3), 0x50);
        assert_eq!(first(Opcode::ControlWkcV1), 0x58);
        assert_eq!(first(Opcode::DataV2), 0x48);
    }

    #[test]
    fn key_id_zero_never_comes_back() {
        let mut id = KeyId::FIRST;
        let ids: Vec<u8> = (0..10)
            .map(|_| {
                let now = id.get();
                id = id.next();
                now
            })
            .collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6, 7, 1, 2]);
    }
}
