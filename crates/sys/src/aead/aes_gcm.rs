//! AES-GCM (NIST SP 800-38D) with nonces of 96 bits.
//!
//! ```text
//!   nonce ‖ 1   nonce ‖ 2   nonce ‖ 3 …              aad     ciphertext …     lengths
//!      │AES        │AES        │AES                   │          │               │
//!      │        plaintext ⊕ … = ciphertext            ▼          ▼               ▼
//!      └──────────────────────────────────────▶ ⊕ ◀── GHASH: one polynomial in H = AES(0)
//!                                              tag
//! ```

#[cfg(not(target_arch = "x86_64"))]
#[path = "aes_gcm/nowhere.rs"]
mod wide;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::fmt;

use super::text::Text;

/// Length of an authentication tag, bytes.
const TAG_LEN: usize = 16;
/// Longer data is refused, well before the block counter of 32 bits comes round.
const MAX_LEN: usize = 1 << 30;

/// A key of 128, 192 or 256 bits, ready for use by any thread. Wiped when dropped, never printed.
pub struct AesGcm {
    // In a box: moving the key leaves no copies behind.
    key: Box<wide::Key>,
}

impl AesGcm {
    /// Expands `key`; `None` where the processor lacks the instructions or the key has another length.
    pub fn new(key: &[u8]) -> Option<Self> {
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

impl fmt::Debug for AesGcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesGcm")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// `None`, said aloud, where the processor cannot.
    fn key(bytes: &[u8]) -> Option<AesGcm> {
        let key = AesGcm::new(bytes);
        if key.is_none() {
            eprintln!("nothing tested: no AVX-512 with VAES and VPCLMULQDQ");
        }
        key
    }

    const KEY: &str = "feffe9928665731c6d6a8f9467308308";
    const NONCE: &str = "cafebabefacedbaddecaf888";
    const AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    const PLAINTEXT: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24\
                             49a6b525b16aedf5aa0de657ba637b391aafd255";

    /// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B: key, nonce, associated data, plaintext,
    /// ciphertext, tag.
    #[test]
    fn published_answers() {
        let zeros = |len: usize| "00".repeat(len);
        let (twelve, block) = (&zeros(12), &zeros(16));
        let short = &PLAINTEXT[..120];
        let three = &format!("{KEY}{}", &KEY[..16]);
        let two = &KEY.repeat(2);
        let cases = [
            [&zeros(16), twelve, "", "", "", "58e2fccefa7e3061367f1d57a4e7455a"],
            [
                &zeros(16),
                twelve,
                "",
                block,
                "0388dace60b6a392f328c2b971b2fe78",
                "ab6e47d42cec13bdf53a67b21257bddf",
            ],
            [
                KEY,
                NONCE,
                "",
                PLAINTEXT,
                "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05\
                 1ba30b396a0aac973d58e091473f5985",
                "4d5c2af327cd64a62cf35abd2ba6fab4",
            ],
            [
                KEY,
                NONCE,
                AAD,
                short,
                "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa05\
                 1ba30b396a0aac973d58e091",
                "5bc94fbc3221a5db94fae95ae7121a47",
            ],
            [&zeros(24), twelve, "", "", "", "cd33b28ac773f74ba00ed1f312572435"],
            [
                three,
                NONCE,
                AAD,
                short,
                "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c7d773d00c144c525ac619d18c84a3f47\
                 18e2448b2fe324d9ccda2710",
                "2519498e80f1478f37ba55bd6d27618c",
            ],
            [&zeros(32), twelve, "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"],
            [
                two,
                NONCE,
                AAD,
                short,
                "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                 c5f61e6393ba7a0abcc9f662",
                "76fc6ece0f4e1768cddf8853bb2d551b",
            ],
        ];
        for case in cases {
            let [bytes, nonce, aad, plaintext, ciphertext, tag] = case.map(hex);
            let Some(key) = key(&bytes) else { return };
            let nonce = nonce.try_into().unwrap();
            let (mut sealed, mut sealed_tag) = (vec![0; plaintext.len()], [0; TAG_LEN]);
            assert!(key.seal(nonce, &aad, &plaintext, &mut sealed, &mut sealed_tag));
            assert_eq!((&sealed, &sealed_tag[..]), (&ciphertext, &tag[..]), "{case:?}");
            let mut opened = vec![0; plaintext.len()];
            assert!(key.open(nonce, &aad, &ciphertext, &sealed_tag, &mut opened), "{case:?}");
            assert_eq!(opened, plaintext, "{case:?}");
        }
    }

    #[test]
    fn a_refused_packet_leaves_zeros_and_lengths_must_agree() {
        let Some(key) = key(&[7; 32]) else { return };
        let (mut sealed, mut tag) = ([0; 100], [0; TAG_LEN]);
        assert!(key.seal([1; 12], &[2; 8], &[3; 100], &mut sealed, &mut tag));
        let mut out = [0xEE; 100];
        assert!(!key.open([1; 12], &[2; 7], &sealed, &tag, &mut out));
        assert_eq!(out, [0; 100]);
        let mut long = [0xEE; 101];
        assert!(!key.open([1; 12], &[2; 8], &sealed, &tag, &mut long));
        assert_eq!(long, [0; 101]);
        let mut tag = [0xEE; TAG_LEN];
        assert!(!key.seal([1; 12], &[2; 8], &[3; 100], &mut out[..99], &mut tag));
        assert_eq!((out, tag), ([0; 100], [0xEE; TAG_LEN]));
    }

    #[test]
    fn other_key_lengths_are_refused_and_keys_not_printed() {
        for len in (0..40).filter(|len| ![16, 24, 32].contains(len)) {
            assert!(AesGcm::new(&vec![1; len]).is_none(), "{len} bytes");
        }
        let Some(key) = key(&[7; 16]) else { return };
        assert_eq!(format!("{key:?}"), "AesGcm");
    }
}
