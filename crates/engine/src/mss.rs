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
        if at.is_multiple_of(2) { word } else { word.swap_bytes() }
    };
    tcp[at..at + 2].copy_from_slice(&new);
    let checksum = u16::from_be_bytes([tcp[16], tcp[17]]);
    let mut sum = u32::from(!checksum) + u32::from(!word(old)) + u32::from(word(new));
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum of a TCP segment, computed from scratch (RFC 9293).
    fn checksum(pseudo: &[u8], tcp: &[u8]) -> u16 {
        let mut bytes = [pseudo, tcp].concat();
        bytes[pseudo.len() + 16..pseudo.len() + 18].fill(0);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = (sum & 0xFFFF) + (sum >> 16);
        !((sum & 0xFFFF) + (sum >> 16)) as u16
    }

    fn packet(v6: bool, flags: u8, options: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0xAB, 0xCD, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0, flags, 0xFF, 0xFF, 0, 0, 0, 0];
        tcp.extend(options);
        tcp.resize(20 + options.len().next_multiple_of(4), 0);
        tcp[12] = (tcp.len() as u8 / 4) << 4;
        let mut packet = if v6 {
            let mut header = vec![0; 40];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&(tcp.len() as u16).to_be_bytes());
            header[6] = 6;
            header[8..40].copy_from_slice(&[0x20, 1, 0xD, 0xB8].repeat(8));
            header
        } else {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
            header[2..4].copy_from_slice(&(20 + tcp.len() as u16).to_be_bytes());
            header
        };
        let sum = checksum(&pseudo(&packet, tcp.len()), &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        packet.extend(tcp);
        packet
    }

    fn pseudo(ip: &[u8], tcp_len: usize) -> Vec<u8> {
        let addresses = if ip[0] >> 4 == 6 { &ip[8..40] } else { &ip[12..20] };
        [addresses, &(tcp_len as u32).to_be_bytes(), &[0, 0, 0, 6]].concat()
    }

    fn valid(packet: &[u8]) -> bool {
        let (ip, tcp) = packet.split_at(if packet[0] >> 4 == 6 { 40 } else { 20 });
        checksum(&pseudo(ip, tcp.len()), tcp) == u16::from_be_bytes([tcp[16], tcp[17]])
    }

    #[test]
    fn a_syn_is_lowered_and_its_checksum_stays_right() {
        for v6 in [false, true] {
            let tcp = if v6 { 40 } else { 20 };
            // The option at even and odd offsets, alone and among others; SYN and SYN-ACK.
            for before in [&[][..], &[1], &[1, 1], &[8, 10, 1, 2, 3, 4, 5, 6, 7, 8], &[3, 3, 7]] {
                for flags in [0x02, 0x12] {
                    for mss in [1460u16, 1401, 65535] {
                        let options = [before, &[2, 4], &mss.to_be_bytes(), &[4, 2]].concat();
                        let mut packet = packet(v6, flags, &options);
                        assert!(valid(&packet));
                        let original = packet.clone();
                        clamp(&mut packet, 1400);
                        let at = tcp + 20 + before.len() + 2;
                        let expected = if v6 { 1380u16 } else { 1400 };
                        assert_eq!(packet[at..at + 2], expected.to_be_bytes());
                        assert!(valid(&packet), "{before:?} {mss}");
                        packet[at..at + 2].copy_from_slice(&mss.to_be_bytes());
                        packet[tcp + 16..tcp + 18].copy_from_slice(&original[tcp + 16..tcp + 18]);
                        assert_eq!(packet, original, "nothing else changed");
                    }
                }
            }
        }
    }

    #[test]
    fn everything_else_is_left_alone() {
        let mss = [2, 4, 0xFF, 0xFF];
        let mut cases = vec![
            ("not a SYN", packet(false, 0x10, &mss)),
            ("smaller already", packet(false, 2, &[2, 4, 2, 0])),
            ("no options", packet(false, 2, &[])),
            ("after the end of options", packet(false, 2, &[&[0, 0, 0, 0][..], &mss].concat())),
            ("option of length 0", packet(false, 2, &[&[9, 0, 0, 0][..], &mss].concat())),
            ("option past the header", packet(false, 2, &[&[9, 200, 0, 0][..], &mss].concat())),
            ("MSS of another length", packet(false, 2, &[2, 3, 0xFF, 0xFF])),
            ("MSS at the very end", packet(false, 2, &[1, 1, 1, 2])),
            ("nothing", Vec::new()),
        ];
        let mut fragment = packet(false, 2, &mss);
        fragment[7] = 1;
        cases.push(("a later fragment", fragment));
        let mut udp = packet(false, 2, &mss);
        udp[9] = 17;
        cases.push(("not TCP", udp));
        let mut extended = packet(true, 2, &mss);
        extended[6] = 0;
        cases.push(("IPv6 extension header", extended));
        let mut padded = packet(false, 2, &mss);
        padded.push(0);
        cases.push(("longer than its header says", padded));
        let whole = packet(false, 2, &mss);
        cases.extend((0..whole.len()).map(|len| ("cut short", whole[..len].to_vec())));
        for (case, mut packet) in cases {
            let before = packet.clone();
            clamp(&mut packet, 1400);
            assert_eq!(packet, before, "{case}");
        }
        let mut packet = packet(false, 2, &mss);
        let before = packet.clone();
        clamp(&mut packet, 0);
        assert_eq!(packet, before, "off");
    }
}
