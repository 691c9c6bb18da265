//! The control-channel vectors that concern reliability and cookies, and recorded first packets at the endpoint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::pki;
use ovpn_control::reliable::{Arrival, RECEIVE_WINDOW, Receiver, Sender};
use ovpn_control::{
    Answer, DropReason, Endpoint, InitialRate, Now, ServerParams, TlsCryptV2Server, Wrapping,
};
use ovpn_crypto::control_wrap::WrapKey;
use ovpn_crypto::key2::TlsRole;
use ovpn_crypto::static_key::{KeyDirection, StaticKey};
use ovpn_crypto::tls_auth::AuthDigest;
use ovpn_crypto::tls_crypt_v2::{ClientKey, ServerKey};
use ovpn_wire::control_packet::{ControlBody, EarlyNegotiation};
use ovpn_wire::opcode::Opcode;
use serde_json::Value;

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/protocol");

fn vectors() -> Value {
    let text = std::fs::read_to_string(format!("{SHARED}/vectors/control-channel.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn receive_window() {
    let vectors = &vectors()["receive_window"];
    assert_eq!(number(&vectors["window"]), RECEIVE_WINDOW);
    for case in vectors["cases"].as_array().unwrap() {
        let mut receiver = Receiver::new(number(&vectors["next"]));
        for id in vectors["buffered"].as_array().unwrap() {
            assert_eq!(receiver.accept(number(id), Opcode::ControlV1, b""), Arrival::New);
        }
        let arrival = receiver.accept(number(&case["id"]), Opcode::ControlV1, b"");
        assert_eq!(arrival != Arrival::BeyondWindow, case["ack"].as_bool().unwrap(), "{case}");
        assert_eq!(arrival == Arrival::New, case["store"].as_bool().unwrap(), "{case}");
    }
}

#[test]
fn retransmissions() {
    let start = Instant::now();
    let mut sender = Sender::new(0, Duration::from_secs(2));
    sender.push(Opcode::HardResetClientV2, Vec::new(), start);
    for offset in vectors()["retransmit_offsets_s"].as_array().unwrap() {
        let at = start + Duration::from_secs(offset.as_u64().unwrap());
        assert_eq!(sender.deadline(), Some(at));
        assert!(sender.next_due(at).is_some());
    }
}

/// An IPv4 client as it appears on the recorded network.
fn from() -> SocketAddr {
    "192.0.2.2:1194".parse().unwrap()
}

fn now(unix: u64) -> Now {
    Now { instant: Instant::now(), unix }
}

/// The client's first packet after the server's answer.
fn third(reply: &[u8]) -> Vec<u8> {
    [&[0x20, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 0, 0], &reply[1..9], &[0, 0, 0, 1]].concat()
}

#[test]
fn cookies_by_time_slot() {
    let params = Arc::new(pki::server(Wrapping::None));
    for case in vectors()["cookie_accept"]["cases"].as_array().unwrap() {
        let mut endpoint = Endpoint::new(&params, InitialRate::default(), &[1; 32]);
        let reset = [0x38, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];
        let issued = now(case["issued"].as_u64().unwrap());
        let Ok(Answer::Reply(reply)) = endpoint.handle_packet(issued, from(), &reset) else {
            panic!("no reply")
        };
        let mut third = third(&reply);
        let later = now(case["now"].as_u64().unwrap());
        let accepted = endpoint.handle_packet(later, from(), &third);
        assert_eq!(accepted.is_ok(), case["ok"].as_bool().unwrap(), "{case}");
        // From another port, or for another client session, never.
        let elsewhere = "192.0.2.2:1195".parse().unwrap();
        assert_eq!(endpoint.handle_packet(later, elsewhere, &third).unwrap_err(), DropReason::BadCookie);
        third[8] ^= 1;
        assert_eq!(endpoint.handle_packet(later, from(), &third).unwrap_err(), DropReason::BadCookie);
    }
}

#[test]
fn resets_are_answered_at_a_limited_rate() {
    let params = Arc::new(pki::server(Wrapping::None));
    let rate = InitialRate { count: 3, period: Duration::from_secs(10) };
    let mut endpoint = Endpoint::new(&params, rate, &[1; 32]);
    let reset = [0x38, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];
    let start = now(1000);
    for _ in 0..3 {
        assert!(endpoint.handle_packet(start, from(), &reset).is_ok());
    }
    assert_eq!(endpoint.handle_packet(start, from(), &reset).unwrap_err(), DropReason::RateLimited);
    let later = Now { instant: start.instant + Duration::from_secs(10), unix: 1010 };
    let Ok(Answer::Reply(reply)) = endpoint.handle_packet(later, from(), &reset) else { panic!("no reply") };
    assert!(endpoint.handle_packet(later, from(), &reset).is_ok());
    assert!(endpoint.handle_packet(later, from(), &reset).is_ok());
    assert_eq!(endpoint.handle_packet(later, from(), &reset).unwrap_err(), DropReason::RateLimited);
    // A client that goes on gives its place back.
    assert!(endpoint.handle_packet(later, from(), &third(&reply)).is_ok());
    assert!(endpoint.handle_packet(later, from(), &reset).is_ok());
    assert_eq!(endpoint.handle_packet(later, from(), &reset).unwrap_err(), DropReason::RateLimited);
}

/// The UDP payloads of a recorded handshake.
fn capture(name: &str) -> Vec<Vec<u8>> {
    let file = std::fs::read(format!("{SHARED}/transcripts/{name}.pcap")).unwrap();
    let mut packets = Vec::new();
    let mut rest = &file[24..];
    while rest.len() > 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let frame = &rest[16..16 + length];
        rest = &rest[16 + length..];
        if frame[12..14] == [8, 0] && frame[23] == 17 {
            packets.push(frame[42..].to_vec());
        }
    }
    packets
}

fn key_text(name: &str) -> String {
    std::fs::read_to_string(format!("{SHARED}/transcripts/keys/{name}")).unwrap()
}

fn recorded(name: &str) -> (ServerParams, WrapKey) {
    match name {
        "a-tls-crypt-udp" => {
            let key = StaticKey::from_text(&key_text("tc.key")).unwrap();
            let client = WrapKey::tls_crypt(&key, TlsRole::Client).unwrap();
            (pki::server(Wrapping::TlsCrypt(key)), client)
        }
        "b-tls-auth-udp" => {
            let key = StaticKey::from_text(&key_text("ta.key")).unwrap();
            let digest = AuthDigest::Sha256;
            let client = WrapKey::tls_auth(&key, KeyDirection::Inverse, digest);
            (pki::server(Wrapping::TlsAuth { key, direction: KeyDirection::Normal, digest }), client)
        }
        _ => {
            let mut params = pki::server(Wrapping::None);
            let key = Arc::new(ServerKey::from_pem(&key_text("tcv2-server.key")).unwrap());
            params.tls_crypt_v2 = Some(TlsCryptV2Server { key, force_cookie: true, max_age_days: None });
            let client = ClientKey::from_pem(&key_text("tcv2-client1.key")).unwrap();
            (params, WrapKey::tls_crypt(client.kc(), TlsRole::Client).unwrap())
        }
    }
}

#[test]
fn recorded_clients_get_the_recorded_answer() {
    for name in ["a-tls-crypt-udp", "b-tls-auth-udp", "c-tls-crypt-v2-cookie"] {
        let (params, client) = recorded(name);
        let mut endpoint = Endpoint::new(&Arc::new(params), InitialRate::default(), &[1; 32]);
        let packets = capture(name);
        let now = now(1_795_306_680);
        let Ok(Answer::Reply(reply)) = endpoint.handle_packet(now, from(), &packets[0]) else {
            panic!("{name}: no reply")
        };
        // But for our own session id, our answer says what the recorded server's said.
        let ours = client.open(&reply).unwrap();
        let theirs = client.open(&packets[1]).unwrap();
        assert_eq!(ours.header.opcode, theirs.header.opcode);
        assert_eq!(ours.body, theirs.body, "{name}");
        assert_eq!(ours.replay.unwrap().id, theirs.replay.unwrap().id);
        let body = ControlBody::parse(ours.header.opcode, &ours.body).unwrap();
        let early = EarlyNegotiation::parse(body.message.unwrap().payload).unwrap();
        assert_eq!(early.resend_wkc, name.starts_with('c'));
        // The recorded third packet answers the recorded server's cookie, not ours.
        assert_eq!(endpoint.handle_packet(now, from(), &packets[2]).unwrap_err(), DropReason::BadCookie);
        // Every other recorded packet is dropped without a trace.
        for packet in packets.iter().skip(3) {
            assert!(endpoint.handle_packet(now, from(), packet).is_err());
        }
    }
}
