//! From the device to the transports.
//!
//! ```text
//!   TUN ─▶ super-packet ─▶ cut ─▶ seal ─▶ arena [packet|packet|packet|…] ─▶ runs ─▶ one send for each run
//! ```
//!
//! Packets are sealed straight into the arena, one after the other. Neighbours of one size for one path are a run:
//! over UDP one message of segments, over TCP one write.

use std::io;
use std::sync::Arc;

use ovpn_sys::tun::{MAX_FRAME, TunQueue, VNET_HDR_LEN, VnetHdr};
use ovpn_sys::udp::{MAX_SEGMENTS, Outgoing, Path};
use ovpn_wire::tcp_framing::PREFIX_LEN;

use crate::drop_reason::{DropCounters, DropReason};
use crate::encrypt::Tx;
use crate::engine::State;
use crate::offload::gso_split;
use crate::peer::Peer;
use crate::time::Timestamp;
use crate::transport::tcp::Sent;
use crate::transport::{Link, LinkKind};

/// Room for sealed packets, bytes.
const ARENA: usize = 256 << 10;
/// More than this is sent before anything else is read, bytes.
const SEND_ABOVE: usize = 128 << 10;
/// The most frames read in one turn.
const FRAMES: usize = 64;
/// More than any packet format adds.
const MAX_OVERHEAD: usize = 64;
/// The most bytes in one message of segments. With IPv6, UDP and Ethernet headers and a VLAN tag it must stay below the
/// 64 KiB up to which devices take it uncut.
const MAX_RUN: usize = 65535 - 40 - 8 - 18;
/// The most messages handed over in one call.
const MESSAGES: usize = 32;

/// Buffers of the sending direction, one set for each worker.
pub(crate) struct Outbound {
    frame: Box<[u8]>,
    buffer: SendBuffer,
    /// TCP super-packets read in the last turn, bytes.
    streamed: usize,
}

/// What a turn ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing waits any more.
    Drained,
    /// There may be more.
    More,
    /// The device is gone.
    Gone,
}

struct Current<'a> {
    peer: &'a Arc<Peer>,
    tx: Tx<'a>,
    link: &'a Arc<Link>,
    path: Option<Path>,
}

impl Outbound {
    pub(crate) fn new() -> Self {
        Self { frame: vec![0; MAX_FRAME].into(), buffer: SendBuffer::new(), streamed: 0 }
    }

    /// Takes what waits in the device and sends it.
    pub(crate) fn turn(&mut self, state: &State, tun: &TunQueue, now: Timestamp) -> Turn {
        let (tables, links) = (state.table.read(), state.links());
        let drops = state.table.drops();
        let mut current: Option<Current<'_>> = None;
        let mut turn = Turn::More;
        self.streamed = 0;
        for _ in 0..FRAMES {
            let len = match tun.read(&mut self.frame) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    turn = Turn::Drained;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    turn = Turn::Gone;
                    break;
                }
            };
            let Some(frame) = self.frame.get_mut(..len) else { continue };
            let Some(hdr) = VnetHdr::parse(frame) else { continue };
            if hdr.is_tcp() {
                self.streamed += len;
            }
            let packet = &mut frame[VNET_HDR_LEN..];
            let Ok(peer) = tables.receiver(packet) else { continue };
            if current.as_ref().is_none_or(|current| !Arc::ptr_eq(current.peer, peer)) {
                if state.shares_peers {
                    // Another worker may seal for the same peer as soon as its lock is given back.
                    self.buffer.flush(now, drops);
                }
                drop(current.take());
                let Some(link) = links.get(&peer.transport()) else {
                    drops.count(DropReason::SendFailed);
                    continue;
                };
                let tx = tables.tx(peer, now);
                let path = path_of(&tx);
                current = Some(Current { peer, tx, link, path });
            }
            let Some(Current { tx, link, path, .. }) = &mut current else { continue };
            let cut = gso_split::split(&hdr, packet, |segment| {
                self.buffer.seal(tx, link, *path, segment, now, drops);
            });
            if cut.is_err() {
                drops.count(DropReason::BadOffload);
            }
            if self.buffer.used > SEND_ABOVE {
                break;
            }
        }
        self.buffer.flush(now, drops);
        turn
    }

    /// Bytes of TCP super-packets that the last turn read.
    pub(crate) fn streamed(&self) -> usize {
        self.streamed
    }

    /// Sends a keepalive to each of `peers`.
    pub(crate) fn ping(&mut self, state: &State, peers: &[Arc<Peer>], now: Timestamp) {
        let (tables, links) = (state.table.read(), state.links());
        let drops = state.table.drops();
        for peer in peers {
            let Some(link) = links.get(&peer.transport()) else { continue };
            let mut tx = tables.tx(peer, now);
            let path = path_of(&tx);
            self.buffer.ping(&mut tx, link, path);
            self.buffer.flush(now, drops);
        }
    }
}

/// Tells a peer on the data channel that we leave, from whatever thread this is.
pub(crate) fn say_exit(state: &State, peer: &Peer, now: Timestamp) {
    let (tables, links) = (state.table.read(), state.links());
    let Some(link) = links.get(&peer.transport()) else { return };
    let mut buffer = SendBuffer { arena: vec![0; 2 * MAX_OVERHEAD].into(), used: 0, runs: Vec::new() };
    let mut tx = tables.tx(peer, now);
    let path = path_of(&tx);
    let prefix = prefix_len(link);
    let Some(out) = buffer.arena.get_mut(prefix..) else { return };
    if let Ok(len) = tx.seal_exit(out) {
        buffer.add(link, path, prefix, len);
        buffer.flush(now, state.table.drops());
    }
}

fn path_of(tx: &Tx<'_>) -> Option<Path> {
    let endpoint = tx.endpoint();
    endpoint.remote.map(|remote| Path { remote, local: endpoint.local })
}

/// Sealed packets on their way.
struct SendBuffer {
    arena: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
}

struct Run {
    link: Arc<Link>,
    /// `None` over TCP.
    path: Option<Path>,
    start: usize,
    end: usize,
    /// Length of the packets, but for the last.
    segment: usize,
    count: usize,
    /// Another packet may be added.
    open: bool,
}

impl SendBuffer {
    fn new() -> Self {
        Self { arena: vec![0; ARENA].into(), used: 0, runs: Vec::with_capacity(256) }
    }

    #[inline]
    fn seal(
        &mut self,
        tx: &mut Tx<'_>,
        link: &Arc<Link>,
        path: Option<Path>,
        segment: &mut [u8],
        now: Timestamp,
        drops: &DropCounters,
    ) {
        tx.clamp_mss(segment);
        if tx.peer().fragment().is_some() {
            return self.seal_pieces(tx, link, path, segment, now, drops);
        }
        if self.arena.len() - self.used < segment.len() + MAX_OVERHEAD {
            self.flush(now, drops);
        }
        let prefix = prefix_len(link);
        let Some(out) = self.arena.get_mut(self.used + prefix..) else { return };
        if let Ok(len) = tx.seal(segment, out) {
            self.add(link, path, prefix, len);
        }
    }

    fn seal_pieces(
        &mut self,
        tx: &mut Tx<'_>,
        link: &Arc<Link>,
        path: Option<Path>,
        packet: &[u8],
        now: Timestamp,
        drops: &DropCounters,
    ) {
        let Ok(pieces) = tx.pieces(packet) else { return };
        for piece in pieces {
            if self.arena.len() - self.used < piece.len() + MAX_OVERHEAD {
                self.flush(now, drops);
            }
            let prefix = prefix_len(link);
            let Some(out) = self.arena.get_mut(self.used + prefix..) else { return };
            match tx.seal_piece(&piece, out) {
                Ok(len) => self.add(link, path, prefix, len),
                Err(_) => return,
            }
        }
    }

    fn ping(&mut self, tx: &mut Tx<'_>, link: &Arc<Link>, path: Option<Path>) {
        let prefix = prefix_len(link);
        let Some(out) = self.arena.get_mut(self.used + prefix..) else { return };
        if let Ok(len) = tx.seal_ping(out) {
            self.add(link, path, prefix, len);
        }
    }

    /// The packet at `used + prefix` is sealed: extends the last run or begins another.
    #[inline]
    fn add(&mut self, link: &Arc<Link>, path: Option<Path>, prefix: usize, len: usize) {
        let start = self.used;
        self.used += prefix + len;
        if prefix != 0 {
            // The largest inner packet is 65535 bytes; with its overhead it may have no frame.
            let Ok(length) = u16::try_from(len) else {
                self.used = start;
                return;
            };
            self.arena[start..start + PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
        }
        if let Some(run) = self.runs.last_mut()
            && run.open
            && Arc::ptr_eq(&run.link, link)
            && run.path == path
            && run.takes(len)
        {
            run.end = self.used;
            run.count += 1;
            run.open = prefix != 0 || (len == run.segment && run.count < MAX_SEGMENTS);
            return;
        }
        let open = match &link.kind {
            LinkKind::Udp(udp) => udp.may_segment(len),
            LinkKind::Tcp(_) => true,
        };
        let end = self.used;
        self.runs.push(Run { link: Arc::clone(link), path, start, end, segment: len, count: 1, open });
    }

    /// Sends everything, in order.
    fn flush(&mut self, now: Timestamp, drops: &DropCounters) {
        let mut runs = self.runs.as_slice();
        while let Some(first) = runs.first() {
            let same = |run: &&Run| Arc::ptr_eq(&run.link, &first.link);
            let count = runs.iter().take(MESSAGES).take_while(same).count();
            let (batch, rest) = runs.split_at(count);
            runs = rest;
            match &first.link.kind {
                LinkKind::Udp(udp) => {
                    let mut messages = [const { None }; MESSAGES];
                    let mut used = 0;
                    for run in batch {
                        let Some(path) = run.path else { continue };
                        let segment = if run.count > 1 { run.segment as u16 } else { 0 };
                        messages[used] =
                            Some(Outgoing { data: &self.arena[run.start..run.end], segment, path });
                        used += 1;
                    }
                    let Some(first) = messages[0] else { continue };
                    let messages = messages.map(|message| message.unwrap_or(first));
                    udp.send(&messages[..used], now, drops);
                }
                LinkKind::Tcp(tcp) => {
                    for run in batch {
                        if tcp.send_data(&self.arena[run.start..run.end]) == Sent::Full {
                            drops.add(DropReason::TransportFull, run.count as u64);
                        }
                    }
                }
            }
        }
        self.runs.clear();
        self.used = 0;
    }
}

impl Run {
    fn takes(&self, len: usize) -> bool {
        match &self.link.kind {
            LinkKind::Udp(_) => {
                len != 0
                    && len <= self.segment
                    && self.end - self.start + len <= MAX_RUN
                    && self.count < MAX_SEGMENTS
            }
            LinkKind::Tcp(_) => true,
        }
    }
}

fn prefix_len(link: &Link) -> usize {
    match link.kind {
        LinkKind::Udp(_) => 0,
        LinkKind::Tcp(_) => PREFIX_LEN,
    }
}
