//! ChaCha20-Poly1305 (RFC 8439, section 2.8) with AVX-512 and its multiplication of 52-bit integers (IFMA).
//!
//! ```text
//!   ChaCha20's blocks:  ┌ 0 ─────────────┬ 1 ───────┬ 2 ───────┬ …     out of one pass
//!                       └ Poly1305's key ┴ ⊕ text ──┴ ⊕ text ──┴ …
//!   what is summed:     ┌ aad, zeros up to 16·n ┬ ciphertext, zeros up to 16·n ┬ lengths of both, 8 bytes each ┐
//! ```

mod chacha20;
mod poly1305;

use std::arch::is_x86_feature_detected;

use zeroize::ZeroizeOnDrop;

use super::TAG_LEN;
use super::text::Text;

/// The key's bytes; whoever has them has the proof that the processor has the instructions.
#[derive(ZeroizeOnDrop)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(key: &[u8]) -> Option<Box<Self>> {
        let key: &[u8; 32] = key.as_array()?;
        let able = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma");
        able.then(|| {
            let mut own = Box::new(Self([0; 32]));
            own.0 = *key;
            own
        })
    }

    #[inline]
    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: Text<'_>, tag: &mut [u8; TAG_LEN]) {
        // SAFETY: the processor has all that is asked for, or there would be no key (see `new`).
        *tag = unsafe { seal(&self.0, nonce, aad, text) }.to_le_bytes();
    }

    /// Decrypts in any case.
    #[inline]
    pub(super) fn open(&self, nonce: [u8; 12], aad: &[u8], text: Text<'_>, tag: &[u8; TAG_LEN]) -> bool {
        // SAFETY: the processor has all that is asked for, or there would be no key (see `new`).
        let expected = unsafe { open(&self.0, nonce, aad, text) };
        // All bits at once: the time tells nothing of how many agree.
        expected ^ u128::from_le_bytes(*tag) == 0
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn seal(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], mut text: Text<'_>) -> u128 {
    let one_time = chacha20::apply(chacha20::Start { key, nonce }, &mut text);
    poly1305::tag(poly1305::Key::new(one_time), aad, text.target())
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn open(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], mut text: Text<'_>) -> u128 {
    let one_time = chacha20::apply(chacha20::Start { key, nonce }, &mut text);
    poly1305::tag(poly1305::Key::new(one_time), aad, text.source())
}
