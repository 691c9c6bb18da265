//! Published answers, and what is the same for all ciphers.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// `None`, said aloud, where the processor cannot.
fn able(key: Option<WideKey>) -> Option<WideKey> {
    if key.is_none() {
        eprintln!("nothing tested: the processor lacks the instructions");
    }
    key
}

/// A key of each.
fn keys() -> impl Iterator<Item = WideKey> {
    [able(WideKey::aes_gcm(&[7; 32])), able(WideKey::chacha20_poly1305(&[7; 32]))].into_iter().flatten()
}

/// Sealed apart and in place, and opened again, as it is published.
fn check(key: &WideKey, nonce: &str, aad: &[u8], plaintext: &[u8], ciphertext: &str, tag: Option<&str>) {
    let (nonce, ciphertext) = (hex(nonce).try_into().unwrap(), hex(ciphertext));
    let (mut sealed, mut sealed_tag) = (vec![0; plaintext.len()], [0; TAG_LEN]);
    assert!(key.seal(nonce, aad, plaintext, &mut sealed, &mut sealed_tag));
    assert_eq!(sealed, ciphertext);
    if let Some(tag) = tag {
        assert_eq!(sealed_tag, *hex(tag));
    }
    let (mut in_place, mut second_tag) = (plaintext.to_vec(), [0; TAG_LEN]);
    assert!(key.seal_in_place(nonce, aad, &mut in_place, &mut second_tag));
    assert_eq!((in_place, second_tag), (ciphertext, sealed_tag));
    let mut opened = vec![0; plaintext.len()];
    assert!(key.open(nonce, aad, &sealed, &sealed_tag, &mut opened));
    assert_eq!(opened, plaintext);
}

const KEY: &str = "feffe9928665731c6d6a8f9467308308";
const NONCE: &str = "cafebabefacedbaddecaf888";
const AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
const PLAINTEXT: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24\
                         49a6b525b16aedf5aa0de657ba637b391aafd255";

/// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B: key, nonce, associated data, plaintext,
/// ciphertext, tag.
#[test]
fn published_answers_of_aes_gcm() {
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
    for [key, nonce, aad, plaintext, ciphertext, tag] in cases {
        let Some(key) = able(WideKey::aes_gcm(&hex(key))) else { return };
        check(&key, nonce, &hex(aad), &hex(plaintext), ciphertext, Some(tag));
    }
}

const LADIES: &[u8] = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
                        future, sunscreen would be it.";

fn counting(from: u8) -> [u8; 32] {
    std::array::from_fn(|i| from + i as u8)
}

fn check_chacha20_poly1305(
    key: [u8; 32],
    nonce: &str,
    aad: &str,
    plaintext: &[u8],
    ciphertext: &str,
    tag: Option<&str>,
) {
    let Some(key) = able(WideKey::chacha20_poly1305(&key)) else { return };
    check(&key, nonce, &hex(aad), plaintext, ciphertext, tag);
}

/// RFC 8439, section 2.3.2: block 1, on a text of zeros.
#[test]
fn the_published_block_comes_out() {
    let block = "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e\
                 d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e";
    check_chacha20_poly1305(counting(0), "000000090000004a00000000", "", &[0; 64], block, None);
}

/// RFC 8439, section 2.4.2.
#[test]
fn the_published_ciphertext_comes_out() {
    let ciphertext = "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b\
                      f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8\
                      07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736\
                      5af90bbf74a35be6b40b8eedf2785e42874d";
    check_chacha20_poly1305(counting(0), "000000000000004a00000000", "", LADIES, ciphertext, None);
}

/// RFC 8439, section 2.8.2.
#[test]
fn the_published_tag_comes_out() {
    let ciphertext = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
                      3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
                      92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
                      3ff4def08e4b7a9de576d26586cec64b6116";
    let (nonce, aad) = ("070000004041424344454647", "50515253c0c1c2c3c4c5c6c7");
    check_chacha20_poly1305(
        counting(0x80),
        nonce,
        aad,
        LADIES,
        ciphertext,
        Some("1ae10b594f09e26a7e902ecbd0600691"),
    );
}

#[test]
fn nothing_is_left_of_a_text_that_is_not_authentic() {
    for key in keys() {
        for len in [0, 1, 64, 100, 200, 255, 256, 1400, 4000] {
            let (text, mut out, mut tag) = (vec![3; len], vec![0; len], [0; TAG_LEN]);
            assert!(key.seal([1; 12], &[2; 8], &text, &mut out, &mut tag));
            let mut opened = vec![9; len];
            assert!(!key.open([1; 12], &[2; 7], &out, &tag, &mut opened));
            assert_eq!(opened, vec![0; len]);
            opened.fill(9);
            tag[15] ^= 0x80;
            assert!(!key.open([1; 12], &[2; 8], &out, &tag, &mut opened));
            assert_eq!(opened, vec![0; len]);
        }
    }
}

#[test]
fn buffers_of_different_lengths_are_refused() {
    for key in keys() {
        let (mut tag, mut out) = ([0xEE; TAG_LEN], [5; 4]);
        assert!(!key.seal([0; 12], &[], &[1; 3], &mut out, &mut tag));
        assert_eq!((out, tag), ([5; 4], [0xEE; TAG_LEN]));
        assert!(!key.open([0; 12], &[], &[1; 3], &tag, &mut out));
        assert_eq!(out, [0; 4]);
    }
}

#[test]
fn other_key_lengths_are_refused_and_keys_not_printed() {
    for len in 0..40 {
        if ![16, 24, 32].contains(&len) {
            assert!(WideKey::aes_gcm(&vec![1; len]).is_none(), "{len} bytes");
        }
        if len != 32 {
            assert!(WideKey::chacha20_poly1305(&vec![1; len]).is_none(), "{len} bytes");
        }
    }
    for key in keys() {
        assert_eq!(format!("{key:?}"), "WideKey");
    }
}
