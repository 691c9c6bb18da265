//! The typed result: what a configuration asks for, after stock's order rules, defaults and helper expansion.
//!
//! ```text
//! Config ─┬─ connections   where to connect (client, p2p), one entry per `<connection>` or `remote`
//!         ├─ locals        where to listen or bind
//!         ├─ device        TUN name, topology, addresses, MTU
//!         ├─ routing       routes, redirect-gateway, DNS
//!         ├─ tls           certificates, control channel keys, TLS limits
//!         ├─ data          ciphers, compression framing, replay window
//!         ├─ auth          user/password, tokens, challenges
//!         ├─ server        pools, push list, per-client files and scripts, limits
//!         ├─ timers        keepalive, renegotiation, windows
//!         ├─ scripts       commands and their environment
//!         ├─ process       logging, privileges, daemon
//!         └─ management    the management interface
//! ```

mod auth;
mod connection;
mod data;
mod device;
mod management;
mod process;
mod pushed;
mod routing;
mod scripts;
mod server;
mod timers;
mod tls;

use std::collections::BTreeMap;

pub use auth::{Auth, AuthRetry, AuthToken, Credentials, StaticChallenge, VerifyMethod, VerifyScript};
pub use connection::{
    Connection, Family, HttpProxy, HttpProxyAuth, Local, MtuDiscovery, Protocol, Remote, SocksProxy,
    Transport,
};
pub use data::{AllowCompression, Cipher, Compression, Data, Fragment, MssFix, ReplayWindow};
pub use device::{DataPlane, Device, DeviceKind, Ifconfig, IfconfigIpv6, Topology};
pub use management::{Management, ManagementAddress};
pub use process::{Daemon, Log, LogFormat, MetricsAddress, Process, RemapUsr1, StatusFile, StatusSocket};
pub use pushed::{ClientOptions, Pushed};
pub use routing::{
    DhcpOption, Dns, DnsServer, DnsTransport, DnsUpdown, Dnssec, Gateway, PullFilter, PullFilterAction,
    RedirectGateway, Route, RouteHost, RouteIpv6, Routing,
};
pub use scripts::{Command, ScriptSecurity, Scripts};
pub use server::{
    AuthGenToken, IfconfigIpv6Push, IfconfigPush, Pool, PoolIpv6, PoolPersist, PortShare, PushItem, Rate,
    Server, VerifyClientCert,
};
pub use timers::{Inactive, Timers};
pub use tls::{
    CertProfile, CrlSource, KeyDirection, Material, RemoteCertEku, Tls, TlsCryptV2Cookie, TlsVersion,
    VerifyX509, X509NameMatch, X509Track,
};

use crate::source::Span;

/// What this process does in the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Connects and takes its settings from the server (`client`, or `pull` with `tls-client`).
    Client,
    /// Serves many clients (`mode server`).
    Server,
    /// One of two equal peers, both configured by file.
    Peer(TlsRole),
}

/// Which side of the TLS handshake this process takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsRole {
    /// Sends the ClientHello.
    Client,
    /// Answers it.
    Server,
}

/// A whole configuration, typed. Every field has stock's default where nothing was said.
#[derive(Clone, Debug)]
pub struct Config {
    /// What this process does; `None` where the file is only a fragment (for example a ccd file).
    pub role: Role,
    /// Whether options pushed by the peer are asked for and applied.
    pub pull: bool,
    /// Oldest release whose behaviour is asked for (`compat-mode`), as (major, minor, patch).
    pub compat_mode: Option<(u16, u16, u16)>,
    /// Entries to connect to, in order; empty where nothing is to be connected to (servers, passive peers).
    pub connections: Vec<Connection>,
    /// Addresses to listen on (server) or to bind to; never empty: the default is one wildcard entry.
    pub locals: Vec<Local>,
    /// Socket settings and the policy of reconnecting.
    pub transport: Transport,
    /// The TUN device.
    pub device: Device,
    /// Routes and DNS.
    pub routing: Routing,
    /// TLS and the protection of the control channel.
    pub tls: Tls,
    /// The data channel.
    pub data: Data,
    /// User authentication.
    pub auth: Auth,
    /// Settings only a multi-client server has; its defaults elsewhere.
    pub server: Server,
    /// Keepalive, renegotiation and handshake windows.
    pub timers: Timers,
    /// Scripts.
    pub scripts: Scripts,
    /// Logging, privileges, daemon.
    pub process: Process,
    /// Management interface.
    pub management: Management,
    /// Where each option stands: every occurrence, in order.
    pub given: BTreeMap<&'static str, Vec<Span>>,
}

impl Config {
    /// Where an option stands last, if it was given.
    #[must_use]
    pub fn where_given(&self, option: &str) -> Option<Span> {
        self.given.get(option).and_then(|spans| spans.last()).copied()
    }

    /// Whether an option was given at all.
    #[must_use]
    pub fn is_given(&self, option: &str) -> bool {
        self.given.contains_key(option)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::Peer(TlsRole::Client),
            pull: false,
            compat_mode: None,
            connections: Vec::new(),
            locals: vec![Local::default()],
            transport: Transport::default(),
            device: Device::default(),
            routing: Routing::default(),
            tls: Tls::default(),
            data: Data::default(),
            auth: Auth::default(),
            server: Server::default(),
            timers: Timers::default(),
            scripts: Scripts::default(),
            process: Process::default(),
            management: Management::default(),
            given: BTreeMap::new(),
        }
    }
}
