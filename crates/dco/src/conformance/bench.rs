//! A device under test with its events, sockets to give it, and what is asked of its answers.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use super::{Factory, LIMIT, Verdict};
use crate::{
    CipherAlg, ControlPort, DataFormat, DataPlane, DelReason, Driver, Event, EventSource, Framing, Keepalive,
    KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig, PeerId, PeerUpdate, Result, SocketSource,
    Transport, TransportId, VpnAddrs,
};

pub(super) const EINVAL: i32 = 22;
pub(super) const ENOENT: i32 = 2;
pub(super) const ENOTSOCK: i32 = 88;
pub(super) const EEXIST: i32 = 17;
pub(super) const EADDRINUSE: i32 = 98;
pub(super) const EADDRNOTAVAIL: i32 = 99;
pub(super) const ERANGE: i32 = 34;

/// How long nothing must happen before it counts as nothing.
pub(super) const QUIET: Duration = Duration::from_millis(200);

pub(super) type Done = std::result::Result<Verdict, String>;
pub(super) type Check<T = ()> = std::result::Result<T, String>;

/// A device under test.
pub(super) struct Bench {
    pub(super) plane: Box<dyn DataPlane>,
    pub(super) events: Box<dyn EventSource>,
    limit: Duration,
    /// By how much limits are longer than on ordinary hardware.
    pub(super) patience: u32,
}

impl Bench {
    pub(super) fn open(factory: &dyn Factory, mode: Mode) -> Check<Self> {
        let plane = factory.open(mode).map_err(|error| format!("open a device: {error}"))?;
        let events = plane.events().map_err(|error| format!("subscribe to events: {error}"))?;
        // Without IPv6 the system sends nothing of its own accord, so that counters can be compared.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", plane.device().name), "1");
        let net = ovpn_sys::netlink::route::Rtnetlink::open().map_err(|error| error.to_string())?;
        let up = ovpn_sys::netlink::route::LinkChange { up: Some(true), ..Default::default() };
        net.link_change(plane.device().ifindex, &up).map_err(|error| error.to_string())?;
        Ok(Self { plane, events, limit: LIMIT * factory.patience(), patience: factory.patience() })
    }

    pub(super) fn p2p(factory: &dyn Factory) -> Check<Self> {
        Self::open(factory, Mode::P2p)
    }

    pub(super) fn multi(factory: &dyn Factory) -> Check<Self> {
        Self::open(factory, Mode::MultiPeer)
    }

    pub(super) fn is(&self, driver: Driver) -> bool {
        self.plane.capabilities().driver == driver
    }

    /// A transport over a new UDP socket on the loopback device.
    pub(super) fn udp(&self) -> Check<(Transport, SocketAddr)> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
        let address = socket.local_addr().map_err(text)?;
        let transport = self.open_transport(socket.into())?;
        Ok((transport, address))
    }

    /// A transport over a new TCP connection, and its other end.
    pub(super) fn tcp(&self) -> Check<(Transport, TcpStream)> {
        let (own, other) = tcp_pair()?;
        Ok((self.open_transport(own.into())?, other))
    }

    pub(super) fn open_transport(&self, socket: OwnedFd) -> Check<Transport> {
        let source = SocketSource::Socket(socket);
        self.plane.transport_open(source).map_err(|error| format!("open a transport: {error}"))
    }

    /// A peer on a device of either mode that the driver takes.
    pub(super) fn peer(&self, number: u32, transport: TransportId) -> PeerConfig {
        let mut peer = p2p_peer(number, transport);
        if self.plane.device().mode == Mode::MultiPeer {
            let [_, _, high, low] = (number + 1).to_be_bytes();
            peer.vpn.v4 = Some(Ipv4Addr::new(10, 111, high, low));
        }
        peer
    }

    pub(super) fn add(&self, peer: &PeerConfig) -> Check {
        self.plane.peer_new(peer).map_err(|error| format!("new peer {}: {error}", peer.id))
    }

    /// Ids of all peers, in order.
    pub(super) fn ids(&self) -> Check<Vec<u32>> {
        let peers = self.plane.peer_dump().map_err(|error| format!("dump: {error}"))?;
        let mut ids: Vec<u32> = peers.iter().map(|peer| peer.id.get()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Sets the timers, in seconds.
    pub(super) fn keepalive(&self, id: PeerId, interval: u64, timeout: u64) -> Check {
        let keepalive =
            Keepalive { interval: Duration::from_secs(interval), timeout: Duration::from_secs(timeout) };
        let update = PeerUpdate { keepalive: Some(keepalive), ..PeerUpdate::default() };
        self.plane.peer_set(id, &update).map_err(|error| format!("set keepalive: {error}"))
    }

    /// The next event, waited for.
    pub(super) fn event(&mut self) -> Check<Event> {
        let limit = self.limit;
        next_event(&mut *self.events, limit)
    }

    pub(super) fn expect_deleted(&mut self, id: PeerId, reason: DelReason) -> Check {
        expect(&self.event()?, &Event::PeerDeleted { peer: id, reason })
    }

    /// As [`Self::expect_deleted`], for a TCP connection that the other end has closed: it shows as the one or the
    /// other, by whether something was sent first.
    pub(super) fn expect_disconnected(&mut self, id: PeerId) -> Check {
        let event = self.event()?;
        let reasons = [DelReason::TransportDisconnect, DelReason::TransportError];
        if reasons.iter().any(|reason| event == Event::PeerDeleted { peer: id, reason: *reason }) {
            return Ok(());
        }
        Err(format!("{event:?} instead of a lost transport"))
    }

    /// Demands that nothing is reported for a while.
    pub(super) fn expect_quiet(&mut self) -> Check {
        match next_event(&mut *self.events, QUIET) {
            Ok(event) => Err(format!("unexpected event {event:?}")),
            Err(_) => Ok(()),
        }
    }

    /// Waits until `probe` gives something.
    pub(super) fn wait<T>(&self, what: &str, mut probe: impl FnMut() -> Check<Option<T>>) -> Check<T> {
        let end = Instant::now() + self.limit;
        loop {
            if let Some(found) = probe()? {
                return Ok(found);
            }
            if Instant::now() > end {
                return Err(format!("{what} did not come"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The next control packet of a port, waited for, and where it came from.
    pub(super) fn control(&self, port: &dyn ControlPort) -> Check<(Vec<u8>, SocketAddr)> {
        let mut buf = [0; 2048];
        self.wait("a control packet", || match port.recv(&mut buf) {
            Ok(received) => Ok(Some((buf[..received.len].to_vec(), received.from))),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(format!("receive a control packet: {error}")),
        })
    }

    /// Waits until a port says that its stream has ended.
    pub(super) fn ended(&self, port: &dyn ControlPort) -> Check {
        let mut buf = [0; 2048];
        self.wait("the end of the stream", || match port.recv(&mut buf) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(_) => Ok(Some(())),
            Ok(received) => Err(format!("a packet of {} bytes instead of the end", received.len)),
        })
    }
}

pub(super) fn p2p_peer(number: u32, transport: TransportId) -> PeerConfig {
    PeerConfig {
        id: id(number),
        tx_id: None,
        transport,
        remote: Some("127.0.0.1:9".parse().unwrap_or_else(|_| unreachable!("an address"))),
        local: None,
        vpn: VpnAddrs::default(),
        framing: Framing::None,
        fragment: None,
    }
}

pub(super) fn next_event(source: &mut dyn EventSource, limit: Duration) -> Check<Event> {
    let end = Instant::now() + limit;
    loop {
        if let Some(event) = source.next().map_err(|error| format!("events: {error}"))? {
            return Ok(event);
        }
        if Instant::now() > end {
            return Err("an event did not come".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn tcp_pair() -> Check<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
    let other = TcpStream::connect(listener.local_addr().map_err(text)?).map_err(text)?;
    let own = listener.accept().map_err(text)?.0;
    other.set_read_timeout(Some(Duration::from_secs(30))).map_err(text)?;
    Ok((own, other))
}

/// A descriptor that is no socket.
pub(super) fn no_socket() -> Check<OwnedFd> {
    Ok(File::open("/dev/null").map_err(text)?.into())
}

pub(super) fn text(error: std::io::Error) -> String {
    error.to_string()
}

pub(super) fn id(number: u32) -> PeerId {
    PeerId::new(number).unwrap_or(PeerId::MAX)
}

/// The key of one end of a pair: what `client` encrypts with the other end decrypts with.
pub(super) fn key(cipher: CipherAlg, len: usize, key_id: u8, client: bool) -> KeyConfig {
    let direction = |byte: u8| KeyDirection { cipher_key: vec![byte ^ key_id; len], nonce_tail: [byte; 8] };
    let (encrypt, decrypt) = if client { (0x5A, 0xA6) } else { (0xA6, 0x5A) };
    KeyConfig {
        key_id: KeyId::new(key_id).unwrap_or(KeyId::FIRST),
        cipher,
        format: DataFormat::V2,
        key_len: u8::try_from(len).unwrap_or(u8::MAX),
        encrypt: direction(encrypt),
        decrypt: direction(decrypt),
    }
}

/// Demands an error with this errno.
pub(super) fn refused<T: std::fmt::Debug>(what: &str, errno: i32, result: Result<T>) -> Check {
    match result {
        Err(error) if error.errno() == errno => Ok(()),
        Err(error) => Err(format!("{what}: errno {} instead of {errno}: {error}", error.errno())),
        Ok(answer) => Err(format!("{what}: not refused: {answer:?}")),
    }
}

pub(super) fn accepted<T>(what: &str, result: Result<T>) -> Check<T> {
    result.map_err(|error| format!("{what}: {error}"))
}

pub(super) fn expect<T: std::fmt::Debug + PartialEq>(found: &T, expected: &T) -> Check {
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

/// A pair of devices, a server and a client, connected by UDP and with keys installed.
pub(super) struct Tunnel {
    pub(super) server: Bench,
    pub(super) client: Bench,
    pub(super) server_transport: Transport,
    pub(super) client_transport: Transport,
    pub(super) server_address: SocketAddr,
    pub(super) client_address: SocketAddr,
}

/// Id of the server's peer, and of the client's.
pub(super) const PEER: u32 = 3;

impl Tunnel {
    /// `via`: the address that the client sends to instead of the server's own; it gets the server's.
    pub(super) fn open(
        factory: &dyn Factory,
        (cipher, key_len): (CipherAlg, usize),
        via: impl FnOnce(SocketAddr) -> Check<Option<SocketAddr>>,
    ) -> Check<Self> {
        let (server, client) = (Bench::multi(factory)?, Bench::p2p(factory)?);
        let (server_transport, server_address) = server.udp()?;
        let (client_transport, client_address) = client.udp()?;
        let via = via(server_address)?;
        let remote_of = |own: Option<SocketAddr>, other: SocketAddr| Some(own.unwrap_or(other));
        let mut peer = server.peer(PEER, server_transport.id);
        peer.remote = Some(client_address);
        server.add(&peer)?;
        let mut peer = client.peer(PEER, client_transport.id);
        peer.remote = remote_of(via, server_address);
        client.add(&peer)?;
        for (bench, is_client) in [(&server, false), (&client, true)] {
            let key = key(cipher, key_len, 0, is_client);
            accepted("new key", bench.plane.key_new(id(PEER), KeySlot::Primary, &key))?;
        }
        Ok(Self { server, client, server_transport, client_transport, server_address, client_address })
    }

    pub(super) fn plain(factory: &dyn Factory) -> Check<Self> {
        Self::open(factory, (CipherAlg::AesGcm, 32), |_| Ok(None))
    }
}

pub(super) fn is_loopback(address: Option<SocketAddr>) -> bool {
    address.is_some_and(|address| address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST))
}
