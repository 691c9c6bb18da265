//! The sockets of the test tool's peers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ovpn_dco::{ControlPort, Received};
use ovpn_sys::poll::{Interest, Poller};
use socket2::{Domain, Protocol, Socket, Type};

/// A UDP socket for both families, bound to the wildcard address; several may share the port.
///
/// # Errors
/// What the system said.
pub(crate) fn udp(port: u16, mark: Option<u32>) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    Ok(socket.into())
}

/// A TCP socket that listens on the wildcard address.
///
/// # Errors
/// What the system said.
pub(crate) fn tcp_listener(port: u16, ipv6: bool) -> io::Result<TcpListener> {
    let any: SocketAddr =
        if ipv6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() };
    TcpListener::bind(any)
}

/// A connected TCP socket.
///
/// # Errors
/// What the system said.
pub(crate) fn tcp_connection(remote: SocketAddr) -> io::Result<OwnedFd> {
    Ok(TcpStream::connect(remote)?.into())
}

/// The first address of a host.
///
/// # Errors
/// When its name has none.
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    (host, port).to_socket_addrs()?.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The packet that a TCP client sends to show that control packets pass: 1000 bytes with an opcode that nobody knows.
pub(crate) const TEST_PACKET: [u8; 1000] = [0x86; 1000];

/// Waits for a control packet.
///
/// # Errors
/// `TimedOut`; otherwise what the port said.
pub(crate) fn receive(port: &dyn ControlPort, buffer: &mut [u8], limit: Duration) -> io::Result<Received> {
    let poller = Poller::new()?;
    poller.add(port.fd(), 0, Interest::Read)?;
    let end = Instant::now() + limit;
    let mut ready = Vec::new();
    loop {
        match port.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        poller.wait(&mut ready, Some(left))?;
    }
}

/// Sends a control packet, waiting where the transport is congested.
///
/// # Errors
/// `TimedOut`; otherwise what the port said.
pub(crate) fn send(port: &dyn ControlPort, packet: &[u8], to: SocketAddr, limit: Duration) -> io::Result<()> {
    let end = Instant::now() + limit;
    loop {
        match port.send(packet, to, None) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            result => return result,
        }
    }
}
