//! Headers of inner packets: IPv4, IPv6, TCP, UDP.
//!
//! ```text
//! IPv4  |4|ihl| tos | total length | id | flags·fragment offset | ttl | proto | checksum | src 4 | dst 4 | options…
//! IPv6  |6| class, flow | payload length | next header | hop limit | src 16 | dst 16 |
//! ```
//!
//! Only what a data plane looks at: addresses for routing and the reverse path check, and where TCP begins.
//! (RFC 791, RFC 8200, RFC 9293, RFC 768.)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Shortest IPv4 header, bytes.
pub const IPV4_MIN_HEADER: usize = 20;

/// IPv6 header, bytes.
pub const IPV6_HEADER: usize = 40;

/// IP protocol number of TCP.
pub const PROTO_TCP: u8 = 6;

/// IP protocol number of UDP.
pub const PROTO_UDP: u8 = 17;

/// Source address of an IP packet; `None` where it is no IP packet or too short to tell.
#[inline]
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 12, 8)
}

/// Destination address of an IP packet; `None` where it is no IP packet or too short to tell.
#[inline]
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 16, 24)
}

#[inline]
fn address(packet: &[u8], v4_offset: usize, v6_offset: usize) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= IPV4_MIN_HEADER => {
            let bytes: [u8; 4] = *packet.get(v4_offset..)?.first_chunk()?;
            Some(IpAddr::V4(Ipv4Addr::from(bytes)))
        }
        6 if packet.len() >= IPV6_HEADER => {
            let bytes: [u8; 16] = *packet.get(v6_offset..)?.first_chunk()?;
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// Where the TCP header of an unfragmented TCP packet begins, and whether it is IPv6 that carries it. `None` for
/// everything else: other protocols, later fragments, IPv6 with extension headers, packets cut short.
#[inline]
pub fn tcp_offset(packet: &[u8]) -> Option<(usize, bool)> {
    match packet.first()? >> 4 {
        4 => {
            let header: &[u8; IPV4_MIN_HEADER] = packet.first_chunk()?;
            let offset = usize::from(header[0] & 0xF) * 4;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1FFF;
            let whole = offset >= IPV4_MIN_HEADER && total == packet.len() && fragment_offset == 0;
            (header[9] == PROTO_TCP && whole && packet.len() >= offset + 20).then_some((offset, false))
        }
        6 => {
            let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
            let whole = usize::from(u16::from_be_bytes([header[4], header[5]])) + IPV6_HEADER == packet.len();
            (header[6] == PROTO_TCP && whole && packet.len() >= IPV6_HEADER + 20)
                .then_some((IPV6_HEADER, true))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_whole_headers_only() {
        let mut v4 = [0; 20];
        v4[0] = 0x45;
        v4[12..16].copy_from_slice(&[10, 0, 0, 1]);
        v4[16..].copy_from_slice(&[10, 0, 0, 2]);
        assert_eq!(source(&v4), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(destination(&v4), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(source(&v4[..19]), None);

        let mut v6 = [0; 40];
        v6[0] = 0x60;
        (v6[23], v6[39]) = (1, 2);
        assert_eq!(source(&v6), Some("::1".parse().unwrap()));
        assert_eq!(destination(&v6), Some("::2".parse().unwrap()));
        assert_eq!(destination(&v6[..39]), None);
        assert_eq!(destination(&[]), None);
        assert_eq!(destination(&[0x50; 40]), None);
    }
}
