//! A client and a server, or two peers, in a simulated network with virtual time; deterministic by seed.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

pub mod pki;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_control::{
    Answer, AuthCause, ClientParams, Credentials, DataKey, DropReason, Endpoint, Event, Failure, InitialRate,
    KeySlot, Now, Push, Reject, ServerParams, Session,
};

/// splitmix64: small, seeded, good enough for a network.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn random(&mut self) -> impl FnMut(&mut [u8]) + Send + use<> {
        let mut dice = Self::new(self.next());
        move |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = (dice.next() >> 24) as u8)
    }
}

/// What the network does to packets, per direction alike.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub loss: u64,
    pub duplicate: u64,
    pub reorder: u64,
    pub delay_ms: u64,
    pub jitter_ms: u64,
    pub mtu: usize,
    /// A byte stream: in order, nothing lost; what the network loses comes late.
    pub stream: bool,
}

impl Weather {
    pub const FAIR: Self =
        Self { loss: 0, duplicate: 0, reorder: 0, delay_ms: 10, jitter_ms: 0, mtu: 1500, stream: false };

    pub fn stormy(dice: &mut Dice) -> Self {
        Self {
            loss: dice.below(31),
            duplicate: dice.below(20),
            reorder: dice.below(30),
            delay_ms: 1 + dice.below(150),
            jitter_ms: dice.below(60),
            mtu: 1250 - 28,
            stream: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Client,
    Server,
}

/// One side's data plane: what a driver would hold.
#[derive(Debug, Default)]
pub struct Slots {
    pub primary: Option<DataKey>,
    pub secondary: Option<DataKey>,
}

impl Slots {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::InstallKey { slot: KeySlot::Primary, key } => self.primary = Some(key.clone()),
            Event::InstallKey { slot: KeySlot::Secondary, key } => self.secondary = Some(key.clone()),
            Event::UseKey { key_id } => {
                std::mem::swap(&mut self.primary, &mut self.secondary);
                assert_eq!(
                    self.primary.as_ref().map(|key| key.key_id),
                    Some(*key_id),
                    "used key is installed"
                );
            }
            Event::DropKey { slot: KeySlot::Primary } => self.primary = None,
            Event::DropKey { slot: KeySlot::Secondary } => self.secondary = None,
            _ => {}
        }
    }

    /// Whether what this side sends can be read by the other.
    pub fn reaches(&self, other: &Self) -> bool {
        let Some(mine) = &self.primary else { return false };
        [&other.primary, &other.secondary]
            .into_iter()
            .flatten()
            .any(|theirs| theirs.key_id == mine.key_id && theirs.decrypt == mine.encrypt)
    }
}

/// What a server does with logins and configurations.
pub struct Policy {
    pub options: Vec<String>,
    pub login: fn(&ovpn_control::AuthRequest) -> Result<(), Reject>,
    /// Decide that much later.
    pub login_delay: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            options: vec!["route-gateway 10.8.0.1".into(), "ifconfig 10.8.0.2 255.255.255.0".into()],
            login: |_| Ok(()),
            login_delay: Duration::ZERO,
        }
    }
}

/// A packet under way: when it lands, its number, whom it is for.
type Flying = (Instant, u64, To, Vec<u8>);

pub struct World {
    pub start: Instant,
    pub now: Now,
    pub dice: Dice,
    pub weather: Weather,
    pub flight: Vec<Flying>,
    sent: u64,
    pub client_params: Arc<ClientParams>,
    pub server_params: Arc<ServerParams>,
    pub client: Session,
    pub endpoint: Endpoint,
    pub server: Option<Session>,
    pub policy: Policy,
    pending: Vec<(Instant, ovpn_control::AuthId, Result<(), Reject>)>,
    pub client_events: Vec<Event>,
    pub server_events: Vec<Event>,
    pub client_slots: Slots,
    pub server_slots: Slots,
    pub drops: Vec<(To, DropReason)>,
    pub packets: u64,
    pub log: Vec<u8>,
    /// From when on both directions must always have a common key.
    pub watch_keys: bool,
    pub push_wanted: bool,
    /// How many of a hundred packets come with an evil twin.
    pub tamper: u64,
    /// This side drops what stock drops: packets of any key but its latest, and a soft reset before it has that
    /// key's data key.
    pub strict: Option<To>,
    /// The key id of the last reset that a client, and a server, was sent.
    resets: [u8; 2],
}

pub const CLIENT: &str = "192.0.2.2:40000";
/// 2026-11-22.
pub const UNIX: u64 = 1_795_305_600;

impl World {
    pub fn new(seed: u64, weather: Weather, client: ClientParams, server: ServerParams) -> Self {
        Self::with_login(seed, weather, client, server, None)
    }

    pub fn with_login(
        seed: u64,
        weather: Weather,
        client: ClientParams,
        server: ServerParams,
        credentials: Option<Credentials>,
    ) -> Self {
        let mut dice = Dice::new(seed);
        let now = Now { instant: Instant::now(), unix: UNIX };
        let (client_params, server_params) = (Arc::new(client), Arc::new(server));
        let client =
            Session::client(Arc::clone(&client_params), credentials, Box::new(dice.random()), now).unwrap();
        let endpoint = Endpoint::new(&server_params, InitialRate::default(), &[7; 32]);
        let mut world = Self {
            start: now.instant,
            now,
            dice,
            weather,
            flight: Vec::new(),
            sent: 0,
            client_params,
            server_params,
            client,
            endpoint,
            server: None,
            policy: Policy::default(),
            pending: Vec::new(),
            client_events: Vec::new(),
            server_events: Vec::new(),
            client_slots: Slots::default(),
            server_slots: Slots::default(),
            drops: Vec::new(),
            packets: 0,
            log: Vec::new(),
            watch_keys: false,
            push_wanted: true,
            tamper: 0,
            strict: None,
            resets: [0; 2],
        };
        world.drain();
        world
    }

    pub fn elapsed(&self) -> Duration {
        self.now.instant - self.start
    }

    fn throw(&mut self, to: To, packet: Vec<u8>) {
        self.packets += 1;
        if packet.first().is_some_and(|byte| matches!(byte >> 3, 3 | 7 | 8 | 10)) {
            self.resets[to as usize] = packet[0] & 7;
        }
        let weather = self.weather;
        if weather.stream {
            let mut delay = weather.delay_ms + self.dice.below(weather.jitter_ms + 1);
            if self.dice.percent(weather.loss) {
                delay += 200 + self.dice.below(1500);
            }
            let before = self.flight.iter().filter(|flying| flying.2 == to).map(|flying| flying.0).max();
            let at = (self.now.instant + Duration::from_millis(delay)).max(before.unwrap_or(self.start));
            self.sent += 1;
            return self.flight.push((at, self.sent, to, packet));
        }
        if packet.len() > weather.mtu || self.dice.percent(weather.loss) {
            return;
        }
        if self.dice.percent(self.tamper) {
            let mut twin = packet.clone();
            match self.dice.below(4) {
                0 => twin.truncate(self.dice.below(twin.len() as u64) as usize),
                1 => twin.iter_mut().skip(9).for_each(|byte| *byte = self.dice.next() as u8),
                _ => {
                    let place = self.dice.below(twin.len() as u64) as usize;
                    twin[place] ^= 1 << self.dice.below(8);
                }
            }
            self.sent += 1;
            self.flight.push((self.now.instant, self.sent, to, twin));
        }
        let copies = 1 + u64::from(self.dice.percent(weather.duplicate));
        for _ in 0..copies {
            let mut delay = weather.delay_ms + self.dice.below(weather.jitter_ms + 1);
            if self.dice.percent(weather.reorder) {
                delay += self.dice.below(300);
            }
            self.sent += 1;
            let at = self.now.instant + Duration::from_millis(delay);
            self.flight.push((at, self.sent, to, packet.clone()));
        }
    }

    /// Takes events and packets out of both sides until nothing more comes.
    pub fn drain(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(event) = self.client.poll_event() {
                quiet = false;
                self.client_slots.apply(&event);
                self.client_events.push(event);
            }
            while let Some(packet) = self.client.poll_transmit() {
                quiet = false;
                self.throw(To::Server, packet);
            }
            while let Some(event) = self.server.as_mut().and_then(Session::poll_event) {
                quiet = false;
                self.server_slots.apply(&event);
                self.server_event(&event);
                self.server_events.push(event);
            }
            while let Some(packet) = self.server.as_mut().and_then(Session::poll_transmit) {
                quiet = false;
                self.throw(To::Client, packet);
            }
            if quiet {
                break;
            }
        }
        if self.watch_keys {
            assert!(
                self.client_slots.reaches(&self.server_slots),
                "client to server at {:?}",
                self.elapsed()
            );
            assert!(
                self.server_slots.reaches(&self.client_slots),
                "server to client at {:?}",
                self.elapsed()
            );
        }
    }

    fn server_event(&mut self, event: &Event) {
        let Some(server) = &mut self.server else { return };
        match event {
            Event::AuthRequest(request) => {
                let verdict = (self.policy.login)(request);
                if request.cause == AuthCause::Renegotiate || self.policy.login_delay.is_zero() {
                    decide(server, self.now, request.id, verdict);
                } else {
                    self.pending.push((self.now.instant + self.policy.login_delay, request.id, verdict));
                }
            }
            Event::PushRequest if self.push_wanted => {
                let push = Push {
                    options: self.policy.options.clone(),
                    peer_id: 5,
                    tun_mtu: 1500,
                    data_ciphers: None,
                };
                let _ = server.send_push_reply(self.now, &push);
            }
            _ => {}
        }
    }

    /// Moves to the next thing that happens; `false` if nothing ever will.
    pub fn step(&mut self) -> bool {
        let arrival = self.flight.iter().map(|(at, ..)| *at).min();
        let decision = self.pending.iter().map(|(at, ..)| *at).min();
        let client = self.client.poll_timeout().map(|(at, _)| at);
        let server = self.server.as_ref().and_then(Session::poll_timeout).map(|(at, _)| at);
        let Some(next) = [arrival, decision, client, server].into_iter().flatten().min() else {
            return false;
        };
        self.advance_to(next);
        if client.is_some_and(|at| at <= self.now.instant) {
            self.client.handle_timeout(self.now);
        }
        if server.is_some_and(|at| at <= self.now.instant)
            && let Some(server) = &mut self.server
        {
            server.handle_timeout(self.now);
        }
        self.drain();
        if let Some(place) = self.pending.iter().position(|(at, ..)| *at <= self.now.instant) {
            let (_, id, verdict) = self.pending.swap_remove(place);
            if let Some(server) = &mut self.server {
                decide(server, self.now, id, verdict);
            }
            self.drain();
        }
        let mut landed: Vec<_> = Vec::new();
        let now = self.now.instant;
        self.flight.retain(|packet| {
            if packet.0 <= now {
                landed.push(packet.clone());
            }
            packet.0 > now
        });
        landed.sort_by_key(|packet| (packet.0, packet.1));
        for (_, _, to, packet) in landed {
            self.land(to, &packet);
            self.drain();
        }
        true
    }

    pub fn land(&mut self, to: To, packet: &[u8]) {
        self.log.push(packet.first().copied().unwrap_or(0));
        if self.strict == Some(to) && !self.stock_would_take(to, packet) {
            return self.drops.push((to, DropReason::UnknownKey));
        }
        let result = match (to, &mut self.server) {
            (To::Client, _) => self.client.handle_packet(self.now, packet),
            (To::Server, Some(server)) => server.handle_packet(self.now, packet),
            (To::Server, None) => {
                let from: SocketAddr = CLIENT.parse().unwrap();
                let answer = if self.weather.stream {
                    self.endpoint.accept_stream(self.now, packet).map(|it| Answer::Accepted(Box::new(it)))
                } else {
                    self.endpoint.handle_packet(self.now, from, packet)
                };
                match answer {
                    Ok(Answer::Reply(reply)) => {
                        self.throw(To::Client, reply);
                        Ok(())
                    }
                    Ok(Answer::Accepted(accepted)) => {
                        let params = Arc::clone(&self.server_params);
                        let random = Box::new(self.dice.random());
                        self.server = Some(Session::server(params, *accepted, random, self.now).unwrap());
                        Ok(())
                    }
                    Err(reason) => Err(reason),
                }
            }
        };
        if let Err(reason) = result {
            self.drops.push((to, reason));
        }
    }

    fn stock_would_take(&self, to: To, packet: &[u8]) -> bool {
        let (slots, other) = match to {
            To::Client => (&self.client_slots, To::Server),
            To::Server => (&self.server_slots, To::Client),
        };
        let current = self.resets[other as usize];
        let byte = packet.first().copied().unwrap_or(0);
        let has_key =
            [&slots.primary, &slots.secondary].into_iter().flatten().any(|key| key.key_id.get() == current);
        byte & 7 == current || (byte >> 3 == 3 && has_key)
    }

    pub fn advance_to(&mut self, at: Instant) {
        let at = at.max(self.now.instant);
        self.now = Now { instant: at, unix: UNIX + (at - self.start).as_secs() };
    }

    /// Runs until `done`, at most `limit` of virtual time; whether it was done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now.instant + limit;
        let mut steps = 0;
        while !done(self) {
            steps += 1;
            assert!(steps < 200_000, "no end in sight at {:?}", self.elapsed());
            let next = self.flight.iter().map(|(at, ..)| *at).min();
            let soonest = [
                next,
                self.client.poll_timeout().map(|(at, _)| at),
                self.server.as_ref().and_then(Session::poll_timeout).map(|(at, _)| at),
                self.pending.iter().map(|(at, ..)| *at).min(),
            ];
            match soonest.into_iter().flatten().min() {
                Some(at) if at <= end => {
                    self.step();
                }
                _ => {
                    self.advance_to(end);
                    return done(self);
                }
            }
        }
        true
    }

    /// Replaces the client by a new one on the same address, as after a crash.
    pub fn restart_client(&mut self) {
        let random = Box::new(self.dice.random());
        self.client = Session::client(Arc::clone(&self.client_params), None, random, self.now).unwrap();
        self.client_events.clear();
        self.client_slots = Slots::default();
        self.drain();
    }

    pub fn established(&self) -> bool {
        let up = |events: &[Event]| events.iter().any(|event| matches!(event, Event::Established(_)));
        up(&self.client_events) && up(&self.server_events)
    }

    pub fn client_failure(&self) -> Option<&Failure> {
        failure(&self.client_events)
    }

    pub fn server_failure(&self) -> Option<&Failure> {
        failure(&self.server_events)
    }

    pub fn pushed(&self) -> Option<&[String]> {
        self.client_events.iter().find_map(|event| match event {
            Event::PushReply(reply) => Some(reply.options.as_slice()),
            _ => None,
        })
    }
}

fn decide(server: &mut Session, now: Now, id: ovpn_control::AuthId, verdict: Result<(), Reject>) {
    match verdict {
        Ok(()) => server.auth_accept(now, id),
        Err(reject) => server.auth_reject(now, id, &reject),
    }
}

pub fn failure(events: &[Event]) -> Option<&Failure> {
    events.iter().find_map(|event| match event {
        Event::Failed(failure) => Some(failure),
        _ => None,
    })
}
