//! Messages from the peer, put in order.

use std::collections::VecDeque;

use ovpn_wire::opcode::Opcode;

/// How many messages from the next expected one on are accepted.
pub const RECEIVE_WINDOW: u32 = 12;

/// What became of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Kept, acknowledge it.
    New,
    /// Seen before, acknowledge it again.
    Duplicate,
    /// Beyond the window: neither kept nor to be acknowledged.
    BeyondWindow,
}

/// The receive window.
#[derive(Debug)]
pub struct Receiver {
    next: u32,
    waiting: VecDeque<Option<(Opcode, Vec<u8>)>>,
}

impl Receiver {
    /// A window whose next expected message is `next`.
    pub fn new(next: u32) -> Self {
        Self { next, waiting: VecDeque::with_capacity(RECEIVE_WINDOW as usize) }
    }

    /// The id of the next message to be delivered.
    pub fn next_id(&self) -> u32 {
        self.next
    }

    /// What [`accept`](Self::accept) would do with a message of this id.
    pub fn classify(&self, id: u32) -> Arrival {
        let ahead = id.wrapping_sub(self.next);
        if ahead > u32::MAX / 2 {
            return Arrival::Duplicate;
        }
        if ahead >= RECEIVE_WINDOW {
            return Arrival::BeyondWindow;
        }
        match self.waiting.get(ahead as usize) {
            Some(Some(_)) => Arrival::Duplicate,
            _ => Arrival::New,
        }
    }

    /// Takes a message.
    pub fn accept(&mut self, id: u32, opcode: Opcode, payload: &[u8]) -> Arrival {
        let arrival = self.classify(id);
        if arrival == Arrival::New {
            let place = id.wrapping_sub(self.next) as usize;
            while self.waiting.len() <= place {
                self.waiting.push_back(None);
            }
            if let Some(slot) = self.waiting.get_mut(place) {
                *slot = Some((opcode, payload.to_vec()));
            }
        }
        arrival
    }

    /// The next message in order, if it is here.
    pub fn deliver(&mut self) -> Option<(Opcode, Vec<u8>)> {
        if !matches!(self.waiting.front(), Some(Some(_))) {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        self.waiting.pop_front().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(receiver: &mut Receiver) -> Vec<u8> {
        std::iter::from_fn(|| receiver.deliver()).flat_map(|(_, payload)| payload).collect()
    }

    #[test]
    fn delivers_in_order_once() {
        let mut receiver = Receiver::new(u32::MAX);
        let mut put = |id: u32, byte: u8| receiver.accept(id, Opcode::ControlV1, &[byte]);
        assert_eq!(put(1, 3), Arrival::New);
        assert_eq!(put(0, 2), Arrival::New);
        assert_eq!(put(0, 9), Arrival::Duplicate);
        assert_eq!(put(11, 9), Arrival::BeyondWindow);
        assert_eq!(put(10, 4), Arrival::New);
        assert_eq!(put(u32::MAX, 1), Arrival::New);
        assert_eq!(drain(&mut receiver), [1, 2, 3]);
        assert_eq!(receiver.next_id(), 2);
        assert_eq!(receiver.accept(u32::MAX, Opcode::ControlV1, &[9]), Arrival::Duplicate);
        assert_eq!(receiver.accept(13, Opcode::ControlV1, &[9]), Arrival::New);
        assert_eq!(receiver.accept(14, Opcode::ControlV1, &[9]), Arrival::BeyondWindow);
    }
}
