//! Instructions of each step of a packet's way, held to `instructions.txt` within 3 %.
//!
//! `cargo bench -p ovpn-engine --bench instructions`; needs valgrind.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::ExitCode;

use ovpn_dco::{
    CipherAlg, DataFormat, Event, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig, PeerId,
    Protocol, TransportId, VpnAddrs,
};
use ovpn_engine::offload::gro_coalesce::Coalescer;
use ovpn_engine::offload::gso_split::split;
use ovpn_engine::peer::{EventSink, Source};
use ovpn_engine::peer_table::{PeerTable, TableConfig};
use ovpn_engine::pktid::ReplayWindow;
use ovpn_engine::route::{NextHop, Routes};
use ovpn_engine::time::Timestamp;
use ovpn_sys::tun::VnetHdr;
use ovpn_testkit::{Case, instructions};

/// How often a step is done.
const TIMES: u32 = 200;

const fn case(name: &'static str, run: fn(u32)) -> Case {
    Case { name, times: TIMES, run }
}

const CASES: &[Case] = &[
    case("seal 64 bytes, AES-256-GCM", |n| seal(CipherAlg::AesGcm, DataFormat::V2, 64, n)),
    case("seal 1400 bytes, AES-256-GCM", |n| seal(CipherAlg::AesGcm, DataFormat::V2, 1400, n)),
    case("seal 1400 bytes, AES-256-GCM, epoch", |n| seal(CipherAlg::AesGcm, DataFormat::Epoch, 1400, n)),
    case("seal 1400 bytes, ChaCha20-Poly1305", |n| {
        seal(CipherAlg::ChaCha20Poly1305, DataFormat::V2, 1400, n)
    }),
    case("open 64 bytes, AES-256-GCM", |n| open(CipherAlg::AesGcm, DataFormat::V2, 64, n)),
    case("open 1400 bytes, AES-256-GCM", |n| open(CipherAlg::AesGcm, DataFormat::V2, 1400, n)),
    case("open 1400 bytes, AES-256-GCM, epoch", |n| open(CipherAlg::AesGcm, DataFormat::Epoch, 1400, n)),
    case("open 1400 bytes, ChaCha20-Poly1305", |n| {
        open(CipherAlg::ChaCha20Poly1305, DataFormat::V2, 1400, n)
    }),
    case("replay window, in order", replay),
    case("GSO split, 46 segments", gso_split),
    case("GRO coalesce, 46 segments", gro_coalesce),
    case("route look-up among 10256", route),
];

fn main() -> ExitCode {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    instructions(&file, 0.03, CASES)
}

struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, _: Event) {}
}

const HOME: &str = "192.0.2.1:1194";

fn id() -> PeerId {
    PeerId::new(3).unwrap()
}

fn table(cipher: CipherAlg, format: DataFormat, out: u8, into: u8) -> PeerTable {
    let config = TableConfig { mode: Mode::MultiPeer, allow_none_cipher: false };
    let table = PeerTable::new(config, Box::new(NoEvents));
    let peer = PeerConfig {
        id: id(),
        tx_id: None,
        transport: TransportId(0),
        remote: HOME.parse().ok(),
        local: None,
        vpn: VpnAddrs { v4: Some(Ipv4Addr::new(10, 8, 0, 2)), v6: None },
        framing: Framing::None,
        fragment: None,
    };
    let direction = |byte| KeyDirection { cipher_key: vec![byte; 32], nonce_tail: [byte; 8] };
    let (encrypt, decrypt) = (direction(out), direction(into));
    let key = KeyConfig { key_id: KeyId::FIRST, cipher, format, key_len: 32, encrypt, decrypt };
    table.peer_new(&peer, Some(Protocol::Udp), Timestamp::default()).unwrap();
    table.key_new(id(), KeySlot::Primary, &key).unwrap();
    table.route_insert("10.8.0.0/24".parse().unwrap(), NextHop::OnLink);
    table
}

fn inner(len: usize) -> Vec<u8> {
    let mut inner = vec![0u8; len];
    inner[0] = 0x45;
    inner[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    inner[12..20].copy_from_slice(&[10, 8, 0, 2, 10, 8, 0, 2]);
    inner
}

/// Seals one packet after the other: look-up, lock and all.
fn seal(cipher: CipherAlg, format: DataFormat, len: usize, times: u32) {
    let (table, inner, mut packet) = (table(cipher, format, 1, 2), inner(len), [0u8; 1500]);
    for _ in 0..times {
        let tables = table.read();
        let mut tx = tables.tx(tables.receiver(black_box(&inner)).unwrap(), Timestamp::default());
        black_box(tx.seal(&inner, &mut packet).unwrap());
    }
}

fn open(cipher: CipherAlg, format: DataFormat, len: usize, times: u32) {
    let (sender, receiver) = (table(cipher, format, 1, 2), table(cipher, format, 2, 1));
    let (inner, mut out) = (inner(len), [0u8; 1500]);
    let mut packets = vec![[0u8; 1500]; TIMES as usize];
    let mut sealed = 0;
    for packet in &mut packets {
        let tables = sender.read();
        sealed = tables.tx(tables.get(id()).unwrap(), Timestamp::default()).seal(&inner, packet).unwrap();
    }
    let from = Source { remote: HOME.parse().unwrap(), local: None };
    for packet in packets.iter().take(times as usize) {
        let tables = receiver.read();
        let mut rx = tables.rx(tables.get(id()).unwrap(), Timestamp::default());
        black_box(rx.open(black_box(&packet[..sealed]), Some(&from), &mut out).unwrap());
    }
}

fn replay(times: u32) {
    let mut window = ReplayWindow::new();
    for id in 1..=times {
        black_box(window.accept(black_box(id.into()), Timestamp::default())).unwrap();
    }
}

const MSS: usize = 1348;
const SEGMENTS: usize = 46;

/// A TCP super-packet as the kernel hands it out.
fn super_packet() -> (VnetHdr, Vec<u8>) {
    let mut packet = vec![0x5A; 52 + SEGMENTS * MSS];
    packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 8, 0, 1, 10, 8, 0, 2]);
    packet[20..40]
        .copy_from_slice(&[0x13, 0x89, 1, 187, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10, 1, 0, 0, 0, 0, 0]);
    packet[40..52].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1]);
    let hdr = VnetHdr {
        flags: VnetHdr::NEEDS_CSUM,
        gso_type: VnetHdr::GSO_TCPV4,
        hdr_len: 52,
        gso_size: MSS as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (hdr, packet)
}

fn gso_split(times: u32) {
    let (hdr, fresh) = super_packet();
    let mut packet = fresh.clone();
    for _ in 0..times {
        // Its headers are written over.
        packet[..52].copy_from_slice(&fresh[..52]);
        split(&hdr, &mut packet, |segment| _ = black_box(segment.len())).unwrap();
    }
}

fn gro_coalesce(times: u32) {
    let (hdr, mut packet) = super_packet();
    let (mut arena, mut places) = (Vec::new(), Vec::new());
    split(&hdr, &mut packet, |segment| {
        places.push((arena.len(), segment.len()));
        arena.extend_from_slice(segment);
    })
    .unwrap();
    let fresh = arena.clone();
    let mut coalescer = Coalescer::new(true, true);
    for _ in 0..times {
        for &(at, len) in &places {
            arena[at..at + 52].copy_from_slice(&fresh[at..at + 52]);
            coalescer.push(&arena, at, len);
        }
        coalescer.drain(&mut arena, |_, count, _| {
            assert_eq!(count, SEGMENTS);
            Ok(())
        });
    }
}

fn route(times: u32) {
    let via = |n: u32| NextHop::Via(Ipv4Addr::from_bits(0x0A08_0000 + n).into());
    let mut routes: Routes =
        (0..256).map(|n: u32| (format!("172.16.{n}.0/24").parse().unwrap(), via(n))).collect();
    for n in 0..10_000u32 {
        routes.insert(ipnet::Ipv4Net::from(Ipv4Addr::from_bits(0x0A09_0000 + n)).into(), via(n));
    }
    for n in 0..times {
        let to = IpAddr::V4(Ipv4Addr::from_bits(0xAC10_0000 + n.wrapping_mul(7919) % 65_536));
        black_box(routes.next_hop(black_box(to)));
    }
}
