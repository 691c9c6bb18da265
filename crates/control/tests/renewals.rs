//! Renegotiations that follow each other at once, in bad weather, with peers that listen to one key at a time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{To, Weather, World, pki};
use ovpn_control::{DropReason, Event, Link, Session, Wrapping};

/// Stock gives a renegotiation 60 s; retransmissions start at two seconds and double.
const IN_TIME: Duration = Duration::from_secs(45);

fn world(seed: u64, loss: u64, strict: Option<To>) -> World {
    world_over(seed, loss, strict, false)
}

fn world_over(seed: u64, loss: u64, strict: Option<To>, stream: bool) -> World {
    let weather = Weather { delay_ms: 5 + seed % 40, jitter_ms: seed % 7, stream, ..Weather::FAIR };
    let key = || Wrapping::TlsCrypt(pki::static_key(1));
    let (mut client, mut server) = (pki::client(key()), pki::server(key()));
    if stream {
        client.session.link = Link::TcpV4;
        server.session.link = Link::TcpV4;
    }
    client.session.timing.reneg = None;
    server.session.timing.reneg = None;
    let mut world = World::new(seed, weather, client, server);
    assert!(world.run_until(Duration::from_secs(5), World::established));
    world.run_until(Duration::from_secs(1), |_| false);
    world.weather.loss = loss;
    world.strict = strict;
    world.watch_keys = true;
    world
}

fn session(world: &mut World, side: To) -> &mut Session {
    match side {
        To::Client => &mut world.client,
        To::Server => world.server.as_mut().unwrap(),
    }
}

fn events(world: &World, side: To) -> &[Event] {
    match side {
        To::Client => &world.client_events,
        To::Server => &world.server_events,
    }
}

fn keys(world: &World, side: To) -> usize {
    events(world, side).iter().filter(|event| matches!(event, Event::InstallKey { .. })).count()
}

fn other(side: To) -> To {
    if side == To::Client { To::Server } else { To::Client }
}

/// A side asks for the next key as soon as it has one, whether the other side knows that or not. The last acks of a key
/// may be lost then: a side that has gone on repeats them, and takes a peer's going on for an ack of everything.
#[test]
fn one_after_the_other() {
    for seed in 0..20 {
        for leader in [To::Client, To::Server] {
            // Either side may be the one that listens to one key only.
            for strict in [To::Client, To::Server] {
                let mut world = world(seed, 15, Some(strict));
                for times in 2..=8 {
                    let now = world.now;
                    session(&mut world, leader).renegotiate(now);
                    world.drain();
                    let done = world.run_until(IN_TIME, |world| keys(world, leader) >= times);
                    assert!(
                        done,
                        "seed {seed}, {leader:?} leads, {strict:?} is strict, key {times}: {:?}",
                        world.drops.iter().rev().take(8).collect::<Vec<_>>()
                    );
                }
                let last = world.run_until(IN_TIME, |world| keys(world, other(leader)) >= 8);
                assert!(last, "seed {seed}, {leader:?} leads: the last key at the other side");
                assert!(world.client_failure().is_none() && world.server_failure().is_none());
            }
        }
    }
}

/// What is said around a renegotiation is heard, once or more, whoever starts it and when.
#[test]
fn words_cross_a_renegotiation() {
    for seed in 0..15 {
        for leader in [To::Client, To::Server] {
            for strict in [None, Some(To::Client), Some(To::Server)] {
                let mut world = world(seed, 10, strict);
                let now = world.now;
                let say = |world: &mut World, number: u64| {
                    let now = world.now;
                    world.client.send_message(now, &format!("CR_RESPONSE,{number}"));
                    world.server.as_mut().unwrap().send_message(now, &format!("INFO,{number}"));
                    world.drain();
                };
                say(&mut world, 0);
                session(&mut world, leader).renegotiate(now);
                world.drain();
                for number in 1..6 {
                    say(&mut world, number);
                    world.run_until(Duration::from_millis(4 + seed % 50), |_| false);
                }
                let heard = |world: &World, number: u64| {
                    let number = number.to_string();
                    let info = |event: &Event| matches!(event, Event::Info { text, .. } if *text == number);
                    let answer = |event: &Event| matches!(event, Event::CrResponse(text) if *text == number);
                    world.client_events.iter().any(info) && world.server_events.iter().any(answer)
                };
                let all = world.run_until(IN_TIME, |world| (0..6).all(|number| heard(world, number)));
                assert!(all, "seed {seed}, {leader:?} leads, {strict:?} is strict");
            }
        }
    }
}

/// Stock ends a TCP connection at any packet of a key that it has left. It leaves a key as soon as it has everything, even
/// while the way back is held up for a second: so nothing is repeated in vain, and nothing said with a former key.
#[test]
fn over_a_stream_nothing_comes_too_late() {
    for seed in 0..40 {
        for strict in [To::Client, To::Server] {
            let mut world = world_over(seed, 10, Some(strict), true);
            for times in 2..=10 {
                // Stock at the turn of a second, or we.
                let leader = if seed % 3 == 0 { other(strict) } else { strict };
                let now = world.now;
                if leader != strict {
                    // What stock says at that moment is heard, and not acknowledged with the key that it then leaves.
                    session(&mut world, strict).send_message(now, "INFO,stock");
                }
                session(&mut world, leader).renegotiate(now);
                if leader != strict {
                    session(&mut world, leader).send_message(now, "CR_RESPONSE,us");
                    session(&mut world, leader).send_message(now, "INFO,us");
                }
                world.drain();
                let done = world.run_until(IN_TIME, |world| keys(world, leader) >= times);
                let refused = world.drops.iter().find(|drop| **drop == (strict, DropReason::UnknownKey));
                assert!(
                    done && refused.is_none(),
                    "seed {seed}, {strict:?} is strict, key {times}: {:?}",
                    world.drops
                );
            }
            assert!(world.client_failure().is_none() && world.server_failure().is_none());
            let heard = |event: &Event| match event {
                Event::Info { text, .. } | Event::CrResponse(text) => text == "us",
                _ => false,
            };
            let all = |world: &World| events(world, strict).iter().filter(|event| heard(event)).count() >= 9;
            assert!(seed % 3 != 0 || world.run_until(IN_TIME, all), "seed {seed}, {strict:?} is strict");
        }
    }
}
