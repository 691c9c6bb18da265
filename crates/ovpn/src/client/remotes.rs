//! Which server is tried next, and after what pause.
//!
//! ```text
//!   entry 0: address 0, address 1 ─▶ entry 1: address 0 ─▶ … ─▶ entry 0 again
//! ```

use std::time::Duration;

/// How far to move after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Advance {
    /// The same address again, once.
    Stay,
    /// The entry's next address, or the next entry.
    #[default]
    Address,
    /// The next entry, whatever addresses are left.
    Remote,
}

/// Position in the list of remotes.
#[derive(Debug, Clone)]
pub(crate) struct Remotes {
    entries: usize,
    entry: usize,
    address: usize,
    /// Attempts since the last completed initialisation.
    attempts: u32,
}

/// The options that decide about pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    /// `connect-retry`, first argument.
    pub(crate) pause: Duration,
    /// Its second argument.
    pub(crate) longest: Duration,
    /// `connect-retry-max`.
    pub(crate) rounds: Option<u32>,
}

impl Remotes {
    /// At the first of `entries` (at least one).
    pub(crate) const fn new(entries: usize) -> Self {
        Self { entries: if entries == 0 { 1 } else { entries }, entry: 0, address: 0, attempts: 0 }
    }

    /// The entry to try and the index among its addresses.
    pub(crate) const fn current(&self) -> (usize, usize) {
        (self.entry, self.address)
    }

    /// Counts an attempt that begins now.
    pub(crate) const fn attempt(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// The connection completed its initialisation.
    pub(crate) const fn completed(&mut self) {
        self.attempts = 0;
    }

    /// Moves on after an attempt; `addresses` is how many the current entry resolved to.
    pub(crate) const fn advance(&mut self, how: Advance, addresses: usize) {
        match how {
            Advance::Stay => {}
            Advance::Address if self.address + 1 < addresses => self.address += 1,
            Advance::Address | Advance::Remote => {
                self.address = 0;
                self.entry = (self.entry + 1) % self.entries;
            }
        }
    }

    /// True once `connect-retry-max` rounds went by without a completed initialisation.
    pub(crate) const fn exhausted(&self, retry: &Retry) -> bool {
        match retry.rounds {
            Some(rounds) => self.attempts as usize >= rounds as usize * self.entries,
            None => false,
        }
    }

    /// The pause before the next attempt: `connect-retry`, doubled for each round beyond four, at least what the
    /// server asked for, at most the longest allowed.
    pub(crate) fn pause(&self, retry: &Retry, server_backoff: Duration) -> Duration {
        let rounds = u32::try_from(self.attempts as usize / self.entries).unwrap_or(u32::MAX);
        let shift = rounds.saturating_sub(4).min(15);
        let pause = retry.pause.saturating_mul(1 << shift);
        pause.max(server_backoff).min(retry.longest.max(retry.pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry =
        Retry { pause: Duration::from_secs(1), longest: Duration::from_secs(300), rounds: Some(2) };

    #[test]
    fn walks_addresses_then_entries() {
        let mut remotes = Remotes::new(2);
        assert_eq!(remotes.current(), (0, 0));
        remotes.advance(Advance::Address, 2);
        assert_eq!(remotes.current(), (0, 1));
        remotes.advance(Advance::Stay, 2);
        assert_eq!(remotes.current(), (0, 1));
        remotes.advance(Advance::Address, 2);
        assert_eq!(remotes.current(), (1, 0));
        remotes.advance(Advance::Remote, 5);
        assert_eq!(remotes.current(), (0, 0));
    }

    #[test]
    fn pauses_double_after_four_rounds_up_to_the_limit() {
        let mut remotes = Remotes::new(1);
        let mut pauses = Vec::new();
        for _ in 0..14 {
            remotes.attempt();
            pauses.push(remotes.pause(&RETRY, Duration::ZERO).as_secs());
        }
        assert_eq!(pauses, [1, 1, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        remotes.completed();
        assert_eq!(remotes.pause(&RETRY, Duration::from_secs(20)).as_secs(), 20);
    }

    #[test]
    fn gives_up_after_the_rounds_allowed() {
        let mut remotes = Remotes::new(2);
        for n in 0..4 {
            assert!(!remotes.exhausted(&RETRY), "{n}");
            remotes.attempt();
        }
        assert!(remotes.exhausted(&RETRY));
        assert!(!remotes.exhausted(&Retry { rounds: None, ..RETRY }));
    }
}
