//! Compression framing of a peer's payloads: put on when sending, taken off when receiving.
//!
//! Nothing is ever compressed. What a peer compressed is expanded into the packet's own buffer, which bounds it.

use ovpn_dco::Framing;
use ovpn_wire::compression::{self, Framed};

use crate::drop_reason::DropReason;
use crate::lzo;

/// Longest payload after expansion, bytes: no IP packet is longer.
pub const MAX_EXPANDED: usize = 65_535;

/// Bytes that `framing` adds to this packet.
#[inline]
pub fn added(framing: Framing, packet: &[u8]) -> usize {
    match framing {
        Framing::None => 0,
        Framing::Lzo | Framing::Swap => 1,
        Framing::V2 if packet.first() == Some(&compression::V2_ESCAPE) => 2,
        Framing::V2 => 0,
    }
}

/// Writes `packet` with its framing into `out`, which is [`added`] bytes longer.
pub(crate) fn wrap(framing: Framing, packet: &[u8], out: &mut [u8]) {
    match (framing, packet, out) {
        (Framing::Lzo, packet, [byte, rest @ ..]) => {
            *byte = compression::V1_PREFIX;
            rest.copy_from_slice(packet);
        }
        (Framing::Swap, [first, packet @ ..], [byte, rest @ .., last]) => {
            *byte = compression::V1_SWAP;
            rest.copy_from_slice(packet);
            *last = *first;
        }
        (Framing::V2, packet, [escape, algorithm, rest @ ..]) if rest.len() == packet.len() => {
            *escape = compression::V2_ESCAPE;
            *algorithm = compression::V2_NONE;
            rest.copy_from_slice(packet);
        }
        (_, packet, out) => out.copy_from_slice(packet),
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
