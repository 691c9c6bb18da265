//! The published vectors of the control channel, as far as they need no keys.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use ovpn_wire::control_packet::{
    AckList, Acks, ControlBody, ControlHeader, EarlyNegotiation, Message as Numbered, SessionId,
};
use ovpn_wire::key_method::{ClientKeyMethod, KeyMethodStrings, ServerKeyMethod};
use ovpn_wire::message::{Advance, AuthFailed, Message};
use ovpn_wire::opcode::{KeyId, Opcode};
use ovpn_wire::peer_info::{IvProto, PeerInfo};
use ovpn_wire::push;
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

fn array(value: &Value) -> &Vec<Value> {
    let cases = value.as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

fn session(value: &Value) -> SessionId {
    SessionId::new(hex(value).try_into().unwrap()).unwrap()
}

#[test]
fn control_bodies() {
    let all = vectors("control-channel.json");
    for case in array(&all["control_body"]["cases"]) {
        let acks: AckList =
            case["acks"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let opcode = if case["opcode"] == "ACK_V1" { Opcode::AckV1 } else { Opcode::ControlV1 };
        let payload = case.get("payload").map(hex).unwrap_or_default();
        let body = ControlBody {
            acks: (!acks.is_empty())
                .then(|| Acks { ids: acks, remote_session_id: session(&case["remote_session_id"]) }),
            message: opcode
                .has_message()
                .then(|| Numbered { id: case["message_id"].as_u64().unwrap() as u32, payload: &payload }),
        };
        let bytes = hex(&case["body"]);
        assert_eq!(body.to_vec(), bytes);
        assert_eq!(ControlBody::parse(opcode, &bytes), Ok(body));
    }
    for case in array(&all["control_body"]["invalid"]) {
        assert!(ControlBody::parse(Opcode::ControlV1, &hex(&case["body"])).is_err(), "{}", case["why"]);
    }
}

#[test]
fn plain_packets() {
    let all = vectors("control-channel.json");
    for case in array(&all["plain"]["cases"]) {
        let packet = hex(&case["packet"]);
        let (header, body) = ControlHeader::parse(&packet).unwrap();
        assert_eq!(u64::from(header.opcode.number()), case["opcode"]);
        assert_eq!(u64::from(header.key_id.get()), case["key_id"]);
        let parsed = ControlBody::parse(header.opcode, body).unwrap();
        assert_eq!([header.to_bytes().as_slice(), &parsed.to_vec()].concat(), packet);
    }
}

#[test]
fn early_negotiation() {
    let all = vectors("control-channel.json");
    for case in array(&all["tls_crypt_v2"]["early_negotiation_tlv"]) {
        let payload = hex(&case["payload"]);
        match EarlyNegotiation::parse(&payload) {
            Ok(found) => {
                assert_eq!((true, found.resend_wkc), (case["ok"] == true, case["resend_wkc"] == true))
            }
            Err(_) => assert_eq!(case["ok"], false),
        }
    }
    assert_eq!(EarlyNegotiation { resend_wkc: true }.to_vec(), [0, 1, 0, 2, 0, 1]);
}

#[test]
fn key_method_2() {
    let all = vectors("control-channel.json");
    let case = &all["key_method_2"];
    let client = &case["client"];
    let text = |name: &str| client[name].as_str().unwrap().as_bytes();
    let [random1, random2]: [[u8; 32]; 2] =
        ["random1", "random2"].map(|name| hex(&client[name]).try_into().unwrap());
    let pre_master = hex(&client["pre_master"]).try_into().unwrap();
    let mut message = ClientKeyMethod {
        pre_master: &pre_master,
        random1: &random1,
        random2: &random2,
        strings: KeyMethodStrings {
            options: text("options"),
            username: Some(text("username")),
            password: Some(text("password")),
            peer_info: Some(text("peer_info")),
        },
    };
    let bytes = hex(&client["message"]);
    assert_eq!(message.to_vec().unwrap(), bytes);
    assert_eq!(ClientKeyMethod::parse(&bytes), Ok(message));

    (message.strings.username, message.strings.password) = (None, None);
    let bytes = hex(&case["client_no_auth"]["message"]);
    assert_eq!(message.to_vec().unwrap(), bytes);
    assert_eq!(ClientKeyMethod::parse(&bytes), Ok(message));

    let server = &case["server"];
    let [random1, random2]: [[u8; 32]; 2] =
        ["random1", "random2"].map(|name| hex(&server[name]).try_into().unwrap());
    let options = server["options"].as_str().unwrap().as_bytes();
    let strings = KeyMethodStrings { options, ..KeyMethodStrings::default() };
    let message = ServerKeyMethod { random1: &random1, random2: &random2, strings };
    let bytes = hex(&server["message"]);
    assert_eq!(message.to_vec().unwrap(), bytes);
    assert_eq!(ServerKeyMethod::parse(&bytes), Ok(message));

    // The fixed part once more, from the vectors of the legacy PRF.
    let prf = &vectors("key-derivation.json")["key_method_2_prf"];
    for (role, randoms) in
        [("client", ["client_random1", "client_random2"]), ("server", ["server_random1", "server_random2"])]
    {
        let head = [hex(&prf["key_source_prefix_on_wire"][role]), b"\0\x03V4\0".to_vec()].concat();
        let [random1, random2] = randoms.map(|name| hex(&prf[name]));
        let read = match role {
            "client" => {
                let message = ClientKeyMethod::parse(&head).unwrap();
                assert_eq!(message.pre_master.as_slice(), hex(&prf["client_pre_master"]));
                (message.random1, message.random2)
            }
            _ => {
                let message = ServerKeyMethod::parse(&head).unwrap();
                (message.random1, message.random2)
            }
        };
        assert_eq!((read.0.as_slice(), read.1.as_slice()), (random1.as_slice(), random2.as_slice()));
    }
}

#[test]
fn iv_proto_and_key_ids() {
    let all = vectors("control-channel.json");
    for (bits, number) in [("bits_990", 990), ("bits_746", 746)] {
        let mut proto = IvProto::NONE;
        for bit in array(&all["iv_proto"][bits]) {
            proto |= IvProto::from_bits(1 << bit.as_u64().unwrap());
        }
        assert_eq!(PeerInfo::new().with("IV_PROTO", proto).iv_proto().bits(), number);
    }
    let mut id = KeyId::FIRST;
    for expected in array(&all["key_id_sequence"]) {
        assert_eq!(u64::from(id.get()), *expected);
        id = id.next();
    }
}

#[test]
fn option_lines() {
    let all = vectors("control-channel.json");
    for case in array(&all["config_lexer"]["cases"]) {
        let line = case["line"].as_str().unwrap();
        match push::tokens(line) {
            Ok(tokens) => assert_eq!(serde_json::json!(tokens), case["tokens"], "{line}"),
            Err(error) => assert!(
                error.to_string().contains(if case["error"] == "bad backslash" {
                    "backslash"
                } else {
                    assert_eq!(case["error"], "unterminated quote");
                    "quotation"
                }),
                "{line}: {error}"
            ),
        }
    }
}

#[test]
fn text_messages() {
    let all = vectors("control-channel.json");
    for case in array(&all["text_messages"]["auth_failed_temp"]) {
        let text = case["text"].as_str().unwrap();
        let expected = AuthFailed::Temporary {
            backoff: case["backoff"].as_u64().map(|seconds| seconds as u32),
            advance: match case["advance"].as_str() {
                Some("no") => Advance::No,
                Some("remote") => Advance::Remote,
                _ => Advance::Unspecified,
            },
            reason: case["message"].as_str().unwrap().to_owned(),
        };
        let message = Message::AuthFailed(expected);
        assert_eq!(Message::parse(text), message);
        assert_eq!(message.to_string(), text);
    }
    for case in array(&all["text_messages"]["restart"]) {
        let text = case["text"].as_str().unwrap();
        let message = Message::parse(text);
        let Message::Restart(restart) = &message else { panic!("{message:?}") };
        assert_eq!(restart.keep_credentials, case["purge_credentials"] == false);
        assert_eq!(restart.advance, case["advance"] == true);
        assert_eq!(message.to_string(), text);
    }
}
