//! Static key files: 256 bytes shared by both sides, for tls-auth and tls-crypt.
//!
//! ```text
//!  0          64         128        192        256
//!  | cipher 0 |  HMAC 0  | cipher 1 |  HMAC 1  |
//!  |<------ key 0 ------>|<------ key 1 ------>|
//! ```
//!
//! An algorithm that needs *k* bytes takes the first *k* of its slot. A direction says which key sends.
//! Source: OpenVPN wire protocol, "Static key file".

use thiserror::Error;

use crate::secret::Secret;

const BEGIN: &str = "-----BEGIN OpenVPN Static key V1-----";
const END: &str = "-----END OpenVPN Static key V1-----";

/// 256 bytes in four slots.
#[derive(Debug, Clone)]
pub struct StaticKey(Secret<256>);

/// Which of the two keys of a static key file sends and which receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDirection {
    /// Key 0 both ways: no direction configured.
    Bidirectional,
    /// Direction 0: key 0 sends, key 1 receives.
    Normal,
    /// Direction 1: key 1 sends, key 0 receives.
    Inverse,
}

impl KeyDirection {
    /// The direction that `key-direction N` names.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Normal),
            1 => Some(Self::Inverse),
            _ => None,
        }
    }

    /// The number of the key that sends.
    pub const fn send(self) -> usize {
        matches!(self, Self::Inverse) as usize
    }

    /// The number of the key that receives.
    pub const fn receive(self) -> usize {
        matches!(self, Self::Normal) as usize
    }
}

/// Why a static key file could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StaticKeyError {
    /// The first line of the key is missing.
    #[error("no line \"{BEGIN}\"")]
    NoBegin,
    /// The last line of the key is missing.
    #[error("no line \"{END}\"")]
    NoEnd,
    /// Something between the lines is not a hexadecimal digit; the line counts from 1 in the file.
    #[error("line {line}: not a hexadecimal digit")]
    NotHex {
        /// Where.
        line: usize,
    },
    /// Too few or too many digits.
    #[error("the key has {bytes} bytes instead of 256")]
    Length {
        /// How many there are, at most 257.
        bytes: usize,
    },
}

impl StaticKey {
    /// Takes 256 bytes, e.g. fresh randomness.
    pub const fn new(bytes: Secret<256>) -> Self {
        Self(bytes)
    }

    /// Reads a key file. Text before the first line of the key and after its last is skipped.
    pub fn from_text(text: &str) -> Result<Self, StaticKeyError> {
        let mut lines = text.lines().enumerate();
        lines.by_ref().find(|(_, line)| line.trim() == BEGIN).ok_or(StaticKeyError::NoBegin)?;
        let mut key = Secret::zeroed();
        let mut digits = 0usize;
        for (number, line) in lines {
            if line.trim() == END {
                return match digits {
                    512 => Ok(Self(key)),
                    _ => Err(StaticKeyError::Length { bytes: digits.div_ceil(2).min(257) }),
                };
            }
            for c in line.chars().filter(|c| !c.is_ascii_whitespace()) {
                let digit = c.to_digit(16).ok_or(StaticKeyError::NotHex { line: number + 1 })?;
                if let Some(byte) = key.expose_mut().get_mut(digits / 2) {
                    *byte = *byte << 4 | digit as u8;
                }
                digits = digits.saturating_add(1);
            }
        }
        Err(StaticKeyError::NoEnd)
    }

    /// The key file: what `genkey secret` writes. The text is as secret as the key.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(700);
        text.push_str("#\n# 2048 bit OpenVPN static key\n#\n");
        text.push_str(BEGIN);
        for (index, byte) in self.expose().iter().enumerate() {
            if index % 16 == 0 {
                text.push('\n');
            }
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        text.push('\n');
        text.push_str(END);
        text.push('\n');
        text
    }

    /// All 256 bytes.
    pub const fn expose(&self) -> &[u8; 256] {
        self.0.expose()
    }

    /// The 64-byte cipher slot of key 0 or 1.
    pub fn cipher_slot(&self, key: usize) -> &[u8] {
        &self.expose()[128 * (key & 1)..][..64]
    }

    /// The 64-byte HMAC slot of key 0 or 1.
    pub fn hmac_slot(&self, key: usize) -> &[u8] {
        &self.expose()[128 * (key & 1) + 64..][..64]
    }

    /// This key XOR other bytes, byte by byte: how dynamic tls-crypt mixes in the TLS exporter.
    pub fn xor(&self, other: &[u8; 256]) -> Self {
        let mut mixed = Secret::zeroed();
        for ((out, a), b) in mixed.expose_mut().iter_mut().zip(self.expose()).zip(other) {
            *out = a ^ b;
        }
        Self(mixed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_round_trip(seed: [u8; 32]) {
            let mut bytes = Secret::<256>::zeroed();
            for (index, byte) in bytes.expose_mut().iter_mut().enumerate() {
                *byte = seed[index % 32].wrapping_mul(index as u8 | 1);
            }
            let key = StaticKey::new(bytes);
            let back = StaticKey::from_text(&format!("# note\n{}; tail", key.to_text())).unwrap();
            prop_assert_eq!(back.expose(), key.expose());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(-----BEGIN OpenVPN Static key V1-----\n)?[0-9a-f\n]{0,600}(\n-----END OpenVPN Static key V1-----)?") {
            let _ = StaticKey::from_text(&text);
        }
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        let good = StaticKey::new(Secret::new([0x5a; 256])).to_text();
        let fails = |text: &str| StaticKey::from_text(text).unwrap_err();
        assert_eq!(fails(""), StaticKeyError::NoBegin);
        assert_eq!(fails(&good.replace("-----END", "----END")), StaticKeyError::NotHex { line: 21 });
        assert_eq!(fails(good.split("-----END").next().unwrap()), StaticKeyError::NoEnd);
        assert_eq!(fails(&good.replacen("5a5a", "5a", 1)), StaticKeyError::Length { bytes: 255 });
        assert_eq!(fails(&good.replacen("5a5a", "5a5a5a5a", 1)), StaticKeyError::Length { bytes: 257 });
        assert_eq!(fails(&good.replacen("5a", "5g", 1)), StaticKeyError::NotHex { line: 5 });
    }
}
