//! What happens after, and beside, the handshake: restarts, failed renegotiations, pending logins, goodbyes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::pki;
use common::{To, Weather, World};
use ovpn_control::{
    AuthCause, Credentials, Event, FailureKind, PendingAuth, PullAction, PullFilter, Reject, Session,
    TlsOptions, Wrapping,
};
use ovpn_wire::message::{Advance, AuthFailed};

fn fair(seed: u64) -> World {
    World::new(seed, Weather::FAIR, pki::client(Wrapping::None), pki::server(Wrapping::None))
}

fn up(mut world: World) -> World {
    assert!(world.run_until(Duration::from_secs(5), World::established), "{:?}", world.server_events);
    world
}

fn count(events: &[Event], matches: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|event| matches(event)).count()
}

#[test]
fn a_client_restarts_on_its_address() {
    let mut world = up(fair(1));
    world.run_until(Duration::from_secs(5), |_| false);
    world.server_events.clear();
    world.restart_client();
    let back = world.run_until(Duration::from_secs(3), World::established);
    assert!(back, "at once, not after 30 s: {:?} {:?}", world.client_events, world.server_events);
    let again =
        |event: &Event| matches!(event, Event::AuthRequest(request) if request.cause == AuthCause::Reconnect);
    assert_eq!(count(&world.server_events, again), 1);
    assert!(
        world.client_slots.reaches(&world.server_slots) && world.server_slots.reaches(&world.client_slots)
    );
    // And renegotiates.
    world.watch_keys = true;
    let now = world.now;
    world.server.as_mut().unwrap().renegotiate(now);
    world.drain();
    let used = |event: &Event| matches!(event, Event::UseKey { .. });
    assert!(world.run_until(Duration::from_secs(100), |world| {
        count(&world.client_events, used) == 1 && count(&world.server_events, used) == 1
    }));
}

#[test]
fn a_stranger_on_the_address_changes_nothing() {
    let mut world = up(fair(1));
    world.server_events.clear();
    world.policy.login = |_| Err(Reject::with_reason("no"));
    world.restart_client();
    world.run_until(Duration::from_secs(30), |_| false);
    let refused = |event: &Event| matches!(event, Event::AuthFailed(_));
    assert_eq!(count(&world.client_events, refused), 1);
    assert!(world.server_failure().is_none(), "the established session stays");
    assert!(world.server.as_ref().unwrap().negotiated().is_some());
}

#[test]
fn single_session_refuses_newcomers() {
    let mut server = pki::server(Wrapping::None);
    server.single_session = true;
    let mut world = up(World::new(1, Weather::FAIR, pki::client(Wrapping::None), server));
    world.restart_client();
    assert!(!world.run_until(Duration::from_secs(20), World::established));
    assert!(world.drops.contains(&(To::Server, ovpn_control::DropReason::ResetRefused)));
}

#[test]
fn a_failed_renegotiation_is_survived() {
    let mut world = up(fair(1));
    world.server_events.clear();
    let now = world.now;
    world.client.renegotiate(now);
    world.drain();
    // The network is gone for longer than the hand window, but not for longer than the old key lives.
    world.weather.loss = 100;
    world.run_until(Duration::from_secs(200), |_| false);
    assert!(world.client_failure().is_none(), "{:?}", world.client_events);
    assert!(world.server_failure().is_none(), "{:?}", world.server_events);
    world.weather.loss = 0;
    world.client_events.clear();
    let back = world.run_until(Duration::from_secs(60), World::established);
    assert!(back, "client {:?} server {:?}", world.client_events, world.server_events);
    assert!(
        world.client_slots.reaches(&world.server_slots) && world.server_slots.reaches(&world.client_slots)
    );
}

#[test]
fn the_last_key_ends_the_session() {
    let mut client = pki::client(Wrapping::None);
    client.session.timing.tran_window = Duration::from_secs(300);
    let mut world = up(World::new(1, Weather::FAIR, client, pki::server(Wrapping::None)));
    world.weather.loss = 100;
    let now = world.now;
    world.client.renegotiate(now);
    world.drain();
    world.run_until(Duration::from_secs(1000), |world| world.client_failure().is_some());
    assert_eq!(world.client_failure().unwrap().kind, FailureKind::HandWindow);
    let seconds = world.elapsed().as_secs();
    assert!((300..=365).contains(&seconds), "{seconds}");
}

#[test]
fn both_sides_renegotiate_at_once() {
    let mut world = up(fair(1));
    world.watch_keys = true;
    for times in 1..=9 {
        let now = world.now;
        world.client.renegotiate(now);
        world.server.as_mut().unwrap().renegotiate(now);
        world.drain();
        let used = |event: &Event| matches!(event, Event::UseKey { .. });
        let done = world.run_until(Duration::from_secs(100), |world| {
            count(&world.client_events, used) == times && count(&world.server_events, used) == times
        });
        assert!(done, "{times}: {:?} {:?}", world.client_events, world.server_events);
    }
    // 0, 1 … 7, 1, 2
    assert_eq!(world.client_slots.primary.as_ref().unwrap().key_id.get(), 2);
}

#[test]
fn quick_renegotiations_keep_a_common_key() {
    let mut world = up(fair(1));
    world.watch_keys = true;
    let installed = |event: &Event| matches!(event, Event::InstallKey { .. });
    for times in 2..=20 {
        let now = world.now;
        world.client.renegotiate(now);
        world.drain();
        let done = world.run_until(Duration::from_secs(5), |world| {
            count(&world.client_events, installed) == times && count(&world.server_events, installed) == times
        });
        assert!(done, "{times}");
    }
}

#[test]
fn the_old_key_is_forgotten_in_time() {
    let (mut client, mut server) = (pki::client(Wrapping::None), pki::server(Wrapping::None));
    client.session.timing.tran_window = Duration::from_secs(1000);
    server.session.timing.tran_window = Duration::from_secs(1000);
    let mut world = up(World::new(1, Weather::FAIR, client, server));
    world.watch_keys = true;
    let now = world.now;
    world.client.renegotiate(now);
    world.drain();
    let dropped = |event: &Event| matches!(event, Event::DropKey { .. });
    let done = world.run_until(Duration::from_secs(2000), |world| {
        count(&world.client_events, dropped) == 1 && count(&world.server_events, dropped) == 1
    });
    assert!(done);
    let seconds = world.elapsed().as_secs();
    assert!((1000..=1010).contains(&seconds), "{seconds}");
}

#[test]
fn another_certificate_in_a_renegotiation_is_refused() {
    let mut world = up(fair(1));
    let other = pki::client_with(
        pki::session(Wrapping::None),
        Some(pki::second_client().identity()),
        pki::rules(),
        &TlsOptions::default(),
    );
    // The same session with another certificate cannot be had through the interface, so a second client takes over
    // the first one's place by restarting: that is a new login with its own certificate.
    world.client_params = Arc::new(other);
    world.server_events.clear();
    world.restart_client();
    assert!(world.run_until(Duration::from_secs(3), World::established));
    let name = world.server_events.iter().find_map(|event| match event {
        Event::AuthRequest(request) => request.chain.as_ref().map(|chain| chain.common_name().to_owned()),
        _ => None,
    });
    assert_eq!(name.as_deref(), Some("second client"));
}

#[test]
fn a_slow_login() {
    let mut world = fair(1);
    world.policy.login_delay = Duration::from_secs(20);
    assert!(!world.run_until(Duration::from_secs(15), World::established));
    assert!(world.run_until(Duration::from_secs(10), World::established));
}

#[test]
fn a_pending_login_with_a_question() {
    let mut world = fair(1);
    world.policy.login_delay = Duration::from_secs(100_000);
    let asked = |event: &Event| matches!(event, Event::AuthRequest(_));
    assert!(world.run_until(Duration::from_secs(5), |world| count(&world.server_events, asked) == 1));
    let id = world
        .server_events
        .iter()
        .find_map(|event| match event {
            Event::AuthRequest(request) => Some(request.id),
            _ => None,
        })
        .unwrap();
    let pending =
        PendingAuth { timeout: Duration::from_secs(300), info: Some("CR_TEXT:R,E:which colour?".into()) };
    let now = world.now;
    world.server.as_mut().unwrap().auth_pending(now, id, &pending);
    world.drain();
    assert!(!world.run_until(Duration::from_secs(200), World::established));
    assert!(world.client_failure().is_none(), "hand-window is over, the login is not");
    let question = |event: &Event| matches!(event, Event::Info { pre: true, text } if text == "CR_TEXT:R,E:which colour?");
    let told =
        |event: &Event| matches!(event, Event::AuthPending { timeout, .. } if timeout.as_secs() == 300);
    assert_eq!(count(&world.client_events, question), 1);
    assert_eq!(count(&world.client_events, told), 1);
    let now = world.now;
    world.client.send_message(now, "CR_RESPONSE,cmVk");
    world.drain();
    let answered = |event: &Event| matches!(event, Event::CrResponse(text) if text == "cmVk");
    assert!(world.run_until(Duration::from_secs(5), |world| count(&world.server_events, answered) == 1));
    let now = world.now;
    world.server.as_mut().unwrap().auth_accept(now, id);
    world.drain();
    assert!(world.run_until(Duration::from_secs(5), World::established));
}

#[test]
fn a_login_that_nobody_decides() {
    let mut world = fair(1);
    world.policy.login_delay = Duration::from_secs(100_000);
    assert!(!world.run_until(Duration::from_secs(80), World::established));
    let refused = |event: &Event| matches!(event, Event::AuthFailed(AuthFailed::Refused(_)));
    assert_eq!(count(&world.client_events, refused), 1, "{:?}", world.client_events);
    assert_eq!(world.server_failure().unwrap().kind, FailureKind::Auth);
}

#[test]
fn a_temporary_refusal() {
    let mut world = fair(1);
    world.policy.login = |_| {
        Err(Reject {
            failure: AuthFailed::Temporary {
                backoff: Some(30),
                advance: Advance::Remote,
                reason: "full".into(),
            },
        })
    };
    world.run_until(Duration::from_secs(10), |_| false);
    let told = |event: &Event| {
        matches!(event, Event::AuthFailed(AuthFailed::Temporary { backoff: Some(30), advance: Advance::Remote, reason })
            if reason == "full")
    };
    assert_eq!(count(&world.client_events, told), 1, "{:?}", world.client_events);
}

#[test]
fn a_refused_renegotiation_ends_the_session() {
    let mut world = up(fair(1));
    world.policy.login = |_| Err(Reject::with_reason("revoked meanwhile"));
    let now = world.now;
    world.server.as_mut().unwrap().renegotiate(now);
    world.drain();
    world.run_until(Duration::from_secs(10), |_| false);
    let told = |event: &Event| matches!(event, Event::AuthFailed(AuthFailed::Refused(reason)) if reason == "revoked meanwhile");
    assert_eq!(count(&world.client_events, told), 1);
    assert_eq!(world.server_failure().unwrap().kind, FailureKind::Auth);
}

#[test]
fn goodbyes() {
    let mut world = up(fair(1));
    let now = world.now;
    let farewell = world.client.exit(now);
    assert!(farewell.control && !farewell.data, "{farewell:?}");
    world.drain();
    let exit = |event: &Event| matches!(event, Event::Exit);
    assert!(world.run_until(Duration::from_secs(3), |world| count(&world.server_events, exit) == 1));

    let mut world = up(fair(2));
    let now = world.now;
    let server = world.server.as_mut().unwrap();
    server.send_message(now, "RESTART,[N]going down");
    server.send_message(now, "HALT,for good");
    world.drain();
    let restart = |event: &Event| matches!(event, Event::Restart(restart) if restart.advance);
    let halt = |event: &Event| matches!(event, Event::Halt(_));
    assert!(world.run_until(Duration::from_secs(3), |world| {
        count(&world.client_events, restart) == 1 && count(&world.client_events, halt) == 1
    }));
}

#[test]
fn tokens_stand_in_for_passwords() {
    let credentials = Some(Credentials { username: "alice".into(), password: "once".into() });
    let mut world = World::with_login(
        1,
        Weather::FAIR,
        pki::client(Wrapping::None),
        pki::server(Wrapping::None),
        credentials,
    );
    world.policy.options.push("auth-token TOKEN-1".into());
    let mut world = up(world);
    let now = world.now;
    world.server.as_mut().unwrap().send_message(now, "PUSH_REPLY,auth-token TOKEN-2");
    world.drain();
    let renewed = |event: &Event| matches!(event, Event::AuthToken(token) if token.password == "TOKEN-2");
    assert!(world.run_until(Duration::from_secs(3), |world| count(&world.client_events, renewed) == 1));
    let now = world.now;
    world.client.renegotiate(now);
    world.drain();
    let login = |event: &Event| match event {
        Event::AuthRequest(request) if request.cause == AuthCause::Renegotiate => request
            .credentials
            .as_ref()
            .is_some_and(|sent| sent.username == "alice" && sent.password == "TOKEN-2"),
        _ => false,
    };
    assert!(world.run_until(Duration::from_secs(3), |world| count(&world.server_events, login) == 1));
}

/// Whatever a server replies once more to an established client: only the token counts.
#[test]
fn a_second_configuration_changes_nothing() {
    let mut world = up(fair(1));
    let before = world.client.negotiated();
    world.client_events.clear();
    let now = world.now;
    let server = world.server.as_mut().unwrap();
    server.send_message(now, "PUSH_REPLY,ifconfig 10.9.0.2 255.255.255.0,push-continuation 2");
    server.send_message(now, "PUSH_REPLY,peer-id 9,cipher AES-128-GCM,auth-token T,push-continuation 1");
    server.send_message(now, "PUSH_REPLY");
    world.drain();
    let token = |event: &Event| matches!(event, Event::AuthToken(token) if token.password == "T");
    assert!(world.run_until(Duration::from_secs(3), |world| count(&world.client_events, token) == 1));
    world.run_until(Duration::from_secs(3), |_| false);
    assert_eq!(world.client_events.len(), 1, "{:?}", world.client_events);
    assert_eq!(world.client.negotiated(), before);
}

#[test]
fn push_updates_and_filters() {
    let mut client = pki::client(Wrapping::None);
    let filter = |action, prefix: &str| PullFilter { action, prefix: prefix.into() };
    client.pull_filters = vec![
        filter(PullAction::Accept, "route 10.1."),
        filter(PullAction::Ignore, "route 10."),
        filter(PullAction::Reject, "dns "),
    ];
    let mut world = World::new(1, Weather::FAIR, client, pki::server(Wrapping::None));
    world.policy.options = vec![
        "route 10.1.0.0 255.255.0.0".into(),
        "route 10.2.0.0 255.255.0.0".into(),
        "route-gateway 10.8.0.1".into(),
    ];
    let mut world = up(world);
    assert_eq!(world.pushed().unwrap()[..2], ["route 10.1.0.0 255.255.0.0", "route-gateway 10.8.0.1"]);
    let now = world.now;
    let server = world.server.as_mut().unwrap();
    assert!(server.send_push_update(now, &["-route".into(), "route 10.1.5.0 255.255.255.0".into()]).unwrap());
    world.drain();
    let update = |event: &Event| matches!(event, Event::PushUpdate(options) if *options == ["-route", "route 10.1.5.0 255.255.255.0"]);
    assert!(world.run_until(Duration::from_secs(3), |world| count(&world.client_events, update) == 1));
    let now = world.now;
    world.server.as_mut().unwrap().send_push_update(now, &["dns server 1 address 1.1.1.1".into()]).unwrap();
    world.drain();
    world.run_until(Duration::from_secs(3), |world| world.client_failure().is_some());
    assert_eq!(world.client_failure().unwrap().kind, FailureKind::PushedOption);
}

#[test]
fn tcp_keeps_state_from_the_first_packet() {
    let mut world = fair(1);
    // The client's first packet was thrown at the endpoint; take it to a connection instead.
    let (_, _, _, first) = world.flight.remove(0);
    let accepted = world.endpoint.accept_stream(world.now, &first).unwrap();
    let random = Box::new(world.dice.random());
    world.server =
        Some(Session::server(Arc::clone(&world.server_params), accepted, random, world.now).unwrap());
    world.drain();
    up(world);
}
