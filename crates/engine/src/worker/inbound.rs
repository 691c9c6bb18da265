//! From the transports to the device.
//!
//! ```text
//!   UDP ─▶ batch of messages ─▶ cut ┐
//!   TCP ─▶ stream ─▶ frames ────────┴─▶ control? queue : open ─▶ arena ─▶ coalesce ─▶ one write for each frame
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ovpn_dco::DelReason;
use ovpn_sys::tun::{TunQueue, VnetHdr};
use ovpn_sys::udp::{RecvBatch, UdpSocket};
use ovpn_wire::data_packet::{self, Class};

use super::busy_peers::BusyPeers;
use super::moderation::Moderation;
use super::outbound::Turn;
use crate::decrypt::{Kind, Rx};
use crate::drop_reason::{DropCounters, DropReason};
use crate::engine::State;
use crate::framing::{BadFrame, frames};
use crate::offload::gro_coalesce::{Coalescer, Refused};
use crate::peer::{Peer, Source};
use crate::peer_table::Tables;
use crate::time::Timestamp;
use crate::transport::tcp::TcpLink;
use crate::transport::{Link, LinkKind};

/// Room for opened packets, bytes.
const ARENA: usize = 256 << 10;
/// The longest inner packet.
const MAX_INNER: usize = 65536;
/// Room for a TCP stream: more than one read's worth behind the longest partial frame.
const STREAM: usize = 256 << 10;
/// Messages in one batch: where the system merges datagrams each is large, and a few fill the caches.
const MESSAGES: usize = 128;
const MERGED_MESSAGES: usize = 8;
/// Messages of this length on average have been merged, bytes.
const MERGED: usize = 8 << 10;

/// What a device that is down answers.
const EIO: i32 = 5;
const EINVAL: i32 = 22;

/// Buffers of the receiving direction, one set for each worker.
pub(crate) struct Inbound {
    batch: RecvBatch,
    /// How many messages to take at once.
    limit: usize,
    /// See [`last_batch`](Self::last_batch).
    last_batch: (Option<Source>, usize),
    pub(crate) moderation: Moderation,
    stream: Box<[u8]>,
    delivery: Delivery,
}

/// Opened packets on their way to the device.
struct Delivery {
    arena: Box<[u8]>,
    used: usize,
    coalescer: Coalescer,
    busy: BusyPeers,
    /// Payload of TCP super-packets handed to the device in this batch, bytes.
    merged: usize,
}

struct Current<'a> {
    peer: &'a Arc<Peer>,
    rx: Rx<'a>,
}

impl Inbound {
    pub(crate) fn new(tcp: bool, udp: bool) -> Self {
        let coalescer = Coalescer::new(tcp, udp);
        Self {
            batch: RecvBatch::new(MESSAGES),
            limit: MESSAGES,
            last_batch: (None, 0),
            moderation: Moderation::default(),
            stream: Box::default(),
            delivery: Delivery {
                arena: vec![0; ARENA].into(),
                used: 0,
                coalescer,
                busy: BusyPeers::default(),
                merged: 0,
            },
        }
    }

    /// Takes a batch of what waits in a transport.
    pub(crate) fn turn(&mut self, state: &State, link: &Arc<Link>, tun: &TunQueue, now: Timestamp) -> Turn {
        self.last_batch = (None, 0);
        match &link.kind {
            LinkKind::Udp(udp) => self.udp(state, link, &udp.socket, tun, now),
            LinkKind::Tcp(tcp) => self.tcp(state, link, tcp, tun, now),
        }
    }

    /// Who sent the last turn's batch, if it was one sender of datagrams that came one by one, and how many they were.
    pub(crate) fn last_batch(&self) -> (Option<Source>, usize) {
        self.last_batch
    }

    /// Takes a batch of what waits in a socket of a UDP transport.
    pub(crate) fn udp(
        &mut self,
        state: &State,
        link: &Link,
        socket: &UdpSocket,
        tun: &TunQueue,
        now: Timestamp,
    ) -> Turn {
        let count = match socket.recv_up_to(&mut self.batch, self.limit) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Turn::Drained,
            Err(error) => {
                // Told once each by the network; the socket lives on.
                tracing::debug!(%error, "error reported by a transport socket");
                return Turn::More;
            }
        };
        let tables = state.table.read();
        let drops = state.table.drops();
        let (full, bound) = (count >= self.limit, socket.bound());
        let mut current = None;
        let mut bytes = 0;
        self.delivery.merged = 0;
        let mut first = None;
        for index in 0..count {
            let message = self.batch.message(index);
            bytes += message.data.len();
            if message.truncated {
                drops.count(DropReason::TooLong);
                continue;
            }
            let source = Source { remote: message.from, local: message.local.or(bound) };
            if index == 0 {
                first = Some(source);
            } else if index + 1 == count {
                self.last_batch = (first.filter(|first| *first == source), count);
            }
            if message.data.is_empty() {
                drops.count(DropReason::TooShort);
                continue;
            }
            for packet in message.data.chunks(message.segment.max(1)) {
                match data_packet::classify(packet) {
                    None => {
                        drops.count(DropReason::TooShort);
                    }
                    Some(Class::Control) => {
                        if !link.control.push(packet, source.remote, source.local) {
                            drops.count(DropReason::ControlFull);
                        }
                    }
                    Some(class) => {
                        let Ok(peer) = tables.sender(class, source.remote) else { continue };
                        // What it is dropped for has been counted.
                        let _ = self.delivery.open(
                            &tables,
                            &mut current,
                            peer,
                            packet,
                            Some(&source),
                            now,
                            tun,
                            drops,
                        );
                    }
                }
            }
        }
        self.delivery.leave(current, now);
        self.delivery.flush(tun, drops);
        if let LinkKind::Udp(udp) = &link.kind {
            udp.make_room(self.delivery.busy.count(now));
        }
        if bytes > count * MERGED {
            self.limit = MERGED_MESSAGES;
            // The system works once for many datagrams: a socket of the sender's own would gain nothing.
            self.last_batch = (None, 0);
        } else {
            self.limit = MESSAGES;
        }
        self.moderation.received(self.delivery.merged, !full, now);
        if full { Turn::More } else { Turn::Drained }
    }

    fn tcp(
        &mut self,
        state: &State,
        link: &Arc<Link>,
        tcp: &TcpLink,
        tun: &TunQueue,
        now: Timestamp,
    ) -> Turn {
        if self.stream.is_empty() {
            self.stream = vec![0; STREAM].into();
        }
        let mut partial = crate::peer::lock(&tcp.partial);
        let kept = partial.len();
        self.stream[..kept].copy_from_slice(&partial);
        let got = match tcp.socket.recv(&mut self.stream[kept..]) {
            Ok(0) => {
                drop(partial);
                state.stream_ended(link, DelReason::TransportDisconnect, io::ErrorKind::UnexpectedEof);
                return Turn::Gone;
            }
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Turn::Drained,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Turn::More,
            Err(error) => {
                tracing::debug!(%error, "TCP transport failed");
                drop(partial);
                state.stream_ended(link, DelReason::TransportDisconnect, error.kind());
                return Turn::Gone;
            }
        };
        let end = kept + got;
        let tables = state.table.read();
        let drops = state.table.drops();
        let mut current = None;
        let from: SocketAddr = tcp.socket.remote();
        let delivery = &mut self.delivery;
        let used = frames(&self.stream[..end], |packet| {
            match data_packet::classify(packet) {
                Some(Class::Control) => {
                    if !link.control.push(packet, from, None) {
                        drops.count(DropReason::ControlFull);
                    }
                }
                Some(class) => match tables.by_tcp_transport(link.id) {
                    Some(peer) => {
                        let opened =
                            delivery.open(&tables, &mut current, peer, packet, None, now, tun, drops);
                        // A peer that speaks the new format never falls back, as with the kernel's driver.
                        if opened == Err(DropReason::WrongOpcode) && matches!(class, Class::DataV1 { .. }) {
                            return Err(BadFrame::Packet);
                        }
                    }
                    None => {
                        drops.count(DropReason::UnknownPeer);
                    }
                },
                None => return Err(BadFrame::Length),
            }
            Ok(())
        });
        drop(current);
        delivery.flush(tun, drops);
        drop(tables);
        let used = match used {
            Ok(used) => used,
            Err(why) => {
                if why == BadFrame::Length {
                    drops.count(DropReason::BadFraming);
                }
                drop(partial);
                state.stream_ended(link, DelReason::TransportError, io::ErrorKind::InvalidData);
                return Turn::Gone;
            }
        };
        partial.clear();
        partial.extend_from_slice(&self.stream[used..end]);
        Turn::More
    }
}

impl Delivery {
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "the parts of one batch, borrowed separately")]
    fn open<'a>(
        &mut self,
        tables: &'a Tables,
        current: &mut Option<Current<'a>>,
        peer: &'a Arc<Peer>,
        packet: &[u8],
        from: Option<&Source>,
        now: Timestamp,
        tun: &TunQueue,
        drops: &DropCounters,
    ) -> Result<(), DropReason> {
        // What a packet that was compressed, or came in pieces, may become.
        let room = if peer.is_bare() { packet.len() } else { MAX_INNER };
        if self.arena.len() - self.used < room {
            self.flush(tun, drops);
        }
        let rx = match current {
            Some(current) if Arc::ptr_eq(current.peer, peer) => &mut current.rx,
            _ => {
                // The lock of the peer before is given back first.
                self.leave(current.take(), now);
                &mut current.insert(Current { peer, rx: tables.rx(peer, now) }).rx
            }
        };
        let out = &mut self.arena[self.used..self.used + room];
        let opened = rx.open(packet, from, out)?;
        if opened.kind() == Kind::Data {
            self.coalescer.push(&self.arena, self.used, opened.len());
            self.used += opened.len();
        }
        Ok(())
    }

    /// Gives back the lock of the peer whose packets have been opened.
    fn leave(&mut self, current: Option<Current<'_>>, now: Timestamp) {
        if let Some(Current { mut rx, .. }) = current {
            self.busy.received(&mut rx, now);
        }
    }

    /// Writes everything to the device.
    fn flush(&mut self, tun: &TunQueue, drops: &DropCounters) {
        let mut refused = [false; 2];
        self.coalescer.drain(&mut self.arena, |hdr, count, pieces| {
            if hdr.is_tcp() {
                self.merged += count * usize::from(hdr.gso_size);
            }
            loop {
                let Err(error) = tun.write(pieces) else { return Ok(()) };
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                if count > 1 && error.raw_os_error() == Some(EINVAL) {
                    let udp = hdr.gso_type == VnetHdr::GSO_UDP_L4;
                    refused[usize::from(udp)] = true;
                    return Err(Refused);
                }
                tracing::trace!(%error, count, "the device did not take a frame");
                let down = error.raw_os_error() == Some(EIO);
                let reason = if down { DropReason::DeviceDown } else { DropReason::DeviceFull };
                drops.add(reason, count as u64);
                return Ok(());
            }
        });
        for (udp, refused) in [false, true].into_iter().zip(refused) {
            if refused {
                tracing::debug!(udp, "the device refuses merged packets");
                self.coalescer.disable(udp);
            }
        }
        self.used = 0;
    }
}
