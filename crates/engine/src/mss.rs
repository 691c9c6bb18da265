//! Clamping of the TCP maximum segment size.
//!
//! ```text
//! TCP SYN  | header 20 | … | kind 2 | length 4 | MSS 16 | …       only lowered; checksum updated (RFC 1624)
//! ```

use ovpn_wire::inner;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const SYN: u8 = 2;

/// Lowers the MSS that a SYN announces to `mss` (20 less for IPv6) and updates the TCP checksum. Everything but
/// unfragmented SYN packets stays as it is; `mss` 0 changes nothing.
#[inline]
pub fn clamp(packet: &mut [u8], mss: u16) {
    if mss == 0 {
        return;
    }
    let Some((offset, v6)) = inner::tcp_offset(packet) else { return };
    let Some(tcp) = packet.get_mut(offset..) else { return };
    if tcp.len() < 20 || tcp[13] & SYN == 0 {
        return;
    }
    clamp_syn(tcp, if v6 { mss.saturating_sub(20) } else { mss });
}

#[cold]
fn clamp_syn(tcp: &mut [u8], mss: u16) {
    let header = usize::from(tcp[12] >> 4) * 4;
    let end = header.min(tcp.len());
    let mut at = 20;
    while at < end {
        match tcp[at] {
            OPTION_END => return,
            OPTION_NOP => at += 1,
            kind => {
                let Some(&length @ 2..) = tcp.get(at + 1) else { return };
                let next = at + usize::from(length);
                if next > end {
                    return;
                }
                if kind == OPTION_MSS && length == 4 {
                    let old = u16::from_be_bytes([tcp[at + 2], tcp[at + 3]]);
                    if old > mss {
                        replace(tcp, at + 2, mss.to_be_bytes());
                    }
                }
                at = next;
            }
        }
    }
}

/// Replaces two bytes and updates the checksum: HC' = ~(~HC + ~m + m') (RFC 1624, equation 3). Bytes at an odd offset
/// count with their halves exchanged.
fn replace(tcp: &mut [u8], at: usize, new: [u8; 2]) {
    let old = [tcp[at], tcp[at + 1]];
    let word = |bytes: [u8; 2]| {
        let word = u16::from_be_bytes(bytes);
        if at % 2 == 0 { word } else { word.swap_bytes() }
    };
    tcp[at..at + 2].copy_from_slice(&new);
    let checksum = u16::from_be_bytes([tcp[16], tcp[17]]);
    let mut sum = u32::from(!checksum) + u32::from(!word(old)) + u32::from(word(new));
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
