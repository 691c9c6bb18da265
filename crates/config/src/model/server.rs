//! Settings of a multi-client server.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use super::scripts::Command;
use super::tls::Material;
use crate::source::Span;

/// `ifconfig-pool START END [MASK]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// First address.
    pub start: Ipv4Addr,
    /// Last address.
    pub end: Ipv4Addr,
    /// Prefix length told to clients; `None`: that of the device.
    pub prefix: Option<u8>,
}

/// `ifconfig-ipv6-pool ADDR/BITS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolIpv6 {
    /// First address and the network's prefix length.
    pub base: Ipv6Net,
}

/// `ifconfig-pool-persist FILE [SECONDS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPersist {
    /// Path.
    pub file: String,
    /// How often it is written; `None`: never, and assignments are fixed.
    pub interval: Option<Duration>,
}

/// `ifconfig-push LOCAL REMOTE|MASK [ALIAS]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfconfigPush {
    /// The client's address.
    pub local: Ipv4Addr,
    /// Netmask (subnet) or the other end, as written.
    pub remote_or_mask: Ipv4Addr,
    /// Address told to the client instead of [`IfconfigPush::local`].
    pub alias: Option<Ipv4Addr>,
}

/// `ifconfig-ipv6-push ADDR/BITS [REMOTE]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfconfigIpv6Push {
    /// The client's address and prefix length.
    pub local: Ipv6Net,
    /// The other end; `None`: the server's own address.
    pub remote: Option<Ipv6Addr>,
}

/// One option of the push list, as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushItem {
    /// Text, for example `route 10.0.0.0 255.0.0.0`.
    pub text: String,
    /// Where it stands; for options made by a helper (`server`, `keepalive`): where the helper stands.
    pub span: Span,
}

/// A count per time (`connect-freq`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events.
    pub count: u32,
    /// Per.
    pub per: Duration,
}

/// `verify-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyClientCert {
    /// No certificate is asked for.
    None,
    /// Verified where sent.
    Optional,
    /// Needed.
    #[default]
    Require,
}

/// `auth-gen-token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthGenToken {
    /// From first login; `None`: unlimited.
    pub lifetime: Option<Duration>,
    /// A token must be renewed this often; `None`: as renegotiations.
    pub renewal: Option<Duration>,
    /// Scripts judge tokens too.
    pub external_auth: bool,
}

/// `port-share HOST PORT [DIR]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortShare {
    /// Where connections that are not OpenVPN go.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Directory of files telling the real client addresses.
    pub directory: Option<String>,
}

/// Settings of a multi-client server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `server NET MASK`.
    pub network: Option<Ipv4Net>,
    /// `server-ipv6 NET/BITS`.
    pub network_ipv6: Option<Ipv6Net>,
    /// IPv4 addresses for clients.
    pub pool: Option<Pool>,
    /// IPv6 addresses for clients.
    pub pool_ipv6: Option<PoolIpv6>,
    /// File that remembers assignments.
    pub pool_persist: Option<PoolPersist>,
    /// Static addresses must be in this network.
    pub push_constraint: Option<Ipv4Net>,
    /// What every client is told, in stock's order: lines of the file, then those of helpers.
    pub push: Vec<PushItem>,
    /// Directory of per-client files.
    pub client_config_dir: Option<String>,
    /// Refuse clients without a file of their own.
    pub ccd_exclusive: bool,
    /// Called when a client is accepted.
    pub client_connect: Option<Command>,
    /// Called when a client that was accepted ends.
    pub client_disconnect: Option<Command>,
    /// Called when an address is learnt or forgotten.
    pub learn_address: Option<Command>,
    /// Forward clients' traffic under this host's address while the server runs.
    pub nat: bool,
    /// Clients reach each other.
    pub client_to_client: bool,
    /// Several sessions per common name.
    pub duplicate_cn: bool,
    /// Most clients at once.
    pub max_clients: u32,
    /// Most routes per client.
    pub max_routes_per_client: u32,
    /// Limit of new clients (UDP).
    pub connect_freq: Option<Rate>,
    /// Limit of stateless answers.
    pub connect_freq_initial: Rate,
    /// Whether clients need a certificate.
    pub verify_client_cert: VerifyClientCert,
    /// Session tokens.
    pub auth_gen_token: Option<AuthGenToken>,
    /// Key of session tokens; `None`: random at each start.
    pub auth_gen_token_secret: Option<Material>,
    /// Hand connections that are not OpenVPN to another server.
    pub port_share: Option<PortShare>,
    /// Where files for scripts are made; `None`: the system's.
    pub tmp_dir: Option<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            network: None,
            network_ipv6: None,
            pool: None,
            pool_ipv6: None,
            pool_persist: None,
            push_constraint: None,
            push: Vec::new(),
            client_config_dir: None,
            ccd_exclusive: false,
            client_connect: None,
            client_disconnect: None,
            learn_address: None,
            nat: false,
            client_to_client: false,
            duplicate_cn: false,
            max_clients: 1024,
            max_routes_per_client: 256,
            connect_freq: None,
            connect_freq_initial: Rate { count: 100, per: Duration::from_secs(10) },
            verify_client_cert: VerifyClientCert::Require,
            auth_gen_token: None,
            auth_gen_token_secret: None,
            port_share: None,
            tmp_dir: None,
        }
    }
}
