//! One packet's way through the data plane's core: seal, open, replay window, routing.
//!
//! `cargo bench -p ovpn-engine --bench packet`

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ovpn_dco::{
    CipherAlg, DataFormat, Event, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig, PeerId,
    Protocol, TransportId, VpnAddrs,
};
use ovpn_engine::drop_reason::DropReason;
use ovpn_engine::peer::{EventSink, Source};
use ovpn_engine::peer_table::{PeerTable, TableConfig};
use ovpn_engine::pktid::ReplayWindow;
use ovpn_engine::route::{NextHop, Routes};
use ovpn_engine::time::Timestamp;

struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, _: Event) {}
}

const HOME: &str = "192.0.2.1:1194";
const BATCH: usize = 64;

fn key(cipher: CipherAlg, key_len: u8, format: DataFormat, out: u8, into: u8) -> KeyConfig {
    let length = if format == DataFormat::Epoch { 32 } else { usize::from(key_len) };
    let direction = |byte| KeyDirection { cipher_key: vec![byte; length], nonce_tail: [byte; 8] };
    let (encrypt, decrypt) = (direction(out), direction(into));
    KeyConfig { key_id: KeyId::FIRST, cipher, format, key_len, encrypt, decrypt }
}

fn table(key: &KeyConfig) -> PeerTable {
    let config = TableConfig { mode: Mode::MultiPeer, allow_none_cipher: false };
    let table = PeerTable::new(config, Box::new(NoEvents));
    let id = PeerId::new(3).unwrap_or(PeerId::MAX);
    let peer = PeerConfig {
        id,
        tx_id: None,
        transport: TransportId(0),
        remote: HOME.parse().ok(),
        local: None,
        vpn: VpnAddrs { v4: Some(Ipv4Addr::new(10, 8, 0, 2)), v6: None },
        framing: Framing::None,
        fragment: None,
    };
    let made = table
        .peer_new(&peer, Some(Protocol::Udp), Timestamp::default())
        .and_then(|_| table.key_new(id, KeySlot::Primary, key));
    assert_eq!(made, Ok(()));
    table
}

fn inner(len: usize) -> Vec<u8> {
    let mut inner = vec![0u8; len];
    inner[0] = 0x45;
    inner[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    inner[12..20].copy_from_slice(&[10, 8, 0, 2, 10, 8, 0, 2]);
    inner
}

fn seal_and_open(c: &mut Criterion) {
    let from = Source { remote: SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 1194), local: None };
    let cases = [
        ("aes-128-gcm", CipherAlg::AesGcm, 16, DataFormat::V2),
        ("aes-256-gcm", CipherAlg::AesGcm, 32, DataFormat::V2),
        ("aes-256-gcm-epoch", CipherAlg::AesGcm, 32, DataFormat::Epoch),
        ("chacha20-poly1305", CipherAlg::ChaCha20Poly1305, 32, DataFormat::V2),
    ];
    for (name, cipher, key_len, format) in cases {
        let mut group = c.benchmark_group(name);
        for len in [64, 1400] {
            group.throughput(Throughput::Elements(BATCH as u64));
            let inner = inner(len);
            let sender = table(&key(cipher, key_len, format, 1, 2));
            let mut packets = vec![[0u8; 1500]; BATCH];
            let now = Timestamp::default();
            // Batches of 64: lookup, locks and all.
            let seal_batch = |packets: &mut Vec<[u8; 1500]>| {
                let tables = sender.read();
                let Ok(peer) = tables.receiver(&inner) else { return 0 };
                let mut tx = tables.tx(peer, now);
                packets.iter_mut().filter_map(|packet| tx.seal(&inner, packet).ok()).last().unwrap_or(0)
            };
            group.bench_function(format!("seal-{len}"), |b| {
                b.iter(|| seal_batch(black_box(&mut packets)));
            });
            let receiver = table(&key(cipher, key_len, format, 2, 1));
            let mut out = [0u8; 1500];
            group.bench_function(format!("open-{len}"), |b| {
                b.iter_batched(
                    || {
                        let mut packets = vec![[0u8; 1500]; BATCH];
                        let len = seal_batch(&mut packets);
                        (packets, len)
                    },
                    |(packets, len)| {
                        let tables = receiver.read();
                        let Some(peer) = tables.get(PeerId::new(3).unwrap_or(PeerId::MAX)) else { return };
                        let mut rx = tables.rx(peer, now);
                        for packet in &packets {
                            let opened = rx.open(&packet[..len], Some(&from), &mut out);
                            assert!(opened.is_ok());
                        }
                    },
                    criterion::BatchSize::LargeInput,
                );
            });
        }
        group.finish();
    }
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay-window");
    let now = Timestamp::default();
    group.bench_function("in-order", |b| {
        let (mut window, mut id) = (ReplayWindow::new(), 0);
        b.iter(|| {
            id += 1;
            window.accept(black_box(id), now)
        });
    });
    group.bench_function("duplicate", |b| {
        let mut window = ReplayWindow::new();
        assert_eq!(window.accept(1000, now), Ok(()));
        b.iter(|| assert_eq!(window.accept(black_box(1000), now), Err(DropReason::Replayed)));
    });
    group.finish();
}

fn routing(c: &mut Criterion) {
    let via = |n: u32| NextHop::Via(Ipv4Addr::from_bits(0x0A08_0000 + n).into());
    let mut routes: Routes = (0..1000u32)
        .filter_map(|n| Some((format!("172.16.{}.0/24", n % 256).parse().ok()?, via(n))))
        .collect();
    for n in 0..10_000u32 {
        let host = ipnet::Ipv4Net::from(Ipv4Addr::from_bits(0x0A09_0000 + n));
        routes.insert(host.into(), via(n));
    }
    c.bench_function("route/10000 hosts and 256 networks", |b| {
        let mut n = 0u32;
        b.iter(|| {
            n = n.wrapping_add(7919);
            routes.next_hop(black_box(IpAddr::V4(Ipv4Addr::from_bits(0xAC10_0000 + n % 65_536))))
        });
    });
}

criterion_group!(benches, seal_and_open, replay, routing);
criterion_main!(benches);
