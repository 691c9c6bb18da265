//! Length-prefixed packets in a TCP stream.
//!
//! ```text
//!  u16 length   packet   u16 length   packet   …
//! ```
//!
//! The length does not count itself; 0 and lengths above the receiver's limit are fatal to the stream.
//! [`PacketReader`] keeps one buffer of fixed size, whatever the peer announces.
//! Source: OpenVPN wire protocol, "Transport framing".

use thiserror::Error;

/// Bytes of the length prefix.
pub const PREFIX_LEN: usize = 2;

/// The stream is out of step and must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("packet length {length} in the TCP stream is outside 1..={max}")]
pub struct FramingError {
    /// The announced length.
    pub length: usize,
    /// The largest length that would have been taken.
    pub max: usize,
}

/// A packet could not be framed: empty or longer than 65535 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a packet of {0} bytes has no length prefix")]
pub struct Unframable(pub usize);

/// The prefix of a packet with this many bytes.
pub fn prefix(packet_len: usize) -> Result<[u8; PREFIX_LEN], Unframable> {
    match u16::try_from(packet_len) {
        Ok(len) if len > 0 => Ok(len.to_be_bytes()),
        _ => Err(Unframable(packet_len)),
    }
}

/// Appends a framed packet to `out`.
pub fn write_packet(packet: &[u8], out: &mut Vec<u8>) -> Result<(), Unframable> {
    out.extend_from_slice(&prefix(packet.len())?);
    out.extend_from_slice(packet);
    Ok(())
}

/// Cuts a stream into packets. Read from the socket into [`Self::space`], tell [`Self::filled`], then take packets with
/// [`Self::next_packet`] until there is none; only then is there space again.
#[derive(Debug, Clone)]
pub struct PacketReader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    max: usize,
}

impl PacketReader {
    /// A reader that takes packets up to `max` bytes. It allocates its buffer now and never again.
    pub fn new(max: usize) -> Self {
        let max = max.clamp(1, usize::from(u16::MAX));
        // Two packets fit, so that one read of the socket can bring the end of one and the next as a whole.
        Self { buffer: vec![0; 2 * (PREFIX_LEN + max)].into_boxed_slice(), start: 0, end: 0, max }
    }

    /// Where the next bytes of the stream go. Never empty once [`Self::next_packet`] has returned `Ok(None)`.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were read into [`Self::space`].
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// The next whole packet, if it has arrived.
    pub fn next_packet(&mut self) -> Result<Option<&[u8]>, FramingError> {
        let arrived = &self.buffer[self.start..self.end];
        let Some((length, rest)) = arrived.split_first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length == 0 || length > self.max {
            return Err(FramingError { length, max: self.max });
        }
        let Some(packet) = rest.get(..length) else { return Ok(None) };
        self.start += PREFIX_LEN + length;
        Ok(Some(packet))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the stream in pieces of these sizes and collects the packets.
    fn read(stream: &[u8], sizes: &[usize], max: usize) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut reader = PacketReader::new(max);
        let (mut packets, mut rest) = (Vec::new(), stream);
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let space = reader.space();
            assert!(!space.is_empty());
            let count = rest.len().min(space.len()).min(*sizes.next().unwrap());
            space[..count].copy_from_slice(&rest[..count]);
            reader.filled(count);
            rest = &rest[count..];
            while let Some(packet) = reader.next_packet()? {
                packets.push(packet.to_vec());
            }
        }
        Ok(packets)
    }

    proptest! {
        #[test]
        fn round_trip(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 0..20),
            sizes in prop::collection::vec(1usize..300, 1..8),
        ) {
            let mut stream = Vec::new();
            for packet in &packets {
                write_packet(packet, &mut stream).unwrap();
            }
            prop_assert_eq!(read(&stream, &sizes, 99), Ok(packets));
        }

        #[test]
        fn any_stream_is_cut_or_refused(stream: Vec<u8>, sizes in prop::collection::vec(1usize..40, 1..4)) {
            if let Ok(packets) = read(&stream, &sizes, 50) {
                prop_assert!(packets.iter().all(|packet| (1..=50).contains(&packet.len())));
            }
        }
    }

    #[test]
    fn impossible_lengths_are_fatal() {
        assert_eq!(read(&[0, 0], &[2], 9), Err(FramingError { length: 0, max: 9 }));
        assert_eq!(read(&[0, 10, 1], &[1], 9), Err(FramingError { length: 10, max: 9 }));
        assert_eq!(prefix(0), Err(Unframable(0)));
        assert_eq!(prefix(65536), Err(Unframable(65536)));
        assert_eq!(prefix(65535), Ok([0xff, 0xff]));
    }
}
