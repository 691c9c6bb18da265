//! The data-channel ciphers by the names that peers exchange.

use std::fmt;
use std::str::FromStr;

/// An AEAD cipher of the data channel. Offload knows no other kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-192-GCM.
    Aes192Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// CHACHA20-POLY1305.
    ChaCha20Poly1305,
}

/// A cipher name that is none of the AEAD ciphers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not an AEAD cipher that data channel offload can carry (AES-256-GCM, AES-192-GCM, AES-128-GCM, CHACHA20-POLY1305)"
)]
pub struct UnknownCipher(pub String);

impl Cipher {
    /// The default of `data-ciphers`, in order of preference.
    pub const DEFAULT: [Self; 3] = [Self::Aes256Gcm, Self::Aes128Gcm, Self::ChaCha20Poly1305];

    /// The name on the wire and in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes192Gcm => "AES-192-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "CHACHA20-POLY1305",
        }
    }

    /// Key length in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes192Gcm => 24,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Reads a `:`-separated list, skipping what is no AEAD cipher.
    pub fn parse_list(list: &str) -> Vec<Self> {
        list.split(':').filter_map(|name| name.parse().ok()).collect()
    }

    /// Writes a `:`-separated list.
    pub fn format_list(list: &[Self]) -> String {
        list.iter().map(|cipher| cipher.name()).collect::<Vec<_>>().join(":")
    }
}

impl FromStr for Cipher {
    type Err = UnknownCipher;

    /// Names are compared without regard to case.
    fn from_str(name: &str) -> Result<Self, UnknownCipher> {
        [Self::Aes128Gcm, Self::Aes192Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305]
            .into_iter()
            .find(|cipher| cipher.name().eq_ignore_ascii_case(name.trim()))
            .ok_or_else(|| UnknownCipher(name.to_owned()))
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(Cipher::parse_list("AES-256-GCM:aes-128-gcm:BF-CBC:CHACHA20-POLY1305"), Cipher::DEFAULT);
        assert_eq!(Cipher::format_list(&Cipher::DEFAULT), "AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305");
        assert!("BF-CBC".parse::<Cipher>().is_err());
    }
}
