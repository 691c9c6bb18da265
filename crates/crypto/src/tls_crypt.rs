//! tls-crypt: control packets encrypted and authenticated with AES-256-CTR and HMAC-SHA256.
//!
//! ```text
//!  header (9)   replay id (4)   net_time (4)   tag (32)   AES-256-CTR(Ke, IV = tag[..16], body)
//!  |<-- authenticated, in the clear ------->|
//! ```
//!
//! The tag is `HMAC-SHA256(Ka, first 17 bytes || body)`, so equal bodies with equal replay ids would give equal
//! packets, and nothing else is ever encrypted under the same IV. The server sends with key 0 of the file and the
//! client with key 1. Source: OpenVPN wire protocol, "tls-crypt".

use std::fmt;

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::{hmac, iv::FixedLength};
use ovpn_wire::control_packet::ControlHeader;

use crate::control_replay::ReplayId;
use crate::control_wrap::{Opened, UnwrapError};
use crate::key2::TlsRole;
use crate::secret::equal_in_constant_time;
use crate::static_key::{KeyDirection, StaticKey};

/// Bytes of a tag.
pub(crate) const TAG_LEN: usize = 32;

/// One encryption key and one authentication key.
pub(crate) struct CtrHmac {
    cipher: EncryptingKey,
    mac: hmac::Key,
}

impl CtrHmac {
    /// Keys from the heads of two slots; `None` never happens with slots of 32 bytes or more.
    pub(crate) fn new(cipher_slot: &[u8], hmac_slot: &[u8]) -> Option<Self> {
        let cipher = UnboundCipherKey::new(&AES_256, cipher_slot.get(..32)?).ok()?;
        let mac = hmac::Key::new(hmac::HMAC_SHA256, hmac_slot.get(..32)?);
        Some(Self { cipher: EncryptingKey::ctr(cipher).ok()?, mac })
    }

    /// The tag over all parts.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        let mut mac = hmac::Context::with_key(&self.mac);
        for part in parts {
            mac.update(part);
        }
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(mac.sign().as_ref());
        tag
    }

    /// Encrypts or decrypts in place (counter mode is its own inverse) under the IV that the tag gives.
    pub(crate) fn apply(&self, tag: &[u8; TAG_LEN], bytes: &mut [u8]) -> Result<(), UnwrapError> {
        let mut iv = [0; 16];
        iv.copy_from_slice(&tag[..16]);
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        // The library can refuse only a foreign context or an impossible length.
        self.cipher.less_safe_encrypt(bytes, context).map(drop).map_err(|_| UnwrapError::Authentication)
    }
}

/// The tls-crypt keys of one side.
pub struct TlsCryptKeys {
    send: CtrHmac,
    receive: CtrHmac,
    /// Kept because dynamic tls-crypt mixes it with the TLS exporter.
    original: StaticKey,
}

impl TlsCryptKeys {
    /// Bytes that wrapping adds to a packet.
    pub const OVERHEAD: usize = ReplayId::LEN + TAG_LEN;

    /// The keys of this role. `None` only if the cryptographic library refuses to make a key.
    pub fn new(key: &StaticKey, role: TlsRole) -> Option<Self> {
        let direction = match role {
            TlsRole::Server => KeyDirection::Normal,
            TlsRole::Client => KeyDirection::Inverse,
        };
        let half = |number| CtrHmac::new(key.cipher_slot(number), key.hmac_slot(number));
        Some(Self {
            send: half(direction.send())?,
            receive: half(direction.receive())?,
            original: key.clone(),
        })
    }

    /// The 256 bytes that these keys come from.
    pub const fn original(&self) -> &StaticKey {
        &self.original
    }

    /// The packet with this header, replay id and body.
    pub fn seal(&self, header: ControlHeader, replay: ReplayId, body: &[u8]) -> Result<Vec<u8>, UnwrapError> {
        let mut packet = Vec::with_capacity(ControlHeader::LEN + Self::OVERHEAD + body.len());
        packet.extend_from_slice(&header.to_bytes());
        packet.extend_from_slice(&replay.to_bytes());
        let tag = self.send.tag(&[&packet, body]);
        packet.extend_from_slice(&tag);
        let start = packet.len();
        packet.extend_from_slice(body);
        self.send.apply(&tag, &mut packet[start..])?;
        Ok(packet)
    }

    /// Decrypts and authenticates the packet. The replay id is returned unchecked.
    pub fn open(&self, packet: &[u8]) -> Result<Opened, UnwrapError> {
        let (header, rest) = ControlHeader::parse(packet)?;
        let (replay, rest) = rest.split_first_chunk::<{ ReplayId::LEN }>().ok_or(UnwrapError::Truncated)?;
        let (tag, body) = rest.split_first_chunk::<TAG_LEN>().ok_or(UnwrapError::Truncated)?;
        let mut body = body.to_vec();
        self.receive.apply(tag, &mut body)?;
        let expected = self.receive.tag(&[&header.to_bytes(), replay, &body]);
        if !equal_in_constant_time(&expected, tag) {
            return Err(UnwrapError::Authentication);
        }
        Ok(Opened { header, replay: Some(ReplayId::from_bytes(*replay)), body })
    }
}

impl fmt::Debug for TlsCryptKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsCryptKeys(…)")
    }
}
