//! tls-auth: an HMAC and a replay id on every control packet, content in the clear.
//!
//! ```text
//!  header (9)   HMAC (digest length)   replay id (4)   net_time (4)   body
//! ```
//!
//! The HMAC covers `replay id || net_time || header || body`: the replay bytes move to the front. Its key is the head
//! of an HMAC slot of the static key file. Source: OpenVPN wire protocol, "tls-auth".

use std::fmt;

use aws_lc_rs::hmac;
use ovpn_wire::control_packet::ControlHeader;

use crate::control_replay::ReplayId;
use crate::control_wrap::{Opened, UnwrapError};
use crate::static_key::{KeyDirection, StaticKey};

/// The digests that `auth` may name for tls-auth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthDigest {
    /// HMAC-SHA-1, the default.
    #[default]
    Sha1,
    /// HMAC-SHA-224.
    Sha224,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-384.
    Sha384,
    /// HMAC-SHA-512.
    Sha512,
}

impl AuthDigest {
    /// Every digest.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The digest with this name, in any case, as in `auth SHA256`; `RSA-SHA256` and `SHA-256` mean the same.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase().replace('-', "");
        let name = name.strip_prefix("RSA").unwrap_or(&name);
        Self::ALL.into_iter().find(|digest| digest.name() == name)
    }

    /// The name as `auth` and the options string write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha224 => "SHA224",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
        }
    }

    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => hmac::HMAC_SHA224,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    /// Bytes of the digest.
    pub fn output_len(self) -> usize {
        self.algorithm().digest_algorithm().output_len()
    }
}

/// The two HMAC keys of one side.
pub struct TlsAuthKeys {
    send: hmac::Key,
    receive: hmac::Key,
    digest: AuthDigest,
    /// Kept because dynamic tls-crypt mixes it with the TLS exporter.
    original: StaticKey,
}

impl TlsAuthKeys {
    /// The keys for this direction.
    pub fn new(key: &StaticKey, direction: KeyDirection, digest: AuthDigest) -> Self {
        let hmac_key = |slot| hmac::Key::new(digest.algorithm(), &key.hmac_slot(slot)[..digest.output_len()]);
        Self {
            send: hmac_key(direction.send()),
            receive: hmac_key(direction.receive()),
            digest,
            original: key.clone(),
        }
    }

    /// The key file that these keys come from.
    pub const fn original(&self) -> &StaticKey {
        &self.original
    }

    /// Bytes that wrapping adds to a packet.
    pub fn overhead(&self) -> usize {
        self.digest.output_len() + ReplayId::LEN
    }

    /// The packet with this header, replay id and body.
    pub fn seal(&self, header: ControlHeader, replay: ReplayId, body: &[u8]) -> Vec<u8> {
        let (header, replay) = (header.to_bytes(), replay.to_bytes());
        let mut mac = hmac::Context::with_key(&self.send);
        mac.update(&replay);
        mac.update(&header);
        mac.update(body);
        let tag = mac.sign();
        let mut packet = Vec::with_capacity(header.len() + self.overhead() + body.len());
        packet.extend_from_slice(&header);
        packet.extend_from_slice(tag.as_ref());
        packet.extend_from_slice(&replay);
        packet.extend_from_slice(body);
        packet
    }

    /// Authenticates the packet. The replay id is returned unchecked.
    pub fn open(&self, packet: &[u8]) -> Result<Opened, UnwrapError> {
        let (header, rest) = ControlHeader::parse(packet)?;
        let (tag, rest) = rest.split_at_checked(self.digest.output_len()).ok_or(UnwrapError::Truncated)?;
        let (replay, body) = rest.split_first_chunk().ok_or(UnwrapError::Truncated)?;
        let mut mac = hmac::Context::with_key(&self.receive);
        mac.update(replay);
        mac.update(&header.to_bytes());
        mac.update(body);
        if !crate::secret::equal_in_constant_time(mac.sign().as_ref(), tag) {
            return Err(UnwrapError::Authentication);
        }
        Ok(Opened { header, replay: Some(ReplayId::from_bytes(*replay)), body: body.to_vec() })
    }
}

impl fmt::Debug for TlsAuthKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsAuthKeys({})", self.digest.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(AuthDigest::from_name("sha256"), Some(AuthDigest::Sha256));
        assert_eq!(AuthDigest::from_name("RSA-SHA512"), Some(AuthDigest::Sha512));
        assert_eq!(AuthDigest::from_name("none"), None);
        let lengths = AuthDigest::ALL.map(AuthDigest::output_len);
        assert_eq!(lengths, [20, 28, 32, 48, 64]);
    }
}
