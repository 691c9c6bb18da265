//! ChaCha20-Poly1305 of whoever does the work here, judged by aws-lc.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ovpn_crypto::aead::{AeadKey, Cipher, NONCE_LEN, OpenError, TAG_LEN};

const KEY: [u8; 32] = *b"thirty-two bytes for a cipher's.";

fn noise(len: usize) -> Vec<u8> {
    let mut random = 1u64;
    let next = |_| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as u8
    };
    (0..len).map(next).collect()
}

fn compare(text: &[u8], aad: &[u8], nonce: [u8; NONCE_LEN]) {
    let key = AeadKey::new(Cipher::ChaCha20Poly1305, &KEY).unwrap();
    let judge = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &KEY).unwrap());
    let len = text.len();
    let (mut expected, mut expected_tag) = (vec![0; len], [0; TAG_LEN]);
    judge
        .seal_out_of_place_scatter(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            text,
            &mut expected,
            &[],
            &mut expected_tag,
        )
        .unwrap();

    let (mut sealed, mut tag) = (vec![0; len], [0; TAG_LEN]);
    key.seal(nonce, aad, text, &mut sealed, &mut tag).unwrap();
    assert!(sealed == expected, "{len} bytes, {} of aad", aad.len());
    assert_eq!(tag, expected_tag, "{len} bytes, {} of aad", aad.len());

    let (mut in_place, mut tag) = (text.to_vec(), [0; TAG_LEN]);
    key.seal_in_place(nonce, aad, &mut in_place, &mut tag).unwrap();
    assert!(in_place == expected && tag == expected_tag, "{len} bytes in place");

    let mut opened = vec![1; len];
    key.open(nonce, aad, &sealed, &tag, &mut opened).unwrap();
    assert!(opened == text, "{len} bytes");

    let mut refused = |nonce, aad: &[u8], sealed: &[u8], tag: &[u8; TAG_LEN]| {
        opened.fill(1);
        assert_eq!(key.open(nonce, aad, sealed, tag, &mut opened), Err(OpenError), "{len} bytes");
        assert!(opened.iter().all(|&byte| byte == 0), "{len} bytes");
    };
    let flip = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let at = nonce[0] as usize % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << (nonce[1] % 8);
        }
        bytes
    };
    refused(nonce, aad, &sealed, &flip(&tag).try_into().unwrap());
    if !aad.is_empty() {
        refused(nonce, &flip(aad), &sealed, &tag);
    }
    refused(nonce, &[aad, &[0]].concat(), &sealed, &tag);
    if len > 0 {
        refused(nonce, aad, &flip(&sealed), &tag);
        refused(nonce.map(|byte| !byte), aad, &sealed, &tag);
    }
}

#[test]
fn every_length_is_sealed_and_opened_as_by_the_library() {
    let noise = noise(70_000);
    for (i, len) in
        (0..=1100).chain([1399, 1400, 1401, 1500, 1536, 1727, 1728, 1729, 4095, 4096, 4097]).enumerate()
    {
        let nonce = std::array::from_fn(|byte| noise[len + byte + 50]);
        for aad in [i % 41, (7 * i + 20) % 41, [4, 8, 12][i % 3]] {
            compare(&noise[i % 64..][..len], &noise[len..len + aad], nonce);
        }
    }
    for len in [9000, 65_535, 65_536] {
        compare(&noise[1..][..len], &noise[..500], [9; NONCE_LEN]);
    }
}

#[test]
fn bytes_of_ones_only_are_sealed_and_opened_as_by_the_library() {
    for len in (0..1500).step_by(13).chain([128, 256, 384, 1024, 1280, 1408]) {
        compare(&vec![0xFF; len], &[0xFF; 40][..len % 41], [0xFF; NONCE_LEN]);
    }
}
