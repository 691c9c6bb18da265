//! Thousands of seeds of bad weather: loss, duplication, reordering, delay and a small MTU, through handshake, push,
//! messages and renegotiations, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{Dice, Weather, World, pki};
use ovpn_control::{Event, Wrapping};
use ovpn_crypto::static_key::KeyDirection;
use ovpn_crypto::tls_auth::AuthDigest;

/// How many seeds; `OVPN_SEEDS` overrides it.
fn seeds() -> u64 {
    std::env::var("OVPN_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(150)
}

fn world(seed: u64) -> World {
    let mut dice = Dice::new(seed ^ 0xABCD);
    let weather = Weather::stormy(&mut dice);
    let wrapping = |server: bool| match seed % 3 {
        0 => Wrapping::None,
        1 => Wrapping::TlsCrypt(pki::static_key(1)),
        _ => Wrapping::TlsAuth {
            key: pki::static_key(1),
            direction: if server { KeyDirection::Normal } else { KeyDirection::Inverse },
            digest: AuthDigest::Sha256,
        },
    };
    let (mut client, mut server) = (pki::client(wrapping(false)), pki::server(wrapping(true)));
    // Under 30 % loss a flight may need many tries.
    for timing in [&mut client.session.timing, &mut server.session.timing] {
        timing.hand_window = Duration::from_secs(600);
        timing.reneg = Some(Duration::from_secs(1200));
    }
    client.session.timing.reneg = None;
    World::new(seed, weather, client, server)
}

/// One seed through everything; how long it took in virtual time and how many packets.
fn live(seed: u64) -> (Duration, u64, Vec<u8>) {
    let mut world = world(seed);
    let weather = world.weather;
    let up = world.run_until(Duration::from_secs(600), World::established);
    assert!(up, "seed {seed} {weather:?}: {:?} {:?}", world.client_events, world.server_events);
    let came_up = world.elapsed();
    world.watch_keys = true;

    // Messages both ways.
    let now = world.now;
    world.client.send_message(now, "CR_RESPONSE,YQ==");
    world.server.as_mut().unwrap().send_message(now, "INFO,hello");
    world.drain();
    let heard = world.run_until(Duration::from_secs(300), |world| {
        let info = |event: &Event| matches!(event, Event::Info { text, .. } if text == "hello");
        let answer = |event: &Event| matches!(event, Event::CrResponse(text) if text == "YQ==");
        world.client_events.iter().any(info) && world.server_events.iter().any(answer)
    });
    assert!(heard, "seed {seed} {weather:?}: messages");

    // A renegotiation by the client's wish, then two by the server's clock.
    let now = world.now;
    world.client.renegotiate(now);
    world.drain();
    let used = |world: &World, times: usize| {
        let count =
            |events: &[Event]| events.iter().filter(|event| matches!(event, Event::UseKey { .. })).count();
        count(&world.client_events) >= times && count(&world.server_events) >= times
    };
    for times in 1..=3 {
        let done = world.run_until(Duration::from_secs(3000), |world| used(world, times));
        assert!(done, "seed {seed} {weather:?}: renegotiation {times}: {:?}", world.client_events);
        assert!(world.client_failure().is_none() && world.server_failure().is_none());
    }
    (came_up, world.packets, world.log)
}

#[test]
fn through_the_storm() {
    let started = std::time::Instant::now();
    let mut slowest = Duration::ZERO;
    let mut packets = 0;
    let count = seeds();
    for seed in 0..count {
        let (took, sent, _) = live(seed);
        slowest = slowest.max(took);
        packets += sent;
    }
    println!("{count} seeds in {:?}: slowest handshake {slowest:?}, {packets} packets", started.elapsed());
}

#[test]
fn a_seed_is_a_story() {
    for seed in [3, 7] {
        let (took, packets, log) = live(seed);
        let (again_took, again_packets, again_log) = live(seed);
        assert_eq!((took, packets), (again_took, again_packets), "seed {seed}");
        assert_eq!(log, again_log, "seed {seed}");
    }
}

/// Nobody's packet makes a session panic: bits flipped on their way, packets cut short and made up, with and without
/// wrapping. Wrapped sessions come up all the same.
#[test]
fn tampering() {
    for seed in 0..seeds() / 3 {
        let mut world = world(seed);
        world.weather.loss = 0;
        world.tamper = 1 + seed % 20;
        let up = world.run_until(Duration::from_secs(600), World::established);
        if seed % 3 != 0 {
            assert!(up, "seed {seed}: {:?} {:?}", world.client_events, world.server_events);
        }
        let now = world.now;
        world.client.renegotiate(now);
        world.drain();
        world.run_until(Duration::from_secs(100), |_| false);
    }
}

/// A client that crashes and comes back on its address, again and again, in bad weather: it always gets in, and the
/// data keys meet.
#[test]
fn crashes_in_the_storm() {
    for seed in 0..seeds() / 3 {
        let mut world = world(seed + 10_000);
        for life in 0..4 {
            let up = world.run_until(Duration::from_secs(600), World::established);
            assert!(
                up && world.client_slots.reaches(&world.server_slots),
                "seed {seed}, life {life}, {:?}: {:?} {:?}",
                world.weather,
                world.client_events,
                world.server_events
            );
            // Sometimes in the middle of a renegotiation.
            if life % 2 == 1 {
                let now = world.now;
                world.client.renegotiate(now);
                world.drain();
            }
            let pause = Duration::from_millis(world.dice.below(5000));
            world.run_until(pause, |_| false);
            world.restart_client();
            world.server_events.clear();
        }
    }
}
