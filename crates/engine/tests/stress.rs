//! Two engines under load: what rekeying, many flows, bad input and many peers must not do to the traffic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use ovpn_dco::{
    CipherAlg, DataFormat, DataPlane, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig,
    PeerId, PeerStats, SocketSource, Transport, VpnAddrs,
};
use ovpn_engine::drop_reason::DropReason;
use ovpn_engine::{Engine, EngineConfig, Workers};
use ovpn_testkit::{Netns, Pair, Running, wait_for};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

const REKEYS: u8 = 60;
/// Room in the device for what comes while the processors do other things, packets.
const LONG_QUEUE: u32 = 20_000;
const SENDER: u8 = 0;
const RECEIVER: u8 = 1;

/// Reasons that only a key, or the order of packets, can cause.
const KEYS_FAULT: [DropReason; 7] = [
    DropReason::UnknownKey,
    DropReason::NotAuthentic,
    DropReason::NoKey,
    DropReason::KeyExhausted,
    DropReason::KeyWornOut,
    DropReason::Replayed,
    DropReason::ReplayTooOld,
];

/// Reasons for dropping a packet on its way out, and on its way in.
const OUTWARD: [DropReason; 5] = [
    DropReason::NoKey,
    DropReason::KeyExhausted,
    DropReason::BadOffload,
    DropReason::TransportFull,
    DropReason::SendFailed,
];
const INWARD: [DropReason; 2] = [DropReason::DeviceFull, DropReason::DeviceDown];

struct End {
    engine: Engine,
    _transport: Transport,
}

/// A point-to-point tunnel: 10.8.0.1 on the left, 10.8.0.2 on the right. `queue` frames wait in each device, `buffer`
/// bytes (0: the system's default) in each socket.
fn tunnel(pair: &Pair, workers: Workers, queue: u32, buffer: usize) -> anyhow::Result<[End; 2]> {
    let end = |ns: &Netns, number: u8| -> anyhow::Result<End> {
        let config = EngineConfig { workers, ..EngineConfig::new("tun0", Mode::P2p) };
        let engine = ns.enter(|| Engine::open(config))??;
        let socket = ns.enter(|| UdpSocket::bind((format!("10.10.1.{number}"), 1194)))??;
        if buffer != 0 {
            set_socket_recv_buffer_size_force(&socket, buffer)?;
        }
        let transport = engine.transport_open(SocketSource::Socket(socket.into()))?;
        let remote = format!("10.10.1.{}:1194", 3 - number).parse()?;
        engine.peer_new(&peer(1, &transport, Some(remote), VpnAddrs::default()))?;
        engine.key_new(id(1), KeySlot::Primary, &key(0, number - 1))?;
        // The system then says nothing by itself before the other end is there.
        ns.run("sysctl", &["-qw", "net.ipv6.conf.tun0.disable_ipv6=1"])?;
        ns.ip(&format!("addr add 10.8.0.{number}/24 dev tun0"))?;
        ns.ip(&format!("link set tun0 txqueuelen {queue} up"))?;
        Ok(End { engine, _transport: transport })
    };
    Ok([end(&pair.left, 1)?, end(&pair.right, 2)?])
}

fn id(number: u32) -> PeerId {
    PeerId::new(number).unwrap()
}

fn peer(number: u32, transport: &Transport, remote: Option<SocketAddr>, vpn: VpnAddrs) -> PeerConfig {
    let (id, transport) = (id(number), transport.id);
    PeerConfig {
        id,
        tx_id: None,
        transport,
        remote,
        local: None,
        vpn,
        framing: Framing::None,
        fragment: None,
    }
}

/// The `n`-th key as one side sees it; its id goes 0, 1 … 7, 1 … as in a session.
fn key(n: u8, side: u8) -> KeyConfig {
    let direction = |which: u8| KeyDirection {
        cipher_key: (0..32).map(|at: u8| at.wrapping_mul(7) ^ n ^ (which << 7)).collect(),
        nonce_tail: [n ^ which; 8],
    };
    let key_id = KeyId::new(if n == 0 { 0 } else { (n - 1) % 7 + 1 }).unwrap();
    KeyConfig {
        key_id,
        cipher: CipherAlg::AesGcm,
        format: DataFormat::V2,
        key_len: 32,
        encrypt: direction(side),
        decrypt: direction(1 - side),
    }
}

/// The whole of a rekeying, [`REKEYS`] times: new, swap; the old key is deleted one period later. A packet that was
/// longer on its way than that is lost, whatever the engine does.
fn rekey(ends: &[End; 2], period: Duration) -> anyhow::Result<()> {
    for n in 1..=REKEYS {
        for (end, side) in ends.iter().zip([SENDER, RECEIVER]) {
            end.engine.key_new(id(1), KeySlot::Secondary, &key(n, side))?;
        }
        for end in ends {
            end.engine.key_swap(id(1))?;
        }
        std::thread::sleep(period);
        for end in ends {
            ensure!(end.engine.key_get(id(1), KeySlot::Primary)?.key_id == key(n, 0).key_id);
            end.engine.key_del(id(1), KeySlot::Secondary)?;
        }
    }
    Ok(())
}

fn drops(engine: &Engine, reasons: &[DropReason]) -> u64 {
    engine.drops().iter().filter(|(reason, _)| reasons.contains(reason)).map(|(_, count)| count).sum()
}

/// One direction of numbered datagrams, many flows.
struct Flows {
    pairs: Vec<(UdpSocket, UdpSocket)>,
}

/// What became of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    sent: u64,
    received: u64,
    reordered: u64,
}

impl Flows {
    fn new(from: (&Netns, &str), to: (&Netns, &str), count: u16) -> anyhow::Result<Self> {
        let mut pairs = Vec::new();
        for flow in 0..count {
            let receiver = to.0.enter(|| UdpSocket::bind((to.1, 9000 + flow)))??;
            receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
            // It is the tunnel that is tested, not how fast this test reads.
            set_socket_recv_buffer_size_force(&receiver, 8 << 20)?;
            let sender = from.0.enter(|| UdpSocket::bind((from.1, 20_000 + flow)))??;
            sender.connect((to.1, 9000 + flow))?;
            pairs.push((sender, receiver));
        }
        Ok(Self { pairs })
    }

    /// Sends `burst` datagrams on every flow each `pause` until `stop`, and says what arrived. No more than `window`
    /// are on the way at a time.
    fn run(&self, burst: usize, pause: Duration, window: u64, stop: &AtomicBool) -> Outcome {
        let (done, arrived) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let receivers: Vec<_> = self
                .pairs
                .iter()
                .map(|(_, receiver)| {
                    let (done, arrived) = (&done, &arrived);
                    scope.spawn(move || {
                        let (mut received, mut reordered, mut expected) = (0u64, 0u64, 0u64);
                        let mut buffer = [0; 2048];
                        loop {
                            match receiver.recv(&mut buffer) {
                                Ok(len) => {
                                    let number = u64::from_be_bytes(buffer[..8].try_into().unwrap());
                                    assert_eq!(len, 8 + (number % 1000) as usize);
                                    reordered += u64::from(number < expected);
                                    expected = number + 1;
                                    received += 1;
                                    arrived.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(_) if done.load(Ordering::Acquire) => return (received, reordered),
                                Err(_) => {}
                            }
                        }
                    })
                })
                .collect();
            let mut next = 0u64;
            let mut outcome = Outcome::default();
            let begin = Instant::now();
            let mut turn = 0u32;
            while !stop.load(Ordering::Acquire) {
                if outcome.sent - arrived.load(Ordering::Relaxed) > window {
                    std::thread::sleep(Duration::from_micros(100));
                    continue;
                }
                for _ in 0..burst {
                    let mut packet = vec![0; 8 + (next % 1000) as usize];
                    packet[..8].copy_from_slice(&next.to_be_bytes());
                    for (sender, _) in &self.pairs {
                        sender.send(&packet).unwrap();
                        outcome.sent += 1;
                    }
                    next += 1;
                }
                turn += 1;
                std::thread::sleep((begin + pause * turn).saturating_duration_since(Instant::now()));
            }
            done.store(true, Ordering::Release);
            for receiver in receivers {
                let (received, reordered) = receiver.join().unwrap();
                outcome.received += received;
                outcome.reordered += reordered;
            }
            outcome
        })
    }
}

/// Datagrams both ways at a rate that this tunnel carries without loss: none is lost, none overtakes another.
#[test]
fn rekeying_loses_no_packet() -> anyhow::Result<()> {
    let pair = Pair::new("rekey")?;
    let ends = tunnel(&pair, Workers::Auto, LONG_QUEUE, 0)?;
    let there = Flows::new((&pair.left, "10.8.0.1"), (&pair.right, "10.8.0.2"), 8)?;
    let back = Flows::new((&pair.right, "10.8.0.2"), (&pair.left, "10.8.0.1"), 8)?;
    let stop = AtomicBool::new(false);
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| there.run(1, Duration::from_millis(10), u64::MAX, &stop));
        let other = scope.spawn(|| back.run(1, Duration::from_millis(10), u64::MAX, &stop));
        let result = rekey(&ends, Duration::from_millis(250));
        stop.store(true, Ordering::Release);
        result.map(|()| (one.join().unwrap(), other.join().unwrap()))
    })?;
    for outcome in [one, other] {
        ensure!(outcome.sent > 1000, "{outcome:?}");
        ensure!(outcome.received == outcome.sent && outcome.reordered == 0, "{outcome:?}");
        println!("{outcome:?}");
    }
    for end in &ends {
        ensure!(drops(&end.engine, DropReason::ALL) == drops(&end.engine, &[DropReason::NoRoute]));
    }
    Ok(())
}

/// TCP one way as fast as it goes.
struct Load {
    server: Running,
    client: Running,
}

impl Load {
    fn start(pair: &Pair) -> anyhow::Result<Self> {
        let server = Running::start(pair.right.command("iperf3").args(["-s", "-1", "-B", "10.8.0.2"]))?;
        wait_for("iperf3", Duration::from_secs(10), || {
            let listening = pair.right.run("ss", &["-Hltn"]).ok()?;
            listening.contains(":5201").then_some(())
        })?;
        let options = "-c 10.8.0.2 -t 600 -i 1 -P 2 --forceflush";
        let mut client = Running::start(pair.left.command("iperf3").args(options.split(' ')))?;
        client.wait_for_text("[SUM]", Duration::from_secs(20))?;
        Ok(Self { server, client })
    }

    /// Stops it; what it told, second by second.
    fn end(mut self) -> anyhow::Result<Vec<String>> {
        ensure!(self.client.ended()?.is_none(), "{}", self.client.stderr());
        let text = self.client.stdout();
        self.client.kill();
        self.server.kill();
        Ok(text.lines().filter(|line| line.contains("[SUM]")).map(str::to_owned).collect())
    }
}

/// Packets of both channels' ends that did not arrive, exactly: what one engine sent and the other did not get.
fn lost_between(from: &End, to: &End) -> anyhow::Result<u64> {
    let lost = || -> anyhow::Result<u64> {
        let received = to.engine.peer_get(id(1))?.stats.link.rx_packets;
        Ok(from.engine.peer_get(id(1))?.stats.link.tx_packets.saturating_sub(received))
    };
    // Some may still be on their way.
    wait_for("the last packet", Duration::from_secs(5), || lost().ok().filter(|lost| *lost == 0))
        .or_else(|_| lost())
}

/// As much TCP and UDP as goes, for a minute, a rekeying each second: not one packet is lost, of either. Buffers hold
/// what the kernel's TCP may have on the way, and UDP waits for its packets' arrival, so that nothing but the rekeying
/// could lose one.
#[test]
fn rekeying_under_full_load_costs_no_packet() -> anyhow::Result<()> {
    let pair = Pair::new("load")?;
    let ends = tunnel(&pair, Workers::Auto, LONG_QUEUE, 64 << 20)?;
    let load = Load::start(&pair)?;
    let flows = Flows::new((&pair.right, "10.8.0.2"), (&pair.left, "10.8.0.1"), 8)?;
    let stop = AtomicBool::new(false);
    let udp = std::thread::scope(|scope| {
        let udp = scope.spawn(|| flows.run(4, Duration::ZERO, 128, &stop));
        let result = rekey(&ends, Duration::from_secs(1));
        stop.store(true, Ordering::Release);
        result.map(|()| udp.join().unwrap())
    })?;
    let told = load.end()?;
    let stalled = told.iter().filter(|line| line.contains(" 0.00 bits/sec")).count();
    ensure!(stalled == 0, "TCP stopped for {stalled} s:\n{}", told.join("\n"));
    let [left, right] = &ends;
    let lost = (lost_between(left, right)?, lost_between(right, left)?);
    let stats = left.engine.peer_get(id(1))?.stats.link;
    println!(
        "{udp:?}, {REKEYS} rekeyings under {} packets sent and {} received",
        stats.tx_packets, stats.rx_packets
    );
    println!("{}", told.last().map_or("", String::as_str));
    let dropped =
        |end: &End| end.engine.drops().into_iter().filter(|(_, count)| *count != 0).collect::<Vec<_>>();
    let why = format!("{:?} {:?}\n{}", dropped(left), dropped(right), places(&pair)?);
    ensure!(lost == (0, 0), "{lost:?} lost between the engines: {why}");
    ensure!(udp.sent > 1000 && udp.received == udp.sent && udp.reordered == 0, "{udp:?}: {why}");
    for end in &ends {
        let known = [DropReason::NoRoute, DropReason::DeviceDown];
        ensure!(drops(&end.engine, DropReason::ALL) == drops(&end.engine, &known), "{why}");
    }
    Ok(())
}

/// Where a packet may be lost outside the engines: devices and sockets, as the system counts.
fn places(pair: &Pair) -> anyhow::Result<String> {
    let mut text = String::new();
    for ns in [&pair.left, &pair.right] {
        text += &ns.run("ip", &["-s", "link"])?;
        text += &ns.run("cat", &["/proc/net/udp"])?;
    }
    Ok(text)
}

/// More UDP than the tunnel carries, and TCP, with ordinary buffers: packets are lost, none to a key, and for each there
/// is a counter.
#[test]
fn every_lost_packet_is_counted_somewhere() -> anyhow::Result<()> {
    let pair = Pair::new("counted")?;
    let ends = tunnel(&pair, Workers::Auto, 500, 0)?;
    let load = Load::start(&pair)?;
    let flows = Flows::new((&pair.right, "10.8.0.2"), (&pair.left, "10.8.0.1"), 8)?;
    let stop = AtomicBool::new(false);
    let udp = std::thread::scope(|scope| {
        let udp = scope.spawn(|| flows.run(8, Duration::from_millis(1), u64::MAX, &stop));
        std::thread::sleep(Duration::from_secs(8));
        stop.store(true, Ordering::Release);
        udp.join().unwrap()
    });
    load.end()?;
    let [left, right] = &ends;
    let between = lost_between(right, left)?;
    // The device's queue in front of the sender, and the sockets behind the receiver.
    let queue: u64 = pair.right.run("cat", &["/sys/class/net/tun0/statistics/tx_dropped"])?.trim().parse()?;
    let sockets: u64 = pair
        .left
        .run("cat", &["/proc/net/udp"])?
        .lines()
        .skip(1)
        .filter(|line| line.contains("0100080A:23"))
        .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
        .sum();
    let engines = drops(&right.engine, &OUTWARD) + drops(&left.engine, &INWARD);
    let received_full = drops(&left.engine, &[DropReason::ReceiveFull]);
    println!(
        "{udp:?}: queue {queue}, engines {engines}, between {between} ({received_full} messages), sockets {sockets}"
    );
    ensure!(udp.reordered == 0 && udp.received > 0, "{udp:?}");
    // What got lost between the engines, the receiver's system counted, merged packets once.
    ensure!(between <= received_full * 64, "{between} lost, {received_full} counted:\n{}", places(&pair)?);
    // TCP's acknowledgements may be among what was counted.
    let counted = queue + engines + between + sockets;
    ensure!(udp.sent - udp.received <= counted, "{udp:?}, counted {counted}:\n{}", places(&pair)?);
    for end in &ends {
        ensure!(drops(&end.engine, &KEYS_FAULT) == 0, "{:?}", end.engine.drops());
    }
    Ok(())
}

/// Many flows at once through several workers: within each, no packet overtakes another.
#[test]
fn flows_keep_their_order() -> anyhow::Result<()> {
    for workers in [Workers::One, Workers::Many(4)] {
        let pair = Pair::new("order")?;
        let ends = tunnel(&pair, workers, LONG_QUEUE, 0)?;
        let flows = Flows::new((&pair.left, "10.8.0.1"), (&pair.right, "10.8.0.2"), 48)?;
        let stop = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let running = scope.spawn(|| flows.run(4, Duration::from_millis(10), u64::MAX, &stop));
            std::thread::sleep(Duration::from_secs(4));
            stop.store(true, Ordering::Release);
            running.join().unwrap()
        });
        println!("{workers:?}: {outcome:?}");
        ensure!(outcome.reordered == 0, "{workers:?}: {outcome:?}");
        // The sockets' queues may overflow; the tunnel's replay window must not refuse anything.
        ensure!(outcome.received * 10 >= outcome.sent * 9, "{workers:?}: {outcome:?}");
        for end in &ends {
            ensure!(drops(&end.engine, &KEYS_FAULT) == 0, "{:?}", end.engine.drops());
        }
    }
    Ok(())
}

/// Every kind of bad datagram is dropped under its reason, and changes nothing else.
#[test]
fn bad_datagrams_are_counted_by_reason() -> anyhow::Result<()> {
    let pair = Pair::new("bad")?;
    let engine = pair.left.enter(|| Engine::open(EngineConfig::new("tun0", Mode::P2p)))??;
    let socket = pair.left.enter(|| UdpSocket::bind("10.10.1.1:1194"))??;
    let transport = engine.transport_open(SocketSource::Socket(socket.into()))?;
    // The other end is this test; with one key for both directions it can send back what it got.
    let other = pair.right.enter(|| UdpSocket::bind("10.10.1.2:1194"))??;
    other.set_read_timeout(Some(Duration::from_secs(5)))?;
    other.connect("10.10.1.1:1194")?;
    let mut mirror = key(0, 0);
    mirror.decrypt = mirror.encrypt.clone();
    engine.peer_new(&peer(7, &transport, Some("10.10.1.2:1194".parse()?), VpnAddrs::default()))?;
    engine.key_new(id(7), KeySlot::Primary, &mirror)?;
    pair.left.ip("addr add 10.8.0.1/24 dev tun0")?;
    pair.left.ip("link set tun0 up")?;
    let fresh = || -> anyhow::Result<Vec<u8>> {
        pair.left.try_run("ping", &["-c1", "-W0.1", "10.8.0.2"], Duration::from_secs(5))?;
        let mut buffer = [0; 2048];
        // Of what came (also router solicitations and the like) the latest.
        let mut packet = other.recv(&mut buffer).map(|len| buffer[..len].to_vec())?;
        other.set_nonblocking(true)?;
        while let Ok(len) = other.recv(&mut buffer) {
            packet = buffer[..len].to_vec();
        }
        other.set_nonblocking(false)?;
        Ok(packet)
    };
    let received = || -> anyhow::Result<PeerStats> { Ok(engine.peer_get(id(7))?.stats) };
    let counted = |reason: DropReason| drops(&engine, &[reason]);

    let good = fresh()?;
    assert_eq!(good[..4], [0x48, 0, 0, 7]);
    other.send(&good)?;
    wait_for("the good packet", Duration::from_secs(5), || {
        (received().ok()?.vpn.rx_packets == 1).then_some(())
    })?;

    let mut cases: Vec<(&str, DropReason, Vec<u8>)> = vec![
        ("replayed", DropReason::Replayed, good.clone()),
        ("no tag", DropReason::TooShort, good[..8].to_vec()),
        ("three bytes", DropReason::TooShort, good[..3].to_vec()),
        ("empty", DropReason::TooShort, Vec::new()),
        ("four bytes", DropReason::TooShort, good[..4].to_vec()),
        ("half a tag", DropReason::TooShort, good[..20].to_vec()),
        ("no payload", DropReason::NotAuthentic, good[..24].to_vec()),
        ("cut", DropReason::NotAuthentic, good[..good.len() - 1].to_vec()),
        ("longer", DropReason::NotAuthentic, [&good[..], &[0]].concat()),
        ("oversized", DropReason::NotAuthentic, [&good[..], &[0; 60_000]].concat()),
        ("unknown peer", DropReason::UnknownPeer, [&[0x48, 0, 0, 8], &good[4..]].concat()),
        ("unknown key", DropReason::UnknownKey, [&[0x4B, 0, 0, 7], &good[4..]].concat()),
    ];
    for at in [4, 7, 8, 23, 24, good.len() - 1] {
        let mut flipped = fresh()?;
        flipped[at] ^= 0x10;
        cases.push(("bit flipped", DropReason::NotAuthentic, flipped));
    }
    for (name, reason, packet) in cases {
        let (before, stats) = (counted(reason), received()?);
        let all = drops(&engine, DropReason::ALL);
        other.send(&packet)?;
        wait_for(name, Duration::from_secs(5), || (counted(reason) > before).then_some(()))
            .map_err(|error| anyhow::anyhow!("{error}: {:?}", engine.drops()))?;
        ensure!(drops(&engine, DropReason::ALL) == all + 1, "{name} was counted more than once");
        ensure!(received()?.vpn.rx_packets == stats.vpn.rx_packets, "{name} was let in");
    }

    // What is no data packet is a control packet's business, and goes there untouched: also nonsense.
    let mut buffer = [0; 2048];
    while transport.port.recv(&mut buffer).is_ok() {}
    for packet in [&b"\x38control"[..], b"\xF8nonsense", b"\x28abc"] {
        let all = drops(&engine, DropReason::ALL);
        other.send(packet)?;
        let got =
            wait_for(&format!("control packet {packet:?}"), Duration::from_secs(5), || {
                match transport.port.recv(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                    result => Some(result),
                }
            })??;
        assert_eq!(&buffer[..got.len], packet);
        assert_eq!(drops(&engine, DropReason::ALL), all);
    }

    // None of it did any harm.
    let (good, before) = (fresh()?, received()?.vpn.rx_packets);
    other.send(&good)?;
    wait_for("the next good packet", Duration::from_secs(5), || {
        (received().ok()?.vpn.rx_packets == before + 1).then_some(())
    })?;
    Ok(())
}

/// As above, over a stream: what is whole but bad is dropped under its reason, and the stream lives on.
#[test]
fn bad_frames_are_counted_by_reason() -> anyhow::Result<()> {
    let pair = Pair::new("badtcp")?;
    let engine = pair.left.enter(|| Engine::open(EngineConfig::new("tun0", Mode::P2p)))??;
    let listener = pair.right.enter(|| TcpListener::bind("10.10.1.2:443"))??;
    let own = pair.left.enter(|| TcpStream::connect("10.10.1.2:443"))??;
    let transport = engine.transport_open(SocketSource::Socket(own.into()))?;
    let mut other = listener.accept()?.0;
    let mut mirror = key(0, 0);
    mirror.decrypt = mirror.encrypt.clone();
    engine.peer_new(&peer(7, &transport, None, VpnAddrs::default()))?;
    engine.key_new(id(7), KeySlot::Primary, &mirror)?;
    pair.left.ip("addr add 10.8.0.1/24 dev tun0")?;
    pair.left.ip("link set tun0 up")?;
    let mut stream = other.try_clone()?;
    let mut fresh = || -> anyhow::Result<Vec<u8>> {
        pair.left.try_run("ping", &["-c1", "-W0.1", "10.8.0.2"], Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut latest = Vec::new();
        let mut length = [0; 2];
        while stream.read_exact(&mut length[..1]).is_ok() {
            stream.read_exact(&mut length[1..])?;
            latest = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut latest)?;
            stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        }
        Ok(latest)
    };
    let mut send = |packet: &[u8]| -> anyhow::Result<()> {
        other.write_all(&u16::try_from(packet.len())?.to_be_bytes())?;
        Ok(other.write_all(packet)?)
    };
    let received = || -> anyhow::Result<PeerStats> { Ok(engine.peer_get(id(7))?.stats) };
    let counted = |reason: DropReason| drops(&engine, &[reason]);
    let good = fresh()?;
    assert_eq!(good[..4], [0x48, 0, 0, 7]);
    send(&good)?;
    wait_for("the good packet", Duration::from_secs(5), || {
        (received().ok()?.vpn.rx_packets == 1).then_some(())
    })?;
    let mut longest = good.clone();
    longest.resize(65_535, 0);
    let mut cases: Vec<(&str, DropReason, Vec<u8>)> = vec![
        ("replayed", DropReason::Replayed, good.clone()),
        ("four bytes", DropReason::TooShort, good[..4].to_vec()),
        ("no tag", DropReason::TooShort, good[..8].to_vec()),
        ("half a tag", DropReason::TooShort, good[..20].to_vec()),
        ("no payload", DropReason::NotAuthentic, good[..24].to_vec()),
        ("cut", DropReason::NotAuthentic, good[..good.len() - 1].to_vec()),
        ("longer", DropReason::NotAuthentic, [&good[..], &[0]].concat()),
        ("65535 bytes", DropReason::NotAuthentic, longest),
        // The connection is the peer; the id is authenticated all the same.
        ("another peer's id", DropReason::NotAuthentic, [&[0x48, 0, 0, 8], &good[4..]].concat()),
        ("unknown key", DropReason::UnknownKey, [&[0x4B, 0, 0, 7], &good[4..]].concat()),
    ];
    for at in [4, 7, 8, 23, 24, good.len() - 1] {
        let mut flipped = fresh()?;
        flipped[at] ^= 0x10;
        cases.push(("bit flipped", DropReason::NotAuthentic, flipped));
    }
    for (name, reason, packet) in cases {
        let (before, stats) = (counted(reason), received()?);
        let all = drops(&engine, DropReason::ALL);
        send(&packet)?;
        wait_for(name, Duration::from_secs(5), || (counted(reason) > before).then_some(()))
            .map_err(|error| anyhow::anyhow!("{error}: {:?}", engine.drops()))?;
        ensure!(drops(&engine, DropReason::ALL) == all + 1, "{name} was counted more than once");
        ensure!(received()?.vpn.rx_packets == stats.vpn.rx_packets, "{name} was let in");
    }
    for packet in [&b"\x38control"[..], b"\xF8nonsense"] {
        let all = drops(&engine, DropReason::ALL);
        send(packet)?;
        let mut buffer = [0; 2048];
        let got =
            wait_for("a control packet", Duration::from_secs(5), || transport.port.recv(&mut buffer).ok())?;
        assert_eq!(&buffer[..got.len], packet);
        assert_eq!(drops(&engine, DropReason::ALL), all);
    }
    let (good, before) = (fresh()?, received()?.vpn.rx_packets);
    send(&good)?;
    wait_for("the next good packet", Duration::from_secs(5), || {
        (received().ok()?.vpn.rx_packets == before + 1).then_some(())
    })?;
    Ok(())
}

/// 10,000 peers with keys in one device: what one costs, and that the last is served like the first.
#[test]
fn ten_thousand_peers_in_one_device() -> anyhow::Result<()> {
    const PEERS: u32 = 10_000;
    let pair = Pair::new("many")?;
    let server = pair.left.enter(|| Engine::open(EngineConfig::new("tun0", Mode::MultiPeer)))??;
    let socket = pair.left.enter(|| UdpSocket::bind("10.10.1.1:1194"))??;
    let transport = server.transport_open(SocketSource::Socket(socket.into()))?;
    pair.left.ip("addr add 10.64.0.1/10 dev tun0")?;
    pair.left.ip("link set tun0 up")?;
    let address = |number: u32| std::net::Ipv4Addr::from(0x0A40_0000 + 1 + number);
    let before = resident();
    let begin = Instant::now();
    for number in 1..=PEERS {
        let remote = SocketAddr::from(([10, 10, 1, 2], 1194 + u16::try_from(number)?));
        let vpn = VpnAddrs { v4: Some(address(number)), v6: None };
        server.peer_new(&peer(number, &transport, Some(remote), vpn))?;
        server.key_new(id(number), KeySlot::Primary, &key(0, 0))?;
    }
    let each = (resident().saturating_sub(before)) / PEERS as usize;
    println!("{each} bytes for each peer, {:?} for all", begin.elapsed());
    ensure!(each <= 4096, "{each} bytes for each peer");
    ensure!(server.peer_dump()?.len() == PEERS as usize);

    // The last of them is a real client.
    let client = pair.right.enter(|| Engine::open(EngineConfig::new("tun0", Mode::P2p)))??;
    let socket = pair.right.enter(|| UdpSocket::bind(("10.10.1.2", 1194 + PEERS as u16)))??;
    let port = client.transport_open(SocketSource::Socket(socket.into()))?;
    client.peer_new(&peer(PEERS, &port, Some("10.10.1.1:1194".parse()?), VpnAddrs::default()))?;
    client.key_new(id(PEERS), KeySlot::Primary, &key(0, 1))?;
    pair.right.ip(&format!("addr add {}/10 dev tun0", address(PEERS)))?;
    pair.right.ip("link set tun0 up")?;
    // A network behind it, by a system route, at once.
    pair.right.ip("addr add 11.11.11.11/32 dev tun0")?;
    pair.left.ip(&format!("route add 11.11.11.11 via {} dev tun0", address(PEERS)))?;
    for to in ["11.11.11.11", &address(PEERS).to_string()] {
        let text = pair.left.run("ping", &["-q", "-c5", "-i0.05", "-W2", to])?;
        ensure!(text.contains(" 0% packet loss"), "{text}");
    }
    Ok(())
}

/// Memory of this process that is in use, bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
