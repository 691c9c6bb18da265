//! Netlink messages as bytes: headers and attributes.
//!
//! ```text
//!  nlmsghdr  │ length 4 │ type 2 │ flags 2 │ sequence 4 │ port id 4 │  then the payload, padded to 4
//!  nlattr    │ length 2 │ type 2 │ payload … │ padding to 4          (length without padding; type bit 15: nested)
//! ```
//!
//! Everything is in host byte order; attributes that carry addresses or ports say so. Reading is strict: a length
//! that does not fit is [`Malformed`], never a shorter result. Pure: no sockets here.

use std::fmt;
use std::net::IpAddr;

/// Flag of a request.
pub const NLM_F_REQUEST: u16 = 0x01;
/// Flag: the answer goes on in further messages.
pub const NLM_F_MULTI: u16 = 0x02;
/// Flag: acknowledge, also success.
pub const NLM_F_ACK: u16 = 0x04;
/// Flag of a dump that something interrupted: it is inconsistent.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// Flags of a dump request.
pub const NLM_F_DUMP: u16 = 0x300;
/// Flag of a new object: replace an existing one.
pub const NLM_F_REPLACE: u16 = 0x100;
/// Flag of a new object: fail if there is one.
pub const NLM_F_EXCL: u16 = 0x200;
/// Flag of a new object: create it.
pub const NLM_F_CREATE: u16 = 0x400;
/// Flag of a new object: append to those there are.
pub const NLM_F_APPEND: u16 = 0x800;
/// Flag of an acknowledgement: the request's payload was left out.
pub const NLM_F_CAPPED: u16 = 0x100;
/// Flag of an acknowledgement: attributes follow.
pub const NLM_F_ACK_TLVS: u16 = 0x200;

/// Type: nothing.
pub const NLMSG_NOOP: u16 = 1;
/// Type: acknowledgement, or error.
pub const NLMSG_ERROR: u16 = 2;
/// Type: end of a dump.
pub const NLMSG_DONE: u16 = 3;

/// Length of a message header, bytes.
pub const HEADER_LEN: usize = 16;

const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3FFF;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSGERR_ATTR_MISS_TYPE: u16 = 5;

/// Bytes that are no netlink message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed netlink message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

// ---- writing ----

/// A message being written.
#[derive(Debug, Clone)]
pub struct MessageBuilder {
    attributes: AttributeWriter,
}

impl MessageBuilder {
    /// Begins a message of this type with these flags. Sequence number and port id are zero; the socket fills in
    /// the sequence number.
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self { attributes: AttributeWriter { bytes } }
    }

    /// Appends the family's own fixed header (`rtmsg`, `genlmsghdr`, …), padded to 4.
    #[must_use]
    pub fn header(mut self, bytes: &[u8]) -> Self {
        self.attributes.bytes.extend_from_slice(bytes);
        self.attributes.pad();
        self
    }

    /// The attributes.
    pub const fn attributes(&mut self) -> &mut AttributeWriter {
        &mut self.attributes
    }

    /// Writes attributes, for chaining.
    #[must_use]
    pub fn with(mut self, write: impl FnOnce(&mut AttributeWriter)) -> Self {
        write(&mut self.attributes);
        self
    }

    /// The finished message.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = self.attributes.bytes;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_ne_bytes();
        bytes[..4].copy_from_slice(&length);
        bytes
    }
}

/// Sets the sequence number and port id of a finished message.
pub fn set_sequence(message: &mut [u8], sequence: u32, port: u32) {
    if let Some(header) = message.get_mut(..HEADER_LEN) {
        header[8..12].copy_from_slice(&sequence.to_ne_bytes());
        header[12..16].copy_from_slice(&port.to_ne_bytes());
    }
}

/// Writes attributes, each padded to four bytes.
#[derive(Debug, Clone, Default)]
pub struct AttributeWriter {
    bytes: Vec<u8>,
}

impl AttributeWriter {
    /// Room for `capacity` bytes, so that secrets are not left behind by growing.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// An attribute of bytes (at most 65,531; longer ones are a caller's bug and are cut).
    pub fn bytes(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let payload = &payload[..payload.len().min(usize::from(u16::MAX) - 4)];
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
        self
    }

    /// A flag: an attribute without payload.
    pub fn flag(&mut self, kind: u16) -> &mut Self {
        self.bytes(kind, &[])
    }

    /// A `u8`.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// A `u16`, host order.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A `u16`, network order (ports).
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A `u32`, host order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A variable integer: four bytes where they suffice, else eight.
    pub fn uint(&mut self, kind: u16, value: u64) -> &mut Self {
        match u32::try_from(value) {
            Ok(small) => self.u32(kind, small),
            Err(_) => self.bytes(kind, &value.to_ne_bytes()),
        }
    }

    /// A string with its terminating zero.
    pub fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// An address, 4 or 16 bytes, network order.
    pub fn ip(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(v4) => self.bytes(kind, &v4.octets()),
            IpAddr::V6(v6) => self.bytes(kind, &v6.octets()),
        }
    }

    /// An attribute of attributes; its type carries the nested flag.
    pub fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        write(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Appends attributes that are already written.
    pub fn append(&mut self, attributes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(attributes);
        self.pad();
        self
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

// ---- reading ----

/// One message of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Type: [`NLMSG_ERROR`], [`NLMSG_DONE`] or the family's.
    pub kind: u16,
    /// Flags.
    pub flags: u16,
    /// Sequence number; that of the request in an answer.
    pub sequence: u32,
    /// Port id of the socket it belongs to; 0 in notifications.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// An acknowledgement's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ack {
    /// 0, or the errno (positive).
    pub errno: i32,
    /// The kernel's sentence; empty where there is none.
    pub text: String,
    /// Offset of the offending attribute in the request.
    pub offset: Option<u32>,
    /// The attribute that is missing.
    pub missing: Option<u16>,
}

impl Ack {
    /// Success as `Ok`.
    ///
    /// # Errors
    /// The errno with its sentence.
    pub fn into_result(self) -> super::Result<()> {
        if self.errno == 0 {
            return Ok(());
        }
        Err(super::Error::new(self.errno, self.text).with_missing(self.missing))
    }
}

/// Splits a buffer into messages.
///
/// Yields `Err` once, then ends, where a length does not fit.
pub const fn messages(buffer: &[u8]) -> Messages<'_> {
    Messages { rest: buffer }
}

/// Iterator of [`messages`].
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The bytes that are not yet split.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest;
        if rest.is_empty() {
            return None;
        }
        self.rest = &[];
        let Some(header) = rest.first_chunk::<HEADER_LEN>() else {
            return Some(Err(Malformed("shorter than its header")));
        };
        let length = u32_at(header, 0) as usize;
        if length < HEADER_LEN || length > rest.len() {
            return Some(Err(Malformed("length does not fit")));
        }
        self.rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16_at(header, 4),
            flags: u16_at(header, 6),
            sequence: u32_at(header, 8),
            port: u32_at(header, 12),
            payload: &rest[HEADER_LEN..length],
        }))
    }
}

impl<'a> Message<'a> {
    /// Splits off the family's fixed header and gives the attributes after it.
    ///
    /// # Errors
    /// Where the payload is shorter than the header.
    pub fn after_header(&self, len: usize) -> Result<(&'a [u8], Attributes<'a>), Malformed> {
        let (header, rest) = self.payload.split_at_checked(len).ok_or(Malformed("family header is cut"))?;
        let padding = len.next_multiple_of(4) - len;
        Ok((header, attributes(rest.get(padding..).unwrap_or_default())))
    }

    /// Reads [`NLMSG_ERROR`] (also an acknowledgement of success) or [`NLMSG_DONE`]; `None` for anything else.
    ///
    /// # Errors
    /// Where it is cut.
    pub fn ack(&self) -> Result<Option<Ack>, Malformed> {
        let fixed = match self.kind {
            // error, then the header of the request, and all of it unless capped or successful
            NLMSG_ERROR => {
                let request =
                    self.payload.get(4..4 + HEADER_LEN).ok_or(Malformed("acknowledgement is cut"))?;
                let success = self.payload[..4] == [0; 4];
                if self.flags & NLM_F_CAPPED != 0 || success {
                    4 + HEADER_LEN
                } else {
                    4 + (u32_at(request, 0) as usize)
                        .clamp(HEADER_LEN, usize::from(u16::MAX))
                        .next_multiple_of(4)
                }
            }
            NLMSG_DONE => 4.min(self.payload.len()),
            _ => return Ok(None),
        };
        let mut ack = Ack::default();
        if let Some(errno) = self.payload.first_chunk::<4>() {
            ack.errno = i32::from_ne_bytes(*errno).unsigned_abs().try_into().unwrap_or(i32::MAX);
        }
        if self.flags & NLM_F_ACK_TLVS != 0 {
            for attribute in attributes(self.payload.get(fixed..).unwrap_or_default()) {
                let attribute = attribute?;
                match attribute.kind {
                    NLMSGERR_ATTR_MSG => ack.text = attribute.string()?.to_owned(),
                    NLMSGERR_ATTR_OFFS => ack.offset = Some(attribute.u32()?),
                    NLMSGERR_ATTR_MISS_TYPE => ack.missing = u16::try_from(attribute.u32()?).ok(),
                    _ => {}
                }
            }
        }
        Ok(Some(ack))
    }
}

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type, without flags.
    pub kind: u16,
    /// Its type says that attributes are inside.
    pub nested: bool,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Splits a payload into attributes. Yields `Err` once, then ends, where a length does not fit.
pub const fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

/// Iterator of [`attributes`].
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest;
        if rest.is_empty() {
            return None;
        }
        self.rest = &[];
        let Some(header) = rest.first_chunk::<4>() else {
            return Some(Err(Malformed("attribute is shorter than its header")));
        };
        let length = usize::from(u16_at(header, 0));
        if length < 4 || length > rest.len() {
            return Some(Err(Malformed("attribute length does not fit")));
        }
        self.rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16_at(header, 2);
        Some(Ok(Attribute {
            kind: kind & NLA_TYPE_MASK,
            nested: kind & NLA_F_NESTED != 0,
            payload: &rest[4..length],
        }))
    }
}

impl<'a> Attribute<'a> {
    /// The attributes inside.
    pub const fn attributes(&self) -> Attributes<'a> {
        attributes(self.payload)
    }

    /// A `u8`.
    ///
    /// # Errors
    /// Where it has another length.
    pub fn u8(&self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// A `u16`, host order.
    ///
    /// # Errors
    /// Where it has another length.
    pub fn u16(&self) -> Result<u16, Malformed> {
        Ok(u16::from_ne_bytes(self.array()?))
    }

    /// A `u16`, network order.
    ///
    /// # Errors
    /// Where it has another length.
    pub fn be16(&self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A `u32`, host order.
    ///
    /// # Errors
    /// Where it has another length.
    pub fn u32(&self) -> Result<u32, Malformed> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    /// A variable integer, 4 or 8 bytes.
    ///
    /// # Errors
    /// Where it has another length.
    pub fn uint(&self) -> Result<u64, Malformed> {
        match self.payload.len() {
            4 => Ok(self.u32()?.into()),
            _ => Ok(u64::from_ne_bytes(self.array()?)),
        }
    }

    /// An address: 4 bytes IPv4, 16 bytes IPv6.
    ///
    /// # Errors
    /// Where it has another length.
    pub fn ip(&self) -> Result<IpAddr, Malformed> {
        match self.payload.len() {
            4 => Ok(IpAddr::from(self.array::<4>()?)),
            _ => Ok(IpAddr::from(self.array::<16>()?)),
        }
    }

    /// A string, without its terminating zero.
    ///
    /// # Errors
    /// Where it is not UTF-8.
    pub fn string(&self) -> Result<&'a str, Malformed> {
        let end = self.payload.iter().position(|&byte| byte == 0).unwrap_or(self.payload.len());
        std::str::from_utf8(&self.payload[..end]).map_err(|_| Malformed("string is not UTF-8"))
    }

    /// Bytes of exactly this number.
    ///
    /// # Errors
    /// Where it has another length.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.payload.try_into().map_err(|_| Malformed("attribute has the wrong length"))
    }
}

/// A header's `u16` at an offset, host order; 0 past its end.
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

/// A header's `u32` at an offset, host order; 0 past its end.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<Attribute<'_>> {
        attributes(bytes).collect::<Result<_, _>>().unwrap()
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn message_layout() {
        let mut message = MessageBuilder::new(0x10, NLM_F_REQUEST | NLM_F_ACK)
            .header(&[1, 2])
            .with(|a| {
                a.u8(3, 0xAA).nest(4, |a| {
                    a.be16(5, 0x1234);
                });
            })
            .finish();
        set_sequence(&mut message, 7, 9);
        assert_eq!(
            message,
            [
                40, 0, 0, 0, 0x10, 0, 5, 0, 7, 0, 0, 0, 9, 0, 0, 0, // header
                1, 2, 0, 0, // family header, padded
                5, 0, 3, 0, 0xAA, 0, 0, 0, // u8, padded
                12, 0, 4, 0x80, 6, 0, 5, 0, 0x12, 0x34, 0, 0, // nest
            ]
        );
        let parsed = messages(&message).next().unwrap().unwrap();
        assert_eq!((parsed.kind, parsed.flags, parsed.sequence, parsed.port), (0x10, 5, 7, 9));
        let (header, rest) = parsed.after_header(2).unwrap();
        assert_eq!(header, [1, 2]);
        let found: Vec<_> = rest.map(Result::unwrap).collect();
        assert_eq!(found[0].u8(), Ok(0xAA));
        assert!(found[1].nested);
        assert_eq!(found[1].attributes().next().unwrap().unwrap().be16(), Ok(0x1234));
    }

    #[test]
    fn variable_integers_take_four_or_eight_bytes() {
        let mut writer = AttributeWriter::default();
        writer.uint(1, u64::from(u32::MAX)).uint(2, 5 << 32);
        let bytes = writer.into_bytes();
        let found = read(&bytes);
        assert_eq!((found[0].payload.len(), found[0].uint()), (4, Ok(u64::from(u32::MAX))));
        assert_eq!((found[1].payload.len(), found[1].uint()), (8, Ok(5 << 32)));
        assert!(Attribute { kind: 1, nested: false, payload: &[1, 2] }.uint().is_err());
    }

    /// An error without capping repeats the request; its attributes come after it.
    #[test]
    fn reads_extended_acknowledgements() {
        let request = MessageBuilder::new(20, NLM_F_REQUEST).with(|a| {
            a.u32(1, 2);
        });
        let request = request.finish();
        for capped in [true, false] {
            let flags = NLM_F_ACK_TLVS | if capped { NLM_F_CAPPED } else { 0 };
            let mut payload = (-22i32).to_ne_bytes().to_vec();
            payload.extend_from_slice(if capped { &request[..HEADER_LEN] } else { &request });
            let mut extra = AttributeWriter::default();
            extra.string(NLMSGERR_ATTR_MSG, "no such key").u32(NLMSGERR_ATTR_MISS_TYPE, 6);
            payload.extend_from_slice(&extra.into_bytes());
            let message = MessageBuilder::new(NLMSG_ERROR, flags).header(&payload).finish();
            let ack = messages(&message).next().unwrap().unwrap().ack().unwrap().unwrap();
            assert_eq!((ack.errno, ack.text.as_str(), ack.missing), (22, "no such key", Some(6)));
            assert_eq!(ack.into_result().unwrap_err().missing(), Some(6));
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        for bytes in [&[3, 0, 1, 0][..], &[9, 0, 1, 0, 1, 2, 3, 4], &[0; 4], &[4, 0, 1]] {
            assert!(attributes(bytes).any(|a| a.is_err()), "{bytes:?}");
        }
        for bytes in [&[15, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[16, 0, 0, 0]] {
            assert!(messages(bytes).any(|m| m.is_err()), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes).flatten() {
                let _ = message.ack();
                let _ = message.after_header(12);
            }
            for attribute in attributes(&bytes).flatten() {
                let _ = (attribute.uint(), attribute.ip(), attribute.string());
            }
        }

        #[test]
        fn what_is_written_is_read(list in prop::collection::vec((1u16..0x3FFF, prop::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let mut writer = AttributeWriter::default();
            for (kind, payload) in &list {
                writer.bytes(*kind, payload);
            }
            let bytes = writer.into_bytes();
            let found: Vec<_> = read(&bytes).iter().map(|a| (a.kind, a.payload.to_vec())).collect();
            prop_assert_eq!(found, list);
        }
    }
}
