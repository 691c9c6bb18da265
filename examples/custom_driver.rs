//! A data plane of one's own: everything that implements [`DataPlane`] can stand where the engine stands.
//!
//! ```text
//!   control plane ── peers, keys ──▶ Tally ── control packets ──▶ ControlPort
//!                                      └───── data packets ─────▶ counted by peer id, and dropped
//! ```
//!
//! This one carries nothing: it keeps the peers and keys that it is told, parts data from control packets, and counts.
//! A driver for hardware, or for another system's kernel, begins like this; `ovpn_dco::conformance` then says what
//! is still missing.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use ovpn_dco::{
    Capabilities, CipherAlg, ControlPort, Counters, DataPlane, Device, Driver, Drops, Error, ErrorKind,
    EventSource, Keepalive, KeyConfig, KeyInfo, KeySlot, Mode, PeerConfig, PeerId, PeerInfo, PeerStats,
    PeerUpdate, Protocol, Received, Result, SocketSource, Transport, TransportId,
};

/// DATA_V2's opcode, in the upper five bits of the first byte; a peer id of three bytes follows.
const DATA_V2: u8 = 9;

/// The driver.
struct Tally {
    device: Device,
    capabilities: Capabilities,
    peers: Arc<Mutex<HashMap<PeerId, Peer>>>,
}

/// What it knows of a peer.
struct Peer {
    config: PeerConfig,
    keepalive: Keepalive,
    keys: [Option<KeyInfo>; 2],
    received: Counters,
}

impl Tally {
    fn new(name: &str) -> Self {
        let capabilities = Capabilities {
            driver: Driver::Engine,
            version: "tally 1".to_owned(),
            ciphers: vec![CipherAlg::AesGcm],
            aes_192: false,
            epoch: false,
            data_v1: false,
            tcp: false,
            multi_peer: true,
            multi_peer_tcp: false,
            mss: false,
            tx_id: true,
            key_del: true,
            float: false,
            framing: false,
            fragment: false,
            system_routes: true,
            peer_exit: false,
        };
        let device = Device { name: name.to_owned(), ifindex: 0, mode: Mode::MultiPeer };
        Self { device, capabilities, peers: Arc::default() }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a peer that must exist.
    fn with<T>(&self, id: PeerId, act: impl FnOnce(&mut Peer) -> Result<T>) -> Result<T> {
        let mut peers = self.peers();
        let missing = || Error::new(ErrorKind::NoSuchPeer, format!("there is no peer {id}"));
        act(peers.get_mut(&id).ok_or_else(missing)?)
    }
}

const fn index(slot: KeySlot) -> usize {
    match slot {
        KeySlot::Primary => 0,
        KeySlot::Secondary => 1,
    }
}

fn info(id: PeerId, peer: &Peer) -> PeerInfo {
    PeerInfo {
        id,
        tx_id: peer.config.tx_id.unwrap_or(id),
        remote: peer.config.remote,
        local: None,
        vpn: peer.config.vpn,
        keepalive: peer.keepalive,
        stats: PeerStats { link: peer.received, ..PeerStats::default() },
    }
}

impl DataPlane for Tally {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn transport_open(&self, source: SocketSource) -> Result<Transport> {
        let SocketSource::Socket(socket) = source else {
            return Err(Error::new(
                ErrorKind::NotASocket,
                "this driver takes sockets of its caller".to_owned(),
            ));
        };
        let socket = UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        let port = Box::new(Port { socket, peers: Arc::clone(&self.peers) });
        Ok(Transport { id: TransportId(1), protocol: Protocol::Udp, port })
    }

    fn peer_new(&self, peer: &PeerConfig) -> Result<()> {
        peer.vpn.check()?;
        let fresh = Peer {
            config: peer.clone(),
            keepalive: Keepalive::default(),
            keys: [None, None],
            received: Counters::default(),
        };
        self.peers().insert(peer.id, fresh);
        Ok(())
    }

    fn peer_set(&self, id: PeerId, update: &PeerUpdate) -> Result<()> {
        self.with(id, |peer| {
            peer.keepalive = update.keepalive.unwrap_or(peer.keepalive);
            Ok(())
        })
    }

    fn peer_get(&self, id: PeerId) -> Result<PeerInfo> {
        self.with(id, |peer| Ok(info(id, peer)))
    }

    fn peer_dump(&self) -> Result<Vec<PeerInfo>> {
        Ok(self.peers().iter().map(|(id, peer)| info(*id, peer)).collect())
    }

    fn peer_del(&self, id: PeerId) -> Result<()> {
        self.with(id, |_| Ok(()))?;
        self.peers().remove(&id);
        Ok(())
    }

    fn peer_exit(&self, id: PeerId) -> Result<()> {
        // There is nobody to say goodbye to: nothing is sent.
        self.with(id, |_| Ok(()))
    }

    fn key_new(&self, peer: PeerId, slot: KeySlot, key: &KeyConfig) -> Result<()> {
        self.with(peer, |peer| {
            peer.keys[index(slot)] = Some(KeyInfo { key_id: key.key_id, cipher: key.cipher });
            Ok(())
        })
    }

    fn key_get(&self, peer: PeerId, slot: KeySlot) -> Result<KeyInfo> {
        let empty = || Error::new(ErrorKind::NoSuchKey, "the slot is empty".to_owned());
        self.with(peer, |peer| peer.keys[index(slot)].ok_or_else(empty))
    }

    fn key_swap(&self, peer: PeerId) -> Result<()> {
        self.with(peer, |peer| {
            peer.keys.swap(0, 1);
            Ok(())
        })
    }

    fn key_del(&self, peer: PeerId, slot: KeySlot) -> Result<()> {
        self.with(peer, |peer| {
            peer.keys[index(slot)] = None;
            Ok(())
        })
    }

    fn route_add(&self, _: IpNet, peer: PeerId) -> Result<()> {
        self.with(peer, |_| Ok(()))
    }

    fn route_del(&self, _: IpNet, peer: PeerId) -> Result<()> {
        self.with(peer, |_| Ok(()))
    }

    fn drops(&self) -> Vec<Drops> {
        let packets = self.peers().values().map(|peer| peer.received.rx_packets).sum();
        vec![Drops {
            reason: "not-carried".into(),
            description: "Outside: this driver carries nothing.".into(),
            packets,
        }]
    }

    fn events(&self) -> Result<Box<dyn EventSource>> {
        Err(Error::new(ErrorKind::Unsupported, "this driver has nothing to report".to_owned()))
    }
}

/// Its control port: what is no data goes up to the control plane.
struct Port {
    socket: UdpSocket,
    peers: Arc<Mutex<HashMap<PeerId, Peer>>>,
}

impl ControlPort for Port {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        loop {
            let (len, from) = self.socket.recv_from(buf)?;
            match buf.get(..4) {
                Some([first, id @ ..]) if first >> 3 == DATA_V2 => {
                    let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
                    let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(peer) = PeerId::new(id).and_then(|id| peers.get_mut(&id)) {
                        peer.received.rx_packets += 1;
                        peer.received.rx_bytes += len as u64;
                    }
                }
                _ => return Ok(Received { len, from, local: None }),
            }
        }
    }

    fn send(&self, packet: &[u8], to: SocketAddr, _: Option<IpAddr>) -> io::Result<()> {
        self.socket.send_to(packet, to).map(drop)
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // As a control plane would use it, here with packets that it sends to itself.
    let plane: Box<dyn DataPlane> = Box::new(Tally::new("tally0"));
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let (here, sender) = (socket.local_addr()?, UdpSocket::bind("127.0.0.1:0")?);
    let transport = plane.transport_open(SocketSource::Socket(socket.into()))?;
    let id = PeerId::new(7).ok_or("no such id")?;
    plane.peer_new(&PeerConfig {
        id,
        tx_id: None,
        transport: transport.id,
        remote: Some(sender.local_addr()?),
        local: None,
        vpn: ovpn_dco::VpnAddrs::default(),
        framing: ovpn_dco::Framing::None,
        fragment: None,
    })?;
    sender.send_to(&[DATA_V2 << 3, 0, 0, 7, 1, 2, 3, 4], here)?;
    sender.send_to(b"\x38a control packet", here)?;
    let mut buf = [0; 2048];
    let received = loop {
        match transport.port.recv(&mut buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            other => break other?,
        }
    };
    let stats = plane.peer_get(id)?.stats.link;
    println!("control packet of {} bytes from {}", received.len, received.from);
    println!("peer {id}: {} data packets, {} bytes", stats.rx_packets, stats.rx_bytes);
    println!("dropped: {:?}", plane.drops());
    Ok(())
}
