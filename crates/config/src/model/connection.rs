//! Where to connect to and what to listen on.

use std::time::Duration;

use super::tls::{KeyDirection, Material};
use crate::source::Span;

/// Transport protocol of the outside packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// UDP.
    #[default]
    Udp,
    /// TCP, active side.
    TcpClient,
    /// TCP, listening side.
    TcpServer,
}

impl Protocol {
    /// Whether it is one of the two TCP roles.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::TcpClient | Self::TcpServer)
    }
}

/// Address family asked for by the protocol's suffix (`udp4`, `tcp6-client`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// As the resolver returns; a listening socket is dual-stack.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6.
    V6,
}

/// A remote end as written: host, port, protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Name or address.
    pub host: String,
    /// Port; a service name has been resolved to its number.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address family.
    pub family: Family,
}

/// One entry of the list that a client or peer works through: a remote and every option that a `<connection>` block can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The other end.
    pub remote: Remote,
    /// Local address to bind to, if named (`local`).
    pub local_host: Option<String>,
    /// Local port; `None`: unbound (`nobind`) or ephemeral.
    pub local_port: Option<u16>,
    /// Bind the local side even where pull would not (`bind`).
    pub bind: bool,
    /// With [`Connection::bind`]: IPv6 only (`bind ipv6only`).
    pub bind_ipv6_only: bool,
    /// Accept that the peer's address changes.
    pub float: bool,
    /// How long to wait for a TCP connection or the first answer over UDP.
    pub connect_timeout: Duration,
    /// First pause between attempts.
    pub retry_pause: Duration,
    /// Longest pause between attempts.
    pub retry_pause_max: Duration,
    /// HTTP proxy to connect through.
    pub http_proxy: Option<HttpProxy>,
    /// SOCKS5 proxy to connect through.
    pub socks_proxy: Option<SocksProxy>,
    /// Count of exit notifications; `None`: none are sent. Zero and absent are the same.
    pub explicit_exit_notify: Option<u32>,
    /// MTU of the TUN device in bytes.
    pub tun_mtu: u16,
    /// Largest `tun-mtu` accepted from the server, in bytes.
    pub tun_mtu_max: u16,
    /// Largest control packet, in bytes on the wire.
    pub max_packet_size: u16,
    /// TCP MSS clamp.
    pub mssfix: super::data::MssFix,
    /// Internal fragmentation (userspace data plane only).
    pub fragment: Option<super::data::Fragment>,
    /// Path MTU discovery of the socket; `None`: as the data plane likes it.
    pub mtu_discovery: Option<MtuDiscovery>,
    /// `tls-auth` key and direction of this entry.
    pub tls_auth: Option<(Material, KeyDirection)>,
    /// `tls-crypt` key of this entry.
    pub tls_crypt: Option<Material>,
    /// `tls-crypt-v2` client key of this entry.
    pub tls_crypt_v2: Option<Material>,
    /// Where the `remote` line stands.
    pub span: Span,
}

/// An HTTP proxy (`http-proxy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProxy {
    /// Proxy's name or address.
    pub host: String,
    /// Proxy's port.
    pub port: u16,
    /// How to authenticate there.
    pub auth: HttpProxyAuth,
    /// Two lines: username, password.
    pub credentials: Option<Material>,
    /// HTTP version in the request line, for example `1.0`.
    pub version: String,
    /// `User-Agent` header.
    pub agent: Option<String>,
    /// More headers: name and value.
    pub headers: Vec<(String, String)>,
}

/// Authentication at an HTTP proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpProxyAuth {
    /// None.
    #[default]
    None,
    /// Whatever the proxy asks for, clear text included.
    Auto,
    /// Whatever the proxy asks for, but never in clear text (`auto-nct`).
    AutoNoClearText,
    /// Basic.
    Basic,
    /// Digest.
    Digest,
    /// NTLMv2 (refused when used; kept so that the message can name it).
    Ntlm2,
}

/// A SOCKS5 proxy (`socks-proxy`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocksProxy {
    /// Proxy's name or address.
    pub host: String,
    /// Proxy's port (default 1080).
    pub port: u16,
    /// File with username and password.
    pub credentials: Option<Material>,
}

/// `mtu-disc`; `maybe` leaves it to the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtuDiscovery {
    /// Never set don't-fragment.
    No,
    /// Always set don't-fragment.
    Yes,
}

/// An address to listen on or bind to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Name or address; `None`: any.
    pub host: Option<String>,
    /// Port; 0: ephemeral.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address family.
    pub family: Family,
    /// Where it stands, if written.
    pub span: Option<Span>,
}

impl Default for Local {
    fn default() -> Self {
        Self { host: None, port: 1194, protocol: Protocol::Udp, family: Family::Any, span: None }
    }
}

/// Socket settings and the policy of reconnecting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Shuffle [`super::Config::connections`] once at start.
    pub remote_random: bool,
    /// Put random hexadecimal digits and a dot before the host name.
    pub remote_random_hostname: bool,
    /// Keep only entries of this protocol (`proto-force`): true for TCP.
    pub force_tcp: Option<bool>,
    /// How long one attempt may resolve; `None`: for ever.
    pub resolve_retry: Option<Duration>,
    /// Resolve everything at start.
    pub preresolve: bool,
    /// Attempts per entry without success before giving up; `None`: unlimited.
    pub connect_retry_max: Option<u32>,
    /// Do not bind the local side.
    pub nobind: bool,
    /// With a dual-stack wildcard: IPv6 only (`bind ipv6only`).
    pub bind_ipv6_only: bool,
    /// Interface to bind the socket to.
    pub bind_device: Option<String>,
    /// Answer from the address a packet was sent to.
    pub multihome: bool,
    /// Firewall mark of outside packets.
    pub mark: Option<u32>,
    /// Receive buffer of the socket in bytes; `None`: the system's.
    pub rcvbuf: Option<u32>,
    /// Send buffer of the socket in bytes; `None`: the system's.
    pub sndbuf: Option<u32>,
    /// Path MTU discovery, where no connection entry says otherwise.
    pub mtu_discovery: Option<MtuDiscovery>,
    /// Keep the resolved remote address over restarts.
    pub persist_remote_ip: bool,
    /// Keep the local address over restarts.
    pub persist_local_ip: bool,
}
