//! Sizes that follow from the outside: the largest TCP segment that inner connections may use, so that nothing fragments
//! outside, and the largest piece of a packet that we cut ourselves.
//!
//! ```text
//!   1492 = IP │ UDP or TCP │ OpenVPN │ fragment header, framing │ inner IP + TCP (40) │ MSS
//!   fragment 1200 =          OpenVPN │ fragment header (4) │ piece
//!   fragment 1200 mtu = IP │ UDP │ …
//! ```

use ovpn_config::model::{Fragment, MssFix};

/// The tunnel's outside, as far as sizes depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// TCP rather than UDP.
    pub tcp: bool,
    /// The epoch data format.
    pub epoch: bool,
    /// DATA_V1, without peer id.
    pub v1: bool,
    /// Bytes that the compression framing of an old peer puts around every inner packet.
    pub framing: u16,
    /// The fragment header stands before every payload.
    pub fragment: bool,
}

impl Outside {
    /// IP and transport header, bytes.
    const fn headers(self) -> u16 {
        (if self.ipv6 { 40 } else { 20 }) + if self.tcp { 20 } else { 8 }
    }

    /// What OpenVPN adds to what it encrypts, the fragment header included, bytes.
    const fn encapsulation(self) -> u16 {
        let format = if self.epoch {
            28
        } else if self.v1 {
            21
        } else {
            24
        };
        format + if self.tcp { 2 } else { 0 } + if self.fragment { FRAGMENT_HEADER } else { 0 }
    }
}

/// Inner IPv4 and TCP header, bytes.
const INNER_HEADERS: u16 = 40;

/// Before every payload of a peer that cuts packets, bytes.
const FRAGMENT_HEADER: u16 = 4;

/// The MSS for inner IPv4 connections (IPv6: 20 less); 0 leaves segments alone.
pub fn mss(option: MssFix, tun_mtu: u16, outside: Outside) -> u16 {
    let segment = |packet: u16, around: u16| packet.saturating_sub(around + INNER_HEADERS);
    let around = outside.encapsulation() + outside.framing;
    match option {
        MssFix::Off => 0,
        MssFix::Default if tun_mtu == 1500 => segment(1492, outside.headers() + around),
        MssFix::Default => segment(tun_mtu, 0),
        MssFix::Mtu(size) => segment(size, outside.headers() + around),
        MssFix::Payload(size) => segment(size, around),
        MssFix::Fixed(size) => segment(size, 0),
    }
}

/// The largest piece of a packet, bytes behind the fragment header; with it, [`Outside::fragment`] is set. Never less
/// than what a keepalive needs.
pub fn piece(option: Fragment, outside: Outside) -> u16 {
    let headers = if option.mtu { outside.headers() } else { 0 };
    option.size.saturating_sub(headers + outside.encapsulation()).max(20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: Outside =
        Outside { ipv6: false, tcp: false, epoch: false, v1: false, framing: 0, fragment: false };

    #[test]
    fn the_defaults_are_those_of_openvpn() {
        let of = |ipv6, tcp, epoch| mss(MssFix::Default, 1500, Outside { ipv6, tcp, epoch, ..UDP });
        assert_eq!([of(false, false, false), of(true, false, false)], [1400, 1380]);
        assert_eq!([of(false, true, false), of(true, true, false)], [1386, 1366]);
        assert_eq!([of(false, false, true), of(true, false, true)], [1396, 1376]);
        assert_eq!([of(false, true, true), of(true, true, true)], [1382, 1362]);
    }

    #[test]
    fn every_form_of_the_option() {
        let outside = UDP;
        assert_eq!(mss(MssFix::Off, 1500, outside), 0);
        assert_eq!(mss(MssFix::Payload(1450), 1500, outside), 1450 - 24 - 40);
        assert_eq!(mss(MssFix::Mtu(1400), 1500, outside), 1400 - 28 - 24 - 40);
        assert_eq!(mss(MssFix::Fixed(1400), 1500, outside), 1360);
        assert_eq!(mss(MssFix::Default, 1400, outside), 1360);
        assert_eq!(mss(MssFix::Mtu(10), 1500, outside), 0);
    }

    /// As stock 2.6.14 tells them in its log (`mss_fix`, `max_frag`).
    #[test]
    fn pieces_and_segments_with_fragment() {
        let fragment = |size, mtu| Fragment { size, mtu };
        let udp = Outside { fragment: true, ..UDP };
        assert_eq!(piece(fragment(1200, false), udp), 1172);
        assert_eq!(piece(fragment(1200, true), udp), 1144);
        assert_eq!(piece(fragment(1200, true), Outside { ipv6: true, ..udp }), 1124);
        assert_eq!(piece(fragment(1200, false), Outside { epoch: true, ..udp }), 1168);
        assert_eq!(mss(MssFix::Mtu(1200), 1500, udp), 1104);
        assert_eq!(mss(MssFix::Mtu(1200), 1500, Outside { framing: 1, ..udp }), 1103);
        assert_eq!(mss(MssFix::Payload(1000), 1500, udp), 932);
        assert_eq!(mss(MssFix::Default, 1500, Outside { framing: 1, ..UDP }), 1399);
        assert_eq!(piece(fragment(68, true), Outside { ipv6: true, ..udp }), 20);
    }
}
