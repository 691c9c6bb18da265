//! Control packets over TCP, before and after the kernel takes the socket over.
//!
//! ```text
//!   Stream   ours: length · packet, length · packet …  taken off the socket only when whole, so that the kernel
//!            finds the beginning of a packet when a peer is attached
//!   Packets  `ovpn`: one receive, one control packet with its length; one send, one packet with its length
//!   Mixed    `ovpn-dco-v2`: a stream of control packets, without the data packets
//!   Gone     the peer is gone, and what was half read with it: the stream cannot be resumed
//! ```

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ovpn_dco::{ControlPort, Received};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

/// Length prefix, bytes.
const PREFIX: usize = 2;
/// Longest packet with its prefix.
const LONGEST: usize = PREFIX + u16::MAX as usize;
/// How long a half-sent packet may hold up the attachment of a peer.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A TCP socket that one peer uses.
#[derive(Debug)]
pub(crate) struct TcpTransport {
    socket: OwnedFd,
    remote: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Received and not yet given out (`Mixed`); in the other phases room to work in.
    received: Vec<u8>,
    /// The rest of a packet of which a part was sent.
    unsent: Vec<u8>,
}

/// Who reads the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Stream,
    Packets,
    Mixed,
    Gone,
}

impl TcpTransport {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let remote = socket2::SockRef::from(&socket).peer_addr()?;
        let remote = remote.as_socket().ok_or(ErrorKind::InvalidInput)?;
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let state = State { phase: Phase::Stream, received: Vec::new(), unsent: Vec::new() };
        Ok(Self { socket, remote, state: Mutex::new(state) })
    }

    /// Attaches a peer with `attach` while nothing else touches the socket.
    pub(crate) fn attach<T>(
        &self,
        phase: Phase,
        attach: impl FnOnce() -> ovpn_dco::Result<T>,
    ) -> ovpn_dco::Result<T> {
        let mut state = self.state();
        if state.phase == Phase::Stream {
            // The kernel would put its own packets into the middle of ours.
            self.flush(&mut state, Some(FLUSH_TIMEOUT))?;
        }
        let result = attach()?;
        // What lies there was given out: of the stream nothing is taken but whole packets.
        state.received.clear();
        state.phase = phase;
        Ok(result)
    }

    /// The peer is gone.
    pub(crate) fn detach(&self) {
        self.state().phase = Phase::Gone;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is left of a packet, waiting for room for at most this long.
    fn flush(&self, state: &mut State, patience: Option<Duration>) -> io::Result<()> {
        while !state.unsent.is_empty() {
            match self.send_some(&state.unsent) {
                Ok(sent) => {
                    state.unsent.drain(..sent);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let Some(patience) = patience else { return Err(error) };
                    let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: 0 };
                    let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
                    if poll(&mut fds, Some(&timeout))? == 0 {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        match rustix::net::recv(&self.socket, buffer, flags | RecvFlags::DONTWAIT) {
            Ok((0, _)) if !flags.contains(RecvFlags::TRUNC) => Err(ErrorKind::UnexpectedEof.into()),
            Ok((received, _)) => Ok(received),
            // The kernel has let go of the peer: what follows on the stream is nobody's.
            Err(rustix::io::Errno::BADF) => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a packet off the stream, but only when all of it is there.
    fn receive_whole(&self, state: &mut State, buf: &mut [u8]) -> io::Result<usize> {
        let mut prefix = [0; PREFIX];
        if self.receive(&mut prefix, RecvFlags::PEEK)? < PREFIX {
            return Err(self.wait_or_end());
        }
        let length = usize::from(u16::from_be_bytes(prefix));
        if length == 0 {
            return Err(ErrorKind::InvalidData.into());
        }
        state.received.resize(PREFIX + length, 0);
        if self.receive(&mut state.received, RecvFlags::PEEK)? < PREFIX + length {
            return Err(self.wait_or_end());
        }
        let taken = self.receive(&mut state.received, RecvFlags::empty())?;
        Ok(copy(state.received.get(PREFIX..taken).unwrap_or_default(), buf))
    }

    /// A part of a packet is there. The rest may come, unless the other end has closed: then it never will.
    fn wait_or_end(&self) -> io::Error {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut fds, Some(&zero)) {
            Ok(1..) => ErrorKind::UnexpectedEof.into(),
            _ => ErrorKind::WouldBlock.into(),
        }
    }

    /// One receive, one packet with its length before it.
    fn receive_packet(&self, state: &mut State, buf: &mut [u8]) -> io::Result<usize> {
        state.received.resize(LONGEST, 0);
        let received = match self.receive(&mut state.received, RecvFlags::empty()) {
            // The kernel has given up the stream over a broken frame; the peer stays, and hears no more.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                state.phase = Phase::Gone;
                return Err(io::Error::new(ErrorKind::InvalidData, "the stream is broken"));
            }
            received => received?,
        };
        match state.received.get(..received) {
            Some(&[high, low, ref packet @ ..])
                if usize::from(u16::from_be_bytes([high, low])) == packet.len() =>
            {
                Ok(copy(packet, buf))
            }
            // The peer was deleted meanwhile, and these are bytes of the middle of the stream.
            _ => {
                state.phase = Phase::Gone;
                Err(ErrorKind::UnexpectedEof.into())
            }
        }
    }

    /// A stream in which the kernel has left the control packets only.
    fn receive_mixed(&self, state: &mut State, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((prefix, rest)) = state.received.split_first_chunk::<PREFIX>() {
                let length = usize::from(u16::from_be_bytes(*prefix));
                if let Some(packet) = rest.get(..length) {
                    let copied = copy(packet, buf);
                    state.received.drain(..PREFIX + length);
                    return Ok(copied);
                }
            }
            let start = state.received.len();
            state.received.resize(start + 4096, 0);
            let received = self.receive(&mut state.received[start..], RecvFlags::empty());
            state.received.truncate(start + received.as_ref().copied().unwrap_or(0));
            received?;
        }
    }
}

impl AsFd for TcpTransport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The port; dropping it closes the socket, since the driver keeps no copy.
#[derive(Debug)]
pub(crate) struct TcpPort(pub(crate) Arc<TcpTransport>);

impl ControlPort for TcpPort {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        let mut state = self.0.state();
        let state = &mut *state;
        let len = match state.phase {
            Phase::Stream => self.0.receive_whole(state, buf)?,
            Phase::Packets => self.0.receive_packet(state, buf)?,
            Phase::Mixed => self.0.receive_mixed(state, buf)?,
            Phase::Gone => return Err(ErrorKind::UnexpectedEof.into()),
        };
        Ok(Received { len, from: self.0.remote, local: None })
    }

    fn send(&self, packet: &[u8], _to: SocketAddr, _local: Option<IpAddr>) -> io::Result<()> {
        let length = u16::try_from(packet.len()).map_err(|_| ErrorKind::InvalidInput)?;
        let mut state = self.0.state();
        if state.phase == Phase::Gone {
            return Err(ErrorKind::BrokenPipe.into());
        }
        self.0.flush(&mut state, None)?;
        let mut framed = Vec::with_capacity(PREFIX + packet.len());
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(packet);
        let sent = self.0.send_some(&framed)?;
        if sent < framed.len() {
            state.unsent = framed.split_off(sent);
        }
        Ok(())
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
    len
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpPort) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let own = listener.accept().unwrap().0;
        (other, TcpPort(Arc::new(TcpTransport::new(own.into()).unwrap())))
    }

    fn wait(port: &TcpPort) {
        let mut fds = [PollFd::new(&port.0.socket, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })).unwrap();
    }

    /// Until all of a packet is there nothing is taken: the kernel must find its beginning.
    #[test]
    fn takes_whole_packets_only() {
        let (mut other, port) = pair();
        let mut buf = [0; 100];
        assert_eq!(port.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        for part in [&[0][..], &[5, 1, 2], &[3, 4]] {
            other.write_all(part).unwrap();
            wait(&port);
            assert_eq!(port.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        other.write_all(&[5, 0, 1, 9]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(port.recv(&mut buf).unwrap().len, 5);
        assert_eq!(buf[..5], [1, 2, 3, 4, 5]);
        assert_eq!(port.recv(&mut buf).unwrap().len, 1);
        other.write_all(&[0, 9, 1]).unwrap();
        other.shutdown(Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(port.recv(&mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn frames_what_it_sends() {
        let (mut other, port) = pair();
        port.send(&[7; 300], port.0.remote, None).unwrap();
        let mut got = [0; 302];
        other.read_exact(&mut got).unwrap();
        assert_eq!(got[..3], [1, 44, 7]);
    }

    /// A packet of which a part was sent goes out whole before the next one, and before the kernel takes over.
    #[test]
    fn half_sent_packets_come_first() {
        let (mut other, port) = pair();
        let mut sent = 0;
        let packet = vec![3; 60_000];
        while port.send(&packet, port.0.remote, None).is_ok() {
            sent += 1;
        }
        assert!(!port.0.state().unsent.is_empty());
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            let mut all = Vec::new();
            other.read_to_end(&mut all).unwrap();
            all
        });
        port.0.attach(Phase::Mixed, || Ok(())).unwrap();
        drop(port);
        let all = reader.join().unwrap();
        assert_eq!(all.len(), sent * 60_002);
        assert!(all.chunks(60_002).all(|packet| packet[..3] == [0xEA, 0x60, 3]));
    }

    /// What was given out before the kernel took over is not given out again.
    #[test]
    fn nothing_is_given_out_twice() {
        for phase in [Phase::Mixed, Phase::Packets] {
            let (mut other, port) = pair();
            let mut buf = [0; 100];
            other.write_all(&[0, 3, 1, 2, 3]).unwrap();
            wait(&port);
            assert_eq!(port.recv(&mut buf).unwrap().len, 3);
            port.0.attach(phase, || Ok(())).unwrap();
            assert_eq!(port.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock, "{phase:?}");
        }
    }

    /// As `ovpn-dco-v2` gives them: any number of bytes a call.
    #[test]
    fn mixed_stream_is_cut_into_packets() {
        let (mut other, port) = pair();
        port.0.attach(Phase::Mixed, || Ok(())).unwrap();
        other.write_all(&[0, 2, 1, 2, 0, 1, 3, 0, 4, 5]).unwrap();
        let mut buf = [0; 100];
        wait(&port);
        assert_eq!((port.recv(&mut buf).unwrap().len, buf[0]), (2, 1));
        assert_eq!((port.recv(&mut buf).unwrap().len, buf[0]), (1, 3));
        assert_eq!(port.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        other.write_all(&[6, 7, 8]).unwrap();
        wait(&port);
        assert_eq!((port.recv(&mut buf).unwrap().len, buf[3]), (4, 8));
        port.0.detach();
        assert_eq!(port.recv(&mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
