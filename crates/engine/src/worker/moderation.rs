//! How a worker waits in the midst of a stream: it lets datagrams gather, and looks again before it sleeps.
//!
//! ```text
//!   without:  ▂ receive, empty, sleep, woken ▂ receive, empty, sleep, woken ▂ …
//!   with:     ▂▂▂▂▂▂ receive, empty, pause ▂▂▂▂▂▂ receive, empty, pause ▂▂▂▂▂▂ …
//! ```
//!
//! A worker that empties a socket faster than it is filled would be woken for every few datagrams, and the waking costs
//! whoever brings them an interrupt to another processor. While datagrams stream in it pauses instead, as network cards do
//! before they interrupt: fewer and larger batches, and larger super-packets for the device. Only TCP that streams counts:
//! a packet that comes alone is never kept waiting, and who receives UDP inside has seldom room for bursts.
//!
//! Where nothing waits even after that, a stream most likely goes on at once, in one direction or the other. So the worker
//! looks again for a moment, giving way to other threads between two looks, before it sleeps and has to be woken. One that
//! carries no stream sleeps at once.

use std::time::Duration;

use crate::time::Timestamp;

/// How long a worker asks to pause: the least there is. The system makes it longer by its timer slack, 50 µs unless
/// somebody chose another (prctl(2), `PR_SET_TIMERSLACK`), and that is the time meant. A slack of our own choice would
/// hold for all waiting: idle pings and small packets got slower by it.
pub(crate) const PAUSE: Duration = Duration::from_micros(1);
/// How long a worker that carries a stream looks again before it sleeps. Looking once gains nothing, 1 ms no more.
pub(crate) const PATIENCE: Duration = Duration::from_micros(200);
/// Batches with fewer bytes in TCP super-packets are no stream.
const LARGE: usize = 16 << 10;
/// Large batches that are further apart are no stream.
const APART: Duration = Duration::from_millis(1);

/// What one worker carried lately.
#[derive(Debug, Default)]
pub(crate) struct Moderation {
    /// The last large batch received.
    last_large: Option<Timestamp>,
    /// The last large batch sent.
    last_sent: Option<Timestamp>,
    due: bool,
}

impl Moderation {
    /// A batch came with `bytes` in TCP super-packets; `drained`: nothing more waits.
    pub(crate) fn received(&mut self, bytes: usize, drained: bool, now: Timestamp) {
        if !drained {
            self.due = false;
        } else if bytes >= LARGE {
            self.due = self.last_large.is_some_and(|last| now.since(last) <= APART);
        }
        if bytes >= LARGE {
            self.last_large = Some(now);
        }
    }

    /// A batch with `bytes` in TCP super-packets was sent.
    pub(crate) fn sent(&mut self, bytes: usize, now: Timestamp) {
        if bytes >= LARGE {
            self.last_sent = Some(now);
        }
    }

    /// Whether a large batch was received or sent just before `now`, when the last batch came.
    pub(crate) fn is_streaming(&self, now: Timestamp) -> bool {
        [self.last_large, self.last_sent].into_iter().flatten().any(|last| now.since(last) <= APART)
    }

    /// Whether to pause now; told once.
    pub(crate) fn take(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::at;

    #[test]
    fn only_streams_are_paused_for() {
        let mut moderation = Moderation::default();
        let mut after = |bytes, drained, now| {
            moderation.received(bytes, drained, at(now));
            moderation.take()
        };
        assert!(!after(LARGE, true, 1000), "the first large batch");
        assert!(after(LARGE, true, 1001));
        assert!(!after(LARGE - 1, true, 1001), "a small batch");
        assert!(!after(LARGE, false, 1001), "more waits");
        assert!(after(LARGE, true, 1001));
        assert!(!after(LARGE, true, 1003), "too far apart");
        moderation.received(LARGE, true, at(1003));
        assert!(moderation.take() && !moderation.take(), "once");
        moderation.received(LARGE, true, at(1003));
        moderation.received(100, true, at(1003));
        assert!(moderation.take(), "a packet on another transport does not end a stream");
    }

    #[test]
    fn only_streams_are_waited_for_awake() {
        let mut moderation = Moderation::default();
        assert!(!moderation.is_streaming(at(1)));
        moderation.sent(LARGE - 1, at(1000));
        moderation.received(LARGE - 1, true, at(1000));
        assert!(!moderation.is_streaming(at(1000)), "small batches");
        moderation.sent(LARGE, at(1000));
        assert!(moderation.is_streaming(at(1001)));
        assert!(!moderation.is_streaming(at(1002)));
        moderation.received(LARGE, false, at(1003));
        assert!(moderation.is_streaming(at(1004)));
        assert!(!moderation.is_streaming(at(1005)));
    }
}
