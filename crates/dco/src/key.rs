//! Data-channel keys as the control plane hands them over.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::KeyId;

/// The data-channel ciphers. The AES key size follows from the key's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CipherAlg {
    /// No encryption and no authentication: for tests that ask for it by name, refused everywhere else.
    None,
    /// AES-128-GCM, AES-192-GCM or AES-256-GCM, by the length of the key.
    AesGcm,
    /// CHACHA20-POLY1305 (RFC 8439), 32-byte keys.
    ChaCha20Poly1305,
}

/// How data packets are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DataFormat {
    /// DATA_V2, 32-bit packet id, tag before the ciphertext.
    #[default]
    V2,
    /// DATA_V1 of peers without peer ids: as V2, without the peer id and with the opcode outside the AAD.
    V1,
    /// DATA_V2 with epoch keys, 64-bit packet id, tag at the end. The key fields then hold `E_1`, 32 bytes
    /// whatever the cipher; [`KeyConfig::key_len`] tells the cipher's own key length.
    Epoch,
}

/// Key material of one direction. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct KeyDirection {
    /// The cipher key: 16, 24 or 32 bytes (`E_1`, 32 bytes, in the epoch format).
    pub cipher_key: Vec<u8>,
    /// The implicit part of the nonce (unused in the epoch format).
    pub nonce_tail: [u8; 8],
}

impl fmt::Debug for KeyDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDirection({} secret bytes)", self.cipher_key.len())
    }
}

/// A key ready to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// The id its packets carry.
    pub key_id: KeyId,
    /// The cipher.
    pub cipher: CipherAlg,
    /// The packet format.
    pub format: DataFormat,
    /// The cipher's key length in bytes: 16, 24 or 32.
    pub key_len: u8,
    /// Key for what this host sends.
    pub encrypt: KeyDirection,
    /// Key for what this host receives.
    pub decrypt: KeyDirection,
}

/// What can be read back of an installed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo {
    /// The id its packets carry.
    pub key_id: KeyId,
    /// The cipher.
    pub cipher: CipherAlg,
}
