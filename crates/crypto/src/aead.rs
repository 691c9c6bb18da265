//! Data-channel ciphers.
//!
//! ```text
//!   plaintext ──seal(nonce, aad)──▶ ciphertext (same length) + tag (16 bytes, wherever the format wants it)
//! ```
//!
//! Sealing and opening go from one buffer to another in one pass, with the tag apart: a packet moves from the
//! socket's buffer to the device's without a copy, and tag-first formats need no shuffling. Nothing allocates after
//! [`AeadKey::new`] and a key's first long packet.

use std::fmt;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ovpn_sys::aead::WideKey;
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
    key: Implementation,
}

/// Whose code does the work.
enum Implementation {
    /// Ours, where the processor has 512-bit registers.
    Wide(WideKey),
    /// The library's, for everything everywhere.
    AwsLc(LessSafeKey),
}

impl Implementation {
    fn new(cipher: Cipher, key: &[u8]) -> Option<Self> {
        let ours = match cipher {
            Cipher::Aes128Gcm | Cipher::Aes192Gcm | Cipher::Aes256Gcm => WideKey::aes_gcm(key),
            Cipher::ChaCha20Poly1305 => WideKey::chacha20_poly1305(key),
        };
        ours.map(Self::Wide).or_else(|| Self::aws_lc(cipher, key))
    }

    fn aws_lc(cipher: Cipher, key: &[u8]) -> Option<Self> {
        UnboundKey::new(cipher.algorithm(), key).ok().map(|key| Self::AwsLc(LessSafeKey::new(key)))
    }
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
        let key = Implementation::new(cipher, key).ok_or(KeyError::Length { cipher, got: key.len() })?;
        Ok(Self { cipher, key })
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
        let sealed = match &self.key {
            Implementation::Wide(key) => key.seal(nonce, aad, plaintext, out, tag),
            Implementation::AwsLc(key) => {
                let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(aad));
                key.seal_out_of_place_scatter(nonce, aad, plaintext, out, &[], tag).is_ok()
            }
        };
        if sealed { Ok(()) } else { Err(SealError) }
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
        let sealed = match &self.key {
            Implementation::Wide(key) => key.seal_in_place(nonce, aad, in_out, tag),
            Implementation::AwsLc(key) => {
                let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(aad));
                key.seal_in_place_scatter(nonce, aad, in_out, &[], tag).is_ok()
            }
        };
        if sealed { Ok(()) } else { Err(SealError) }
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
        let opened = match &self.key {
            Implementation::Wide(key) => key.open(nonce, aad, ciphertext, tag, out),
            Implementation::AwsLc(key) => {
                let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(aad));
                key.open_separate_gather(nonce, aad, ciphertext, tag, out).is_ok()
            }
        };
        if opened { Ok(()) } else { Err(OpenError) }
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

    /// Our own key and the library's; `None`, said aloud, where this processor leaves everything to the library.
    fn ours_and_theirs(cipher: Cipher) -> Option<[AeadKey; 2]> {
        let bytes: Vec<u8> = (0..cipher.key_len() as u8).map(|at| at.wrapping_mul(37) ^ 0xA5).collect();
        let ours = AeadKey::new(cipher, &bytes).unwrap();
        if matches!(ours.key, Implementation::AwsLc(_)) {
            eprintln!("not compared: {cipher} is the library's on this processor");
            return None;
        }
        Some([ours, AeadKey { cipher, key: Implementation::aws_lc(cipher, &bytes).unwrap() }])
    }

    fn lengths() -> impl Iterator<Item = usize> {
        let around = [1400, 1500, 1536, 1728, 4064, 4096].into_iter().flat_map(|len| len - 1..=len + 1);
        (0..=1100).chain(around).chain([1280, 1408, 4080, 9000, 65_535, 65_536, 70_001])
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut random = 1u64;
        let next = |_| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as u8
        };
        (0..len).map(next).collect()
    }

    #[test]
    fn every_length_is_sealed_and_opened_as_the_library_does() {
        let (data, ones, associated) = (noise(70_001 + 64), vec![0xFF; 70_001], noise(500));
        for [ours, theirs] in Cipher::ALL.into_iter().filter_map(ours_and_theirs) {
            for len in lengths() {
                let mut nonce = [0xFE; NONCE_LEN];
                nonce[..8].copy_from_slice(&(len as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
                for aad in [0, 4, 8, 12, len % 41, (7 * len + 20) % 41] {
                    compare(&ours, &theirs, nonce, &associated[..aad], &data[len % 64..][..len]);
                }
                compare(&ours, &theirs, [0xFF; NONCE_LEN], &ones[..len % 41], &ones[..len]);
                if len >= 9000 {
                    compare(&ours, &theirs, nonce, &associated, &data[..len]);
                }
            }
        }
    }

    fn compare(ours: &AeadKey, theirs: &AeadKey, nonce: [u8; NONCE_LEN], aad: &[u8], plaintext: &[u8]) {
        let len = plaintext.len();
        let what = format!("{}, {len} bytes, {} associated", ours.cipher(), aad.len());
        let (mut sealed, mut expected) = (vec![0; len], vec![0; len]);
        let (mut tag, mut expected_tag) = ([0; TAG_LEN], [0; TAG_LEN]);
        ours.seal(nonce, aad, plaintext, &mut sealed, &mut tag).unwrap();
        theirs.seal(nonce, aad, plaintext, &mut expected, &mut expected_tag).unwrap();
        assert!(sealed == expected && tag == expected_tag, "{what}");

        let mut in_place = plaintext.to_vec();
        let mut in_place_tag = [0; TAG_LEN];
        ours.seal_in_place(nonce, aad, &mut in_place, &mut in_place_tag).unwrap();
        assert!(in_place == expected && in_place_tag == expected_tag, "{what}, in place");

        let mut opened = vec![0xEE; len];
        ours.open(nonce, aad, &expected, &expected_tag, &mut opened).unwrap();
        assert!(opened == plaintext, "{what}, opened");
        let mut refused = |nonce, aad: &[u8], sealed: &[u8], tag: &[u8; TAG_LEN]| {
            opened.fill(0xEE);
            assert_eq!(ours.open(nonce, aad, sealed, tag, &mut opened), Err(OpenError), "{what}");
            assert!(opened.iter().all(|&byte| byte == 0), "{what}, refused");
        };
        tag[len % TAG_LEN] ^= 1 << (len % 8);
        refused(nonce, aad, &expected, &tag);
        refused(nonce, &[aad, &[0]].concat(), &expected, &expected_tag);
        refused(nonce.map(|byte| !byte), aad, &expected, &expected_tag);
        let mut other_aad = aad.to_vec();
        if let Some(byte) = other_aad.get_mut(len % aad.len().max(1)) {
            *byte ^= 1 << (len % 8);
            refused(nonce, &other_aad, &expected, &expected_tag);
        }
        if let Some(byte) = sealed.get_mut(len / 3) {
            *byte ^= 1 << (len % 8);
            refused(nonce, aad, &sealed, &expected_tag);
        }
    }

    #[test]
    fn neighbouring_bytes_are_left_alone() {
        for [ours, _] in Cipher::ALL.into_iter().filter_map(ours_and_theirs) {
            for len in 0..=300 {
                let (mut out, mut tag) = (vec![0xEE; len + 128], [0; TAG_LEN]);
                let plaintext = noise(len);
                ours.seal([9; NONCE_LEN], &[], &plaintext, &mut out[64..64 + len], &mut tag).unwrap();
                let mut opened = vec![0xEE; len + 128];
                ours.open([9; NONCE_LEN], &[], &out[64..64 + len], &tag, &mut opened[64..64 + len]).unwrap();
                for buffer in [&out, &opened] {
                    let (before, after) = (&buffer[..64], &buffer[64 + len..]);
                    assert!(before.iter().chain(after).all(|&byte| byte == 0xEE), "{len} bytes");
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        for cipher in Cipher::ALL {
            let key = key(cipher);
            for len in [0, 1, 16, 63, 64, 65, 300] {
                let (plaintext, aad) = (noise(len), noise(12));
                // Data, tag and associated data one after the other, so that one index reaches them all.
                let mut packet = vec![0; len + TAG_LEN];
                let (sealed, tag) = packet.split_at_mut(len);
                key.seal([3; 12], &aad, &plaintext, sealed, tag.first_chunk_mut().unwrap()).unwrap();
                packet.extend_from_slice(&aad);
                let open = |packet: &[u8]| {
                    let (sealed, rest) = packet.split_at(len);
                    let (tag, aad) = rest.split_first_chunk().unwrap();
                    let mut out = vec![0xEE; len];
                    (key.open([3; 12], aad, sealed, tag, &mut out), out)
                };
                assert_eq!(open(&packet), (Ok(()), plaintext));
                for bit in 0..8 * packet.len() {
                    packet[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(
                        open(&packet),
                        (Err(OpenError), vec![0; len]),
                        "{cipher}, {len} bytes, bit {bit}"
                    );
                    packet[bit / 8] ^= 1 << (bit % 8);
                }
            }
        }
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
