//! What many clients that send cost a server's engine beside one: the engine alone, without a process for each client.
//!
//! ```text
//! cargo bench -p ovpn-engine --bench many_peers -- [PEERS [ROUNDS [SECONDS [packets|nic|gso]]]]
//!
//!   a thread that gives ─TCP─▶ the clients' engine ──a cable──▶ the server's engine ─TCP─▶ a thread that takes
//!                        a device, PEERS sockets, each a peer          one socket, a device
//! ```
//!
//! Needs root, `ethtool` and two cores. The clients are the peers of one engine, which has a socket for each: to the server's
//! they are so many clients, with an address, a key and a TCP stream each, but they share one thread, as one client's
//! streams do. In each round come one client's stream, so many streams of one client, and a stream of each client. The
//! processor time is that of the server's engine alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use ovpn_dco::{
    CipherAlg, DataFormat, DataPlane, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig,
    PeerId, SocketSource, TransportId, VpnAddrs,
};
use ovpn_engine::{Engine, EngineConfig};
use ovpn_testkit::{Carried, Netns, Pair, Streams, spread};

const SERVER: &str = "10.10.1.1:1194";
/// Devices, and so threads, of the two engines.
const SERVERS: &str = "server0";
const CLIENTS: &str = "clients0";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number = |at: usize, or: u64| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(or);
    let peers = number(0, 100).clamp(1, 10_000) as u32;
    let time = Duration::from_secs(number(2, 2));
    let wire = words.get(3).map_or("gso", String::as_str);
    let (mut of_one, mut of_streams, mut cost) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..number(1, 7) {
        let one = carry(1, 1, time, wire);
        let streams = carry(1, peers, time, wire);
        let many = carry(peers, 1, time, wire);
        println!("round {round}: one client {one}, {peers} streams of it {streams}, {peers} clients {many}");
        of_one.push(many.megabits / one.megabits);
        of_streams.push(many.megabits / streams.megabits);
        cost.push(many.cost / one.cost);
    }
    println!("{peers} clients ÷ one: {}", spread(of_one));
    println!("{peers} clients ÷ one client's {peers} streams: {}", spread(of_streams));
    println!("processor time of the server's engine for each byte, {peers} clients ÷ one: {}", spread(cost));
}

/// Carries `streams` streams of each of `peers` clients.
fn carry(peers: u32, streams: u32, time: Duration, wire: &str) -> Carried {
    let pair = Pair::new("peers").unwrap();
    for ns in [&pair.left, &pair.right] {
        shape(ns, wire);
    }
    let server = open(&pair.left, SERVERS, 9, peers);
    let clients = open(&pair.right, CLIENTS, 8, peers);
    let socket = pair.left.enter(|| UdpSocket::bind(SERVER)).unwrap().unwrap();
    let transport = server.transport_open(SocketSource::Socket(socket.into())).unwrap();
    let mut links = Vec::new();
    let mut carried = Streams::to(&pair.left).unwrap();
    for number in 1..=peers {
        let socket = pair.right.enter(|| UdpSocket::bind("10.10.1.2:0")).unwrap().unwrap();
        let from = socket.local_addr().unwrap();
        add(&server, peer(number, transport.id, from, address(8, number)), key(1, 2));
        let link = clients.transport_open(SocketSource::Socket(socket.into())).unwrap();
        let there = address(9, number);
        add(&clients, peer(number, link.id, SERVER.parse().unwrap(), there), key(2, 1));
        links.push(link);
        carried.add(&pair.right, there, streams).unwrap();
    }
    carried.carry(time, || Ok(processor_time())).unwrap()
}

/// Cuts what goes through the cable as the tunnel benchmark's wires do.
fn shape(ns: &Netns, wire: &str) {
    let gro = match wire {
        "gso" => return,
        "nic" => "on",
        "packets" => "off",
        other => panic!("no such wire: {other}"),
    };
    ns.run("ethtool", &["-K", "veth1", "tx-udp-segmentation", "off", "tso", "off", "gso", "off", "gro", gro])
        .unwrap();
}

/// An engine whose device has an address of `net` for each peer.
fn open(ns: &Netns, device: &str, net: u8, peers: u32) -> Engine {
    let engine = ns.enter(|| Engine::open(EngineConfig::new(device, Mode::MultiPeer))).unwrap().unwrap();
    ns.ip(&format!("link set {device} up")).unwrap();
    for number in 1..=peers {
        let (here, there) = (address(net, number), address(17 - net, number));
        ns.ip(&format!("addr add {here} peer {there} dev {device}")).unwrap();
    }
    engine
}

fn add(engine: &Engine, peer: PeerConfig, key: KeyConfig) {
    engine.peer_new(&peer).unwrap();
    engine.key_new(peer.id, KeySlot::Primary, &key).unwrap();
}

fn peer(number: u32, transport: TransportId, remote: SocketAddr, vpn: Ipv4Addr) -> PeerConfig {
    PeerConfig {
        id: PeerId::new(number).unwrap(),
        tx_id: None,
        transport,
        remote: Some(remote),
        local: None,
        vpn: VpnAddrs { v4: Some(vpn), v6: None },
        framing: Framing::None,
        fragment: None,
    }
}

fn address(net: u8, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be_bytes([10, net, 0, 0]) + number)
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

/// Time of the threads of the server's engine, which are named after the device (proc(5)).
fn processor_time() -> Duration {
    let nanos = |task: std::fs::DirEntry| -> Option<u64> {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        name.starts_with(SERVERS).then(|| times.split(' ').next()?.parse().ok())?
    };
    Duration::from_nanos(std::fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(nanos).sum())
}
