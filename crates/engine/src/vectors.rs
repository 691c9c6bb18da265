//! The published and generated vectors of the data channel and of key derivation, both directions.

use ovpn_crypto::aead::Cipher;
use ovpn_dco::{CipherAlg, DataFormat, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, Protocol};
use ovpn_wire::data_packet::{self, Class};
use serde_json::Value;

use crate::decrypt::{Kind, authenticate_with};
use crate::drop_reason::DropReason;
use crate::encrypt::{Content, seal_with};
use crate::epoch::{self, Which};
use crate::key_slots::{OpenFormat, OpenKey, SealFormat, SealKey, expand};
use crate::pktid::ReplayWindow;
use crate::test_support::{at, from, id, one_peer, table};

fn file(name: &str) -> Value {
    let path = format!("{}/../../../shared/protocol/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn data_channel() -> Value {
    file("data-channel.json")
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn entries(value: &Value) -> &[Value] {
    let entries = value.as_array().unwrap();
    assert!(!entries.is_empty());
    entries
}

fn cipher(value: &Value) -> (CipherAlg, Cipher) {
    let name = value.as_str().unwrap();
    let cipher = Cipher::ALL.into_iter().find(|cipher| cipher.name() == name).unwrap();
    match cipher {
        Cipher::ChaCha20Poly1305 => (CipherAlg::ChaCha20Poly1305, cipher),
        _ => (CipherAlg::AesGcm, cipher),
    }
}

/// A key whose two directions are the same: what it seals, it opens.
fn config(vector: &Value, format: DataFormat) -> KeyConfig {
    let (alg, cipher) = cipher(&vector["cipher"]);
    let direction = if format == DataFormat::Epoch {
        KeyDirection { cipher_key: hex(&vector["E1"]), nonce_tail: [0; 8] }
    } else {
        let nonce_tail = hex(&vector["nonce_tail"]).try_into().unwrap();
        KeyDirection { cipher_key: hex(&vector["key"]), nonce_tail }
    };
    let key_id = vector.get("key_id").map_or(0, number) as u8;
    KeyConfig {
        key_id: KeyId::new(key_id).unwrap(),
        cipher: alg,
        format,
        key_len: cipher.key_len() as u8,
        encrypt: direction.clone(),
        decrypt: direction,
    }
}

fn seals_to(key: &mut SealKey, vector: &Value) {
    let tx_id = vector.get("peer_id").map_or(0, number) as u32;
    let plaintext = hex(&vector["plaintext"]);
    let packet = hex(&vector["packet"]);
    let mut out = vec![0; packet.len()];
    let sealed = seal_with(key, tx_id, Content::Bare(&plaintext), &mut out).unwrap();
    assert_eq!(sealed.len, packet.len());
    assert_eq!(out, packet, "{vector}");
    if let Some(stream) = vector.get("tcp_stream") {
        let framed = [&(packet.len() as u16).to_be_bytes()[..], &packet].concat();
        assert_eq!(framed, hex(stream));
    }
}

fn opens(key: &mut OpenKey, vector: &Value, v1: bool) {
    let packet = hex(&vector["packet"]);
    let mut out = vec![0; packet.len()];
    let opened = authenticate_with(key, v1, &packet, &mut out, at(0)).unwrap();
    assert_eq!(out[..opened.len], hex(&vector["plaintext"]), "{vector}");
    let again = authenticate_with(key, v1, &packet, &mut out, at(0)).err();
    assert_eq!(again, Some(DropReason::Replayed));
}

#[test]
fn classic_packets_both_ways() {
    let all = data_channel();
    let mut cases = 0;
    for (list, format) in [("classic_data_v2", DataFormat::V2), ("classic_data_v1", DataFormat::V1)] {
        for vector in entries(&all[list]) {
            let (mut seal, mut open) = expand(&config(vector, format), false).unwrap();
            let SealFormat::Classic { last_id, .. } = &mut seal.format else { panic!() };
            *last_id = number(&vector["packet_id"]) as u32 - 1;
            seals_to(&mut seal, vector);
            opens(&mut open, vector, format == DataFormat::V1);
            cases += 1;

            if number(&vector["packet_id"]) == u64::from(u32::MAX) {
                let after = seal_with(&mut seal, 0, Content::Bare(&[1]), &mut [0; 64]).err();
                assert_eq!(after, Some(DropReason::KeyExhausted));
            }
            if let Some(Class::DataV2 { peer_id, key_id }) = data_packet::classify(&hex(&vector["packet"])) {
                assert_eq!(u64::from(peer_id), number(&vector["peer_id"]));
                assert_eq!(u64::from(key_id), number(&vector["key_id"]));
            }
        }
    }
    assert_eq!(cases, 28 + 4);
}

#[test]
fn epoch_packets_both_ways() {
    let all = data_channel();
    for vector in entries(&all["epoch_data_v2"]) {
        let (mut seal, mut open) = expand(&config(vector, DataFormat::Epoch), false).unwrap();
        let epoch = number(&vector["epoch"]) as u16;
        let SealFormat::Epoch(chain) = &mut seal.format else { panic!() };
        chain.preset(epoch, number(&vector["counter"]) - 1, 0);
        seals_to(&mut seal, vector);
        let OpenFormat::Epoch(chain) = &mut open.format else { panic!() };
        while chain.epoch() < epoch {
            let next = epoch.min(chain.epoch().saturating_add(epoch::FUTURE_EPOCHS));
            assert_eq!(chain.find(next), Some(Which::Future));
            chain.authentic(Which::Future);
        }
        opens(&mut open, vector, false);
    }
}

/// Each negative packet is dropped under its reason and changes nothing: the next good packet passes.
#[test]
fn negative_packets() {
    let all = data_channel();
    let expected = |case: &str| match case {
        "3 bytes only" => DropReason::TooShort,
        "epoch field 0" | "epoch field 0x4000, outside the future window" => DropReason::UnknownEpoch,
        "authentic packet with packet id 0" | "authentic packet with counter 0" => DropReason::ReplayTooOld,
        "truncated to header+id+tag, no payload"
        | "tag bit flipped"
        | "peer-id bit flipped (AAD)"
        | "packet-id bit flipped"
        | "ciphertext bit flipped"
        | "epoch field changed to 2" => DropReason::NotAuthentic,
        other => panic!("a new case: {other}"),
    };
    for vector in entries(&all["negative"]) {
        let format = match vector["format"].as_str().unwrap() {
            "classic" => DataFormat::V2,
            "epoch" => DataFormat::Epoch,
            other => panic!("a new format: {other}"),
        };
        let keys = &all["negative_keys"][vector["format"].as_str().unwrap()];
        let (table, events) = one_peer(Framing::None, &config(keys, format));
        let peer = table.peer(id(7)).unwrap();
        let packet = hex(&vector["packet"]);
        let case = vector["case"].as_str().unwrap();
        let mut out = vec![0; 2048];
        let tables = table.read();
        // From elsewhere: a bad packet must not float the peer.
        let dropped = tables.rx(&peer, at(50)).open(&packet, Some(&from("198.51.100.9:9")), &mut out);
        assert_eq!(dropped, Err(expected(case)), "{case}");
        assert_eq!(table.drops().get(expected(case)), 1);
        assert_eq!(table.drops().total(), 1);
        assert_eq!(events.take(), []);
        assert_eq!(peer.endpoint().remote, Some("192.0.2.1:1194".parse().unwrap()));
        assert_eq!(peer.last_received(), at(0));
        let stats = peer.info().stats;
        assert_eq!((stats.link.rx_packets, stats.vpn.rx_packets), (1, 0));

        let mut good = vec![0; 128];
        let len = tables.tx(&peer, at(60)).seal_ping(&mut good).unwrap();
        let opened = tables.rx(&peer, at(60)).open(&good[..len], None, &mut out);
        assert_eq!(opened.unwrap().kind(), Kind::Ping, "{case}");
    }
}

/// The window is the kernel's, 2048 wide with a floor after 30 s. OpenVPN's own, 64 wide with 15 s, belongs to a data plane
/// of one thread, and each end chooses for itself: what that one accepts this one accepts as well, and nothing twice.
#[test]
fn the_window_takes_whatever_openvpns_takes() {
    let all = data_channel();
    let theirs =
        entries(&all["replay_traces"]).iter().filter(|trace| trace["model"] == "openvpn2 default 64/15");
    let mut traces = 0;
    for trace in theirs {
        let (mut window, mut seen) = (ReplayWindow::new(), std::collections::HashSet::new());
        for step in entries(&trace["steps"]) {
            let id = number(&step["id"]);
            let accepted = window.accept(id, at(number(&step["t"]) * 1000)).is_ok();
            assert!(accepted || step["accept"] == false, "{}: {step}", trace["note"]);
            assert!(!accepted || seen.insert(id), "{}: {step}", trace["note"]);
        }
        traces += 1;
    }
    assert_eq!(traces, 5);
}

/// Ciphers without authentication of their own are for a data plane in the control plane's process ("not for DCO"): a
/// packet of such a peer is dropped like any that is not authentic, and no key for one can be made.
#[test]
fn packets_of_the_old_ciphers_are_dropped() {
    let all = data_channel();
    let old = &all["legacy_cbc"];
    let cipher = old["cipher"].as_str().unwrap();
    assert!(Cipher::ALL.into_iter().all(|ours| ours.name() != cipher));
    for format in [DataFormat::V2, DataFormat::Epoch] {
        let (table, _) = one_peer(Framing::None, &crate::test_support::key(format, 0, 1, 2));
        let peer = table.peer(id(7)).unwrap();
        let tables = table.read();
        let dropped = tables.rx(&peer, at(50)).open(&hex(&old["packet"]), None, &mut [0; 2048]);
        let expected =
            if format == DataFormat::V2 { DropReason::NotAuthentic } else { DropReason::UnknownEpoch };
        assert_eq!(dropped, Err(expected));
        assert_eq!((table.drops().total(), peer.last_received()), (1, at(0)));
    }
}

/// No part of the file is forgotten.
#[test]
fn every_part_of_the_vectors_has_its_test() {
    let used = [
        "description",
        "cross_checked_against_upstream_tests",
        "not_cross_checked",
        "constants",
        "classic_data_v2",
        "classic_data_v1",
        "epoch_data_v2",
        "legacy_cbc",
        "negative",
        "negative_keys",
        "replay_traces",
        "overhead_and_mssfix",
        // In the crate of the keys; the labels as part of the schedule.
        "ovpn_label_info_bytes",
        "upstream_known_answer_inputs",
        "epoch_key_schedule",
    ];
    for name in data_channel().as_object().unwrap().keys() {
        assert!(used.contains(&name.as_str()), "{name}");
    }
}

/// Traces of the window that is used here.
#[test]
fn replay_traces() {
    let all = data_channel();
    let traces: Vec<&Value> = entries(&all["replay_traces"])
        .iter()
        .filter(|trace| trace["model"] == "linux ovpn 2048/30")
        .collect();
    assert_eq!(traces.len(), 5);
    for trace in traces {
        let mut window = ReplayWindow::new();
        for step in entries(&trace["steps"]) {
            let accepted = window.accept(number(&step["id"]), at(number(&step["t"]) * 1000)).is_ok();
            assert_eq!(accepted, step["accept"].as_bool().unwrap(), "{}: {step}", trace["note"]);
        }
    }
}

#[test]
fn special_payloads() {
    let all = data_channel();
    let constants = &all["constants"];
    assert_eq!(ovpn_wire::payload::PING[..], hex(&constants["ping_plaintext"]));
    assert_eq!(ovpn_wire::payload::OCC_MAGIC[..], hex(&constants["occ_magic"]));
    let exit = hex(&constants["occ_exit_plaintext"]);
    assert_eq!(ovpn_wire::payload::classify(&exit), ovpn_wire::payload::Payload::OccExit);
    let request = hex(&constants["occ_request_plaintext"]);
    assert_eq!(ovpn_wire::payload::classify(&request), ovpn_wire::payload::Payload::Occ);
}

#[test]
fn overheads() {
    let all = data_channel();
    for row in entries(&all["overhead_and_mssfix"]) {
        let format = match row["format"].as_str().unwrap() {
            "DATA_V2 AEAD" => DataFormat::V2,
            "DATA_V1 AEAD" => DataFormat::V1,
            "DATA_V2 AEAD epoch" => DataFormat::Epoch,
            other => panic!("a new format: {other}"),
        };
        let (table, _) = one_peer(Framing::None, &crate::test_support::key(format, 0, 1, 2));
        let peer = table.peer(id(7)).unwrap();
        let overhead = table.read().tx(&peer, at(0)).overhead().unwrap();
        let is_tcp = row["transport"].as_str().unwrap().starts_with("tcp");
        assert_eq!((overhead + if is_tcp { 2 } else { 0 }) as u64, number(&row["openvpn_bytes"]));
        let mss = 1492 - number(&row["ip_transport_bytes"]) - number(&row["openvpn_bytes"]) - 40;
        assert_eq!(mss, number(&row["default_mssfix_1492_mtu_gives_tcp_mss_v4"]));
    }
}

/// Client and server of a derived key block understand each other with every cipher, and use the very slices.
#[test]
fn derived_data_keys() {
    let all = file("key-derivation.json");
    for source in ["key_method_2_prf", "tls_ekm"] {
        let slices = entries(&all[source]["slices"]);
        for cipher in Cipher::ALL {
            for format in [DataFormat::V2, DataFormat::Epoch] {
                let ends: Vec<KeyConfig> = slices.iter().map(|role| derived(role, cipher, format)).collect();
                let [client, server] = &ends[..] else { panic!("two roles") };
                for (sender, receiver) in [(client, server), (server, client)] {
                    let (mut seal, _) = expand(sender, false).unwrap();
                    let (_, mut open) = expand(receiver, false).unwrap();
                    let mut packet = [0; 128];
                    let sealed = seal_with(&mut seal, 1, Content::Bare(&[0x45; 60]), &mut packet).unwrap();
                    let mut out = [0; 128];
                    let opened =
                        authenticate_with(&mut open, false, &packet[..sealed.len], &mut out, at(0)).unwrap();
                    assert_eq!(out[..opened.len], [0x45; 60]);
                }
            }
        }
    }
}

fn derived(role: &Value, cipher: Cipher, format: DataFormat) -> KeyConfig {
    let keys = &role[cipher.name()];
    let direction = |name: &str, e1: &str| KeyDirection {
        cipher_key: match format {
            DataFormat::Epoch => hex(&role["epoch"][e1]),
            _ => hex(&keys[format!("{name}_key")]),
        },
        nonce_tail: hex(&keys[format!("{name}_nonce_tail")]).try_into().unwrap(),
    };
    KeyConfig {
        key_id: KeyId::FIRST,
        cipher: match cipher {
            Cipher::ChaCha20Poly1305 => CipherAlg::ChaCha20Poly1305,
            _ => CipherAlg::AesGcm,
        },
        format,
        key_len: cipher.key_len() as u8,
        encrypt: direction("encrypt", "send_E1"),
        decrypt: direction("decrypt", "recv_E1"),
    }
}

/// Packets without a peer id find their peer by address.
#[test]
fn the_undefined_peer_id_is_looked_up_by_address() {
    let all = data_channel();
    let vector =
        entries(&all["classic_data_v2"]).iter().find(|vector| vector["case"] == "undefined peer-id").unwrap();
    let (table, _) = table(Mode::MultiPeer);
    let peer = crate::test_support::peer(7, "192.0.2.1:1194", "10.8.0.2");
    table.peer_new(&peer, Some(Protocol::Udp), at(0)).unwrap();
    table.key_new(id(7), KeySlot::Primary, &config(vector, DataFormat::V2)).unwrap();
    let class = data_packet::classify(&hex(&vector["packet"])).unwrap();
    let tables = table.read();
    assert_eq!(tables.sender(class, "192.0.2.1:1194".parse().unwrap()).unwrap().id(), id(7));
    let mapped = "[::ffff:192.0.2.1]:1194".parse().unwrap();
    assert_eq!(tables.sender(class, mapped).unwrap().id(), id(7));
    assert!(tables.sender(class, "192.0.2.2:1194".parse().unwrap()).is_err());
    assert_eq!(table.drops().get(DropReason::UnknownPeer), 1);
}
