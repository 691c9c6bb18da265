//! The 256-byte key block of the data channel and its slices.
//!
//! ```text
//!  0          64         128        192        256
//!  | cipher 0 |  HMAC 0  | cipher 1 |  HMAC 1  |
//!  |<- client to server->|<- server to client->|
//! ```
//!
//! The block comes from the TLS exporter ([`DATA_KEYS_LABEL`], no context) or from the key-method-2 PRF
//! ([`crate::prf::expand`]). Source: OpenVPN data-channel key derivation, "Slicing key2".

use crate::secret::Secret;

/// The label of the TLS exporter for data keys: 256 bytes, no context.
pub const DATA_KEYS_LABEL: &str = "EXPORTER-OpenVPN-datakeys";

/// The label of the TLS exporter for the peer id of point-to-point peers: 3 bytes, no context.
pub const P2P_PEER_ID_LABEL: &str = "EXPORTER-OpenVPN-p2p-peerid";

/// The peer id of point-to-point peers that have no exporter.
pub const P2P_FALLBACK_PEER_ID: u32 = 0x76_706e;

/// Who is the client and who the server of the TLS session; this, not who dialled, decides which key sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsRole {
    /// Sends with key 0 of the data channel and key 1 of tls-crypt.
    Client,
    /// Sends with key 1 of the data channel and key 0 of tls-crypt.
    Server,
}

impl TlsRole {
    /// The other side's role.
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The key block.
#[derive(Debug, Clone)]
pub struct Key2(Secret<256>);

/// One direction of the key block: 64 bytes for the cipher, 64 for nonce tail or HMAC.
#[derive(Debug, Clone, Copy)]
pub struct DirectionKeys<'a> {
    cipher: &'a [u8; 64],
    hmac: &'a [u8; 64],
}

impl Key2 {
    /// Takes the 256 bytes.
    pub const fn new(bytes: Secret<256>) -> Self {
        Self(bytes)
    }

    /// All 256 bytes.
    pub const fn expose(&self) -> &[u8; 256] {
        self.0.expose()
    }

    /// What this role sends with.
    pub fn send(&self, role: TlsRole) -> DirectionKeys<'_> {
        let (head, tail) = self.halves();
        match role {
            TlsRole::Client => head,
            TlsRole::Server => tail,
        }
    }

    /// What this role receives with.
    pub fn receive(&self, role: TlsRole) -> DirectionKeys<'_> {
        self.send(role.peer())
    }

    fn halves(&self) -> (DirectionKeys<'_>, DirectionKeys<'_>) {
        let (slots, _) = self.expose().as_chunks::<64>();
        match slots {
            [cipher0, hmac0, cipher1, hmac1] => (
                DirectionKeys { cipher: cipher0, hmac: hmac0 },
                DirectionKeys { cipher: cipher1, hmac: hmac1 },
            ),
            // 256 bytes are four times 64.
            _ => unreachable!(),
        }
    }
}

impl<'a> DirectionKeys<'a> {
    /// The first bytes of the cipher slot; `None` above 64.
    pub fn cipher_key(&self, len: usize) -> Option<&'a [u8]> {
        self.cipher.get(..len)
    }

    /// The whole cipher slot.
    pub const fn cipher_slot(&self) -> &'a [u8; 64] {
        self.cipher
    }

    /// The 8-byte tail of AEAD nonces ("implicit IV") of the classic format.
    pub fn nonce_tail(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = *self.hmac;
        [a, b, c, d, e, f, g, h]
    }

    /// E_1 of the epoch format, whatever the cipher.
    pub fn epoch_key(&self) -> Secret<32> {
        let mut key = Secret::zeroed();
        key.expose_mut().copy_from_slice(&self.cipher[..32]);
        key
    }

    /// The first bytes of the HMAC slot, for CBC ciphers; `None` above 64.
    pub fn hmac_key(&self, len: usize) -> Option<&'a [u8]> {
        self.hmac.get(..len)
    }
}

/// The peer id that point-to-point peers take from 3 exporter bytes; `None` for the one value that means "no id".
pub fn p2p_peer_id(exported: [u8; 3]) -> Option<u32> {
    let [a, b, c] = exported;
    let id = u32::from_be_bytes([0, a, b, c]);
    (id != 0xFF_FFFF).then_some(id)
}
