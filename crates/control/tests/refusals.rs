//! What cannot work ends in one clear sentence, at the side that can do something about it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::pki::{self, pki};
use common::{To, Weather, World};
use ovpn_control::{
    ClientParams, Credentials, Crls, DropReason, Event, FailureKind, NameRule, PeerRules, Reject,
    ServerParams, TlsOptions, TlsServer, TlsVersion, VerifyClientCert, Wrapping,
};
use ovpn_wire::message::AuthFailed;

fn client_with(rules: PeerRules) -> ClientParams {
    let session = pki::session(Wrapping::None);
    pki::client_with(session, Some(pki().client.identity()), rules, &TlsOptions::default())
}

fn server_with(rules: PeerRules, client_cert: VerifyClientCert) -> ServerParams {
    let session = pki::session(Wrapping::None);
    pki::server_with(session, pki().server.identity(), rules, client_cert, &TlsOptions::default())
}

fn run(client: ClientParams, server: ServerParams) -> World {
    let mut world = World::new(1, Weather::FAIR, client, server);
    assert!(!world.run_until(Duration::from_secs(90), World::established));
    world
}

#[track_caller]
fn client_says(world: &World, kind: FailureKind, words: &str) {
    let failure = world.client_failure().unwrap_or_else(|| panic!("client: {:?}", world.client_events));
    assert!(failure.kind == kind && failure.sentence.contains(words), "{failure:?}");
}

#[track_caller]
fn server_says(world: &World, kind: FailureKind, words: &str) {
    let failure = world.server_failure().unwrap_or_else(|| panic!("server: {:?}", world.server_events));
    assert!(failure.kind == kind && failure.sentence.contains(words), "{failure:?}");
}

#[test]
fn unknown_ca_of_the_server() {
    let rules = PeerRules { ca: vec![pki().other_ca.clone()], ..PeerRules::default() };
    let world = run(client_with(rules), pki::server(Wrapping::None));
    client_says(
        &world,
        FailureKind::Tls,
        "the server's certificate (O=Throwaway, CN=server) was not issued by our CA",
    );
    server_says(&world, FailureKind::Tls, "the client does not know the CA of our certificate");
}

#[test]
fn unknown_ca_of_the_client() {
    let session = pki::session(Wrapping::None);
    let stranger = Some(pki().other_client.identity());
    let client = pki::client_with(session, stranger, pki::rules(), &TlsOptions::default());
    let world = run(client, pki::server(Wrapping::None));
    server_says(
        &world,
        FailureKind::Tls,
        "the client's certificate (O=Throwaway, CN=stranger) was not issued by our CA",
    );
    client_says(&world, FailureKind::Tls, "the server does not know the CA of our certificate");
}

#[test]
fn expired_and_not_yet_valid() {
    let mut server = pki::server(Wrapping::None);
    server.tls = TlsServer::new(
        pki().expired_server.identity(),
        pki::rules(),
        VerifyClientCert::Require,
        &TlsOptions::default(),
    )
    .unwrap();
    let world = run(pki::client(Wrapping::None), server);
    client_says(&world, FailureKind::Tls, "expired");
    server_says(&world, FailureKind::Tls, "our certificate has expired or is not valid yet");

    let session = pki::session(Wrapping::None);
    let young = Some(pki().future_client.identity());
    let client = pki::client_with(session, young, pki::rules(), &TlsOptions::default());
    let world = run(client, pki::server(Wrapping::None));
    server_says(&world, FailureKind::Tls, "is valid only in");
}

#[test]
fn wrong_purpose() {
    // A client's certificate used as a server's.
    let mut server = pki::server(Wrapping::None);
    server.tls = TlsServer::new(
        pki().client.identity(),
        pki::rules(),
        VerifyClientCert::Require,
        &TlsOptions::default(),
    )
    .unwrap();
    let world = run(pki::client(Wrapping::None), server);
    client_says(&world, FailureKind::Tls, "is not made for a server");
    server_says(&world, FailureKind::Tls, "refused our certificate");
}

#[test]
fn names_and_key_usage() {
    let name = |name| PeerRules { name: Some(name), ..pki::rules() };
    for good in [
        NameRule::Name("server".into()),
        NameRule::NamePrefix("serv".into()),
        NameRule::Subject("O=Throwaway, CN=server".into()),
    ] {
        let mut world = World::new(1, Weather::FAIR, client_with(name(good)), pki::server(Wrapping::None));
        assert!(world.run_until(Duration::from_secs(5), World::established));
    }
    let world = run(client_with(name(NameRule::Name("other".into()))), pki::server(Wrapping::None));
    client_says(&world, FailureKind::Tls, "`verify-x509-name` demands common name other");
    let rules = PeerRules { remote_cert_ku: Some(vec![0x40]), ..pki::rules() };
    let world = run(client_with(rules), pki::server(Wrapping::None));
    client_says(&world, FailureKind::Tls, "`remote-cert-ku`");
    let rules = PeerRules { remote_cert_eku: Some("1.2.3".into()), ..pki::rules() };
    let world = run(client_with(rules), pki::server(Wrapping::None));
    client_says(&world, FailureKind::Tls, "`remote-cert-eku`");
}

#[test]
fn revoked() {
    let crls = Crls::new(&[pki().empty_crl.clone()]).unwrap();
    let rules = PeerRules { crls: Some(crls.clone()), ..pki::rules() };
    let server = || server_with(rules.clone(), VerifyClientCert::Require);
    let mut world = World::new(1, Weather::FAIR, pki::client(Wrapping::None), server());
    assert!(world.run_until(Duration::from_secs(5), World::established), "{:?}", world.server_events);
    // The list is exchanged under the running server.
    crls.replace(&[pki().crl.clone()]).unwrap();
    let world = run(pki::client(Wrapping::None), server());
    server_says(&world, FailureKind::Tls, "revoked");
    client_says(&world, FailureKind::Tls, "revoked");
    assert!(crls.replace(&[vec![1, 2, 3]]).is_err());
}

#[test]
fn fingerprints_need_no_ca() {
    let alone = pki().self_signed.identity();
    let fingerprint = alone.facts().unwrap().sha256;
    let rules = |fingerprint| PeerRules { fingerprints: vec![fingerprint], ..PeerRules::default() };
    let server = || {
        let mut server = pki::server(Wrapping::None);
        let own = pki().self_signed.identity();
        let client = pki().client.identity().facts().unwrap().sha256;
        server.tls =
            TlsServer::new(own, rules(client), VerifyClientCert::Require, &TlsOptions::default()).unwrap();
        server
    };
    let mut world = World::new(1, Weather::FAIR, client_with(rules(fingerprint)), server());
    assert!(world.run_until(Duration::from_secs(5), World::established), "{:?}", world.client_events);
    let world = run(client_with(rules([0; 32])), server());
    client_says(&world, FailureKind::Tls, "`peer-fingerprint` does not list");
}

#[test]
fn client_certificates_by_policy() {
    let bare = || pki::client_with(pki::session(Wrapping::None), None, pki::rules(), &TlsOptions::default());
    let world = run(bare(), server_with(pki::rules(), VerifyClientCert::Require));
    server_says(&world, FailureKind::Tls, "the client sent no certificate");
    client_says(&world, FailureKind::Tls, "demands a certificate");
    for policy in [VerifyClientCert::Optional, VerifyClientCert::None] {
        for client in [bare(), pki::client(Wrapping::None)] {
            let mut world = World::new(1, Weather::FAIR, client, server_with(pki::rules(), policy));
            assert!(world.run_until(Duration::from_secs(5), World::established), "{:?}", world.server_events);
        }
    }
    // Optional does not mean any.
    let session = pki::session(Wrapping::None);
    let stranger = Some(pki().other_client.identity());
    let client = pki::client_with(session, stranger, pki::rules(), &TlsOptions::default());
    let world = run(client, server_with(pki::rules(), VerifyClientCert::Optional));
    server_says(&world, FailureKind::Tls, "not issued by our CA");
}

#[test]
fn no_common_tls_version() {
    let only = |version| TlsOptions { min_version: version, max_version: version, ..TlsOptions::default() };
    let session = pki::session(Wrapping::None);
    let client =
        pki::client_with(session, Some(pki().client.identity()), pki::rules(), &only(TlsVersion::V12));
    let mut server = pki::server(Wrapping::None);
    server.tls = TlsServer::new(
        pki().server.identity(),
        pki::rules(),
        VerifyClientCert::Require,
        &only(TlsVersion::V13),
    )
    .unwrap();
    let world = run(client, server);
    server_says(&world, FailureKind::Tls, "no TLS version, cipher suite or group in common");
    client_says(&world, FailureKind::Tls, "no TLS version or cipher suite in common");
}

#[test]
fn wrong_wrapping_key() {
    let client = pki::client(Wrapping::TlsCrypt(pki::static_key(1)));
    let world = run(client, pki::server(Wrapping::TlsCrypt(pki::static_key(2))));
    client_says(&world, FailureKind::HandWindow, "both sides use the same tls-auth, tls-crypt");
    assert!(world.server.is_none());
    assert!(world.drops.iter().all(|drop| *drop == (To::Server, DropReason::Unauthentic)));
    assert!(DropReason::Unauthentic.sentence().contains("same tls-auth, tls-crypt"));
    let elapsed = world.elapsed().as_secs();
    assert!((60..=90).contains(&elapsed), "{elapsed}");
}

#[test]
fn no_shared_cipher() {
    let mut client = pki::client(Wrapping::None);
    client.session.data_ciphers = vec![ovpn_control::Cipher::ChaCha20Poly1305];
    let mut server = pki::server(Wrapping::None);
    server.session.data_ciphers = vec![ovpn_control::Cipher::Aes256Gcm];
    let world = run(client, server);
    let told = world.client_events.iter().any(|event| {
        matches!(event, Event::AuthFailed(AuthFailed::Refused(reason))
            if reason == "Data channel cipher negotiation failed (no shared cipher)")
    });
    assert!(told, "{:?}", world.client_events);
    server_says(&world, FailureKind::Negotiation, "no shared cipher");
}

#[test]
fn wrong_password() {
    let credentials = Some(Credentials { username: "alice".into(), password: "wrong".into() });
    let mut world = World::with_login(
        1,
        Weather::FAIR,
        pki::client(Wrapping::None),
        pki::server(Wrapping::None),
        credentials,
    );
    world.policy.login = |request| match &request.credentials {
        Some(credentials) if credentials.password == "right" => Ok(()),
        _ => Err(Reject::with_reason("try harder")),
    };
    assert!(!world.run_until(Duration::from_secs(20), World::established));
    let told = world.client_events.iter().any(
        |event| matches!(event, Event::AuthFailed(AuthFailed::Refused(reason)) if reason == "try harder"),
    );
    assert!(told, "{:?}", world.client_events);
    server_says(&world, FailureKind::Auth, "refused");
}

#[test]
fn a_silent_server_has_no_answer() {
    let mut world = World::new(1, Weather::FAIR, pki::client(Wrapping::None), pki::server(Wrapping::None));
    world.push_wanted = false;
    assert!(!world.run_until(Duration::from_secs(100), World::established));
    client_says(&world, FailureKind::NoPushReply, "PUSH_REPLY");
    let asked = world.elapsed().as_secs();
    assert!((60..=100).contains(&asked));
}

#[test]
fn packets_from_nowhere() {
    let mut world = World::new(1, Weather::FAIR, pki::client(Wrapping::None), pki::server(Wrapping::None));
    assert!(world.run_until(Duration::from_secs(5), World::established));
    let server = world.server.as_mut().unwrap();
    let now = world.now;
    assert_eq!(server.handle_packet(now, b""), Err(DropReason::Malformed));
    assert_eq!(server.handle_packet(now, &[0x48; 40]), Err(DropReason::Opcode));
    assert_eq!(server.handle_packet(now, &[0x20; 40]), Err(DropReason::UnknownSession));
    assert_eq!(server.handle_packet(now, &[0x40; 40]), Err(DropReason::ResetRefused));
    assert_eq!(world.client.handle_packet(now, &[0x38; 40]), Err(DropReason::ResetRefused));
    let from = common::CLIENT.parse().unwrap();
    // A third packet without the first.
    let third = [0x20, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 1];
    assert_eq!(world.endpoint.handle_packet(now, from, &third).unwrap_err(), DropReason::BadCookie);
}
