//! One sender's own socket, on a port that goes on serving everybody.
//!
//! ```text
//!   from that sender to that local address ─▶ the connected socket
//!   everything else ───────────────────────▶ the first
//! ```
//!
//! The kernel knows the way of a connected socket's datagrams as soon as it sees them (early demultiplexing), and does
//! not look up the route of each.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, SockRef, Socket, Type};

use super::steer::namespace;
use super::{Path, UdpSocket};

/// A socket that belongs to the user who made it, bound to nothing yet: ports are shared among sockets of one user, and
/// the process may be another's by the time it is needed.
#[derive(Debug)]
pub struct SpareSocket {
    socket: Socket,
    v6: bool,
}

impl SpareSocket {
    pub(super) fn new(first: &UdpSocket) -> io::Result<Self> {
        let domain = if first.v6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        if namespace(socket.as_fd())? != namespace(first.fd.as_fd())? {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { socket, v6: first.v6 })
    }

    /// Takes what comes by `path` to the port of `first`, which goes on with everything else; the kernel has less work
    /// with each datagram then. It is for receiving, with a buffer as large as that of `first`, and leaves the port when
    /// it is dropped.
    ///
    /// # Errors
    /// `Unsupported` where the path's local address is not known or `first` is connected; `AddrInUse` where `first`
    /// belongs to another user; `PermissionDenied` for a port that only root may open; what else the kernel said.
    /// `first` then is as before.
    pub fn connect(self, first: &UdpSocket, path: &Path) -> io::Result<UdpSocket> {
        let Some(ip) = path.local else { return Err(io::ErrorKind::Unsupported.into()) };
        let known = SockRef::from(&first.fd);
        if first.peer_addr().is_some() || link_local(ip) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let Self { socket, v6 } = self;
        if let Some(device) = known.device()? {
            socket.bind_device(Some(&device))?;
        }
        if v6 {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_port(true)?;
        // Ports are shared among those who all say so when the last of them comes.
        let shared = known.reuse_port()?;
        known.set_reuse_port(true)?;
        let local = SocketAddr::new(ip, first.local_addr()?.port());
        let bound = socket.bind(&mapped(local, v6).into());
        known.set_reuse_port(shared)?;
        bound?;
        // What others send in between waits in the new socket, too, and is received from there.
        socket.connect(&mapped(path.remote, v6).into())?;
        // Nobody else shares the port.
        socket.set_reuse_port(false)?;
        let socket = UdpSocket::new(OwnedFd::from(socket))?;
        socket.set_receive_buffer(first.receive_buffer());
        Ok(socket)
    }
}

/// Lets a connected socket take what comes from `remote` instead.
pub(super) fn reconnect(socket: &UdpSocket, remote: SocketAddr) -> io::Result<()> {
    SockRef::from(&socket.fd).connect(&mapped(remote, socket.v6).into())
}

/// An address as a socket of IPv6 knows it.
fn mapped(address: SocketAddr, v6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        other => other,
    }
}

/// Such an address means nothing without its interface.
fn link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::super::steer::tests::waiting;
    use super::*;
    use std::net::UdpSocket as Std;

    fn connect_beside(first: &UdpSocket, path: &Path) -> io::Result<UdpSocket> {
        first.spare()?.connect(first, path)
    }

    /// The one sender's datagrams go to its socket, all others, and all after its end, to the first.
    #[test]
    fn a_sender_has_a_socket_of_its_own() {
        for (bind, ip) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.0.0.2"),
            ("[::]:0", "127.0.0.3"),
            ("[::]:0", "::1"),
        ] {
            let first = UdpSocket::new(Std::bind(bind).unwrap().into()).unwrap();
            first.raise_buffers(1 << 20, 0);
            let port = first.local_addr().unwrap().port();
            let to = SocketAddr::new(ip.parse().unwrap(), port);
            let sender = || Std::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
            let (busy, other) = (sender(), sender());
            busy.send_to(b"before", to).unwrap();
            let path = Path { remote: busy.local_addr().unwrap(), local: Some(to.ip()) };
            let own = connect_beside(&first, &path).unwrap();
            busy.send_to(b"busy", to).unwrap();
            other.send_to(b"other", to).unwrap();
            assert_eq!(own.receive_buffer(), first.receive_buffer());
            assert_eq!(waiting(&own), [b"busy"], "{bind}");
            assert_eq!(waiting(&first), [&b"before"[..], b"other"], "{bind}");
            // The port is nobody else's meanwhile, and another sender can take its turn.
            let stranger = Socket::new(Domain::for_address(to), Type::DGRAM, None).unwrap();
            stranger.set_reuse_port(true).unwrap();
            assert!(stranger.bind(&SocketAddr::new(to.ip(), port).into()).is_err(), "{bind}");
            own.reconnect(other.local_addr().unwrap()).unwrap();
            other.send_to(b"own", to).unwrap();
            busy.send_to(b"after", to).unwrap();
            assert_eq!((waiting(&own), waiting(&first)), (vec![b"own".to_vec()], vec![b"after".to_vec()]));
            drop(own);
            other.send_to(b"end", to).unwrap();
            assert_eq!(waiting(&first), [b"end"], "{bind}");
        }
    }

    /// A socket made by one user is of use to the next.
    #[test]
    fn a_spare_one_outlives_a_change_of_user() {
        let first = UdpSocket::new(Std::bind("127.0.0.1:0").unwrap().into()).unwrap();
        let spare = first.spare().unwrap();
        let path = Path { remote: "127.0.0.1:9".parse().unwrap(), local: Some("127.0.0.1".parse().unwrap()) };
        let nobody = || {
            // Of this thread alone.
            let uid = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let fresh = connect_beside(&first, &path).map(drop).map_err(|error| error.kind());
            (fresh, spare.connect(&first, &path).map(drop).map_err(|error| error.kind()))
        };
        let result = std::thread::scope(|scope| scope.spawn(nobody).join().unwrap());
        assert_eq!(result, (Err(io::ErrorKind::AddrInUse), Ok(())));
    }

    /// Steering among the sockets of a port goes on.
    #[test]
    fn steered_sockets_stay_steered() {
        let first = UdpSocket::new(Std::bind("0.0.0.0:0").unwrap().into()).unwrap();
        let more = first.steer(1).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], first.local_addr().unwrap().port()));
        let (busy, other) = (Std::bind("127.0.0.1:0").unwrap(), Std::bind("127.0.0.1:0").unwrap());
        let path = Path { remote: busy.local_addr().unwrap(), local: Some(to.ip()) };
        let own = connect_beside(&more[0], &path).unwrap();
        for peer in 0..4 {
            busy.send_to(&[0x48, 0, 0, peer, 1], to).unwrap();
            other.send_to(&[0x48, 0, 0, peer, 2], to).unwrap();
        }
        assert_eq!(waiting(&own).len(), 4);
        let peers = |socket| waiting(socket).iter().map(|packet| packet[3]).collect::<Vec<_>>();
        assert_eq!((peers(&first), peers(&more[0])), (vec![0, 2], vec![1, 3]));
    }

    #[test]
    fn it_is_refused_where_it_cannot_help() {
        let remote: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let socket = Std::bind("127.0.0.1:0").unwrap();
        let first = UdpSocket::new(socket.try_clone().unwrap().into()).unwrap();
        let refused = |path: &Path| connect_beside(&first, path).unwrap_err().kind();
        assert_eq!(refused(&Path { remote, local: None }), io::ErrorKind::Unsupported);
        let local = Some("fe80::1".parse().unwrap());
        assert_eq!(refused(&Path { remote, local }), io::ErrorKind::Unsupported);
        socket.connect(remote).unwrap();
        let local = Some(remote.ip());
        assert_eq!(refused(&Path { remote, local }), io::ErrorKind::Unsupported);
        let here = Std::bind("127.0.0.1:0").unwrap();
        let elsewhere = crate::netns::in_new(move || {
            let first = UdpSocket::new(here.into()).unwrap();
            connect_beside(&first, &Path { remote, local }).unwrap_err().kind()
        });
        assert_eq!(elsewhere.unwrap(), io::ErrorKind::Unsupported);
    }
}
