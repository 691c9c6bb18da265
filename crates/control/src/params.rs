//! What a session is told at its start; shared by all sessions of one configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Cipher;
use crate::tls::{TlsClient, TlsServer};
use crate::wrap::{TlsCryptV2Server, Wrapping};

/// The transport under a session, as far as the control channel cares: sizes and the options string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// UDP over IPv4.
    UdpV4,
    /// UDP over IPv6.
    UdpV6,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
}

impl Link {
    /// Whether packets travel in a byte stream.
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::TcpV4 | Self::TcpV6)
    }

    /// Bytes of IP and transport header around one packet.
    pub(crate) const fn overhead(self) -> usize {
        match self {
            Self::UdpV4 => 20 + 8,
            Self::UdpV6 => 40 + 8,
            Self::TcpV4 => 20 + 20 + 2,
            Self::TcpV6 => 40 + 20 + 2,
        }
    }
}

/// The timers of the control channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// `hand-window`: a key must be ready this long after its start. 60 s.
    pub hand_window: Duration,
    /// `tran-window`: how long the old key still decrypts after a renegotiation. 3600 s.
    pub tran_window: Duration,
    /// `tls-timeout`: pause before the first retransmission. 2 s.
    pub tls_timeout: Duration,
    /// `reneg-sec`: the longest life of a key; `None` never renegotiates by time. 3600 s.
    pub reneg: Option<Duration>,
    /// `reneg-sec max min`: the shortest; the time is drawn evenly between the two. Stock servers use nine tenths of
    /// the maximum, clients the maximum itself.
    pub reneg_min: Option<Duration>,
    /// How long a client waits before it repeats PUSH_REQUEST. 5 s.
    pub push_request_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            hand_window: Duration::from_secs(60),
            tran_window: Duration::from_secs(3600),
            tls_timeout: Duration::from_secs(2),
            reneg: Some(Duration::from_secs(3600)),
            reneg_min: None,
            push_request_interval: Duration::from_secs(5),
        }
    }
}

/// What this side offers beyond the basics; each is used only where the peer has it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Data keys from the TLS exporter (else from the key-method-2 randoms).
    pub tls_ekm: bool,
    /// Renegotiations wrapped with a key of the first TLS session.
    pub dyn_tls_crypt: bool,
    /// EXIT messages on the control channel.
    pub cc_exit: bool,
    /// The epoch data format: offer it only where the data plane carries it.
    pub epoch: bool,
    /// PUSH_UPDATE messages.
    pub push_update: bool,
    /// DATA_V1 with peers that know no peer ids: only where the data plane carries it.
    pub data_v1: bool,
}

impl Default for Features {
    /// Everything but what depends on the data plane.
    fn default() -> Self {
        Self {
            tls_ekm: true,
            dyn_tls_crypt: true,
            cc_exit: true,
            epoch: false,
            push_update: true,
            data_v1: false,
        }
    }
}

/// What the options string ("OCC") says about this side. Peers only warn about differences; two of them read
/// `cipher` and `comp-lzo` out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOptions {
    /// `tun-mtu` in bytes.
    pub tun_mtu: u16,
    /// Point-to-point only: the peer's and the own tunnel address, in this order.
    pub ifconfig: Option<(String, String)>,
    /// Compression framing is on.
    pub comp_lzo: bool,
    /// The fragment header stands before every payload.
    pub fragment: bool,
    /// `keydir 0` or `1` of tls-auth.
    pub keydir: Option<u8>,
    /// The `cipher` to name, as an OpenSSL name; `None` leaves it out.
    pub cipher: Option<String>,
    /// The `auth` digest, e.g. `SHA1`.
    pub auth: String,
    /// `tls-auth` is in use.
    pub tls_auth: bool,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            tun_mtu: 1500,
            ifconfig: None,
            comp_lzo: false,
            fragment: false,
            keydir: None,
            cipher: None,
            auth: "SHA1".into(),
            tls_auth: false,
        }
    }
}

/// What all roles share.
#[derive(Debug, Clone)]
pub struct SessionParams {
    /// How control packets are wrapped.
    pub wrapping: Wrapping,
    /// The transport.
    pub link: Link,
    /// `replay-window N SECONDS` for wrapped control packets.
    pub replay_window: (u32, u64),
    /// Timers.
    pub timing: Timing,
    /// `max-packet-size`: the largest IP packet that carries a control packet, bytes. 1250.
    pub max_packet_size: u16,
    /// `data-ciphers`, in order of preference.
    pub data_ciphers: Vec<Cipher>,
    /// `data-ciphers-fallback`, for peers that negotiate nothing.
    pub data_ciphers_fallback: Option<Cipher>,
    /// What is offered.
    pub features: Features,
    /// The options string.
    pub options: LocalOptions,
}

impl SessionParams {
    /// Stock defaults over `link` with this wrapping.
    pub fn new(link: Link, wrapping: Wrapping) -> Self {
        Self {
            wrapping,
            link,
            replay_window: (64, 15),
            timing: Timing::default(),
            max_packet_size: 1250,
            data_ciphers: Cipher::DEFAULT.to_vec(),
            data_ciphers_fallback: None,
            features: Features::default(),
            options: LocalOptions::default(),
        }
    }
}

/// A pulling client's parameters.
#[derive(Debug, Clone)]
pub struct ClientParams {
    /// What all roles share.
    pub session: SessionParams,
    /// TLS: own certificate and what the server's must be.
    pub tls: TlsClient,
    /// `IV_VER` to announce.
    pub version: String,
    /// Further peer-info lines (`IV_GUI_VER`, `IV_SSO`, `IV_HWADDR`, `UV_…`), name and value.
    pub peer_info: Vec<(String, String)>,
    /// `tun-mtu-max`: announced as IV_MTU.
    pub tun_mtu_max: u16,
    /// `pull-filter` rules in order.
    pub pull_filters: Vec<PullFilter>,
}

/// One `pull-filter` rule: the first whose text starts an option decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullFilter {
    /// What to do.
    pub action: PullAction,
    /// The beginning of the option's text.
    pub prefix: String,
}

/// What a [`PullFilter`] does with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullAction {
    /// Take it.
    Accept,
    /// Leave it out.
    Ignore,
    /// Drop the whole connection and try again.
    Reject,
}

/// A server's parameters.
#[derive(Debug, Clone)]
pub struct ServerParams {
    /// What all roles share.
    pub session: SessionParams,
    /// TLS: own certificate and what clients' must be.
    pub tls: TlsServer,
    /// `tls-crypt-v2`: clients with keys of their own.
    pub tls_crypt_v2: Option<TlsCryptV2Server>,
    /// `force-tls-key-material-export`: refuse clients without it.
    pub force_tls_ekm: bool,
    /// `single-session`: a client that comes again on the same address is not taken over.
    pub single_session: bool,
    /// `compress migrate`: push a framing stub to clients whose options string says `comp-lzo`.
    pub compress_migrate: bool,
}

/// A point-to-point peer's parameters.
#[derive(Debug, Clone)]
pub struct P2pParams {
    /// What all roles share.
    pub session: SessionParams,
    /// TLS role and configuration.
    pub tls: P2pTls,
    /// Further peer-info lines, name and value.
    pub peer_info: Vec<(String, String)>,
    /// `single-session`.
    pub single_session: bool,
    /// A TLS server's `tls-crypt-v2`. Such a peer waits for the other's first packet, which carries its key.
    pub tls_crypt_v2: Option<TlsCryptV2Server>,
}

/// The TLS role of a point-to-point peer.
#[derive(Debug, Clone)]
pub enum P2pTls {
    /// `tls-client`.
    Client(TlsClient),
    /// `tls-server`.
    Server(TlsServer),
}

/// Username and password; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Default, Zeroize, ZeroizeOnDrop)]
pub struct Credentials {
    /// The username.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, …)", self.username)
    }
}

/// Parameters by role, as a session holds them.
#[derive(Debug, Clone)]
pub(crate) enum Params {
    Client(Arc<ClientParams>),
    Server(Arc<ServerParams>),
    P2p(Arc<P2pParams>),
}
