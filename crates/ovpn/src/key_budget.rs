//! `reneg-bytes` and `reneg-pkts`: a new key is asked for once this much was carried.
//!
//! The data plane counts by itself, so its counters are read now and then; what crosses between two looks is carried
//! by the old key all the same.

use std::time::{Duration, Instant};

use ovpn_config::model::Timers;
use ovpn_dco::{Counters, PeerStats};

const INTERVAL: Duration = Duration::from_millis(100);

/// What may still be carried, and when to look again.
#[derive(Debug, Clone)]
pub(crate) struct KeyBudget {
    bytes: u64,
    packets: u64,
    next: Instant,
    counted: Counters,
}

impl KeyBudget {
    /// A budget as configured; `None` without either option.
    pub(crate) fn new(timers: &Timers, now: Instant) -> Option<Self> {
        if timers.reneg_bytes.is_none() && timers.reneg_packets.is_none() {
            return None;
        }
        Some(Self {
            bytes: timers.reneg_bytes.unwrap_or(u64::MAX),
            packets: timers.reneg_packets.unwrap_or(u64::MAX),
            next: now + INTERVAL,
            counted: Counters::default(),
        })
    }

    /// When to look at the counters.
    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// Looks, where it is time. Whether a new key is due: the budget then starts anew.
    pub(crate) fn is_spent(&mut self, now: Instant, stats: impl FnOnce() -> Option<PeerStats>) -> bool {
        if self.next > now {
            return false;
        }
        self.next = now + INTERVAL;
        let Some(PeerStats { link, .. }) = stats() else { return false };
        let moved = |now: (u64, u64), then: (u64, u64)| (now.0 + now.1).saturating_sub(then.0 + then.1);
        let bytes = moved((link.rx_bytes, link.tx_bytes), (self.counted.rx_bytes, self.counted.tx_bytes));
        let packets =
            moved((link.rx_packets, link.tx_packets), (self.counted.rx_packets, self.counted.tx_packets));
        let spent = bytes >= self.bytes || packets >= self.packets;
        if spent {
            tracing::info!(
                "TLS: soft reset bytes={bytes}/{} pkts={packets}/{}",
                shown(self.bytes),
                shown(self.packets)
            );
            self.counted = link;
        }
        spent
    }
}

/// A limit for the log; 0 is none, as in the configuration.
const fn shown(limit: u64) -> u64 {
    if limit == u64::MAX { 0 } else { limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(bytes: u64, packets: u64) -> Option<PeerStats> {
        let link =
            Counters { rx_bytes: bytes / 2, tx_bytes: bytes - bytes / 2, rx_packets: packets, tx_packets: 0 };
        Some(PeerStats { link, ..PeerStats::default() })
    }

    #[test]
    fn each_budget_counts_from_the_last_key() {
        let start = Instant::now();
        let at = |n: u32| start + INTERVAL * n;
        let timers = Timers { reneg_bytes: Some(1000), reneg_packets: Some(10), ..Timers::default() };
        let mut budget = KeyBudget::new(&timers, start).unwrap();
        assert!(!budget.is_spent(start, || panic!("too early")));
        assert!(!budget.is_spent(at(1), || stats(999, 9)));
        assert!(budget.is_spent(at(2), || stats(1001, 9)), "bytes");
        assert!(!budget.is_spent(at(3), || stats(2000, 18)));
        assert!(budget.is_spent(at(4), || stats(2000, 19)), "packets");
        // The peer is gone: nothing to renew.
        assert!(!budget.is_spent(at(5), || None));
        assert!(KeyBudget::new(&Timers::default(), start).is_none());
    }
}
