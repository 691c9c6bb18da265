//! Who may come in: `connect-freq`, and the seats of `max-clients`, which are also the peer ids.
//!
//! Source: OpenVPN server behaviour, "Limits and admission".

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ovpn_config::model::Rate;
use ovpn_dco::PeerId;

/// A limit of events per time: a fixed window, as stock counts.
#[derive(Debug)]
pub(crate) struct RateLimit {
    count: u32,
    per: Duration,
    window: Option<(Instant, u32)>,
}

impl RateLimit {
    /// At most `rate.count` events in each `rate.per`.
    pub(crate) const fn new(rate: Rate) -> Self {
        Self { count: rate.count, per: rate.per, window: None }
    }

    /// Whether one more event is within the limit; it counts if it is.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        match &mut self.window {
            Some((start, used)) if now.saturating_duration_since(*start) < self.per => {
                let admitted = *used < self.count;
                *used += u32::from(admitted);
                admitted
            }
            window => {
                *window = Some((now, 1));
                self.count > 0
            }
        }
    }
}

/// Peer ids: the lowest free one is given out, so that they stay below `max-clients`.
#[derive(Debug)]
pub(crate) struct Seats {
    max: u32,
    /// All ids below have been given out once.
    next: u32,
    returned: BTreeSet<u32>,
}

impl Seats {
    /// As many seats as `max-clients` says.
    pub(crate) const fn new(max: u32) -> Self {
        Self { max, next: 0, returned: BTreeSet::new() }
    }

    /// Takes the lowest free seat; `None` if all are taken.
    pub(crate) fn take(&mut self) -> Option<PeerId> {
        let id = match self.returned.pop_first() {
            Some(id) => id,
            None if self.next < self.max => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        PeerId::new(id)
    }

    /// Gives a seat back.
    pub(crate) fn give_back(&mut self, id: PeerId) {
        if id.get() < self.next {
            self.returned.insert(id.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_per_window() {
        let mut limit = RateLimit::new(Rate { count: 2, per: Duration::from_secs(10) });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let admitted: Vec<bool> = [0, 1, 2, 9, 10, 11, 12].map(|second| limit.admit(at(second))).into();
        assert_eq!(admitted, [true, true, false, false, true, true, false]);
    }

    #[test]
    fn the_lowest_seat_is_free_first() {
        let mut seats = Seats::new(3);
        let ids: Vec<u32> = std::iter::from_fn(|| seats.take()).map(PeerId::get).collect();
        assert_eq!(ids, [0, 1, 2]);
        seats.give_back(PeerId::new(2).unwrap());
        seats.give_back(PeerId::new(0).unwrap());
        seats.give_back(PeerId::new(0).unwrap());
        let ids: Vec<u32> = std::iter::from_fn(|| seats.take()).map(PeerId::get).collect();
        assert_eq!(ids, [0, 2]);
    }
}
