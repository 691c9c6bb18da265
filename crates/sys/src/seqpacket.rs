//! Unix sockets that keep message boundaries and carry descriptors (SOCK_SEQPACKET, SCM_RIGHTS).
//!
//! Used between the parts of ovpn-rs on one machine: whole messages, no framing, and the end of one side is seen by
//! the other. Nothing here blocks a caller that asked for non-blocking.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

/// At most this many descriptors travel with one message.
pub const MAX_FDS: usize = 4;

/// A listening socket. Its file stays when it is closed.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Makes the socket file, accessible to its owner only. A file left by a listener that has died is replaced.
    ///
    /// # Errors
    /// `AddrInUse` where somebody still listens there; otherwise what the system said.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match Seqpacket::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        let fd = socket(SocketFlags::NONBLOCK)?;
        // It gets its name when it is ready, so that nobody meets it half made.
        let unready = path.with_extension(format!("new-{}", std::process::id()));
        rustix::net::bind(&fd, &SocketAddrUnix::new(&unready)?)?;
        std::fs::set_permissions(&unready, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        rustix::net::listen(&fd, 64)?;
        std::fs::rename(&unready, path)?;
        Ok(Self { fd })
    }

    /// The next connection, non-blocking; `WouldBlock` when there is none.
    ///
    /// # Errors
    /// What the system said.
    pub fn accept(&self) -> io::Result<Seqpacket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Seqpacket { fd: rustix::net::accept_with(&self.fd, flags)? })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Seqpacket {
    fd: OwnedFd,
}

impl Seqpacket {
    /// Connects to a listener; calls on the result block, at most 30 s.
    ///
    /// # Errors
    /// `NotFound` without a file, `ConnectionRefused` when its listener has died.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let fd = socket(SocketFlags::empty())?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        let limit = Some(Duration::from_secs(30));
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, limit)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, limit)?;
        Ok(Self { fd })
    }

    /// Two connected ends, both non-blocking, with room for `buffer` bytes each way.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn pair(buffer: usize) -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        for fd in [&a, &b] {
            sockopt::set_socket_send_buffer_size(fd, buffer)?;
        }
        Ok((Self { fd: a }, Self { fd: b }))
    }

    /// Makes calls return `WouldBlock` instead of waiting.
    ///
    /// # Errors
    /// What the system said.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, true)?)
    }

    /// Sends one message with descriptors (at most [`MAX_FDS`]), whose copies the other side gets.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; `BrokenPipe` or `ConnectionReset` when the other end is closed.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_parts(&[IoSlice::new(message)], fds)
    }

    /// As [`send`](Self::send), the message in parts.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_parts(&self, message: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        loop {
            match rustix::net::sendmsg(&self.fd, message, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives one message: its length in `buffer` and the descriptors that came with it (close-on-exec). A length
    /// of 0 is the end of the connection. A message longer than the buffer is an error; its rest is lost.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; `ConnectionReset` when the other end went away with messages unread.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let mut slices = [IoSliceMut::new(buffer)];
            match rustix::net::recvmsg(&self.fd, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(got) => break got,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let fds = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message longer than its reader takes"));
        }
        Ok((got.bytes, fds))
    }

    /// The credentials of the process at the other end when it connected: its user id.
    ///
    /// # Errors
    /// What the system said.
    pub fn peer_uid(&self) -> io::Result<u32> {
        Ok(sockopt::socket_peercred(&self.fd)?.uid.as_raw())
    }
}

impl AsFd for Seqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Seqpacket {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<Seqpacket> for OwnedFd {
    fn from(socket: Seqpacket) -> Self {
        socket.fd
    }
}

/// The effective user of this process, to be compared with [`Seqpacket::peer_uid`].
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// What two descriptors of one file (or socket) have in common: device and inode.
///
/// # Errors
/// What the system said.
pub fn file_id(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn messages_keep_their_boundaries_and_descriptors() {
        let (a, b) = Seqpacket::pair(1 << 16).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        a.send(b"one", &[writer.as_fd()]).unwrap();
        a.send(b"two", &[]).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let (n, fds) = b.recv(&mut buffer).unwrap();
        assert_eq!((&buffer[..n], fds.len()), (&b"one"[..], 1));
        let mut file = std::fs::File::from(fds.into_iter().next().unwrap());
        file.write_all(b"hi").unwrap();
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        let (n, fds) = b.recv(&mut buffer).unwrap();
        assert_eq!((&buffer[..n], fds.len()), (&b"two"[..], 0));
        assert_eq!(b.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(b.recv(&mut buffer).unwrap().0, 0);
        assert_eq!(b.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_message_too_long_is_no_message() {
        let (a, b) = Seqpacket::pair(1 << 16).unwrap();
        a.send(&[0; 20], &[]).unwrap();
        assert_eq!(b.recv(&mut [0; 10]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_dead_listeners_file_is_replaced_and_a_live_ones_kept() {
        let dir = std::env::temp_dir().join(format!("ovpn-seqpacket-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("s");
        let first = Listener::bind(&path).unwrap();
        assert_eq!(Listener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let second = Listener::bind(&path).unwrap();
        let client = Seqpacket::connect(&path).unwrap();
        let server = second.accept().unwrap();
        server.send(b"hello", &[]).unwrap();
        assert_eq!(client.recv(&mut [0; 16]).unwrap().0, 5);
        assert_eq!(server.peer_uid().unwrap(), rustix::process::getuid().as_raw());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
