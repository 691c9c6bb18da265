//! The fragment header (`fragment N`): four bytes before every payload of peers that split packets by themselves.
//!
//! ```text
//!  bit 31   29 28               15 14        10 9          2 1    0
//!     │ unused │  piece size / 4   │   index   │ packet id  │ kind │   big-endian
//!
//!  kind 0  the whole packet follows; id and index are zero
//!  kind 1  piece `index` of packet `id`, not the last: its length is the piece size
//!  kind 2  the last piece: tells the size of the others, and so where it belongs
//!  kind 3  a test that nobody sends
//! ```
//!
//! The header stands outside the compression framing and inside the encryption. (OpenVPN wire protocol, data channel,
//! fragmentation.)

/// Bytes of the header.
pub const LEN: usize = 4;

/// The most pieces of one packet.
pub const MAX_PIECES: usize = 32;

/// Piece sizes are multiples of this many bytes, but for the last piece.
pub const UNIT: usize = 4;

const INDEX_BITS: u32 = 0x1F;
const SIZE_BITS: u32 = 0x3FFF;

/// What follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// A whole packet.
    Whole,
    /// A piece that is not the last; all of these are of one size, a multiple of [`UNIT`].
    Piece {
        /// Which packet.
        packet: u8,
        /// Which piece, below [`MAX_PIECES`].
        index: u8,
    },
    /// The last piece.
    Last {
        /// Which packet.
        packet: u8,
        /// Which piece, below [`MAX_PIECES`].
        index: u8,
        /// Size of the others in bytes, a multiple of [`UNIT`].
        size: u16,
    },
    /// A test, unused.
    Test,
}

impl Fragment {
    /// Splits a payload into its header and what follows. `None` where it is shorter than the header, or says "whole"
    /// and names a piece.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = payload.split_first_chunk()?;
        let bits = u32::from_be_bytes(*header);
        let packet = (bits >> 2) as u8;
        let index = (bits >> 10 & INDEX_BITS) as u8;
        let header = match bits & 3 {
            0 if packet == 0 && index == 0 => Self::Whole,
            0 => return None,
            1 => Self::Piece { packet, index },
            2 => Self::Last { packet, index, size: (bits >> 15 & SIZE_BITS) as u16 * UNIT as u16 },
            _ => Self::Test,
        };
        Some((header, rest))
    }

    /// The header's bytes. Of a size only the multiple of [`UNIT`] is told, of an index what is below [`MAX_PIECES`].
    #[inline]
    pub fn to_bytes(self) -> [u8; LEN] {
        let place = |packet: u8, index: u8| (u32::from(index) & INDEX_BITS) << 10 | u32::from(packet) << 2;
        let bits = match self {
            Self::Whole => 0,
            Self::Piece { packet, index } => place(packet, index) | 1,
            Self::Last { packet, index, size } => {
                (u32::from(size) / UNIT as u32) << 15 | place(packet, index) | 2
            }
            Self::Test => 3,
        };
        bits.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_as_bytes() {
        for (header, bytes) in [
            (Fragment::Whole, [0, 0, 0, 0]),
            (Fragment::Piece { packet: 1, index: 0 }, [0, 0, 0, 0b101]),
            (Fragment::Piece { packet: 255, index: 31 }, [0, 0, 0x7F, 0xFD]),
            // 588 / 4 = 147 = 0x93, shifted by 15 bits.
            (Fragment::Last { packet: 1, index: 1, size: 588 }, [0x00, 0x49, 0x84, 0x06]),
            (Fragment::Last { packet: 0, index: 0, size: 65_532 }, [0x1F, 0xFF, 0x80, 0x02]),
            (Fragment::Test, [0, 0, 0, 3]),
        ] {
            assert_eq!(header.to_bytes(), bytes, "{header:?}");
            let payload = [&bytes[..], b"rest"].concat();
            assert_eq!(Fragment::parse(&payload), Some((header, &b"rest"[..])));
        }
        assert_eq!(Fragment::parse(&[0, 0, 0]), None);
        assert_eq!(Fragment::parse(&[0, 0, 0, 4]), None, "a whole packet has no number");
        assert_eq!(Fragment::parse(&[0, 0, 4, 0]), None, "a whole packet is no piece");
        assert_eq!(Fragment::parse(&[0xE0, 0, 0, 0]), Some((Fragment::Whole, &[][..])), "unused bits");
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(payload in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Some((header, rest)) = Fragment::parse(&payload) {
                prop_assert_eq!(rest, &payload[LEN..]);
                let again = header.to_bytes();
                prop_assert_eq!(Fragment::parse(&again), Some((header, &[][..])));
            }
        }

        #[test]
        fn round_trip(packet: u8, index in 0..MAX_PIECES as u8, units in 0..=0x3FFF_u16) {
            let size = units * UNIT as u16;
            for header in [Fragment::Piece { packet, index }, Fragment::Last { packet, index, size }] {
                let bytes = header.to_bytes();
                prop_assert_eq!(Fragment::parse(&bytes), Some((header, &[][..])));
            }
        }
    }
}
