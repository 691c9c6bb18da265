//! Connected TCP sockets that never block, whatever their file flags say.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;

use crate::udp::unmap;

/// A connected TCP socket.
#[derive(Debug)]
pub struct TcpSocket {
    fd: OwnedFd,
    remote: SocketAddr,
    local: SocketAddr,
}

impl TcpSocket {
    /// Takes a connected socket. Small writes leave at once from now on.
    ///
    /// # Errors
    /// `NotConnected` where it is not (or no longer) connected.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        let remote = unmap(socket.peer_addr()?.as_socket().ok_or_else(unsupported)?);
        let local = unmap(socket.local_addr()?.as_socket().ok_or_else(unsupported)?);
        socket.set_tcp_nodelay(true)?;
        Ok(Self { fd, remote, local })
    }

    /// The other end; IPv4-mapped addresses are given as IPv4.
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// This end; IPv4-mapped addresses are given as IPv4.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Reads what waits; 0 once the other end has closed.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; what the connection died of.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, len) = rustix::net::recv(&self.fd, buffer, RecvFlags::DONTWAIT)?;
        Ok(len)
    }

    /// Writes as much as fits the socket's buffer.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits; what the connection died of.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.fd, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    /// Ends the connection in both directions.
    pub fn shutdown(&self) {
        // It fails only where the connection has ended already.
        let _ = SockRef::from(&self.fd).shutdown(Shutdown::Both);
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn it_never_blocks() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (b, from) = listener.accept().unwrap();
        let a = TcpSocket::new(a.into()).unwrap();
        let b = TcpSocket::new(b.into()).unwrap();
        assert_eq!((a.remote(), b.remote()), (listener.local_addr().unwrap(), from));
        assert_eq!(a.local(), from);
        let mut buffer = [0; 16];
        assert_eq!(b.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut sent = 0;
        let full = loop {
            match a.send(&vec![7; 65536]) {
                Ok(n) => sent += n,
                Err(e) => break e,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(sent > 0);
        assert_eq!(b.recv(&mut buffer).unwrap(), 16);
        a.shutdown();
        while b.recv(&mut vec![0; 65536]).unwrap() > 0 {}
        let unconnected = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(TcpSocket::new(unconnected.into()).is_err());
    }
}
