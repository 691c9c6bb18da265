//! Control packets of one transport: a bounded queue from the worker to the control plane, and the way back.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use ovpn_dco::{ControlPort, Received};
use ovpn_sys::wake::Wake;

use crate::engine::State;
use crate::peer::lock;
use crate::transport::Link;

/// The most bytes of packets that wait; a flood costs no more.
const QUEUE_BYTES: usize = 1 << 20;
/// What a packet costs beside its bytes.
const PACKET_COST: usize = 64;

/// Packets that wait for the control plane.
pub(crate) struct ControlQueue {
    inner: Mutex<Queue>,
    wake: Wake,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Packet>,
    bytes: usize,
    /// What receiving ends with, once the packets are taken.
    end: Option<io::ErrorKind>,
}

struct Packet {
    bytes: Box<[u8]>,
    from: SocketAddr,
    local: Option<IpAddr>,
}

impl ControlQueue {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { inner: Mutex::default(), wake: Wake::new()? })
    }

    /// Queues a copy of `packet`; false where the queue is full.
    pub(crate) fn push(&self, packet: &[u8], from: SocketAddr, local: Option<IpAddr>) -> bool {
        let mut queue = lock(&self.inner);
        let cost = packet.len() + PACKET_COST;
        if queue.end.is_some() || queue.bytes + cost > QUEUE_BYTES {
            return false;
        }
        queue.bytes += cost;
        queue.packets.push_back(Packet { bytes: packet.into(), from, local });
        if queue.packets.len() == 1 {
            self.wake.set();
        }
        true
    }

    /// No packet comes any more; the first reason stays.
    pub(crate) fn end(&self, why: io::ErrorKind) {
        lock(&self.inner).end.get_or_insert(why);
        self.wake.set();
    }

    fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut queue = lock(&self.inner);
        let Some(packet) = queue.packets.pop_front() else {
            return Err(queue.end.unwrap_or(io::ErrorKind::WouldBlock).into());
        };
        queue.bytes -= packet.bytes.len() + PACKET_COST;
        if queue.packets.is_empty() && queue.end.is_none() {
            self.wake.clear();
        }
        let len = packet.bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&packet.bytes[..len]);
        Ok(Received { len, from: packet.from, local: packet.local })
    }
}

/// The control plane's end.
pub(crate) struct Port {
    pub(crate) state: Arc<State>,
    pub(crate) link: Arc<Link>,
}

impl ControlPort for Port {
    fn fd(&self) -> BorrowedFd<'_> {
        self.link.control.wake.as_fd()
    }

    fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.link.control.recv(buf)
    }

    fn send(&self, packet: &[u8], to: SocketAddr, local: Option<IpAddr>) -> io::Result<()> {
        self.link.send_control(packet, to, local)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.state.transport_close(&self.link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_ends() {
        let queue = ControlQueue::new().unwrap();
        let from = "192.0.2.1:1194".parse().unwrap();
        let mut buffer = [0; 2048];
        assert_eq!(queue.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let taken = (0..5000).take_while(|_| queue.push(&[7; 1000], from, None)).count();
        assert_eq!(taken, QUEUE_BYTES / (1000 + PACKET_COST));
        queue.end(io::ErrorKind::UnexpectedEof);
        queue.end(io::ErrorKind::InvalidData);
        for _ in 0..taken {
            assert_eq!(queue.recv(&mut buffer).unwrap(), Received { len: 1000, from, local: None });
        }
        assert_eq!(queue.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(!queue.push(b"late", from, None));
    }

    #[test]
    fn a_long_packet_is_cut() {
        let queue = ControlQueue::new().unwrap();
        let from = "192.0.2.1:1194".parse().unwrap();
        assert!(queue.push(b"packet", from, None));
        let mut buffer = [0; 3];
        assert_eq!(queue.recv(&mut buffer).unwrap().len, 3);
        assert_eq!(&buffer, b"pac");
    }
}
