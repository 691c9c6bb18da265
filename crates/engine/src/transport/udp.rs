//! Sending data packets over UDP: in segments where the system can, one by one where it cannot, never losing one for
//! the way it was sent.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ovpn_sys::poll::wait_writable;
use ovpn_sys::udp::{Outgoing, Path, SpareSocket, UdpSocket};

use crate::drop_reason::{DropCounters, DropReason};
use crate::peer::lock;
use crate::time::Timestamp;

/// How long a full socket buffer may hold the worker up before packets are dropped.
const PATIENCE: Duration = Duration::from_millis(5);
/// How long segmentation stays off for sizes that were refused.
const RETRY: Duration = Duration::from_secs(10);
/// Buffers to ask for, bytes. The receive buffer is the longest queue on the way of whoever receives bulk transfers: the
/// shorter, the less does what travels beside them wait. It has room for a super-packet of each peer that streams, and some
/// more for the first of them.
const RECEIVE_BUFFER: usize = 640 << 10;
const RECEIVE_BUFFER_MAX: usize = 2 << 20;
const ROOM_FOR_EACH: usize = 64 << 10;
const SEND_BUFFER: usize = 1 << 20;

const EIO: i32 = 5;
const EINVAL: i32 = 22;
const EMSGSIZE: i32 = 90;
const EADDRNOTAVAIL: i32 = 99;
const ENETUNREACH: i32 = 101;
const EHOSTUNREACH: i32 = 113;

/// A UDP socket with what was learned about it.
pub(crate) struct UdpLink {
    pub(crate) socket: UdpSocket,
    /// Packets with a mark are there to be told apart, and counted, by the system's filters, which see a message of
    /// segments as one packet: they go one by one.
    marked: bool,
    /// Segments of this size and above are sent one by one …
    segment_limit: AtomicU32,
    /// … until then (milliseconds of [`Timestamp`]).
    retry_at: AtomicU64,
    /// What the system had dropped before the socket came here.
    dropped_before: u32,
    /// The least size of the receive buffer, bytes, and what it was set to last.
    least_room: usize,
    room: AtomicUsize,
    own: Mutex<Own>,
    /// For that sender, made before the process may have given up its rights.
    spare: Mutex<Option<SpareSocket>>,
}

/// The busiest sender's socket.
#[derive(Default)]
struct Own {
    socket: Option<Arc<UdpSocket>>,
    /// What the system had dropped on those before it.
    dropped_before: u64,
}

impl UdpLink {
    pub(crate) fn new(socket: UdpSocket) -> Self {
        socket.raise_buffers(RECEIVE_BUFFER, SEND_BUFFER);
        let (marked, dropped_before) = (socket.mark() != 0, socket.dropped());
        let segment_limit = AtomicU32::new(u32::MAX);
        let spare = Mutex::new(socket.spare().ok());
        let (retry_at, own) = (AtomicU64::new(0), Mutex::default());
        let least_room = socket.receive_buffer();
        let room = AtomicUsize::new(least_room);
        Self { socket, marked, segment_limit, retry_at, dropped_before, least_room, room, own, spare }
    }

    /// Lets the receive buffer have room for so many peers that stream at once; in powers of two, so that it is seldom
    /// changed.
    pub(crate) fn make_room(&self, peers: usize) {
        let room = peers.saturating_mul(ROOM_FOR_EACH).min(RECEIVE_BUFFER_MAX);
        let room = if room <= self.least_room { self.least_room } else { room.next_power_of_two() };
        if self.room.load(Ordering::Relaxed) != room {
            self.room.store(room, Ordering::Relaxed);
            self.socket.set_receive_buffer(room);
            tracing::debug!(peers, room, "the receive buffer has another size");
        }
    }

    /// Messages that the system has dropped for want of room in the receive queue, or for a wrong checksum.
    pub(crate) fn dropped(&self) -> u64 {
        let own = lock(&self.own);
        let elsewhere =
            own.dropped_before + own.socket.as_ref().map_or(0, |socket| u64::from(socket.dropped()));
        elsewhere + u64::from(self.socket.dropped().wrapping_sub(self.dropped_before))
    }

    /// Opens a socket for what comes by `path`; what the system drops on it is counted with the rest.
    pub(crate) fn open_own(&self, path: &Path) -> io::Result<Arc<UdpSocket>> {
        let spare = lock(&self.spare).take();
        let spare = spare.map_or_else(|| self.socket.spare(), Ok)?;
        let socket = Arc::new(spare.connect(&self.socket, path)?);
        // It is one sender's.
        socket.set_receive_buffer(self.least_room);
        lock(&self.own).socket = Some(Arc::clone(&socket));
        Ok(socket)
    }

    /// The socket is about to be closed.
    pub(crate) fn remove_own(&self) {
        let mut own = lock(&self.own);
        if let Some(socket) = own.socket.take() {
            own.dropped_before += u64::from(socket.dropped());
        }
    }

    /// Whether packets of `len` bytes may be sent as segments of one message.
    #[inline]
    pub(crate) fn may_segment(&self, len: usize) -> bool {
        !self.marked && len < self.segment_limit.load(Ordering::Relaxed) as usize
    }

    /// Sends messages in order. What cannot be sent is counted and dropped.
    pub(crate) fn send(&self, messages: &[Outgoing<'_>], now: Timestamp, drops: &DropCounters) {
        if now.as_millis() >= self.retry_at.load(Ordering::Relaxed) {
            self.segment_limit.store(u32::MAX, Ordering::Relaxed);
        }
        let mut rest = messages;
        let mut waited = false;
        // Errors that the network reported earlier are told once each, to whoever comes next.
        let mut stale = 3;
        while let Some((first, after)) = rest.split_first() {
            let error = match self.socket.send(rest) {
                Ok(sent) => {
                    rest = rest.get(sent.max(1)..).unwrap_or_default();
                    waited = false;
                    continue;
                }
                Err(error) => error,
            };
            match (error.kind(), error.raw_os_error()) {
                (io::ErrorKind::Interrupted, _) => continue,
                (io::ErrorKind::WouldBlock, _) => {
                    if !waited && wait_writable(&self.socket, PATIENCE) {
                        waited = true;
                        continue;
                    }
                    let packets: u64 = rest.iter().map(packets).sum();
                    drops.add(DropReason::TransportFull, packets);
                    return;
                }
                (io::ErrorKind::ConnectionRefused, _) if stale > 0 => {
                    stale -= 1;
                    continue;
                }
                // The local address is gone; the system knows another, or will say so.
                (_, Some(EINVAL | ENETUNREACH | EADDRNOTAVAIL | EHOSTUNREACH))
                    if first.path.local.is_some() && !segments_refused(first, &error) =>
                {
                    let mut plain = *first;
                    plain.path.local = None;
                    self.send(&[plain], now, drops);
                }
                _ if segments_refused(first, &error) => {
                    self.refused(first.segment, &error, now);
                    let (data, segment) = (first.data, usize::from(first.segment));
                    for data in data.chunks(segment) {
                        self.send(&[Outgoing { data, segment: 0, path: first.path }], now, drops);
                    }
                }
                _ => {
                    tracing::trace!(%error, to = %first.path.remote, "data packet not sent");
                    drops.add(DropReason::SendFailed, packets(first));
                }
            }
            rest = after;
        }
    }

    #[cold]
    fn refused(&self, segment: u16, error: &io::Error, now: Timestamp) {
        // EIO: the device cannot at all. The others: a segment does not fit the path, or the address is no longer ours.
        let limit = if error.raw_os_error() == Some(EIO) { 0 } else { u32::from(segment) };
        self.segment_limit.fetch_min(limit, Ordering::Relaxed);
        self.retry_at.store(now.after(RETRY).as_millis(), Ordering::Relaxed);
        tracing::debug!(%error, segment, "segmentation refused, sending one by one");
    }
}

fn segments_refused(message: &Outgoing<'_>, error: &io::Error) -> bool {
    message.segment != 0 && matches!(error.raw_os_error(), Some(EIO | EINVAL | EMSGSIZE))
}

fn packets(message: &Outgoing<'_>) -> u64 {
    match usize::from(message.segment) {
        0 => 1,
        segment => message.data.len().div_ceil(segment) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Std;

    use super::*;

    #[test]
    fn the_receive_buffer_has_room_for_all_who_stream() {
        const KIB: usize = 1 << 10;
        let socket = || UdpSocket::new(Std::bind("127.0.0.1:0").unwrap().into()).unwrap();
        let link = UdpLink::new(socket());
        for (peers, kib) in [(0, 640), (10, 640), (11, 1024), (17, 2048), (100_000, 2048), (1, 640)] {
            link.make_room(peers);
            assert_eq!(link.socket.receive_buffer(), kib * KIB, "{peers} peers");
        }
        link.make_room(100);
        let local = link.socket.local_addr().unwrap();
        let own = link.open_own(&Path { remote: local, local: Some(local.ip()) }).unwrap();
        assert_eq!(own.receive_buffer(), 640 * KIB, "one sender's");
        let large = socket();
        large.set_receive_buffer(1500 * KIB);
        let link = UdpLink::new(large);
        for (peers, kib) in [(1, 1500), (17, 1500), (24, 2048), (1, 1500)] {
            link.make_room(peers);
            assert_eq!(link.socket.receive_buffer(), kib * KIB, "{peers} peers, a size of the user's");
        }
    }
}
