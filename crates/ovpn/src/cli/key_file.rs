//! Key files of the test tools: base64 text of at least 72 bytes.
//!
//! ```text
//!   0 ────── 32 ────── 64 ─── 72
//!   │ key A   │ key B   │ tail │ …      direction 0: encrypt A, decrypt B; direction 1: the other way round
//! ```
//!
//! Both directions share the nonce tail; the keys differ. For tests only: real keys come from a handshake.

use std::path::Path;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use ovpn_dco::{CipherAlg, DataFormat, KeyConfig, KeyDirection, KeyId};

use super::grammar::Direction;

/// Needed bytes.
const LEN: usize = 72;

/// Why a key file is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFileError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Read(std::path::PathBuf, std::io::Error),
    /// It holds something else.
    #[error("{0}: {1}")]
    Content(std::path::PathBuf, &'static str),
}

/// Reads a key file and makes a 32-byte key of either cipher of it.
///
/// # Errors
/// When the file cannot be read, is no base64 or too short.
pub(crate) fn read(
    path: &Path,
    direction: Direction,
    key_id: KeyId,
    cipher: CipherAlg,
) -> Result<KeyConfig, KeyFileError> {
    let text = std::fs::read(path).map_err(|error| KeyFileError::Read(path.into(), error))?;
    key(&text, direction, key_id, cipher).map_err(|what| KeyFileError::Content(path.into(), what))
}

fn key(
    text: &[u8],
    direction: Direction,
    key_id: KeyId,
    cipher: CipherAlg,
) -> Result<KeyConfig, &'static str> {
    let bytes = base64(text).ok_or("not base64")?;
    let Some((material, _)) = bytes.split_first_chunk::<LEN>() else {
        return Err("shorter than 72 bytes");
    };
    let (a, rest) = material.split_at(32);
    let (b, tail) = rest.split_at(32);
    let mut nonce_tail = [0; 8];
    nonce_tail.copy_from_slice(tail);
    let half = |key: &[u8]| KeyDirection { cipher_key: key.to_vec(), nonce_tail };
    let (encrypt, decrypt) = match direction {
        Direction::Normal => (half(a), half(b)),
        Direction::Inverse => (half(b), half(a)),
    };
    Ok(KeyConfig { key_id, cipher, format: DataFormat::V2, key_len: 32, encrypt, decrypt })
}

/// Standard base64 (RFC 4648), white space ignored, padding optional.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: Vec<u8> = text.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    GeneralPurpose::new(&alphabet::STANDARD, config).decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_exchange_the_keys_only() {
        // 72 bytes 0, 1, 2 … in base64, wrapped.
        let text = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\nISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BB\nQkNERUZH";
        let read = |direction| key(text.as_bytes(), direction, KeyId::FIRST, CipherAlg::AesGcm).unwrap();
        let (normal, inverse) = (read(Direction::Normal), read(Direction::Inverse));
        assert_eq!(normal.encrypt.cipher_key, (0..32).collect::<Vec<u8>>());
        assert_eq!(normal.decrypt.cipher_key, (32..64).collect::<Vec<u8>>());
        assert_eq!(normal.encrypt.nonce_tail, [64, 65, 66, 67, 68, 69, 70, 71]);
        assert_eq!((&normal.encrypt, &normal.decrypt), (&inverse.decrypt, &inverse.encrypt));
        assert!(key(&text.as_bytes()[..90], Direction::Normal, KeyId::FIRST, CipherAlg::AesGcm).is_err());
    }
}
