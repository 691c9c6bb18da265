//! Keepalive: when to ping, and when a peer has been silent too long.
//!
//! ```text
//!   heap of deadlines ── earliest first ──▶ due? ──▶ look at the peer's last packet ──▶ ping · expire · later again
//! ```
//!
//! Traffic never touches the heap: a deadline that comes due while the peer was busy is only put off. An idle or busy
//! peer thus costs two heap operations an interval, whatever its traffic.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use ovpn_dco::{Error, ErrorKind, Keepalive, PeerId, Result};

use crate::peer::Peer;
use crate::time::Timestamp;

/// Longest keepalive interval or timeout.
pub const MAX: Duration = Duration::from_secs(86_400);

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Ping,
    Expiry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    at: Timestamp,
    /// The setting of keepalive that it belongs to, unique in the device's lifetime.
    setting: u64,
    timer: Timer,
    pub(crate) peer: PeerId,
}

/// What is due for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing: the deadline belongs to an earlier setting.
    Nothing,
    /// Send a ping.
    Ping,
    /// The peer was silent too long.
    Expired,
    /// There was traffic; wait on.
    Later,
}

/// Deadlines of all peers of a device.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    deadlines: BinaryHeap<Reverse<Deadline>>,
    settings: u64,
}

impl Schedule {
    /// Starts a peer's timers anew.
    pub(crate) fn set(&mut self, peer: &Peer, keepalive: Keepalive, now: Timestamp) {
        self.settings += 1;
        peer.set_keepalive(keepalive, self.settings, now);
        if keepalive.interval.is_zero() || keepalive.timeout.is_zero() {
            return;
        }
        for (timer, time) in [(Timer::Ping, keepalive.interval), (Timer::Expiry, keepalive.timeout)] {
            let (setting, peer) = (self.settings, peer.id());
            self.deadlines.push(Reverse(Deadline { at: now.after(time), setting, timer, peer }));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.deadlines.peek().map(|Reverse(deadline)| deadline.at)
    }

    /// Takes a deadline that has passed.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<Deadline> {
        if self.next()? > now {
            return None;
        }
        self.deadlines.pop().map(|Reverse(deadline)| deadline)
    }

    /// Judges a deadline that was taken, and puts it back for later where the peer lives on.
    pub(crate) fn judge(&mut self, mut deadline: Deadline, peer: &Peer, now: Timestamp) -> Due {
        if peer.keepalive_setting() != deadline.setting {
            return Due::Nothing;
        }
        let Keepalive { interval, timeout } = peer.keepalive();
        let (due_at, due, again) = match deadline.timer {
            Timer::Ping => (peer.last_sent().after(interval), Due::Ping, now.after(interval)),
            Timer::Expiry => (peer.last_received().after(timeout), Due::Expired, now),
        };
        if due_at > now {
            deadline.at = due_at;
            self.deadlines.push(Reverse(deadline));
            return Due::Later;
        }
        if due == Due::Ping {
            deadline.at = again;
            self.deadlines.push(Reverse(deadline));
        }
        due
    }
}

/// Whole seconds, at most a day.
///
/// # Errors
/// [`ErrorKind::OutOfRange`].
pub(crate) fn check(keepalive: Keepalive) -> Result<()> {
    if keepalive.interval > MAX || keepalive.timeout > MAX {
        return Err(Error::new(ErrorKind::OutOfRange, "keepalive intervals are at most 86400 seconds"));
    }
    Ok(())
}
