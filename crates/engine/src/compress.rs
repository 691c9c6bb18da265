//! Compression framing of a peer's payloads: put on when sending, taken off when receiving.
//!
//! Nothing is ever compressed. What a peer compressed is expanded into the packet's own buffer, which bounds it.

use ovpn_dco::Framing;
use ovpn_wire::compression::{self, Framed};

use crate::drop_reason::DropReason;
use crate::lzo;

/// Longest payload after expansion, bytes: no IP packet is longer.
pub const MAX_EXPANDED: usize = 65_535;

/// `packet` in its framing: what is to be sent, one part after the other.
pub(crate) fn wrap(framing: Framing, packet: &[u8]) -> [&[u8]; 3] {
    match framing {
        Framing::Lzo => [&[compression::V1_PREFIX], packet, &[]],
        Framing::Swap => {
            let (first, rest) = packet.split_at(packet.len().min(1));
            [&[compression::V1_SWAP], rest, first]
        }
        Framing::V2 if packet.first() == Some(&compression::V2_ESCAPE) => {
            [&[compression::V2_ESCAPE, compression::V2_NONE], packet, &[]]
        }
        Framing::None | Framing::V2 => [&[], packet, &[]],
    }
}

/// Takes the framing off the payload in `buffer[..len]`, expanding it in place if it is compressed; returns the new
/// length.
///
/// # Errors
/// [`DropReason::BadCompression`], not yet counted, for unknown framings, damaged data, and data that expands beyond
/// the buffer or [`MAX_EXPANDED`].
pub(crate) fn unwrap(framing: Framing, buffer: &mut [u8], len: usize) -> Result<usize, DropReason> {
    let payload = buffer.get(..len).ok_or(DropReason::NoRoom)?;
    let framed = match framing {
        Framing::None => return Ok(len),
        // An empty payload has no framing to take off; it is dropped as empty.
        _ if payload.is_empty() => return Ok(0),
        Framing::Lzo | Framing::Swap => compression::inspect_v1(payload),
        Framing::V2 => compression::inspect_v2(payload),
    };
    match framed.ok_or(DropReason::BadCompression)? {
        Framed::Plain(0) => Ok(len),
        Framed::Plain(skip) => {
            buffer.copy_within(skip..len, 0);
            Ok(len - skip)
        }
        Framed::Swapped => {
            buffer[0] = buffer[len - 1];
            Ok(len - 1)
        }
        Framed::Lzo(skip) => {
            let data = buffer[skip..len].to_vec();
            lzo::decompress(&data, bounded(buffer)).map_err(|lzo::Damaged| DropReason::BadCompression)
        }
        Framed::Lz4(skip) => expand_lz4(buffer[skip..len].to_vec(), buffer),
        Framed::Lz4Swapped => {
            let mut data = buffer[..len - 1].to_vec();
            data[0] = buffer[len - 1];
            expand_lz4(data, buffer)
        }
    }
}

fn expand_lz4(data: Vec<u8>, buffer: &mut [u8]) -> Result<usize, DropReason> {
    lz4_flex::block::decompress_into(&data, bounded(buffer)).map_err(|_| DropReason::BadCompression)
}

fn bounded(buffer: &mut [u8]) -> &mut [u8] {
    let len = buffer.len().min(MAX_EXPANDED);
    &mut buffer[..len]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::ipv4;

    const FRAMINGS: [Framing; 4] = [Framing::None, Framing::Lzo, Framing::Swap, Framing::V2];

    fn wrapped(framing: Framing, packet: &[u8]) -> Vec<u8> {
        wrap(framing, packet).concat()
    }

    #[test]
    fn framing_is_put_on_and_taken_off() {
        let packet = ipv4("10.0.0.1", "10.0.0.2", 60);
        assert_eq!(wrapped(Framing::None, &packet), packet);
        assert_eq!(wrapped(Framing::Lzo, &packet), [&[0xFA][..], &packet].concat());
        assert_eq!(wrapped(Framing::Swap, &packet), [&[0xFB][..], &packet[1..], &[0x45]].concat());
        assert_eq!(wrapped(Framing::V2, &packet), packet, "IP needs no escape");
        assert_eq!(wrapped(Framing::V2, &[0x50, 9]), [0x50, 0, 0x50, 9]);
        for framing in FRAMINGS {
            for packet in [&packet[..], &[0x50, 1, 2], &[0x45], &ovpn_wire::payload::PING] {
                let mut buffer = wrapped(framing, packet);
                let len = buffer.len();
                assert_eq!(unwrap(framing, &mut buffer, len), Ok(packet.len()));
                assert_eq!(&buffer[..packet.len()], packet, "{framing:?}");
            }
            assert_eq!(unwrap(framing, &mut [0; 4], 0), Ok(0));
        }
    }

    #[test]
    fn both_v1_framings_are_read_by_a_peer_of_either() {
        for (sent, expected) in [(Framing::Lzo, Framing::Swap), (Framing::Swap, Framing::Lzo)] {
            let mut buffer = wrapped(sent, b"E packet");
            let len = buffer.len();
            assert_eq!(unwrap(expected, &mut buffer, len), Ok(8));
            assert_eq!(&buffer[..8], b"E packet");
        }
    }

    #[test]
    fn unknown_framings_are_refused() {
        for (framing, payload) in [
            (Framing::Lzo, &[0x45, 0][..]),
            (Framing::Swap, &[0xFB]),
            (Framing::V2, &[0x50, 3, 1]),
            (Framing::V2, &[0x50]),
        ] {
            let mut buffer = payload.to_vec();
            assert_eq!(unwrap(framing, &mut buffer, payload.len()), Err(DropReason::BadCompression));
        }
    }

    /// "E" and 99 spaces as an LZ4 block: one literal, then a match of offset 1, then five literals.
    fn lz4() -> (Vec<u8>, Vec<u8>) {
        let plain = [&b"E "[..], &[b' '; 98]].concat();
        let block = [&[0x2F][..], b"E ", &[1, 0, 93 - 4 - 15], &[0x50], &[b' '; 5]].concat();
        (block, plain)
    }

    #[test]
    fn compressed_payloads_are_expanded_within_the_buffer() {
        let (block, plain) = lz4();
        let swapped = [&[0x69][..], &block[1..], &block[..1]].concat();
        let v2 = [&[0x50, 1][..], &block].concat();
        // One literal, a long match of distance 1, the end.
        let lzo_stream = [&[19, b'E', b' '][..], &[0x20, 98 - 2 - 31, 0, 0], &[0x11, 0, 0]].concat();
        let lzo_v1 = [&[0x66][..], &lzo_stream].concat();
        let lzo_v2 = [&[0x50, 2][..], &lzo_stream].concat();
        for (framing, payload) in [
            (Framing::Swap, &swapped),
            (Framing::Lzo, &swapped),
            (Framing::V2, &v2),
            (Framing::Lzo, &lzo_v1),
            (Framing::V2, &lzo_v2),
        ] {
            let mut buffer = vec![0; 2048];
            buffer[..payload.len()].copy_from_slice(payload);
            assert_eq!(unwrap(framing, &mut buffer, payload.len()), Ok(plain.len()), "{payload:x?}");
            assert_eq!(buffer[..plain.len()], plain);

            let mut small = vec![0; plain.len() - 1];
            small[..payload.len()].copy_from_slice(payload);
            assert_eq!(unwrap(framing, &mut small, payload.len()), Err(DropReason::BadCompression));

            // (Cutting a swapped block only exchanges its first byte.)
            if payload[0] != 0x69 {
                buffer[..payload.len()].copy_from_slice(payload);
                let cut = unwrap(framing, &mut buffer, payload.len() - 2);
                assert_eq!(cut, Err(DropReason::BadCompression), "{payload:x?}");
            }
        }
    }

    #[test]
    fn bombs_end_at_an_ip_packets_length() {
        // 100 kB from 400 bytes of LZ4.
        let block = [&[0x1F][..], b"E", &[1, 0], &[255; 392], &[0], &[0x50], b"     "].concat();
        let bomb = [&[0x50, 1][..], &block].concat();
        let mut buffer = vec![0; 200_000];
        buffer[..bomb.len()].copy_from_slice(&bomb);
        assert_eq!(unwrap(Framing::V2, &mut buffer, bomb.len()), Err(DropReason::BadCompression));
        assert_eq!(
            lz4_flex::block::decompress_into(&block, &mut vec![0; 200_000]).map_err(|_| ()),
            Ok(392 * 255 + 25)
        );
    }
}
