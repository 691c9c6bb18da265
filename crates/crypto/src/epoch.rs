//! Epoch keys of the data channel.
//!
//! ```text
//!   key2 slot ─▶ E_1 ──"datakey upd"──▶ E_2 ──"datakey upd"──▶ E_3 …          (one chain a direction)
//!                 ├─"data_key"─▶ K_1      ├─▶ K_2                └─▶ K_3        16, 24 or 32 bytes
//!                 └─"data_iv"──▶ IV_1     └─▶ IV_2               └─▶ IV_3       12 bytes
//! ```
//!
//! The arrows are HKDF-Expand with SHA-256 (RFC 5869) and labels built as in TLS 1.3 (RFC 8446, section 7.1) with the
//! prefix `"ovpn "`. A chain goes only forward: who holds `E_n` cannot compute what came before.

use std::fmt;

use aws_lc_rs::hkdf;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::aead::{AeadKey, Cipher, KeyError, NONCE_LEN};

/// Length of an epoch secret whatever the cipher, bytes.
pub const SECRET_LEN: usize = 32;

/// The secret `E_n` of one epoch and direction. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EpochSecret([u8; SECRET_LEN]);

impl EpochSecret {
    /// `E_1`: the first 32 bytes of the direction's cipher key in key2.
    ///
    /// # Errors
    /// [`KeyError::AllZero`] for a secret of zero bytes only, [`KeyError::Length`] for another length.
    pub fn first(e1: &[u8]) -> Result<Self, KeyError> {
        let secret: [u8; SECRET_LEN] =
            e1.try_into().map_err(|_| KeyError::Length { cipher: Cipher::Aes256Gcm, got: e1.len() })?;
        if secret.iter().all(|&byte| byte == 0) {
            return Err(KeyError::AllZero);
        }
        Ok(Self(secret))
    }

    /// The next epoch's secret.
    pub fn next(&self) -> Self {
        let mut secret = [0; SECRET_LEN];
        expand_label(&self.0, b"datakey upd", &mut secret);
        Self(secret)
    }

    /// The key and IV that packets of this epoch use.
    ///
    /// # Errors
    /// [`KeyError::AllZero`], with a chance of 2^-128.
    pub fn key(&self, cipher: Cipher) -> Result<EpochKey, KeyError> {
        let mut key = [0; 32];
        let mut iv = [0; NONCE_LEN];
        let data_key = &mut key[..cipher.key_len()];
        expand_label(&self.0, b"data_key", data_key);
        expand_label(&self.0, b"data_iv", &mut iv);
        let aead = AeadKey::new(cipher, data_key);
        key.zeroize();
        Ok(EpochKey { aead: aead?, iv })
    }
}

impl fmt::Debug for EpochSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochSecret(secret)")
    }
}

/// Cipher key and IV of one epoch.
#[derive(Debug)]
pub struct EpochKey {
    /// The cipher key.
    pub aead: AeadKey,
    iv: [u8; NONCE_LEN],
}

impl EpochKey {
    /// The nonce of the packet with this 64-bit packet id (epoch and counter).
    #[inline]
    pub fn nonce(&self, packet_id: u64) -> [u8; NONCE_LEN] {
        let (mut nonce, id) = (self.iv, packet_id.to_be_bytes());
        if let Some(first) = nonce.first_chunk_mut::<8>() {
            *first = (u64::from_ne_bytes(*first) ^ u64::from_ne_bytes(id)).to_ne_bytes();
        }
        nonce
    }
}

impl Drop for EpochKey {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}

/// HKDF-Expand-Label with the prefix `"ovpn "` and an empty context, filling `out`.
fn expand_label(secret: &[u8; SECRET_LEN], label: &[u8], out: &mut [u8]) {
    const PREFIX: &[u8] = b"ovpn ";
    // Every label and length here is ours and short: both casts are exact.
    let length = (out.len() as u16).to_be_bytes();
    let label_length = [(PREFIX.len() + label.len()) as u8];
    let info = [&length[..], &label_length, PREFIX, label, &[0]];
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret);
    let filled = prk.expand(&info, Length(out.len())).and_then(|okm| okm.fill(out));
    assert!(filled.is_ok(), "HKDF-Expand fails only past 255 blocks");
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// Answers of OpenVPN's own unit tests; the secret is the PRK of RFC 5869, appendix A.1.
    #[test]
    fn labels_expand_as_published() {
        let secret = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let expanded = |length| {
            let mut out = vec![0; length];
            expand_label(secret.as_slice().try_into().unwrap(), b"unit test", &mut out);
            out
        };
        assert_eq!(expanded(27), hex("875a8eec18556380b8d933ed323c2df8e8eccf4972e683f06a83ac"));
        assert_eq!(expanded(16), hex("185eaa1c7f228ab8eb29773214d92046"));
    }

    /// The AES-192 key and IV of a secret, as published in both upstream test suites.
    #[test]
    fn keys_are_derived_as_published() {
        let mut secret = [0; SECRET_LEN];
        secret[..2].copy_from_slice(&[19, 12]);
        let key = EpochSecret::first(&secret).unwrap().key(Cipher::Aes192Gcm).unwrap();
        assert_eq!(key.nonce(0)[..], hex("86890aabf032cb59f4cfa34e"));
        let published = hex("ed8533db1c28ace418e9006ab29c17417d60ebe6cd90bf0a");
        let expected = AeadKey::new(Cipher::Aes192Gcm, &published).unwrap();
        let (mut tag, mut expected_tag) = ([0; 16], [0; 16]);
        key.aead.seal([1; 12], &[], &[], &mut [], &mut tag).unwrap();
        expected.seal([1; 12], &[], &[], &mut [], &mut expected_tag).unwrap();
        assert_eq!(tag, expected_tag);
    }

    #[test]
    fn secrets_are_checked_and_never_printed() {
        assert_eq!(EpochSecret::first(&[0; 32]).unwrap_err(), KeyError::AllZero);
        assert!(matches!(EpochSecret::first(&[1; 16]), Err(KeyError::Length { got: 16, .. })));
        assert_eq!(format!("{:?}", EpochSecret::first(&[1; 32]).unwrap()), "EpochSecret(secret)");
    }

    #[test]
    fn the_packet_id_is_mixed_into_the_first_eight_bytes() {
        let key = EpochSecret::first(&[9; 32]).unwrap().key(Cipher::Aes128Gcm).unwrap();
        let (a, b) = (key.nonce(0), key.nonce(u64::MAX));
        assert!(a[..8].iter().zip(&b[..8]).all(|(a, b)| a ^ b == 0xFF));
        assert_eq!(a[8..], b[8..]);
    }
}
