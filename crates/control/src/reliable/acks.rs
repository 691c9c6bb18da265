//! Which messages to acknowledge next.

use std::collections::VecDeque;

use ovpn_wire::control_packet::{AckList, MAX_ACKS};

/// The most acks that ride on a message.
pub const ACKS_ON_MESSAGE: usize = 4;

/// Acks that are due, and those sent lately, which are repeated while there is room.
#[derive(Debug, Clone, Default)]
pub struct AckQueue {
    due: VecDeque<u32>,
    recent: VecDeque<u32>,
}

impl AckQueue {
    /// Notes a message that must be acknowledged. `false` when too many are due already: the message must then be
    /// treated as lost.
    pub fn push(&mut self, id: u32) -> bool {
        if self.due.contains(&id) {
            return true;
        }
        if self.due.len() >= MAX_ACKS {
            return false;
        }
        self.due.push_back(id);
        true
    }

    /// Whether an ack is due.
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes up to `limit` acks: those that are due, then the most recent old ones.
    pub fn take(&mut self, limit: usize) -> AckList {
        let mut list = AckList::EMPTY;
        let limit = limit.min(MAX_ACKS);
        let fresh = self.due.len().min(limit);
        let old = self.recent.iter().take(limit - fresh).copied().collect::<Vec<_>>();
        for id in self.due.drain(..fresh) {
            list.push(id);
            self.recent.retain(|&other| other != id);
            self.recent.push_front(id);
        }
        for id in old {
            if !list.as_slice().contains(&id) {
                list.push(id);
            }
        }
        self.recent.truncate(MAX_ACKS);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_acks_fill_up_newest_first() {
        let mut acks = AckQueue::default();
        for id in 0..3 {
            assert!(acks.push(id));
            assert_eq!(acks.take(ACKS_ON_MESSAGE).as_slice()[0], id);
        }
        assert!(!acks.is_due());
        assert!(acks.push(3));
        assert_eq!(acks.take(MAX_ACKS).as_slice(), [3, 2, 1, 0]);
        // A duplicate moves to the front and appears once.
        assert!(acks.push(1));
        assert_eq!(acks.take(MAX_ACKS).as_slice(), [1, 3, 2, 0]);
    }

    #[test]
    fn no_more_than_fit() {
        let mut acks = AckQueue::default();
        for id in 0..8 {
            assert!(acks.push(id));
        }
        assert!(!acks.push(8));
        assert!(acks.push(7), "already due");
        assert_eq!(acks.take(ACKS_ON_MESSAGE).as_slice(), [0, 1, 2, 3]);
        assert_eq!(acks.take(MAX_ACKS).as_slice(), [4, 5, 6, 7, 3, 2, 1, 0]);
    }
}
