//! The client side: an engine in another process as a [`DataPlane`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use ovpn_dco::netlink::{
    self, Command, ENGINE_FAMILY, NewPeer, Request, SocketRef, decode_capabilities, decode_device,
    decode_drops, decode_event, decode_key, decode_opened, decode_peer, error_from,
};
use ovpn_dco::{
    Capabilities, DataPlane, Device, Drops, Error, ErrorKind, Event, EventSource, KeyConfig, KeyInfo,
    KeySlot, PeerConfig, PeerId, PeerInfo, PeerUpdate, Result, SocketSource, Transport,
};
use ovpn_sys::netlink::message::{MessageBuilder, NLM_F_ACK, NLM_F_REQUEST, messages, set_sequence};
use ovpn_sys::seqpacket::Seqpacket;
use zeroize::Zeroizing;

use super::remote_port::RemotePort;
use super::{HISTORY, RTM_DELLINK, path};

/// Longest answer, bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// An engine that runs as a process of its own.
pub(crate) struct RemoteEngine {
    connection: Mutex<Connection>,
    socket: std::path::PathBuf,
    device: Device,
    capabilities: Capabilities,
}

impl RemoteEngine {
    /// Connects to the engine that serves an interface of this network namespace.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchDevice`] where there is none.
    pub(crate) fn connect(iface: &str) -> Result<Self> {
        Self::connect_to(&path::socket(iface)?).map_err(|error| match error.kind() {
            ErrorKind::NoSuchDevice => {
                // It may have been killed.
                path::clean();
                Error::new(ErrorKind::NoSuchDevice, format!("no engine serves {iface}"))
            }
            _ => error,
        })
    }

    /// Connects to the engine behind a control socket.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchDevice`] where nobody listens.
    pub(crate) fn connect_to(socket: &Path) -> Result<Self> {
        let mut connection = Connection::open(socket)?;
        // One that ends at this moment is as good as none.
        let answer = connection.reply(Command::CapabilitiesGet).map_err(|error| match error.kind() {
            ErrorKind::Gone => Error::new(ErrorKind::NoSuchDevice, error.detail()),
            _ => error,
        })?;
        Ok(Self {
            device: decode_device(&answer)?,
            capabilities: decode_capabilities(&answer)?,
            connection: Mutex::new(connection),
            socket: socket.into(),
        })
    }

    /// Ends the engine, and its device with it; returns when both are gone.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] when it ended by itself meanwhile.
    pub(crate) fn delete(self) -> Result<()> {
        let mut connection = self.lock();
        let message = MessageBuilder::new(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK).header(&[0; 16]).finish();
        connection.exchange(message.into(), &[], 0).map(|_| ())
    }

    /// As [`events`](DataPlane::events), beginning with the latest thousand that happened before.
    ///
    /// # Errors
    /// As [`events`](DataPlane::events).
    pub(crate) fn events_from_start(&self) -> Result<RemoteEvents> {
        RemoteEvents::open(&self.socket, HISTORY)
    }

    /// As [`events`](DataPlane::events).
    ///
    /// # Errors
    /// As [`events`](DataPlane::events).
    pub(crate) fn events_from_now(&self) -> Result<RemoteEvents> {
        RemoteEvents::open(&self.socket, 0)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic between two messages leaves nothing half done here.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, command: Command) -> Result<()> {
        self.lock().call(command, &[]).map(|_| ())
    }
}

impl DataPlane for RemoteEngine {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn device(&self) -> &Device {
        &self.device
    }

    /// None where the engine ended meanwhile.
    fn drops(&self) -> Vec<Drops> {
        let parts = self.lock().call(Command::DropsGet, &[]).unwrap_or_default();
        parts.iter().filter_map(|part| decode_drops(part).ok()).collect()
    }

    fn transport_open(&self, source: SocketSource) -> Result<Transport> {
        let (port, theirs) = RemotePort::new()?;
        let (command, fds) = Command::transport_open(source, OwnedFd::from(theirs));
        let opened = decode_opened(&self.lock().one(command, &fds)?)?;
        Ok(Transport { id: opened.id, protocol: opened.protocol, port: Box::new(port) })
    }

    fn peer_new(&self, peer: &PeerConfig) -> Result<()> {
        self.ask(Command::PeerNew(NewPeer {
            id: peer.id,
            tx_id: peer.tx_id,
            socket: SocketRef::Transport(peer.transport),
            remote: peer.remote,
            local: peer.local,
            vpn: peer.vpn,
            keepalive: None,
            framing: peer.framing,
            fragment: peer.fragment,
        }))
    }

    fn peer_set(&self, id: PeerId, update: &PeerUpdate) -> Result<()> {
        self.ask(Command::PeerSet { id, update: update.clone() })
    }

    fn peer_get(&self, id: PeerId) -> Result<PeerInfo> {
        decode_peer(&self.lock().reply(Command::PeerGet(id))?)
    }

    fn peer_dump(&self) -> Result<Vec<PeerInfo>> {
        let parts = self.lock().call(Command::PeerDump, &[])?;
        parts.iter().map(|part| decode_peer(part)).collect()
    }

    fn peer_del(&self, id: PeerId) -> Result<()> {
        self.ask(Command::PeerDel(id))
    }

    fn peer_exit(&self, _id: PeerId) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "this data plane sends nothing but what comes from its device",
        ))
    }

    fn key_new(&self, peer: PeerId, slot: KeySlot, key: &KeyConfig) -> Result<()> {
        self.ask(Command::KeyNew { peer, slot, key: key.clone() })
    }

    fn key_get(&self, peer: PeerId, slot: KeySlot) -> Result<KeyInfo> {
        decode_key(&self.lock().reply(Command::KeyGet { peer, slot })?)
    }

    fn key_swap(&self, peer: PeerId) -> Result<()> {
        self.ask(Command::KeySwap(peer))
    }

    fn key_del(&self, peer: PeerId, slot: KeySlot) -> Result<()> {
        self.ask(Command::KeyDel { peer, slot })
    }

    fn route_add(&self, prefix: IpNet, peer: PeerId) -> Result<()> {
        self.ask(Command::RouteAdd(prefix, peer))
    }

    fn route_del(&self, prefix: IpNet, peer: PeerId) -> Result<()> {
        self.ask(Command::RouteDel(prefix, peer))
    }

    fn events(&self) -> Result<Box<dyn EventSource>> {
        Ok(Box::new(self.events_from_now()?))
    }
}

/// Events of an engine process, over a connection of their own. The end of the engine is the last of them.
pub(crate) struct RemoteEvents {
    socket: Seqpacket,
    buffer: Vec<u8>,
    gone: bool,
    ifindex: u32,
}

impl RemoteEvents {
    fn open(path: &Path, flags: u16) -> Result<Self> {
        let mut connection = Connection::open(path)?;
        let answer = connection.reply(Command::CapabilitiesGet)?;
        let ifindex = decode_device(&answer)?.ifindex;
        let mut message = encode(Command::Subscribe);
        if let Some(place) = message.get_mut(6..8) {
            let flags = u16::from_ne_bytes([place[0], place[1]]) | flags;
            place.copy_from_slice(&flags.to_ne_bytes());
        }
        connection.exchange(message, &[], netlink::command::SUBSCRIBE)?;
        connection.socket.set_nonblocking()?;
        Ok(Self { socket: connection.socket, buffer: connection.buffer, gone: false, ifindex })
    }

    /// The interface index of the engine's device.
    pub(crate) const fn ifindex(&self) -> u32 {
        self.ifindex
    }
}

impl EventSource for RemoteEvents {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if self.gone {
                return Ok(None);
            }
            let len = match self.socket.recv(&mut self.buffer) {
                Ok((0, _)) => {
                    self.gone = true;
                    return Ok(Some(Event::DataPlaneGone));
                }
                Ok((len, _)) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(_) => {
                    self.gone = true;
                    return Ok(Some(Event::DataPlaneGone));
                }
            };
            let message = messages(self.buffer.get(..len).unwrap_or_default()).next();
            let Some(Ok(message)) = message else { continue };
            match decode_event(&message) {
                Ok(Some((_, event))) => return Ok(Some(event)),
                // Of a newer engine: nothing that we could act on.
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "notification that cannot be read"),
            }
        }
    }
}

/// One connection: a request, its answers.
struct Connection {
    socket: Seqpacket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(path: &Path) -> Result<Self> {
        let socket = Seqpacket::connect(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::new(ErrorKind::NoSuchDevice, "no engine listens there")
            }
            _ => error.into(),
        })?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; MAX_ANSWER] })
    }

    /// Sends a command, gives the payloads of all answers.
    fn call(&mut self, command: Command, fds: &[OwnedFd]) -> Result<Vec<Vec<u8>>> {
        let number = command.number();
        self.exchange(encode(command), fds, number)
    }

    /// The one answer of a command.
    fn one(&mut self, command: Command, fds: &[OwnedFd]) -> Result<Vec<u8>> {
        let answers = self.call(command, fds)?;
        answers
            .into_iter()
            .next()
            .ok_or_else(|| Error::new(ErrorKind::System(5), "the engine gave no answer"))
    }

    fn reply(&mut self, command: Command) -> Result<Vec<u8>> {
        self.one(command, &[])
    }

    /// Sends a message and collects what answers it, up to its acknowledgement.
    fn exchange(
        &mut self,
        mut message: Zeroizing<Vec<u8>>,
        fds: &[OwnedFd],
        command: u8,
    ) -> Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        set_sequence(&mut message, self.sequence, 0);
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.socket.send(&message, &fds).map_err(gone)?;
        let mut answers = Vec::new();
        loop {
            let len = match self.socket.recv(&mut self.buffer) {
                Ok((0, _)) => return Err(Error::new(ErrorKind::Gone, "the engine has ended")),
                Ok((len, _)) => len,
                Err(error) => return Err(gone(error)),
            };
            for message in messages(self.buffer.get(..len).unwrap_or_default()) {
                let malformed = |error| Error::new(ErrorKind::System(5), format!("{error}"));
                let message = message.map_err(malformed)?;
                if message.sequence != self.sequence {
                    // The rest of an exchange that was broken off.
                    continue;
                }
                match message.ack().map_err(malformed)? {
                    Some(ack) => {
                        return match ack.into_result() {
                            Ok(()) => Ok(answers),
                            Err(error) => Err(error_from(&error, command)),
                        };
                    }
                    None => answers.push(message.payload.to_vec()),
                }
            }
        }
    }
}

/// The engine has one device: no interface index is needed.
fn encode(command: Command) -> Zeroizing<Vec<u8>> {
    Request { ifindex: 0, command }.encode(ENGINE_FAMILY)
}

fn gone(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            Error::new(ErrorKind::Gone, "the engine has ended")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Error::new(ErrorKind::Gone, "the engine does not answer")
        }
        _ => error.into(),
    }
}
