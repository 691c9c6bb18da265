//! How much a key was used, against what its cipher allows.
//!
//! `used = packets + 16-byte blocks`; at 7/8 of the limit a new key is asked for, at the limit the key (or epoch)
//! stops. Forged packets count apart: 2^35 ask for a new key, past 2^36 the key opens nothing any more.
//! (draft-irtf-cfrg-aead-limits, with OpenVPN's constants.)

use ovpn_crypto::aead::Cipher;

/// Failed authentications after which a new key is asked for.
const FAILURES_RENEW: u64 = 1 << 35;

/// Failed authentications after which a key opens nothing.
const FAILURES_STOP: u64 = 1 << 36;

/// What one key encrypted or decrypted.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    used: u64,
    failed: u64,
    limit: u64,
}

impl Usage {
    /// A fresh count for `cipher`.
    pub const fn new(cipher: Cipher) -> Self {
        let limit = match cipher.usage_limit() {
            Some(limit) => limit,
            None => u64::MAX,
        };
        Self { used: 0, failed: 0, limit }
    }

    /// Counts one packet with this many bytes under the cipher.
    #[inline]
    pub const fn add(&mut self, bytes: usize) {
        // A packet and its blocks, rounded up.
        self.used += 1 + (bytes as u64).div_ceil(16);
    }

    /// Counts one packet that failed authentication.
    #[inline]
    pub const fn fail(&mut self) {
        self.failed += 1;
    }

    /// Starts over, for the next epoch's key.
    pub const fn reset(&mut self) {
        self.used = 0;
        self.failed = 0;
    }

    /// Past the limit: the key must not be used again.
    #[inline]
    pub const fn is_exhausted(&self) -> bool {
        self.used > self.limit
    }

    /// Near the limit, or attacked: a new key is wanted.
    #[inline]
    pub const fn wants_renewal(&self) -> bool {
        self.used > self.limit / 8 * 7 || self.failed > FAILURES_RENEW
    }

    /// For epochs: the peer should move on, by use or by attack.
    #[inline]
    pub const fn wants_next_epoch(&self) -> bool {
        self.limit != u64::MAX && (self.used > self.limit || self.failed > FAILURES_RENEW)
    }

    /// So many forgeries that the key must open nothing any more.
    #[inline]
    pub const fn is_worn_out(&self) -> bool {
        self.failed > FAILURES_STOP
    }

    /// A count just below one of its limits.
    #[cfg(test)]
    pub(crate) const fn preset(&mut self, used: u64, failed: u64) {
        self.used = used;
        self.failed = failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_cipher() {
        let mut usage = Usage::new(Cipher::Aes256Gcm);
        usage.add(100);
        assert_eq!(usage.used, 1 + 7);
        let limit = (1 << 36) - 1;
        usage.preset(limit / 8 * 7, 0);
        assert!(!usage.wants_renewal());
        usage.add(0);
        assert!(usage.wants_renewal() && !usage.is_exhausted());
        usage.preset(limit, 0);
        assert!(!usage.is_exhausted());
        usage.add(0);
        assert!(usage.is_exhausted() && usage.wants_next_epoch());
        usage.reset();
        assert!(!usage.wants_renewal() && !usage.wants_next_epoch());

        let mut unlimited = Usage::new(Cipher::ChaCha20Poly1305);
        unlimited.preset(1 << 60, 0);
        assert!(!unlimited.is_exhausted() && !unlimited.wants_renewal() && !unlimited.wants_next_epoch());
        unlimited.preset(0, (1 << 35) + 1);
        assert!(unlimited.wants_renewal() && !unlimited.wants_next_epoch() && !unlimited.is_worn_out());
        unlimited.preset(0, 1 << 36);
        assert!(!unlimited.is_worn_out());
        unlimited.fail();
        assert!(unlimited.is_worn_out());
    }
}
