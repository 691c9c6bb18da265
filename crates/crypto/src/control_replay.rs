//! Replay protection of the control channel: the sender's counter and the receiver's window.
//!
//! Each wrapped control packet carries a packet id and a `net_time` (unix seconds, fixed when the sender's context
//! sends its first packet). Within one `net_time` the ids count up; a larger `net_time` starts over.
//! Source: OpenVPN wire protocol, "Replay protection of tls-auth / tls-crypt".

use std::fmt;

use thiserror::Error;

/// A packet's place in its sender's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayId {
    /// Counts up from 1 within one `net_time`.
    pub id: u32,
    /// Unix seconds, chosen by the sender.
    pub net_time: u32,
}

impl ReplayId {
    /// Bytes on the wire.
    pub const LEN: usize = 8;

    /// Reads `id || net_time`.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let both = u64::from_be_bytes(bytes);
        Self { id: (both >> 32) as u32, net_time: both as u32 }
    }

    /// `id || net_time`, as on the wire.
    pub fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.id) << 32 | u64::from(self.net_time)).to_be_bytes()
    }

    /// Whether a tls-crypt-v2 client that starts with this id knows early negotiation: it starts at `0x0f000001`.
    pub const fn announces_early_negotiation(self) -> bool {
        self.id & 0x0f00_0000 == 0x0f00_0000
    }
}

impl fmt::Display for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.net_time)
    }
}

/// All 2³² ids are used up within one second: the packet cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("replay ids are used up")]
pub struct ReplayIdsUsedUp;

/// The sender's counter.
#[derive(Debug, Clone)]
pub struct ReplayCounter {
    last: u32,
    net_time: Option<u32>,
}

impl ReplayCounter {
    /// The value after which a tls-crypt-v2 client starts, to announce early negotiation.
    pub const EARLY_NEGOTIATION: u32 = 0x0f00_0000;

    /// A counter whose first id is `last + 1`: 0 in general, 1 after a stateless answer that used id 1,
    /// [`Self::EARLY_NEGOTIATION`] for tls-crypt-v2 clients.
    pub const fn starting_after(last: u32) -> Self {
        Self { last, net_time: None }
    }

    /// The next id. `unix_now` (seconds) becomes the `net_time` of the first packet, and again when the ids have
    /// rolled over and the clock has moved on.
    pub fn next(&mut self, unix_now: u64) -> Result<ReplayId, ReplayIdsUsedUp> {
        let now = unix_now as u32;
        let mut net_time = *self.net_time.get_or_insert(now);
        match self.last.checked_add(1) {
            Some(id) => self.last = id,
            None if now > net_time => {
                self.last = 1;
                self.net_time = Some(now);
                net_time = now;
            }
            None => return Err(ReplayIdsUsedUp),
        }
        Ok(ReplayId { id: self.last, net_time })
    }
}

/// Why an id was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// Id 0 is never sent.
    #[error("replay id 0")]
    Zero,
    /// The id was seen before.
    #[error("replayed packet")]
    Seen,
    /// The id is older than the window reaches, in ids or in seconds.
    #[error("packet too old for the replay window")]
    TooOld,
    /// The sender's time stamp went backwards.
    #[error("packet of an older sender context")]
    TimeBackwards,
    /// A gap where none is allowed (`replay-window 0`).
    #[error("packet out of sequence")]
    Gap,
}

/// The receiver's window: `replay-window N SECONDS`.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    width: u32,
    seconds: u64,
    highest: u32,
    net_time: u32,
    /// For each id of the window, at `id % width`.
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    seen: bool,
    /// When the window moved over this id (unix seconds): an unseen id is too old `seconds` later.
    covered_at: u64,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new(64, 15)
    }
}

impl ReplayWindow {
    /// A window `width` ids wide (0: no gaps allowed) in which a late id is accepted for `seconds` (0: for ever).
    pub fn new(width: u32, seconds: u64) -> Self {
        let width = width.min(1 << 16);
        Self { width, seconds, highest: 0, net_time: 0, slots: vec![Slot::default(); width as usize] }
    }

    /// Takes the id, once. Call it only for packets whose authentication holds. `unix_now` in seconds.
    pub fn accept(&mut self, packet: ReplayId, unix_now: u64) -> Result<(), ReplayError> {
        if packet.id == 0 {
            return Err(ReplayError::Zero);
        }
        if packet.net_time < self.net_time {
            return Err(ReplayError::TimeBackwards);
        }
        if packet.net_time > self.net_time {
            if self.width == 0 && self.highest != 0 && packet.id != 1 {
                return Err(ReplayError::Gap);
            }
            self.net_time = packet.net_time;
            self.start_at(packet.id, unix_now);
            return Ok(());
        }
        if self.highest == 0 {
            self.start_at(packet.id, unix_now);
            return Ok(());
        }
        if packet.id > self.highest {
            if self.width == 0 && packet.id != self.highest + 1 {
                return Err(ReplayError::Gap);
            }
            self.advance_to(packet.id, unix_now);
            return Ok(());
        }
        if self.highest - packet.id >= self.width {
            return Err(if packet.id == self.highest { ReplayError::Seen } else { ReplayError::TooOld });
        }
        let expiry = self.seconds;
        let slot = self.slot(packet.id).ok_or(ReplayError::TooOld)?;
        if slot.seen {
            return Err(ReplayError::Seen);
        }
        if expiry != 0 && unix_now.saturating_sub(slot.covered_at) >= expiry {
            return Err(ReplayError::TooOld);
        }
        slot.seen = true;
        Ok(())
    }

    fn start_at(&mut self, id: u32, unix_now: u64) {
        self.slots.fill(Slot { seen: false, covered_at: unix_now });
        self.highest = id;
        if let Some(slot) = self.slot(id) {
            slot.seen = true;
        }
    }

    fn advance_to(&mut self, id: u32, unix_now: u64) {
        let first = (self.highest + 1).max(id.saturating_sub(self.width.saturating_sub(1)));
        for covered in first..=id {
            if let Some(slot) = self.slot(covered) {
                *slot = Slot { seen: covered == id, covered_at: unix_now };
            }
        }
        self.highest = id;
    }

    fn slot(&mut self, id: u32) -> Option<&mut Slot> {
        self.slots.get_mut(id.checked_rem(self.width)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const T: u32 = 0x6500_0000;
    const NOW: u64 = T as u64;

    fn id(id: u32) -> ReplayId {
        ReplayId { id, net_time: T }
    }

    #[test]
    fn counts_from_one_and_keeps_its_time() {
        let mut counter = ReplayCounter::starting_after(0);
        assert_eq!(counter.next(NOW), Ok(id(1)));
        assert_eq!(counter.next(NOW + 60), Ok(id(2)));
        let mut counter = ReplayCounter::starting_after(ReplayCounter::EARLY_NEGOTIATION);
        assert_eq!(counter.next(NOW), Ok(id(0x0f00_0001)));
    }

    #[test]
    fn rolls_over_only_when_time_has_moved() {
        let mut counter = ReplayCounter::starting_after(u32::MAX - 1);
        assert_eq!(counter.next(NOW), Ok(id(u32::MAX)));
        assert_eq!(counter.next(NOW), Err(ReplayIdsUsedUp));
        assert_eq!(counter.next(NOW + 1), Ok(ReplayId { id: 1, net_time: T + 1 }));
    }

    #[test]
    fn early_negotiation_ids() {
        for (first, known) in [(0x0f00_0001, true), (1, false), (0x1f00_0001, true), (0x0e00_0001, false)] {
            assert_eq!(id(first).announces_early_negotiation(), known);
        }
    }

    #[test]
    fn window_rules() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.accept(id(0), NOW), Err(ReplayError::Zero));
        assert_eq!(window.accept(id(5), NOW), Ok(()));
        assert_eq!(window.accept(id(5), NOW), Err(ReplayError::Seen));
        assert_eq!(window.accept(id(3), NOW), Ok(()));
        assert_eq!(window.accept(id(80), NOW), Ok(()));
        assert_eq!(window.accept(id(16), NOW), Err(ReplayError::TooOld));
        assert_eq!(window.accept(id(17), NOW), Ok(()));
        let older = ReplayId { id: 90, net_time: T - 1 };
        assert_eq!(window.accept(older, NOW), Err(ReplayError::TimeBackwards));
        let newer = ReplayId { id: 1, net_time: T + 1 };
        assert_eq!(window.accept(newer, NOW), Ok(()));
        assert_eq!(window.accept(id(81), NOW), Err(ReplayError::TimeBackwards));
    }

    #[test]
    fn late_ids_expire() {
        let mut window = ReplayWindow::default();
        window.accept(id(10), NOW).unwrap();
        window.accept(id(20), NOW + 10).unwrap();
        assert_eq!(window.accept(id(15), NOW + 24), Ok(()));
        assert_eq!(window.accept(id(16), NOW + 25), Err(ReplayError::TooOld));
        assert_eq!(window.accept(id(21), NOW + 100), Ok(()));
    }

    #[test]
    fn width_zero_allows_no_gap() {
        let mut window = ReplayWindow::new(0, 0);
        assert_eq!(window.accept(id(1), NOW), Ok(()));
        assert_eq!(window.accept(id(1), NOW), Err(ReplayError::Seen));
        assert_eq!(window.accept(id(3), NOW), Err(ReplayError::Gap));
        assert_eq!(window.accept(id(2), NOW), Ok(()));
    }

    proptest! {
        #[test]
        fn no_id_is_accepted_twice(ids in prop::collection::vec(1u32..300, 1..400), width in 0u32..70) {
            let mut window = ReplayWindow::new(width, 0);
            let mut taken = HashSet::new();
            let mut highest = 0;
            for number in ids {
                let accepted = window.accept(id(number), NOW).is_ok();
                if accepted {
                    prop_assert!(taken.insert(number));
                } else if width > 0 {
                    prop_assert!(taken.contains(&number) || number + width <= highest);
                }
                highest = highest.max(number);
            }
        }

        #[test]
        fn replay_id_round_trip(bytes: [u8; 8]) {
            prop_assert_eq!(ReplayId::from_bytes(bytes).to_bytes(), bytes);
        }
    }
}
