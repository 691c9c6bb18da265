//! tls-crypt-v2: a tls-crypt key for each client, carried by the client itself, wrapped under a key of the server.
//!
//! ```text
//!  WKc   tag (32)   AES-256-CTR(Ke, IV = tag[..16], Kc (256) || metadata)   length (2)
//!        tag = HMAC-SHA256(Ka, length || Kc || metadata); length counts the whole WKc
//! ```
//!
//! Packets with opcode `HARD_RESET_CLIENT_V3` and `CONTROL_WKC_V1` are wrapped with Kc as by tls-crypt; the WKc follows
//! them, in the clear and outside the tag. Key files are PEM. Source: OpenVPN wire protocol, "tls-crypt-v2".

use std::fmt;

use ovpn_wire::opcode::FirstByte;
use thiserror::Error;

use crate::control_wrap::{UnwrapError, WrapKey};
use crate::key2::TlsRole;
use crate::pem::{self, PemError};
use crate::secret::{Secret, equal_in_constant_time};
use crate::static_key::StaticKey;
use crate::tls_crypt::{CtrHmac, TAG_LEN};

const SERVER_LABEL: &str = "OpenVPN tls-crypt-v2 server key";
const CLIENT_LABEL: &str = "OpenVPN tls-crypt-v2 client key";
const LENGTH_LEN: usize = 2;
const MIN_WKC: usize = TAG_LEN + 256 + LENGTH_LEN;
const MAX_WKC: usize = 1024;

/// What a server wrote into a client's wrapped key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata {
    /// Nothing at all.
    None,
    /// Free-form data of the administrator (type 0).
    User(Vec<u8>),
    /// When the key was made, in unix seconds (type 1).
    Timestamp(i64),
    /// A type of the future.
    Other {
        /// The type byte.
        kind: u8,
        /// What follows it.
        content: Vec<u8>,
    },
}

impl Metadata {
    /// The most bytes that fit, the type byte included.
    pub const MAX_LEN: usize = MAX_WKC - MIN_WKC;

    fn from_bytes(bytes: &[u8]) -> Self {
        match bytes.split_first() {
            None => Self::None,
            Some((0, content)) => Self::User(content.to_vec()),
            Some((&kind, content)) => match (kind, <[u8; 8]>::try_from(content)) {
                (1, Ok(time)) => Self::Timestamp(i64::from_be_bytes(time)),
                _ => Self::Other { kind, content: content.to_vec() },
            },
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::User(content) => [&[0], content.as_slice()].concat(),
            Self::Timestamp(time) => [&[1], time.to_be_bytes().as_slice()].concat(),
            Self::Other { kind, content } => [&[*kind], content.as_slice()].concat(),
        }
    }

    /// The type as scripts see it in `metadata_type`.
    pub const fn kind(&self) -> Option<u8> {
        match self {
            Self::None => None,
            Self::User(_) => Some(0),
            Self::Timestamp(_) => Some(1),
            Self::Other { kind, .. } => Some(*kind),
        }
    }

    /// What follows the type byte, as scripts see it in `metadata_file`.
    pub fn content(&self) -> Vec<u8> {
        self.to_bytes().split_off(usize::from(self.kind().is_some()))
    }
}

/// Metadata longer than [`Metadata::MAX_LEN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("metadata longer than {} bytes", Metadata::MAX_LEN)]
pub struct MetadataTooLong;

/// Why a tls-crypt-v2 key file could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyFileError {
    /// The file is no PEM of the right label.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The content has the wrong length.
    #[error("the key has {bytes} bytes, which is not a length such a key can have")]
    Length {
        /// How many there are.
        bytes: usize,
    },
}

/// The server's key, which wraps and unwraps the clients' keys: 128 bytes, of which 0..32 encrypt and 64..96
/// authenticate.
pub struct ServerKey {
    bytes: Secret<128>,
    keys: CtrHmac,
}

impl ServerKey {
    /// Takes 128 bytes, e.g. fresh randomness. `None` only if the cryptographic library refuses to make a key.
    pub fn new(bytes: Secret<128>) -> Option<Self> {
        let keys = CtrHmac::new(&bytes.expose()[..64], &bytes.expose()[64..])?;
        Some(Self { bytes, keys })
    }

    /// Reads a server key file.
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        let bytes = pem::decode(SERVER_LABEL, text)?;
        let length = KeyFileError::Length { bytes: bytes.expose().len() };
        Secret::from_slice(bytes.expose()).and_then(Self::new).ok_or(length)
    }

    /// The server key file: what `genkey tls-crypt-v2-server` writes.
    pub fn to_pem(&self) -> String {
        pem::encode(SERVER_LABEL, self.bytes.expose())
    }

    /// Wraps a client's key. Each client needs a key of its own, made of fresh randomness.
    pub fn wrap(&self, client_key: StaticKey, metadata: &Metadata) -> Result<ClientKey, MetadataTooLong> {
        let metadata = metadata.to_bytes();
        if metadata.len() > Metadata::MAX_LEN {
            return Err(MetadataTooLong);
        }
        let length = ((MIN_WKC + metadata.len()) as u16).to_be_bytes();
        let tag = self.keys.tag(&[&length, client_key.expose(), &metadata]);
        let mut wkc = [tag.as_slice(), client_key.expose(), &metadata].concat();
        self.keys.apply(&tag, &mut wkc[TAG_LEN..]).map_err(|_| MetadataTooLong)?;
        wkc.extend_from_slice(&length);
        Ok(ClientKey { kc: client_key, wkc })
    }

    /// Unwraps a client's wrapped key.
    pub fn unwrap(&self, wkc: &[u8]) -> Result<(StaticKey, Metadata), UnwrapError> {
        if !(MIN_WKC..=MAX_WKC).contains(&wkc.len()) {
            return Err(UnwrapError::WrappedKey);
        }
        let (tag, rest) = wkc.split_first_chunk::<TAG_LEN>().ok_or(UnwrapError::WrappedKey)?;
        let (sealed, length) = rest.split_last_chunk::<LENGTH_LEN>().ok_or(UnwrapError::WrappedKey)?;
        if usize::from(u16::from_be_bytes(*length)) != wkc.len() {
            return Err(UnwrapError::WrappedKey);
        }
        let mut plain = zeroize::Zeroizing::new(sealed.to_vec());
        self.keys.apply(tag, &mut plain)?;
        if !equal_in_constant_time(&self.keys.tag(&[length, &plain]), tag) {
            return Err(UnwrapError::WrappedKey);
        }
        let (kc, metadata) = plain.split_first_chunk::<256>().ok_or(UnwrapError::WrappedKey)?;
        Ok((StaticKey::new(Secret::new(*kc)), Metadata::from_bytes(metadata)))
    }

    /// Takes apart a packet that carries a wrapped key: the packet without it, the client's key in the server's role,
    /// and the metadata. The packet itself is still to be opened with that key.
    pub fn open_carrier<'a>(&self, packet: &'a [u8]) -> Result<Carried<'a>, UnwrapError> {
        let (packet, wkc) = split_wrapped_key(packet)?;
        let (kc, metadata) = self.unwrap(wkc)?;
        let key = WrapKey::tls_crypt(&kc, TlsRole::Server).ok_or(UnwrapError::WrappedKey)?;
        Ok(Carried { packet, key, metadata })
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tls_crypt_v2::ServerKey(…)")
    }
}

/// A packet that carried a wrapped key, taken apart.
#[derive(Debug)]
pub struct Carried<'a> {
    /// The packet without the wrapped key.
    pub packet: &'a [u8],
    /// The client's key, in the server's role.
    pub key: WrapKey,
    /// What the server once wrote into the wrapped key.
    pub metadata: Metadata,
}

/// Splits a packet that carries a wrapped key into the packet proper and the wrapped key.
pub fn split_wrapped_key(packet: &[u8]) -> Result<(&[u8], &[u8]), UnwrapError> {
    let carries = packet.first().and_then(|first| FirstByte::from_byte(*first));
    if !carries.is_some_and(|first| first.opcode.carries_wrapped_key()) {
        return Err(UnwrapError::NoWrappedKey);
    }
    let (_, length) = packet.split_last_chunk::<LENGTH_LEN>().ok_or(UnwrapError::Truncated)?;
    let length = usize::from(u16::from_be_bytes(*length));
    match packet.len().checked_sub(length) {
        Some(split) if split >= 1 && length >= LENGTH_LEN => Ok(packet.split_at(split)),
        _ => Err(UnwrapError::WrappedKey),
    }
}

/// A client's key with its wrapped form: the content of a client key file.
#[derive(Clone)]
pub struct ClientKey {
    kc: StaticKey,
    wkc: Vec<u8>,
}

impl ClientKey {
    /// Reads a client key file.
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        let bytes = pem::decode(CLIENT_LABEL, text)?;
        let length = KeyFileError::Length { bytes: bytes.expose().len() };
        let (kc, wkc) = bytes.expose().split_first_chunk::<256>().ok_or(length)?;
        if !(MIN_WKC..=MAX_WKC).contains(&wkc.len()) {
            return Err(length);
        }
        Ok(Self { kc: StaticKey::new(Secret::new(*kc)), wkc: wkc.to_vec() })
    }

    /// The client key file: what `genkey tls-crypt-v2-client` writes.
    pub fn to_pem(&self) -> String {
        let bytes = zeroize::Zeroizing::new([self.kc.expose(), self.wkc.as_slice()].concat());
        pem::encode(CLIENT_LABEL, &bytes)
    }

    /// The client's own key Kc.
    pub const fn kc(&self) -> &StaticKey {
        &self.kc
    }

    /// The wrapped key WKc, to be appended to packets whose opcode says so.
    pub fn wkc(&self) -> &[u8] {
        &self.wkc
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tls_crypt_v2::ClientKey(WKc of {} bytes)", self.wkc.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server_key() -> ServerKey {
        ServerKey::new(Secret::new([7; 128])).unwrap()
    }

    #[test]
    fn metadata_has_a_limit() {
        let kc = StaticKey::new(Secret::new([9; 256]));
        let most = Metadata::User(vec![b'x'; Metadata::MAX_LEN - 1]);
        let client = server_key().wrap(kc.clone(), &most).unwrap();
        assert_eq!(client.wkc().len(), 1024);
        assert_eq!(server_key().unwrap(client.wkc()).unwrap().1, most);
        let more = Metadata::User(vec![b'x'; Metadata::MAX_LEN]);
        assert_eq!(server_key().wrap(kc, &more).unwrap_err(), MetadataTooLong);
    }

    #[test]
    fn metadata_as_scripts_see_it() {
        assert_eq!(Metadata::User(b"hello".to_vec()).content(), b"hello");
        assert_eq!(Metadata::Timestamp(1).content(), [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(Metadata::None.content(), b"");
        assert_eq!((Metadata::None.kind(), Metadata::Timestamp(1).kind()), (None, Some(1)));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let key = server_key();
        let client = key.wrap(StaticKey::new(Secret::new([9; 256])), &Metadata::Timestamp(5)).unwrap();
        for index in 0..client.wkc().len() {
            let mut wkc = client.wkc().to_vec();
            wkc[index] ^= 0x10;
            assert_eq!(key.unwrap(&wkc).unwrap_err(), UnwrapError::WrappedKey, "byte {index}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(content in prop::collection::vec(any::<u8>(), 0..Metadata::MAX_LEN), kind in 0u8..4) {
            let metadata = Metadata::from_bytes(&[&[kind], content.as_slice()].concat());
            let client = server_key().wrap(StaticKey::new(Secret::new([3; 256])), &metadata).unwrap();
            let (kc, back) = server_key().unwrap(client.wkc()).unwrap();
            prop_assert_eq!(kc.expose(), &[3; 256]);
            prop_assert_eq!(back, metadata);
            let again = ClientKey::from_pem(&client.to_pem()).unwrap();
            prop_assert_eq!(again.wkc(), client.wkc());
        }

        #[test]
        fn any_bytes_are_refused(mut bytes: Vec<u8>, head in any::<bool>()) {
            if head {
                bytes.insert(0, 0x50);
            }
            prop_assert!(server_key().open_carrier(&bytes).is_err());
        }
    }
}
