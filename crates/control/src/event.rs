//! What a session tells its owner.

use std::fmt;
use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

use ovpn_crypto::tls_crypt_v2::Metadata;
use ovpn_wire::message::{AuthFailed, Restart};
use ovpn_wire::opcode::KeyId;
use ovpn_wire::peer_info::PeerInfo;

use crate::{Cipher, Credentials, Failure, PeerChain};

/// Something the owner of a session must know or do, in the order it happened.
#[derive(Debug)]
pub enum Event {
    /// TLS and key-method 2 are done with the peer: "Peer Connection Initiated". Certificates are verified; a
    /// server has yet to decide about credentials ([`AuthRequest`](Self::AuthRequest) follows or came before).
    PeerConnected {
        /// The certificates the peer showed and this side verified, if any.
        chain: Option<PeerChain>,
        /// Facts about the TLS session for the log.
        tls: TlsFacts,
        /// The peer's options string, for warnings about differences.
        remote_options: String,
        /// The peer's lines about itself.
        peer_info: PeerInfo,
    },
    /// Server: decide with [`auth_accept`](crate::Session::auth_accept),
    /// [`auth_reject`](crate::Session::auth_reject) or [`auth_pending`](crate::Session::auth_pending).
    AuthRequest(Box<AuthRequest>),
    /// Server: the accepted client wants its configuration: answer with
    /// [`send_push_reply`](crate::Session::send_push_reply), whenever ready.
    PushRequest,
    /// Client: the complete configuration, all parts joined. Keys follow as [`InstallKey`](Self::InstallKey).
    PushReply(PushReply),
    /// Client: an established server renews the token.
    AuthToken(Credentials),
    /// Client: options to change while connected (PUSH_UPDATE), all parts joined. Each may start with `-` (remove)
    /// or `?` (optional).
    PushUpdate(Vec<String>),
    /// Put this key into this slot of the data plane, replacing what is there.
    InstallKey {
        /// Where.
        slot: KeySlot,
        /// What.
        key: DataKey,
    },
    /// Exchange the slots: the secondary key now encrypts.
    UseKey {
        /// The key that now encrypts.
        key_id: KeyId,
    },
    /// Empty this slot.
    DropKey {
        /// Which.
        slot: KeySlot,
    },
    /// A renegotiation's handshake is done; its key follows.
    KeyRenewed {
        /// Facts about its TLS session.
        tls: TlsFacts,
    },
    /// The session can carry data: the first key is installed.
    Established(Negotiated),
    /// Client: the server refused the login.
    AuthFailed(AuthFailed),
    /// Client: the login goes on out of band; push requests continue for this long.
    AuthPending {
        /// How long the server is willing to wait.
        timeout: Duration,
        /// Further keywords, as they stand.
        keywords: String,
    },
    /// Client: text for the user interface, without its `INFO,` or `INFO_PRE,`.
    Info {
        /// Sent before the push reply (web authentication).
        pre: bool,
        /// The text.
        text: String,
    },
    /// Server: the client's answer to a CR_TEXT challenge, base64 as sent.
    CrResponse(String),
    /// Client: reconnect.
    Restart(Restart),
    /// Client: stop for good; the text may say why.
    Halt(String),
    /// The peer says it goes away.
    Exit,
    /// The session is over; nothing more comes.
    Failed(Failure),
}

/// The data plane's two places for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySlot {
    /// Encrypts, and decrypts packets with its key id.
    Primary,
    /// Only decrypts.
    Secondary,
}

/// How data packets are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataFormat {
    /// DATA_V1: no peer id.
    V1,
    /// DATA_V2.
    V2,
    /// DATA_V2 with epoch keys: key fields hold `E_1`, 32 bytes.
    Epoch,
}

/// Where the exit of a session is announced; nowhere before it is established.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Farewell {
    /// EXIT is on its way on the control channel, and is repeated until it is acknowledged.
    pub control: bool,
    /// The caller should announce it on the data channel.
    pub data: bool,
}

/// A key for the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey {
    /// The id its packets carry.
    pub key_id: KeyId,
    /// The cipher.
    pub cipher: Cipher,
    /// The packet format.
    pub format: DataFormat,
    /// For what this side sends.
    pub encrypt: DataKeyDirection,
    /// For what this side receives.
    pub decrypt: DataKeyDirection,
}

/// Key material of one direction; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct DataKeyDirection {
    /// Cipher key: [`Cipher::key_len`] bytes, or 32 bytes of `E_1` in the epoch format.
    pub cipher_key: Vec<u8>,
    /// The implicit part of the nonce (all zero and unused in the epoch format).
    pub nonce_tail: [u8; 8],
}

impl fmt::Debug for DataKeyDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKeyDirection({} secret bytes)", self.cipher_key.len())
    }
}

/// What both sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The data cipher.
    pub cipher: Cipher,
    /// The data packet format.
    pub format: DataFormat,
    /// The id this side writes into packets, and expects in received ones; `None` with [`DataFormat::V1`].
    pub peer_id: Option<u32>,
    /// Keys come from the TLS exporter.
    pub tls_ekm: bool,
    /// Renegotiations use their own wrapping key.
    pub dyn_tls_crypt: bool,
    /// EXIT travels on the control channel.
    pub cc_exit: bool,
}

/// A client's configuration from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushReply {
    /// All option lines in order, pull filters applied; `push-continuation` is left out.
    pub options: Vec<String>,
    /// What the session understood of them.
    pub negotiated: Negotiated,
}

/// Names one login of one key, so that a late decision never touches a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthId(pub(crate) u64);

/// Why a server is asked to decide about a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthCause {
    /// The first key of the session.
    Connect,
    /// A renegotiation of an established session.
    Renegotiate,
    /// The client started anew on the same address; its former association still stands until this is accepted.
    Reconnect,
}

/// A client that asks to be let in. Its certificate, where one is required, is already verified.
#[derive(Debug)]
pub struct AuthRequest {
    /// Name it when deciding.
    pub id: AuthId,
    /// Why.
    pub cause: AuthCause,
    /// Username and password, `None` where the client sent neither.
    pub credentials: Option<Credentials>,
    /// Username or password was longer than the 128 bytes that are allowed: reject.
    pub too_long: bool,
    /// The certificate chain, leaf first.
    pub chain: Option<PeerChain>,
    /// The client's lines about itself.
    pub peer_info: PeerInfo,
    /// The client's options string.
    pub remote_options: String,
    /// Facts about the TLS session.
    pub tls: TlsFacts,
    /// tls-crypt-v2: metadata of the client's key, for `tls-crypt-v2-verify`.
    pub wrapped_key_metadata: Option<Metadata>,
}

/// What the log and the environment say about a TLS session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// e.g. `TLSv1.3`.
    pub version: String,
    /// The cipher suite, e.g. `TLS13_AES_256_GCM_SHA384`.
    pub suite: String,
    /// The key exchange group, e.g. `X25519MLKEM768`.
    pub group: String,
}

impl fmt::Display for TlsFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, cipher {}, group {}", self.version, self.suite, self.group)
    }
}
