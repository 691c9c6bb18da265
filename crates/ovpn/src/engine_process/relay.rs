//! One transport of an engine process: its control packets, carried between the engine's port and the owner's end of
//! a socket pair.
//!
//! ```text
//!   engine ControlPort ──▶ Relay ──▶ socket pair ──▶ owner (another process)
//!                      ◀──       ◀──             ◀──
//! ```
//!
//! A packet that the owner has no room for waits here, and the engine's port is left unread meanwhile. A packet that
//! the engine has no room for is dropped: the control channel repeats it.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use ovpn_dco::{ControlPort, Protocol, Transport};
use ovpn_sys::seqpacket::Seqpacket;

use super::control_packet::{ENVELOPE_LEN, Envelope};

/// Longest control packet that is carried, bytes: all that a datagram or a TCP frame can hold.
pub(super) const MAX_PACKET: usize = 65_536;

/// So many packets are moved before others get their turn.
const BATCH: usize = 64;

/// One transport.
pub(super) struct Relay {
    port: Box<dyn ControlPort>,
    protocol: Protocol,
    owner: Seqpacket,
    waiting: Option<Vec<u8>>,
    ended: bool,
}

/// How things stand after something was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Packets flow.
    Open,
    /// The owner has no room: wait until its end is writable.
    Full,
    /// The engine's side has ended; the owner knows. Nothing more comes from there.
    Ended,
    /// The owner is gone: the transport is to be closed.
    Abandoned,
}

impl Relay {
    /// Joins a transport and its owner's end.
    ///
    /// # Errors
    /// When that end is no socket.
    pub(super) fn new(transport: Transport, owner: Seqpacket) -> io::Result<Self> {
        owner.set_nonblocking()?;
        let Transport { port, protocol, .. } = transport;
        Ok(Self { port, protocol, owner, waiting: None, ended: false })
    }

    /// Readable while the engine has packets for the owner.
    pub(super) fn port_fd(&self) -> BorrowedFd<'_> {
        self.port.fd()
    }

    /// Readable while the owner has packets for the engine, writable while it has room.
    pub(super) fn owner_fd(&self) -> BorrowedFd<'_> {
        self.owner.as_fd()
    }

    /// Whether a packet waits for the owner to have room.
    #[cfg(test)]
    pub(super) const fn waiting_for_room(&self) -> bool {
        self.waiting.is_some()
    }

    /// Moves packets from the engine to the owner.
    pub(super) fn outward(&mut self, buffer: &mut [u8]) -> State {
        if let Some(message) = self.waiting.take() {
            match self.owner.send(&message, &[]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting = Some(message);
                    return State::Full;
                }
                Err(_) => return State::Abandoned,
            }
        }
        if self.ended {
            return State::Ended;
        }
        for _ in 0..BATCH {
            let (envelope, packet) = match self.port.recv(buffer) {
                Ok(got) => (
                    Envelope::Packet { remote: Some(got.from), local: got.local },
                    buffer.get(..got.len).unwrap_or_default(),
                ),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return State::Open,
                Err(error) => {
                    self.ended = true;
                    if error.kind() == io::ErrorKind::UnexpectedEof {
                        (Envelope::End, &[][..])
                    } else {
                        let errno = error.raw_os_error().unwrap_or(5).to_be_bytes();
                        buffer[..4].copy_from_slice(&errno);
                        (Envelope::Failed, &buffer[..4])
                    }
                }
            };
            let head = envelope.encode();
            match self.owner.send_parts(&[IoSlice::new(&head), IoSlice::new(packet)], &[]) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting = Some([&head, packet].concat());
                    return State::Full;
                }
                Err(_) => return State::Abandoned,
            }
            if self.ended {
                return State::Ended;
            }
        }
        State::Open
    }

    /// Moves packets from the owner to the engine.
    pub(super) fn inward(&self, buffer: &mut [u8]) -> State {
        for _ in 0..BATCH {
            let got = match self.owner.recv(buffer) {
                Ok((0, _)) => return State::Abandoned,
                Ok((got, _)) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return State::Open,
                // One message that nobody can read; the next may be better.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                Err(_) => return State::Abandoned,
            };
            let message = buffer.get(..got).unwrap_or_default();
            let Some((Envelope::Packet { remote, local }, packet)) = Envelope::decode(message) else {
                tracing::debug!(bytes = got, "message of a transport's owner that is no control packet");
                continue;
            };
            let to = match (remote, self.protocol) {
                (Some(to), _) => to,
                (None, Protocol::Tcp) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                (None, Protocol::Udp) => continue,
            };
            if let Err(error) = self.port.send(packet, to, local) {
                tracing::debug!(%error, "control packet not sent");
            }
        }
        State::Open
    }
}

/// Room for one message.
pub(super) fn message_buffer() -> Vec<u8> {
    vec![0; ENVELOPE_LEN + MAX_PACKET]
}
