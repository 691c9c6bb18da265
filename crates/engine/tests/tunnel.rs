//! Two engines in two network namespaces, joined by a veth pair, with real traffic through them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use ovpn_dco::{
    CipherAlg, DataFormat, DataPlane, DelReason, Event, EventSource, Framing, Keepalive, KeyConfig,
    KeyDirection, KeyId, KeySlot, Mode, PeerConfig, PeerId, PeerUpdate, Protocol, SocketSource, Transport,
    VpnAddrs,
};
use ovpn_engine::drop_reason::DropReason;
use ovpn_engine::peer::EventSink;
use ovpn_engine::peer_table::{PeerTable, TableConfig};
use ovpn_engine::time::Timestamp;
use ovpn_engine::{Engine, EngineConfig, Workers};
use ovpn_testkit::{Echo, Netns, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// Two namespaces `a` (192.0.2.1, 2001:db8::1) and `b` (.2), with an engine in each.
struct Bed {
    a: Netns,
    b: Netns,
}

impl Bed {
    fn new() -> anyhow::Result<Self> {
        let (a, b) = (Netns::new("a")?, Netns::new("b")?);
        a.ip(&format!("link add veth0 type veth peer name veth0 netns {}", b.name()))?;
        for (ns, number) in [(&a, 1), (&b, 2)] {
            ns.ip("link set lo up")?;
            ns.ip(&format!("addr add 192.0.2.{number}/24 dev veth0"))?;
            ns.ip(&format!("addr add 2001:db8::{number}/64 dev veth0 nodad"))?;
            ns.ip("link set veth0 up")?;
        }
        Ok(Self { a, b })
    }

    fn engine(ns: &Netns, mode: Mode, workers: Workers) -> anyhow::Result<Engine> {
        let config = EngineConfig { workers, ..EngineConfig::new("tun0", mode) };
        Ok(ns.enter(|| Engine::open(config))??)
    }
}

fn up(ns: &Netns, address: &str) -> anyhow::Result<()> {
    ns.ip(&format!("addr add {address} dev tun0 nodad"))?;
    ns.ip("link set tun0 up")?;
    Ok(())
}

fn both_up(bed: &Bed) -> anyhow::Result<()> {
    for (ns, number) in [(&bed.b, 2), (&bed.a, 1)] {
        up(ns, &format!("10.8.0.{number}/24"))?;
        up(ns, &format!("fd00:8::{number}/64"))?;
    }
    Ok(())
}

fn udp(ns: &Netns, bind: &str) -> anyhow::Result<OwnedFd> {
    Ok(ns.enter(|| UdpSocket::bind(bind))??.into())
}

fn open(engine: &Engine, socket: OwnedFd) -> anyhow::Result<Transport> {
    Ok(engine.transport_open(SocketSource::Socket(socket))?)
}

fn id(number: u32) -> PeerId {
    PeerId::new(number).unwrap()
}

fn key(number: u8, reverse: bool) -> KeyConfig {
    let direction = |byte: u8| KeyDirection { cipher_key: vec![byte; 32], nonce_tail: [byte; 8] };
    let (encrypt, decrypt) = if reverse { (2, 1) } else { (1, 2) };
    KeyConfig {
        key_id: KeyId::new(number).unwrap(),
        cipher: CipherAlg::AesGcm,
        format: DataFormat::V2,
        key_len: 32,
        encrypt: direction(encrypt + 2 * number),
        decrypt: direction(decrypt + 2 * number),
    }
}

fn peer(
    engine: &Engine,
    number: u32,
    transport: &Transport,
    remote: &str,
    vpn: &str,
    reverse: bool,
) -> anyhow::Result<()> {
    let remote: Option<SocketAddr> = if remote.is_empty() { None } else { Some(remote.parse()?) };
    let mut addresses = VpnAddrs::default();
    match (!vpn.is_empty()).then(|| vpn.parse()).transpose()? {
        Some(IpAddr::V4(v4)) => addresses.v4 = Some(v4),
        Some(IpAddr::V6(v6)) => addresses.v6 = Some(v6),
        None => {}
    }
    engine.peer_new(&PeerConfig {
        id: id(number),
        tx_id: None,
        transport: transport.id,
        remote,
        local: None,
        vpn: addresses,
        framing: Framing::None,
        fragment: None,
    })?;
    engine.key_new(id(number), KeySlot::Primary, &key(0, reverse))?;
    Ok(())
}

/// So many echo requests of so many bytes, one every 2 ms: every one is answered.
fn ping(ns: &Netns, count: u16, size: usize, to: &str) -> anyhow::Result<()> {
    Echo { count, size, pause: Duration::from_millis(2) }.run(ns, to.parse()?)
}

fn next(events: &mut dyn EventSource) -> anyhow::Result<Event> {
    wait_for("an event", LIMIT, || events.next().transpose())?.map_err(Into::into)
}

/// A point-to-point tunnel over UDP between `from` and `to`, 10.8.0.1 and 10.8.0.2.
fn p2p(bed: &Bed, from: &str, to: &str, workers: Workers) -> anyhow::Result<[(Engine, Transport); 2]> {
    let mut ends = Vec::new();
    for (ns, local, remote, number) in [(&bed.a, from, to, 1), (&bed.b, to, from, 2)] {
        let engine = Bed::engine(ns, Mode::P2p, workers)?;
        let transport = open(&engine, udp(ns, local)?)?;
        peer(&engine, 1, &transport, remote, "", number == 2)?;
        ends.push((engine, transport));
    }
    both_up(bed)?;
    ends.try_into().map_err(|_| anyhow::anyhow!("two ends"))
}

#[test]
fn packets_pass_over_udp() -> anyhow::Result<()> {
    for (from, to) in [("192.0.2.1:1194", "192.0.2.2:1194"), ("[2001:db8::1]:1194", "[2001:db8::2]:1194")] {
        for workers in [Workers::One, Workers::Many(2)] {
            let bed = Bed::new()?;
            let [(a, _a), (b, _b)] = p2p(&bed, from, to, workers)?;
            let dropped =
                |engine: &Engine| engine.drops().into_iter().filter(|d| d.1 > 0).collect::<Vec<_>>();
            let early = (dropped(&a), dropped(&b));
            for (count, size, to) in [(100, 56, "10.8.0.2"), (100, 3000, "10.8.0.2"), (10, 56, "fd00:8::2")] {
                ping(&bed.a, count, size, to).with_context(|| {
                    let late = (dropped(&a), dropped(&b));
                    format!("{from}, {workers:?}, {size}: dropped before {early:?}, after {late:?}")
                })?;
            }
            // Before both devices are up, what the system says by itself may find one that is not.
            for engine in [&a, &b] {
                let lost: Vec<_> =
                    dropped(engine).into_iter().filter(|d| d.0 != DropReason::DeviceDown).collect();
                assert_eq!(lost, [], "{from}, {workers:?}");
            }
            let (sent, received) = (a.peer_get(id(1))?.stats, b.peer_get(id(1))?.stats);
            assert!(sent.vpn.tx_packets >= 210);
            // The system's own first packets may find no one at the other end yet.
            let early = sent.vpn.tx_packets - received.vpn.rx_packets;
            assert!(early < 20, "{early} packets lost");
            assert_eq!(received.link.rx_bytes, received.vpn.rx_bytes + 24 * received.vpn.rx_packets);
            assert_eq!(sent.link.tx_bytes, sent.vpn.tx_bytes + 24 * sent.vpn.tx_packets);
        }
    }
    Ok(())
}

/// A point-to-point tunnel over TCP; `b` listens.
fn p2p_tcp(bed: &Bed, workers: Workers) -> anyhow::Result<[(Engine, Transport); 2]> {
    let (from_b, from_a) = tcp_pair(bed)?;
    let mut ends = Vec::new();
    for (ns, socket, number) in [(&bed.a, from_a, 1), (&bed.b, from_b, 2)] {
        let engine = Bed::engine(ns, Mode::P2p, workers)?;
        let transport = open(&engine, socket)?;
        peer(&engine, 1, &transport, "", "", number == 2)?;
        ends.push((engine, transport));
    }
    both_up(bed)?;
    ends.try_into().map_err(|_| anyhow::anyhow!("two ends"))
}

/// The listening end in `b`, the connecting one in `a`.
fn tcp_pair(bed: &Bed) -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let listener = bed.b.enter(|| TcpListener::bind("192.0.2.2:443"))??;
    let connected = bed.a.enter(|| TcpStream::connect("192.0.2.2:443"))??;
    let (accepted, _) = listener.accept()?;
    Ok((accepted.into(), connected.into()))
}

/// What was dropped though the device was up (the system may speak before) and a place in the socket's queue free (on
/// a busy machine a transfer finds out by losses how much it carries).
fn lost(engine: &Engine) -> Vec<(DropReason, u64)> {
    let not_ours = [DropReason::DeviceDown, DropReason::ReceiveFull];
    engine.drops().into_iter().filter(|(reason, count)| *count > 0 && !not_ours.contains(reason)).collect()
}

/// iperf3 from `a` to `b`; megabits a second that arrived.
fn iperf(bed: &Bed, options: &str) -> anyhow::Result<f64> {
    let mut server = bed.b.command("iperf3");
    server.args(["-s", "-1", "-p", "5201", "--forceflush"]);
    let mut server = ovpn_testkit::Running::start(&mut server)?;
    server.wait_for_text("listening", LIMIT)?;
    let arguments: Vec<&str> = "-c 10.8.0.2 -J".split(' ').chain(options.split_whitespace()).collect();
    let report: serde_json::Value = serde_json::from_str(&bed.a.run("iperf3", &arguments)?)?;
    let end = &report["end"];
    let sum = if end["sum_received"].is_null() { &end["sum"] } else { &end["sum_received"] };
    Ok(sum["bits_per_second"].as_f64().context("iperf3's report")? / 1e6)
}

#[test]
fn packets_pass_over_tcp() -> anyhow::Result<()> {
    for workers in [Workers::One, Workers::Many(2)] {
        let bed = Bed::new()?;
        let [(_a, a_port), (b, b_port)] = p2p_tcp(&bed, workers)?;
        ping(&bed.a, 100, 56, "10.8.0.2")?;
        ping(&bed.a, 100, 3000, "10.8.0.2")?;
        // Control packets travel between the data packets, whole, while there is a load.
        let load = std::thread::scope(|scope| -> anyhow::Result<f64> {
            let load = scope.spawn(|| iperf(&bed, "-t 1"));
            let anywhere = "192.0.2.2:443".parse()?;
            for number in 0..50u32 {
                let packet =
                    [&[0x20], &number.to_be_bytes()[..], &vec![number as u8; number as usize * 20]].concat();
                a_port.port.send(&packet, anywhere, None)?;
                let mut buffer = [0; 2048];
                let got = wait_for("a control packet", LIMIT, || b_port.port.recv(&mut buffer).ok())?;
                assert_eq!(&buffer[..got.len], packet);
                assert_eq!(got.from.ip(), "192.0.2.1".parse::<IpAddr>()?);
            }
            load.join().unwrap()
        })?;
        assert!(load > 1.0, "{load} Mbit/s, {workers:?}");
        assert_eq!(lost(&b), [], "{workers:?}");
    }
    Ok(())
}

/// A key of the old format is used over TCP as over UDP; one of the new format refuses its packets, and the stream with
/// them, as the kernel's driver does.
#[test]
fn the_old_format_passes_over_tcp() -> anyhow::Result<()> {
    let bed = Bed::new()?;
    let [(a, _at), (b, b_port)] = p2p_tcp(&bed, Workers::Auto)?;
    let old = |number, reverse| KeyConfig { format: DataFormat::V1, ..key(number, reverse) };
    a.key_new(id(1), KeySlot::Primary, &old(1, false))?;
    b.key_new(id(1), KeySlot::Primary, &old(1, true))?;
    ping(&bed.a, 100, 56, "10.8.0.2")?;
    assert!(iperf(&bed, "-t 1")? > 1.0);
    let stats = b.peer_get(id(1))?.stats;
    assert!(stats.vpn.rx_packets >= 100);
    // The first packets went with the first key, three bytes more each.
    assert!(stats.link.rx_bytes <= stats.vpn.rx_bytes + 21 * stats.vpn.rx_packets + 24 * 20);

    let mut events = b.events()?;
    b.key_new(id(1), KeySlot::Primary, &key(1, true))?;
    // Nobody answers any more.
    bed.a.try_run("ping", &["-c1", "-W0.1", "10.8.0.2"], LIMIT)?;
    let deleted = Event::PeerDeleted { peer: id(1), reason: DelReason::TransportError };
    assert_eq!(next(&mut *events)?, deleted);
    assert!(b.drops().contains(&(DropReason::WrongOpcode, 1)));
    assert!(b.drops().contains(&(DropReason::BadFraming, 0)));
    let end = wait_for("the end", LIMIT, || match b_port.port.recv(&mut [0; 100]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        result => Some(result),
    })?;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    Ok(())
}

/// UDP sockets in a namespace that have this port.
fn sockets(ns: &Netns, port: u16) -> anyhow::Result<usize> {
    let port = format!(":{port:04X} ");
    let mut count = 0;
    for table in ["/proc/net/udp", "/proc/net/udp6"] {
        let local = |line: &&str| line.split_once(": ").is_some_and(|(_, rest)| rest[..45].contains(&port));
        count += ns.run("cat", &[table])?.lines().skip(1).filter(local).count();
    }
    Ok(count)
}

/// While datagrams come one by one, thousands in a row; nothing is lost or late when it opens, others are heard as
/// before, and it ends with its transport.
#[test]
fn the_busiest_sender_has_a_socket_of_its_own() -> anyhow::Result<()> {
    for (from, to, bind) in [
        ("192.0.2.1:1194", "192.0.2.2:1194", "0.0.0.0:1194"),
        ("192.0.2.1:1194", "192.0.2.2:1194", "[::]:1194"),
        ("[2001:db8::1]:1194", "[2001:db8::2]:1194", "[2001:db8::2]:1194"),
    ] {
        let bed = Bed::new()?;
        for ns in [&bed.a, &bed.b] {
            ns.run("ethtool", &["-K", "veth0", "tso", "off", "gso", "off", "tx-udp-segmentation", "off"])?;
        }
        let a = Bed::engine(&bed.a, Mode::P2p, Workers::One)?;
        let b = Bed::engine(&bed.b, Mode::P2p, Workers::One)?;
        let (a_port, b_port) = (open(&a, udp(&bed.a, from)?)?, open(&b, udp(&bed.b, bind)?)?);
        peer(&a, 1, &a_port, to, "", false)?;
        peer(&b, 1, &b_port, from, "", true)?;
        both_up(&bed)?;
        ping(&bed.a, 100, 56, "10.8.0.2")?;
        assert_eq!(sockets(&bed.b, 1194)?, 1, "{bind}");
        // Below what a debug build carries, so that nothing need be lost.
        assert!(iperf(&bed, "-t 2 -u -b 100M -l 1200")? > 90.0, "{bind}");
        assert!(iperf(&bed, "-t 1")? > 10.0, "{bind}");
        assert_eq!(sockets(&bed.b, 1194)?, 2, "{bind}");
        assert_eq!([lost(&a), lost(&b)], [[], []], "{bind}");
        ping(&bed.a, 100, 56, "10.8.0.2")?;
        // Another sender.
        let other = bed.a.enter(|| UdpSocket::bind((from.parse::<SocketAddr>().unwrap().ip(), 0)))??;
        other.send_to(b"\x38other", to)?;
        let mut buffer = [0; 100];
        let got = wait_for("a control packet", LIMIT, || b_port.port.recv(&mut buffer).ok())?;
        assert_eq!((&buffer[..got.len], got.from), (&b"\x38other"[..], other.local_addr()?));
        drop(b_port);
        wait_for("the port", LIMIT, || (sockets(&bed.b, 1194).ok()? == 0).then_some(()))?;
    }
    Ok(())
}

#[test]
fn super_packets_pass_whole() -> anyhow::Result<()> {
    let bed = Bed::new()?;
    let [(_a, _at), (b, _bt)] = p2p(&bed, "192.0.2.1:1194", "192.0.2.2:1194", Workers::Auto)?;
    assert!(iperf(&bed, "-t 1")? > 10.0);
    assert!(iperf(&bed, "-t 1 -R")? > 10.0);
    assert!(iperf(&bed, "-t 1 -P 4")? > 10.0);
    assert!(iperf(&bed, "-t 1 -u -b 20M -l 1200")? > 10.0);
    for (reason, count) in lost(&b) {
        let startup = ["unknown-key", "unknown-peer", "no-key", "not-authentic"].contains(&reason.name());
        assert!(startup && count < 20, "{reason}: {count}");
    }
    Ok(())
}

#[test]
fn packets_above_the_path_mtu_are_fragmented_not_lost() -> anyhow::Result<()> {
    for (from, to) in [("192.0.2.1:1194", "192.0.2.2:1194"), ("[2001:db8::1]:1194", "[2001:db8::2]:1194")] {
        let bed = Bed::new()?;
        let _ends = p2p(&bed, from, to, Workers::Auto)?;
        bed.a.ip("link set tun0 mtu 1500")?;
        bed.b.ip("link set tun0 mtu 1500")?;
        ping(&bed.a, 50, 1472, "10.8.0.2")?;
        assert!(iperf(&bed, "-t 1")? > 10.0, "{from}");
    }
    Ok(())
}

#[test]
fn the_carrier_follows_the_peer() -> anyhow::Result<()> {
    let bed = Bed::new()?;
    let engine = Bed::engine(&bed.a, Mode::P2p, Workers::Auto)?;
    bed.a.ip("link set tun0 up")?;
    let carrier = || bed.a.ip("-o link show tun0").is_ok_and(|text| !text.contains("NO-CARRIER"));
    assert!(!carrier());
    assert!(bed.a.ip("-o link show tun0")?.contains("mtu 1416"));
    let mut events = engine.events()?;
    let transport = open(&engine, udp(&bed.a, "192.0.2.1:1194")?)?;
    peer(&engine, 7, &transport, "192.0.2.2:1194", "", false)?;
    wait_for("carrier", LIMIT, || carrier().then_some(()))?;
    engine.peer_del(id(7))?;
    assert_eq!(next(&mut *events)?, Event::PeerDeleted { peer: id(7), reason: DelReason::Userspace });
    wait_for("no carrier", LIMIT, || (!carrier()).then_some(()))?;
    peer(&engine, 7, &transport, "192.0.2.2:1194", "", false)?;
    peer(&engine, 8, &transport, "192.0.2.2:1194", "", false)?;
    assert_eq!(next(&mut *events)?, Event::PeerDeleted { peer: id(7), reason: DelReason::Teardown });
    // Closing the port is closing the socket.
    drop(transport);
    assert_eq!(
        next(&mut *events)?,
        Event::PeerDeleted { peer: id(8), reason: DelReason::TransportDisconnect }
    );
    wait_for("no carrier", LIMIT, || (!carrier()).then_some(()))?;
    drop(engine);
    assert_eq!(next(&mut *events)?, Event::DataPlaneGone);
    assert!(bed.a.ip("link show tun0").is_err());
    Ok(())
}

/// A device that was made beforehand with one queue: there are as many workers as queues, and each transport has one.
#[test]
fn a_device_of_one_queue_serves_every_transport() -> anyhow::Result<()> {
    let bed = Bed::new()?;
    bed.a.ip("tuntap add dev tun0 mode tun")?;
    let a = Bed::engine(&bed.a, Mode::P2p, Workers::Many(4))?;
    let b = Bed::engine(&bed.b, Mode::P2p, Workers::One)?;
    both_up(&bed)?;
    let at_b = open(&b, udp(&bed.b, "192.0.2.2:1194")?)?;
    for port in 1001..1005 {
        let address = format!("192.0.2.1:{port}");
        let at_a = open(&a, udp(&bed.a, &address)?)?;
        peer(&a, 1, &at_a, "192.0.2.2:1194", "", false)?;
        peer(&b, 1, &at_b, &address, "", true)?;
        ping(&bed.a, 10, 56, "10.8.0.2").with_context(|| address)?;
        a.peer_del(id(1))?;
        b.peer_del(id(1))?;
    }
    Ok(())
}

#[test]
fn a_silent_peer_expires_and_pings_keep_one_alive() -> anyhow::Result<()> {
    let bed = Bed::new()?;
    let [(a, _at), (b, _bt)] = p2p(&bed, "192.0.2.1:1194", "192.0.2.2:1194", Workers::Auto)?;
    let (mut from_a, mut from_b) = (a.events()?, b.events()?);
    let keepalive = |interval, timeout| PeerUpdate {
        keepalive: Some(Keepalive {
            interval: Duration::from_secs(interval),
            timeout: Duration::from_secs(timeout),
        }),
        ..PeerUpdate::default()
    };
    bed.a.ip("link set tun0 down")?;
    bed.b.ip("link set tun0 down")?;
    // Only `a` pings: it hears nothing and expires, while `b` lives.
    a.peer_set(id(1), &keepalive(1, 3))?;
    b.peer_set(id(1), &keepalive(60, 2))?;
    assert_eq!(next(&mut *from_a)?, Event::PeerDeleted { peer: id(1), reason: DelReason::Expired });
    assert_eq!(b.peer_get(id(1))?.stats.vpn.rx_packets, b.peer_get(id(1))?.stats.vpn.rx_packets);
    assert_eq!(next(&mut *from_b)?, Event::PeerDeleted { peer: id(1), reason: DelReason::Expired });
    Ok(())
}

#[test]
fn broken_streams_end_their_peer_only() -> anyhow::Result<()> {
    use std::io::{Read, Write};
    let bed = Bed::new()?;
    let engine = Bed::engine(&bed.b, Mode::MultiPeer, Workers::Auto)?;
    let mut events = engine.events()?;
    let listener = bed.b.enter(|| TcpListener::bind("192.0.2.2:443"))??;
    let (close, error) = (DelReason::TransportDisconnect, DelReason::TransportError);
    let framing = Some(DropReason::BadFraming);
    let cases: [(&[u8], DelReason, Option<DropReason>); 7] = [
        (b"", close, None),
        (b"\0\0", error, framing),
        (b"\0\x01\x20", error, framing),
        (b"\0\x02\x20a", error, framing),
        (b"\0\x03\x20ab", error, framing),
        (b"\0\x18\x30abcdefghijklmnopqrstuvw", error, Some(DropReason::WrongOpcode)),
        (b"\xFF\xFF\x48", close, None),
    ];
    let dropped = || engine.drops().into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
    let mut expected_drops = Vec::new();
    let mut good = bed.a.enter(|| TcpStream::connect("192.0.2.2:443"))??;
    let kept = open(&engine, listener.accept()?.0.into())?;
    peer(&engine, 100, &kept, "", "10.8.0.100", true)?;
    for (number, (bytes, reason, counted)) in cases.into_iter().enumerate() {
        let mut stream = bed.a.enter(|| TcpStream::connect("192.0.2.2:443"))??;
        let transport = open(&engine, listener.accept()?.0.into())?;
        // A control packet before there is a peer.
        stream.write_all(b"\0\x06\x38hello")?;
        let mut buffer = [0; 100];
        let got = wait_for("a control packet", LIMIT, || transport.port.recv(&mut buffer).ok())?;
        assert_eq!(&buffer[..got.len], b"\x38hello");
        transport.port.send(b"\x40world", got.from, None)?;
        stream.read_exact(&mut buffer[..8])?;
        assert_eq!(&buffer[..8], b"\0\x06\x40world");
        peer(&engine, number as u32, &transport, "", &format!("10.8.0.{}", number + 2), true)?;
        stream.write_all(bytes)?;
        if reason == close {
            drop(stream);
        }
        let deleted = Event::PeerDeleted { peer: id(number as u32), reason };
        assert_eq!(next(&mut *events)?, deleted, "case {number}");
        let end = wait_for("the end", LIMIT, || {
            transport.port.recv(&mut buffer).err().filter(|e| e.kind() != std::io::ErrorKind::WouldBlock)
        })?;
        let expected =
            if reason == close { std::io::ErrorKind::UnexpectedEof } else { std::io::ErrorKind::InvalidData };
        assert_eq!(end.kind(), expected, "case {number}");
        // Counted once under its reason, and nothing else.
        expected_drops.extend(counted);
        let total: Vec<_> = DropReason::ALL
            .iter()
            .map(|reason| (*reason, expected_drops.iter().filter(|other| *other == reason).count() as u64))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(dropped(), total, "case {number}");
    }
    assert!(engine.peer_get(id(100)).is_ok());
    good.write_all(b"\0\x04\x20abc")?;
    let mut buffer = [0; 100];
    wait_for("a control packet", LIMIT, || kept.port.recv(&mut buffer).ok())?;
    Ok(())
}

/// A server in `b` with clients in `a`: 5.5.5.1 and 5.5.5.2 behind tun0 of `a`; `b` has a second client to nowhere.
#[test]
fn a_server_routes_learns_and_follows_its_peers() -> anyhow::Result<()> {
    let bed = Bed::new()?;
    bed.b.ip("addr add 192.0.2.22/24 dev veth0")?;
    let server = Bed::engine(&bed.b, Mode::MultiPeer, Workers::Many(2))?;
    let mut events = server.events()?;
    // One socket for both families, bound to no address.
    let socket = udp(&bed.b, "[::]:1194")?;
    let server_transport = open(&server, socket)?;
    peer(&server, 1, &server_transport, "192.0.2.1:1194", "5.5.5.2", true)?;
    peer(&server, 2, &server_transport, "192.0.2.1:9", "5.5.5.3", true)?;
    up(&bed.b, "5.5.5.1/24")?;
    // The client contacts the server's second address; answers come from there.
    let client = Bed::engine(&bed.a, Mode::P2p, Workers::Auto)?;
    let client_transport = open(&client, udp(&bed.a, "0.0.0.0:1194")?)?;
    peer(&client, 1, &client_transport, "192.0.2.22:1194", "", false)?;
    up(&bed.a, "5.5.5.2/24")?;
    ping(&bed.a, 20, 56, "5.5.5.1")?;
    assert_eq!(server.peer_get(id(1))?.local, Some("192.0.2.22:1194".parse()?));
    assert_eq!(client.peer_get(id(1))?.remote, Some("192.0.2.22:1194".parse()?));
    // A network behind the client: reached at once when the route is there, and no longer when it is not.
    bed.a.ip("addr add 11.11.11.11/32 dev tun0")?;
    let behind = || bed.b.run("ping", &["-c", "1", "-W", "1", "11.11.11.11"]);
    bed.b.ip("route add 11.11.11.11/32 via 5.5.5.2 dev tun0")?;
    ping(&bed.b, 20, 56, "11.11.11.11")?;
    bed.b.ip("route replace 11.11.11.11/32 via 5.5.5.3 dev tun0")?;
    wait_for("the other peer's route", LIMIT, || behind().is_err().then_some(()))?;
    bed.b.ip("route replace 11.11.11.11/32 via 5.5.5.2 dev tun0")?;
    ping(&bed.b, 20, 56, "11.11.11.11")?;
    // A source that is not routed to its sender is not let in.
    bed.a.ip("addr add 5.5.5.3/32 dev tun0")?;
    assert!(bed.a.run("ping", &["-c", "1", "-W", "1", "-I", "5.5.5.3", "5.5.5.1"]).is_err());
    let bad = |reason: &str| server.drops().iter().find(|(r, _)| r.name() == reason).map_or(0, |(_, n)| *n);
    assert!(bad("bad-source") > 0);
    // The client moves; the first packet from there is followed.
    bed.a.ip("addr del 192.0.2.1/24 dev veth0")?;
    bed.a.ip("addr add 192.0.2.3/24 dev veth0")?;
    ping(&bed.a, 20, 56, "5.5.5.1")?;
    let moved = "192.0.2.3:1194".parse()?;
    wait_for("the float", LIMIT, || {
        (events.next().ok()? == Some(Event::PeerFloat { peer: id(1), remote: moved })).then_some(())
    })?;
    ping(&bed.b, 20, 56, "5.5.5.2")?;
    // Control packets of unknown senders come out, with both addresses.
    let stranger = bed.a.enter(|| UdpSocket::bind("192.0.2.3:0"))??;
    stranger.send_to(b"\x38hello", "192.0.2.22:1194")?;
    let mut buffer = [0; 100];
    let got = wait_for("a control packet", LIMIT, || server_transport.port.recv(&mut buffer).ok())?;
    assert_eq!((&buffer[..got.len], got.from), (&b"\x38hello"[..], stranger.local_addr()?));
    assert_eq!(got.local, Some("192.0.2.22".parse()?));
    server_transport.port.send(b"\x40world", got.from, got.local)?;
    stranger.set_read_timeout(Some(LIMIT))?;
    let (len, from) = stranger.recv_from(&mut buffer)?;
    assert_eq!((&buffer[..len], from), (&b"\x40world"[..], "192.0.2.22:1194".parse()?));
    Ok(())
}

/// An IPv4 packet with a UDP datagram, number `number` of its flow, from a VPN address to 5.5.5.1:9.
fn numbered(from: u8, number: u32) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 5, 5, 5, from, 5, 5, 5, 1];
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xFFFF) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet.extend([0, 9, 0, 9, 0, 12, 0, 0]);
    packet.extend(number.to_be_bytes());
    packet
}

/// Many clients on one port, several workers: each has a socket of it, every client keeps its order, also while it
/// moves about, and control packets arrive.
#[test]
fn the_workers_of_a_server_share_its_port() -> anyhow::Result<()> {
    const CLIENTS: u8 = 9;
    const PACKETS: u32 = 300;
    let bed = Bed::new()?;
    let server = Bed::engine(&bed.b, Mode::MultiPeer, Workers::Many(3))?;
    let transport = bed.b.enter(|| open(&server, UdpSocket::bind("[::]:1194")?.into()))??;
    up(&bed.b, "5.5.5.1/24")?;
    let sockets = || bed.b.run("ss", &["-Haun", "sport", "=", ":1194"]);
    assert_eq!(sockets()?.lines().count(), 3);
    let config = TableConfig { mode: Mode::P2p, allow_none_cipher: false };
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let table = PeerTable::new(config, Box::new(NoEvents));
        let client = PeerConfig {
            id: id(number.into()),
            tx_id: None,
            transport: transport.id,
            remote: Some("192.0.2.2:1194".parse()?),
            local: None,
            vpn: VpnAddrs::default(),
            framing: Framing::None,
            fragment: None,
        };
        table.peer_new(&client, Some(Protocol::Udp), Timestamp::default())?;
        table.key_new(id(number.into()), KeySlot::Primary, &key(0, false))?;
        let vpn = format!("5.5.5.{}", number + 10);
        // Not where it will come from: each moves at once, and again later.
        peer(&server, number.into(), &transport, "192.0.2.1:1", &vpn, true)?;
        let sockets = [(); 2].map(|()| bed.a.enter(|| UdpSocket::bind("192.0.2.1:0")));
        let [one, other] = sockets;
        clients.push((number, table, [one??, other??]));
    }
    let sink = bed.b.enter(|| UdpSocket::bind("5.5.5.1:9"))??;
    sink.set_read_timeout(Some(LIMIT))?;
    let arrived = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&arrived);
    let receiver = std::thread::spawn(move || -> anyhow::Result<()> {
        let mut next = [0; CLIENTS as usize];
        let mut buffer = [0; 64];
        for _ in 0..PACKETS * u32::from(CLIENTS) {
            let (len, from) = sink.recv_from(&mut buffer).context("a packet is missing")?;
            let IpAddr::V4(from) = from.ip() else { anyhow::bail!("{from}") };
            let next = &mut next[usize::from(from.octets()[3] - 10)];
            anyhow::ensure!(
                buffer[..len] == u32::to_be_bytes(*next),
                "{from}: {:?} is not {next}",
                &buffer[..len]
            );
            *next += 1;
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    for number in 0..PACKETS {
        for (client, table, sockets) in &clients {
            let tables = table.read();
            let inner = numbered(client + 10, number);
            let mut packet = [0; 128];
            let len = tables
                .tx(tables.receiver(&inner).unwrap(), Timestamp::default())
                .seal(&inner, &mut packet)
                .unwrap();
            let socket = &sockets[usize::from(number >= PACKETS / 2)];
            socket.send_to(&packet[..len], "192.0.2.2:1194")?;
        }
        // No more on the way than the queues of a busy machine hold.
        let sent = (number + 1) * u32::from(CLIENTS);
        wait_until(|| arrived.load(Ordering::Relaxed) + 180 > sent || receiver.is_finished())?;
    }
    receiver.join().map_err(|_| anyhow::anyhow!("the sink panicked"))??;
    for (client, _, sockets) in &clients {
        let (info, here) = (server.peer_get(id((*client).into()))?, sockets[1].local_addr()?);
        assert_eq!((info.remote, info.stats.vpn.rx_packets), (Some(here), u64::from(PACKETS)));
        sockets[0].send_to(&[0x38, 0, 0, *client], "192.0.2.2:1194")?;
    }
    let mut heard = Vec::new();
    let mut buffer = [0; 16];
    wait_for("every control packet", LIMIT, || {
        while let Ok(got) = transport.port.recv(&mut buffer) {
            heard.push(buffer[..got.len].to_vec());
        }
        (heard.len() == usize::from(CLIENTS)).then_some(())
    })?;
    // The system's own first packets go to nobody.
    let lost = |(reason, count): &(DropReason, u64)| *reason != DropReason::NoRoute && *count > 0;
    assert_eq!(server.drops().into_iter().filter(lost).collect::<Vec<_>>(), []);
    drop(transport);
    wait_for("the port to be free", LIMIT, || sockets().is_ok_and(|text| text.is_empty()).then_some(()))?;
    Ok(())
}

/// Waits for what comes within the limit and often at once.
fn wait_until(mut probe: impl FnMut() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    while !probe() {
        anyhow::ensure!(Instant::now() < end, "waited in vain");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, _: Event) {}
}

/// Many flows at once, over several workers at both ends: every flow arrives in its order.
#[test]
fn flows_keep_their_order() -> anyhow::Result<()> {
    const FLOWS: usize = 64;
    const PACKETS: u32 = 400;
    for workers in [Workers::One, Workers::Many(3)] {
        let bed = Bed::new()?;
        let [(a, _at), (b, _bt)] = p2p(&bed, "192.0.2.1:1194", "192.0.2.2:1194", workers)?;
        let sink = bed.b.enter(|| UdpSocket::bind("10.8.0.2:9"))??;
        sink.set_read_timeout(Some(Duration::from_millis(500)))?;
        let senders = bed
            .a
            .enter(|| (0..FLOWS).map(|_| UdpSocket::bind("10.8.0.1:0")).collect::<Result<Vec<_>, _>>())??;
        let receiver = std::thread::spawn(move || {
            let (mut last, mut received) = ([None; FLOWS], 0usize);
            let mut buffer = [0; 2048];
            while let Ok(len) = sink.recv(&mut buffer) {
                let flow = usize::from(buffer[0]);
                let number = u32::from_be_bytes(buffer[1..5].try_into().unwrap());
                assert!(
                    len >= 5 && last[flow] < Some(number),
                    "flow {flow}: {number} after {:?}",
                    last[flow]
                );
                last[flow] = Some(number);
                received += 1;
            }
            received
        });
        // Two threads, so that several queues of the device are busy at the same time.
        std::thread::scope(|scope| {
            for part in senders.chunks(FLOWS / 2).enumerate() {
                scope.spawn(move || {
                    for number in 0..PACKETS {
                        for (index, socket) in part.1.iter().enumerate() {
                            let flow = part.0 * (FLOWS / 2) + index;
                            // Runs of one size, and changes.
                            let mut packet = vec![0; if number / 7 % 2 == 0 { 600 } else { 5 + index * 10 }];
                            packet[0] = flow as u8;
                            packet[1..5].copy_from_slice(&number.to_be_bytes());
                            socket.send_to(&packet, "10.8.0.2:9").unwrap();
                        }
                        std::thread::sleep(Duration::from_micros(500));
                    }
                });
            }
        });
        let received = receiver.join().map_err(|_| anyhow::anyhow!("a flow lost its order, {workers:?}"))?;
        // How many is a question of the machine; enough for an order to be lost.
        assert!(received > FLOWS * PACKETS as usize / 8, "{received} received, {workers:?}");
        let replayed: u64 = b
            .drops()
            .iter()
            .filter(|(r, _)| ["replayed", "replay-too-old"].contains(&r.name()))
            .map(|d| d.1)
            .sum();
        assert_eq!(replayed, 0);
        drop(a);
    }
    Ok(())
}
