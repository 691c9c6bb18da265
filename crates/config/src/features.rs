//! What a configuration asks of a data plane, each with its reason.
//!
//! The planner compares this with what each driver can do and tells the user the option and its place.

use crate::model::{Compression, Config, DataPlane, DeviceKind, Fragment, MssFix, Role, Topology};
use crate::source::Span;

/// Something a data plane must be able to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Packets over UDP.
    Udp,
    /// Packets over TCP, as the side that connects.
    TcpClient,
    /// Packets over TCP, as the side that listens.
    TcpServer,
    /// Several clients behind one socket.
    Multipeer,
    /// Several listening sockets at once: how many.
    SeveralSockets(usize),
    /// A connection through an HTTP proxy.
    HttpProxy,
    /// A connection through a SOCKS proxy.
    SocksProxy,
    /// Internal fragmentation.
    Fragment(Fragment),
    /// Compression framing in every packet.
    CompressionFraming(Compression),
    /// TCP MSS clamp other than off.
    MssFix(MssFix),
    /// A cipher that is offered.
    Cipher(crate::model::Cipher),
    /// Pair topology on the device (`ifconfig LOCAL REMOTE`).
    PointToPoint,
    /// A device that drops everything (`dev null`).
    NullDevice,
    /// A device of this fixed name.
    DeviceName(String),
    /// Packets between clients forwarded without the host's routing.
    ClientToClient,
    /// Renegotiation after this many bytes.
    RenegBytes(u64),
    /// Renegotiation after this many packets.
    RenegPackets(u64),
    /// Exit when idle, which needs counters.
    Inactive,
    /// Answer from the address a packet came to.
    Multihome,
    /// Peers may change address.
    Float,
    /// Rights are given up after start: the driver must be set up without them.
    DropsPrivileges,
    /// The file asks for this data plane by name (`data-plane`, `disable-dco`).
    Named(DataPlane),
}

/// A feature and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What.
    pub feature: Feature,
    /// The option that asks for it, empty where it is a default.
    pub option: &'static str,
    /// Where that stands.
    pub span: Option<Span>,
}

/// Everything a configuration asks of its data plane, in a fixed order.
#[must_use]
pub fn features_wanted(c: &Config) -> Vec<Wanted> {
    let mut out = Vec::new();
    let mut want = |feature: Feature, option: &'static str| {
        let span = c.where_given(option);
        out.push(Wanted { feature, option: if span.is_some() { option } else { "" }, span });
    };
    match c.device.data_plane {
        DataPlane::Auto if c.device.disable_dco => want(Feature::Named(DataPlane::Engine), "disable-dco"),
        DataPlane::Auto => {}
        named => want(Feature::Named(named), "data-plane"),
    }
    let server = c.role == Role::Server;
    if server {
        want(Feature::Multipeer, if c.is_given("server") { "server" } else { "mode" });
        let listens_tcp = c.locals.iter().any(|l| l.protocol.is_tcp());
        if c.locals.iter().any(|l| !l.protocol.is_tcp()) {
            want(Feature::Udp, "proto");
        }
        if listens_tcp {
            want(Feature::TcpServer, "proto");
        }
        if c.locals.len() > 1 {
            want(Feature::SeveralSockets(c.locals.len()), "local");
        }
    } else {
        let tcp = |listening: bool| {
            c.connections
                .iter()
                .any(|e| e.remote.protocol.is_tcp() && listening == is_listening(e.remote.protocol))
                || c.connections.is_empty()
                    && c.locals.iter().any(|l| l.protocol.is_tcp() && listening == is_listening(l.protocol))
        };
        let udp = c.connections.iter().any(|e| !e.remote.protocol.is_tcp())
            || c.connections.is_empty() && c.locals.iter().any(|l| !l.protocol.is_tcp());
        let by = if c.is_given("proto") { "proto" } else { "remote" };
        if udp {
            want(Feature::Udp, by);
        }
        if tcp(false) {
            want(Feature::TcpClient, by);
        }
        if tcp(true) {
            want(Feature::TcpServer, by);
        }
    }
    if c.connections.iter().any(|e| e.http_proxy.is_some()) {
        want(Feature::HttpProxy, "http-proxy");
    }
    if c.management.query_proxy {
        want(Feature::HttpProxy, "management-query-proxy");
    }
    if c.connections.iter().any(|e| e.socks_proxy.is_some()) {
        want(Feature::SocksProxy, "socks-proxy");
    }
    if let Some(fragment) = c.data.fragment.or_else(|| c.connections.iter().find_map(|e| e.fragment)) {
        want(Feature::Fragment(fragment), "fragment");
    }
    if let Some(framing) = c.data.compression {
        want(
            Feature::CompressionFraming(framing),
            if c.is_given("compress") { "compress" } else { "comp-lzo" },
        );
    }
    if c.data.mssfix != MssFix::Off && (c.data.mssfix != MssFix::Default || c.device.mtu == 1500) {
        want(Feature::MssFix(c.data.mssfix), "mssfix");
    }
    for cipher in &c.data.ciphers {
        want(
            Feature::Cipher(*cipher),
            if c.is_given("data-ciphers") { "data-ciphers" } else { "ncp-ciphers" },
        );
    }
    if c.device.topology != Topology::Subnet && c.device.topology_given {
        want(Feature::PointToPoint, "topology");
    }
    if c.device.kind == DeviceKind::Null {
        want(Feature::NullDevice, "dev");
    }
    if let Some(name) = &c.device.name {
        want(Feature::DeviceName(name.clone()), "dev");
    }
    if c.server.client_to_client {
        want(Feature::ClientToClient, "client-to-client");
    }
    if let Some(bytes) = c.timers.reneg_bytes {
        want(Feature::RenegBytes(bytes), "reneg-bytes");
    }
    if let Some(packets) = c.timers.reneg_packets {
        want(Feature::RenegPackets(packets), "reneg-pkts");
    }
    if c.timers.inactive.is_some() {
        want(Feature::Inactive, "inactive");
    }
    if c.transport.multihome {
        want(Feature::Multihome, "multihome");
    }
    if c.connections.iter().any(|e| e.float) || (server && c.is_given("float")) {
        want(Feature::Float, "float");
    }
    if c.process.user.is_some() || c.process.group.is_some() {
        want(Feature::DropsPrivileges, if c.process.user.is_some() { "user" } else { "group" });
    }
    out
}

const fn is_listening(protocol: crate::model::Protocol) -> bool {
    matches!(protocol, crate::model::Protocol::TcpServer)
}
