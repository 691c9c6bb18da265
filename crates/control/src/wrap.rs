//! How control packets are wrapped, as configured.

use std::sync::Arc;

use ovpn_crypto::control_wrap::WrapKey;
use ovpn_crypto::key2::TlsRole;
use ovpn_crypto::static_key::{KeyDirection, StaticKey};
use ovpn_crypto::tls_auth::AuthDigest;
use ovpn_crypto::tls_crypt_v2::{ClientKey, ServerKey};

/// The configured wrapping. A server that takes tls-crypt-v2 clients has its key in
/// [`ServerParams::tls_crypt_v2`](crate::ServerParams::tls_crypt_v2), beside one of the others for all other clients.
#[derive(Debug, Clone)]
pub enum Wrapping {
    /// Packets are not wrapped.
    None,
    /// `tls-auth FILE DIRECTION`, with the `auth` digest.
    TlsAuth {
        /// The key file.
        key: StaticKey,
        /// `key-direction`.
        direction: KeyDirection,
        /// `auth`.
        digest: AuthDigest,
    },
    /// `tls-crypt FILE`.
    TlsCrypt(StaticKey),
    /// A client's `tls-crypt-v2 FILE`.
    TlsCryptV2(Arc<ClientKey>),
}

impl Wrapping {
    /// The key for this TLS role. Packets stay unwrapped only where that is configured: if the cryptographic library
    /// refuses a key, there is none.
    pub(crate) fn key(&self, role: TlsRole) -> Option<WrapKey> {
        match self {
            Self::None => Some(WrapKey::None),
            Self::TlsAuth { key, direction, digest } => Some(WrapKey::tls_auth(key, *direction, *digest)),
            Self::TlsCrypt(key) => WrapKey::tls_crypt(key, role),
            Self::TlsCryptV2(key) => WrapKey::tls_crypt(key.kc(), role),
        }
    }
}

/// A server's `tls-crypt-v2 FILE [force-cookie|allow-noncookie]`.
#[derive(Debug, Clone)]
pub struct TlsCryptV2Server {
    /// The key that client keys are wrapped with.
    pub key: Arc<ServerKey>,
    /// Clients that cannot take part in the cookie handshake are ignored.
    pub force_cookie: bool,
    /// `tls-crypt-v2-max-age`: client keys older than this many days, or without a date, are refused.
    pub max_age_days: Option<u32>,
}
