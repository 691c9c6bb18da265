//! The published vectors of the control channel and of key derivation.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use ovpn_crypto::auth_token::{TokenKey, TokenLimits, TokenSeries, Verified, is_token};
use ovpn_crypto::control_replay::ReplayId;
use ovpn_crypto::control_wrap::WrapKey;
use ovpn_crypto::key2::{Key2, TlsRole, p2p_peer_id};
use ovpn_crypto::prf::{KeySource, expand, tls1_prf};
use ovpn_crypto::secret::Secret;
use ovpn_crypto::static_key::{KeyDirection, StaticKey};
use ovpn_crypto::tls_auth::AuthDigest;
use ovpn_crypto::tls_crypt_v2::{ClientKey, Metadata, ServerKey, split_wrapped_key};
use ovpn_wire::control_packet::{ControlHeader, SessionId};
use ovpn_wire::opcode::FirstByte;
use serde_json::Value;

fn vectors(file: &str) -> Value {
    let path = format!("{}/../../../shared/protocol/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_else(|| panic!("not a string: {value}"));
    assert_eq!(text.len() % 2, 0);
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn secret<const N: usize>(value: &Value) -> Secret<N> {
    Secret::from_slice(&hex(value)).unwrap()
}

fn array(value: &Value) -> &Vec<Value> {
    let cases = value.as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn session(all: &Value, who: &str) -> SessionId {
    SessionId::new(hex(&all["session_ids"][who]).try_into().unwrap()).unwrap()
}

/// Seals as the vector's sender did and opens as its receiver would.
fn check_packet(send: &WrapKey, receive: &WrapKey, case: &Value, session: SessionId) {
    let first = FirstByte::from_byte(hex(&case["byte0"])[0]).unwrap();
    let header = ControlHeader { opcode: first.opcode, key_id: first.key_id, session_id: session };
    let replay = ReplayId { id: number(&case["replay_id"]), net_time: number(&case["net_time"]) };
    let (body, packet) = (hex(&case["body"]), hex(&case["packet"]));
    assert_eq!(send.seal(header, replay, &body).unwrap(), packet);
    let opened = receive.open(&packet).unwrap();
    assert_eq!((opened.header, opened.replay, opened.body), (header, Some(replay), body));
}

#[test]
fn tls_auth() {
    let all = vectors("control-channel.json");
    let key = StaticKey::new(secret(&all["keys"]["static_key"]));
    for case in array(&all["tls_auth"]["cases"]) {
        let digest = AuthDigest::from_name(case["digest"].as_str().unwrap()).unwrap();
        let (send, receive, who) = match case["sender"].as_str().unwrap() {
            "client" => (KeyDirection::Inverse, KeyDirection::Normal, "client"),
            "server" => (KeyDirection::Normal, KeyDirection::Inverse, "server"),
            _ => (KeyDirection::Bidirectional, KeyDirection::Bidirectional, "client"),
        };
        let wrap = |direction| WrapKey::tls_auth(&key, direction, digest);
        check_packet(&wrap(send), &wrap(receive), case, session(&all, who));
    }
}

fn crypt_pair(key: &StaticKey, sender: &str) -> (WrapKey, WrapKey) {
    let client = WrapKey::tls_crypt(key, TlsRole::Client).unwrap();
    let server = WrapKey::tls_crypt(key, TlsRole::Server).unwrap();
    if sender == "client" { (client, server) } else { (server, client) }
}

#[test]
fn tls_crypt() {
    let all = vectors("control-channel.json");
    let key = StaticKey::new(secret(&all["keys"]["static_key"]));
    for case in array(&all["tls_crypt"]["cases"]) {
        let who = case["sender"].as_str().unwrap();
        let (send, receive) = crypt_pair(&key, who);
        check_packet(&send, &receive, case, session(&all, who));
        assert!(send.open(&hex(&case["packet"])).is_err(), "opened with the wrong direction");
    }
}

#[test]
fn tls_crypt_v2() {
    let all = vectors("control-channel.json");
    let cases = &all["tls_crypt_v2"];
    let server = ServerKey::new(secret(&all["keys"]["tls_crypt_v2_server_key"])).unwrap();
    let kc = StaticKey::new(secret(&all["keys"]["tls_crypt_v2_client_Kc"]));
    for case in array(&cases["wkc"]) {
        let metadata = match case["metadata_kind"].as_str().unwrap() {
            "none" => Metadata::None,
            "timestamp" => Metadata::Timestamp(0x6500_0000),
            _ => Metadata::User(b"hello".to_vec()),
        };
        let client = server.wrap(kc.clone(), &metadata).unwrap();
        assert_eq!(client.wkc(), hex(&case["wkc"]));
        let (unwrapped, read) = server.unwrap(client.wkc()).unwrap();
        assert_eq!((unwrapped.expose(), read), (kc.expose(), metadata));
    }

    let client = WrapKey::tls_crypt(&kc, TlsRole::Client).unwrap();
    for (name, id, early) in [
        ("hard_reset_v3", 0x0f00_0001, true),
        ("hard_reset_v3_old", 1, false),
        ("control_wkc_v1", 0x0f00_0002, true),
    ] {
        let packet = hex(&cases[name]);
        let carried = server.open_carrier(&packet).unwrap();
        let opened = carried.key.open(carried.packet).unwrap();
        let replay = opened.replay.unwrap();
        assert_eq!((replay.id, replay.announces_early_negotiation()), (id, early));
        let (_, wkc) = split_wrapped_key(&packet).unwrap();
        let mut sent = client.seal(opened.header, replay, &opened.body).unwrap();
        sent.extend_from_slice(wkc);
        assert_eq!(sent, packet);
    }
    let reset = client.open(&hex(&cases["server_reset_with_resend_tlv"])).unwrap();
    assert_eq!(reset.body[reset.body.len() - 6..], [0, 1, 0, 2, 0, 1]);

    let pem = cases["client_key_pem"].as_str().unwrap();
    let file = ClientKey::from_pem(pem).unwrap();
    assert_eq!(file.kc().expose(), kc.expose());
    assert_eq!(file.to_pem(), pem);
    let pem = server.to_pem();
    assert_eq!(ServerKey::from_pem(&pem).unwrap().to_pem(), pem);
}

#[test]
fn dynamic_tls_crypt() {
    let all = vectors("control-channel.json");
    let exported = secret(&all["dynamic_tls_crypt"]["exporter_output"]);
    for case in array(&all["dynamic_tls_crypt"]["cases"]) {
        let original = Secret::from_slice(&hex(&case["original"])).map(StaticKey::new);
        let keys: Vec<WrapKey> = match (&original, case["wrap"].as_str().unwrap()) {
            (Some(key), "tls-auth or tls-crypt") => vec![
                WrapKey::tls_auth(key, KeyDirection::Normal, AuthDigest::Sha256),
                WrapKey::tls_crypt(key, TlsRole::Client).unwrap(),
            ],
            (Some(key), _) => vec![WrapKey::tls_crypt(key, TlsRole::Client).unwrap()],
            (None, _) => vec![WrapKey::None],
        };
        for key in keys {
            let client = key.dynamic(&exported, TlsRole::Client).unwrap();
            let server = key.dynamic(&exported, TlsRole::Server).unwrap();
            let WrapKey::TlsCrypt(keys) = &client else { panic!("not tls-crypt") };
            assert_eq!(keys.original().expose().as_slice(), hex(&case["key"]));
            for (name, send, receive) in
                [("client_soft_reset", &client, &server), ("server_soft_reset", &server, &client)]
            {
                let packet = hex(&case[name]);
                let opened = receive.open(&packet).unwrap();
                assert_eq!(send.seal(opened.header, opened.replay.unwrap(), &opened.body).unwrap(), packet);
            }
        }
    }
}

#[test]
fn static_key_file() {
    let all = vectors("key-derivation.json");
    let file = &all["static_key_file"];
    let text = file["text"].as_str().unwrap();
    let key = StaticKey::from_text(text).unwrap();
    assert_eq!(key.expose().as_slice(), hex(&file["raw"]));
    assert_eq!(key.to_text(), text);
    let directions = file["directions"].as_object().unwrap();
    assert_eq!(directions.len(), 3);
    for (name, slots) in directions {
        let direction = match name.as_bytes()[0] {
            b'0' => KeyDirection::Normal,
            b'1' => KeyDirection::Inverse,
            _ => KeyDirection::Bidirectional,
        };
        assert_eq!(key.cipher_slot(direction.send()), hex(&slots["out_cipher_key64"]));
        assert_eq!(key.hmac_slot(direction.send()), hex(&slots["out_hmac_key64"]));
        assert_eq!(key.cipher_slot(direction.receive()), hex(&slots["in_cipher_key64"]));
        assert_eq!(key.hmac_slot(direction.receive()), hex(&slots["in_hmac_key64"]));
    }
}

/// Every entry of the slices: for each role, each cipher's keys.
fn check_slices(key2: &Key2, slices: &Value) {
    assert_eq!(array(slices).len(), 2);
    for case in array(slices) {
        let role = if case["role"] == "client" { TlsRole::Client } else { TlsRole::Server };
        let (send, receive) = (key2.send(role), key2.receive(role));
        for (name, values) in case.as_object().unwrap() {
            let len = match name.as_str() {
                "role" => continue,
                "epoch" => {
                    assert_eq!(send.epoch_key().expose().as_slice(), hex(&values["send_E1"]));
                    assert_eq!(receive.epoch_key().expose().as_slice(), hex(&values["recv_E1"]));
                    continue;
                }
                name if name.contains("128") => 16,
                name if name.contains("192") => 24,
                _ => 32,
            };
            assert_eq!(send.cipher_key(len).unwrap(), hex(&values["encrypt_key"]));
            assert_eq!(receive.cipher_key(len).unwrap(), hex(&values["decrypt_key"]));
            if name.contains("CBC") {
                assert_eq!(send.hmac_key(32).unwrap(), hex(&values["encrypt_hmac_key"]));
                assert_eq!(receive.hmac_key(32).unwrap(), hex(&values["decrypt_hmac_key"]));
            } else {
                assert_eq!(send.nonce_tail().as_slice(), hex(&values["encrypt_nonce_tail"]));
                assert_eq!(receive.nonce_tail().as_slice(), hex(&values["decrypt_nonce_tail"]));
            }
        }
    }
}

#[test]
fn key_method_2_prf() {
    let all = vectors("key-derivation.json");
    let case = &all["key_method_2_prf"];
    let source = |random1: &str, random2: &str| KeySource {
        random1: secret(&case[random1]),
        random2: secret(&case[random2]),
    };
    let session = |name: &str| SessionId::new(hex(&case[name]).try_into().unwrap()).unwrap();

    let mut master = [0; 48];
    tls1_prf(&hex(&case["client_pre_master"]), &[&hex(&case["master_secret_seed"])], &mut master);
    assert_eq!(master.as_slice(), hex(&case["master_secret"]));

    let key2 = expand(
        &secret(&case["client_pre_master"]),
        &source("client_random1", "client_random2"),
        &source("server_random1", "server_random2"),
        session("client_session_id"),
        session("server_session_id"),
    );
    assert_eq!(key2.expose().as_slice(), hex(&case["key2"]));
    check_slices(&key2, &case["slices"]);
}

#[test]
fn tls_exporter_slices() {
    let all = vectors("key-derivation.json");
    let case = &all["tls_ekm"];
    check_slices(&Key2::new(secret(&case["exporter_output_made_up"])), &case["slices"]);
}

#[test]
fn p2p_peer_ids() {
    let all = vectors("key-derivation.json");
    for case in array(&all["p2p_peer_id"]) {
        let bytes = case.get("exporter_output").or(case.get("fallback_no_ekm")).unwrap();
        let id = p2p_peer_id(hex(bytes).try_into().unwrap());
        assert_eq!(id, Some(number(&case["peer_id_decimal"])));
    }
    assert_eq!(p2p_peer_id([0xff; 3]), None);
}

/// The published outputs of the PRF primitive: openvpn's unit test and its run-time self test.
#[test]
fn prf_primitive() {
    let all = vectors("key-derivation.json");
    let published = array(&all["cross_checked_against_upstream_tests"]);
    let lorem =
        b"Lorem ipsum dolor sit amet, consectetur adipisici elit, sed eiusmod tempor incidunt ut labore et \
                  dolore magna aliqua.";
    let aute = b"Quis aute iure reprehenderit in voluptate velit esse cillum dolore";
    let inputs: [(&[u8], &[u8]); 2] = [(lorem, aute), (b"tls1-prf-test-secret", b"tls1-prf-test")];
    assert_eq!(published.len(), inputs.len());
    for ((secret, seed), case) in inputs.into_iter().zip(published) {
        let expected = hex(&case["value"]);
        let mut out = vec![0; expected.len()];
        tls1_prf(secret, &[seed], &mut out);
        assert_eq!(out, expected);
    }
}

#[test]
fn auth_tokens() {
    let all = vectors("control-channel.json");
    let key = TokenKey::new(&secret(&all["keys"]["auth_token_key"]));
    for case in array(&all["auth_token"]["cases"]) {
        let series = TokenSeries {
            session_id: hex(&case["session_id"]).try_into().unwrap(),
            initial_time: case["initial_time"].as_i64().unwrap(),
        };
        let username = case["username"].as_str().unwrap();
        let token = key.issue(&series, username.as_bytes(), case["time"].as_i64().unwrap());
        assert_eq!(token.expose(), case["token"].as_str().unwrap().as_bytes());
        assert_eq!(series.env_session_id(), case["env_session_id"].as_str().unwrap());
    }
    for case in array(&all["auth_token"]["verify"]) {
        let limits = TokenLimits {
            renewal: case["renewal"].as_u64().unwrap(),
            lifetime: case["lifetime"].as_u64().unwrap(),
        };
        let token = case["token"].as_str().unwrap().as_bytes();
        assert!(is_token(token));
        let username = case["username"].as_str().unwrap().as_bytes();
        let verdict = key.verify(token, username, case["now"].as_i64().unwrap(), limits, None);
        let text = match &verdict {
            Ok(Verified { expired: true, .. }) => "expired",
            Ok(Verified { empty_username: true, .. }) => "ok, empty user",
            Ok(_) => "ok",
            Err(_) => "bad hmac",
        };
        let expected = case["result"].as_str().unwrap();
        assert_eq!(text, expected.split_once(" (").map_or(expected, |(head, _)| head));
    }
}
