//! Packets: control packets in and out, keepalive between two devices, float, counters.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::bench::{Bench, Check, Done, PEER, Tunnel, accepted, expect, id, is_loopback, key, text};
use super::{Case, Factory, Verdict, case, ensure};
use crate::{CipherAlg, Counters, DelReason, Driver, Event, KeySlot};

pub(super) const CASES: &[Case] = &[
    case!(control_udp: "control packets over UDP pass untouched, both ways"),
    case!(data_not_handed_out: "data packets over UDP are not handed out"),
    case!(control_tcp: "control packets over TCP pass untouched, both ways, before and after the peer is made"),
    case!(control_tcp_backlog: "control packets over TCP that wait when the peer is made are kept"),
    case!(alive: "keepalive: two devices keep each other alive; counters are those of the pings"),
    case!(alive_ciphers: "keepalive: with every cipher"),
    case!(alive_tcp: "keepalive: over TCP"),
    case!(alive_fragments: "keepalive: with the fragment header, or peers that want it are refused"),
    case!(half_dead: "keepalive: a peer whose other end has no key expires"),
    case!(rekey: "a key is replaced while both ends keep each other alive"),
    case!(float: "float: an authenticated packet from another address moves the peer and is told"),
    case!(no_float: "float: a packet that fails authentication moves nothing"),
];

/// A packet of the control channel (P_CONTROL_HARD_RESET_CLIENT_V2).
const CONTROL: &[u8] = &[7 << 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];

fn control_udp(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    let (udp, address) = bench.udp()?;
    let stranger = UdpSocket::bind("127.0.0.1:0").map_err(text)?;
    stranger.set_read_timeout(Some(Duration::from_secs(30))).map_err(text)?;
    let from = stranger.local_addr().map_err(text)?;
    for with_peer in [false, true] {
        if with_peer {
            bench.add(&bench.peer(1, udp.id))?;
        }
        stranger.send_to(CONTROL, address).map_err(text)?;
        expect(&bench.control(&*udp.port)?, &(CONTROL.to_vec(), from))?;
        udp.port.send(&[8 << 3, 9, 9], from, None).map_err(text)?;
        let mut buf = [0; 100];
        let (length, sender) = stranger.recv_from(&mut buf).map_err(text)?;
        expect(&(&buf[..length], sender), &(&[8 << 3, 9, 9][..], address))?;
    }
    Ok(Verdict::Passed)
}

fn data_not_handed_out(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    let (udp, address) = bench.udp()?;
    bench.add(&bench.peer(1, udp.id))?;
    let stranger = UdpSocket::bind("127.0.0.1:0").map_err(text)?;
    let data = [&[9 << 3, 0, 0, 77][..], &[0; 40]].concat();
    stranger.send_to(&data, address).map_err(text)?;
    stranger.send_to(CONTROL, address).map_err(text)?;
    expect(&bench.control(&*udp.port)?.0, &CONTROL.to_vec())?;
    Ok(Verdict::Passed)
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], packet].concat()
}

fn control_tcp(factory: &dyn Factory) -> Done {
    let bench = Bench::p2p(factory)?;
    let (tcp, mut other) = bench.tcp()?;
    let to: SocketAddr = ([127, 0, 0, 1], 1).into();
    let long = vec![7 << 3; 1500];
    for with_peer in [false, true] {
        if with_peer {
            let mut peer = bench.peer(1, tcp.id);
            peer.remote = None;
            bench.add(&peer)?;
        }
        for packet in [CONTROL, &long] {
            let framed = frame(packet);
            // in two pieces, so that a half packet waits for a moment
            other.write_all(&framed[..3]).map_err(text)?;
            thread::sleep(Duration::from_millis(20));
            other.write_all(&framed[3..]).map_err(text)?;
            expect(&bench.control(&*tcp.port)?.0, &packet.to_vec())?;
            tcp.port.send(packet, to, None).map_err(text)?;
            let mut got = vec![0; framed.len()];
            other.read_exact(&mut got).map_err(text)?;
            expect(&got, &framed)?;
        }
    }
    Ok(Verdict::Passed)
}

fn control_tcp_backlog(factory: &dyn Factory) -> Done {
    let bench = Bench::p2p(factory)?;
    let (tcp, mut other) = bench.tcp()?;
    let two = [frame(CONTROL), frame(&[5 << 3, 1, 1, 1])].concat();
    // one whole packet and a part of the next one
    let (now, later) = two.split_at(CONTROL.len() + 4);
    other.write_all(now).map_err(text)?;
    thread::sleep(Duration::from_millis(50));
    let mut peer = bench.peer(1, tcp.id);
    peer.remote = None;
    bench.add(&peer)?;
    other.write_all(later).map_err(text)?;
    expect(&bench.control(&*tcp.port)?.0, &CONTROL.to_vec())?;
    expect(&bench.control(&*tcp.port)?.0, &vec![5 << 3, 1, 1, 1])?;
    Ok(Verdict::Passed)
}

/// Lets both ends of each tunnel ping every second for a while, and demands that all peers live.
fn keep_alive(tunnels: &mut [&mut Tunnel]) -> Check {
    for tunnel in &*tunnels {
        for bench in [&tunnel.server, &tunnel.client] {
            bench.keepalive(id(PEER), 1, 4)?;
        }
    }
    // longer than the timeout, which emulation does not overrun
    thread::sleep(Duration::from_millis(6000));
    for (number, tunnel) in tunnels.iter_mut().enumerate() {
        for (bench, name) in [(&mut tunnel.server, "server"), (&mut tunnel.client, "client")] {
            bench.expect_quiet().map_err(|why| format!("{name} {number}: {why}"))?;
            expect(&bench.ids()?, &vec![PEER])?;
            let stats = accepted("get", bench.plane.peer_get(id(PEER)))?.stats;
            ensure!(
                stats.link.rx_packets >= 2 && stats.link.tx_packets >= 2,
                "{name} {number} sends and receives pings: {stats:?}"
            );
        }
    }
    Ok(())
}

/// DATA_V2 header, packet id, tag, and the 16 bytes of a ping.
const PING: u64 = 4 + 4 + 16 + PING_INSIDE;
const PING_INSIDE: u64 = 16;

fn alive(factory: &dyn Factory) -> Done {
    let mut tunnel = Tunnel::plain(factory)?;
    keep_alive(&mut [&mut tunnel])?;
    for bench in [&tunnel.server, &tunnel.client] {
        let stats = accepted("get", bench.plane.peer_get(id(PEER)))?.stats;
        expect(&stats.link.rx_bytes, &(stats.link.rx_packets * PING))?;
        expect(&stats.link.tx_bytes, &(stats.link.tx_packets * PING))?;
        let pings = match bench.plane.capabilities().driver {
            // counts pings as inner packets, too
            Driver::KernelV2 => Counters {
                rx_bytes: stats.link.rx_packets * PING_INSIDE,
                tx_bytes: stats.link.tx_packets * PING_INSIDE,
                ..stats.link
            },
            _ => Counters::default(),
        };
        expect(&stats.vpn, &pings)?;
    }
    ensure!(is_loopback(Some(tunnel.client_address)), "an address of another kind");
    drop(tunnel.client_transport);
    if tunnel.client.is(Driver::KernelV2) {
        // It has a reference to the socket of its own, and goes on pinging.
        accepted("del", tunnel.client.plane.peer_del(id(PEER)))?;
        tunnel.client.expect_deleted(id(PEER), DelReason::Userspace)?;
    } else {
        tunnel.client.expect_deleted(id(PEER), DelReason::TransportDisconnect)?;
    }
    tunnel.server.expect_deleted(id(PEER), DelReason::Expired)?;
    drop(tunnel.server_transport);
    Ok(Verdict::Passed)
}

fn alive_ciphers(factory: &dyn Factory) -> Done {
    let mut tunnels = Vec::new();
    for kind in [(CipherAlg::AesGcm, 16), (CipherAlg::AesGcm, 24), (CipherAlg::ChaCha20Poly1305, 32)] {
        let bench = Bench::p2p(factory)?;
        let offered = bench.plane.capabilities();
        if offered.ciphers.contains(&kind.0) && (kind.1 != 24 || offered.aes_192) {
            tunnels.push(Tunnel::open(factory, kind, |_| Ok(None))?);
        }
    }
    keep_alive(&mut tunnels.iter_mut().collect::<Vec<_>>())?;
    Ok(Verdict::Passed)
}

fn alive_tcp(factory: &dyn Factory) -> Done {
    let (server, client) = (Bench::multi(factory)?, Bench::p2p(factory)?);
    if !server.plane.capabilities().multi_peer_tcp {
        return Ok(Verdict::NotApplicable("no TCP servers"));
    }
    let (own, other) = super::bench::tcp_pair()?;
    let (server_transport, client_transport) =
        (server.open_transport(own.into())?, client.open_transport(other.into())?);
    for (bench, transport, is_client) in
        [(&server, &server_transport, false), (&client, &client_transport, true)]
    {
        let mut peer = bench.peer(PEER, transport.id);
        peer.remote = None;
        bench.add(&peer)?;
        let key = key(CipherAlg::AesGcm, 32, 0, is_client);
        accepted("new key", bench.plane.key_new(id(PEER), KeySlot::Primary, &key))?;
    }
    let address: SocketAddr = ([127, 0, 0, 1], 1).into();
    let mut tunnel = Tunnel {
        server,
        client,
        server_transport,
        client_transport,
        server_address: address,
        client_address: address,
    };
    keep_alive(&mut [&mut tunnel])?;
    // control packets between the data packets
    tunnel.client_transport.port.send(CONTROL, address, None).map_err(text)?;
    expect(&tunnel.server.control(&*tunnel.server_transport.port)?.0, &CONTROL.to_vec())?;
    accepted("del", tunnel.server.plane.peer_del(id(PEER)))?;
    drop(tunnel.server_transport);
    tunnel.client.expect_disconnected(id(PEER))?;
    Ok(Verdict::Passed)
}

fn alive_fragments(factory: &dyn Factory) -> Done {
    let (server, client) = (Bench::multi(factory)?, Bench::p2p(factory)?);
    let (server_transport, server_address) = server.udp()?;
    let (client_transport, client_address) = client.udp()?;
    for (bench, transport, remote, is_client) in [
        (&server, &server_transport, client_address, false),
        (&client, &client_transport, server_address, true),
    ] {
        let mut peer = bench.peer(PEER, transport.id);
        (peer.remote, peer.fragment) = (Some(remote), Some(1172));
        if !bench.plane.capabilities().fragment {
            ensure!(bench.plane.peer_new(&peer).is_err(), "what it cannot do is refused");
            return Ok(Verdict::NotApplicable("no fragment header"));
        }
        bench.add(&peer)?;
        let key = key(CipherAlg::AesGcm, 32, 0, is_client);
        accepted("new key", bench.plane.key_new(id(PEER), KeySlot::Primary, &key))?;
    }
    let mut tunnel =
        Tunnel { server, client, server_transport, client_transport, server_address, client_address };
    keep_alive(&mut [&mut tunnel])?;
    for bench in [&tunnel.server, &tunnel.client] {
        let link = accepted("get", bench.plane.peer_get(id(PEER)))?.stats.link;
        expect(&link.rx_bytes, &(link.rx_packets * (PING + 4)))?;
        expect(&link.tx_bytes, &(link.tx_packets * (PING + 4)))?;
    }
    Ok(Verdict::Passed)
}

fn half_dead(factory: &dyn Factory) -> Done {
    let mut tunnel = Tunnel::plain(factory)?;
    accepted("del", tunnel.client.plane.key_del(id(PEER), KeySlot::Primary))?;
    tunnel.server.keepalive(id(PEER), 1, 3)?;
    tunnel.client.keepalive(id(PEER), 1, 3)?;
    tunnel.server.expect_deleted(id(PEER), DelReason::Expired)?;
    tunnel.client.expect_deleted(id(PEER), DelReason::Expired)?;
    Ok(Verdict::Passed)
}

fn rekey(factory: &dyn Factory) -> Done {
    let mut tunnel = Tunnel::plain(factory)?;
    let benches = |tunnel: &Tunnel, act: &dyn Fn(&Bench, bool) -> Check| -> Check {
        act(&tunnel.server, false)?;
        act(&tunnel.client, true)
    };
    benches(&tunnel, &|bench, is_client| {
        let key = key(CipherAlg::ChaCha20Poly1305, 32, 1, is_client);
        accepted("new key", bench.plane.key_new(id(PEER), KeySlot::Secondary, &key))
    })?;
    // one end sends with the new key, the other one with the old key: both receive both
    accepted("swap", tunnel.client.plane.key_swap(id(PEER)))?;
    keep_alive(&mut [&mut tunnel])?;
    accepted("swap", tunnel.server.plane.key_swap(id(PEER)))?;
    benches(&tunnel, &|bench, _| accepted("del", bench.plane.key_del(id(PEER), KeySlot::Secondary)))?;
    keep_alive(&mut [&mut tunnel])?;
    Ok(Verdict::Passed)
}

/// Passes what comes on one socket on to `to`, from either of two others.
struct Relay {
    address: SocketAddr,
    second: Arc<AtomicBool>,
    second_address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Relay {
    /// `change` may alter a packet on its second way.
    fn start(to: SocketAddr, change: fn(&mut [u8])) -> Check<Self> {
        let sockets = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").map_err(text));
        let [inward, first, other] = sockets;
        let (inward, first, other) = (inward?, first?, other?);
        let (second, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (address, second_address) =
            (inward.local_addr().map_err(text)?, other.local_addr().map_err(text)?);
        inward.set_read_timeout(Some(Duration::from_millis(20))).map_err(text)?;
        let flags = (Arc::clone(&second), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let (second, stop) = flags;
            let mut buf = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                let Ok(length) = inward.recv(&mut buf) else { continue };
                let Some(packet) = buf.get_mut(..length) else { continue };
                let _ = if second.load(Ordering::Relaxed) {
                    change(packet);
                    other.send_to(packet, to)
                } else {
                    first.send_to(packet, to)
                };
            }
        });
        Ok(Self { address, second, second_address, stop, thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A tunnel whose client sends through a relay.
fn relayed(factory: &dyn Factory, change: fn(&mut [u8])) -> Check<(Tunnel, Relay)> {
    let mut relay = None;
    let tunnel = Tunnel::open(factory, (CipherAlg::AesGcm, 32), |server| {
        let started = Relay::start(server, change)?;
        let address = started.address;
        relay = Some(started);
        Ok(Some(address))
    })?;
    Ok((tunnel, relay.ok_or("no relay")?))
}

fn remote_of_server_peer(tunnel: &Tunnel) -> Check<Option<SocketAddr>> {
    Ok(accepted("get", tunnel.server.plane.peer_get(id(PEER)))?.remote)
}

fn float(factory: &dyn Factory) -> Done {
    let (mut tunnel, relay) = relayed(factory, |_| {})?;
    if !tunnel.server.plane.capabilities().float {
        return Ok(Verdict::NotApplicable("no float"));
    }
    // the client's packets come from the relay, not from the address that the server was told
    tunnel.client.keepalive(id(PEER), 1, 0)?;
    tunnel.client.keepalive(id(PEER), 1, 60)?;
    let tells = !tunnel.server.is(Driver::KernelV2);
    if tells {
        let Event::PeerFloat { peer, .. } = tunnel.server.event()? else {
            return Err("another event".into());
        };
        expect(&peer, &id(PEER))?;
    } else {
        thread::sleep(Duration::from_secs(2));
    }
    let before = remote_of_server_peer(&tunnel)?;
    ensure!(before != Some(tunnel.client_address), "the peer has not moved");
    relay.second.store(true, Ordering::Relaxed);
    if tells {
        let event = tunnel.server.event()?;
        expect(&event, &Event::PeerFloat { peer: id(PEER), remote: relay.second_address })?;
    } else {
        thread::sleep(Duration::from_secs(2));
    }
    expect(&remote_of_server_peer(&tunnel)?, &Some(relay.second_address))?;
    tunnel.server.expect_quiet()?;
    Ok(Verdict::Passed)
}

fn no_float(factory: &dyn Factory) -> Done {
    let flip = |packet: &mut [u8]| {
        if let Some(last) = packet.last_mut() {
            *last ^= 1;
        }
    };
    let (mut tunnel, relay) = relayed(factory, flip)?;
    if tunnel.server.is(Driver::KernelV2) {
        return Ok(Verdict::NotApplicable("ovpn-dco-v2 follows before it authenticates"));
    }
    relay.second.store(true, Ordering::Relaxed);
    tunnel.client.keepalive(id(PEER), 1, 60)?;
    tunnel.server.wait("a broken ping", || {
        let stats = accepted("get", tunnel.server.plane.peer_get(id(PEER)))?.stats;
        Ok((stats.link.rx_packets > 0).then_some(()))
    })?;
    tunnel.server.expect_quiet()?;
    expect(&remote_of_server_peer(&tunnel)?, &Some(tunnel.client_address))?;
    ensure!(tunnel.server_address.port() != 0, "no port");
    Ok(Verdict::Passed)
}
