//! Requests: what a caller asks of a data plane.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use ipnet::IpNet;
use ovpn_sys::netlink::message::{
    AttributeWriter, Message, MessageBuilder, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST,
};
use zeroize::Zeroizing;

use super::attribute::{MessageType, VERSION, command, key, peer, route, top};
use super::dialect;
use super::policy::{Checked, Rule, Table, check, invalid, missing};
use crate::{
    CipherAlg, DataFormat, Error, ErrorKind, Framing, Keepalive, KeyConfig, KeyDirection, KeyId, KeySlot,
    PeerId, PeerUpdate, Result, SocketSource, TransportId, VpnAddrs,
};

/// Which attributes are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Only the kernel's.
    Kernel,
    /// The kernel's and those of our engine process.
    Engine,
}

/// A request to one device.
#[derive(Debug)]
pub struct Request {
    /// Interface index of the device; 0 names an engine's only device.
    pub ifindex: u32,
    /// What is asked.
    pub command: Command,
}

/// What is asked of a device.
#[derive(Debug)]
pub enum Command {
    /// See [`DataPlane::peer_new`](crate::DataPlane::peer_new).
    PeerNew(NewPeer),
    /// See [`DataPlane::peer_set`](crate::DataPlane::peer_set).
    PeerSet {
        /// The peer.
        id: PeerId,
        /// The changes.
        update: PeerUpdate,
    },
    /// See [`DataPlane::peer_get`](crate::DataPlane::peer_get).
    PeerGet(PeerId),
    /// See [`DataPlane::peer_dump`](crate::DataPlane::peer_dump).
    PeerDump,
    /// See [`DataPlane::peer_del`](crate::DataPlane::peer_del).
    PeerDel(PeerId),
    /// See [`DataPlane::key_new`](crate::DataPlane::key_new).
    KeyNew {
        /// The peer.
        peer: PeerId,
        /// The slot.
        slot: KeySlot,
        /// The key.
        key: KeyConfig,
    },
    /// See [`DataPlane::key_get`](crate::DataPlane::key_get).
    KeyGet {
        /// The peer.
        peer: PeerId,
        /// The slot.
        slot: KeySlot,
    },
    /// See [`DataPlane::key_swap`](crate::DataPlane::key_swap).
    KeySwap(PeerId),
    /// See [`DataPlane::key_del`](crate::DataPlane::key_del).
    KeyDel {
        /// The peer.
        peer: PeerId,
        /// The slot.
        slot: KeySlot,
    },
    /// Engine's dialect: see [`DataPlane::transport_open`](crate::DataPlane::transport_open). `port` is an index into
    /// the descriptors passed with the request: one end of a socket pair on which control packets come and go.
    TransportOpen {
        /// Where the socket comes from; a socket is an index into the descriptors passed with the request.
        source: dialect::Source,
        /// Index of the socket pair's end.
        port: u32,
    },
    /// Engine's dialect: the transport's port was dropped.
    TransportClose(TransportId),
    /// Engine's dialect: see [`DataPlane::route_add`](crate::DataPlane::route_add).
    RouteAdd(IpNet, PeerId),
    /// Engine's dialect: see [`DataPlane::route_del`](crate::DataPlane::route_del).
    RouteDel(IpNet, PeerId),
    /// Engine's dialect: reads the capabilities and the device.
    CapabilitiesGet,
    /// Engine's dialect: see [`DataPlane::drops`](crate::DataPlane::drops); a dump.
    DropsGet,
    /// Engine's dialect: events are sent on this connection from now on.
    Subscribe,
}

/// A peer's socket, as requests name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketRef {
    /// To the kernel a descriptor of the caller; to an engine an index into the descriptors passed with the request.
    Descriptor(u32),
    /// Engine's dialect: a transport that was opened before.
    Transport(TransportId),
}

/// A peer to be added, as the request holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPeer {
    /// Its id.
    pub id: PeerId,
    /// The id in packets sent to it, where it differs.
    pub tx_id: Option<PeerId>,
    /// Its socket.
    pub socket: SocketRef,
    /// Its address; UDP only.
    pub remote: Option<SocketAddr>,
    /// Our address towards it; UDP only.
    pub local: Option<IpAddr>,
    /// Its VPN addresses.
    pub vpn: VpnAddrs,
    /// Timers; most callers set them afterwards.
    pub keepalive: Option<Keepalive>,
    /// Engine's dialect: its compression framing.
    pub framing: Framing,
    /// Engine's dialect: the largest piece of a packet sent to it, bytes.
    pub fragment: Option<u16>,
}

const MAX_ID: u32 = 0xFF_FFFF;
const DAY: u32 = 86_400;

const ID: (u16, Rule) = (peer::ID, Rule::U32(MAX_ID));
const PEER_ONLY_ID: Table = &[ID];
const IFINDEX: (u16, Rule) = (top::IFINDEX, Rule::U32(u32::MAX));

/// What may be set at any time.
macro_rules! settable {
    ($($more:expr),* $(,)?) => {
        &[
            ID,
            (peer::REMOTE_IPV4, Rule::Ipv4),
            (peer::REMOTE_IPV6, Rule::Exact(16)),
            (peer::REMOTE_IPV6_SCOPE_ID, Rule::U32(u32::MAX)),
            (peer::REMOTE_PORT, Rule::Port),
            (peer::VPN_IPV4, Rule::Ipv4),
            (peer::VPN_IPV6, Rule::Exact(16)),
            (peer::LOCAL_IPV4, Rule::Ipv4),
            (peer::LOCAL_IPV6, Rule::Exact(16)),
            (peer::KEEPALIVE_INTERVAL, Rule::U32(DAY)),
            (peer::KEEPALIVE_TIMEOUT, Rule::U32(DAY)),
            (peer::TX_ID, Rule::U32(MAX_ID)),
            $($more),*
        ]
    };
}
const PEER_NEW: Table = settable![(peer::SOCKET, Rule::U32(u32::MAX))];
const PEER_SET: Table = settable![];
const PEER_NEW_ENGINE: Table = settable![
    (peer::SOCKET, Rule::U32(u32::MAX)),
    (peer::FRAMING, Rule::U32(3)),
    (peer::TRANSPORT, Rule::U64),
    (peer::FRAGMENT, Rule::U32(0xFFFF)),
];
const PEER_SET_ENGINE: Table = settable![(peer::MSS, Rule::U32(0xFFFF))];

const KEY_PEER: (u16, Rule) = (key::PEER_ID, Rule::U32(MAX_ID));
const KEY_SLOT: (u16, Rule) = (key::SLOT, Rule::U32(1));
const DIRECTION: Table = &[(key::CIPHER_KEY, Rule::AtMost(256)), (key::NONCE_TAIL, Rule::Exact(8))];
macro_rules! key_new {
    ($($more:expr),* $(,)?) => {
        &[
            KEY_PEER,
            KEY_SLOT,
            (key::KEY_ID, Rule::U32(7)),
            (key::CIPHER_ALG, Rule::U32(2)),
            (key::ENCRYPT_DIR, Rule::Nest(DIRECTION)),
            (key::DECRYPT_DIR, Rule::Nest(DIRECTION)),
            $($more),*
        ]
    };
}
const KEY_NEW: Table = key_new![];
const KEY_NEW_ENGINE: Table = key_new![(key::FORMAT, Rule::U32(2)), (key::KEY_LEN, Rule::U32(32))];
const KEY_ONLY_SLOT: Table = &[KEY_PEER, KEY_SLOT];
const KEY_ONLY_PEER: Table = &[KEY_PEER];
const ROUTE: Table = &[
    (route::PEER_ID, Rule::U32(MAX_ID)),
    (route::ADDRESS, Rule::AtMost(16)),
    (route::PREFIX_LENGTH, Rule::U32(128)),
];

const fn table(number: u8, dump: bool, dialect: Dialect) -> Option<Table> {
    let engine = matches!(dialect, Dialect::Engine);
    Some(match number {
        command::PEER_NEW if engine => &[IFINDEX, (top::PEER, Rule::Nest(PEER_NEW_ENGINE))],
        command::PEER_NEW => &[IFINDEX, (top::PEER, Rule::Nest(PEER_NEW))],
        command::PEER_SET if engine => &[IFINDEX, (top::PEER, Rule::Nest(PEER_SET_ENGINE))],
        command::PEER_SET => &[IFINDEX, (top::PEER, Rule::Nest(PEER_SET))],
        command::PEER_GET if dump => &[IFINDEX],
        command::PEER_GET | command::PEER_DEL => &[IFINDEX, (top::PEER, Rule::Nest(PEER_ONLY_ID))],
        command::KEY_NEW if engine => &[IFINDEX, (top::KEYCONF, Rule::Nest(KEY_NEW_ENGINE))],
        command::KEY_NEW => &[IFINDEX, (top::KEYCONF, Rule::Nest(KEY_NEW))],
        command::KEY_GET | command::KEY_DEL => &[IFINDEX, (top::KEYCONF, Rule::Nest(KEY_ONLY_SLOT))],
        command::KEY_SWAP => &[IFINDEX, (top::KEYCONF, Rule::Nest(KEY_ONLY_PEER))],
        command::TRANSPORT_OPEN | command::TRANSPORT_CLOSE if engine => {
            &[IFINDEX, (top::TRANSPORT, Rule::Nest(dialect::TRANSPORT))]
        }
        command::ROUTE_ADD | command::ROUTE_DEL if engine => &[IFINDEX, (top::ROUTE, Rule::Nest(ROUTE))],
        command::CAPABILITIES_GET | command::SUBSCRIBE if engine => &[IFINDEX],
        command::DROPS_GET if engine && dump => &[IFINDEX],
        _ => return None,
    })
}

impl Command {
    /// Its number.
    pub const fn number(&self) -> u8 {
        match self {
            Self::PeerNew(_) => command::PEER_NEW,
            Self::PeerSet { .. } => command::PEER_SET,
            Self::PeerGet(_) | Self::PeerDump => command::PEER_GET,
            Self::PeerDel(_) => command::PEER_DEL,
            Self::KeyNew { .. } => command::KEY_NEW,
            Self::KeyGet { .. } => command::KEY_GET,
            Self::KeySwap(_) => command::KEY_SWAP,
            Self::KeyDel { .. } => command::KEY_DEL,
            Self::TransportOpen { .. } => command::TRANSPORT_OPEN,
            Self::TransportClose(_) => command::TRANSPORT_CLOSE,
            Self::RouteAdd(..) => command::ROUTE_ADD,
            Self::RouteDel(..) => command::ROUTE_DEL,
            Self::CapabilitiesGet => command::CAPABILITIES_GET,
            Self::DropsGet => command::DROPS_GET,
            Self::Subscribe => command::SUBSCRIBE,
        }
    }
}

impl Request {
    /// The message, with sequence number and port id zero. What the API has and the kernel lacks (mss, framing, pieces,
    /// key format) is written with the engine's attributes; whoever speaks to the kernel refuses it first.
    pub fn encode(&self, family: MessageType) -> Zeroizing<Vec<u8>> {
        let mut flags = NLM_F_REQUEST | NLM_F_ACK;
        if matches!(self.command, Command::PeerDump | Command::DropsGet) {
            flags = NLM_F_REQUEST | NLM_F_DUMP;
        }
        let message = MessageBuilder::new(family, flags).header(&[self.command.number(), VERSION, 0, 0]);
        let message = message.with(|a| {
            a.u32(top::IFINDEX, self.ifindex);
            write(&self.command, a);
        });
        Zeroizing::new(message.finish())
    }

    /// Reads a request and checks it as the kernel does: types, ranges and combinations. What depends on the device
    /// (its mode, its peers) is left to the data plane.
    ///
    /// # Errors
    /// With the errno that the kernel gives: EINVAL, ERANGE, EOPNOTSUPP (unknown commands).
    pub fn decode(message: &Message<'_>, dialect: Dialect) -> Result<Self> {
        let (header, attributes) = message.after_header(4)?;
        let &[number, ..] = header else { return Err(invalid("no generic header")) };
        let dump = message.flags & NLM_F_DUMP == NLM_F_DUMP;
        let unknown = || Error::new(ErrorKind::Unsupported, format!("there is no command {number}"));
        let table = table(number, dump, dialect).ok_or_else(unknown)?;
        if dump && !matches!(number, command::PEER_GET | command::DROPS_GET) {
            return Err(unknown());
        }
        let checked = check(attributes, table)?;
        let ifindex = checked.u32(top::IFINDEX)?.ok_or_else(|| missing("IFINDEX"))?;
        Ok(Self { ifindex, command: read(number, dump, &checked)? })
    }
}

// ---- writing ----

fn write(command: &Command, a: &mut AttributeWriter) {
    match command {
        Command::PeerNew(new) => {
            a.nest(top::PEER, |a| write_new(new, a));
        }
        Command::PeerSet { id, update } => {
            a.nest(top::PEER, |a| {
                a.u32(peer::ID, id.get());
                write_remote(update.remote, a);
                write_local(update.local, a);
                write_vpn(&update.vpn, a);
                write_keepalive(update.keepalive, a);
                if let Some(tx_id) = update.tx_id {
                    a.u32(peer::TX_ID, tx_id.get());
                }
                if let Some(mss) = update.mss {
                    a.u32(peer::MSS, mss.into());
                }
            });
        }
        Command::PeerGet(id) | Command::PeerDel(id) => {
            a.nest(top::PEER, |a| {
                a.u32(peer::ID, id.get());
            });
        }
        Command::PeerDump | Command::CapabilitiesGet | Command::DropsGet | Command::Subscribe => {}
        Command::KeyNew { peer, slot, key } => {
            a.nest(top::KEYCONF, |a| write_key(*peer, *slot, key, a));
        }
        Command::KeyGet { peer, slot } | Command::KeyDel { peer, slot } => {
            a.nest(top::KEYCONF, |a| {
                a.u32(key::PEER_ID, peer.get()).u32(key::SLOT, slot_number(*slot));
            });
        }
        Command::KeySwap(peer) => {
            a.nest(top::KEYCONF, |a| {
                a.u32(key::PEER_ID, peer.get());
            });
        }
        Command::TransportOpen { source, port } => dialect::write_open(source, *port, a),
        Command::TransportClose(id) => dialect::write_close(*id, a),
        Command::RouteAdd(prefix, peer) | Command::RouteDel(prefix, peer) => {
            a.nest(top::ROUTE, |a| {
                a.u32(route::PEER_ID, peer.get())
                    .ip(route::ADDRESS, prefix.addr())
                    .u32(route::PREFIX_LENGTH, prefix.prefix_len().into());
            });
        }
    }
}

fn write_new(new: &NewPeer, a: &mut AttributeWriter) {
    a.u32(peer::ID, new.id.get());
    if let Some(tx_id) = new.tx_id.filter(|tx_id| *tx_id != new.id) {
        a.u32(peer::TX_ID, tx_id.get());
    }
    match new.socket {
        SocketRef::Descriptor(fd) => a.u32(peer::SOCKET, fd),
        SocketRef::Transport(TransportId(id)) => a.bytes(peer::TRANSPORT, &id.to_ne_bytes()),
    };
    write_remote(new.remote, a);
    write_local(new.local, a);
    write_vpn(&new.vpn, a);
    write_keepalive(new.keepalive, a);
    if new.framing != Framing::None {
        a.u32(peer::FRAMING, framing_number(new.framing));
    }
    if let Some(largest) = new.fragment {
        a.u32(peer::FRAGMENT, largest.into());
    }
}

/// A remote address; IPv4-mapped ones as IPv4.
pub(super) fn write_remote(remote: Option<SocketAddr>, a: &mut AttributeWriter) {
    let Some(remote) = remote else { return };
    match remote.ip().to_canonical() {
        IpAddr::V4(v4) => a.bytes(peer::REMOTE_IPV4, &v4.octets()),
        IpAddr::V6(v6) => a.bytes(peer::REMOTE_IPV6, &v6.octets()),
    };
    if let SocketAddr::V6(v6) = remote
        && v6.scope_id() != 0
        && remote.ip().to_canonical().is_ipv6()
    {
        a.u32(peer::REMOTE_IPV6_SCOPE_ID, v6.scope_id());
    }
    a.be16(peer::REMOTE_PORT, remote.port());
}

fn write_local(local: Option<IpAddr>, a: &mut AttributeWriter) {
    match local.map(|local| local.to_canonical()) {
        Some(IpAddr::V4(v4)) => a.bytes(peer::LOCAL_IPV4, &v4.octets()),
        Some(IpAddr::V6(v6)) => a.bytes(peer::LOCAL_IPV6, &v6.octets()),
        None => a,
    };
}

pub(super) fn write_vpn(vpn: &VpnAddrs, a: &mut AttributeWriter) {
    if let Some(v4) = vpn.v4 {
        a.bytes(peer::VPN_IPV4, &v4.octets());
    }
    if let Some(v6) = vpn.v6 {
        a.bytes(peer::VPN_IPV6, &v6.octets());
    }
}

pub(super) fn write_keepalive(keepalive: Option<Keepalive>, a: &mut AttributeWriter) {
    if let Some(Keepalive { interval, timeout }) = keepalive {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        a.u32(peer::KEEPALIVE_INTERVAL, seconds(interval)).u32(peer::KEEPALIVE_TIMEOUT, seconds(timeout));
    }
}

fn write_key(id: PeerId, slot: KeySlot, config: &KeyConfig, a: &mut AttributeWriter) {
    a.u32(key::PEER_ID, id.get())
        .u32(key::SLOT, slot_number(slot))
        .u32(key::KEY_ID, config.key_id.get().into())
        .u32(key::CIPHER_ALG, cipher_number(config.cipher));
    for (kind, direction) in [(key::ENCRYPT_DIR, &config.encrypt), (key::DECRYPT_DIR, &config.decrypt)] {
        a.nest(kind, |a| {
            a.bytes(key::CIPHER_KEY, &direction.cipher_key).bytes(key::NONCE_TAIL, &direction.nonce_tail);
        });
    }
    if config.format != DataFormat::V2 {
        let format = match config.format {
            DataFormat::V2 => 0,
            DataFormat::V1 => 1,
            DataFormat::Epoch => 2,
        };
        a.u32(key::FORMAT, format);
    }
    if usize::from(config.key_len) != config.encrypt.cipher_key.len() {
        a.u32(key::KEY_LEN, config.key_len.into());
    }
}

pub(super) const fn slot_number(slot: KeySlot) -> u32 {
    match slot {
        KeySlot::Primary => 0,
        KeySlot::Secondary => 1,
    }
}

pub(super) const fn cipher_number(cipher: CipherAlg) -> u32 {
    match cipher {
        CipherAlg::None => 0,
        CipherAlg::AesGcm => 1,
        CipherAlg::ChaCha20Poly1305 => 2,
    }
}

pub(super) const fn cipher_from(number: u32) -> Option<CipherAlg> {
    match number {
        0 => Some(CipherAlg::None),
        1 => Some(CipherAlg::AesGcm),
        2 => Some(CipherAlg::ChaCha20Poly1305),
        _ => None,
    }
}

const fn framing_number(framing: Framing) -> u32 {
    match framing {
        Framing::None => 0,
        Framing::Lzo => 1,
        Framing::Swap => 2,
        Framing::V2 => 3,
    }
}

// ---- reading ----

fn read(number: u8, dump: bool, top: &Checked<'_>) -> Result<Command> {
    match number {
        command::PEER_GET if dump => return Ok(Command::PeerDump),
        command::CAPABILITIES_GET => return Ok(Command::CapabilitiesGet),
        command::DROPS_GET => return Ok(Command::DropsGet),
        command::SUBSCRIBE => return Ok(Command::Subscribe),
        command::TRANSPORT_OPEN => return dialect::read_open(top),
        command::TRANSPORT_CLOSE => return dialect::read_close(top),
        command::ROUTE_ADD | command::ROUTE_DEL => {
            let (prefix, peer) = read_route(top)?;
            let add = number == command::ROUTE_ADD;
            return Ok(if add { Command::RouteAdd(prefix, peer) } else { Command::RouteDel(prefix, peer) });
        }
        _ => {}
    }
    if let command::PEER_NEW | command::PEER_SET | command::PEER_GET | command::PEER_DEL = number {
        let nest = top.nest(top::PEER)?.ok_or_else(|| missing("PEER"))?;
        let id = peer_id(&nest, peer::ID, "PEER.ID")?;
        return Ok(match number {
            command::PEER_NEW => Command::PeerNew(read_new(id, &nest)?),
            command::PEER_SET => Command::PeerSet { id, update: read_update(&nest)? },
            command::PEER_GET => Command::PeerGet(id),
            _ => Command::PeerDel(id),
        });
    }
    let nest = top.nest(top::KEYCONF)?.ok_or_else(|| missing("KEYCONF"))?;
    let peer = peer_id(&nest, key::PEER_ID, "KEYCONF.PEER_ID")?;
    if number == command::KEY_SWAP {
        return Ok(Command::KeySwap(peer));
    }
    let slot = match nest.u32(key::SLOT)?.ok_or_else(|| missing("KEYCONF.SLOT"))? {
        0 => KeySlot::Primary,
        _ => KeySlot::Secondary,
    };
    Ok(match number {
        command::KEY_NEW => Command::KeyNew { peer, slot, key: read_key(&nest)? },
        command::KEY_GET => Command::KeyGet { peer, slot },
        _ => Command::KeyDel { peer, slot },
    })
}

fn peer_id(nest: &Checked<'_>, kind: u16, name: &str) -> Result<PeerId> {
    let id = nest.u32(kind)?.ok_or_else(|| missing(name))?;
    // The kernel takes 0xFFFFFF, which on the wire means "no peer id".
    PeerId::new(id).ok_or_else(|| Error::new(ErrorKind::OutOfRange, format!("{name}: {id} is no peer id")))
}

fn read_new(id: PeerId, nest: &Checked<'_>) -> Result<NewPeer> {
    let update = read_update(nest)?;
    let socket = match (nest.u32(peer::SOCKET)?, nest.find(peer::TRANSPORT)) {
        (Some(fd), None) => SocketRef::Descriptor(fd),
        (None, Some(transport)) => SocketRef::Transport(TransportId(transport.uint()?)),
        (None, None) => return Err(missing("PEER.SOCKET")),
        (Some(_), Some(_)) => return Err(invalid("both PEER.SOCKET and PEER.TRANSPORT")),
    };
    let framing = match nest.u32(peer::FRAMING)? {
        Some(1) => Framing::Lzo,
        Some(2) => Framing::Swap,
        Some(3) => Framing::V2,
        _ => Framing::None,
    };
    Ok(NewPeer {
        id,
        tx_id: update.tx_id,
        socket,
        remote: update.remote,
        local: update.local,
        vpn: update.vpn,
        keepalive: update.keepalive,
        framing,
        fragment: nest.u32(peer::FRAGMENT)?.and_then(|largest| u16::try_from(largest).ok()),
    })
}

/// What PEER_NEW and PEER_SET have in common, with the kernel's checks of combinations.
fn read_update(nest: &Checked<'_>) -> Result<PeerUpdate> {
    let ip = |kind: u16| -> Result<Option<IpAddr>> { Ok(nest.find(kind).map(|a| a.ip()).transpose()?) };
    let (remote4, remote6) = (ip(peer::REMOTE_IPV4)?, ip(peer::REMOTE_IPV6)?);
    let (local4, local6) = (ip(peer::LOCAL_IPV4)?, ip(peer::LOCAL_IPV6)?);
    if remote4.is_some() && remote6.is_some() {
        return Err(invalid("both REMOTE_IPV4 and REMOTE_IPV6"));
    }
    if nest.has(peer::REMOTE_IPV6_SCOPE_ID) && remote6.is_none() {
        return Err(invalid("REMOTE_IPV6_SCOPE_ID without REMOTE_IPV6"));
    }
    if local4.is_some() && remote4.is_none() || local6.is_some() && remote6.is_none() {
        return Err(invalid("local address without remote address of its family"));
    }
    let port = nest.find(peer::REMOTE_PORT).map(|a| a.be16()).transpose()?;
    let scope = nest.u32(peer::REMOTE_IPV6_SCOPE_ID)?.unwrap_or(0);
    let remote = match (remote4.or(remote6), port) {
        (None, None) => None,
        (Some(_), None) => return Err(invalid("remote address without REMOTE_PORT")),
        (None, Some(_)) => return Err(invalid("REMOTE_PORT without remote address")),
        (Some(address), Some(port)) => Some(match address.to_canonical() {
            IpAddr::V4(v4) => SocketAddr::from((v4, port)),
            IpAddr::V6(v6) => SocketAddr::from(SocketAddrV6::new(v6, port, 0, scope)),
        }),
    };
    let local = local4.or(local6).map(|local| local.to_canonical());
    if let (Some(local), Some(remote)) = (local, remote)
        && local.is_ipv4() != remote.is_ipv4()
    {
        return Err(invalid("local and remote address of different families"));
    }
    let keepalive = match (nest.u32(peer::KEEPALIVE_INTERVAL)?, nest.u32(peer::KEEPALIVE_TIMEOUT)?) {
        (None, None) => None,
        (Some(interval), Some(timeout)) => Some(Keepalive {
            interval: Duration::from_secs(interval.into()),
            timeout: Duration::from_secs(timeout.into()),
        }),
        _ => return Err(invalid("only one of KEEPALIVE_INTERVAL and KEEPALIVE_TIMEOUT")),
    };
    let mut vpn = VpnAddrs::default();
    if let Some(IpAddr::V4(v4)) = ip(peer::VPN_IPV4)? {
        vpn.v4 = Some(v4);
    }
    if let Some(IpAddr::V6(v6)) = ip(peer::VPN_IPV6)? {
        vpn.v6 = Some(v6);
    }
    let tx_id = if nest.has(peer::TX_ID) { Some(peer_id(nest, peer::TX_ID, "PEER.TX_ID")?) } else { None };
    let mss = nest.u32(peer::MSS)?.map(|mss| u16::try_from(mss).unwrap_or(u16::MAX));
    Ok(PeerUpdate { remote, local, vpn, keepalive, mss, tx_id })
}

fn read_key(nest: &Checked<'_>) -> Result<KeyConfig> {
    let need = |kind, name| nest.u32(kind)?.ok_or_else(|| missing(name));
    let key_id = need(key::KEY_ID, "KEYCONF.KEY_ID")?;
    let cipher = need(key::CIPHER_ALG, "KEYCONF.CIPHER_ALG")?;
    let encrypt = read_direction(nest, key::ENCRYPT_DIR)?;
    let decrypt = read_direction(nest, key::DECRYPT_DIR)?;
    let format = match nest.u32(key::FORMAT)? {
        Some(1) => DataFormat::V1,
        Some(2) => DataFormat::Epoch,
        _ => DataFormat::V2,
    };
    let key_len = nest.u32(key::KEY_LEN)?.map_or(encrypt.cipher_key.len(), |length| length as usize);
    Ok(KeyConfig {
        key_id: u8::try_from(key_id).ok().and_then(KeyId::new).ok_or_else(|| invalid("KEY_ID"))?,
        cipher: cipher_from(cipher).ok_or_else(|| invalid("CIPHER_ALG"))?,
        format,
        key_len: u8::try_from(key_len).unwrap_or(u8::MAX),
        encrypt,
        decrypt,
    })
}

fn read_direction(nest: &Checked<'_>, kind: u16) -> Result<KeyDirection> {
    let name = if kind == key::ENCRYPT_DIR { "KEYCONF.ENCRYPT_DIR" } else { "KEYCONF.DECRYPT_DIR" };
    let direction = nest.nest(kind)?.ok_or_else(|| missing(name))?;
    let cipher_key = direction.find(key::CIPHER_KEY).ok_or_else(|| missing("CIPHER_KEY"))?;
    let nonce_tail = direction.find(key::NONCE_TAIL).ok_or_else(|| missing("NONCE_TAIL"))?;
    Ok(KeyDirection { cipher_key: cipher_key.payload.to_vec(), nonce_tail: nonce_tail.array()? })
}

fn read_route(top: &Checked<'_>) -> Result<(IpNet, PeerId)> {
    let nest = top.nest(top::ROUTE)?.ok_or_else(|| missing("ROUTE"))?;
    let peer = peer_id(&nest, route::PEER_ID, "ROUTE.PEER_ID")?;
    let address = nest.find(route::ADDRESS).ok_or_else(|| missing("ROUTE.ADDRESS"))?.ip()?;
    let length = nest.u32(route::PREFIX_LENGTH)?.ok_or_else(|| missing("ROUTE.PREFIX_LENGTH"))?;
    let length = u8::try_from(length).map_err(|_| invalid("ROUTE.PREFIX_LENGTH"))?;
    Ok((IpNet::new(address, length).map_err(|_| invalid("ROUTE.PREFIX_LENGTH"))?, peer))
}

impl Command {
    /// A transport to be opened, for the engine's dialect: the request and the descriptors to pass with it.
    pub fn transport_open(
        source: SocketSource,
        port: std::os::fd::OwnedFd,
    ) -> (Self, Vec<std::os::fd::OwnedFd>) {
        dialect::open(source, port)
    }
}
