//! [`Kernel`]: a device of a kernel driver as a [`DataPlane`].

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ipnet::IpNet;
use ovpn_dco::netlink::{Command, NewPeer, Request, SocketRef, error_from};
use ovpn_dco::{
    Capabilities, DataFormat, DataPlane, Device, Drops, Error, ErrorKind, EventSource, Framing, KeyConfig,
    KeyInfo, KeySlot, Mode, PeerConfig, PeerId, PeerInfo, PeerUpdate, Protocol, Result, SocketSource,
    Transport, TransportId,
};
use ovpn_sys::netlink::generic::Family;
use ovpn_sys::netlink::route::{OvpnMode, Rtnetlink};
use ovpn_sys::netlink::socket::{self, Reply, Socket};
use ovpn_sys::netns;
use ovpn_sys::udp::{SocketKind, socket_kind};

use crate::clamp::Clamp;
use crate::device::{self, from_netlink};
use crate::events::{Events, Subscriptions};
use crate::tcp_port::{Phase, TcpPort, TcpTransport};
use crate::udp_port::{UdpPort, UdpTransport};
use crate::{Api, Probe, probe};

/// A device of a kernel driver. Dropping it removes the device with all its peers, unless the device was there
/// before.
#[derive(Debug)]
pub struct Kernel {
    net: Rtnetlink,
    persistent: bool,
    capabilities: Capabilities,
    clamp: Option<Clamp>,
    shared: Arc<Shared>,
}

/// What the sources of events need, too.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) api: Api,
    socket: Socket,
    family: Family,
    pub(crate) device: Device,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next_transport: u64,
    /// Weak, so that dropping the port closes the socket.
    transports: HashMap<TransportId, AnyTransport>,
    /// Every peer that was made here, until it is deleted here.
    peers: HashMap<PeerId, TransportId>,
    /// Where notifications arrive: the namespaces of the device and of all sockets.
    namespaces: Vec<OwnedFd>,
    sources: Vec<Weak<Subscriptions>>,
}

#[derive(Debug, Clone)]
enum AnyTransport {
    Udp(Weak<UdpTransport>),
    Tcp(Weak<TcpTransport>),
}

impl State {
    /// A peer is gone: what was half read of its TCP stream went with it. `kept` is in use again.
    fn forget(&mut self, id: PeerId, kept: Option<TransportId>) {
        if let Some(transport) = self.peers.remove(&id)
            && Some(transport) != kept
            && let Some(AnyTransport::Tcp(tcp)) = self.transports.get(&transport)
            && let Some(tcp) = tcp.upgrade()
        {
            tcp.detach();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, command: Command) -> Result<Vec<Reply>> {
        let number = Api::command_number(&command);
        let dump = matches!(command, Command::PeerDump);
        let request = Request { ifindex: self.device.ifindex, command };
        let bytes = self.api.encode(&self.family, &request)?;
        let answer = match dump {
            true => self.socket.dump_bytes(&bytes),
            false => self.socket.request_bytes(bytes.to_vec()),
        };
        answer.map_err(|error| error_from(&error, number))
    }

    fn peer_get(&self, id: PeerId) -> Result<PeerInfo> {
        let replies = self.ask(Command::PeerGet(id))?;
        let gone = || Error::new(ErrorKind::NoSuchPeer, format!("no peer with id {id}"));
        self.api.decode_peer(&replies.first().ok_or_else(gone)?.payload)
    }

    /// The kernel may have removed a peer by itself: forgets it where it has. Its id may be in use again meanwhile, so
    /// the kernel is asked.
    pub(crate) fn reconcile(&self, id: PeerId) {
        if matches!(self.peer_get(id), Err(error) if error.kind() == ErrorKind::NoSuchPeer) {
            self.state().forget(id, None);
        }
    }

    /// As [`Self::reconcile`], for all peers: notifications were lost.
    pub(crate) fn reconcile_all(&self) {
        let known: Vec<PeerId> = self.state().peers.keys().copied().collect();
        for id in known {
            self.reconcile(id);
        }
    }
}

impl Kernel {
    /// Opens a device with whichever driver the kernel has, the newer one where it has both. A name without number
    /// stands for the first free one. A device that exists is adopted where its kind and mode fit and it has no peers.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the reason where there is no driver; what the system says otherwise.
    pub fn open(name: &str, mode: Mode) -> Result<Self> {
        let found = probe();
        match (found.ovpn, found.dco_v2) {
            (Probe::Available(_), _) => Self::open_with(Api::Ovpn, name, mode),
            (_, Probe::Available(_)) => Self::open_with(Api::DcoV2, name, mode),
            (Probe::Unavailable(why), _) => Err(Error::new(ErrorKind::Unsupported, why)),
        }
    }

    /// As [`Self::open`], with this driver.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(api: Api, name: &str, mode: Mode) -> Result<Self> {
        let (mut kernel, adopted) = Self::on(api, |net| device::open(net, api, name, mode))?;
        if adopted {
            match kernel.peer_dump().map(|peers| peers.len()) {
                Ok(0) => {}
                Ok(peers) => {
                    kernel.persistent = true;
                    return Err(device::busy(&kernel.shared.device, peers));
                }
                Err(error) => {
                    kernel.persistent = true;
                    return Err(error);
                }
            }
        }
        kernel.clamp = Clamp::new(&kernel.shared.device);
        kernel.capabilities.mss = kernel.clamp.is_some();
        tracing::info!(
            device = kernel.shared.device.name,
            driver = kernel.capabilities.version,
            adopted,
            "device opened"
        );
        Ok(kernel)
    }

    /// Joins a device that exists, with the peers it has; it stays when this is dropped. Several programs may be at
    /// one device, each knows the transports that it opened itself.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchDevice`] without such a device; [`ErrorKind::InvalidArgument`] where it is none of a
    /// driver's.
    pub fn join(name: &str) -> Result<Self> {
        let net = Rtnetlink::open().map_err(from_netlink)?;
        let link = net.link_by_name(name).map_err(from_netlink)?;
        let kind = link.kind.clone().unwrap_or_default();
        let api =
            [Api::Ovpn, Api::DcoV2].into_iter().find(|api| api.link_kind() == kind).ok_or_else(|| {
                Error::new(ErrorKind::InvalidArgument, format!("{name} is no device of the ovpn driver"))
            })?;
        let mode = match link.ovpn_mode {
            Some(OvpnMode::MultiPeer) => Mode::MultiPeer,
            _ => Mode::P2p,
        };
        let device = Device { name: link.name, ifindex: link.index, mode };
        Ok(Self::on(api, |_| Ok(device::Opened { device, persistent: true, adopted: true }))?.0)
    }

    /// A driver on a device; and whether the device was there before.
    fn on(api: Api, open: impl FnOnce(&Rtnetlink) -> Result<device::Opened>) -> Result<(Self, bool)> {
        let socket = Socket::open(socket::Protocol::Generic).map_err(from_netlink)?;
        let no_driver =
            || Error::new(ErrorKind::Unsupported, format!("there is no driver {}", api.family_name()));
        let family =
            Family::lookup(&socket, api.family_name()).map_err(from_netlink)?.ok_or_else(no_driver)?;
        let capabilities = api.capabilities(&socket, &family)?;
        let net = Rtnetlink::open().map_err(from_netlink)?;
        let home = netns::current()?;
        let device::Opened { device, persistent, adopted } = open(&net)?;
        let state = State {
            next_transport: 0,
            transports: HashMap::new(),
            peers: HashMap::new(),
            namespaces: vec![home],
            sources: Vec::new(),
        };
        let shared = Arc::new(Shared { api, socket, family, device, state: Mutex::new(state) });
        Ok((Self { net, persistent, capabilities, clamp: None, shared }, adopted))
    }

    /// Whether the device was there before and stays.
    pub const fn is_persistent(&self) -> bool {
        self.persistent
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn tell(&self, command: Command) -> Result<()> {
        self.shared.ask(command).map(|_| ())
    }

    fn unsupported(&self, what: &str) -> Error {
        let driver = self.capabilities.driver;
        Error::new(ErrorKind::Unsupported, format!("the driver {driver} has no {what}"))
    }

    /// Notes the namespace of a socket, and has all sources of events listen there.
    fn note_namespace(&self, socket: impl AsFd) -> Result<()> {
        let Ok(namespace) = netns::of_socket(socket) else { return Ok(()) };
        let mut state = self.state();
        for known in &state.namespaces {
            if netns::same(known, &namespace)? {
                return Ok(());
            }
        }
        state.sources.retain(|source| source.strong_count() > 0);
        let sources: Vec<_> = state.sources.iter().filter_map(Weak::upgrade).collect();
        for source in sources {
            netns::within(&namespace, || source.listen(&self.shared.family))?.map_err(from_netlink)?;
        }
        state.namespaces.push(namespace);
        Ok(())
    }

    fn transport(&self, id: TransportId) -> Result<AnyTransport> {
        let closed = || Error::new(ErrorKind::NotASocket, "the transport is closed");
        self.state().transports.get(&id).cloned().ok_or_else(closed)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if !self.persistent {
            device::remove(&self.net, &self.shared.device);
        }
    }
}

impl DataPlane for Kernel {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The kernel counts what its device drops in four counters, without finer reasons.
    fn drops(&self) -> Vec<Drops> {
        let Ok(link) = self.net.link_get(self.shared.device.ifindex) else { return Vec::new() };
        let counters = link.counters;
        [
            ("received-dropped", "Outside: the driver dropped a received packet.", counters.rx_dropped),
            (
                "received-errors",
                "Outside: a received packet was damaged, forged or a replay.",
                counters.rx_errors,
            ),
            (
                "sent-dropped",
                "Inside: the driver dropped a packet: no route, no key or a full queue.",
                counters.tx_dropped,
            ),
            ("sent-errors", "Inside: a packet could not be encrypted or sent.", counters.tx_errors),
        ]
        .map(|(reason, description, packets)| Drops {
            reason: reason.into(),
            description: description.into(),
            packets,
        })
        .to_vec()
    }

    fn device(&self) -> &Device {
        &self.shared.device
    }

    fn transport_open(&self, source: SocketSource) -> Result<Transport> {
        let SocketSource::Socket(socket) = source else { return Err(self.unsupported("sockets of its own")) };
        let not_a_socket = |what: String| Error::new(ErrorKind::NotASocket, what);
        let kind = socket_kind(socket.as_fd())
            .ok_or_else(|| not_a_socket("the descriptor is neither a UDP nor a TCP socket".into()))?;
        self.note_namespace(&socket)?;
        let refused = |error: std::io::Error| not_a_socket(error.to_string());
        let (transport, protocol, port): (_, _, Box<dyn ovpn_dco::ControlPort>) = match kind {
            SocketKind::Udp => {
                let udp = Arc::new(UdpTransport::new(socket).map_err(refused)?);
                (AnyTransport::Udp(Arc::downgrade(&udp)), Protocol::Udp, Box::new(UdpPort(udp)))
            }
            SocketKind::Tcp => {
                let tcp = Arc::new(TcpTransport::new(socket).map_err(refused)?);
                (AnyTransport::Tcp(Arc::downgrade(&tcp)), Protocol::Tcp, Box::new(TcpPort(tcp)))
            }
        };
        let mut state = self.state();
        state.transports.retain(|_, transport| match transport {
            AnyTransport::Udp(udp) => udp.strong_count() > 0,
            AnyTransport::Tcp(tcp) => tcp.strong_count() > 0,
        });
        let id = TransportId(state.next_transport);
        state.next_transport += 1;
        state.transports.insert(id, transport);
        Ok(Transport { id, protocol, port })
    }

    fn peer_new(&self, peer: &PeerConfig) -> Result<()> {
        if peer.framing != Framing::None {
            return Err(self.unsupported("compression framing"));
        }
        if peer.fragment.is_some() {
            return Err(self.unsupported("fragmentation inside the tunnel"));
        }
        let tx_id = peer.tx_id.filter(|tx_id| *tx_id != peer.id);
        if tx_id.is_some() && !self.capabilities.tx_id {
            return Err(self.unsupported("asymmetric peer ids"));
        }
        let command = |fd: i32| {
            Command::PeerNew(NewPeer {
                id: peer.id,
                tx_id,
                socket: SocketRef::Descriptor(fd.unsigned_abs()),
                remote: peer.remote,
                local: peer.local,
                vpn: peer.vpn,
                keepalive: None,
                framing: Framing::None,
                fragment: None,
            })
        };
        let closed = || Error::new(ErrorKind::NotASocket, "the transport is closed");
        match self.transport(peer.transport)? {
            AnyTransport::Udp(udp) => {
                let udp = udp.upgrade().ok_or_else(closed)?;
                self.tell(command(udp.as_fd().as_raw_fd()))?;
            }
            AnyTransport::Tcp(tcp) => {
                let tcp = tcp.upgrade().ok_or_else(closed)?;
                if self.shared.api == Api::DcoV2 && peer.remote.is_some() {
                    // The older driver does not look.
                    let what = "a peer over TCP has the address of its connection";
                    return Err(Error::new(ErrorKind::InvalidArgument, what));
                }
                let phase = if self.shared.api == Api::Ovpn { Phase::Packets } else { Phase::Mixed };
                tcp.attach(phase, || self.tell(command(tcp.as_fd().as_raw_fd())))?;
            }
        }
        let mut state = self.state();
        if self.shared.device.mode == Mode::P2p {
            // the peer before this one was replaced
            let before: Vec<PeerId> = state.peers.keys().copied().collect();
            for id in before {
                state.forget(id, Some(peer.transport));
            }
        }
        state.peers.insert(peer.id, peer.transport);
        Ok(())
    }

    fn peer_set(&self, id: PeerId, update: &PeerUpdate) -> Result<()> {
        if let (Some(mss), Some(clamp)) = (update.mss, &self.clamp) {
            clamp.set(mss);
        }
        if update.tx_id.is_some() && !self.capabilities.tx_id {
            return Err(self.unsupported("asymmetric peer ids"));
        }
        self.tell(Command::PeerSet { id, update: PeerUpdate { mss: None, ..update.clone() } })
    }

    fn peer_get(&self, id: PeerId) -> Result<PeerInfo> {
        self.shared.peer_get(id)
    }

    fn peer_dump(&self) -> Result<Vec<PeerInfo>> {
        if self.shared.device.mode == Mode::P2p && !self.shared.api.dumps_p2p() {
            let known: Vec<PeerId> = self.state().peers.keys().copied().collect();
            let found = known.into_iter().map(|id| self.peer_get(id));
            return found
                .filter(|peer| !matches!(peer, Err(e) if e.kind() == ErrorKind::NoSuchPeer))
                .collect();
        }
        self.shared
            .ask(Command::PeerDump)?
            .iter()
            .map(|reply| self.shared.api.decode_peer(&reply.payload))
            .collect()
    }

    fn peer_del(&self, id: PeerId) -> Result<()> {
        let result = self.tell(Command::PeerDel(id));
        self.state().forget(id, None);
        result
    }

    fn peer_exit(&self, _id: PeerId) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "this data plane sends nothing but what comes from its device",
        ))
    }

    fn key_new(&self, peer: PeerId, slot: KeySlot, key: &KeyConfig) -> Result<()> {
        if key.format != DataFormat::V2 {
            return Err(self.unsupported("such packet format"));
        }
        if usize::from(key.key_len) != key.encrypt.cipher_key.len() {
            return Err(Error::new(ErrorKind::BadKey, "the key's length differs from the cipher's"));
        }
        self.tell(Command::KeyNew { peer, slot, key: key.clone() })
    }

    fn key_get(&self, peer: PeerId, slot: KeySlot) -> Result<KeyInfo> {
        let replies = self.shared.ask(Command::KeyGet { peer, slot })?;
        let empty = || Error::new(ErrorKind::NoSuchKey, "the slot is empty");
        self.shared.api.decode_key(&replies.first().ok_or_else(empty)?.payload)
    }

    fn key_swap(&self, peer: PeerId) -> Result<()> {
        self.tell(Command::KeySwap(peer))
    }

    fn key_del(&self, peer: PeerId, slot: KeySlot) -> Result<()> {
        self.tell(Command::KeyDel { peer, slot })
    }

    fn route_add(&self, _: IpNet, _: PeerId) -> Result<()> {
        Ok(())
    }

    fn route_del(&self, _: IpNet, _: PeerId) -> Result<()> {
        Ok(())
    }

    fn events(&self) -> Result<Box<dyn EventSource>> {
        let subscriptions = Arc::new(Subscriptions::new()?);
        let mut state = self.state();
        for namespace in &state.namespaces {
            let listening = netns::within(namespace, || subscriptions.listen(&self.shared.family));
            listening?.map_err(from_netlink)?;
        }
        state.sources.retain(|source| source.strong_count() > 0);
        state.sources.push(Arc::downgrade(&subscriptions));
        Ok(Box::new(Events {
            driver: Arc::downgrade(&self.shared),
            api: self.shared.api,
            ifindex: self.shared.device.ifindex,
            subscriptions,
            pending: VecDeque::new(),
        }))
    }
}
