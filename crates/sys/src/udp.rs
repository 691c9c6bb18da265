//! UDP sockets for many datagrams a call: segmentation on sending (GSO), merged datagrams on receiving (GRO), chosen
//! and learned local addresses, IPv4, IPv6 and both in one socket.
//!
//! ```text
//!   send: [segment][segment][segment][rest]  one buffer, one call, cut by the kernel just before the wire
//!   recv: slot 0 [datagram][datagram][rest]  merged by the kernel, cut size in `Message::segment`
//!         slot 1 [datagram] …
//! ```
//!
//! The socket belongs to a caller, too: its file flags are left alone (calls pass `MSG_DONTWAIT`), its mark, device
//! and buffer sizes above the system's defaults are respected.

mod ancillary;
mod connect;
mod receive;
mod send;
mod steer;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt;
use socket2::{Domain, SockRef, Type};

pub use connect::SpareSocket;
pub use receive::{Message, RecvBatch};
pub use send::{MAX_SEGMENTS, Outgoing};

/// Where datagrams go to, and the local address they leave from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// The other end.
    pub remote: SocketAddr,
    /// Source address; the system chooses where it is `None`.
    pub local: Option<IpAddr>,
}

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    v6: bool,
    bound: Option<IpAddr>,
}

/// Kind of a socket that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// UDP over IPv4 or IPv6.
    Udp,
    /// A TCP stream.
    Tcp,
}

/// Tells what `fd` is; `None` where it is neither UDP nor TCP.
pub fn socket_kind(fd: BorrowedFd<'_>) -> Option<SocketKind> {
    let socket = SockRef::from(&fd);
    let domain = socket.domain().ok()?;
    if domain != Domain::IPV4 && domain != Domain::IPV6 {
        return None;
    }
    match (socket.r#type().ok()?, socket.protocol().ok()?) {
        (Type::DGRAM, Some(socket2::Protocol::UDP)) => Some(SocketKind::Udp),
        (Type::STREAM, Some(socket2::Protocol::TCP)) => Some(SocketKind::Tcp),
        _ => None,
    }
}

impl UdpSocket {
    /// Takes a UDP socket and prepares it: merged datagrams are reported, and local addresses where it is bound to more
    /// than one; the system's default path-MTU discovery gives way to fragmentation by whoever needs it.
    ///
    /// # Errors
    /// What the kernel said to the descriptor, e.g. that it is no socket.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let v6 = SockRef::from(&fd).domain()? == Domain::IPV6;
        let local = SockRef::from(&fd).local_addr()?.as_socket().map(|local| unmap(local).ip());
        let bound = local.filter(|ip| !ip.is_unspecified());
        let this = Self { fd, v6, bound };
        let on = 1;
        let tell_local = i32::from(bound.is_none());
        // Kernels before 5.0 do not merge; everything works, slower.
        let _ = this.set_option(libc::SOL_UDP, libc::UDP_GRO, on);
        if v6 {
            this.set_option(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, tell_local)?;
            if sockopt::ipv6_mtu_discover(&this.fd)? == sockopt::Ipv6PathMtuDiscovery::WANT {
                sockopt::set_ipv6_mtu_discover(&this.fd, sockopt::Ipv6PathMtuDiscovery::DONT)?;
                // For IPv4 through the same socket, where the system has IPv4.
                let _ = sockopt::set_ip_mtu_discover(&this.fd, sockopt::Ipv4PathMtuDiscovery::DONT);
            }
        } else {
            this.set_option(libc::IPPROTO_IP, libc::IP_PKTINFO, tell_local)?;
            if sockopt::ip_mtu_discover(&this.fd)? == sockopt::Ipv4PathMtuDiscovery::WANT {
                sockopt::set_ip_mtu_discover(&this.fd, sockopt::Ipv4PathMtuDiscovery::DONT)?;
            }
        }
        Ok(this)
    }

    /// Whether the system may merge datagrams of one sender. To be turned off for a socket that the kernel's `ovpn`
    /// taps, which would take merged data packets for one.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set_merging(&self, on: bool) -> io::Result<()> {
        self.set_option(libc::SOL_UDP, libc::UDP_GRO, on.into())
    }

    /// Raises the buffers to `receive` and `send` bytes; larger ones stay. Beyond what the system grants to everybody
    /// (`net.core.rmem_max`, `wmem_max`) that takes CAP_NET_ADMIN; without it they are as large as it grants.
    pub fn raise_buffers(&self, receive: usize, send: usize) {
        let socket = SockRef::from(&self.fd);
        if self.receive_buffer() < receive {
            self.set_receive_buffer(receive);
        }
        // The kernel reports twice what was asked for.
        if socket.send_buffer_size().is_ok_and(|now| now / 2 < send)
            && sockopt::set_socket_send_buffer_size_force(&self.fd, send).is_err()
        {
            let _ = socket.set_send_buffer_size(send);
        }
    }

    /// The size of the receive buffer as it was asked for, bytes; 0 if the kernel does not tell.
    pub fn receive_buffer(&self) -> usize {
        // The kernel reports twice that.
        SockRef::from(&self.fd).recv_buffer_size().unwrap_or(0) / 2
    }

    /// Lets the receive buffer have `bytes`, more or less than now, under the same conditions: without CAP_NET_ADMIN it is
    /// no larger than what the system grants, even if it was.
    pub fn set_receive_buffer(&self, bytes: usize) {
        if sockopt::set_socket_recv_buffer_size_force(&self.fd, bytes).is_err() {
            let _ = SockRef::from(&self.fd).set_recv_buffer_size(bytes);
        }
    }

    /// The firewall mark of its packets (SO_MARK); 0 where there is none.
    pub fn mark(&self) -> u32 {
        SockRef::from(&self.fd).mark().unwrap_or(0)
    }

    /// How many messages the kernel has dropped since the socket was made because its receive queue was full (or their
    /// checksum wrong). Merged datagrams are one message. 0 where the kernel does not tell (before 4.12).
    pub fn dropped(&self) -> u32 {
        ancillary::socket_drops(self.fd.as_fd())
    }

    /// Opens `more` sockets on this one's port, among which the kernel distributes data packets by their peer id; what
    /// is no data packet of the present format goes to this one. Each is to be read; sending needs only this one. They
    /// leave the port when they are dropped.
    ///
    /// # Errors
    /// `Unsupported` where the socket is connected, shares its port already, or belongs to another network namespace
    /// than the calling thread; what the kernel said. Everything then is as before.
    pub fn steer(&self, more: usize) -> io::Result<Vec<Self>> {
        steer::steer(self, more)
    }

    /// A socket that can take one sender's datagrams from this one later, for the price of a descriptor.
    ///
    /// # Errors
    /// `Unsupported` where the socket belongs to another network namespace than the calling thread; when there are no
    /// descriptors left.
    pub fn spare(&self) -> io::Result<SpareSocket> {
        SpareSocket::new(self)
    }

    /// Lets a connected socket take what comes from `remote` instead.
    ///
    /// # Errors
    /// What the kernel said; it then goes on as before.
    pub fn reconnect(&self, remote: SocketAddr) -> io::Result<()> {
        connect::reconnect(self, remote)
    }

    /// Lets every message be one datagram, for those who take one at a time.
    #[must_use]
    pub fn without_merging(self) -> Self {
        // Kernels before 5.0 do not merge anyway.
        let _ = self.set_option(libc::SOL_UDP, libc::UDP_GRO, 0);
        self
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = SockRef::from(&self.fd).local_addr()?;
        address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The address it is connected to, if it is.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        SockRef::from(&self.fd).peer_addr().ok()?.as_socket()
    }

    /// The one address it is bound to, if it is one; messages then do not tell it.
    pub const fn bound(&self) -> Option<IpAddr> {
        self.bound
    }

    /// Receives what waits into `batch`; returns how many messages came.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; pending errors of the socket (`ECONNREFUSED` and the like), once each.
    pub fn recv(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        self.recv_up_to(batch, usize::MAX)
    }

    /// Receives at most `limit` messages; otherwise as [`recv`](Self::recv).
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; pending errors of the socket (`ECONNREFUSED` and the like), once each.
    pub fn recv_up_to(&self, batch: &mut RecvBatch, limit: usize) -> io::Result<usize> {
        batch.recv(self.fd.as_fd(), limit)
    }

    /// Sends messages in order; returns how many went out. An error is that of the first message.
    ///
    /// # Errors
    /// `WouldBlock` when the buffer is full; `EIO`, `EINVAL` or `EMSGSIZE` where a message of several segments cannot
    /// be sent as one; everything else a network can say.
    pub fn send(&self, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        send::send(self, messages)
    }

    fn set_option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        ancillary::set_int_option(self.fd.as_fd(), level, name, value)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An IPv4-mapped IPv6 address means the IPv4 address.
pub fn unmap(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Std;
    use std::time::{Duration, Instant};

    fn socket(bind: &str) -> (UdpSocket, SocketAddr) {
        let std = Std::bind(bind).unwrap();
        let address = std.local_addr().unwrap();
        (UdpSocket::new(std.into()).unwrap(), address)
    }

    /// Receives `count` datagrams, merged ones cut.
    fn datagrams(socket: &UdpSocket, count: usize) -> Vec<(Vec<u8>, SocketAddr, Option<IpAddr>)> {
        let mut batch = RecvBatch::new(8);
        let mut all = Vec::new();
        let end = Instant::now() + Duration::from_secs(2);
        while all.len() < count && Instant::now() < end {
            match socket.recv(&mut batch) {
                Ok(n) => {
                    for i in 0..n {
                        let message = batch.message(i);
                        assert!(!message.truncated);
                        for cut in message.data.chunks(message.segment.max(1)) {
                            all.push((cut.to_vec(), message.from, message.local.or(socket.bound())));
                        }
                    }
                }
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
        all
    }

    #[test]
    fn segments_arrive_as_datagrams_with_addresses() {
        let loopbacks = [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")];
        for (a, b) in loopbacks {
            let ((a, from), (b, to)) = (socket(a), socket(b));
            let data: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
            let path = Path { remote: to, local: Some(from.ip()) };
            let sent = a.send(&[
                Outgoing { data: &data, segment: 1000, path },
                Outgoing { data: b"x", segment: 0, path },
            ]);
            assert_eq!(sent.unwrap(), 2);
            let got = datagrams(&b, 4);
            let expected: Vec<&[u8]> = vec![&data[..1000], &data[1000..2000], &data[2000..], b"x"];
            assert_eq!(got.iter().map(|g| &g.0[..]).collect::<Vec<_>>(), expected);
            assert!(got.iter().all(|g| g.1 == from && g.2 == Some(to.ip())));
        }
    }

    #[test]
    fn one_socket_speaks_both_families() {
        let any = socket2::Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
        any.set_only_v6(false).unwrap();
        any.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let both = UdpSocket::new(any.into()).unwrap();
        let port = both.local_addr().unwrap().port();
        for (bind, ip) in [("127.0.0.2:0", "127.0.0.3"), ("[::1]:0", "::1")] {
            let (one, one_address) = socket(bind);
            let to = SocketAddr::new(ip.parse().unwrap(), port);
            one.send(&[Outgoing { data: b"ask", segment: 0, path: Path { remote: to, local: None } }])
                .unwrap();
            let asked = datagrams(&both, 1);
            assert_eq!(asked, [(b"ask".to_vec(), one_address, Some(to.ip()))]);
            // The answer leaves from the address that was asked.
            let path = Path { remote: asked[0].1, local: asked[0].2 };
            both.send(&[Outgoing { data: b"answer", segment: 0, path }]).unwrap();
            assert_eq!(datagrams(&one, 1), [(b"answer".to_vec(), to, Some(one_address.ip()))]);
        }
    }

    #[test]
    fn errors_belong_to_the_message_and_the_socket_lives_on() {
        let (a, from) = socket("127.0.0.1:0");
        let (b, to) = socket("127.0.0.1:0");
        let path = Path { remote: to, local: None };
        let long = vec![0; 65535];
        let refused = a.send(&[Outgoing { data: &long, segment: 0, path }]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE));
        let wrong = Path { remote: to, local: Some("192.0.2.77".parse().unwrap()) };
        assert!(a.send(&[Outgoing { data: b"x", segment: 0, path: wrong }]).is_err());
        assert_eq!(a.send(&[Outgoing { data: b"", segment: 0, path }]).unwrap(), 1);
        assert_eq!(a.send(&[Outgoing { data: b"y", segment: 0, path }]).unwrap(), 1);
        let got = datagrams(&b, 1);
        assert_eq!(got[got.len() - 1], (b"y".to_vec(), from, Some(to.ip())));
    }

    #[test]
    fn buffers_may_be_larger_than_what_everybody_is_granted() {
        let ((everybody, _), (socket, _)) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let send_buffer = |socket: &UdpSocket| SockRef::from(&socket.fd).send_buffer_size().unwrap() / 2;
        SockRef::from(&everybody.fd).set_recv_buffer_size(1 << 30).unwrap();
        SockRef::from(&everybody.fd).set_send_buffer_size(1 << 30).unwrap();
        let (receive, send) = (2 * everybody.receive_buffer(), 2 * send_buffer(&everybody));
        socket.raise_buffers(receive, send);
        assert_eq!((socket.receive_buffer(), send_buffer(&socket)), (receive, send));
        socket.raise_buffers(1, 1);
        assert_eq!((socket.receive_buffer(), send_buffer(&socket)), (receive, send), "larger ones stay");
    }

    #[test]
    fn what_the_receive_queue_does_not_hold_is_counted() {
        let ((a, _), (b, to)) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        SockRef::from(&b.fd).set_recv_buffer_size(1).unwrap();
        assert_eq!(b.dropped(), 0);
        let data = [0; 1000];
        let message = Outgoing { data: &data, segment: 0, path: Path { remote: to, local: None } };
        for _ in 0..50 {
            assert_eq!(a.send(&[message]).unwrap(), 1);
        }
        let taken = datagrams(&b, 50).len();
        assert!(taken > 0 && taken < 50);
        assert_eq!(b.dropped() as usize, 50 - taken);
    }

    #[test]
    fn kinds_are_told_apart() {
        use std::os::unix::net::UnixDatagram;
        let udp = Std::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(socket_kind(udp.as_fd()), Some(SocketKind::Udp));
        assert_eq!(socket_kind(tcp.as_fd()), Some(SocketKind::Tcp));
        assert_eq!(socket_kind(UnixDatagram::unbound().unwrap().as_fd()), None);
        assert_eq!(socket_kind(std::fs::File::open("/dev/null").unwrap().as_fd()), None);
    }
}
