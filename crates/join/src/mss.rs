//! The largest TCP segment that inner connections may use, so that nothing fragments outside.
//!
//! ```text
//!   1492 = IP │ UDP or TCP │ OpenVPN │ inner IP + TCP (40) │ MSS
//! ```

use ovpn_config::model::MssFix;

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
}

impl Outside {
    /// IP and transport header, bytes.
    const fn headers(self) -> u16 {
        (if self.ipv6 { 40 } else { 20 }) + if self.tcp { 20 } else { 8 }
    }

    /// What OpenVPN adds to an inner packet, bytes.
    const fn encapsulation(self) -> u16 {
        let format = if self.epoch {
            28
        } else if self.v1 {
            21
        } else {
            24
        };
        format + if self.tcp { 2 } else { 0 }
    }
}

/// Inner IPv4 and TCP header, bytes.
const INNER_HEADERS: u16 = 40;

/// The MSS for inner IPv4 connections (IPv6: 20 less); 0 leaves segments alone.
pub fn mss(option: MssFix, tun_mtu: u16, outside: Outside) -> u16 {
    let segment = |packet: u16, around: u16| packet.saturating_sub(around + INNER_HEADERS);
    match option {
        MssFix::Off => 0,
        MssFix::Default if tun_mtu == 1500 => segment(1492, outside.headers() + outside.encapsulation()),
        MssFix::Default => segment(tun_mtu, 0),
        MssFix::Mtu(size) => segment(size, outside.headers() + outside.encapsulation()),
        MssFix::Payload(size) => segment(size, outside.encapsulation()),
        MssFix::Fixed(size) => segment(size, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_openvpn() {
        let of = |ipv6, tcp, epoch| mss(MssFix::Default, 1500, Outside { ipv6, tcp, epoch, v1: false });
        assert_eq!([of(false, false, false), of(true, false, false)], [1400, 1380]);
        assert_eq!([of(false, true, false), of(true, true, false)], [1386, 1366]);
        assert_eq!([of(false, false, true), of(true, false, true)], [1396, 1376]);
        assert_eq!([of(false, true, true), of(true, true, true)], [1382, 1362]);
    }

    #[test]
    fn every_form_of_the_option() {
        let outside = Outside { ipv6: false, tcp: false, epoch: false, v1: false };
        assert_eq!(mss(MssFix::Off, 1500, outside), 0);
        assert_eq!(mss(MssFix::Payload(1450), 1500, outside), 1450 - 24 - 40);
        assert_eq!(mss(MssFix::Mtu(1400), 1500, outside), 1400 - 28 - 24 - 40);
        assert_eq!(mss(MssFix::Fixed(1400), 1500, outside), 1360);
        assert_eq!(mss(MssFix::Default, 1400, outside), 1360);
        assert_eq!(mss(MssFix::Mtu(10), 1500, outside), 0);
    }
}
