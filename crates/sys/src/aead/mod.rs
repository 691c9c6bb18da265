//! The data channel's ciphers in the widest registers that the processor has; elsewhere the crypto room's library does
//! the work.
//!
//! ```text
//!   one packet:  aad │ plaintext ──one pass, nothing copied, nothing allocated──▶ ciphertext │ tag
//! ```
//!
//! Packets are short: what counts is not how fast a megabyte goes through, but what stands before and after the first
//! block. A constructor gives `None` where the processor lacks the instructions, so that a key in hand is the proof
//! that they are there. Secrets steer no branch and no index; lengths do.

#[cfg(target_arch = "x86_64")]
mod aes_gcm;
#[cfg(target_arch = "x86_64")]
mod chacha20_poly1305;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(not(target_arch = "x86_64"))]
mod nowhere;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

#[cfg(not(target_arch = "x86_64"))]
use {nowhere as aes_gcm, nowhere as chacha20_poly1305};

use text::Text;

/// Length of an authentication tag, bytes.
const TAG_LEN: usize = 16;
/// Longer data is refused, well before the block counters of 32 bits come round.
const MAX_LEN: usize = 1 << 30;

/// A key, ready for use by any thread. Wiped when dropped, never printed.
pub struct WideKey(Cipher);

/// In boxes: moving a key leaves no copies behind.
enum Cipher {
    AesGcm(Box<aes_gcm::Key>),
    ChaCha20Poly1305(Box<chacha20_poly1305::Key>),
}

impl WideKey {
    /// Expands a key of AES-GCM (NIST SP 800-38D); `None` where the processor lacks the instructions or the key has
    /// not 128, 192 or 256 bits.
    pub fn aes_gcm(key: &[u8]) -> Option<Self> {
        aes_gcm::Key::new(key).map(Cipher::AesGcm).map(Self)
    }

    /// Takes a key of ChaCha20-Poly1305 (RFC 8439); `None` where the processor lacks the instructions or the key has
    /// not 256 bits.
    pub fn chacha20_poly1305(key: &[u8]) -> Option<Self> {
        chacha20_poly1305::Key::new(key).map(Cipher::ChaCha20Poly1305).map(Self)
    }

    /// Encrypts `plaintext` into `out` and writes its tag; `false`, with nothing written, where the lengths differ or
    /// the data is longer than 1 GiB. The caller sees to it that no nonce is used twice with a key.
    #[inline]
    #[must_use]
    pub fn seal(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> bool {
        plaintext.len() == out.len()
            && self.seal_text(nonce, aad, Text::Apart { source: plaintext, target: out }, tag)
    }

    /// As [`seal`](Self::seal), with the plaintext in the place of the ciphertext.
    #[inline]
    #[must_use]
    pub fn seal_in_place(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> bool {
        self.seal_text(nonce, aad, Text::InPlace(in_out), tag)
    }

    #[inline]
    fn seal_text(&self, nonce: [u8; 12], aad: &[u8], text: Text<'_>, tag: &mut [u8; TAG_LEN]) -> bool {
        let fits = text.source().len() <= MAX_LEN;
        if fits {
            match &self.0 {
                Cipher::AesGcm(key) => key.seal(nonce, aad, text, tag),
                Cipher::ChaCha20Poly1305(key) => key.seal(nonce, aad, text, tag),
            }
        }
        fits
    }

    /// Checks `tag` and decrypts `ciphertext` into `out`; `false`, with `out` all zero, where anything was tampered
    /// with, the lengths differ or the data is longer than 1 GiB.
    #[inline]
    #[must_use]
    pub fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> bool {
        let fits = ciphertext.len() == out.len() && ciphertext.len() <= MAX_LEN;
        let text = Text::Apart { source: ciphertext, target: &mut *out };
        let authentic = fits
            && match &self.0 {
                Cipher::AesGcm(key) => key.open(nonce, aad, text, tag),
                Cipher::ChaCha20Poly1305(key) => key.open(nonce, aad, text, tag),
            };
        if !authentic {
            out.fill(0);
        }
        authentic
    }
}

impl fmt::Debug for WideKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WideKey")
    }
}
