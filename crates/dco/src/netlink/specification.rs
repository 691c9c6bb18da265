//! Every request that is sent, compared with bytes derived from the kernel's own specification of the family
//! (`ovpn.yaml` among its netlink specifications).
//!
//! The specification numbers attributes and operations by their order, from 1, and gives each attribute its type. The
//! tables below hold those orders and types, and nothing else; [`Spec`] writes what they say about names and values.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;
use crate::*;

/// A type of the specification.
#[derive(Clone, Copy)]
enum Type {
    U32,
    S32,
    Uint,
    /// Network order.
    Be16,
    /// Network order.
    Be32,
    Binary,
    Nest(&'static [(&'static str, Type)]),
}
use Type::*;

const PEER: &[(&str, Type)] = &[
    ("id", U32),
    ("remote-ipv4", Be32),
    ("remote-ipv6", Binary),
    ("remote-ipv6-scope-id", U32),
    ("remote-port", Be16),
    ("socket", U32),
    ("socket-netnsid", S32),
    ("vpn-ipv4", Be32),
    ("vpn-ipv6", Binary),
    ("local-ipv4", Be32),
    ("local-ipv6", Binary),
    ("local-port", Be16),
    ("keepalive-interval", U32),
    ("keepalive-timeout", U32),
    ("del-reason", U32),
    ("vpn-rx-bytes", Uint),
    ("vpn-tx-bytes", Uint),
    ("vpn-rx-packets", Uint),
    ("vpn-tx-packets", Uint),
    ("link-rx-bytes", Uint),
    ("link-tx-bytes", Uint),
    ("link-rx-packets", Uint),
    ("link-tx-packets", Uint),
    ("tx-id", U32),
];
const KEYDIR: &[(&str, Type)] = &[("cipher-key", Binary), ("nonce-tail", Binary)];
const KEYCONF: &[(&str, Type)] = &[
    ("peer-id", U32),
    ("slot", U32),
    ("key-id", U32),
    ("cipher-alg", U32),
    ("encrypt-dir", Nest(KEYDIR)),
    ("decrypt-dir", Nest(KEYDIR)),
];
const OVPN: &[(&str, Type)] = &[("ifindex", U32), ("peer", Nest(PEER)), ("keyconf", Nest(KEYCONF))];
const OPERATIONS: &[&str] = &[
    "peer-new",
    "peer-set",
    "peer-get",
    "peer-del",
    "peer-del-ntf",
    "key-new",
    "key-get",
    "key-swap",
    "key-swap-ntf",
    "key-del",
    "peer-float-ntf",
];
const SLOTS: &[&str] = &["primary", "secondary"];
const CIPHERS: &[&str] = &["none", "aes-gcm", "chacha20-poly1305"];

/// A value for an attribute, by name.
enum Value {
    Number(u32),
    Bytes(Vec<u8>),
    Inside(Vec<(&'static str, Value)>),
}
use Value::*;

fn number(names: &[&str], name: &str) -> u32 {
    u32::try_from(names.iter().position(|one| *one == name).unwrap()).unwrap()
}

fn attributes(set: &[(&str, Type)], values: &[(&'static str, Value)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in values {
        let at = set.iter().position(|(one, _)| one == name).unwrap_or_else(|| panic!("no attribute {name}"));
        let (payload, nested) = match (set[at].1, value) {
            (U32 | S32, Number(value)) => (value.to_ne_bytes().to_vec(), false),
            (Be16, Number(value)) => (u16::try_from(*value).unwrap().to_be_bytes().to_vec(), false),
            (Be32 | Binary, Bytes(value)) => (value.clone(), false),
            (Nest(set), Inside(values)) => (attributes(set, values), true),
            _ => panic!("{name} is of another type"),
        };
        let kind = u16::try_from(at + 1).unwrap() | if nested { 0x8000 } else { 0 };
        bytes.extend_from_slice(&u16::try_from(payload.len() + 4).unwrap().to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn message(operation: &str, dump: bool, values: &[(&'static str, Value)]) -> Vec<u8> {
    let body = attributes(OVPN, values);
    // NLM_F_REQUEST with NLM_F_DUMP or NLM_F_ACK
    let flags: u16 = 1 | if dump { 0x300 } else { 4 };
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&u32::try_from(20 + body.len()).unwrap().to_ne_bytes());
    bytes.extend_from_slice(&0x33u16.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[u8::try_from(number(OPERATIONS, operation) + 1).unwrap(), 1, 0, 0]);
    bytes.extend_from_slice(&body);
    bytes
}

/// The same attributes in each nest, whatever their order.
fn sorted(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut list: Vec<(u16, Vec<u8>)> = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let payload = &rest[4..length];
        let payload = if kind & 0x8000 == 0 {
            payload.to_vec()
        } else {
            sorted(payload)
                .into_iter()
                .flat_map(|(kind, value)| [kind.to_ne_bytes().to_vec(), value].concat())
                .collect()
        };
        list.push((kind, payload));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    list.sort();
    list
}

fn id(number: u32) -> PeerId {
    PeerId::new(number).unwrap()
}

fn new_peer(change: impl FnOnce(&mut NewPeer)) -> Command {
    let mut peer = NewPeer {
        id: id(7),
        tx_id: None,
        socket: SocketRef::Descriptor(11),
        remote: None,
        local: None,
        vpn: VpnAddrs::default(),
        keepalive: None,
        framing: Framing::None,
        fragment: None,
    };
    change(&mut peer);
    Command::PeerNew(peer)
}

fn set_peer(change: impl FnOnce(&mut PeerUpdate)) -> Command {
    let mut update = PeerUpdate::default();
    change(&mut update);
    Command::PeerSet { id: id(7), update }
}

fn new_key(slot: KeySlot, cipher: CipherAlg, len: u8) -> Command {
    let direction = |byte: u8| KeyDirection { cipher_key: vec![byte; len.into()], nonce_tail: [byte + 1; 8] };
    let key = KeyConfig {
        key_id: KeyId::new(5).unwrap(),
        cipher,
        format: DataFormat::V2,
        key_len: len,
        encrypt: direction(0x10),
        decrypt: direction(0x20),
    };
    Command::KeyNew { peer: id(7), slot, key }
}

fn v4(text: &str) -> Value {
    Bytes(text.parse::<Ipv4Addr>().unwrap().octets().to_vec())
}

fn v6(text: &str) -> Value {
    Bytes(text.parse::<Ipv6Addr>().unwrap().octets().to_vec())
}

/// A request, its name in the specification, and what it holds.
type Asked = (Command, &'static str, Vec<(&'static str, Value)>);

/// Every request in every form that the driver is sent: what it must be, by the specification.
fn requests() -> Vec<Asked> {
    let peer = |more: Vec<(&'static str, Value)>| {
        let mut all = vec![("id", Number(7))];
        all.extend(more);
        vec![("ifindex", Number(3)), ("peer", Inside(all))]
    };
    let new = |more: Vec<(&'static str, Value)>| {
        let mut all = vec![("socket", Number(11))];
        all.extend(more);
        peer(all)
    };
    let key = |more: Vec<(&'static str, Value)>| {
        let mut all = vec![("peer-id", Number(7))];
        all.extend(more);
        vec![("ifindex", Number(3)), ("keyconf", Inside(all))]
    };
    let direction = |byte: u8, len: usize| {
        Inside(vec![("cipher-key", Bytes(vec![byte; len])), ("nonce-tail", Bytes(vec![byte + 1; 8]))])
    };
    let whole_key = |slot, cipher, len| {
        key(vec![
            ("slot", Number(number(SLOTS, slot))),
            ("key-id", Number(5)),
            ("cipher-alg", Number(number(CIPHERS, cipher))),
            ("encrypt-dir", direction(0x10, len)),
            ("decrypt-dir", direction(0x20, len)),
        ])
    };
    let one_slot = |slot| key(vec![("slot", Number(number(SLOTS, slot)))]);
    let seconds = Duration::from_secs;
    vec![
        // over TCP
        (new_peer(|_| {}), "peer-new", new(vec![])),
        (
            new_peer(|p| p.remote = Some("192.0.2.1:1194".parse().unwrap())),
            "peer-new",
            new(vec![("remote-ipv4", v4("192.0.2.1")), ("remote-port", Number(1194))]),
        ),
        // mapped addresses are IPv4 ones
        (
            new_peer(|p| {
                p.remote = Some("[::ffff:192.0.2.1]:1194".parse().unwrap());
                p.local = Some("::ffff:192.0.2.9".parse().unwrap());
            }),
            "peer-new",
            new(vec![
                ("remote-ipv4", v4("192.0.2.1")),
                ("remote-port", Number(1194)),
                ("local-ipv4", v4("192.0.2.9")),
            ]),
        ),
        (
            new_peer(|p| {
                p.remote = Some("[fe80::1%4]:1194".parse().unwrap());
                p.local = Some("fe80::2".parse().unwrap());
                p.vpn.v6 = Some("fd00::2".parse().unwrap());
            }),
            "peer-new",
            new(vec![
                ("remote-ipv6", v6("fe80::1")),
                ("remote-ipv6-scope-id", Number(4)),
                ("remote-port", Number(1194)),
                ("local-ipv6", v6("fe80::2")),
                ("vpn-ipv6", v6("fd00::2")),
            ]),
        ),
        (
            new_peer(|p| {
                p.tx_id = Some(id(8));
                p.vpn.v4 = Some("10.8.0.2".parse().unwrap());
            }),
            "peer-new",
            new(vec![("tx-id", Number(8)), ("vpn-ipv4", v4("10.8.0.2"))]),
        ),
        (
            set_peer(|u| u.keepalive = Some(Keepalive { interval: seconds(10), timeout: seconds(120) })),
            "peer-set",
            peer(vec![("keepalive-interval", Number(10)), ("keepalive-timeout", Number(120))]),
        ),
        (
            set_peer(|u| {
                u.remote = Some("192.0.2.1:1".parse().unwrap());
                u.vpn.v4 = Some("10.8.0.3".parse().unwrap());
                u.tx_id = Some(id(9));
            }),
            "peer-set",
            peer(vec![
                ("remote-ipv4", v4("192.0.2.1")),
                ("remote-port", Number(1)),
                ("vpn-ipv4", v4("10.8.0.3")),
                ("tx-id", Number(9)),
            ]),
        ),
        (Command::PeerGet(id(7)), "peer-get", peer(vec![])),
        (Command::PeerDump, "peer-get", vec![("ifindex", Number(3))]),
        (Command::PeerDel(id(7)), "peer-del", peer(vec![])),
        (new_key(KeySlot::Primary, CipherAlg::AesGcm, 16), "key-new", whole_key("primary", "aes-gcm", 16)),
        (
            new_key(KeySlot::Secondary, CipherAlg::AesGcm, 24),
            "key-new",
            whole_key("secondary", "aes-gcm", 24),
        ),
        (
            new_key(KeySlot::Primary, CipherAlg::ChaCha20Poly1305, 32),
            "key-new",
            whole_key("primary", "chacha20-poly1305", 32),
        ),
        (Command::KeyGet { peer: id(7), slot: KeySlot::Secondary }, "key-get", one_slot("secondary")),
        (Command::KeySwap(id(7)), "key-swap", key(vec![])),
        (Command::KeyDel { peer: id(7), slot: KeySlot::Secondary }, "key-del", one_slot("secondary")),
    ]
}

#[test]
fn every_request_is_what_the_specification_says() {
    let mut seen = Vec::new();
    for (command, operation, values) in requests() {
        let dump = matches!(command, Command::PeerDump);
        let shown = format!("{command:?}");
        let ours = Request { ifindex: 3, command }.encode(0x33).to_vec();
        let expected = message(operation, dump, &values);
        assert_eq!(ours[..20], expected[..20], "{shown}");
        // The specification leaves the order of attributes free.
        assert_eq!(sorted(&ours[20..]), sorted(&expected[20..]), "{shown}");
        seen.push(operation);
    }
    // nothing that can be asked for is left out
    for operation in OPERATIONS.iter().filter(|operation| !operation.ends_with("-ntf")) {
        assert!(seen.contains(operation), "{operation}");
    }
}
