//! Cuts a super-packet from the device into the packets that it stands for, and finishes checksums.
//!
//! ```text
//!   [headers][payload 0        ][payload 1        ][rest]
//!                     [headers 1][payload 1        ]        in place, in front of its payload
//! ```
//!
//! No payload moves: the headers of segment 1 are written over the end of payload 0, which whoever takes the segments
//! has used by then.

use ovpn_sys::tun::VnetHdr;

use super::checksum::{Sum, pseudo_header};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Room for the longest headers there are: IPv6 with extensions, TCP with options.
const MAX_HEADERS: usize = 256;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The offload header contradicts the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadOffload;

/// Calls `each` with every packet that `packet` stands for, in order, complete and with finished checksums. Each may
/// change the packet it gets, and must be done with it when it returns. Returns how many there were.
///
/// # Errors
/// [`BadOffload`], before the first packet.
#[inline]
pub fn split(hdr: &VnetHdr, packet: &mut [u8], mut each: impl FnMut(&mut [u8])) -> Result<usize, BadOffload> {
    match hdr.gso_type & !VnetHdr::GSO_ECN {
        VnetHdr::GSO_NONE => {
            if hdr.flags & VnetHdr::NEEDS_CSUM != 0 {
                finish_checksum(hdr, packet)?;
            }
            each(packet);
            Ok(1)
        }
        VnetHdr::GSO_TCPV4 | VnetHdr::GSO_TCPV6 => segments(hdr, packet, TCP, each),
        VnetHdr::GSO_UDP_L4 => segments(hdr, packet, UDP, each),
        _ => Err(BadOffload),
    }
}

fn finish_checksum(hdr: &VnetHdr, packet: &mut [u8]) -> Result<(), BadOffload> {
    let start = usize::from(hdr.csum_start);
    let counted = packet.get(start..).ok_or(BadOffload)?;
    let checksum = Sum::default().bytes(counted).udp_checksum();
    let field = counted_field(packet, start + usize::from(hdr.csum_offset))?;
    *field = checksum;
    Ok(())
}

fn counted_field(packet: &mut [u8], at: usize) -> Result<&mut [u8; 2], BadOffload> {
    packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut).ok_or(BadOffload)
}

fn segments(
    hdr: &VnetHdr,
    packet: &mut [u8],
    protocol: u8,
    mut each: impl FnMut(&mut [u8]),
) -> Result<usize, BadOffload> {
    let v6 = match packet.first().ok_or(BadOffload)? >> 4 {
        4 => false,
        6 => true,
        _ => return Err(BadOffload),
    };
    let ip_len = if v6 {
        // Extension headers may lie between; the checksum tells where they end.
        usize::from(hdr.csum_start)
    } else {
        usize::from(packet[0] & 0xF) * 4
    };
    let size = usize::from(hdr.gso_size);
    if hdr.flags & VnetHdr::NEEDS_CSUM == 0
        || usize::from(hdr.csum_start) != ip_len
        || ip_len < if v6 { 40 } else { 20 }
        || size == 0
        || packet.len() < ip_len + 20 && protocol == TCP
        || (!v6 && packet.get(9) != Some(&protocol))
    {
        return Err(BadOffload);
    }
    let transport_len =
        if protocol == TCP { usize::from(packet.get(ip_len + 12).ok_or(BadOffload)? >> 4) * 4 } else { 8 };
    let headers = ip_len + transport_len;
    if (protocol == TCP && transport_len < 20) || headers > packet.len() || headers > MAX_HEADERS {
        return Err(BadOffload);
    }
    let mut template = [0; MAX_HEADERS];
    let template = &mut template[..headers];
    template.copy_from_slice(&packet[..headers]);
    let checksum_at = ip_len + if protocol == TCP { 16 } else { 6 };
    let first_id = u16::from_be_bytes([template[4], template[5]]);
    let (first_seq, flags) =
        if protocol == TCP { (read_u32(template, ip_len + 4), template[ip_len + 13]) } else { (0, 0) };
    // What every segment's checksums have in common is summed once: the headers without what differs.
    template[checksum_at..checksum_at + 2].fill(0);
    if !v6 {
        template[2..6].fill(0);
        template[10..12].fill(0);
    }
    if protocol == TCP {
        template[ip_len + 4..ip_len + 8].fill(0);
        template[ip_len + 13] = 0;
    } else {
        template[ip_len + 4..ip_len + 6].fill(0);
    }
    let ip_sum = Sum::default().bytes(&template[..ip_len]);
    let transport_sum = pseudo_header(template, protocol, 0).bytes(&template[ip_len..]);
    let total = packet.len() - headers;
    let (mut at, mut count) = (0, 0usize);
    loop {
        let payload = size.min(total - at);
        let last = at + payload == total;
        let len = headers + payload;
        let segment = &mut packet[at..at + len];
        let transport_len = (len - ip_len) as u16;
        segment[..headers].copy_from_slice(template);
        if v6 {
            segment[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        } else {
            let id = first_id.wrapping_add(count as u16);
            segment[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            segment[4..6].copy_from_slice(&id.to_be_bytes());
            segment[10..12].copy_from_slice(&ip_sum.number(len as u16).number(id).checksum());
        }
        let sum = transport_sum.number(transport_len).bytes(&segment[headers..]);
        let checksum = if protocol == TCP {
            let seq = first_seq.wrapping_add(at as u32);
            let mut own = flags;
            if !last {
                own &= !(FIN | PSH);
            }
            if count > 0 {
                own &= !CWR;
            }
            segment[ip_len + 4..ip_len + 8].copy_from_slice(&seq.to_be_bytes());
            segment[ip_len + 13] = own;
            sum.number((seq >> 16) as u16).number(seq as u16).number(u16::from(own)).checksum()
        } else {
            segment[ip_len + 4..ip_len + 6].copy_from_slice(&transport_len.to_be_bytes());
            sum.number(transport_len).udp_checksum()
        };
        segment[checksum_at..checksum_at + 2].copy_from_slice(&checksum);
        each(segment);
        count += 1;
        at += payload;
        if last {
            return Ok(count);
        }
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::super::packets::{self, Flow, check_packet};
    use super::*;

    fn collect(hdr: &VnetHdr, packet: &mut [u8]) -> Result<Vec<Vec<u8>>, BadOffload> {
        let mut all = Vec::new();
        let count = split(hdr, packet, |segment| all.push(segment.to_vec()))?;
        assert_eq!(count, all.len());
        Ok(all)
    }

    #[test]
    fn segments_are_what_a_naive_split_makes() {
        for v6 in [false, true] {
            for protocol in [TCP, UDP] {
                for (payload, size) in
                    [(1, 1), (10, 3), (1400, 1400), (1401, 1400), (5600, 1400), (64000, 1348), (300, 7)]
                {
                    let flow = Flow { v6, protocol, ..Flow::default() };
                    let data: Vec<u8> = (0..payload).map(|i: usize| (i * 31 + 7) as u8).collect();
                    let (hdr, mut packet) = packets::super_packet(&flow, &data, size);
                    let expected: Vec<Vec<u8>> = packets::naive_segments(&flow, &data, size);
                    let got = collect(&hdr, &mut packet).unwrap();
                    assert_eq!(got, expected, "v6 {v6}, protocol {protocol}, {payload} by {size}");
                    got.iter().for_each(|p| check_packet(p));
                }
            }
        }
    }

    #[test]
    fn flags_stay_where_they_belong() {
        let flow = Flow { flags: 0x10 | FIN | PSH | CWR, ..Flow::default() };
        let (mut hdr, mut packet) = packets::super_packet(&flow, &[1; 30], 10);
        hdr.gso_type |= VnetHdr::GSO_ECN;
        let flags: Vec<u8> = collect(&hdr, &mut packet).unwrap().iter().map(|p| p[33]).collect();
        assert_eq!(flags, [0x10 | CWR, 0x10, 0x10 | FIN | PSH]);
    }

    #[test]
    fn a_lone_packet_gets_its_checksum() {
        for protocol in [TCP, UDP] {
            let flow = Flow { protocol, ..Flow::default() };
            let (mut hdr, mut packet) = packets::super_packet(&flow, b"lone packet", 1000);
            hdr.gso_type = VnetHdr::GSO_NONE;
            let got = collect(&hdr, &mut packet).unwrap();
            assert_eq!(got, packets::naive_segments(&flow, b"lone packet", 1000));
        }
        let mut bytes = *b"anything at all";
        assert_eq!(collect(&VnetHdr::default(), &mut bytes).unwrap(), [b"anything at all".to_vec()]);
        assert_eq!(collect(&VnetHdr::default(), &mut []).unwrap(), [Vec::<u8>::new()]);
    }

    #[test]
    fn contradictions_are_refused() {
        let flow = Flow::default();
        let (hdr, packet) = packets::super_packet(&flow, &[0; 100], 10);
        let bad = |hdr: VnetHdr, mut packet: Vec<u8>| collect(&hdr, &mut packet) == Err(BadOffload);
        assert!(bad(VnetHdr { gso_size: 0, ..hdr }, packet.clone()));
        assert!(bad(VnetHdr { gso_type: 3, ..hdr }, packet.clone()));
        assert!(bad(VnetHdr { gso_type: 99, ..hdr }, packet.clone()));
        assert!(bad(VnetHdr { flags: 0, ..hdr }, packet.clone()));
        assert!(bad(VnetHdr { csum_start: 24, ..hdr }, packet.clone()));
        assert!(bad(VnetHdr { gso_type: VnetHdr::GSO_UDP_L4, ..hdr }, packet.clone()));
        assert!(bad(hdr, packet[..30].to_vec()));
        assert!(bad(hdr, Vec::new()));
        let mut short = packet.clone();
        short[32] = 0x40;
        assert!(bad(hdr, short));
        let lone = VnetHdr { gso_type: 0, csum_start: 90, csum_offset: 61, ..hdr };
        assert!(bad(lone, packet.clone()));
        assert!(bad(VnetHdr { csum_start: 9000, ..lone }, packet));
    }

    #[test]
    fn no_header_makes_it_panic() {
        let flow = Flow::default();
        let (hdr, packet) = packets::super_packet(&flow, &[0; 100], 10);
        let mut random = packets::Random(7);
        for _ in 0..200_000 {
            let mut bytes = hdr.to_bytes();
            for _ in 0..=random.below(2) {
                bytes[random.below(10)] = random.next() as u8;
            }
            let mut packet = packet[..random.below(packet.len() + 1)].to_vec();
            for _ in 0..random.below(3) {
                let at = random.below(packet.len().max(1));
                if let Some(byte) = packet.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            let hdr = VnetHdr::parse(&bytes).unwrap();
            let _ =
                split(&hdr, &mut packet, |segment| assert!(!segment.is_empty() || hdr.gso_type & 0x7F == 0));
        }
    }
}
