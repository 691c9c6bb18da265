//! Recorded handshakes of stock OpenVPN 2.6.14, replayed through the parsers and the wrapping.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeSet, HashMap};

use ovpn_crypto::auth_token::{TokenKey, TokenLimits};
use ovpn_crypto::control_replay::{ReplayError, ReplayWindow};
use ovpn_crypto::control_wrap::{Opened, UnwrapError, WrapKey};
use ovpn_crypto::key2::TlsRole;
use ovpn_crypto::secret::Secret;
use ovpn_crypto::static_key::{KeyDirection, StaticKey};
use ovpn_crypto::tls_auth::AuthDigest;
use ovpn_crypto::tls_crypt_v2::{ClientKey, Metadata, ServerKey};
use ovpn_wire::control_packet::{ControlBody, EarlyNegotiation, SessionId};
use ovpn_wire::key_method::{ClientKeyMethod, ServerKeyMethod, options_item};
use ovpn_wire::message::{Message, commands};
use ovpn_wire::opcode::{FirstByte, Opcode};
use ovpn_wire::peer_info::PeerInfo;
use ovpn_wire::push::PushAssembler;
use ovpn_wire::tcp_framing::PacketReader;

fn path(name: &str) -> String {
    format!("{}/../../../shared/protocol/transcripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).expect(&path)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    ToServer,
    ToClient,
}

/// A packet of a capture: when (unix seconds), which way, the bytes.
type Captured = (u64, Direction, Vec<u8>);

/// Reads a little-endian pcap file of Ethernet frames: UDP payloads, and the packets inside TCP streams.
fn capture(name: &str) -> Vec<Captured> {
    let path = path(name);
    let file = std::fs::read(&path).expect(&path);
    assert_eq!(file[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
    let (mut packets, mut streams) = (Vec::new(), HashMap::new());
    let mut rest = &file[24..];
    while let Some((head, after)) = rest.split_first_chunk::<16>() {
        let field = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let (frame, after) = after.split_at(field(8) as usize);
        rest = after;
        if frame[12..14] != [8, 0] {
            continue;
        }
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let ip = &frame[14..14 + total];
        let segment = &ip[usize::from(ip[0] & 15) * 4..];
        let direction = if ip[12..16] == [192, 0, 2, 1] { Direction::ToClient } else { Direction::ToServer };
        let time = u64::from(field(0));
        match ip[9] {
            17 => packets.push((time, direction, segment[8..].to_vec())),
            6 => {
                let mut bytes = &segment[usize::from(segment[12] >> 4) * 4..];
                let reader = streams.entry(direction).or_insert_with(|| PacketReader::new(2000));
                while !bytes.is_empty() {
                    let space = reader.space();
                    let count = space.len().min(bytes.len());
                    space[..count].copy_from_slice(&bytes[..count]);
                    reader.filled(count);
                    bytes = &bytes[count..];
                    while let Some(packet) = reader.next_packet().unwrap() {
                        packets.push((time, direction, packet.to_vec()));
                    }
                }
            }
            _ => {}
        }
    }
    packets
}

/// The keys of a scenario for packets to the server and to the client.
struct Keys {
    server: WrapKey,
    client: WrapKey,
}

impl Keys {
    fn tls_crypt(key: &StaticKey) -> Self {
        Self {
            server: WrapKey::tls_crypt(key, TlsRole::Server).unwrap(),
            client: WrapKey::tls_crypt(key, TlsRole::Client).unwrap(),
        }
    }

    fn dynamic(&self, exported: &Secret<256>) -> Self {
        Self {
            server: self.server.dynamic(exported, TlsRole::Server).unwrap(),
            client: self.client.dynamic(exported, TlsRole::Client).unwrap(),
        }
    }

    fn receiver(&self, direction: Direction) -> &WrapKey {
        match direction {
            Direction::ToServer => &self.server,
            Direction::ToClient => &self.client,
        }
    }
}

/// Opens and parses every control packet; returns the opcodes of both directions in order.
fn replay(name: &str, keys: &Keys, carrier: Option<&ServerKey>) -> Vec<(Direction, Opcode)> {
    let exported = Secret::from_slice(&hex(text(&format!("{name}.dyn-ekm")).trim())).unwrap();
    let dynamic = keys.dynamic(&exported);
    let mut windows: HashMap<(Direction, bool), ReplayWindow> = HashMap::new();
    let mut sessions: HashMap<Direction, SessionId> = HashMap::new();
    let mut opcodes = Vec::new();
    for (time, direction, packet) in capture(&format!("{name}.pcap")) {
        let first = FirstByte::from_byte(packet[0]).unwrap();
        if first.opcode.is_data() {
            continue;
        }
        opcodes.push((direction, first.opcode));
        let renegotiation = first.key_id.is_renegotiation();
        let key = if renegotiation { dynamic.receiver(direction) } else { keys.receiver(direction) };
        let opened: Opened = match carrier {
            Some(server) if first.opcode.carries_wrapped_key() => {
                let carried = server.open_carrier(&packet).unwrap();
                assert!(matches!(carried.metadata, Metadata::Timestamp(_)));
                carried.key.open(carried.packet).unwrap()
            }
            _ => key.open(&packet).unwrap(),
        };
        assert_eq!((opened.header.opcode, opened.header.key_id), (first.opcode, first.key_id));
        assert_eq!(*sessions.entry(direction).or_insert(opened.header.session_id), opened.header.session_id);
        if let Some(replay) = opened.replay {
            let window = windows.entry((direction, renegotiation)).or_default();
            assert_eq!(window.accept(replay, time), Ok(()));
            assert_eq!(window.accept(replay, time), Err(ReplayError::Seen));
            // What is sealed again under the same id by the other side is the same packet.
            let other = match direction {
                Direction::ToServer => Direction::ToClient,
                Direction::ToClient => Direction::ToServer,
            };
            let sender = if renegotiation { dynamic.receiver(other) } else { keys.receiver(other) };
            let sealed = sender.seal(opened.header, replay, &opened.body).unwrap();
            assert!(packet.starts_with(&sealed));
        }
        let body = ControlBody::parse(first.opcode, &opened.body).unwrap();
        assert_eq!(body.to_vec(), opened.body);
        if let Some(acks) = body.acks {
            let theirs = match direction {
                Direction::ToServer => Direction::ToClient,
                Direction::ToClient => Direction::ToServer,
            };
            assert_eq!(sessions.get(&theirs), Some(&acks.remote_session_id));
        }
        if first.opcode == Opcode::HardResetServerV2 {
            let early = EarlyNegotiation::parse(body.message.unwrap().payload).unwrap();
            assert_eq!(early.resend_wkc, carrier.is_some());
        }
        if opened.replay.is_some() && !first.opcode.carries_wrapped_key() {
            let mut forged = packet.clone();
            forged[20] ^= 1;
            assert_eq!(key.open(&forged), Err(UnwrapError::Authentication));
        }
    }
    opcodes
}

/// What both sides said inside TLS.
#[derive(Default)]
struct Said {
    client_info: Vec<PeerInfo>,
    usernames: Vec<Option<Vec<u8>>>,
    passwords: Vec<Option<Vec<u8>>>,
    to_server: Vec<Message>,
    to_client: Vec<Message>,
}

/// Parses and writes again every message of the TLS plaintext.
fn plaintext(name: &str) -> Said {
    let mut said = Said::default();
    for line in text(&format!("{name}.plaintext")).lines() {
        let (time_and_direction, bytes) = line.rsplit_once(' ').unwrap();
        let (to_server, bytes) = (time_and_direction.ends_with("C>S"), hex(bytes));
        if bytes.starts_with(&[0, 0, 0, 0, 2]) {
            let (options, written) = if to_server {
                let message = ClientKeyMethod::parse(&bytes).unwrap();
                let strings = message.strings;
                said.client_info.push(PeerInfo::parse(strings.peer_info.unwrap_or_default()));
                said.usernames.push(strings.username.map(<[u8]>::to_vec));
                said.passwords.push(strings.password.map(<[u8]>::to_vec));
                (strings.options.to_vec(), message.to_vec().unwrap())
            } else {
                let message = ServerKeyMethod::parse(&bytes).unwrap();
                (message.strings.options.to_vec(), message.to_vec().unwrap())
            };
            let options = String::from_utf8(options).unwrap();
            assert_eq!(options_item(&options, "key-method"), Some("2"));
            let role = if to_server { "tls-client" } else { "tls-server" };
            assert_eq!(options_item(&options, role), Some(""));
            assert_eq!(written, bytes);
        } else {
            for command in commands(&bytes) {
                let message = Message::parse(command.unwrap());
                assert!(!matches!(message, Message::Unknown(_)), "{message:?}");
                assert_eq!(message.to_record(), bytes);
                if to_server { &mut said.to_server } else { &mut said.to_client }.push(message);
            }
        }
    }
    assert!(!said.client_info.is_empty());
    said
}

fn pushed(said: &Said) -> Vec<String> {
    let mut assembler = PushAssembler::default();
    let mut replies = said.to_client.iter().filter_map(|message| match message {
        Message::PushReply(options) => assembler.add(options).unwrap(),
        _ => None,
    });
    replies.next().unwrap()
}

#[test]
fn tls_crypt_over_udp_with_renegotiation() {
    let keys = Keys::tls_crypt(&StaticKey::from_text(&text("keys/tc.key")).unwrap());
    let opcodes = replay("a-tls-crypt-udp", &keys, None);
    assert_eq!(opcodes[0], (Direction::ToServer, Opcode::HardResetClientV2));
    assert!(opcodes.contains(&(Direction::ToServer, Opcode::SoftResetV1)));
    let said = plaintext("a-tls-crypt-udp");
    assert!(said.client_info.iter().all(|info| info.iv_proto().bits() == 990));
    assert!(said.to_server.contains(&Message::Exit));
    let options = pushed(&said);
    assert!(options.contains(&"protocol-flags cc-exit tls-ekm dyn-tls-crypt".to_owned()), "{options:?}");
}

#[test]
fn tls_auth_with_password_and_token() {
    let key = StaticKey::from_text(&text("keys/ta.key")).unwrap();
    let wrap = |direction| WrapKey::tls_auth(&key, direction, AuthDigest::Sha256);
    let keys = Keys { server: wrap(KeyDirection::Normal), client: wrap(KeyDirection::Inverse) };
    replay("b-tls-auth-udp", &keys, None);
    let said = plaintext("b-tls-auth-udp");
    assert_eq!(said.usernames[0], Some(b"alice".to_vec()));
    assert_eq!(said.passwords[0], Some(b"wonderland".to_vec()));
    assert_eq!(said.client_info[0].get("UV_ASSET"), Some("4711"));

    let options = pushed(&said);
    let token = options.iter().find_map(|option| option.strip_prefix("auth-token ")).unwrap();
    let key = TokenKey::from_pem(&text("keys/auth-token.key")).unwrap();
    let limits = TokenLimits { renewal: 3600, lifetime: 3600 };
    let now = capture("b-tls-auth-udp.pcap").last().unwrap().0 as i64;
    let verified = key.verify(token.as_bytes(), b"alice", now, limits, None).unwrap();
    assert!(!verified.expired && !verified.empty_username);
    let issued = verified.series.initial_time;
    let again = key.issue(&verified.series, b"alice", issued);
    assert_eq!(again.expose(), token.as_bytes());
}

#[test]
fn tls_crypt_v2_with_cookie() {
    let server = ServerKey::from_pem(&text("keys/tcv2-server.key")).unwrap();
    let client = ClientKey::from_pem(&text("keys/tcv2-client1.key")).unwrap();
    let keys = Keys::tls_crypt(client.kc());
    let opcodes = replay("c-tls-crypt-v2-cookie", &keys, Some(&server));
    let carriers: BTreeSet<u8> =
        opcodes.iter().filter(|(_, opcode)| opcode.carries_wrapped_key()).map(|(_, o)| o.number()).collect();
    assert_eq!(carriers, BTreeSet::from([10, 11]));
    plaintext("c-tls-crypt-v2-cookie");
}

#[test]
fn plain_over_tcp() {
    let keys = Keys { server: WrapKey::None, client: WrapKey::None };
    assert!(replay("d-plain-tcp", &keys, None).len() > 10);
    assert!(pushed(&plaintext("d-plain-tcp")).iter().any(|option| option.starts_with("ifconfig ")));
}

#[test]
fn point_to_point() {
    let keys = Keys { server: WrapKey::None, client: WrapKey::None };
    let opcodes = replay("e-p2p-tls", &keys, None);
    assert_eq!(opcodes[0], (Direction::ToClient, Opcode::HardResetServerV2));
    let said = plaintext("e-p2p-tls");
    assert_eq!(said.client_info[0].iv_proto().bits(), 746);
    assert!(said.to_client.is_empty() && said.to_server.is_empty());
}
