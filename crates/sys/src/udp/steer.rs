//! One port, several sockets: data packets go to a socket by their peer id, everything else to the first.
//!
//! ```text
//!                    ┌ opcode ≠ 9, or short ─▶ socket 0
//!   datagram ─ cBPF ─┤
//!                    └ DATA_V2, peer id p ───▶ socket p mod n
//! ```
//!
//! The packets of a peer stay in their order on one socket, wherever the peer moves to. Whoever sends uses the first.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use socket2::{Domain, SockRef, Socket, Type};

use super::UdpSocket;

/// More sockets than threads that could read them are of no use.
const MAX_SOCKETS: u32 = 64;

/// Opens `more` sockets on the port of `first`, and steers.
///
/// # Errors
/// `Unsupported` where the socket is connected, shares its port already, or lives in another network namespace than
/// the calling thread; `AddrInUse` where another socket has the port; what else the kernel said. `first` then is as
/// usable as before.
pub(super) fn steer(first: &UdpSocket, more: usize) -> io::Result<Vec<UdpSocket>> {
    let known = SockRef::from(&first.fd);
    if first.peer_addr().is_some() || known.reuse_port()? {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let domain = if first.v6 { Domain::IPV6 } else { Domain::IPV4 };
    let address = known.local_addr()?;
    let count = u32::try_from(more + 1).unwrap_or(MAX_SOCKETS).min(MAX_SOCKETS);
    let join = || -> io::Result<Vec<UdpSocket>> {
        let mut sockets = Vec::new();
        for number in 1..count {
            let socket = Socket::new(domain, Type::DGRAM, None)?;
            if namespace(socket.as_fd())? != namespace(first.fd.as_fd())? {
                return Err(io::ErrorKind::Unsupported.into());
            }
            socket.set_reuse_port(true)?;
            if first.v6 {
                socket.set_only_v6(known.only_v6()?)?;
            }
            if let Some(device) = known.device()? {
                socket.bind_device(Some(&device))?;
            }
            socket.bind(&address)?;
            if number == 1 {
                // A group of one has no program. Until now the kernel chose between two by addresses.
                attach(first.fd.as_fd(), &program(count))?;
            }
            sockets.push(UdpSocket::new(OwnedFd::from(socket))?);
        }
        Ok(sockets)
    };
    known.set_reuse_port(true)?;
    join().inspect_err(|_| {
        // It was possible a moment ago; and a port that could be shared is no harm.
        let _ = known.set_reuse_port(false);
    })
}

/// Number of a socket's network namespace.
pub(super) fn namespace(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    let (level, name, data) = (libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, (&raw mut cookie).cast());
    // SAFETY: the descriptor is open, and at most `len` bytes are written to `data`, which holds so many.
    let rc = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, data, &raw mut len) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// The classic BPF program; its result is the index of a socket. A datagram shorter than a word ends it with 0.
fn program(sockets: u32) -> [libc::sock_filter; 9] {
    const LOAD_WORD: u16 = 0x20;
    const SHIFT_RIGHT: u16 = 0x74;
    const IF_EQUAL: u16 = 0x15;
    const AND: u16 = 0x54;
    const MODULO: u16 = 0x94;
    const TO_X: u16 = 0x07;
    const FROM_X: u16 = 0x87;
    const RETURN_A: u16 = 0x16;
    const RETURN: u16 = 0x06;
    const DATA_V2: u32 = 9;
    let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    [
        step(LOAD_WORD, 0),
        step(TO_X, 0),
        step(SHIFT_RIGHT, 27),
        libc::sock_filter { code: IF_EQUAL, jt: 0, jf: 4, k: DATA_V2 },
        step(FROM_X, 0),
        step(AND, 0x00FF_FFFF),
        step(MODULO, sockets),
        step(RETURN_A, 0),
        step(RETURN, 0),
    ]
}

fn attach(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    // The kernel reads it, whatever the type says.
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let (data, len) = ((&raw const filter).cast(), size_of_val(&filter) as libc::socklen_t);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    // SAFETY: the descriptor is open; `data` is a `sock_fprog` whose filter is `len` valid steps, read during the call.
    let rc = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, data, len) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Outgoing, Path, RecvBatch};
    use super::*;
    use std::net::{SocketAddr, UdpSocket as Std};

    /// What waits in a socket, merged datagrams cut.
    pub(in super::super) fn waiting(socket: &UdpSocket) -> Vec<Vec<u8>> {
        let mut batch = RecvBatch::new(32);
        let mut all = Vec::new();
        while let Ok(count) = socket.recv(&mut batch) {
            for index in 0..count {
                let message = batch.message(index);
                all.extend(message.data.chunks(message.segment.max(1)).map(<[u8]>::to_vec));
            }
        }
        all
    }

    fn data(peer: u32, number: u8) -> Vec<u8> {
        let [_, a, b, c] = peer.to_be_bytes();
        vec![0x4A, a, b, c, number]
    }

    #[test]
    fn peers_keep_to_their_sockets_and_the_rest_to_the_first() {
        for bind in ["127.0.0.1:0", "[::]:0"] {
            let first = UdpSocket::new(Std::bind(bind).unwrap().into()).unwrap();
            let port = first.local_addr().unwrap().port();
            let mut group = vec![first];
            let more = steer(&group[0], 2).unwrap();
            group.extend(more);
            let to = SocketAddr::from(([127, 0, 0, 1], port));
            // From many sources: it is the id that counts.
            let senders: Vec<_> = (0..4).map(|_| Std::bind("127.0.0.1:0").unwrap()).collect();
            for number in 0..8 {
                for peer in [0, 1, 2, 3, 255, 256, 0x00FF_FFFE] {
                    senders[usize::from(number) % 4].send_to(&data(peer, number), to).unwrap();
                }
                for other in [&b"\x38control"[..], b"\x32old data", b"\x4A\0\0", b""] {
                    senders[usize::from(number) % 4].send_to(other, to).unwrap();
                }
            }
            for (index, socket) in group.iter().enumerate() {
                let got = waiting(socket);
                assert!(!got.is_empty(), "socket {index}");
                for packet in &got {
                    let id = match packet.first_chunk() {
                        Some([0x4A, a, b, c]) => u32::from_be_bytes([0, *a, *b, *c]),
                        _ => 0,
                    };
                    assert_eq!(id as usize % 3, index, "{packet:?}");
                }
                for peer in
                    [0, 1, 2, 3, 255, 256, 0x00FF_FFFE].into_iter().filter(|p| *p as usize % 3 == index)
                {
                    let order: Vec<_> = got.iter().filter(|p| p.starts_with(&data(peer, 0)[..4])).collect();
                    let expected: Vec<_> = (0..8).map(|number| data(peer, number)).collect();
                    assert_eq!(order, expected.iter().filter(|p| p.len() > 4).collect::<Vec<_>>());
                }
            }
            // Sending goes on as before.
            let back = senders[0].local_addr().unwrap();
            let path = Path { remote: back, local: None };
            group[0].send(&[Outgoing { data: b"answer", segment: 0, path }]).unwrap();
            let mut buffer = [0; 16];
            let (len, from) = senders[0].recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&b"answer"[..], to));
        }
    }

    #[test]
    fn sockets_that_others_share_are_left_alone() {
        let connected = Std::bind("127.0.0.1:0").unwrap();
        connected.connect("127.0.0.1:9").unwrap();
        let shared = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        shared.set_reuse_port(true).unwrap();
        shared.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        for socket in [OwnedFd::from(connected), shared.into()] {
            let socket = UdpSocket::new(socket).unwrap();
            assert_eq!(steer(&socket, 1).unwrap_err().kind(), io::ErrorKind::Unsupported);
        }
        let here = Std::bind("127.0.0.1:0").unwrap();
        let elsewhere = crate::netns::in_new(move || {
            let socket = UdpSocket::new(here.into()).unwrap();
            (steer(&socket, 1).unwrap_err().kind(), SockRef::from(&socket.fd).reuse_port().unwrap())
        });
        assert_eq!(elsewhere.unwrap(), (io::ErrorKind::Unsupported, false));
        // The port stays one's own.
        let first = UdpSocket::new(Std::bind("127.0.0.1:0").unwrap().into()).unwrap();
        let _more = steer(&first, 1).unwrap();
        assert_eq!(Std::bind(first.local_addr().unwrap()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
