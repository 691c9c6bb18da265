//! How many peers stream to a worker at once, for which its sockets need room.
//!
//! ```text
//!   period   1            2            3
//!   A  ▆▆ ▆▆▆ ▆▆ │▆▆▆▆ ▆▆ ▆ │            A and B streamed in period 2: two, told in period 3
//!   B            │▆▆ ▆▆▆▆▆▆ │▆▆▆ ▆▆
//!   C   .        │  .       │.           a packet now and then is no stream
//! ```
//!
//! A socket's receive queue is shared by all peers. What it holds is what they wait for, so it is short; but a hundred
//! streams, of which each has a hundredth of it, get to no large super-packets.

use crate::decrypt::Rx;
use crate::time::Timestamp;

/// What is counted together, milliseconds: long enough for each of many streams to come by.
const PERIOD: u64 = 250;
/// Fewer bytes of one peer in a row are no stream.
const LARGE: u64 = 16 << 10;

/// One worker's count.
#[derive(Debug, Default)]
pub(crate) struct BusyPeers {
    period: u64,
    count: usize,
    before: usize,
}

impl BusyPeers {
    /// A peer's packets in a row have been opened.
    pub(crate) fn received(&mut self, rx: &mut Rx<'_>, now: Timestamp) {
        if rx.opened_bytes() >= LARGE {
            self.turn_to(now);
            self.count += usize::from(rx.streams_in(self.period));
        }
    }

    /// How many streamed in the last whole period.
    pub(crate) fn count(&mut self, now: Timestamp) -> usize {
        self.turn_to(now);
        self.before
    }

    fn turn_to(&mut self, now: Timestamp) {
        // From 1: 0 is of peers that never streamed.
        let period = now.as_millis() / PERIOD + 1;
        if period != self.period {
            self.before = if period == self.period + 1 { self.count } else { 0 };
            (self.period, self.count) = (period, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use ovpn_dco::{DataFormat, KeySlot, Mode, Protocol};

    use super::*;
    use crate::test_support::{at, id, key, peer, table};

    #[test]
    fn peers_that_stream_are_counted_once_a_period() {
        const LEN: usize = 1400;
        const STREAM: usize = LARGE as usize / LEN + 1;
        let ((here, _), (there, _)) = (table(Mode::MultiPeer), table(Mode::MultiPeer));
        for number in 1..=3 {
            let config = peer(number, "127.0.0.1:1000", &format!("10.8.0.{number}"));
            for (table, out, into) in [(&here, 1, 2), (&there, 2, 1)] {
                table.peer_new(&config, Some(Protocol::Udp), at(0)).unwrap();
                table.key_new(id(number), KeySlot::Primary, &key(DataFormat::V2, 0, out, into)).unwrap();
            }
        }
        let run = |busy: &mut BusyPeers, number, packets: usize, now| {
            let (here, there) = (here.read(), there.read());
            let mut tx = there.tx(there.get(id(number)).unwrap(), at(now));
            let mut rx = here.rx(here.get(id(number)).unwrap(), at(now));
            let mut inner = [0; LEN];
            inner[0] = 0x45;
            inner[12..16].copy_from_slice(&[10, 8, 0, number as u8]);
            for _ in 0..packets {
                let mut sealed = [0; LEN + 64];
                let len = tx.seal(&inner, &mut sealed).unwrap();
                rx.open(&sealed[..len], None, &mut [0; LEN + 64]).unwrap();
            }
            busy.received(&mut rx, at(now));
        };
        let mut busy = BusyPeers::default();
        run(&mut busy, 1, STREAM, 0);
        run(&mut busy, 2, STREAM, 1);
        run(&mut busy, 1, STREAM, PERIOD - 1);
        run(&mut busy, 3, STREAM - 2, PERIOD - 1);
        assert_eq!(busy.count(at(PERIOD - 1)), 0, "the period is not over");
        assert_eq!(busy.count(at(PERIOD)), 2);
        run(&mut busy, 1, STREAM, PERIOD);
        assert_eq!(busy.count(at(2 * PERIOD - 1)), 2);
        assert_eq!(busy.count(at(2 * PERIOD)), 1);
        assert_eq!(busy.count(at(3 * PERIOD)), 0);
        run(&mut busy, 1, STREAM, 3 * PERIOD);
        assert_eq!(busy.count(at(5 * PERIOD)), 0, "nothing came in the last whole period");
    }
}
