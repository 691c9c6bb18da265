//! The Internet checksum (RFC 1071): a ones' complement sum of 16-bit words, taken as many at a time as the machine can.
//!
//! Such sums do not care for byte order, so words are added as the machine reads them, and the result is stored the
//! same way.

/// A running sum, not yet folded to 16 bits; thousands of packets' sums fit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even offset of the whole.
    #[must_use]
    #[inline]
    pub fn bytes(self, data: &[u8]) -> Self {
        Self(self.0 + ovpn_sys::checksum::sum(data))
    }

    /// Adds one 16-bit number.
    #[must_use]
    #[inline]
    pub const fn number(self, value: u16) -> Self {
        Self(self.0 + value.to_be() as u64)
    }

    /// The sum in 16 bits, as it is stored where someone else is to finish the checksum.
    #[inline]
    pub const fn folded(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// The checksum, as it is stored.
    #[inline]
    pub const fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The checksum as UDP stores it, where zero would mean "none" (RFC 768).
    #[inline]
    pub const fn udp_checksum(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xFF, 0xFF],
            other => other,
        }
    }

    /// Whether a sum over data and its checksum says that the data is intact.
    #[inline]
    pub const fn is_intact(self) -> bool {
        self.fold() == 0xFFFF
    }

    #[inline]
    const fn fold(self) -> u16 {
        let mut sum = halves(self.0);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum as u16
    }
}

#[inline]
const fn halves(sum: u64) -> u64 {
    (sum & 0xFFFF_FFFF) + (sum >> 32)
}

/// Sum of the pseudo header (RFC 793, RFC 8200 section 8.1) of `ip`, a whole IP header, for `len` bytes of protocol
/// `protocol`.
#[inline]
pub fn pseudo_header(ip: &[u8], protocol: u8, len: usize) -> Sum {
    let addresses = match ip.first() {
        Some(first) if first >> 4 == 6 => ip.get(8..40),
        _ => ip.get(12..20),
    };
    Sum::default().bytes(addresses.unwrap_or_default()).number(u16::from(protocol)).number(len as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, word by word.
    fn naive(data: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            if sum > 0xFFFF {
                sum -= 0xFFFF;
            }
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn it_is_the_plain_sum() {
        let mut random = 1u64;
        let data: Vec<u8> = (0..70_000)
            .map(|_| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) as u8
            })
            .collect();
        for len in (0..200).chain([1399, 1400, 1401, 65535, 70_000]) {
            for start in 0..4 {
                let part = &data[start..data.len().min(start + len)];
                assert_eq!(Sum::default().bytes(part).checksum(), naive(part), "{len} bytes at {start}");
                let half = part.len() / 4 * 2;
                assert_eq!(Sum::default().bytes(&part[..half]).bytes(&part[half..]).checksum(), naive(part));
            }
        }
    }

    #[test]
    fn carries_are_kept() {
        for byte in [0u8, 1, 0x80, 0xFF] {
            let data = vec![byte; 65535];
            assert_eq!(Sum::default().bytes(&data).checksum(), naive(&data));
        }
        assert_eq!(Sum::default().bytes(&[0xFF; 2]).udp_checksum(), [0xFF, 0xFF]);
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let data = [0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7];
        assert_eq!(Sum::default().bytes(&data).folded(), [0xDD, 0xF2]);
        let whole = [&data[..], &Sum::default().bytes(&data).checksum()[..]].concat();
        assert!(Sum::default().bytes(&whole).is_intact());
        assert!(!Sum::default().bytes(&data).is_intact());
    }
}
