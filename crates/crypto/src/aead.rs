//! Data-channel ciphers.
//!
//! ```text
//!   plaintext ──seal(nonce, aad)──▶ ciphertext (same length) + tag (16 bytes, wherever the format wants it)
//! ```
//!
//! Sealing and opening go from one buffer to another in one pass, with the tag apart: a packet moves from the
//! socket's buffer to the device's without a copy, and tag-first formats need no shuffling. Nothing allocates after
//! [`AeadKey::new`].

use std::fmt;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;

/// Length of an authentication tag, bytes.
pub const TAG_LEN: usize = 16;

/// Length of a nonce, bytes.
pub const NONCE_LEN: usize = 12;

/// An AEAD cipher of the data channel (OpenVPN wire protocol, data channel crypto).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-192-GCM.
    Aes192Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// CHACHA20-POLY1305 (RFC 8439).
    ChaCha20Poly1305,
}

impl Cipher {
    /// All ciphers.
    pub const ALL: [Self; 4] = [Self::Aes128Gcm, Self::Aes192Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// Key length, bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes192Gcm => 24,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// The name OpenVPN negotiates.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes192Gcm => "AES-192-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "CHACHA20-POLY1305",
        }
    }

    /// AES-GCM with this key length, `None` where there is none.
    pub const fn aes_gcm(key_len: usize) -> Option<Self> {
        match key_len {
            16 => Some(Self::Aes128Gcm),
            24 => Some(Self::Aes192Gcm),
            32 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// How much one key may encrypt: packets plus 16-byte blocks, `None` without a limit.
    ///
    /// For AES-GCM it is the bound that keeps an attacker's advantage at 2^-57 (draft-irtf-cfrg-aead-limits):
    /// `2^(-57/2 + 129/2) - 1`.
    pub const fn usage_limit(self) -> Option<u64> {
        match self {
            Self::Aes128Gcm | Self::Aes192Gcm | Self::Aes256Gcm => Some((1 << 36) - 1),
            Self::ChaCha20Poly1305 => None,
        }
    }

    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes192Gcm => &aead::AES_192_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why key material was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The key does not have the cipher's length.
    #[error("{cipher} takes a key of {} bytes, not of {got}", cipher.key_len())]
    Length {
        /// The cipher.
        cipher: Cipher,
        /// The length given, bytes.
        got: usize,
    },
    /// The key is all zero: whoever derived it failed.
    #[error("the key consists of zero bytes only")]
    AllZero,
}

/// The packet is not authentic, or a buffer has the wrong length. The output holds nothing of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("authentication failed")]
pub struct OpenError;

/// A buffer has the wrong length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the output buffer does not fit the plaintext")]
pub struct SealError;

/// One direction's cipher key, ready for use by any thread. Wiped when dropped, never printed.
pub struct AeadKey {
    cipher: Cipher,
    key: LessSafeKey,
}

impl AeadKey {
    /// Expands `key`.
    ///
    /// # Errors
    /// [`KeyError`] for a key of the wrong length or of zero bytes only.
    pub fn new(cipher: Cipher, key: &[u8]) -> Result<Self, KeyError> {
        if key.len() != cipher.key_len() {
            return Err(KeyError::Length { cipher, got: key.len() });
        }
        if key.iter().all(|&byte| byte == 0) {
            return Err(KeyError::AllZero);
        }
        let unbound = UnboundKey::new(cipher.algorithm(), key)
            .map_err(|_| KeyError::Length { cipher, got: key.len() })?;
        Ok(Self { cipher, key: LessSafeKey::new(unbound) })
    }

    /// The cipher.
    pub const fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Encrypts `plaintext` into `out`, which has the same length, and writes its tag. The caller sees to it that no
    /// nonce is used twice with a key.
    ///
    /// # Errors
    /// [`SealError`] where the lengths differ.
    #[inline]
    pub fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), SealError> {
        self.key
            .seal_out_of_place_scatter(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                plaintext,
                out,
                &[],
                tag,
            )
            .map_err(|_| SealError)
    }

    /// As [`seal`](Self::seal), with the plaintext in the place of the ciphertext.
    ///
    /// # Errors
    /// [`SealError`] for a plaintext longer than the cipher allows.
    #[inline]
    pub fn seal_in_place(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), SealError> {
        self.key
            .seal_in_place_scatter(Nonce::assume_unique_for_key(nonce), Aad::from(aad), in_out, &[], tag)
            .map_err(|_| SealError)
    }

    /// Checks `tag` and decrypts `ciphertext` into `out`, which has the same length.
    ///
    /// # Errors
    /// [`OpenError`] where anything was tampered with or the lengths differ.
    #[inline]
    pub fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> Result<(), OpenError> {
        self.key
            .open_separate_gather(Nonce::assume_unique_for_key(nonce), Aad::from(aad), ciphertext, tag, out)
            .map_err(|_| OpenError)
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AeadKey({})", self.cipher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cipher: Cipher) -> AeadKey {
        AeadKey::new(cipher, &vec![7; cipher.key_len()]).unwrap()
    }

    #[test]
    fn every_cipher_opens_what_it_sealed_and_nothing_else() {
        for cipher in Cipher::ALL {
            let key = key(cipher);
            let (nonce, aad, plaintext) = ([1; NONCE_LEN], [2; 8], [3; 100]);
            let (mut sealed, mut tag, mut opened) = ([0; 100], [0; TAG_LEN], [0; 100]);
            key.seal(nonce, &aad, &plaintext, &mut sealed, &mut tag).unwrap();
            assert_ne!(sealed, plaintext);
            key.open(nonce, &aad, &sealed, &tag, &mut opened).unwrap();
            assert_eq!(opened, plaintext);

            let mut in_place = plaintext;
            let mut second_tag = [0; TAG_LEN];
            key.seal_in_place(nonce, &aad, &mut in_place, &mut second_tag).unwrap();
            assert_eq!((in_place, second_tag), (sealed, tag));

            for bit in 0..8 {
                let mut bad = sealed;
                bad[50] ^= 1 << bit;
                assert_eq!(key.open(nonce, &aad, &bad, &tag, &mut opened), Err(OpenError));
                let mut bad = tag;
                bad[15] ^= 1 << bit;
                assert_eq!(key.open(nonce, &aad, &sealed, &bad, &mut opened), Err(OpenError));
                let mut bad = aad;
                bad[0] ^= 1 << bit;
                assert_eq!(key.open(nonce, &bad, &sealed, &tag, &mut opened), Err(OpenError));
            }
            assert_eq!(opened, [0; 100], "a failed open leaves no plaintext behind");
        }
    }

    #[test]
    fn buffers_of_the_wrong_length_are_refused() {
        let key = key(Cipher::Aes128Gcm);
        let mut tag = [0; TAG_LEN];
        assert_eq!(key.seal([0; 12], &[], &[1, 2, 3], &mut [0; 2], &mut tag), Err(SealError));
        assert_eq!(key.open([0; 12], &[], &[1, 2, 3], &tag, &mut [0; 4]), Err(OpenError));
    }

    #[test]
    fn keys_are_checked_and_never_printed() {
        for cipher in Cipher::ALL {
            let got = cipher.key_len() + 1;
            assert_eq!(AeadKey::new(cipher, &vec![1; got]).unwrap_err(), KeyError::Length { cipher, got });
            assert_eq!(AeadKey::new(cipher, &vec![0; got - 1]).unwrap_err(), KeyError::AllZero);
            assert_eq!(format!("{:?}", key(cipher)), format!("AeadKey({})", cipher.name()));
        }
    }
}
