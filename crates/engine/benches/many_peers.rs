//! What many senders cost the engine beside one: a server's engine alone, without processes and programs of clients.
//!
//! ```text
//! cargo bench -p ovpn-engine --bench many_peers -- [PEERS [ROUNDS [SECONDS]]]
//!
//!   one thread seals in turn for each peer and sends ──a cable──▶ the server's engine ──▶ a device without a reader
//! ```
//!
//! Needs root, `ethtool` and two cores. Datagrams travel one by one, in trains of 16 of one sender. What is carried
//! shows what the sender's core can do as well, as it also runs the kernel's receiving path up to the socket; the
//! processor time is that of the engine's threads alone: `recvmmsg`, opening, merging, `writev`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket as Std};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ovpn_dco::{
    CipherAlg, DataFormat, DataPlane, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig,
    PeerId, Protocol, SocketSource, TransportId, VpnAddrs,
};
use ovpn_engine::offload::checksum::{Sum, pseudo_header};
use ovpn_engine::peer::EventSink;
use ovpn_engine::peer_table::{PeerTable, TableConfig};
use ovpn_engine::time::Timestamp;
use ovpn_engine::{Engine, EngineConfig};
use ovpn_sys::udp::{Outgoing, Path, UdpSocket};
use ovpn_testkit::Pair;

/// Length of an inner packet, bytes.
const INNER: usize = 1400;
/// Packets of one sender in a row.
const TRAIN: usize = 16;
const SERVER: &str = "10.10.1.1:1194";

struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, _: ovpn_dco::Event) {}
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let peers = numbers.next().unwrap_or(100).clamp(1, 10_000) as u32;
    let rounds = numbers.next().unwrap_or(7);
    let time = Duration::from_secs(numbers.next().unwrap_or(2));
    let (mut carried, mut cost) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let [one, many] = [1, peers].map(|peers| flood(peers, time));
        println!(
            "round {round}: one sender {:.0} Mbit/s, {:.0} ns a packet; {peers} senders {:.0} Mbit/s, {:.0} ns",
            one.megabits, one.nanos, many.megabits, many.nanos
        );
        carried.push(many.megabits / one.megabits);
        cost.push(many.nanos / one.nanos);
    }
    println!(
        "{peers} senders ÷ one: carried {}, processor time of the engine {}",
        spread(carried),
        spread(cost)
    );
}

struct Carried {
    /// Inner packets that the engine opened, Mbit/s.
    megabits: f64,
    /// Processor time of its threads for each.
    nanos: f64,
}

fn flood(peers: u32, time: Duration) -> Carried {
    let pair = Pair::new("flood").unwrap();
    for ns in [&pair.left, &pair.right] {
        ns.run("ethtool", &["-K", "veth1", "tx-udp-segmentation", "off", "gro", "off"]).unwrap();
    }
    let engine =
        pair.left.enter(|| Engine::open(EngineConfig::new("tun0", Mode::MultiPeer))).unwrap().unwrap();
    pair.left.ip("addr add 10.8.0.1/16 dev tun0").unwrap();
    pair.left.ip("link set tun0 up").unwrap();
    let socket = pair.left.enter(|| Std::bind(SERVER)).unwrap().unwrap();
    let transport = engine.transport_open(SocketSource::Socket(socket.into())).unwrap();
    let table =
        PeerTable::new(TableConfig { mode: Mode::MultiPeer, allow_none_cipher: false }, Box::new(NoEvents));
    let mut sockets = Vec::new();
    for number in 1..=peers {
        let socket = pair.right.enter(|| Std::bind("10.10.1.2:0")).unwrap().unwrap();
        let here = config(number, transport.id, socket.local_addr().unwrap());
        engine.peer_new(&here).unwrap();
        engine.key_new(here.id, KeySlot::Primary, &key(1, 2)).unwrap();
        let there = config(number, TransportId(0), SERVER.parse().unwrap());
        table.peer_new(&there, Some(Protocol::Udp), Timestamp::default()).unwrap();
        table.key_new(there.id, KeySlot::Primary, &key(2, 1)).unwrap();
        sockets.push(UdpSocket::new(socket.into()).unwrap());
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| send(&table, &sockets, &over));
        std::thread::sleep(Duration::from_secs(1));
        let (packets, used, start) = (opened(&engine), processor_time(), Instant::now());
        std::thread::sleep(time);
        let packets = (opened(&engine) - packets) as f64;
        let (used, took) = ((processor_time() - used).as_secs_f64(), start.elapsed().as_secs_f64());
        over.store(true, Ordering::Relaxed);
        assert!(packets > 0.0, "nothing arrived: {:?}", engine.drops());
        Carried { megabits: packets * INNER as f64 * 8e-6 / took, nanos: used * 1e9 / packets }
    })
}

fn send(table: &PeerTable, sockets: &[UdpSocket], over: &AtomicBool) {
    let mut train = vec![0; TRAIN * (INNER + 100)];
    let path = Path { remote: SERVER.parse().unwrap(), local: None };
    while !over.load(Ordering::Relaxed) {
        for (number, socket) in (1..).zip(sockets) {
            let inner = inner(address(number));
            let tables = table.read();
            let mut tx = tables.tx(tables.get(PeerId::new(number).unwrap()).unwrap(), Timestamp::default());
            let (mut used, mut len) = (0, 0);
            for _ in 0..TRAIN {
                len = tx.seal(&inner, &mut train[used..]).unwrap();
                used += len;
            }
            socket.send(&[Outgoing { data: &train[..used], segment: len as u16, path }]).unwrap();
        }
    }
}

fn config(number: u32, transport: TransportId, remote: SocketAddr) -> PeerConfig {
    PeerConfig {
        id: PeerId::new(number).unwrap(),
        tx_id: None,
        transport,
        remote: Some(remote),
        local: None,
        vpn: VpnAddrs { v4: Some(address(number)), v6: None },
        framing: Framing::None,
        fragment: None,
    }
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0A08_0100 + number)
}

fn key(out: u8, into: u8) -> KeyConfig {
    let direction = |byte| KeyDirection { cipher_key: vec![byte; 32], nonce_tail: [byte; 8] };
    KeyConfig {
        key_id: KeyId::FIRST,
        cipher: CipherAlg::AesGcm,
        format: DataFormat::V2,
        key_len: 32,
        encrypt: direction(out),
        decrypt: direction(into),
    }
}

/// A UDP packet to nowhere: the kernel drops it when it has looked for a route.
fn inner(from: Ipv4Addr) -> Vec<u8> {
    let mut inner = vec![0; INNER];
    let udp_len = INNER as u16 - 20;
    inner[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 198, 51, 100, 1]);
    inner[2..4].copy_from_slice(&(INNER as u16).to_be_bytes());
    inner[12..16].copy_from_slice(&from.octets());
    let checksum = Sum::default().bytes(&inner[..20]).checksum();
    inner[10..12].copy_from_slice(&checksum);
    inner[20..24].copy_from_slice(&[0x13, 0x88, 0x13, 0x89]);
    inner[24..26].copy_from_slice(&udp_len.to_be_bytes());
    let checksum = pseudo_header(&inner, 17, udp_len.into()).bytes(&inner[20..]).checksum();
    inner[26..28].copy_from_slice(&checksum);
    inner
}

fn opened(engine: &Engine) -> u64 {
    engine.peer_dump().unwrap().iter().map(|peer| peer.stats.vpn.rx_packets).sum()
}

/// Time of the engine's threads, which are named after the device (proc(5)).
fn processor_time() -> Duration {
    let nanos = |task: std::fs::DirEntry| -> Option<u64> {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        name.starts_with("tun0-").then(|| times.split(' ').next()?.parse().ok())?
    };
    Duration::from_nanos(std::fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(nanos).sum())
}

fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let [least, .., most] = ratios.as_slice() else { return format!("{ratios:.2?}") };
    format!("{:.2} ({least:.2}–{most:.2})", ratios[ratios.len() / 2])
}
