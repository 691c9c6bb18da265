//! ChaCha20-Poly1305 (RFC 8439, section 2.8).
//!
//! ```text
//!   ChaCha20's blocks:  ┌ 0 ─────────────┬ 1 ───────┬ 2 ───────┬ …     out of one pass
//!                       └ Poly1305's key ┴ ⊕ text ──┴ ⊕ text ──┴ …
//!   what is summed:     ┌ aad, zeros up to 16·n ┬ ciphertext, zeros up to 16·n ┬ lengths of both, 8 bytes each ┐
//! ```

#[cfg(not(target_arch = "x86_64"))]
#[path = "chacha20_poly1305/nowhere.rs"]
mod wide;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::fmt;

use super::text::Text;

/// Length of an authentication tag, bytes.
const TAG_LEN: usize = 16;
/// Longer data is refused, well before the block counter of 32 bits comes round.
const MAX_LEN: usize = 1 << 30;

/// A key of 256 bits, ready for use by any thread. Wiped when dropped, never printed.
pub struct ChaCha20Poly1305 {
    // In a box: moving the key leaves no copies behind.
    key: Box<wide::Key>,
}

impl ChaCha20Poly1305 {
    /// Expands `key`; `None` where the processor lacks the instructions.
    pub fn new(key: &[u8; 32]) -> Option<Self> {
        wide::Key::new(key).map(|key| Self { key })
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
        if plaintext.len() != out.len() || plaintext.len() > MAX_LEN {
            return false;
        }
        self.key.seal(nonce, aad, Text::Apart { source: plaintext, target: out }, tag);
        true
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
        if in_out.len() > MAX_LEN {
            return false;
        }
        self.key.seal(nonce, aad, Text::InPlace(in_out), tag);
        true
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
        let authentic = ciphertext.len() == out.len()
            && ciphertext.len() <= MAX_LEN
            && self.key.open(nonce, aad, Text::Apart { source: ciphertext, target: out }, tag);
        if !authentic {
            out.fill(0);
        }
        authentic
    }
}

impl fmt::Debug for ChaCha20Poly1305 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChaCha20Poly1305")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LADIES: &[u8] =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
                            future, sunscreen would be it.";

    fn hex(digits: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            digits.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
    }

    /// `None`, said aloud, where the processor cannot.
    fn key(bytes: &[u8; 32]) -> Option<ChaCha20Poly1305> {
        let key = ChaCha20Poly1305::new(bytes);
        if key.is_none() {
            eprintln!("nothing tested: no AVX-512 with IFMA");
        }
        key
    }

    fn counting(from: u8) -> [u8; 32] {
        std::array::from_fn(|i| from + i as u8)
    }

    fn check(bytes: [u8; 32], nonce: &str, aad: &str, plaintext: &[u8], ciphertext: &str, tag: Option<&str>) {
        let Some(key) = key(&bytes) else { return };
        let nonce: [u8; 12] = hex(nonce).try_into().unwrap();
        let (aad, ciphertext) = (hex(aad), hex(ciphertext));
        let (mut out, mut sealed_tag) = (vec![0; plaintext.len()], [0; TAG_LEN]);
        assert!(key.seal(nonce, &aad, plaintext, &mut out, &mut sealed_tag));
        assert_eq!(out, ciphertext);
        if let Some(tag) = tag {
            assert_eq!(sealed_tag, *hex(tag));
        }
        let mut in_place = plaintext.to_vec();
        let mut second_tag = [0; TAG_LEN];
        assert!(key.seal_in_place(nonce, &aad, &mut in_place, &mut second_tag));
        assert_eq!((in_place, second_tag), (ciphertext, sealed_tag));
        let mut opened = vec![0; plaintext.len()];
        assert!(key.open(nonce, &aad, &out, &sealed_tag, &mut opened));
        assert_eq!(opened, plaintext);
    }

    /// RFC 8439, section 2.3.2: block 1, on a text of zeros.
    #[test]
    fn the_published_block_comes_out() {
        let block = "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e\
                     d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e";
        check(counting(0), "000000090000004a00000000", "", &[0; 64], block, None);
    }

    /// RFC 8439, section 2.4.2.
    #[test]
    fn the_published_ciphertext_comes_out() {
        let ciphertext = "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b\
                          f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8\
                          07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736\
                          5af90bbf74a35be6b40b8eedf2785e42874d";
        check(counting(0), "000000000000004a00000000", "", LADIES, ciphertext, None);
    }

    /// RFC 8439, section 2.8.2.
    #[test]
    fn the_published_tag_comes_out() {
        let ciphertext = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
                          3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
                          92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
                          3ff4def08e4b7a9de576d26586cec64b6116";
        let (nonce, aad) = ("070000004041424344454647", "50515253c0c1c2c3c4c5c6c7");
        check(counting(0x80), nonce, aad, LADIES, ciphertext, Some("1ae10b594f09e26a7e902ecbd0600691"));
    }

    #[test]
    fn nothing_is_left_of_a_text_that_is_not_authentic() {
        let Some(key) = key(&[7; 32]) else { return };
        for len in [0, 1, 64, 200, 255, 256, 1400, 4000] {
            let (text, mut out, mut tag) = (vec![3; len], vec![0; len], [0; TAG_LEN]);
            assert!(key.seal([1; 12], &[2; 8], &text, &mut out, &mut tag));
            let mut opened = vec![9; len];
            tag[15] ^= 0x80;
            assert!(!key.open([1; 12], &[2; 8], &out, &tag, &mut opened));
            assert_eq!(opened, vec![0; len]);
        }
    }

    #[test]
    fn buffers_of_different_lengths_are_refused() {
        let Some(key) = key(&[7; 32]) else { return };
        let (mut tag, mut out) = ([0; TAG_LEN], [5; 4]);
        assert!(!key.seal([0; 12], &[], &[1; 3], &mut out, &mut tag));
        assert_eq!((out, tag), ([5; 4], [0; TAG_LEN]));
        assert!(!key.open([0; 12], &[], &[1; 3], &tag, &mut out));
        assert_eq!(out, [0; 4]);
    }

    #[test]
    fn the_key_is_never_printed() {
        let Some(key) = key(&[7; 32]) else { return };
        assert_eq!(format!("{key:?}"), "ChaCha20Poly1305");
    }
}
