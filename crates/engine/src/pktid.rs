//! Packet ids: the replay window.
//!
//! ```text
//!        floor            highest − 2047                          highest
//!          |                    |<------ 2048 bits, a ring ----------|
//!   refused (a pause of 30 s)   refused where the bit is set       new: the window moves
//! ```
//!
//! The model is the kernel driver's: 2048 ids wide, and when nothing was accepted for 30 s, everything up to the
//! highest id of before the pause is refused. The window is asked only after the packet proved authentic.

use std::time::Duration;

use crate::drop_reason::DropReason;
use crate::time::Timestamp;

const WINDOW: u64 = 2048;
const WORDS: usize = 32;
const PAUSE: Duration = Duration::from_secs(30);

/// The packet ids received with one key (or in one epoch). Ids have up to 64 bits; zero is never one.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    highest: u64,
    floor: u64,
    accepted_at: Timestamp,
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// A window that has seen nothing.
    pub const fn new() -> Self {
        Self { highest: 0, floor: 0, accepted_at: Timestamp::from_millis(0), seen: [0; WORDS] }
    }

    /// The highest id accepted so far, 0 before the first.
    #[inline]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Accepts an id that was not accepted before.
    ///
    /// # Errors
    /// [`DropReason::Replayed`] or [`DropReason::ReplayTooOld`], not yet counted; the window is then as before.
    #[inline]
    pub fn accept(&mut self, id: u64, now: Timestamp) -> Result<(), DropReason> {
        if id > self.highest {
            if now.since(self.accepted_at) >= PAUSE {
                self.floor = self.highest;
            }
            if id - self.highest > 1 {
                self.skip_to(id);
            }
            let (word, bit) = place(id);
            self.seen[word] |= 1 << bit;
            self.highest = id;
        } else {
            let floor = if now.since(self.accepted_at) >= PAUSE { self.highest } else { self.floor };
            if id <= floor || self.highest - id >= WINDOW {
                return Err(DropReason::ReplayTooOld);
            }
            let (word, bit) = place(id);
            if self.seen[word] & 1 << bit != 0 {
                return Err(DropReason::Replayed);
            }
            self.floor = floor;
            self.seen[word] |= 1 << bit;
        }
        self.accepted_at = now;
        Ok(())
    }

    /// Forgets the ids that those from `highest + 1` to `id` push out of the window.
    fn skip_to(&mut self, id: u64) {
        if id - self.highest >= WINDOW {
            self.seen = [0; WORDS];
            return;
        }
        let (first_word, first_bit) = place(self.highest + 1);
        let (last_word, last_bit) = place(id);
        let from_first = u64::MAX << first_bit;
        let to_last = u64::MAX >> (63 - last_bit);
        if first_word == last_word && first_bit <= last_bit {
            self.seen[first_word] &= !(from_first & to_last);
            return;
        }
        self.seen[first_word] &= !from_first;
        let mut word = (first_word + 1) % WORDS;
        while word != last_word {
            self.seen[word] = 0;
            word = (word + 1) % WORDS;
        }
        self.seen[last_word] &= !to_last;
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

/// Word and bit of an id in the ring.
#[inline]
const fn place(id: u64) -> (usize, u32) {
    ((id / 64) as usize % WORDS, (id % 64) as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The rule in plain words: every id ever accepted, the highest, and when.
    #[derive(Default)]
    struct Slow {
        accepted: BTreeSet<u64>,
        floor: u64,
        at: u64,
    }

    impl Slow {
        fn accept(&mut self, id: u64, now: u64) -> bool {
            let highest = self.accepted.last().copied().unwrap_or(0);
            if now >= self.at + 30_000 {
                self.floor = highest;
            }
            let ok = id > self.floor && id + 2048 > highest && self.accepted.insert(id);
            if ok {
                self.at = now;
            }
            ok
        }
    }

    #[derive(Debug, Clone)]
    enum Id {
        Ahead(u64),
        Behind(u64),
        Any(u64),
    }

    fn id() -> impl Strategy<Value = Id> {
        prop_oneof![
            4 => (0..3u64).prop_map(Id::Ahead),
            2 => (0..5000u64).prop_map(Id::Ahead),
            1 => (1980..2120u64).prop_map(Id::Ahead),
            3 => (0..100u64).prop_map(Id::Behind),
            2 => (1980..2120u64).prop_map(Id::Behind),
            1 => (0..20_000u64).prop_map(Id::Any),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn agrees_with_the_slow_model(
            steps in proptest::collection::vec((id(), prop_oneof![9 => 0..50u64, 1 => 25_000..35_000u64]), 1..400)
        ) {
            let (mut window, mut slow, mut now) = (ReplayWindow::new(), Slow::default(), 1_000_000);
            for (step, pause) in steps {
                now += pause;
                let highest = window.highest();
                let id = match step {
                    Id::Ahead(by) => highest + by,
                    Id::Behind(by) => highest.saturating_sub(by),
                    Id::Any(id) => id,
                };
                let accepted = window.accept(id, Timestamp::from_millis(now)).is_ok();
                prop_assert_eq!(accepted, slow.accept(id, now), "id {} highest {}", id, highest);
            }
        }
    }

    #[test]
    fn the_largest_ids_are_ordinary_ones() {
        let now = Timestamp::from_millis(0);
        for largest in [u64::from(u32::MAX), (1 << 48) - 1] {
            let mut window = ReplayWindow::new();
            assert_eq!(window.accept(largest, now), Ok(()));
            assert_eq!(window.accept(largest - 1, now), Ok(()));
            assert_eq!(window.accept(largest, now), Err(DropReason::Replayed));
            assert_eq!(window.accept(largest - 2048, now), Err(DropReason::ReplayTooOld));
        }
    }

    #[test]
    fn zero_is_never_an_id() {
        assert_eq!(ReplayWindow::new().accept(0, Timestamp::from_millis(0)), Err(DropReason::ReplayTooOld));
    }
}
