//! The control side of an engine process: connections, their requests, and what they want to hear of.
//!
//! ```text
//!   connection ── request ──▶ dco::netlink::serve ──▶ the engine
//!              ◀── answers ──┘
//!              ◀── notifications, once subscribed ◀── the engine's events
//!   transport's owner ◀── control packets ──▶ Relay ◀──▶ the engine
//! ```
//!
//! One thread, one loop. A connection that ends takes nothing with it but its subscription; a transport lives as long
//! as its owner's end of the socket pair, in whatever process that is. Beyond the messages of [`ovpn_dco::netlink`]:
//! a message of type RTM_DELLINK ends the engine, as it ends the kernel's device.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ovpn_dco::netlink::{ENGINE_FAMILY, Host, encode_ack, encode_event, serve};
use ovpn_dco::{
    DataPlane, DelReason, Error, ErrorKind, Event, EventSource, Protocol, SocketSource, TransportId,
};
use ovpn_sys::netlink::message::{HEADER_LEN, messages};
use ovpn_sys::poll::{Interest, Poller, Ready};
use ovpn_sys::seqpacket::{Listener, Seqpacket};

use super::relay::{Relay, State, message_buffer};
use super::{HISTORY, RTM_DELLINK};

const LISTENER: u64 = 0;
const EVENTS: u64 = 1;
const STOP: u64 = 2;
const FIRST_FREE: u64 = 8;

/// So many notifications are remembered for those who come late.
const REMEMBERED: usize = 1024;

/// A subscriber that is so many messages behind loses the next ones, and is told so.
const MAX_BEHIND: usize = 4096;

/// The serving loop of one engine.
pub(super) struct Server<'a> {
    plane: &'a dyn DataPlane,
    poller: Poller,
    listener: Listener,
    events: Box<dyn EventSource>,
    next_token: u64,
    connections: HashMap<u64, Connection>,
    transports: HashMap<TransportId, Served>,
    /// Which transport a token belongs to, and which side of it.
    sides: HashMap<u64, (TransportId, Side)>,
    history: VecDeque<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Port,
    Owner,
}

/// A transport with its owner.
struct Served {
    relay: Relay,
    port_token: u64,
    owner_token: u64,
    /// What is waited for at the moment.
    full: bool,
    ended: bool,
}

struct Connection {
    socket: Seqpacket,
    out: VecDeque<Vec<u8>>,
    subscribed: bool,
    lost: bool,
    /// Transports opened in the kernel's way, without a port; they end with the connection.
    portless: Vec<(FileId, ovpn_dco::Transport)>,
}

/// What makes two descriptors one file.
type FileId = (u64, u64);

/// How the loop ended.
pub(super) enum End {
    /// Somebody asked for it; to be acknowledged when the device is gone.
    Deleted(Farewell),
    /// The process was told to stop.
    Stopped,
    /// The device went away under the engine.
    DeviceGone,
}

/// The acknowledgement of an engine's deletion, still to be sent.
pub(super) struct Farewell {
    socket: Seqpacket,
    message: Vec<u8>,
}

impl Farewell {
    /// Sends it.
    pub(super) fn send(self) {
        // Who asked may have left.
        let _ = self.socket.send(&self.message, &[]);
    }
}

impl<'a> Server<'a> {
    /// Serves `plane` on `listener` until `stop` becomes readable.
    ///
    /// # Errors
    /// When descriptors run out or the engine gives no events.
    pub(super) fn new(
        plane: &'a dyn DataPlane,
        listener: Listener,
        stop: impl AsFd,
    ) -> ovpn_dco::Result<Self> {
        let poller = Poller::new()?;
        let events = plane.events()?;
        poller.add(&listener, LISTENER, Interest::Read)?;
        poller.add(events.fd(), EVENTS, Interest::Read)?;
        poller.add(stop, STOP, Interest::Read)?;
        Ok(Self {
            plane,
            poller,
            listener,
            events,
            next_token: FIRST_FREE,
            connections: HashMap::new(),
            transports: HashMap::new(),
            sides: HashMap::new(),
            history: VecDeque::new(),
        })
    }

    /// Runs until the end.
    ///
    /// # Errors
    /// When waiting itself fails.
    pub(super) fn run(mut self) -> io::Result<End> {
        let mut ready = Vec::new();
        let mut buffer = message_buffer();
        loop {
            self.poller.wait(&mut ready, None)?;
            // Who closed a transport before asking for something has closed it.
            ready.sort_by_key(|ready| !self.sides.contains_key(&ready.token));
            for Ready { token, readable, writable } in ready.drain(..) {
                match token {
                    LISTENER => self.accept(),
                    EVENTS => {
                        if self.forward_events() {
                            return Ok(End::DeviceGone);
                        }
                    }
                    STOP => {
                        self.say_goodbye();
                        return Ok(End::Stopped);
                    }
                    _ if self.sides.contains_key(&token) => self.relay(token, &mut buffer),
                    _ => {
                        if writable {
                            self.flush(token);
                        }
                        if readable && let Some(farewell) = self.serve(token, &mut buffer) {
                            self.say_goodbye();
                            return Ok(End::Deleted(farewell));
                        }
                    }
                }
            }
        }
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    // ---- connections ----

    fn accept(&mut self) {
        while let Ok(socket) = self.listener.accept() {
            match socket.peer_uid() {
                Ok(uid) if uid == 0 || uid == ovpn_sys::seqpacket::own_uid() => {}
                _ => continue,
            }
            let token = self.token();
            if let Err(error) = self.poller.add(&socket, token, Interest::Read) {
                tracing::warn!(%error, "connection refused");
                continue;
            }
            let connection = Connection {
                socket,
                out: VecDeque::new(),
                subscribed: false,
                lost: false,
                portless: Vec::new(),
            };
            self.connections.insert(token, connection);
        }
    }

    /// Reads one request of a connection and answers it. A request to end the engine is handed up.
    fn serve(&mut self, token: u64, buffer: &mut [u8]) -> Option<Farewell> {
        let connection = self.connections.get(&token)?;
        let (len, fds) = match connection.socket.recv(buffer) {
            Ok((0, _)) => {
                self.connections.remove(&token);
                return None;
            }
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => {
                tracing::debug!(%error, "connection ended");
                self.connections.remove(&token);
                return None;
            }
        };
        let request = buffer.get(..len).unwrap_or_default();
        let header = request.first_chunk::<HEADER_LEN>()?;
        let message = messages(request).next().and_then(Result::ok);
        if message.is_some_and(|message| message.kind == RTM_DELLINK) {
            let message = encode_ack(header, &Ok(()));
            let connection = self.connections.remove(&token)?;
            return Some(Farewell { socket: connection.socket, message });
        }
        let history = message.is_some_and(|message| message.flags & HISTORY != 0);
        let plane = self.plane;
        let answers = serve(request, fds, plane, &mut Guest { server: self, token, history });
        // Key material may be in there.
        if let Some(used) = buffer.get_mut(..len) {
            used.fill(0);
        }
        if let Some(connection) = self.connections.get_mut(&token) {
            // Answers go before the notifications of a subscription that they acknowledge.
            for answer in answers.into_iter().rev() {
                connection.out.push_front(answer);
            }
        }
        self.flush(token);
        None
    }

    /// Sends what waits for a connection.
    fn flush(&mut self, token: u64) {
        let ifindex = self.plane.device().ifindex;
        let Some(connection) = self.connections.get_mut(&token) else { return };
        loop {
            let Some(message) = connection.out.front() else {
                if std::mem::take(&mut connection.lost)
                    && let Some(message) = encode_event(ENGINE_FAMILY, ifindex, &Event::Lost)
                {
                    connection.out.push_back(message);
                    continue;
                }
                break;
            };
            match connection.socket.send(message, &[]) {
                Ok(()) => {
                    connection.out.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.connections.remove(&token);
                    return;
                }
            }
        }
        let interest = if connection.out.is_empty() { Interest::Read } else { Interest::ReadWrite };
        if let Err(error) = self.poller.modify(&connection.socket, token, interest) {
            tracing::warn!(%error, "connection dropped");
            self.connections.remove(&token);
        }
    }

    // ---- events ----

    /// Passes events on; true when the device is gone.
    fn forward_events(&mut self) -> bool {
        loop {
            match self.events.next() {
                Ok(Some(Event::DataPlaneGone)) => return true,
                Ok(Some(event)) => self.notify(&event),
                Ok(None) => return false,
                Err(error) => {
                    tracing::warn!(%error, "the engine gives no more events");
                    return true;
                }
            }
        }
    }

    fn notify(&mut self, event: &Event) {
        let Some(message) = encode_event(ENGINE_FAMILY, self.plane.device().ifindex, event) else { return };
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back(event.clone());
        let mut to_flush = Vec::new();
        for (token, connection) in self.connections.iter_mut().filter(|(_, c)| c.subscribed) {
            if connection.out.len() >= MAX_BEHIND {
                connection.lost = true;
            } else {
                connection.out.push_back(message.clone());
            }
            to_flush.push(*token);
        }
        for token in to_flush {
            self.flush(token);
        }
    }

    /// Says that every peer goes with the device, as the kernel does.
    fn say_goodbye(&mut self) {
        self.forward_events();
        for peer in self.plane.peer_dump().unwrap_or_default() {
            self.notify(&Event::PeerDeleted { peer: peer.id, reason: DelReason::Teardown });
        }
    }

    // ---- transports ----

    fn add_transport(&mut self, transport: ovpn_dco::Transport, owner: Seqpacket) -> io::Result<()> {
        let id = transport.id;
        let relay = Relay::new(transport, owner)?;
        let (port_token, owner_token) = (self.token(), self.token());
        self.poller.add(relay.port_fd(), port_token, Interest::Read)?;
        self.poller.add(relay.owner_fd(), owner_token, Interest::Read)?;
        self.sides.insert(port_token, (id, Side::Port));
        self.sides.insert(owner_token, (id, Side::Owner));
        self.transports.insert(id, Served { relay, port_token, owner_token, full: false, ended: false });
        Ok(())
    }

    fn remove_transport(&mut self, id: TransportId) {
        if let Some(served) = self.transports.remove(&id) {
            self.sides.remove(&served.port_token);
            self.sides.remove(&served.owner_token);
            // Dropping the relay drops the engine's port: the engine then deletes the transport's peers.
            let _ = self.poller.remove(served.relay.port_fd());
            let _ = self.poller.remove(served.relay.owner_fd());
        }
    }

    fn relay(&mut self, token: u64, buffer: &mut [u8]) {
        let Some(&(id, side)) = self.sides.get(&token) else { return };
        let Some(served) = self.transports.get_mut(&id) else { return };
        // An owner's end that became writable is served like the port: what waits for room goes first.
        let first_out = side == Side::Port || served.full;
        let mut state = if first_out { served.relay.outward(buffer) } else { State::Open };
        if side == Side::Owner && state != State::Abandoned && served.relay.inward(buffer) == State::Abandoned
        {
            state = State::Abandoned;
        }
        let poller = &self.poller;
        let changed = match state {
            State::Abandoned => {
                self.remove_transport(id);
                return;
            }
            State::Full if !served.full => {
                served.full = true;
                let owner = poller.modify(served.relay.owner_fd(), served.owner_token, Interest::ReadWrite);
                if served.ended { owner } else { owner.and(poller.remove(served.relay.port_fd())) }
            }
            State::Open if first_out && served.full => {
                served.full = false;
                poller.modify(served.relay.owner_fd(), served.owner_token, Interest::Read).and(poller.add(
                    served.relay.port_fd(),
                    served.port_token,
                    Interest::Read,
                ))
            }
            State::Ended if served.full => {
                served.full = false;
                served.ended = true;
                poller.modify(served.relay.owner_fd(), served.owner_token, Interest::Read)
            }
            State::Ended if !served.ended => {
                served.ended = true;
                poller.remove(served.relay.port_fd())
            }
            _ => Ok(()),
        };
        if let Err(error) = changed {
            tracing::warn!(%error, transport = id.0, "transport closed");
            self.remove_transport(id);
        }
    }
}

/// The server as one connection sees it.
struct Guest<'a, 'b> {
    server: &'a mut Server<'b>,
    token: u64,
    history: bool,
}

impl Guest<'_, '_> {
    fn connection(&mut self) -> ovpn_dco::Result<&mut Connection> {
        let gone = || Error::new(ErrorKind::Gone, "the connection has ended");
        self.server.connections.get_mut(&self.token).ok_or_else(gone)
    }
}

impl Host for Guest<'_, '_> {
    fn socket(&mut self, socket: OwnedFd) -> ovpn_dco::Result<TransportId> {
        let id = ovpn_sys::seqpacket::file_id(&socket)?;
        let plane = self.server.plane;
        let connection = self.connection()?;
        if let Some((_, transport)) = connection.portless.iter().find(|(known, _)| *known == id) {
            return Ok(transport.id);
        }
        let transport = plane.transport_open(SocketSource::Socket(socket))?;
        let number = transport.id;
        connection.portless.push((id, transport));
        Ok(number)
    }

    fn transport_open(
        &mut self,
        source: SocketSource,
        port: OwnedFd,
    ) -> ovpn_dco::Result<(TransportId, Protocol)> {
        let transport = self.server.plane.transport_open(source)?;
        let (id, protocol) = (transport.id, transport.protocol);
        self.server.add_transport(transport, Seqpacket::from(port))?;
        Ok((id, protocol))
    }

    fn transport_close(&mut self, transport: TransportId) -> ovpn_dco::Result<()> {
        self.server.remove_transport(transport);
        Ok(())
    }

    fn subscribe(&mut self) -> ovpn_dco::Result<()> {
        let ifindex = self.server.plane.device().ifindex;
        let encode = |event| encode_event(ENGINE_FAMILY, ifindex, event);
        let past: Vec<_> =
            if self.history { self.server.history.iter().filter_map(encode).collect() } else { Vec::new() };
        let connection = self.connection()?;
        connection.subscribed = true;
        connection.out.extend(past);
        Ok(())
    }
}
