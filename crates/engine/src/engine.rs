//! The engine as a data plane: one device, its workers, its transports.
//!
//! ```text
//!   Engine ──▶ State ◀── workers (threads)
//!                 ├ table    peers, keys, routes
//!                 ├ links    transports by id
//!                 ├ seats    what each worker waits with
//!                 └ events   subscribers
//! ```
//!
//! Locks are taken in the order table, links; none is held while a worker waits.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket as StdUdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use ovpn_dco::{
    Capabilities, CipherAlg, DataPlane, DelReason, Device, Driver, Drops, Error, ErrorKind, Event,
    EventSource, KeyConfig, KeyInfo, KeySlot, Mode, PeerConfig, PeerId, PeerInfo, PeerUpdate, Protocol,
    Result, SocketSource, Transport, TransportId,
};
use ovpn_sys::poll::{Interest, MAX_ANY, Poller};
use ovpn_sys::tcp::TcpSocket;
use ovpn_sys::tun::{Offloads, TunQueue};
use ovpn_sys::udp::{SocketKind, UdpSocket, socket_kind};
use ovpn_sys::wake::Wake;

use crate::control_port::{ControlQueue, Port};
use crate::device;
use crate::drop_reason::DropReason;
use crate::event_hub::EventHub;
use crate::peer::lock;
use crate::peer_table::{PeerTable, TableConfig};
use crate::system_routes::RouteMirror;
use crate::time::Timestamp;
use crate::transport::tcp::TcpLink;
use crate::transport::udp::UdpLink;
use crate::transport::{Link, LinkKind};
use crate::worker::{ROUTES, WAKE, Worker};

/// How long a TCP connection that the engine makes itself may take.
const CONNECT: Duration = Duration::from_secs(10);

/// What an engine is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Interface name; `tun`, or one with `%d`, takes the next free number. A TUN device that exists and is not in use
    /// is taken over and stays afterwards.
    pub name: String,
    /// One peer or many.
    pub mode: Mode,
    /// MTU to set, bytes; `None` sets 1416, as the kernel's driver does, on a new device and leaves an existing one's.
    pub mtu: Option<u32>,
    /// How many threads move packets.
    pub workers: Workers,
    /// Take keys with the cipher `none`: packets go unencrypted. For tests that ask for it by name.
    pub allow_none_cipher: bool,
}

/// How the threads share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Workers {
    /// Chosen by the number of cores.
    #[default]
    Auto,
    /// One thread for everything.
    One,
    /// So many threads, each with a queue of the device and a part of the transports.
    Many(usize),
}

impl EngineConfig {
    /// The usual engine.
    pub fn new(name: impl Into<String>, mode: Mode) -> Self {
        Self { name: name.into(), mode, mtu: None, workers: Workers::Auto, allow_none_cipher: false }
    }
}

/// The userspace data plane: a TUN device and the threads that move its packets. Dropping it removes the device
/// (unless it was there before) and all peers.
pub struct Engine {
    state: Arc<State>,
    device: Device,
    capabilities: Capabilities,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) type Links = HashMap<TransportId, Arc<Link>>;

/// What workers, ports and the engine's owner share.
pub(crate) struct State {
    pub(crate) table: PeerTable,
    pub(crate) seats: Vec<Seat>,
    pub(crate) offloads: Offloads,
    /// Several workers seal for the same peer.
    pub(crate) shares_peers: bool,
    mode: Mode,
    events: Arc<EventHub>,
    links: RwLock<Links>,
    next_transport: AtomicU64,
    closed: AtomicBool,
    carrier: Mutex<Carrier>,
    routes: Mutex<Option<RouteMirror>>,
}

/// What one worker waits with.
pub(crate) struct Seat {
    /// Everything that is seldom ready, or one of many.
    pub(crate) poller: Arc<Poller>,
    pub(crate) wake: Arc<Wake>,
    /// UDP transports, which are few and busy.
    busy: Mutex<Vec<Arc<Link>>>,
    /// Counts the changes of `busy`.
    generation: AtomicU64,
}

/// How many UDP transports of a worker are waited for with the device and the busiest sender's socket; more than these
/// are with the rest.
const BUSY: usize = MAX_ANY - 3;

struct Carrier {
    queue: Option<TunQueue>,
    on: Option<bool>,
}

impl Engine {
    /// Makes the device and starts the workers.
    ///
    /// # Errors
    /// [`ErrorKind::NotPermitted`] without `CAP_NET_ADMIN`; what the system says to the name.
    pub fn open(config: EngineConfig) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = config.workers.resolve(cores);
        let queues = match workers {
            Workers::Auto | Workers::One => 1,
            Workers::Many(count) => count,
        };
        let tun = device::open(&config.name, queues, config.mtu)?;
        let seats = tun.queues.iter().map(|_| Seat::new()).collect::<io::Result<Vec<_>>>()?;
        let events = Arc::new(EventHub::new(Arc::clone(&seats.first().ok_or_else(no_seat)?.wake)));
        let table_config = TableConfig { mode: config.mode, allow_none_cipher: config.allow_none_cipher };
        let table = PeerTable::new(table_config, Box::new(Arc::clone(&events)));
        let first_queue = tun.queues.first().ok_or_else(no_seat)?;
        let state = Arc::new(State {
            table,
            offloads: tun.offloads,
            shares_peers: tun.queues.len() > 1,
            seats,
            mode: config.mode,
            events,
            links: RwLock::default(),
            next_transport: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            carrier: Mutex::new(Carrier { queue: Some(first_queue.try_clone()?), on: None }),
            routes: Mutex::default(),
        });
        state.update_carrier();
        let device = Device { name: tun.name, ifindex: tun.ifindex, mode: config.mode };
        if config.mode == Mode::MultiPeer {
            state.mirror_routes(device.ifindex)?;
        }
        let mut handles = Vec::new();
        for (number, tun) in tun.queues.into_iter().enumerate() {
            let worker = Worker { number, state: Arc::clone(&state), tun };
            let thread = std::thread::Builder::new().name(format!("{}-{number}", device.name));
            handles.push(thread.spawn(move || worker.run())?);
        }
        if handles.len() < queues {
            tracing::info!(device = %device.name, "made beforehand with one queue, so one worker moves its packets");
        }
        tracing::info!(device = %device.name, workers = handles.len(), offloads = ?state.offloads, "engine started");
        Ok(Self { state, device, capabilities: capabilities(), threads: handles })
    }

    /// Dropped packets by reason, since the device was made.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let mut drops: Vec<_> = self.state.table.drops().iter().collect();
        // The system counts what it could not keep for an open transport.
        let waiting: u64 = self.state.links().values().map(|link| link.dropped()).sum();
        drops[DropReason::ReceiveFull.index()].1 += waiting;
        drops
    }
}

impl Workers {
    fn resolve(self, cores: usize) -> Self {
        match self {
            Self::Auto if cores <= 2 => Self::One,
            Self::Auto => Self::Many((cores / 2).clamp(2, 8)),
            Self::Many(0 | 1) => Self::One,
            Self::Many(count) => Self::Many(count.min(64)),
            other => other,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Release);
        self.state.wake_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a data worker had panicked");
            }
        }
        self.state.table.teardown();
        for (_, link) in self.state.links_mut().drain() {
            link.control.end(io::ErrorKind::ConnectionReset);
        }
        lock(&self.state.carrier).queue = None;
        *lock(&self.state.routes) = None;
        self.state.events.send(&Event::DataPlaneGone);
    }
}

impl DataPlane for Engine {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn drops(&self) -> Vec<Drops> {
        let shown = |(reason, packets): (DropReason, u64)| Drops {
            reason: reason.name().into(),
            description: reason.description().into(),
            packets,
        };
        Self::drops(self).into_iter().map(shown).collect()
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn transport_open(&self, source: SocketSource) -> Result<Transport> {
        let fd = match source {
            SocketSource::Socket(fd) => fd,
            SocketSource::Driver { protocol, local, remote } => make_socket(protocol, local, remote)?,
        };
        self.state.transport_open(fd)
    }

    fn peer_new(&self, peer: &PeerConfig) -> Result<()> {
        let protocol = |state: &State| state.links().get(&peer.transport).map(|link| link.protocol());
        self.state.table.peer_new(peer, protocol(&self.state), self.state.now())?;
        if protocol(&self.state).is_none() {
            // Closed in between.
            self.state.table.remove(peer.id, DelReason::TransportDisconnect);
            return Err(Error::new(ErrorKind::NotASocket, "the transport is closed"));
        }
        self.state.update_carrier();
        Ok(())
    }

    fn peer_set(&self, id: PeerId, update: &PeerUpdate) -> Result<()> {
        self.state.table.peer_set(id, update, self.state.now())?;
        if update.keepalive.is_some() {
            self.state.wake_first();
        }
        Ok(())
    }

    fn peer_get(&self, id: PeerId) -> Result<PeerInfo> {
        let peer = self.state.table.peer(id)?;
        Ok(self.state.complete(peer.info(), peer.transport()))
    }

    fn peer_dump(&self) -> Result<Vec<PeerInfo>> {
        let mut peers: Vec<_> = self.state.table.read().iter().cloned().collect();
        peers.sort_by_key(|peer| peer.id());
        Ok(peers.iter().map(|peer| self.state.complete(peer.info(), peer.transport())).collect())
    }

    fn peer_del(&self, id: PeerId) -> Result<()> {
        self.state.table.peer_del(id)?;
        self.state.update_carrier();
        Ok(())
    }

    fn peer_exit(&self, id: PeerId) -> Result<()> {
        let peer = self.state.table.peer(id)?;
        crate::worker::outbound::say_exit(&self.state, &peer, self.state.now());
        Ok(())
    }

    fn key_new(&self, peer: PeerId, slot: KeySlot, key: &KeyConfig) -> Result<()> {
        self.state.table.key_new(peer, slot, key)
    }

    fn key_get(&self, peer: PeerId, slot: KeySlot) -> Result<KeyInfo> {
        self.state.table.key_get(peer, slot)
    }

    fn key_swap(&self, peer: PeerId) -> Result<()> {
        self.state.table.key_swap(peer)
    }

    fn key_del(&self, peer: PeerId, slot: KeySlot) -> Result<()> {
        self.state.table.key_del(peer, slot)
    }

    fn route_add(&self, _prefix: IpNet, peer: PeerId) -> Result<()> {
        self.state.table.peer(peer).map(drop)
    }

    fn route_del(&self, _prefix: IpNet, peer: PeerId) -> Result<()> {
        self.state.table.peer(peer).map(drop)
    }

    fn events(&self) -> Result<Box<dyn EventSource>> {
        Ok(self.state.events.subscribe()?)
    }
}

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_duration(ovpn_sys::clock::boottime())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn links(&self) -> RwLockReadGuard<'_, Links> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn links_mut(&self) -> RwLockWriteGuard<'_, Links> {
        self.links.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake_all(&self) {
        self.seats.iter().for_each(|seat| seat.wake.set());
    }

    fn wake_first(&self) {
        if let Some(seat) = self.seats.first() {
            seat.wake.set();
        }
    }

    // Transports.

    fn transport_open(self: &Arc<Self>, fd: OwnedFd) -> Result<Transport> {
        let refused = |why: &str| Error::new(ErrorKind::NotASocket, why);
        let kind = socket_kind(fd.as_fd()).ok_or_else(|| refused("neither a UDP nor a TCP socket"))?;
        if self.is_closed() {
            return Err(Error::new(ErrorKind::Gone, "the engine is closed"));
        }
        let id = TransportId(self.next_transport.fetch_add(1, Ordering::Relaxed));
        let worker = id.0 as usize % self.seats.len().max(1);
        let seat = self.seats.get(worker).ok_or_else(no_seat)?;
        let control = Arc::new(ControlQueue::new()?);
        let mut siblings = Vec::new();
        let kind = match kind {
            SocketKind::Udp => {
                let socket = UdpSocket::new(fd)?;
                siblings = self.siblings(&socket, id, worker, &control);
                LinkKind::Udp(UdpLink::new(socket))
            }
            SocketKind::Tcp => {
                let socket =
                    TcpSocket::new(fd).map_err(|e| refused(&format!("not a connected TCP socket: {e}")))?;
                LinkKind::Tcp(TcpLink::new(socket, Arc::clone(&seat.poller), id, self.mode))
            }
        };
        let link = Arc::new(Link { id, worker, control, kind, siblings });
        self.links_mut().insert(id, Arc::clone(&link));
        if let Err(error) = self.seat(&link) {
            self.links_mut().remove(&id);
            self.unseat(&link);
            return Err(error.into());
        }
        let sockets = 1 + link.siblings.len();
        tracing::debug!(id = id.0, protocol = ?link.protocol(), worker, sockets, "transport opened");
        Ok(Transport {
            id,
            protocol: link.protocol(),
            port: Box::new(Port { state: Arc::clone(self), link }),
        })
    }

    /// With many peers on one port, a socket for each of the other workers: the system steers peers to them.
    fn siblings(
        &self,
        socket: &UdpSocket,
        id: TransportId,
        worker: usize,
        control: &Arc<ControlQueue>,
    ) -> Vec<Arc<Link>> {
        let workers = self.seats.len();
        if self.mode == Mode::P2p || workers < 2 {
            return Vec::new();
        }
        let sockets = socket.steer(workers - 1).unwrap_or_else(|error| {
            tracing::debug!(%error, id = id.0, "one worker receives for all peers of this transport");
            Vec::new()
        });
        let others = (1..).map(|n| (worker + n) % workers);
        let link = |(socket, worker)| {
            let (control, kind) = (Arc::clone(control), LinkKind::Udp(UdpLink::new(socket)));
            Arc::new(Link { id, worker, control, kind, siblings: Vec::new() })
        };
        sockets.into_iter().zip(others).map(link).collect()
    }

    /// Lets workers receive from a transport's sockets.
    fn seat(&self, link: &Arc<Link>) -> io::Result<()> {
        for link in std::iter::once(link).chain(&link.siblings) {
            self.seats.get(link.worker).ok_or(io::ErrorKind::NotFound)?.add(link)?;
        }
        Ok(())
    }

    fn unseat(&self, link: &Link) {
        for link in std::iter::once(link).chain(link.siblings.iter().map(Arc::as_ref)) {
            if let Some(seat) = self.seats.get(link.worker) {
                seat.remove(link);
            }
        }
    }

    /// The control plane has let go of a transport.
    pub(crate) fn transport_close(&self, link: &Link) {
        if self.links_mut().remove(&link.id).is_some() {
            self.table.drops().add(DropReason::ReceiveFull, link.dropped());
        }
        self.unseat(link);
        self.table.transport_gone(link.id, DelReason::TransportDisconnect);
        self.update_carrier();
    }

    /// A TCP stream has ended, or is out of step.
    pub(crate) fn stream_ended(&self, link: &Link, reason: DelReason, why: io::ErrorKind) {
        self.unseat(link);
        if let LinkKind::Tcp(tcp) = &link.kind {
            tcp.die();
            tcp.socket.shutdown();
        }
        self.table.transport_gone(link.id, reason);
        link.control.end(why);
        self.update_carrier();
    }

    /// Whether the device should not be read for now.
    pub(crate) fn is_paused(&self) -> bool {
        self.mode == Mode::P2p && self.links().values().any(|link| link.is_paused())
    }

    /// A transport has written what waited.
    pub(crate) fn drained(&self) {
        if self.mode == Mode::P2p && self.seats.len() > 1 {
            self.wake_all();
        }
    }

    /// Fills in what only the transport knows.
    fn complete(&self, mut info: PeerInfo, transport: TransportId) -> PeerInfo {
        let bound = self.links().get(&transport).and_then(|link| link.local_addr());
        if let Some(bound) = bound {
            let unspecified = match info.remote.unwrap_or(bound) {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let ip = info.local.map_or(unspecified, |local| local.ip());
            info.local = Some(SocketAddr::new(ip, bound.port()));
        }
        info
    }

    // Device.

    /// A point-to-point device has a carrier while it has a peer, a multi-peer device always.
    pub(crate) fn update_carrier(&self) {
        let mut carrier = lock(&self.carrier);
        let on = self.mode == Mode::MultiPeer || !self.table.read().is_empty();
        if carrier.on == Some(on) {
            return;
        }
        let Some(queue) = &carrier.queue else { return };
        match queue.set_carrier(on) {
            Ok(()) => carrier.on = Some(on),
            Err(error) => {
                tracing::debug!(%error, "the device's carrier cannot be set");
                carrier.on = Some(on);
            }
        }
    }

    fn mirror_routes(&self, ifindex: u32) -> Result<()> {
        let error = |e: ovpn_sys::netlink::Error| {
            Error::new(ErrorKind::System(5), format!("cannot follow the system's routes: {e}"))
        };
        let mirror = RouteMirror::open(ifindex, &self.table).map_err(error)?;
        if let Some(seat) = self.seats.first() {
            seat.poller.add(mirror.fd(), ROUTES, Interest::Read)?;
        }
        *lock(&self.routes) = Some(mirror);
        Ok(())
    }

    pub(crate) fn routes_changed(&self) {
        if let Some(mirror) = lock(&self.routes).as_mut() {
            mirror.follow(&self.table);
        }
    }
}

impl Seat {
    fn new() -> io::Result<Self> {
        let (poller, wake) = (Poller::new()?, Wake::new()?);
        poller.add(&wake, WAKE, Interest::Read)?;
        Ok(Self {
            poller: Arc::new(poller),
            wake: Arc::new(wake),
            busy: Mutex::default(),
            generation: AtomicU64::new(0),
        })
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The busy transports, and the generation they belong to.
    pub(crate) fn busy(&self) -> (Vec<Arc<Link>>, u64) {
        let busy = lock(&self.busy);
        (busy.clone(), self.generation())
    }

    fn add(&self, link: &Arc<Link>) -> io::Result<()> {
        if link.protocol() == Protocol::Udp {
            let mut busy = lock(&self.busy);
            if busy.len() < BUSY {
                busy.push(Arc::clone(link));
                self.changed();
                return Ok(());
            }
        }
        self.poller.add(&**link, link.id.0, Interest::Read)
    }

    fn remove(&self, link: &Link) {
        let mut busy = lock(&self.busy);
        let before = busy.len();
        busy.retain(|other| other.id != link.id);
        if busy.len() < before {
            self.changed();
        } else {
            // It fails where a stream had ended already.
            let _ = self.poller.remove(link);
        }
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.wake.set();
    }
}

fn make_socket(protocol: Protocol, local: Option<SocketAddr>, remote: Option<SocketAddr>) -> Result<OwnedFd> {
    match (protocol, remote) {
        (Protocol::Udp, _) => {
            let v6 = local.or(remote).is_some_and(|address| address.is_ipv6());
            let any = if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
            let socket = StdUdpSocket::bind(local.unwrap_or(SocketAddr::new(any, 0)))?;
            if let Some(remote) = remote {
                socket.connect(remote)?;
            }
            Ok(socket.into())
        }
        (Protocol::Tcp, Some(remote)) => Ok(TcpStream::connect_timeout(&remote, CONNECT)?.into()),
        (Protocol::Tcp, None) => {
            Err(Error::new(ErrorKind::InvalidArgument, "a TCP transport needs a remote address"))
        }
    }
}

fn no_seat() -> Error {
    Error::new(ErrorKind::OutOfMemory, "no worker")
}

fn capabilities() -> Capabilities {
    Capabilities {
        driver: Driver::Engine,
        version: concat!("ovpn-rs engine ", env!("CARGO_PKG_VERSION")).to_owned(),
        ciphers: vec![CipherAlg::AesGcm, CipherAlg::ChaCha20Poly1305],
        aes_192: true,
        epoch: true,
        data_v1: true,
        tcp: true,
        multi_peer: true,
        multi_peer_tcp: true,
        mss: true,
        tx_id: true,
        key_del: true,
        float: true,
        framing: true,
        fragment: true,
        system_routes: true,
        peer_exit: true,
    }
}
