//! The data channel's ciphers and epoch keys against OpenVPN's own published answers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use ovpn_crypto::aead::{AeadKey, Cipher};
use ovpn_crypto::epoch::EpochSecret;
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/protocol/vectors/data-channel.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn published(all: &Value) -> BTreeMap<String, Value> {
    let entries = all["cross_checked_against_upstream_tests"].as_array().unwrap();
    entries.iter().map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry["value"].clone())).collect()
}

/// The classic format's answer: key and nonce tail cut from key2, the unit test's odd four-byte header.
#[test]
fn classic_tag_as_published() {
    let all = vectors();
    let inputs = &all["upstream_known_answer_inputs"];
    let (key2, plaintext, header) =
        (hex(&inputs["key2_256_bytes"]), hex(&inputs["plaintext"]), hex(&inputs["aad_header"]));
    let key = AeadKey::new(Cipher::Aes256Gcm, &key2[..32]).unwrap();
    let mut nonce = [0; 12];
    nonce[3] = 1;
    nonce[4..].copy_from_slice(&key2[64..72]);
    let aad = [&header[..], &nonce[..4]].concat();
    let (mut ciphertext, mut tag) = (vec![0; plaintext.len()], [0; 16]);
    key.seal(nonce, &aad, &plaintext, &mut ciphertext, &mut tag).unwrap();
    let published = published(&all);
    assert_eq!(tag[..], hex(&published["AES-256-GCM classic format tag"]));
    // Published with offsets of the whole packet, whose header and tag come before the ciphertext.
    let expected = hex(&published["classic ciphertext bytes 10..15"]);
    assert!(ciphertext.windows(6).any(|window| window == expected));

    let mut opened = vec![0; plaintext.len()];
    key.open(nonce, &aad, &ciphertext, &tag, &mut opened).unwrap();
    assert_eq!(opened, plaintext);
}

/// The epoch format's answers, with the same odd header before the 64-bit packet id.
#[test]
fn epoch_tags_as_published() {
    let all = vectors();
    let inputs = &all["upstream_known_answer_inputs"];
    let (key2, plaintext, header) =
        (hex(&inputs["key2_256_bytes"]), hex(&inputs["plaintext"]), hex(&inputs["aad_header"]));
    let seal = |epoch: u64| {
        let first = EpochSecret::first(&key2[..32]).unwrap();
        let secret = (1..epoch).fold(first, |secret, _| secret.next());
        let key = secret.key(Cipher::Aes256Gcm).unwrap();
        let packet_id = epoch << 48 | 1;
        let aad = [&header[..], &packet_id.to_be_bytes()].concat();
        let (mut ciphertext, mut tag) = (vec![0; plaintext.len()], [0; 16]);
        key.aead.seal(key.nonce(packet_id), &aad, &plaintext, &mut ciphertext, &mut tag).unwrap();
        (ciphertext, tag)
    };
    let published = published(&all);
    assert_eq!(seal(1).1[..], hex(&published["AES-256-GCM epoch 1 tag"]));
    let (ciphertext, tag) = seal(4);
    assert_eq!(tag[..], hex(&published["AES-256-GCM epoch 4 tag"]));
    assert_eq!(ciphertext[6..12], hex(&published["epoch 4 ciphertext bytes 6..11"]));
}

/// Every row of both directions' schedules: the next secret's key and IV, for each cipher.
#[test]
fn epoch_schedules() {
    let all = vectors();
    let schedules = all["epoch_key_schedule"].as_array().unwrap();
    assert_eq!(schedules.len(), 8);
    for schedule in schedules {
        let cipher = Cipher::ALL
            .into_iter()
            .find(|cipher| cipher.name() == schedule["cipher"].as_str().unwrap())
            .unwrap();
        let rows = schedule["rows"].as_array().unwrap();
        let mut secret = EpochSecret::first(&hex(&rows[0]["E"])).unwrap();
        let mut epoch = 1;
        for row in rows {
            while epoch < row["epoch"].as_u64().unwrap() {
                secret = secret.next();
                epoch += 1;
            }
            let key = secret.key(cipher).unwrap();
            assert_eq!(key.nonce(0)[..], hex(&row["data_iv"]));
            let expected = AeadKey::new(cipher, &hex(&row["data_key"])).unwrap();
            assert_eq!(tag(&key.aead), tag(&expected));
        }
    }
}

fn tag(key: &AeadKey) -> [u8; 16] {
    let mut tag = [0; 16];
    key.seal([7; 12], b"aad", &[], &mut [], &mut tag).unwrap();
    tag
}
