//! Packets in a TCP stream, as a receiver of data packets cuts it.
//!
//! ```text
//!   [length, 2][packet][length, 2][packet][length, 2][pac      the last is whole after another read
//! ```

use ovpn_wire::tcp_framing;

/// Why a stream cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFrame {
    /// A length that no packet has.
    Length,
    /// A packet that the peer must not send over a stream; counted already.
    Packet,
}

/// Calls `each` with every whole packet of `stream`; returns how many bytes they and their prefixes were.
///
/// # Errors
/// [`BadFrame::Length`] for a packet shorter than four bytes, which no peer sends: the stream is out of step. What
/// `each` says.
pub fn frames(stream: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), BadFrame>) -> Result<usize, BadFrame> {
    let mut at = 0;
    while let Some((length, rest)) = stream.get(at..).and_then(<[u8]>::split_first_chunk) {
        let length = usize::from(u16::from_be_bytes(*length));
        if length < 4 {
            return Err(BadFrame::Length);
        }
        let Some(packet) = rest.get(..length) else { break };
        each(packet)?;
        at += tcp_framing::PREFIX_LEN + length;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_cut_at_frames() {
        let stream = b"\0\x04abcd\0\x05efghi\0\x06jk";
        let mut got = Vec::new();
        let used = frames(stream, |packet| {
            got.push(packet.to_vec());
            Ok(())
        });
        assert_eq!((used, got), (Ok(13), vec![b"abcd".to_vec(), b"efghi".to_vec()]));
        for bad in [b"\0\0".as_slice(), b"\0\x01a", b"\0\x03abc", b"\0\x04abcd\0\x02"] {
            assert_eq!(frames(bad, |_| Ok(())), Err(BadFrame::Length));
        }
        assert_eq!(frames(b"\xFF\xFFabc", |_| Ok(())), Ok(0));
        assert_eq!(frames(b"\0", |_| Ok(())), Ok(0));
    }
}
