//! When a client must be looked at again, and what is then to be done: its time, its idleness, its keys, its counters.

use std::time::{Duration, Instant};

use ovpn_config::model::Timers;
use ovpn_control::Now;

use super::{ClientTask, LOOK};
use crate::key_budget::KeyBudget;

/// What happens to a client by time alone.
#[derive(Default)]
pub(super) struct Limits {
    /// It is listened to until then; why it goes.
    pub(super) leave: Option<(Instant, &'static str)>,
    /// `session-timeout`.
    pub(super) session_ends: Option<Instant>,
    /// `inactive`.
    pub(super) idle: Option<Idle>,
    /// `reneg-bytes`, `reneg-pkts`.
    pub(super) budget: Option<KeyBudget>,
    /// A new session token.
    pub(super) next_token: Option<Instant>,
    /// The data plane's counters.
    pub(super) next_look: Option<Instant>,
}

/// `inactive`: when to look, and what was counted last.
pub(super) struct Idle {
    after: Duration,
    bytes: u64,
    next: Instant,
    counted: u64,
}

impl Limits {
    /// The first of them.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let Self { leave, session_ends, idle, budget, next_token, next_look } = self;
        let leave = leave.map(|(at, _)| at);
        let idle = idle.as_ref().map(|idle| idle.next);
        let budget = budget.as_ref().map(KeyBudget::next);
        [leave, *session_ends, idle, budget, *next_token, *next_look].into_iter().flatten().min()
    }
}

impl ClientTask {
    /// Asks for a new key where `reneg-bytes` or `reneg-pkts` say so.
    pub(super) fn check_budget(&mut self, now: Instant) {
        let Some(budget) = &mut self.limits.budget else { return };
        let (plane, peer) = (&self.base.shared.data_plane, self.base.peer);
        let stats = || plane.peer_get(peer).ok().map(|info| info.stats);
        if budget.is_spent(now, stats) {
            self.session.renegotiate(Now::system());
        }
    }

    pub(super) fn check_idle(&mut self, now: Instant) -> Option<String> {
        let idle = self.limits.idle.as_mut().filter(|idle| idle.next <= now)?;
        idle.next = now + idle.after;
        let stats = self.base.shared.data_plane.peer_get(self.base.peer).ok()?.stats.vpn;
        let counted = stats.rx_bytes + stats.tx_bytes;
        let moved = counted.saturating_sub(idle.counted);
        idle.counted = counted;
        (moved <= idle.bytes).then(|| "Inactivity timeout (--inactive), exiting".to_owned())
    }

    pub(super) fn set_limits(&mut self, timers: &Timers) {
        self.limits.session_ends = timers.session_timeout.map(|timeout| self.started + timeout);
        self.limits.idle = timers.inactive.map(|inactive| Idle {
            after: inactive.after,
            bytes: inactive.bytes,
            next: Instant::now() + inactive.after,
            counted: 0,
        });
        self.schedule_token();
    }

    /// The data plane forgets a silent peer together with its counters: what they were is kept.
    pub(super) fn look_at_counters(&mut self) {
        if self.in_data_plane
            && let Ok(info) = self.base.shared.data_plane.peer_get(self.base.peer)
        {
            self.counted = info.stats;
        }
        self.limits.next_look = self.in_data_plane.then(|| Instant::now() + LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of them alone wakes the task.
    #[test]
    fn nothing_is_left_out_of_the_deadline() {
        let at = Instant::now() + Duration::from_secs(7);
        let idle = Idle { after: Duration::from_secs(7), bytes: 0, next: at, counted: 0 };
        let timers = Timers { reneg_bytes: Some(1), ..Timers::default() };
        let budget = KeyBudget::new(&timers, at);
        let budget_at = budget.as_ref().map(KeyBudget::next);
        assert!(budget_at.is_some());
        for (limits, want) in [
            (Limits { leave: Some((at, "")), ..Limits::default() }, Some(at)),
            (Limits { session_ends: Some(at), ..Limits::default() }, Some(at)),
            (Limits { idle: Some(idle), ..Limits::default() }, Some(at)),
            (Limits { budget, ..Limits::default() }, budget_at),
            (Limits { next_token: Some(at), ..Limits::default() }, Some(at)),
            (Limits { next_look: Some(at), ..Limits::default() }, Some(at)),
            (Limits::default(), None),
        ] {
            assert_eq!(limits.deadline(), want);
        }
        let soon = at - Duration::from_secs(3);
        let both = Limits { next_look: Some(at), session_ends: Some(soon), ..Limits::default() };
        assert_eq!(both.deadline(), Some(soon));
    }
}
