//! Two engines in two network namespaces, joined by a veth pair, with real traffic through them.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use ovpn_dco::{
    CipherAlg, DataFormat, DataPlane, DelReason, Event, EventSource, Framing, Keepalive, KeyConfig,
    KeyDirection, KeyId, KeySlot, Mode, PeerConfig, PeerId, PeerUpdate, Protocol, SocketSource, Transport,
    VpnAddrs,
};
use ovpn_engine::{Engine, EngineConfig, Workers};
use ovpn_testkit::{Netns, wait_for};

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
    })?;
    engine.key_new(id(number), KeySlot::Primary, &key(0, reverse))?;
    Ok(())
}

fn ping(ns: &Netns, options: &str, to: &str) -> anyhow::Result<()> {
    let arguments: Vec<&str> = options.split_whitespace().chain([to]).collect();
    let output = ns.run("ping", &arguments).with_context(|| format!("ping {to}"))?;
    anyhow::ensure!(output.contains(" 0% packet loss"), "{output}");
    Ok(())
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
        up(ns, &format!("10.8.0.{number}/24"))?;
        up(ns, &format!("fd00:8::{number}/64"))?;
        ends.push((engine, transport));
    }
    ends.try_into().map_err(|_| anyhow::anyhow!("two ends"))
}

#[test]
fn packets_pass_over_udp() -> anyhow::Result<()> {
    for (from, to) in [("192.0.2.1:1194", "192.0.2.2:1194"), ("[2001:db8::1]:1194", "[2001:db8::2]:1194")] {
        for workers in [Workers::One, Workers::PerDirection, Workers::Many(2)] {
            let bed = Bed::new()?;
            let [(a, _a), (b, _b)] = p2p(&bed, from, to, workers)?;
            for (options, to) in [
                ("-c 100 -i 0.002 -W 3", "10.8.0.2"),
                ("-c 100 -i 0.002 -W 3 -s 3000", "10.8.0.2"),
                ("-c 10 -i 0.002 -W 3", "fd00:8::2"),
            ] {
                ping(&bed.a, options, to).with_context(|| format!("{from}, {workers:?}"))?;
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
