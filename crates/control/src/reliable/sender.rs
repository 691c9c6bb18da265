//! Messages to the peer, until it has acknowledged them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ovpn_wire::opcode::Opcode;

/// The most messages from the oldest unacknowledged to the newest.
pub const SEND_WINDOW: u32 = 6;

/// Acks of later messages that make a message count as lost.
const EARLY_RETRANSMIT: u8 = 3;

/// The longest pause between two transmissions of a message. (Stock doubles without end, and then has five tries in
/// its hand window of 60 s; this gives six.)
const MAX_TIMEOUT: Duration = Duration::from_secs(16);

/// The shortest pause, however near the peer is.
const MIN_TIMEOUT: Duration = Duration::from_millis(250);

/// The shortest pause over a byte stream, which loses nothing: only a peer that was not ready to take a message makes it
/// due again. One that went on to its next key takes a repetition for nonsense; stock then ends the connection.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its id.
    pub id: u32,
    /// Its opcode.
    pub opcode: Opcode,
    /// Its payload.
    pub payload: Vec<u8>,
    acked: bool,
    due: Instant,
    timeout: Duration,
    later_acks: u8,
    /// When it was sent, as long as that was only once.
    sent_once: Option<Instant>,
    sent: bool,
}

/// The send window.
#[derive(Debug)]
pub struct Sender {
    next: u32,
    initial_timeout: Duration,
    /// How long the peer takes to acknowledge, once known.
    round_trip: Option<Duration>,
    /// Packets travel in a byte stream.
    stream: bool,
    window: VecDeque<Outgoing>,
}

impl Sender {
    /// A window whose first message gets the id `next`.
    pub fn new(next: u32, initial_timeout: Duration) -> Self {
        Self {
            next,
            initial_timeout,
            round_trip: None,
            stream: false,
            window: VecDeque::with_capacity(SEND_WINDOW as usize),
        }
    }

    /// With what a former window learnt about the peer.
    pub fn with_round_trip(mut self, round_trip: Option<Duration>) -> Self {
        self.round_trip = round_trip;
        self
    }

    /// Over a byte stream, or not.
    pub fn over_stream(mut self, stream: bool) -> Self {
        self.stream = stream;
        self
    }

    /// How long the peer takes to acknowledge, smoothed.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The pause after a message's first transmission, by its opcode: the configured one, or less where the peer is
    /// known to be near. Over a byte stream only resets are repeated soon, as the peer may not have been ready for one.
    fn first_timeout(&self) -> impl Fn(Opcode) -> Duration + use<> {
        let reset = match self.round_trip {
            Some(time) => (time * 4).max(MIN_TIMEOUT).min(self.initial_timeout),
            None => self.initial_timeout,
        };
        let other = if self.stream { self.initial_timeout.max(STREAM_TIMEOUT) } else { reset };
        move |opcode| if matches!(opcode, Opcode::ControlV1 | Opcode::ControlWkcV1) { other } else { reset }
    }

    /// Whether another message fits.
    pub fn has_room(&self) -> bool {
        (self.window.len() as u32) < SEND_WINDOW
    }

    /// Whether the peer has everything.
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    /// The id that the next message gets.
    pub fn next_id(&self) -> u32 {
        self.next
    }

    /// Adds a message, due at once. The caller checks [`has_room`](Self::has_room) first.
    pub fn push(&mut self, opcode: Opcode, payload: Vec<u8>, now: Instant) {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.window.push_back(Outgoing {
            id,
            opcode,
            payload,
            acked: false,
            due: now,
            timeout: self.initial_timeout,
            later_acks: 0,
            sent_once: None,
            sent: false,
        });
    }

    /// Takes acknowledgements; unknown ids are ignored. A message that three later ones overtook is due at once.
    pub fn acknowledge(&mut self, ids: &[u32], now: Instant) {
        for &id in ids {
            let Some(place) = self.window.iter().position(|message| message.id == id && !message.acked)
            else {
                continue;
            };
            for (index, message) in self.window.iter_mut().enumerate() {
                if index == place {
                    message.acked = true;
                    if let Some(sent) = message.sent_once {
                        let sample = now.saturating_duration_since(sent);
                        self.round_trip = Some(match self.round_trip {
                            Some(before) => (before * 7 + sample) / 8,
                            None => sample,
                        });
                    }
                } else if index < place && !message.acked {
                    message.later_acks += 1;
                    if message.later_acks >= EARLY_RETRANSMIT {
                        message.later_acks = 0;
                        message.due = now;
                    }
                }
            }
        }
        while self.window.front().is_some_and(|message| message.acked) {
            self.window.pop_front();
        }
    }

    /// Everything unacknowledged is due now, with the initial timeout: the peer has just come to life.
    pub fn burst(&mut self, now: Instant) {
        let timeout = self.first_timeout();
        for message in &mut self.window {
            message.due = now;
            message.timeout = timeout(message.opcode);
        }
    }

    /// The next message to send now; it is rescheduled with twice the pause.
    pub fn next_due(&mut self, now: Instant) -> Option<&Outgoing> {
        let first_timeout = self.first_timeout();
        let message = self.window.iter_mut().find(|message| !message.acked && message.due <= now)?;
        message.sent_once = (!message.sent).then_some(now);
        if !message.sent {
            message.sent = true;
            message.timeout = first_timeout(message.opcode);
        }
        message.due = now + message.timeout;
        message.timeout = (message.timeout * 2).min(MAX_TIMEOUT.max(self.initial_timeout));
        message.later_acks = 0;
        Some(message)
    }

    /// When [`next_due`](Self::next_due) has something again.
    pub fn deadline(&self) -> Option<Instant> {
        self.window.iter().filter(|message| !message.acked).map(|message| message.due).min()
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.window.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn due(sender: &mut Sender, now: Instant) -> Vec<u32> {
        let mut ids = Vec::new();
        while let Some(message) = sender.next_due(now) {
            ids.push(message.id);
        }
        ids
    }

    fn filled(count: usize, now: Instant) -> Sender {
        let mut sender = Sender::new(0, TIMEOUT);
        for _ in 0..count {
            sender.push(Opcode::ControlV1, Vec::new(), now);
        }
        sender
    }

    #[test]
    fn backs_off() {
        let start = Instant::now();
        let mut sender = filled(1, start);
        let mut at = start;
        for pause in [2, 4, 8, 16, 16] {
            assert_eq!(sender.deadline(), Some(at));
            assert_eq!(due(&mut sender, at), [0]);
            assert_eq!(due(&mut sender, at + Duration::from_millis(1)), [0; 0]);
            at += Duration::from_secs(pause);
        }
    }

    #[test]
    fn window_counts_from_the_oldest() {
        let now = Instant::now();
        let mut sender = filled(6, now);
        assert!(!sender.has_room());
        sender.acknowledge(&[1, 2, 3, 4, 5], now);
        assert!(!sender.has_room(), "0 is still on its way");
        sender.acknowledge(&[0, 77], now);
        assert!(sender.is_empty() && sender.has_room());
        assert_eq!(sender.next_id(), 6);
    }

    #[test]
    fn three_later_acks_bring_a_message_forward() {
        let now = Instant::now();
        let mut sender = filled(5, now);
        assert_eq!(due(&mut sender, now), [0, 1, 2, 3, 4]);
        sender.acknowledge(&[1, 2], now);
        assert_eq!(due(&mut sender, now), [0; 0]);
        sender.acknowledge(&[2, 2, 2], now);
        assert_eq!(due(&mut sender, now), [0; 0], "repeated acks count once");
        sender.acknowledge(&[4], now);
        assert_eq!(due(&mut sender, now), [0]);
    }

    #[test]
    fn a_near_peer_is_asked_again_sooner() {
        let start = Instant::now();
        let mut sender = filled(3, start);
        due(&mut sender, start);
        let later = start + Duration::from_millis(100);
        sender.acknowledge(&[0], later);
        assert_eq!(sender.round_trip(), Some(Duration::from_millis(100)));
        sender.push(Opcode::ControlV1, Vec::new(), later);
        assert_eq!(due(&mut sender, later), [3]);
        assert_eq!(due(&mut sender, later + Duration::from_millis(399)), [0; 0]);
        assert_eq!(due(&mut sender, later + Duration::from_millis(400)), [3]);
        // What was sent twice says nothing about the way.
        sender.acknowledge(&[3], later + Duration::from_millis(401));
        assert_eq!(sender.round_trip(), Some(Duration::from_millis(100)));
    }

    #[test]
    fn a_stream_is_trusted() {
        let start = Instant::now();
        let mut sender = Sender::new(0, TIMEOUT).over_stream(true);
        sender.push(Opcode::SoftResetV1, Vec::new(), start);
        sender.push(Opcode::ControlV1, Vec::new(), start);
        assert_eq!(due(&mut sender, start), [0, 1]);
        assert_eq!(due(&mut sender, start + TIMEOUT), [0]);
        sender.acknowledge(&[0], start + TIMEOUT);
        assert_eq!(sender.deadline(), Some(start + STREAM_TIMEOUT));
    }

    #[test]
    fn burst_starts_over() {
        let start = Instant::now();
        let mut sender = filled(1, start);
        due(&mut sender, start);
        due(&mut sender, start + TIMEOUT);
        let later = start + TIMEOUT + Duration::from_millis(10);
        sender.burst(later);
        assert_eq!(due(&mut sender, later), [0]);
        assert_eq!(sender.deadline(), Some(later + TIMEOUT));
    }
}
