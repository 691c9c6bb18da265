//! Transports: the sockets that packets of both channels travel over.

pub(crate) mod tcp;
pub(crate) mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ovpn_dco::{Protocol, TransportId};
use ovpn_sys::udp::{Outgoing, Path};

use crate::control_port::ControlQueue;
use tcp::TcpLink;
use udp::UdpLink;

/// One transport.
pub(crate) struct Link {
    pub(crate) id: TransportId,
    /// The worker that receives from it.
    pub(crate) worker: usize,
    pub(crate) control: Arc<ControlQueue>,
    pub(crate) kind: LinkKind,
    /// Other sockets on the same port: other workers receive from them, nobody sends.
    pub(crate) siblings: Vec<Arc<Link>>,
}

pub(crate) enum LinkKind {
    Udp(UdpLink),
    Tcp(TcpLink),
}

impl Link {
    pub(crate) fn protocol(&self) -> Protocol {
        match &self.kind {
            LinkKind::Udp(_) => Protocol::Udp,
            LinkKind::Tcp(_) => Protocol::Tcp,
        }
    }

    /// The port it is bound to.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            LinkKind::Udp(udp) => udp.socket.local_addr().ok(),
            LinkKind::Tcp(tcp) => Some(tcp.socket.local()),
        }
    }

    /// What the system dropped on the way to us, messages.
    pub(crate) fn dropped(&self) -> u64 {
        let own = match &self.kind {
            LinkKind::Udp(udp) => udp.dropped(),
            LinkKind::Tcp(_) => 0,
        };
        own + self.siblings.iter().map(|sibling| sibling.dropped()).sum::<u64>()
    }

    /// Sends what waits, now that the socket takes more.
    pub(crate) fn drain(&self) {
        if let LinkKind::Tcp(tcp) = &self.kind {
            tcp.drain();
        }
    }

    /// Whether so much waits that no more should be read for it.
    pub(crate) fn is_paused(&self) -> bool {
        match &self.kind {
            LinkKind::Udp(_) => false,
            LinkKind::Tcp(tcp) => tcp.is_paused(),
        }
    }

    pub(crate) fn send_control(
        &self,
        packet: &[u8],
        to: SocketAddr,
        local: Option<IpAddr>,
    ) -> io::Result<()> {
        match &self.kind {
            LinkKind::Udp(udp) => {
                let send = |local| {
                    let path = Path { remote: to, local };
                    udp.socket.send(&[Outgoing { data: packet, segment: 0, path }]).map(drop)
                };
                match send(local) {
                    // The address may be gone; the system knows another, or will say so.
                    Err(e) if local.is_some() && e.kind() != io::ErrorKind::WouldBlock => send(None),
                    sent => sent,
                }
            }
            LinkKind::Tcp(tcp) => tcp.send_control(packet),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            LinkKind::Udp(udp) => udp.socket.as_fd(),
            LinkKind::Tcp(tcp) => tcp.socket.as_fd(),
        }
    }
}
