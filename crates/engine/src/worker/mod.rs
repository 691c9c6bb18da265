//! The threads that move packets: each waits for its queue of the device and its transports, and takes turns.

pub(crate) mod inbound;
pub(crate) mod outbound;

use std::sync::Arc;
use std::time::Duration;

use ovpn_sys::poll::{Interest, Poller, Ready};
use ovpn_sys::tun::TunQueue;

use crate::engine::State;
use crate::time::Timestamp;
use inbound::Inbound;
use outbound::{Outbound, Turn};

/// Token of the device; transports have their ids, which are smaller.
pub(crate) const TUN: u64 = u64::MAX;
/// Token of the worker's own wake-up call.
pub(crate) const WAKE: u64 = u64::MAX - 1;
/// Token of the routing table's changes.
pub(crate) const ROUTES: u64 = u64::MAX - 2;

/// Batches taken from one transport before others have their turn.
const TURNS: usize = 4;

/// One thread's part.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) state: Arc<State>,
    pub(crate) tun: TunQueue,
    /// It sends what comes out of the device.
    pub(crate) reads_tun: bool,
}

impl Worker {
    /// Works until the engine is closed.
    pub(crate) fn run(self) {
        let offloads = self.state.offloads;
        let mut outbound = Outbound::new();
        let mut inbound = Inbound::new(offloads.tso, offloads.uso);
        let mut ready = Vec::with_capacity(ovpn_sys::poll::MAX_READY);
        let mut paused = false;
        let Some(seat) = self.state.seats.get(self.number) else { return };
        if self.reads_tun {
            let added = seat.poller.add(&self.tun, TUN, Interest::Read);
            if let Err(error) = added {
                tracing::warn!(%error, "cannot wait for the device");
            }
        }
        while !self.state.is_closed() {
            if let Err(error) = seat.poller.wait(&mut ready, self.next_timeout()) {
                tracing::warn!(%error, "a data worker cannot wait and stops");
                return;
            }
            let now = self.state.now();
            for &Ready { token, readable, writable } in &ready {
                match token {
                    WAKE => seat.wake.clear(),
                    TUN => {
                        if outbound.turn(&self.state, &self.tun, now) == Turn::Gone {
                            let _ = seat.poller.remove(&self.tun);
                        }
                    }
                    ROUTES => self.state.routes_changed(),
                    id => {
                        let link = self.state.links().get(&ovpn_dco::TransportId(id)).cloned();
                        let Some(link) = link else { continue };
                        if writable {
                            link.drain();
                            self.state.drained();
                        }
                        let mut turns = TURNS;
                        while readable
                            && turns > 0
                            && inbound.turn(&self.state, &link, &self.tun, now) == Turn::More
                        {
                            turns -= 1;
                        }
                    }
                }
            }
            if self.number == 0 {
                self.housekeeping(&mut outbound, now);
            }
            if self.reads_tun && paused != self.state.is_paused() {
                paused = !paused;
                self.pause(&seat.poller, paused);
            }
        }
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

    /// Back-pressure: while a point-to-point TCP transport is full the device is not read.
    fn pause(&self, poller: &Poller, pause: bool) {
        let _ = if pause { poller.remove(&self.tun) } else { poller.add(&self.tun, TUN, Interest::Read) };
    }
}
