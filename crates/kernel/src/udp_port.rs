//! Control packets over UDP: on the socket itself, out of which the kernel has taken the data packets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use ovpn_dco::{ControlPort, Received};
use ovpn_sys::udp::{Outgoing, Path, RecvBatch, UdpSocket};

/// A UDP socket that peers use.
#[derive(Debug)]
pub(crate) struct UdpTransport {
    socket: UdpSocket,
    batch: Mutex<RecvBatch>,
}

impl UdpTransport {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = UdpSocket::new(socket)?.without_merging();
        // The driver takes a merged datagram for one packet, and drops it.
        if let Err(error) = socket.set_merging(false) {
            tracing::debug!(%error, "this kernel does not merge datagrams");
        }
        Ok(Self { socket, batch: Mutex::new(RecvBatch::new(1)) })
    }
}

impl AsFd for UdpTransport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The port; dropping it closes the socket, since the driver keeps no copy.
#[derive(Debug)]
pub(crate) struct UdpPort(pub(crate) Arc<UdpTransport>);

impl ControlPort for UdpPort {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        let mut batch = self.0.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.socket.recv(&mut batch)? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let message = batch.message(0);
        let len = message.data.len().min(buf.len());
        buf[..len].copy_from_slice(&message.data[..len]);
        Ok(Received { len, from: message.from, local: message.local.or(self.0.socket.bound()) })
    }

    fn send(&self, packet: &[u8], to: SocketAddr, local: Option<IpAddr>) -> io::Result<()> {
        let message = Outgoing { data: packet, segment: 0, path: Path { remote: to, local } };
        match self.0.socket.send(&[message])? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }
}
