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

/// Opens a socket beside `first` for what comes by `path`.
///
/// # Errors
/// `Unsupported` where the local address is not known, `first` is connected, or lives in another network namespace than
/// the calling thread; `AddrInUse` where the process has changed its user since `first` was opened; `PermissionDenied`
/// for a port that only root may open; what else the kernel said.
pub(super) fn connect_beside(first: &UdpSocket, path: &Path) -> io::Result<UdpSocket> {
    let Some(ip) = path.local else { return Err(io::ErrorKind::Unsupported.into()) };
    let known = SockRef::from(&first.fd);
    if first.peer_addr().is_some() || link_local(ip) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // A socket of both families shows an IPv4 sender as such, and has its IPv4 addresses.
    let local = SocketAddr::new(ip, first.local_addr()?.port());
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, None)?;
    if namespace(socket.as_fd())? != namespace(first.fd.as_fd())? {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if let Some(device) = known.device()? {
        socket.bind_device(Some(&device))?;
    }
    socket.set_reuse_port(true)?;
    // Ports are shared among those who all say so when the last of them comes.
    let shared = known.reuse_port()?;
    known.set_reuse_port(true)?;
    let bound = socket.bind(&local.into());
    known.set_reuse_port(shared)?;
    bound?;
    // What others send in between waits in the new socket, too, and is received from there.
    socket.connect(&path.remote.into())?;
    // Nobody else shares the port.
    socket.set_reuse_port(false)?;
    UdpSocket::new(OwnedFd::from(socket))
}

/// Such an address means nothing without its interface.
fn link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::super::RecvBatch;
    use super::*;
    use std::net::UdpSocket as Std;

    /// What waits in a socket.
    fn waiting(socket: &UdpSocket) -> Vec<Vec<u8>> {
        let mut batch = RecvBatch::new(32);
        let mut all = Vec::new();
        while let Ok(count) = socket.recv(&mut batch) {
            all.extend((0..count).map(|index| batch.message(index).data.to_vec()));
        }
        all
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
            let port = first.local_addr().unwrap().port();
            let to = SocketAddr::new(ip.parse().unwrap(), port);
            let sender = || Std::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
            let (busy, other) = (sender(), sender());
            busy.send_to(b"before", to).unwrap();
            let path = Path { remote: busy.local_addr().unwrap(), local: Some(to.ip()) };
            let own = connect_beside(&first, &path).unwrap();
            busy.send_to(b"busy", to).unwrap();
            other.send_to(b"other", to).unwrap();
            assert_eq!(waiting(&own), [b"busy"], "{bind}");
            assert_eq!(waiting(&first), [&b"before"[..], b"other"], "{bind}");
            // The port is nobody else's meanwhile, and another sender can take its turn.
            let stranger = Socket::new(Domain::for_address(to), Type::DGRAM, None).unwrap();
            stranger.set_reuse_port(true).unwrap();
            assert!(stranger.bind(&SocketAddr::new(to.ip(), port).into()).is_err(), "{bind}");
            drop(own);
            busy.send_to(b"after", to).unwrap();
            assert_eq!(waiting(&first), [b"after"], "{bind}");
            let path = Path { remote: other.local_addr().unwrap(), local: Some(to.ip()) };
            let own = connect_beside(&first, &path).unwrap();
            other.send_to(b"own", to).unwrap();
            assert_eq!(waiting(&own), [b"own"], "{bind}");
        }
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
