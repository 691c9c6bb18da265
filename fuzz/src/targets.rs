//! What each fuzz target does with its input: plain functions, so that an ordinary test can run them as well.
//!
//! A target fails by panicking. Each checks more than that: bounds, counters, or a slow model.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::IoSlice;
use std::sync::OnceLock;

use aws_lc_rs::aead::{self as library, Aad, LessSafeKey, Nonce, UnboundKey};
use ovpn_crypto::aead::{AeadKey, Cipher, NONCE_LEN, OpenError, TAG_LEN};
use ovpn_dco::{
    CipherAlg, DataFormat, Event, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig, PeerId,
    Protocol, TransportId, VpnAddrs,
};
use ovpn_engine::decrypt::Kind;
use ovpn_engine::drop_reason::DropReason;
use ovpn_engine::framing::{BadFrame, frames};
use ovpn_engine::lzo as lzo1x;
use ovpn_engine::offload::checksum::{Sum, pseudo_header};
use ovpn_engine::offload::gro_coalesce::{Coalescer, Refused};
use ovpn_engine::offload::gso_split as gso;
use ovpn_engine::peer::{EventSink, Source};
use ovpn_engine::peer_table::{PeerTable, TableConfig};
use ovpn_engine::time::Timestamp;
use ovpn_sys::tun::{VNET_HDR_LEN, VnetHdr};
use ovpn_wire::tcp_framing::PacketReader;

/// What a target is.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const ALL: [(&str, Target); 7] = [
    ("aead", aead),
    ("decrypt", decrypt),
    ("tcp_framing", tcp_framing),
    ("gso_split", gso_split),
    ("gro_coalesce", gro_coalesce),
    ("lzo", lzo),
    ("config_lexer", config_lexer),
];

/// Keys, nonces and texts: sealed as the library seals them, in place and apart, opened again, and not once changed.
pub fn aead(data: &[u8]) {
    let Some((&[choice, aad_len, place], rest)) = data.split_first_chunk() else { return };
    let Some((key, rest)) = rest.split_first_chunk::<32>() else { return };
    let Some((&nonce, rest)) = rest.split_first_chunk::<NONCE_LEN>() else { return };
    let (aad, text) = rest.split_at(rest.len().min(usize::from(aad_len % 64)));
    let (cipher, algorithm) = [
        (Cipher::Aes128Gcm, &library::AES_128_GCM),
        (Cipher::Aes192Gcm, &library::AES_192_GCM),
        (Cipher::Aes256Gcm, &library::AES_256_GCM),
        (Cipher::ChaCha20Poly1305, &library::CHACHA20_POLY1305),
    ][usize::from(choice % 4)];
    let key = &key[..cipher.key_len()];
    // No key is all zero.
    let Ok(ours) = AeadKey::new(cipher, key) else { return };

    let (mut expected, mut expected_tag) = (text.to_vec(), [0; TAG_LEN]);
    LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap())
        .seal_in_place_scatter(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut expected,
            &[],
            &mut expected_tag,
        )
        .unwrap();
    let (mut sealed, mut tag) = (vec![0; text.len()], [0; TAG_LEN]);
    ours.seal(nonce, aad, text, &mut sealed, &mut tag).unwrap();
    assert_eq!((&sealed, tag), (&expected, expected_tag), "{cipher}");
    let mut in_place = text.to_vec();
    ours.seal_in_place(nonce, aad, &mut in_place, &mut tag).unwrap();
    assert_eq!((&in_place, tag), (&expected, expected_tag), "{cipher}");
    let mut opened = vec![0; text.len()];
    assert_eq!(ours.open(nonce, aad, &sealed, &tag, &mut opened), Ok(()), "{cipher}");
    assert_eq!(opened, text, "{cipher}");

    let bit = 1 << (place % 8);
    match sealed.len() {
        0 => tag[usize::from(place) % TAG_LEN] ^= bit,
        len => sealed[usize::from(place) * 7 % len] ^= bit,
    }
    assert_eq!(ours.open(nonce, aad, &sealed, &tag, &mut opened), Err(OpenError), "{cipher}");
    assert!(opened.iter().all(|&byte| byte == 0), "{cipher}");
}

struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, _: Event) {}
}

fn peer_id() -> PeerId {
    PeerId::new(7).unwrap()
}

fn end(format: DataFormat, framing: Framing, fragment: Option<u16>, out: u8, into: u8) -> PeerTable {
    let table = PeerTable::new(TableConfig { mode: Mode::P2p, allow_none_cipher: true }, Box::new(NoEvents));
    let peer = PeerConfig {
        id: peer_id(),
        tx_id: None,
        transport: TransportId(0),
        remote: Some("192.0.2.1:1194".parse().unwrap()),
        local: None,
        vpn: VpnAddrs::default(),
        framing,
        fragment,
    };
    table.peer_new(&peer, Some(Protocol::Udp), Timestamp::default()).unwrap();
    let direction = |byte| KeyDirection { cipher_key: vec![byte; 32], nonce_tail: [byte; 8] };
    let key = KeyConfig {
        key_id: KeyId::FIRST,
        cipher: CipherAlg::AesGcm,
        format,
        key_len: 32,
        encrypt: direction(out),
        decrypt: direction(into),
    };
    table.key_new(peer_id(), KeySlot::Primary, &key).unwrap();
    table
        .peer_set(
            peer_id(),
            &ovpn_dco::PeerUpdate { mss: Some(1000), ..Default::default() },
            Timestamp::default(),
        )
        .unwrap();
    table
}

/// Cuts the input into pieces, each preceded by its length (one byte; 255 takes all that is left).
fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, rest) = data.split_first()?;
        let len = if len == 255 { rest.len() } else { usize::from(len).min(rest.len()) };
        let (piece, rest) = rest.split_at(len);
        data = rest;
        Some(piece)
    })
}

/// Packets as they come from outside: raw ones, and ones that are authentic whatever they hold, so that the parsers
/// behind the authentication are reached.
pub fn decrypt(data: &[u8]) {
    let [choice, data @ ..] = data else { return };
    let format = [DataFormat::V2, DataFormat::V1, DataFormat::Epoch][usize::from(choice & 3) % 3];
    let framing = [Framing::None, Framing::Lzo, Framing::Swap, Framing::V2][usize::from(choice >> 2 & 3)];
    let fragment = (choice & 0x20 != 0).then_some(1172);
    let receiver = end(format, framing, fragment, 1, 2);
    // The sender adds no framing and no fragment header: the input is both.
    let sender = end(format, Framing::None, None, 2, 1);
    let from = Source { remote: "192.0.2.1:1194".parse().unwrap(), local: None };
    let (to, back) = (receiver.peer(peer_id()).unwrap(), sender.peer(peer_id()).unwrap());
    let mut sealed = vec![0; 66_000];
    let mut out = vec![0; 66_000];
    let room = if choice & 0x10 == 0 { out.len() } else { data.len() };
    for (n, piece) in pieces(data).enumerate() {
        let tables = receiver.read();
        let now = Timestamp::from_millis(n as u64 * 1000);
        let packet = if piece.first().is_some_and(|byte| byte & 1 == 0) {
            &piece[1..]
        } else {
            let Ok(len) = sender.read().tx(&back, now).seal(piece.get(1..).unwrap_or(&[]), &mut sealed)
            else {
                continue;
            };
            &sealed[..len]
        };
        // Packets that stay incomplete are counted when their place is taken, beside the packet that takes it.
        let dropped = || receiver.drops().total() - receiver.drops().get(DropReason::MissingFragments);
        let before = (dropped(), to.info().stats.link.rx_packets);
        let opened = tables.rx(&to, now).open(packet, Some(&from), &mut out[..room]);
        let after = (dropped(), to.info().stats.link.rx_packets);
        assert_eq!(after, (before.0 + u64::from(opened.is_err()), before.1 + 1));
        if let Ok(opened) = opened {
            assert!(opened.len() <= room);
            assert_eq!(opened.kind() == Kind::Data, !opened.is_empty());
        }
    }
}

/// A TCP stream in pieces of any size, against cutting it in one go: the control plane's reader and the engine's.
pub fn tcp_framing(data: &[u8]) {
    engine_framing(data);
    const MAX: usize = 300;
    let mut expected: Vec<&[u8]> = Vec::new();
    let mut broken = false;
    let stream: Vec<u8> = pieces(data).flatten().copied().collect();
    let mut rest = &stream[..];
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        if length == 0 || length > MAX {
            broken = true;
            break;
        }
        let Some((packet, after)) = after.split_at_checked(length) else { break };
        expected.push(packet);
        rest = after;
    }

    let mut reader = PacketReader::new(MAX);
    let mut got = Vec::new();
    'stream: for mut piece in pieces(data) {
        while !piece.is_empty() {
            let space = reader.space();
            let count = piece.len().min(space.len());
            assert!(count > 0, "no space although no packet waits");
            space[..count].copy_from_slice(&piece[..count]);
            reader.filled(count);
            piece = &piece[count..];
            loop {
                match reader.next_packet() {
                    Ok(Some(packet)) => got.push(packet.to_vec()),
                    Ok(None) => break,
                    Err(_) => {
                        assert!(broken);
                        break 'stream;
                    }
                }
            }
        }
    }
    assert_eq!(got, expected);
}

/// As the engine's worker does: what is not whole is kept for the next read. Packets of one to three bytes break it.
fn engine_framing(data: &[u8]) {
    let stream: Vec<u8> = pieces(data).flatten().copied().collect();
    let (mut expected, mut broken, mut rest) = (Vec::new(), false, &stream[..]);
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        broken = length < 4;
        let Some((packet, after)) = after.split_at_checked(length).filter(|_| !broken) else { break };
        expected.push(packet.to_vec());
        rest = after;
    }
    let (mut partial, mut got) = (Vec::new(), Vec::new());
    for piece in pieces(data) {
        partial.extend_from_slice(piece);
        let used = frames(&partial, |packet| {
            got.push(packet.to_vec());
            Ok(())
        });
        match used {
            Ok(used) => drop(partial.drain(..used)),
            Err(why) => {
                assert!(broken && why == BadFrame::Length);
                assert_eq!(got, expected);
                return;
            }
        }
    }
    assert!(!broken);
    assert_eq!((got, &partial[..]), (expected, rest));
}

/// Any offload header on any packet: nothing is lost, nothing invented.
pub fn gso_split(data: &[u8]) {
    let Some(hdr) = VnetHdr::parse(data) else { return };
    let mut packet = data[VNET_HDR_LEN..].to_vec();
    let len = packet.len();
    let (mut count, mut bytes) = (0, 0);
    match gso::split(&hdr, &mut packet, |segment| {
        assert!(segment.len() <= len);
        count += 1;
        bytes += segment.len();
        segment.fill(0xAA);
    }) {
        Ok(segments) => {
            assert_eq!(segments, count);
            assert!(bytes >= len, "every byte went out");
        }
        Err(gso::BadOffload) => assert_eq!(count, 0),
    }
}

/// Packets of a few flows, some damaged, some raw: merged and cut again they are what they were.
pub fn gro_coalesce(data: &[u8]) {
    let [choice, data @ ..] = data else { return };
    let mut sequence = [100u32; 8];
    let packets: Vec<Vec<u8>> = pieces(data).map(|piece| make_packet(piece, &mut sequence)).collect();
    let (mut arena, mut places) = (Vec::new(), Vec::new());
    for packet in &packets {
        places.push((arena.len(), packet.len()));
        arena.extend(packet);
    }
    let mut coalescer = Coalescer::new(choice & 1 != 0, choice & 2 != 0);
    for (at, len) in places {
        coalescer.push(&arena, at, len);
    }
    let refuse = choice & 4 != 0;
    let mut out: Vec<Vec<u8>> = Vec::new();
    coalescer.drain(&mut arena, |hdr, count, slices| {
        let frame: Vec<u8> = slices.iter().flat_map(|slice: &IoSlice<'_>| slice.iter().copied()).collect();
        assert_eq!(VnetHdr::parse(&frame), Some(*hdr));
        if count > 1 && refuse {
            return Err(Refused);
        }
        let mut packet = frame[VNET_HDR_LEN..].to_vec();
        assert!(packet.len() <= 65_535 || count == 1);
        let before = out.len();
        if count == 1 {
            out.push(packet);
        } else {
            gso::split(hdr, &mut packet, |segment| out.push(segment.to_vec())).unwrap();
        }
        assert_eq!(out.len() - before, count, "a frame is as many packets as it says");
        Ok(())
    });
    assert_eq!(out.len(), packets.len());
    // Flows may overtake each other, packets of a flow not; ids of unfragmentable IPv4 packets mean nothing.
    for flow in 0..=8 {
        let of = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
            all.iter().filter(|packet| flow_of(packet) == flow).map(|packet| without_id(packet)).collect()
        };
        assert_eq!(of(&out), of(&packets), "flow {flow}");
    }
}

/// The flow that [`make_packet`] put a packet into; 8 is none.
fn flow_of(packet: &[u8]) -> usize {
    match packet {
        [0x45, rest @ ..] if rest.len() >= 23 && matches!(rest[8], 6 | 17) => usize::from(rest[20] & 7),
        _ => 8,
    }
}

fn without_id(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() >= 24 && packet[0] == 0x45 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// Turns eight bytes of input into a TCP or UDP packet of one of eight flows; shorter ones stay as they are.
fn make_packet(piece: &[u8], sequence: &mut [u32; 8]) -> Vec<u8> {
    let Some((&[flow, flags, size, kind, fill, damage, tos, id], tail)) = piece.split_first_chunk::<8>()
    else {
        return piece.to_vec();
    };
    let flow = usize::from(flow & 7);
    let payload = usize::from(size) * if kind & 8 != 0 { 6 } else { 1 };
    let tcp = flow < 6;
    let transport = if tcp { 20 } else { 8 };
    let total = 20 + transport + payload;
    let mut packet = vec![0x45, tos & 3, 0, 0, 0, id & 3, 0x40, 0, 64, if tcp { 6 } else { 17 }, 0, 0];
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, flow as u8, 0, 80]);
    packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    let checksum = Sum::default().bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&checksum);
    packet.resize(20 + transport, 0);
    if tcp {
        let gap = if kind & 1 != 0 { u32::from(damage) } else { 0 };
        let at = sequence[flow].wrapping_add(gap);
        sequence[flow] = at.wrapping_add(payload as u32);
        packet[24..28].copy_from_slice(&at.to_be_bytes());
        packet[32] = 0x50;
        packet[33] = if kind & 2 != 0 { flags } else { 0x10 | flags & 8 };
    } else {
        packet[24..26].copy_from_slice(&((8 + payload) as u16).to_be_bytes());
    }
    packet.extend((0..payload).map(|n| fill.wrapping_add(n as u8)));
    for (byte, tail) in packet.iter_mut().skip(20 + transport).zip(tail) {
        *byte = *tail;
    }
    let at = 20 + if tcp { 16 } else { 6 };
    let sum = pseudo_header(&packet, packet[9], total - 20).bytes(&packet[20..]);
    let checksum = if tcp { sum.checksum() } else { sum.udp_checksum() };
    packet[at..at + 2].copy_from_slice(&checksum);
    if kind & 4 != 0 {
        let at = 24 + usize::from(damage) % (total - 24);
        packet[at] ^= 0x10;
    }
    packet
}

/// LZO streams: bounded, whatever they say; and every buffer gives the same result or none.
pub fn lzo(data: &[u8]) {
    static LARGE: OnceLock<usize> = OnceLock::new();
    let large = *LARGE.get_or_init(|| 65_535);
    let mut out = vec![0; large];
    if let Ok(len) = lzo1x::decompress(data, &mut out) {
        assert!(len <= large);
        let mut exact = vec![0; len];
        assert_eq!(lzo1x::decompress(data, &mut exact), Ok(len));
        assert_eq!(exact, out[..len]);
        if len > 0 {
            assert!(lzo1x::decompress(data, &mut exact[..len - 1]).is_err());
        }
    }
}

/// Configuration text: no panic, and quoting is undone by the lexer.
pub fn config_lexer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for line in text.lines() {
        if let Ok(tokens) = ovpn_config::lexer::tokens(line) {
            for token in tokens {
                let quoted = ovpn_config::lexer::quote(&token.text);
                let again = ovpn_config::lexer::tokens(&quoted).unwrap();
                assert_eq!(again.len(), 1, "{quoted}");
                assert_eq!(again[0].text, token.text);
            }
        }
    }
}
