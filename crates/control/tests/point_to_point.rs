//! Point-to-point peers: both call, both compute what they agree on, either renegotiates or starts anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::pki;
use common::{Dice, failure};
use ovpn_control::{
    DataFormat, Event, Now, P2pParams, P2pTls, Session, TlsClient, TlsOptions, TlsServer, VerifyClientCert,
    Wrapping,
};

fn count(events: &[Event], matches: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|event| matches(event)).count()
}

/// The TLS client and the TLS server.
const SIDES: [usize; 2] = [0, 1];

/// A packet under way: when it lands, its number, whom it is for.
type Flying = (Instant, u64, usize, Vec<u8>);

struct Pair {
    now: Now,
    dice: Dice,
    peers: [Session; 2],
    events: [Vec<Event>; 2],
    flight: Vec<Flying>,
    sent: u64,
    delay: Duration,
    /// How many of a hundred packets are lost.
    loss: u64,
    /// All that this side sends is lost once it is established.
    mute: Option<usize>,
    /// This side drops what stock drops: packets of any key but its latest, and a soft reset before it has that
    /// key's data key.
    strict: Option<usize>,
    /// The key id of the last reset that each side sent.
    resets: [u8; 2],
}

fn p2p_params(server: bool, wrapping: Wrapping) -> P2pParams {
    let options = TlsOptions::default();
    let tls = if server {
        let identity = pki::pki().server.identity();
        P2pTls::Server(TlsServer::new(identity, pki::rules(), VerifyClientCert::Require, &options).unwrap())
    } else {
        P2pTls::Client(TlsClient::new(Some(pki::pki().client.identity()), pki::rules(), &options).unwrap())
    };
    P2pParams {
        session: pki::session(wrapping),
        tls,
        peer_info: Vec::new(),
        single_session: false,
        tls_crypt_v2: None,
    }
}

impl Pair {
    fn new(seed: u64, wrapping: &Wrapping, server_initiates: bool) -> Self {
        let now = Now { instant: Instant::now(), unix: common::UNIX };
        let mut dice = Dice::new(seed);
        let mut peer = |server, initiate| {
            let params = Arc::new(p2p_params(server, wrapping.clone()));
            Session::p2p(params, None, initiate, Box::new(dice.random()), now).unwrap()
        };
        let mut pair = Self {
            now,
            peers: [peer(false, true), peer(true, server_initiates)],
            events: [Vec::new(), Vec::new()],
            flight: Vec::new(),
            sent: 0,
            delay: Duration::from_millis(5 + seed % 40),
            loss: 0,
            mute: None,
            strict: None,
            resets: [0; 2],
            dice,
        };
        pair.drain();
        pair
    }

    fn drain(&mut self) {
        for from in SIDES {
            while let Some(event) = self.peers[from].poll_event() {
                self.events[from].push(event);
            }
            let lost = self.mute == Some(from) && self.peers[from].negotiated().is_some();
            while let Some(packet) = self.peers[from].poll_transmit() {
                if matches!(packet[0] >> 3, 3 | 7 | 8) {
                    self.resets[from] = packet[0] & 7;
                }
                if !lost && !self.dice.percent(self.loss) {
                    self.sent += 1;
                    self.flight.push((self.now.instant + self.delay, self.sent, 1 - from, packet));
                }
            }
        }
    }

    fn land(&mut self, to: usize, packet: &[u8]) {
        let (opcode, key_id) = (packet[0] >> 3, packet[0] & 7);
        let current = self.resets[to];
        let has_key =
            |event: &Event| matches!(event, Event::InstallKey { key, .. } if key.key_id.get() == current);
        let stock_takes = key_id == current || (opcode == 3 && self.events[to].iter().any(has_key));
        if self.strict != Some(to) || stock_takes {
            let _ = self.peers[to].handle_packet(self.now, packet);
            self.drain();
        }
    }

    /// Runs until `done`, at most for `limit` of virtual time; whether it was done.
    fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.instant + limit;
        while !done(self) {
            let arrival = self.flight.iter().map(|(at, ..)| *at);
            let timers = self.peers.iter().filter_map(|peer| peer.poll_timeout().map(|(at, _)| at));
            let next = arrival.chain(timers).min().filter(|at| *at <= end);
            let at = next.unwrap_or(end).max(self.now.instant);
            self.now.unix += (at - self.now.instant).as_secs();
            self.now.instant = at;
            if next.is_none() {
                return done(self);
            }
            for peer in &mut self.peers {
                if peer.poll_timeout().is_some_and(|(due, _)| due <= at) {
                    peer.handle_timeout(self.now);
                }
            }
            self.drain();
            self.flight.sort_by_key(|packet| (packet.0, packet.1));
            while self.flight.first().is_some_and(|packet| packet.0 <= at) {
                let (_, _, to, packet) = self.flight.remove(0);
                self.land(to, &packet);
            }
        }
        true
    }

    fn wait(&mut self, seconds: u64) {
        self.run_until(Duration::from_secs(seconds), |_| false);
    }

    fn keys(&self, side: usize) -> usize {
        count(&self.events[side], |event| matches!(event, Event::InstallKey { .. }))
    }

    fn renegotiate(&mut self, side: usize) {
        self.peers[side].renegotiate(self.now);
        self.drain();
    }
}

fn wrapped() -> Wrapping {
    Wrapping::TlsCrypt(pki::static_key(4))
}

#[test]
fn point_to_point() {
    for server_initiates in [true, false] {
        let mut pair = Pair::new(5, &wrapped(), server_initiates);
        pair.wait(2);
        let [client, server] = &pair.peers;
        let negotiated = client.negotiated().unwrap();
        assert_eq!(Some(negotiated), server.negotiated());
        assert!(negotiated.tls_ekm && negotiated.dyn_tls_crypt && negotiated.cc_exit);
        assert_eq!(negotiated.format, DataFormat::V2);
        assert!(negotiated.peer_id.is_some());
        pair.renegotiate(1);
        pair.wait(70);
        for events in &pair.events {
            assert_eq!(count(events, |event| matches!(event, Event::UseKey { .. })), 1, "{events:?}");
            assert!(failure(events).is_none());
        }
    }
}

#[test]
fn a_point_to_point_peer_restarts() {
    let mut pair = Pair::new(5, &wrapped(), true);
    pair.wait(2);
    let params = Arc::new(p2p_params(false, wrapped()));
    let mut dice = Dice::new(77);
    pair.peers[0] = Session::p2p(params, None, true, Box::new(dice.random()), pair.now).unwrap();
    pair.events = [Vec::new(), Vec::new()];
    pair.drain();
    pair.wait(7);
    for events in &pair.events {
        assert_eq!(count(events, |event| matches!(event, Event::Established(_))), 1, "{events:?}");
    }
    assert_eq!(pair.peers[0].negotiated(), pair.peers[1].negotiated());
}

/// One side is established while the other still waits for its last acks; it renegotiates before any of them gets
/// through, and listens to the first key no more, as stock does. Its soft reset says it all.
#[test]
fn the_first_soft_reset_stands_for_lost_acks() {
    for seed in 0..10 {
        for wrapping in [Wrapping::None, wrapped()] {
            for leader in SIDES {
                let what = format!("seed {seed}, {wrapping:?}, {leader} leads");
                let mut pair = Pair::new(seed, &wrapping, true);
                (pair.mute, pair.strict) = (Some(leader), Some(leader));
                let up = |pair: &Pair| pair.peers[leader].negotiated().is_some();
                assert!(pair.run_until(Duration::from_secs(5), up), "{what}");
                pair.renegotiate(leader);
                pair.run_until(Duration::from_millis(300), |_| false);
                pair.mute = None;
                let renewed = |pair: &Pair| pair.keys(0) == 2 && pair.keys(1) == 2;
                assert!(pair.run_until(Duration::from_secs(20), renewed), "{what}: {:?}", pair.events);
                assert!(pair.events.iter().all(|events| failure(events).is_none()), "{what}");
            }
        }
    }
}

/// As between clients and servers: a side asks for the next key as soon as it has one.
#[test]
fn one_after_the_other() {
    for seed in 0..20 {
        for leader in SIDES {
            for strict in SIDES {
                let mut pair = Pair::new(seed, &wrapped(), seed % 2 == 0);
                (pair.loss, pair.strict) = (15, Some(strict));
                for times in 1..=8 {
                    let done = pair.run_until(Duration::from_secs(45), |pair| pair.keys(leader) >= times);
                    assert!(
                        done && pair.events.iter().all(|events| failure(events).is_none()),
                        "seed {seed}, {leader} leads, {strict} is strict, key {times}: {:?}",
                        pair.events
                    );
                    pair.renegotiate(leader);
                }
            }
        }
    }
}
