//! The threads that move packets: each waits for its queue of the device and its transports, and takes turns.

pub(crate) mod busy_peers;
pub(crate) mod inbound;
mod moderation;
pub(crate) mod outbound;
mod own_socket;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_dco::TransportId;
use ovpn_sys::poll::{MAX_ANY, MAX_READY, Ready, wait_any};
use ovpn_sys::tun::TunQueue;

use crate::engine::{Seat, State};
use crate::time::Timestamp;
use crate::transport::Link;
use inbound::Inbound;
use moderation::{PATIENCE, PAUSE};
use outbound::{Outbound, Turn};
use own_socket::OwnSocket;

/// Token of the worker's own wake-up call; transports have their ids, which are smaller.
pub(crate) const WAKE: u64 = u64::MAX;
/// Token of the routing table's changes.
pub(crate) const ROUTES: u64 = u64::MAX - 1;

/// Batches taken from one transport before others have their turn.
const TURNS: usize = 4;

/// The most batches that wait in a transport.
const BACKLOG: usize = 64;

/// One thread's part.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) state: Arc<State>,
    pub(crate) tun: TunQueue,
}

impl Worker {
    /// Works until the engine is closed. Should a packet ever make it panic, that packet is lost and nothing else.
    pub(crate) fn run(self) {
        while panic::catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            tracing::error!(
                worker = self.number,
                "a data worker panicked and starts again; please report this"
            );
        }
    }

    fn work(&self) {
        let offloads = self.state.offloads;
        let mut outbound = Outbound::new();
        let mut inbound = Inbound::new(offloads.tso, offloads.uso);
        let mut ready = Vec::with_capacity(MAX_READY);
        let Some(seat) = self.state.seats.get(self.number) else { return };
        let (mut busy, mut generation) = (Vec::new(), u64::MAX);
        let (mut own, mut device_gone) = (OwnSocket::default(), false);
        let mut now = self.state.now();
        while !self.state.is_closed() {
            if generation != seat.generation() {
                (busy, generation) = seat.busy();
                own.keep(&busy);
            }
            // Back-pressure: while a point-to-point TCP transport is full the device is not read.
            let reads_tun = !device_gone && !self.state.is_paused();
            let device = if reads_tun { self.tun.as_fd() } else { seat.poller.as_fd() };
            let mut fds = [seat.poller.as_fd(); MAX_ANY];
            fds[1] = device;
            for (slot, link) in fds.iter_mut().skip(2).zip(&busy) {
                *slot = link.as_fd();
            }
            let mut used = (2 + busy.len()).min(MAX_ANY - 1);
            if let Some((_, socket)) = own.get() {
                fds[used] = socket.as_fd();
                used += 1;
            }
            let fds = fds.get(..used).unwrap_or_default();
            let bits = match self.wait(fds, inbound.moderation.is_streaming(now)) {
                Ok(bits) => bits,
                Err(error) => {
                    tracing::warn!(%error, "a data worker cannot wait and stops");
                    return;
                }
            };
            now = self.state.now();
            if bits & 1 != 0 {
                self.others(seat, &mut ready, &mut inbound, &mut own, now);
            }
            let mut sent = Turn::Drained;
            if bits & 2 != 0 && reads_tun {
                sent = outbound.turn(&self.state, &self.tun, now);
                device_gone = sent == Turn::Gone;
                inbound.moderation.sent(outbound.streamed(), now);
            }
            for (n, link) in busy.iter().enumerate() {
                if bits >> (2 + n) & 1 != 0 {
                    self.receive(link, &mut inbound, &mut own, now);
                }
            }
            if let Some((link, socket)) = own.get()
                && bits >> (used - 1) & 1 != 0
            {
                for _ in 0..TURNS {
                    if inbound.udp(&self.state, link, socket, &self.tun, now) != Turn::More {
                        break;
                    }
                }
                own.received(now);
            }
            if let Some(link) = own.open(&busy, now) {
                for _ in 0..BACKLOG {
                    if inbound.turn(&self.state, &link, &self.tun, now) != Turn::More {
                        break;
                    }
                }
            }
            if self.number == 0 {
                self.housekeeping(&mut outbound, now);
            }
            if inbound.moderation.take() && sent != Turn::More {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Serves what waits in the worker's epoll set.
    fn others(
        &self,
        seat: &Seat,
        ready: &mut Vec<Ready>,
        inbound: &mut Inbound,
        own: &mut OwnSocket,
        now: Timestamp,
    ) {
        if seat.poller.wait(ready, Some(Duration::ZERO)).is_err() {
            return;
        }
        for &Ready { token, readable, writable } in ready.iter() {
            match token {
                WAKE => seat.wake.clear(),
                ROUTES => self.state.routes_changed(),
                id => {
                    let link = self.state.links().get(&TransportId(id)).cloned();
                    let Some(link) = link else { continue };
                    if writable {
                        link.drain();
                        self.state.drained();
                    }
                    if readable {
                        self.receive(&link, inbound, own, now);
                    }
                }
            }
        }
    }

    fn receive(&self, link: &Arc<Link>, inbound: &mut Inbound, own: &mut OwnSocket, now: Timestamp) {
        for _ in 0..TURNS {
            let turn = inbound.turn(&self.state, link, &self.tun, now);
            let (sender, count) = inbound.last_batch();
            own.saw(link, sender, count);
            if turn != Turn::More {
                return;
            }
        }
    }

    /// Waits for one of `fds`; in the midst of a stream it looks again for a while, before it sleeps.
    fn wait(&self, fds: &[BorrowedFd<'_>], is_streaming: bool) -> io::Result<u32> {
        if is_streaming {
            let until = Instant::now() + PATIENCE;
            loop {
                let bits = wait_any(fds, Some(Duration::ZERO))?;
                if bits != 0 {
                    return Ok(bits);
                }
                if Instant::now() >= until {
                    break;
                }
                std::thread::yield_now();
            }
        }
        wait_any(fds, self.next_timeout())
    }

    fn next_timeout(&self) -> Option<Duration> {
        if self.number != 0 {
            return None;
        }
        let next = self.state.table.poll_timeout()?;
        // Whole milliseconds: a little late rather than twice.
        Some(next.since(self.state.now()) + Duration::from_millis(1))
    }

    /// Keepalive, expiry, and what follows the end of peers.
    fn housekeeping(&self, outbound: &mut Outbound, now: Timestamp) {
        if self.state.table.poll_timeout().is_some_and(|next| next <= now) {
            let timeouts = self.state.table.handle_timeout(now);
            outbound.ping(&self.state, &timeouts.ping, now);
        }
        self.state.update_carrier();
    }
}
