//! Transports: sockets that carry both channels, and the port through which control packets come and go.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::TransportId;

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One OpenVPN packet a datagram.
    Udp,
    /// Packets preceded by their length, two bytes, in one stream.
    Tcp,
}

/// Where a transport's socket comes from.
#[derive(Debug)]
pub enum SocketSource {
    /// A socket of the caller: bound UDP, or connected TCP with no half-read packet. The data plane may read it from
    /// now on; the caller must not.
    Socket(OwnedFd),
    /// The driver makes the socket itself (Windows).
    Driver {
        /// UDP or TCP.
        protocol: Protocol,
        /// Address to bind, where one was asked for.
        local: Option<SocketAddr>,
        /// Address to connect to; `None` listens (UDP servers).
        remote: Option<SocketAddr>,
    },
}

/// An open transport.
pub struct Transport {
    /// Its id, for [`PeerConfig::transport`](crate::PeerConfig::transport).
    pub id: TransportId,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its control packets. Dropping it closes the transport.
    pub port: Box<dyn ControlPort>,
}

/// A received control packet's envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Length of the packet in the buffer, bytes. TCP's length prefix is not part of it.
    pub len: usize,
    /// Where it came from. IPv4-mapped addresses are given as IPv4.
    pub from: SocketAddr,
    /// The local address it was sent to, where the socket tells (multihomed servers).
    pub local: Option<IpAddr>,
}

/// Everything that is not data for a known kind of peer: packets of the control channel, whole and untouched.
pub trait ControlPort: Send + Sync {
    /// A descriptor that is readable while packets wait (edge: read until `WouldBlock`).
    fn fd(&self) -> BorrowedFd<'_>;

    /// Takes the next packet into `buf` (2048 bytes suffice for every known peer; longer packets are cut).
    ///
    /// # Errors
    /// `WouldBlock` when none waits; `UnexpectedEof` once a TCP peer has closed; `ConnectionReset` once the data
    /// plane is gone; otherwise what the socket said.
    fn recv(&self, buf: &mut [u8]) -> io::Result<Received>;

    /// Sends one packet; on TCP `to` and `local` are ignored and the length prefix is added.
    ///
    /// # Errors
    /// `WouldBlock` when the transport is congested; the packet is then not sent and reliability will repeat it.
    fn send(&self, packet: &[u8], to: SocketAddr, local: Option<IpAddr>) -> io::Result<()>;
}
