//! What a server tells its client, and what one client's own files say on a server.

use std::collections::BTreeSet;

use ipnet::{Ipv4Net, Ipv6Net};

use super::auth::AuthToken;
use super::data::{Cipher, Compression};
use super::server::{IfconfigIpv6Push, IfconfigPush, PushItem};
use super::timers::Timers;

/// Push-only settings of a client (`protocol-flags`, `peer-id` …), beside those that change the [`super::Config`] itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Peer-id, 24 bits.
    pub peer_id: Option<u32>,
    /// Cipher of the data channel.
    pub cipher: Option<Cipher>,
    /// Data keys come from the TLS exporter.
    pub tls_ekm: bool,
    /// Exit messages go over the control channel.
    pub cc_exit: bool,
    /// Dynamic tls-crypt from the first renegotiation on.
    pub dyn_tls_crypt: bool,
    /// Epoch data format.
    pub aead_epoch: bool,
    /// Session token: the password from now on.
    pub auth_token: Option<AuthToken>,
    /// Username that goes with the token.
    pub auth_token_user: Option<String>,
    /// `tun-mtu` pushed, in bytes.
    pub tun_mtu: Option<u16>,
    /// Compression framing pushed; `Some(None)` says "none".
    pub compression: Option<Option<Compression>>,
    /// `push-continuation`: 2 more follows, 1 this was the last; 0 not given.
    pub continuation: u8,
}

/// Options of one client of a server, from its ccd file, a client-connect script or the management interface.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Refuse this client.
    pub disable: bool,
    /// Forget the common push list.
    pub push_reset: bool,
    /// Prefixes of common push options to leave out, in order of writing.
    pub push_remove: Vec<String>,
    /// Options told to this client only.
    pub push: Vec<PushItem>,
    /// IPv4 networks behind this client.
    pub iroutes: Vec<Ipv4Net>,
    /// IPv6 networks behind this client.
    pub iroutes_ipv6: Vec<Ipv6Net>,
    /// Static IPv4 address.
    pub ifconfig_push: Option<IfconfigPush>,
    /// Static IPv6 address.
    pub ifconfig_ipv6_push: Option<IfconfigIpv6Push>,
    /// Timers of this client, where given.
    pub timers: Option<Timers>,
    /// Which of them: names of options, also of those that were given to turn something off.
    pub timers_given: BTreeSet<&'static str>,
    /// Ciphers for this client, most wanted first.
    pub data_ciphers: Option<Vec<Cipher>>,
    /// Cipher if this client cannot negotiate.
    pub cipher_fallback: Option<Cipher>,
    /// Most routes of this client.
    pub max_routes: Option<u32>,
    /// Name to use instead of the username after login.
    pub override_username: Option<String>,
    /// Compression framing for this client; `Some(None)`: none.
    pub compression: Option<Option<Compression>>,
}
