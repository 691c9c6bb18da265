//! Identifiers: 24-bit peer ids, 3-bit key ids, the two key slots.

use std::fmt;

/// A 24-bit peer id, `0..=0xFF_FFFE`. `0xFF_FFFF` means "no peer id" on the wire and is no value of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u32);

impl PeerId {
    /// The largest peer id.
    pub const MAX: Self = Self(0xFF_FFFE);

    /// Checks the range.
    pub const fn new(id: u32) -> Option<Self> {
        if id <= Self::MAX.0 { Some(Self(id)) } else { None }
    }

    /// The id as a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A 3-bit key id, `0..=7`: 0 for the first key of a TLS session, then 1…7, 1…7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u8);

impl KeyId {
    /// The id of a session's first key.
    pub const FIRST: Self = Self(0);

    /// Checks the range.
    pub const fn new(id: u8) -> Option<Self> {
        if id <= 7 { Some(Self(id)) } else { None }
    }

    /// The id as a number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The two places a peer has for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySlot {
    /// Encrypts; decrypts packets that carry its key id.
    Primary,
    /// Only decrypts packets that carry its key id.
    Secondary,
}

/// A transport that [`DataPlane::transport_open`](crate::DataPlane::transport_open) made known, unique within one
/// data plane for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransportId(pub u64);
