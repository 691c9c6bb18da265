//! Wrapping of control packets: none, tls-auth or tls-crypt, by one name.
//!
//! [`WrapKey`] is the key alone: it seals and opens packets and remembers nothing, as a server needs it that answers
//! first packets without keeping state. [`ControlWrap`] adds what a session keeps: the send counter and the replay
//! window. tls-crypt-v2 is tls-crypt once the client's key is known; see [`crate::tls_crypt_v2`].
//!
//! Renegotiations may use another key, derived once from the first TLS session ([`WrapKey::dynamic`]); it has its own
//! [`ControlWrap`]. Source: OpenVPN wire protocol, "Wrapping", "Dynamic tls-crypt".

use std::sync::Arc;

use ovpn_wire::control_packet::{ControlHeader, ControlPacketError};
use thiserror::Error;

use crate::control_replay::{ReplayCounter, ReplayError, ReplayId, ReplayIdsUsedUp, ReplayWindow};
use crate::key2::TlsRole;
use crate::secret::Secret;
use crate::static_key::{KeyDirection, StaticKey};
use crate::tls_auth::{AuthDigest, TlsAuthKeys};
use crate::tls_crypt::TlsCryptKeys;

/// The label of the TLS exporter for [`WrapKey::dynamic`]: 256 bytes, no context.
pub const DYNAMIC_TLS_CRYPT_LABEL: &str = "EXPORTER-OpenVPN-dynamic-tls-crypt";

/// Why a control packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnwrapError {
    /// The packet ends before its fields do.
    #[error("truncated control packet")]
    Truncated,
    /// The header is not one of the control channel.
    #[error(transparent)]
    Header(ControlPacketError),
    /// The HMAC is wrong: another key, another digest or direction, or a forgery.
    #[error("packet authentication failed")]
    Authentication,
    /// The packet was seen before or is too old.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The wrapped tls-crypt-v2 key of the packet is malformed or not made by this server.
    #[error("wrapped client key does not unwrap")]
    WrappedKey,
    /// The packet should carry a wrapped key and does not.
    #[error("packet without a wrapped client key")]
    NoWrappedKey,
}

impl From<ControlPacketError> for UnwrapError {
    fn from(error: ControlPacketError) -> Self {
        match error {
            ControlPacketError::Truncated => Self::Truncated,
            other => Self::Header(other),
        }
    }
}

/// A packet could not be wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WrapError {
    /// No replay id is left.
    #[error(transparent)]
    ReplayIds(#[from] ReplayIdsUsedUp),
    /// The cryptographic library refused.
    #[error("encryption failed")]
    Encryption,
}

/// A control packet whose wrapping was in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The clear header.
    pub header: ControlHeader,
    /// The replay id; none if packets are not wrapped.
    pub replay: Option<ReplayId>,
    /// The body: [`ovpn_wire::control_packet::ControlBody::parse`] reads it.
    pub body: Vec<u8>,
}

/// The key of the wrapping, without state; cheap to clone.
#[derive(Debug, Clone)]
pub enum WrapKey {
    /// Packets are not wrapped.
    None,
    /// HMAC on each packet.
    TlsAuth(Arc<TlsAuthKeys>),
    /// Packets encrypted and authenticated.
    TlsCrypt(Arc<TlsCryptKeys>),
}

impl WrapKey {
    /// tls-auth with this key file, direction and digest.
    pub fn tls_auth(key: &StaticKey, direction: KeyDirection, digest: AuthDigest) -> Self {
        Self::TlsAuth(Arc::new(TlsAuthKeys::new(key, direction, digest)))
    }

    /// tls-crypt with this key (of the file, or a tls-crypt-v2 client's own) and role. `None` only if the
    /// cryptographic library refuses to make a key.
    pub fn tls_crypt(key: &StaticKey, role: TlsRole) -> Option<Self> {
        TlsCryptKeys::new(key, role).map(|keys| Self::TlsCrypt(Arc::new(keys)))
    }

    /// The key for renegotiations: the TLS exporter's output under [`DYNAMIC_TLS_CRYPT_LABEL`], mixed with the
    /// original key if there is one. The result is always tls-crypt.
    pub fn dynamic(&self, exported: &Secret<256>, role: TlsRole) -> Option<Self> {
        let key = match self {
            Self::None => StaticKey::new(exported.clone()),
            Self::TlsAuth(keys) => keys.original().xor(exported.expose()),
            Self::TlsCrypt(keys) => keys.original().xor(exported.expose()),
        };
        Self::tls_crypt(&key, role)
    }

    /// Bytes that wrapping adds to a packet.
    pub fn overhead(&self) -> usize {
        match self {
            Self::None => 0,
            Self::TlsAuth(keys) => keys.overhead(),
            Self::TlsCrypt(_) => TlsCryptKeys::OVERHEAD,
        }
    }

    /// The wrapped packet under a given replay id.
    pub fn seal(&self, header: ControlHeader, replay: ReplayId, body: &[u8]) -> Result<Vec<u8>, WrapError> {
        match self {
            Self::None => Ok([header.to_bytes().as_slice(), body].concat()),
            Self::TlsAuth(keys) => Ok(keys.seal(header, replay, body)),
            Self::TlsCrypt(keys) => keys.seal(header, replay, body).map_err(|_| WrapError::Encryption),
        }
    }

    /// Authenticates (and decrypts) a packet. The replay id is returned unchecked: for a server's first packets.
    pub fn open(&self, packet: &[u8]) -> Result<Opened, UnwrapError> {
        match self {
            Self::None => {
                let (header, body) = ControlHeader::parse(packet)?;
                Ok(Opened { header, replay: None, body: body.to_vec() })
            }
            Self::TlsAuth(keys) => keys.open(packet),
            Self::TlsCrypt(keys) => keys.open(packet),
        }
    }
}

/// A session's wrapping: the key, the send counter and the replay window.
#[derive(Debug, Clone)]
pub struct ControlWrap {
    key: WrapKey,
    counter: ReplayCounter,
    window: ReplayWindow,
}

impl ControlWrap {
    /// A fresh context: the first packet gets replay id 1, any first packet is accepted.
    pub fn new(key: WrapKey) -> Self {
        Self { key, counter: ReplayCounter::starting_after(0), window: ReplayWindow::default() }
    }

    /// The same with a send counter that starts elsewhere.
    pub fn with_counter(mut self, counter: ReplayCounter) -> Self {
        self.counter = counter;
        self
    }

    /// The same with another replay window (`replay-window N SECONDS`).
    pub fn with_window(mut self, window: ReplayWindow) -> Self {
        self.window = window;
        self
    }

    /// The key, e.g. for [`WrapKey::dynamic`].
    pub const fn key(&self) -> &WrapKey {
        &self.key
    }

    /// Bytes that wrapping adds to a packet.
    pub fn overhead(&self) -> usize {
        self.key.overhead()
    }

    /// Wraps a packet under the next replay id. `unix_now` in seconds.
    pub fn wrap(&mut self, header: ControlHeader, body: &[u8], unix_now: u64) -> Result<Vec<u8>, WrapError> {
        let replay = match self.key {
            WrapKey::None => ReplayId { id: 0, net_time: 0 },
            _ => self.counter.next(unix_now)?,
        };
        self.key.seal(header, replay, body)
    }

    /// Unwraps a packet: authenticated, and not seen before. `unix_now` in seconds.
    pub fn unwrap(&mut self, packet: &[u8], unix_now: u64) -> Result<Opened, UnwrapError> {
        let opened = self.key.open(packet)?;
        if let Some(replay) = opened.replay {
            self.window.accept(replay, unix_now)?;
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use ovpn_wire::control_packet::SessionId;
    use ovpn_wire::opcode::{KeyId, Opcode};
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 0x6500_0000;

    fn file() -> StaticKey {
        let mut bytes = Secret::zeroed();
        for (index, byte) in bytes.expose_mut().iter_mut().enumerate() {
            *byte = (index * 7 + 3) as u8;
        }
        StaticKey::new(bytes)
    }

    fn pairs() -> Vec<(WrapKey, WrapKey)> {
        let key = file();
        let crypt = |role| WrapKey::tls_crypt(&key, role).unwrap();
        let mut pairs =
            vec![(WrapKey::None, WrapKey::None), (crypt(TlsRole::Client), crypt(TlsRole::Server))];
        for digest in AuthDigest::ALL {
            let auth = |direction| WrapKey::tls_auth(&key, direction, digest);
            pairs.push((auth(KeyDirection::Inverse), auth(KeyDirection::Normal)));
            pairs.push((auth(KeyDirection::Bidirectional), auth(KeyDirection::Bidirectional)));
        }
        pairs
    }

    fn header() -> ControlHeader {
        ControlHeader {
            opcode: Opcode::ControlV1,
            key_id: KeyId::FIRST,
            session_id: SessionId::new([1; 8]).unwrap(),
        }
    }

    #[test]
    fn replays_and_forgeries_are_refused() {
        for (client, server) in pairs().split_off(1) {
            let mut client = ControlWrap::new(client);
            let mut server = ControlWrap::new(server);
            let packet = client.wrap(header(), b"hello", NOW).unwrap();
            assert_eq!(packet.len(), ControlHeader::LEN + client.overhead() + 5);
            for index in 0..packet.len() {
                let mut forged = packet.clone();
                forged[index] ^= 1;
                assert!(server.unwrap(&forged, NOW).is_err(), "byte {index}");
            }
            assert_eq!(server.unwrap(&packet, NOW).unwrap().body, b"hello");
            let again = server.unwrap(&packet, NOW).unwrap_err();
            assert_eq!(again, UnwrapError::Replay(ReplayError::Seen));
            assert!(server.key().open(&packet).is_ok());
        }
    }

    #[test]
    fn dynamic_keys_always_encrypt() {
        let exported = Secret::new([0x42; 256]);
        for (client, server) in pairs() {
            let client = client.dynamic(&exported, TlsRole::Client).unwrap();
            let server = server.dynamic(&exported, TlsRole::Server).unwrap();
            let packet = client.seal(header(), ReplayId { id: 1, net_time: 1 }, b"hello").unwrap();
            assert_eq!(packet.len(), 9 + 40 + 5);
            assert_eq!(server.open(&packet).unwrap().body, b"hello");
        }
    }

    proptest! {
        #[test]
        fn round_trip(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5)) {
            for (client, server) in pairs() {
                let (mut client, mut server) = (ControlWrap::new(client), ControlWrap::new(server));
                for body in &bodies {
                    let up = client.wrap(header(), body, NOW).unwrap();
                    prop_assert_eq!(&server.unwrap(&up, NOW).unwrap().body, body);
                    let down = server.wrap(header(), body, NOW).unwrap();
                    prop_assert_eq!(&client.unwrap(&down, NOW).unwrap().body, body);
                }
            }
        }

        #[test]
        fn any_bytes_are_refused(mut bytes: Vec<u8>, head in any::<bool>()) {
            if head {
                bytes.splice(0..0, header().to_bytes());
            }
            for (client, _) in pairs().split_off(1) {
                prop_assert!(client.open(&bytes).is_err());
            }
        }
    }
}
