//! The two key slots of a peer and direction.
//!
//! ```text
//!            primary              secondary
//!   TX ────▶ encrypts             –
//!   RX ────▶ opens its key id     opens its key id
//! ```
//!
//! A key is installed into one slot, swapped between them, deleted from one. Sending and receiving state of a key
//! live behind different locks, so each direction has slots of its own; operations change both under both locks.

use ovpn_crypto::aead::{AeadKey, Cipher, KeyError};
use ovpn_dco::{CipherAlg, DataFormat, Error, ErrorKind, KeyConfig, KeyDirection, KeyId, KeySlot};
use zeroize::Zeroize;

use crate::epoch::{self, ReceiveChain, SendChain};
use crate::pktid::ReplayWindow;
use crate::usage::Usage;

/// Two slots for keys of one direction.
#[derive(Debug)]
pub(crate) struct KeySlots<K> {
    pub(crate) primary: Option<K>,
    pub(crate) secondary: Option<K>,
}

impl<K> Default for KeySlots<K> {
    fn default() -> Self {
        Self { primary: None, secondary: None }
    }
}

impl<K> KeySlots<K> {
    pub(crate) fn slot(&mut self, slot: KeySlot) -> &mut Option<K> {
        match slot {
            KeySlot::Primary => &mut self.primary,
            KeySlot::Secondary => &mut self.secondary,
        }
    }

    pub(crate) fn swap(&mut self) {
        std::mem::swap(&mut self.primary, &mut self.secondary);
    }
}

/// The nonce's implicit part, wiped when dropped.
#[derive(Debug)]
pub(crate) struct NonceTail([u8; 8]);

impl NonceTail {
    /// The nonce of a packet: its id as on the wire, then the tail.
    #[inline]
    pub(crate) fn nonce(&self, packet_id: [u8; 4]) -> [u8; 12] {
        // As a cipher reads it, 8 bytes and 4: what is written in other pieces has to be put together first.
        let tail = u64::from_le_bytes(self.0);
        let first = u64::from(u32::from_le_bytes(packet_id)) | tail << 32;
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&first.to_le_bytes());
        nonce[8..].copy_from_slice(&((tail >> 32) as u32).to_le_bytes());
        nonce
    }
}

impl Drop for NonceTail {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Sending half of a key.
#[derive(Debug)]
pub(crate) struct SealKey {
    pub(crate) key_id: KeyId,
    pub(crate) cipher: CipherAlg,
    pub(crate) format: SealFormat,
    /// A new key was asked for already.
    pub(crate) renewal_asked: bool,
}

#[derive(Debug)]
pub(crate) enum SealFormat {
    Classic {
        key: AeadKey,
        tail: NonceTail,
        last_id: u32,
        usage: Usage,
        /// DATA_V1 headers instead of DATA_V2.
        v1: bool,
    },
    Epoch(Box<SendChain>),
    None {
        last_id: u32,
    },
}

/// Receiving half of a key.
#[derive(Debug)]
pub(crate) struct OpenKey {
    pub(crate) key_id: KeyId,
    pub(crate) format: OpenFormat,
    pub(crate) renewal_asked: bool,
}

#[derive(Debug)]
pub(crate) enum OpenFormat {
    Classic { key: AeadKey, tail: NonceTail, replay: Box<ReplayWindow>, usage: Usage, v1: bool },
    Epoch(Box<ReceiveChain>),
    None { replay: Box<ReplayWindow> },
}

/// Checks key material and expands it into both halves.
///
/// # Errors
/// [`ErrorKind::UnsupportedCipher`] for `none` where it is not allowed, [`ErrorKind::BadKey`] for keys of the wrong
/// length or of zero bytes only.
pub(crate) fn expand(config: &KeyConfig, allow_none: bool) -> ovpn_dco::Result<(SealKey, OpenKey)> {
    let (seal, open) = match aead_cipher(config, allow_none)? {
        None => (SealFormat::None { last_id: 0 }, OpenFormat::None { replay: Box::new(ReplayWindow::new()) }),
        Some(cipher) if config.format == DataFormat::Epoch => {
            let (send, receive) =
                epoch::chains(cipher, &config.encrypt.cipher_key, &config.decrypt.cipher_key)
                    .map_err(bad_key)?;
            (SealFormat::Epoch(Box::new(send)), OpenFormat::Epoch(Box::new(receive)))
        }
        Some(cipher) => {
            let v1 = config.format == DataFormat::V1;
            let usage = Usage::new(cipher);
            let half = |direction: &KeyDirection| {
                let key = AeadKey::new(cipher, &direction.cipher_key).map_err(bad_key)?;
                Ok::<_, Error>((key, NonceTail(direction.nonce_tail)))
            };
            let (key, tail) = half(&config.encrypt)?;
            let seal = SealFormat::Classic { key, tail, last_id: 0, usage, v1 };
            let (key, tail) = half(&config.decrypt)?;
            let replay = Box::new(ReplayWindow::new());
            (seal, OpenFormat::Classic { key, tail, replay, usage, v1 })
        }
    };
    let (key_id, cipher) = (config.key_id, config.cipher);
    Ok((
        SealKey { key_id, cipher, format: seal, renewal_asked: false },
        OpenKey { key_id, format: open, renewal_asked: false },
    ))
}

/// The cipher a key asks for; `None` is no encryption.
fn aead_cipher(config: &KeyConfig, allow_none: bool) -> ovpn_dco::Result<Option<Cipher>> {
    let length = usize::from(config.key_len);
    match config.cipher {
        CipherAlg::None if allow_none && config.format == DataFormat::V2 => Ok(None),
        CipherAlg::None => {
            Err(Error::new(ErrorKind::UnsupportedCipher, "packets without encryption are for tests only"))
        }
        CipherAlg::AesGcm => match Cipher::aes_gcm(length) {
            Some(cipher) => Ok(Some(cipher)),
            None => Err(Error::new(
                ErrorKind::BadKey,
                format!("AES-GCM takes keys of 16, 24 or 32 bytes, not of {length}"),
            )),
        },
        CipherAlg::ChaCha20Poly1305 if length == 32 => Ok(Some(Cipher::ChaCha20Poly1305)),
        CipherAlg::ChaCha20Poly1305 => Err(Error::new(
            ErrorKind::BadKey,
            format!("CHACHA20-POLY1305 takes keys of 32 bytes, not of {length}"),
        )),
    }
}

fn bad_key(error: KeyError) -> Error {
    Error::new(ErrorKind::BadKey, error.to_string())
}
