//! The owner's end of a transport that lives in an engine process.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

use ovpn_dco::{ControlPort, Received};
use ovpn_sys::seqpacket::Seqpacket;

use super::control_packet::Envelope;
use super::relay::message_buffer;

/// Room of the socket pair each way, bytes.
const ROOM: usize = 1 << 20;

/// Control packets over a socket pair. Dropping it closes the transport.
pub(super) struct RemotePort {
    socket: Seqpacket,
    /// Messages are a little longer than packets, so they do not fit the caller's buffer.
    inbox: Mutex<Inbox>,
}

struct Inbox {
    buffer: Vec<u8>,
    end: Option<io::ErrorKind>,
}

impl RemotePort {
    /// A port, and the end of it that the engine gets.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(super) fn new() -> io::Result<(Self, Seqpacket)> {
        let (socket, engine) = Seqpacket::pair(ROOM)?;
        Ok((Self { socket, inbox: Mutex::new(Inbox { buffer: message_buffer(), end: None }) }, engine))
    }
}

impl ControlPort for RemotePort {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        let mut inbox = self.inbox.lock().map_err(|_| io::ErrorKind::Other)?;
        if let Some(kind) = inbox.end {
            return Err(kind.into());
        }
        let got = match self.socket.recv(&mut inbox.buffer) {
            // Our own end closes only with us, so this is the engine's end.
            Ok((0, _)) => {
                inbox.end = Some(io::ErrorKind::ConnectionReset);
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Ok((got, _)) => got,
            Err(error) => return Err(error),
        };
        let message = inbox.buffer.get(..got).unwrap_or_default();
        match Envelope::decode(message) {
            Some((Envelope::Packet { remote: Some(from), local }, packet)) => {
                let len = packet.len().min(buf.len());
                buf[..len].copy_from_slice(&packet[..len]);
                Ok(Received { len, from, local })
            }
            Some((Envelope::End, _)) => {
                inbox.end = Some(io::ErrorKind::UnexpectedEof);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Some((Envelope::Failed, errno)) => {
                let errno = errno.first_chunk::<4>().map_or(5, |bytes| i32::from_be_bytes(*bytes));
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn send(&self, packet: &[u8], to: SocketAddr, local: Option<IpAddr>) -> io::Result<()> {
        let head = Envelope::Packet { remote: Some(to), local }.encode();
        match self.socket.send_parts(&[IoSlice::new(&head), IoSlice::new(packet)], &[]) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(io::ErrorKind::ConnectionReset.into())
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine_process::relay::{Relay, State};
    use ovpn_dco::{Protocol, Transport, TransportId};
    use ovpn_sys::wake::Wake;
    use std::collections::VecDeque;
    use std::sync::Arc;

    /// A port of two queues.
    #[derive(Clone)]
    #[expect(clippy::type_complexity, reason = "a wake, what comes, what went")]
    struct Queues(Arc<(Wake, Mutex<VecDeque<io::Result<Vec<u8>>>>, Mutex<Vec<Vec<u8>>>)>);

    impl ControlPort for Queues {
        fn fd(&self) -> BorrowedFd<'_> {
            self.0.0.as_fd()
        }
        fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
            let packet = self.0.1.lock().unwrap().pop_front().ok_or(io::ErrorKind::WouldBlock)??;
            buf[..packet.len()].copy_from_slice(&packet);
            Ok(Received { len: packet.len(), from: "10.0.0.1:5".parse().unwrap(), local: None })
        }
        fn send(&self, packet: &[u8], _: SocketAddr, _: Option<IpAddr>) -> io::Result<()> {
            self.0.2.lock().unwrap().push(packet.to_vec());
            Ok(())
        }
    }

    fn both() -> (Queues, Relay, RemotePort) {
        let queues = Queues(Arc::new((Wake::new().unwrap(), Mutex::default(), Mutex::default())));
        let transport =
            Transport { id: TransportId(1), protocol: Protocol::Udp, port: Box::new(queues.clone()) };
        let (port, theirs) = RemotePort::new().unwrap();
        (queues, Relay::new(transport, theirs).unwrap(), port)
    }

    #[test]
    fn packets_pass_both_ways_and_ends_are_told_apart() {
        let (queues, mut relay, port) = both();
        let mut buffer = message_buffer();
        let mut packet = [0; 2048];
        assert_eq!(port.recv(&mut packet).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        queues.0.1.lock().unwrap().push_back(Ok(b"hello".to_vec()));
        assert_eq!(relay.outward(&mut buffer), State::Open);
        let got = port.recv(&mut packet).unwrap();
        assert_eq!((&packet[..got.len], got.from), (&b"hello"[..], "10.0.0.1:5".parse().unwrap()));
        port.send(b"back", got.from, None).unwrap();
        assert_eq!(relay.inward(&mut buffer), State::Open);
        assert_eq!(*queues.0.2.lock().unwrap(), [b"back".to_vec()]);

        queues.0.1.lock().unwrap().push_back(Err(io::ErrorKind::UnexpectedEof.into()));
        assert_eq!(relay.outward(&mut buffer), State::Ended);
        assert_eq!(port.recv(&mut packet).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(port.recv(&mut packet).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        let (_queues, relay, port) = both();
        drop(port);
        assert_eq!(relay.inward(&mut buffer), State::Abandoned);
        let (_queues, relay, port) = both();
        drop(relay);
        assert_eq!(port.recv(&mut packet).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(
            port.send(b"", "10.0.0.1:5".parse().unwrap(), None).unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }

    #[test]
    fn a_full_owner_loses_nothing() {
        let (queues, mut relay, port) = both();
        let mut buffer = message_buffer();
        let packets: Vec<Vec<u8>> =
            (0..4000u16).map(|n| [&n.to_be_bytes()[..], &[0; 998]].concat()).collect();
        queues.0.1.lock().unwrap().extend(packets.iter().cloned().map(Ok));
        let mut got = Vec::new();
        let mut was_full = false;
        while got.len() < packets.len() {
            while relay.outward(&mut buffer) == State::Open && !queues.0.1.lock().unwrap().is_empty() {}
            was_full |= relay.waiting_for_room();
            let mut packet = [0; 2048];
            while let Ok(received) = port.recv(&mut packet) {
                got.push(packet[..received.len].to_vec());
            }
        }
        assert!(was_full);
        assert_eq!(got, packets);
    }
}
