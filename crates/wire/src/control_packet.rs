//! Control packets: the clear header, and the body of acks, message id and payload.
//!
//! ```text
//!  header   opcode<<3 | key id (1)   sender's session id (8)
//!  body     n (1)   n × acked message id (4)   session id of the acks' receiver (8, if n > 0)
//!           message id (4, unless ACK_V1)   payload
//! ```
//!
//! Between header and body stands what tls-auth or tls-crypt puts there; that is the crypto crate's business. The
//! payload of a server's hard reset may be a list of early-negotiation items ([`EarlyNegotiation`]).
//!
//! Source: OpenVPN wire protocol, "Control packet body".

use std::fmt;

use thiserror::Error;

use crate::opcode::{FirstByte, KeyId, Opcode};

/// The most message ids one packet acknowledges.
pub const MAX_ACKS: usize = 8;

/// Eight random bytes that name one side of a session; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 8]);

impl SessionId {
    /// The id with these bytes; `None` if all are zero.
    pub const fn new(bytes: [u8; 8]) -> Option<Self> {
        if u64::from_be_bytes(bytes) == 0 { None } else { Some(Self(bytes)) }
    }

    /// The bytes on the wire.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// Why a control packet could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ControlPacketError {
    /// The packet ends before its fields do.
    #[error("truncated control packet")]
    Truncated,
    /// The opcode is unknown, gone, or not one of the control channel.
    #[error("opcode is not one of the control channel")]
    Opcode,
    /// A session id is all zero.
    #[error("session id of all zeros")]
    ZeroSessionId,
    /// More acks than [`MAX_ACKS`].
    #[error("more than 8 acks")]
    TooManyAcks,
}

/// The clear head of every control packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlHeader {
    /// What the packet is.
    pub opcode: Opcode,
    /// Which key of the session it belongs to.
    pub key_id: KeyId,
    /// The sender's session id.
    pub session_id: SessionId,
}

impl ControlHeader {
    /// Bytes on the wire.
    pub const LEN: usize = 9;

    /// Reads the header and returns it with the rest of the packet.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), ControlPacketError> {
        let (head, rest) =
            packet.split_first_chunk::<{ Self::LEN }>().ok_or(ControlPacketError::Truncated)?;
        let [first, session_id @ ..] = *head;
        let FirstByte { opcode, key_id } = FirstByte::from_byte(first).ok_or(ControlPacketError::Opcode)?;
        if opcode.is_data() {
            return Err(ControlPacketError::Opcode);
        }
        let session_id = SessionId::new(session_id).ok_or(ControlPacketError::ZeroSessionId)?;
        Ok((Self { opcode, key_id, session_id }, rest))
    }

    /// The header's bytes on the wire.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = FirstByte { opcode: self.opcode, key_id: self.key_id }.to_byte();
        bytes[1..].copy_from_slice(self.session_id.as_bytes());
        bytes
    }
}

/// Up to [`MAX_ACKS`] message ids, in the order of the packet.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct AckList {
    ids: [u32; MAX_ACKS],
    len: u8,
}

impl AckList {
    /// No acks.
    pub const EMPTY: Self = Self { ids: [0; MAX_ACKS], len: 0 };

    /// Adds an id; `false` if the list is full.
    pub fn push(&mut self, id: u32) -> bool {
        match self.ids.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = id;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The ids.
    pub fn as_slice(&self) -> &[u32] {
        &self.ids[..usize::from(self.len)]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }
}

impl fmt::Debug for AckList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl FromIterator<u32> for AckList {
    /// Takes the first [`MAX_ACKS`] ids and leaves the rest.
    fn from_iter<I: IntoIterator<Item = u32>>(iter: I) -> Self {
        let mut list = Self::EMPTY;
        for id in iter {
            if !list.push(id) {
                break;
            }
        }
        list
    }
}

/// Acknowledgements and whose packets they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acks {
    /// The acknowledged message ids, at least one.
    pub ids: AckList,
    /// The session id of the side whose messages are acknowledged, i.e. of this packet's receiver.
    pub remote_session_id: SessionId,
}

/// The body of a control packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlBody<'a> {
    /// The acks that ride on the packet.
    pub acks: Option<Acks>,
    /// The message, in every packet but `ACK_V1`.
    pub message: Option<Message<'a>>,
}

/// A numbered message of the reliability layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The message id; 0 in resets.
    pub id: u32,
    /// TLS bytes, or early negotiation in a server's hard reset, or nothing.
    pub payload: &'a [u8],
}

impl<'a> ControlBody<'a> {
    /// Bytes of a body with every ack and an empty payload.
    pub const MAX_HEAD: usize = 1 + 4 * MAX_ACKS + 8 + 4;

    /// Reads the body of a packet with this opcode. What follows the acks of an `ACK_V1` is ignored.
    pub fn parse(opcode: Opcode, body: &'a [u8]) -> Result<Self, ControlPacketError> {
        use ControlPacketError::{TooManyAcks, Truncated, ZeroSessionId};
        let (&count, mut rest) = body.split_first().ok_or(Truncated)?;
        if usize::from(count) > MAX_ACKS {
            return Err(TooManyAcks);
        }
        let mut ids = AckList::EMPTY;
        for _ in 0..count {
            let (id, after) = rest.split_first_chunk().ok_or(Truncated)?;
            ids.push(u32::from_be_bytes(*id));
            rest = after;
        }
        let mut acks = None;
        if count > 0 {
            let (id, after) = rest.split_first_chunk().ok_or(Truncated)?;
            acks = Some(Acks { ids, remote_session_id: SessionId::new(*id).ok_or(ZeroSessionId)? });
            rest = after;
        }
        let mut message = None;
        if opcode.has_message() {
            let (id, payload) = rest.split_first_chunk().ok_or(Truncated)?;
            message = Some(Message { id: u32::from_be_bytes(*id), payload });
        }
        Ok(Self { acks, message })
    }

    /// Appends the body's bytes to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match &self.acks {
            Some(acks) if !acks.ids.is_empty() => {
                out.push(acks.ids.len);
                for id in acks.ids.as_slice() {
                    out.extend_from_slice(&id.to_be_bytes());
                }
                out.extend_from_slice(acks.remote_session_id.as_bytes());
            }
            _ => out.push(0),
        }
        if let Some(message) = &self.message {
            out.extend_from_slice(&message.id.to_be_bytes());
            out.extend_from_slice(message.payload);
        }
    }

    /// The body's bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let payload = self.message.map_or(0, |message| message.payload.len());
        let mut out = Vec::with_capacity(Self::MAX_HEAD + payload);
        self.emit(&mut out);
        out
    }
}

/// What a server says in the payload of its hard reset: a list of `u16 type, u16 length, value` items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EarlyNegotiation {
    /// The client must send its wrapped tls-crypt-v2 key again, with message 1.
    pub resend_wkc: bool,
}

/// A list of early-negotiation items that does not add up; fatal to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed early negotiation in the server's reset")]
pub struct EarlyNegotiationError;

impl EarlyNegotiation {
    const FLAGS: u16 = 1;
    const FLAG_RESEND_WKC: u16 = 1;

    /// Reads the payload of a hard reset; unknown items are skipped.
    pub fn parse(mut payload: &[u8]) -> Result<Self, EarlyNegotiationError> {
        let mut found = Self::default();
        while !payload.is_empty() {
            let (head, rest) = payload.split_first_chunk::<4>().ok_or(EarlyNegotiationError)?;
            let kind = u16::from_be_bytes([head[0], head[1]]);
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let (value, rest) = rest.split_at_checked(len).ok_or(EarlyNegotiationError)?;
            if kind == Self::FLAGS {
                let flags = u16::from_be_bytes(value.try_into().map_err(|_| EarlyNegotiationError)?);
                found.resend_wkc |= flags & Self::FLAG_RESEND_WKC != 0;
            }
            payload = rest;
        }
        Ok(found)
    }

    /// The payload of a hard reset.
    pub fn to_vec(self) -> Vec<u8> {
        if self.resend_wkc { vec![0, 1, 0, 2, 0, 1] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = ControlHeader> {
        let control = prop::sample::select(vec![3u8, 4, 5, 7, 8, 10, 11]);
        (control, 0..8u8, any::<[u8; 8]>()).prop_filter_map("zero session id", |(opcode, key_id, id)| {
            Some(ControlHeader {
                opcode: Opcode::from_number(opcode)?,
                key_id: KeyId::new(key_id)?,
                session_id: SessionId::new(id)?,
            })
        })
    }

    proptest! {
        #[test]
        fn header_round_trip(header in header(), rest: Vec<u8>) {
            let packet = [header.to_bytes().as_slice(), &rest].concat();
            prop_assert_eq!(ControlHeader::parse(&packet), Ok((header, rest.as_slice())));
        }

        #[test]
        fn body_round_trip(
            header in header(),
            acks in prop::collection::vec(any::<u32>(), 0..=8),
            remote in 1u64..,
            id: u32,
            payload: Vec<u8>,
        ) {
            let body = ControlBody {
                acks: (!acks.is_empty()).then(|| Acks {
                    ids: acks.into_iter().collect(),
                    remote_session_id: SessionId::new(remote.to_be_bytes()).unwrap(),
                }),
                message: header.opcode.has_message().then_some(Message { id, payload: &payload }),
            };
            let bytes = body.to_vec();
            prop_assert_eq!(ControlBody::parse(header.opcode, &bytes), Ok(body));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok((header, body)) = ControlHeader::parse(&bytes)
                && let Ok(parsed) = ControlBody::parse(header.opcode, body)
                && header.opcode.has_message()
            {
                prop_assert_eq!(parsed.to_vec(), body);
            }
            let _ = EarlyNegotiation::parse(&bytes);
        }
    }

    #[test]
    fn data_and_old_opcodes_are_refused() {
        for first in [0x08, 0x10, 0x30, 0x48, 0x60, 0xff] {
            let packet = [first, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];
            assert_eq!(ControlHeader::parse(&packet), Err(ControlPacketError::Opcode));
        }
        let zero = [0x38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(ControlHeader::parse(&zero), Err(ControlPacketError::ZeroSessionId));
    }
}
