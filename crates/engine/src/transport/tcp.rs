//! The TCP transport: frames of a two-byte length and a packet, both ways.
//!
//! ```text
//!   in:  [len|packet][len|packet][len|pa        the rest is kept for the next read
//!   out: [len|packet][len|packet] …             one write; what does not fit waits, whole frames behind it
//! ```

use std::io;
use std::sync::{Arc, Mutex};

use ovpn_dco::{Mode, TransportId};
use ovpn_sys::poll::{Interest, Poller};
use ovpn_sys::tcp::TcpSocket;
use ovpn_wire::tcp_framing;

use crate::peer::lock;

/// Data packets are dropped when so much waits.
const DATA_LIMIT: usize = 1 << 20;
/// Control packets still fit above it.
const CONTROL_LIMIT: usize = DATA_LIMIT + (64 << 10);
/// When more waits, a point-to-point device is read no further …
const PAUSE_ABOVE: usize = 256 << 10;
/// … until no more than this waits.
const RESUME_BELOW: usize = 64 << 10;

/// Bytes of the longest frame of usual packets: a beginning of one is kept without asking for memory.
const USUAL_FRAME: usize = 2048;

/// A TCP connection.
pub(crate) struct TcpLink {
    pub(crate) socket: TcpSocket,
    /// The beginning of a frame whose end has not come yet.
    pub(crate) partial: Mutex<Vec<u8>>,
    writer: Mutex<Writer>,
    poller: Arc<Poller>,
    token: u64,
    may_pause: bool,
}

#[derive(Default)]
struct Writer {
    /// Bytes that wait, from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    dead: bool,
    paused: bool,
}

/// What became of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Written, or waiting to be.
    Taken,
    /// Dropped: too much waits.
    Full,
}

impl TcpLink {
    /// A connection whose descriptor is waited for by `poller` under its transport's id.
    pub(crate) fn new(socket: TcpSocket, poller: Arc<Poller>, id: TransportId, mode: Mode) -> Self {
        let may_pause = mode == Mode::P2p;
        // One peer's jams have their room from the start: memory that is not touched costs nothing.
        let waiting = if may_pause { Vec::with_capacity(CONTROL_LIMIT) } else { Vec::new() };
        Self {
            socket,
            partial: Mutex::new(Vec::with_capacity(USUAL_FRAME)),
            writer: Mutex::new(Writer { waiting, ..Writer::default() }),
            poller,
            token: id.0,
            may_pause,
        }
    }

    /// Writes whole frames of data packets.
    pub(crate) fn send_data(&self, frames: &[u8]) -> Sent {
        self.send(frames, DATA_LIMIT)
    }

    pub(crate) fn send_control(&self, packet: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(tcp_framing::PREFIX_LEN + packet.len());
        tcp_framing::write_packet(packet, &mut frame).map_err(io::Error::other)?;
        if lock(&self.writer).dead {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match self.send(&frame, CONTROL_LIMIT) {
            Sent::Taken => Ok(()),
            Sent::Full => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn send(&self, frames: &[u8], limit: usize) -> Sent {
        let mut writer = lock(&self.writer);
        if writer.dead {
            return Sent::Full;
        }
        let mut rest = frames;
        if writer.is_empty() {
            while !rest.is_empty() {
                match self.socket.send(rest) {
                    Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    // The reading side sees the same and reports it.
                    Err(_) => {
                        writer.die();
                        return Sent::Full;
                    }
                }
            }
            if rest.is_empty() {
                return Sent::Taken;
            }
            let _ = self.poller.modify(&self.socket, self.token, Interest::ReadWrite);
        } else if writer.len() + rest.len() > limit {
            return Sent::Full;
        }
        if writer.waiting.capacity() < RESUME_BELOW {
            // At once what a whole jam may take: packets in the middle of it ask for nothing.
            writer.waiting.reserve(CONTROL_LIMIT);
        }
        writer.compact();
        writer.waiting.extend_from_slice(rest);
        writer.paused |= self.may_pause && writer.len() > PAUSE_ABOVE;
        Sent::Taken
    }

    /// Writes what waits, now that the socket takes more.
    pub(crate) fn drain(&self) {
        let mut writer = lock(&self.writer);
        while !writer.is_empty() {
            let sent = writer.sent;
            match self.socket.send(writer.waiting.get(sent..).unwrap_or_default()) {
                Ok(n) => writer.sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => writer.die(),
            }
        }
        if writer.len() <= RESUME_BELOW {
            writer.paused = false;
        }
        if writer.is_empty() {
            writer.waiting.clear();
            writer.sent = 0;
            if !self.may_pause {
                // One jam's memory for each of many peers would be too much; the next jam asks anew.
                writer.waiting = Vec::new();
            }
            let _ = self.poller.modify(&self.socket, self.token, Interest::Read);
        }
    }

    /// Whether so much waits that no more should be read for it.
    pub(crate) fn is_paused(&self) -> bool {
        self.may_pause && lock(&self.writer).paused
    }

    /// Nothing is sent any more.
    pub(crate) fn die(&self) {
        lock(&self.writer).die();
    }
}

impl Writer {
    fn len(&self) -> usize {
        self.waiting.len() - self.sent
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back the room of what was sent, when it is worth the copy.
    fn compact(&mut self) {
        if self.sent > self.waiting.len() / 2 {
            self.waiting.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn die(&mut self) {
        *self = Self { dead: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn link(mode: Mode) -> (TcpLink, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let socket = TcpSocket::new(ours.into()).unwrap();
        let poller = Arc::new(Poller::new().unwrap());
        poller.add(&socket, 5, Interest::Read).unwrap();
        (TcpLink::new(socket, poller, TransportId(5), mode), theirs)
    }

    #[test]
    fn what_does_not_fit_waits_and_nothing_is_torn() {
        let (link, mut theirs) = link(Mode::P2p);
        let mut expected = Vec::new();
        let mut number = 0u32;
        // Far more than the sockets hold: some frames are refused whole.
        loop {
            let frame: Vec<u8> = [1000u16.to_be_bytes().as_slice(), &[number as u8; 1000]].concat();
            match link.send_data(&frame) {
                Sent::Taken => expected.extend(&frame),
                Sent::Full => break,
            }
            number += 1;
        }
        assert!(link.is_paused());
        link.send_control(b"control").unwrap();
        expected.extend([0, 7]);
        expected.extend(b"control");
        let mut got = vec![0; expected.len()];
        let reader = std::thread::spawn(move || {
            theirs.read_exact(&mut got).unwrap();
            got
        });
        while !lock(&link.writer).is_empty() {
            link.drain();
        }
        assert!(!link.is_paused());
        assert_eq!(reader.join().unwrap(), expected);
    }

    #[test]
    fn a_dead_connection_takes_nothing() {
        let (link, theirs) = link(Mode::MultiPeer);
        drop(theirs);
        link.die();
        assert_eq!(link.send_data(b"\0\x04abcd"), Sent::Full);
        assert_eq!(link.send_control(b"abcd").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
