//! One key: from its reset to text messages, over its own reliability layer and its own TLS session.
//!
//! ```text
//!  client   Opening ─▶ Handshaking ─▶ KeySent ─▶ Confirming ─▶ Active
//!  server   Opening ─▶ Handshaking ────────────▶ Confirming ─▶ Active
//!  both     any ─▶ Failed: what TLS still has to say goes out once, then silence
//! ```
//!
//! | state | waits for |
//! |---|---|
//! | Opening | the acknowledgement of the own reset |
//! | Handshaking | TLS; the server also for the client's key-method 2 |
//! | KeySent | the server's key-method 2 |
//! | Confirming | acknowledgements of everything sent |
//! | Active | text messages |
//!
//! Source: OpenVPN wire protocol, "Per-key state machine".

mod active;
mod confirming;
mod handshaking;
mod hello;
mod key_sent;
mod opening;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ovpn_crypto::key2::TlsRole;
use ovpn_wire::control_packet::{AckList, EarlyNegotiation, MAX_ACKS};
use ovpn_wire::opcode::{KeyId, Opcode};
use zeroize::Zeroizing;

pub(crate) use self::active::Active;
use self::confirming::Confirming;
use self::handshaking::Handshaking;
pub(crate) use self::hello::{Hello, Local, RemoteHello};
use self::key_sent::KeySent;
use self::opening::Opening;
use crate::reliable::{ACKS_ON_MESSAGE, AckQueue, Arrival, Receiver, Sender};
use crate::tls::Tls;
use crate::{Failure, FailureKind, Now, PeerChain, TlsFacts};

/// The most records that wait until a state takes them.
const MAX_RECORDS: usize = 64;

/// Where a key stands; each state's methods consume it and name the next.
enum State {
    Opening(Opening),
    Handshaking(Handshaking),
    KeySent(KeySent),
    Confirming(Confirming),
    Active(Active),
    Failed,
}

/// What [`Exchange::advance`] found out.
pub(crate) enum Step {
    /// The peer's reset is here: it has started this key too.
    PeerOpened,
    /// The peer's key-method 2 is here; TLS is done and its certificate verified.
    RemoteHello(Box<RemoteHello>),
    /// The key is active: everything sent was acknowledged.
    Active,
    /// A record of text messages.
    Text(Zeroizing<Vec<u8>>),
    /// The key is dead.
    Failed(Failure),
}

/// A packet to be wrapped and sent.
pub(crate) struct Packet<'a> {
    pub(crate) opcode: Opcode,
    pub(crate) acks: AckList,
    pub(crate) message: Option<(u32, &'a [u8])>,
}

/// Sizes and modes of packets, by wrapping and link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most TLS bytes in one message.
    pub(crate) payload: usize,
    /// The same for a message that carries the wrapped client key.
    pub(crate) payload_with_wkc: usize,
    /// The most acks in any packet.
    pub(crate) acks: usize,
}

/// One key being negotiated, or negotiated.
pub(crate) struct Exchange {
    pub(crate) key_id: KeyId,
    role: TlsRole,
    pub(crate) created: Instant,
    sender: Sender,
    receiver: Receiver,
    acks: AckQueue,
    /// The peer's reset was delivered.
    peer_opened: bool,
    /// Message 1 must carry the wrapped client key.
    resend_wkc: bool,
    /// Something failed; [`give_up`](Self::give_up) follows.
    broken: bool,
    /// Unacknowledged messages were brought forward once.
    burst: bool,
    records: VecDeque<Zeroizing<Vec<u8>>>,
    texts: VecDeque<Zeroizing<Vec<u8>>>,
    /// Texts given to TLS that the peer has yet to acknowledge.
    said: Vec<Zeroizing<Vec<u8>>>,
    state: State,
}

impl Exchange {
    /// A key that starts with our own reset.
    pub(crate) fn open(
        key_id: KeyId,
        role: TlsRole,
        reset: Opcode,
        payload: Vec<u8>,
        tls: Tls,
        timeout: Duration,
        now: Instant,
    ) -> Self {
        let mut exchange = Self::new(key_id, role, 0, timeout, now, State::Opening(Opening { tls }));
        exchange.sender.push(reset, payload, now);
        exchange
    }

    /// A server's key whose resets a stateless front has exchanged already.
    pub(crate) fn opened(tls: Tls, timeout: Duration, now: Instant) -> Self {
        let state = State::Handshaking(Opening { tls }.acknowledged());
        let mut exchange = Self::new(KeyId::FIRST, TlsRole::Server, 1, timeout, now, state);
        exchange.peer_opened = true;
        exchange
    }

    fn new(key_id: KeyId, role: TlsRole, next: u32, timeout: Duration, now: Instant, state: State) -> Self {
        Self {
            key_id,
            role,
            created: now,
            sender: Sender::new(next, timeout),
            receiver: Receiver::new(next),
            acks: AckQueue::default(),
            peer_opened: false,
            resend_wkc: false,
            broken: false,
            burst: false,
            records: VecDeque::new(),
            texts: VecDeque::new(),
            said: Vec::new(),
            state,
        }
    }

    /// Over a byte stream, or not.
    pub(crate) fn over_stream(mut self, stream: bool) -> Self {
        self.sender = self.sender.over_stream(stream);
        self
    }

    /// With what the key before learnt about the way to the peer.
    pub(crate) fn after(mut self, former: &Self) -> Self {
        self.sender = self.sender.with_round_trip(former.sender.round_trip());
        self
    }

    /// Takes the acks of a packet.
    pub(crate) fn acknowledged(&mut self, ids: &[u32], now: Instant) {
        self.sender.acknowledge(ids, now);
        if self.sender.is_empty() && self.tls().is_some_and(|tls| !tls.has_output()) {
            self.said.clear();
        }
    }

    /// The peer goes on to the next key: it has everything of this one, though its acks were lost. Whether that is
    /// news.
    pub(crate) fn peer_has_all(&mut self) -> bool {
        let confirming = matches!(&self.state, State::Confirming(state) if !state.tls.has_output());
        if confirming {
            self.sender.clear();
        }
        confirming
    }

    /// Whether the peer has started this key too.
    pub(crate) fn is_peer_open(&self) -> bool {
        self.peer_opened
    }

    /// Takes over what a former key said in vain: the peer does not listen to that one any more.
    pub(crate) fn say_again(&mut self, former: &mut Self) {
        let unheard: Vec<_> = former.said.drain(..).chain(former.texts.drain(..)).collect();
        for text in unheard.into_iter().rev() {
            self.texts.push_front(text);
        }
        former.sender.clear();
    }

    /// Takes a message; whether the packet counts as received.
    pub(crate) fn receive(&mut self, id: u32, opcode: Opcode, payload: &[u8]) -> Arrival {
        let arrival = self.receiver.classify(id);
        if arrival == Arrival::BeyondWindow || !self.acks.push(id) {
            return Arrival::BeyondWindow;
        }
        self.receiver.accept(id, opcode, payload)
    }

    /// The peer has just come to life: what it may have missed goes out again.
    pub(crate) fn burst(&mut self, now: Instant) {
        if !self.burst {
            self.burst = true;
            self.sender.burst(now);
        }
    }

    /// Queues a text message; it goes out as soon as the key is active.
    pub(crate) fn send_text(&mut self, text: &str) {
        let mut message = Zeroizing::new(Vec::with_capacity(text.len() + 1));
        message.extend_from_slice(text.as_bytes());
        message.push(0);
        self.texts.push_back(message);
    }

    /// Goes as far as possible with what is there.
    pub(crate) fn advance(&mut self, now: Now, limits: Limits, local: &mut dyn Local, steps: &mut Vec<Step>) {
        while !self.broken {
            let progress = self.read_messages(now, steps)
                | self.change_state(local, steps)
                | self.write_texts()
                | self.fill_window(now, limits);
            if !progress {
                return;
            }
        }
    }

    /// Moves messages in order into TLS, and what TLS makes of them into `records`.
    fn read_messages(&mut self, now: Now, steps: &mut Vec<Step>) -> bool {
        let mut progress = false;
        while !self.broken {
            // The peer's reset comes first; TLS bytes wait until our own reset was acknowledged.
            if self.peer_opened && matches!(self.state, State::Opening(_)) {
                return progress;
            }
            let Some((opcode, payload)) = self.receiver.deliver() else { return progress };
            progress = true;
            if !self.peer_opened {
                self.peer_opened = true;
                steps.push(Step::PeerOpened);
                if opcode == Opcode::HardResetServerV2 {
                    match EarlyNegotiation::parse(&payload) {
                        Ok(early) => self.resend_wkc = early.resend_wkc,
                        Err(_) => {
                            self.fail(FailureKind::Protocol, "the server's first packet is malformed", steps);
                        }
                    }
                }
                continue;
            }
            let Some(tls) = self.tls_mut() else { continue };
            match tls.receive(now.unix, &payload) {
                Ok(records) => {
                    self.records.extend(records);
                    if self.records.len() > MAX_RECORDS {
                        self.fail(
                            FailureKind::Protocol,
                            "the peer talks on without waiting for answers",
                            steps,
                        );
                    }
                }
                Err(failure) => self.fail(FailureKind::Tls, failure.0, steps),
            }
        }
        progress
    }

    /// Lets the state look at what has happened.
    fn change_state(&mut self, local: &mut dyn Local, steps: &mut Vec<Step>) -> bool {
        if self.broken {
            return false;
        }
        let state = std::mem::replace(&mut self.state, State::Failed);
        let sent_all = self.sender.is_empty();
        let (next, progress) = match state {
            State::Opening(opening) if self.peer_opened && sent_all => {
                (Ok(State::Handshaking(opening.acknowledged())), true)
            }
            State::Handshaking(handshaking) if handshaking.tls.is_established() => match self.role {
                TlsRole::Client => (handshaking.send_key(local).map(State::KeySent), true),
                TlsRole::Server => match self.records.pop_front() {
                    None => (Ok(State::Handshaking(handshaking)), false),
                    Some(record) => {
                        (self.hello_received(handshaking.receive_key(&record, local), steps), true)
                    }
                },
            },
            State::KeySent(key_sent) => match self.records.pop_front() {
                None => (Ok(State::KeySent(key_sent)), false),
                Some(record) => (self.hello_received(key_sent.receive_key(&record), steps), true),
            },
            State::Confirming(confirming) if sent_all && !confirming.tls.has_output() => {
                steps.push(Step::Active);
                (Ok(State::Active(confirming.confirmed())), true)
            }
            State::Active(active) => {
                let any = !self.records.is_empty();
                steps.extend(self.records.drain(..).map(Step::Text));
                (Ok(State::Active(active)), any)
            }
            waiting => (Ok(waiting), false),
        };
        match next {
            Ok(next) => self.state = next,
            Err(failure) => {
                self.broken = true;
                steps.push(Step::Failed(failure));
            }
        }
        progress
    }

    fn hello_received(
        &mut self,
        result: Result<(Confirming, RemoteHello), Failure>,
        steps: &mut Vec<Step>,
    ) -> Result<State, Failure> {
        let (confirming, hello) = result?;
        steps.push(Step::RemoteHello(Box::new(hello)));
        Ok(State::Confirming(confirming))
    }

    fn write_texts(&mut self) -> bool {
        let State::Active(active) = &mut self.state else { return false };
        let any = !self.texts.is_empty();
        for text in self.texts.drain(..) {
            active.tls.send(&text);
            self.said.push(text);
        }
        any
    }

    /// Cuts the TLS stream into messages while the window has room.
    fn fill_window(&mut self, now: Now, limits: Limits) -> bool {
        let mut progress = false;
        while self.sender.has_room() {
            let with_wkc = self.resend_wkc && self.sender.next_id() == 1;
            let Some(tls) = self.tls_mut().filter(|tls| tls.has_output()) else { break };
            let (opcode, limit) = match with_wkc {
                true => (Opcode::ControlWkcV1, limits.payload_with_wkc),
                false => (Opcode::ControlV1, limits.payload),
            };
            let payload = tls.take_output(limit);
            self.sender.push(opcode, payload, now.instant);
            progress = true;
        }
        progress
    }

    /// Ends the key. What TLS still has to say (an alert) stands in the window and goes out once.
    fn fail(&mut self, kind: FailureKind, sentence: impl Into<String>, steps: &mut Vec<Step>) {
        self.broken = true;
        steps.push(Step::Failed(Failure::new(kind, sentence)));
    }

    /// Puts what TLS still has to say into the window, even a full one, and ends the key.
    pub(crate) fn give_up(&mut self, now: Now, limits: Limits, say_goodbye: bool) {
        if !self.sender.has_room() {
            self.sender.clear();
        }
        if say_goodbye && let Some(tls) = self.tls_mut() {
            tls.close();
        }
        self.fill_window(now, limits);
        self.state = State::Failed;
    }

    fn tls_mut(&mut self) -> Option<&mut Tls> {
        match &mut self.state {
            State::Opening(_) | State::Failed => None,
            State::Handshaking(state) => Some(&mut state.tls),
            State::KeySent(state) => Some(&mut state.tls),
            State::Confirming(state) => Some(&mut state.tls),
            State::Active(state) => Some(&mut state.tls),
        }
    }

    fn tls(&self) -> Option<&Tls> {
        match &self.state {
            State::Failed => None,
            State::Opening(state) => Some(&state.tls),
            State::Handshaking(state) => Some(&state.tls),
            State::KeySent(state) => Some(&state.tls),
            State::Confirming(state) => Some(&state.tls),
            State::Active(state) => Some(&state.tls),
        }
    }

    /// The active state, if reached.
    pub(crate) fn active(&self) -> Option<&Active> {
        match &self.state {
            State::Active(active) => Some(active),
            _ => None,
        }
    }

    /// Both key-method messages are exchanged: keys can be made.
    pub(crate) fn keys(&self) -> Option<(&Tls, &hello::KeySources)> {
        match &self.state {
            State::Confirming(state) => Some((&state.tls, &state.sources)),
            State::Active(state) => Some((&state.tls, &state.sources)),
            _ => None,
        }
    }

    /// Whether the key is dead.
    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// Whether everything of the key exchange was acknowledged.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.state, State::Active(_))
    }

    /// The peer's verified chain.
    pub(crate) fn chain(&self) -> Option<PeerChain> {
        self.tls().and_then(Tls::chain)
    }

    /// Facts about TLS for the log.
    pub(crate) fn tls_facts(&self) -> TlsFacts {
        self.tls().map(Tls::facts).unwrap_or_default()
    }

    /// Everything sent so far was acknowledged and nothing waits.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sender.is_empty() && self.texts.is_empty()
    }

    /// The next packet to send now.
    pub(crate) fn next_packet(&mut self, now: Instant, limits: Limits) -> Option<Packet<'_>> {
        if let Some(outgoing) = self.sender.next_due(now) {
            let acks = self.acks.take(ACKS_ON_MESSAGE.min(limits.acks));
            return Some(Packet {
                opcode: outgoing.opcode,
                acks,
                message: Some((outgoing.id, outgoing.payload.as_slice())),
            });
        }
        if !self.acks.is_due() {
            return None;
        }
        let acks = self.acks.take(MAX_ACKS.min(limits.acks));
        Some(Packet { opcode: Opcode::AckV1, acks, message: None })
    }

    /// When [`next_packet`](Self::next_packet) has something again without being given anything.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.sender.deadline()
    }
}
