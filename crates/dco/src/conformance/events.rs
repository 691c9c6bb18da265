//! Events: every deletion with its reason, to every subscriber.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::bench::{
    Bench, Check, Done, EINVAL, ENOENT, QUIET, accepted, expect, id, key, next_event, refused,
};
use super::{Case, Factory, LIMIT, Verdict, case};
use crate::{CipherAlg, ControlPort, DelReason, Driver, Event, KeySlot, Mode};

pub(super) const CASES: &[Case] = &[
    case!(subscribers: "every subscriber sees every event from its beginning on"),
    case!(expiry: "keepalive: a silent peer expires"),
    case!(expiry_off: "keepalive: 0 turns it off"),
    case!(expiry_restart: "keepalive: setting it restarts the timers"),
    case!(close_udp: "closing a UDP socket deletes its peers: transport-disconnect"),
    case!(close_tcp: "closing a TCP socket deletes its peer: transport-disconnect"),
    case!(remote_close: "a TCP connection that the other end closes shows at the port, and deletes its peer with the next ping"),
    case!(bad_frame: "a broken TCP frame deletes its peer (transport-error) or ends its port"),
    case!(foreign_device: "events of other devices are not told"),
];

fn subscribers(factory: &dyn Factory) -> Done {
    let mut bench = Bench::multi(factory)?;
    let (udp, _) = bench.udp()?;
    bench.add(&bench.peer(1, udp.id))?;
    accepted("del", bench.plane.peer_del(id(1)))?;
    bench.expect_deleted(id(1), DelReason::Userspace)?;
    let mut late = accepted("subscribe", bench.plane.events())?;
    bench.add(&bench.peer(2, udp.id))?;
    accepted("del", bench.plane.peer_del(id(2)))?;
    bench.expect_deleted(id(2), DelReason::Userspace)?;
    let event = next_event(&mut *late, LIMIT * factory.patience())?;
    expect(&event, &Event::PeerDeleted { peer: id(2), reason: DelReason::Userspace })?;
    Ok(Verdict::Passed)
}

fn expiry(factory: &dyn Factory) -> Done {
    for mode in [Mode::P2p, Mode::MultiPeer] {
        let mut bench = Bench::open(factory, mode)?;
        let (udp, _) = bench.udp()?;
        bench.add(&bench.peer(1, udp.id))?;
        bench.keepalive(id(1), 1, 1)?;
        bench.expect_deleted(id(1), DelReason::Expired)?;
        refused("get", ENOENT, bench.plane.peer_get(id(1)))?;
        expect(&bench.ids()?, &vec![])?;
    }
    Ok(Verdict::Passed)
}

fn expiry_off(factory: &dyn Factory) -> Done {
    let mut bench = Bench::multi(factory)?;
    let (udp, _) = bench.udp()?;
    for (number, interval, timeout) in [(1, 0, 0), (2, 0, 1), (3, 1, 0)] {
        bench.add(&bench.peer(number, udp.id))?;
        bench.keepalive(id(number), 1, 1)?;
        bench.keepalive(id(number), interval, timeout)?;
    }
    thread::sleep(Duration::from_millis(2500));
    let mut living = vec![1, 2, 3];
    if bench.is(Driver::KernelV2) {
        // Its two timers know nothing of each other: without pings the other end may still be missed.
        bench.expect_deleted(id(2), DelReason::Expired)?;
        living.retain(|number| *number != 2);
    }
    bench.expect_quiet()?;
    expect(&bench.ids()?, &living)?;
    Ok(Verdict::Passed)
}

fn expiry_restart(factory: &dyn Factory) -> Done {
    let mut bench = Bench::multi(factory)?;
    let (udp, _) = bench.udp()?;
    bench.add(&bench.peer(1, udp.id))?;
    bench.keepalive(id(1), 3, 3)?;
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(1000));
        bench.keepalive(id(1), 3, 3)?;
    }
    expect(&bench.ids()?, &vec![1])?;
    bench.expect_deleted(id(1), DelReason::Expired)?;
    Ok(Verdict::Passed)
}

fn close_udp(factory: &dyn Factory) -> Done {
    let mut bench = Bench::multi(factory)?;
    let (one, _) = bench.udp()?;
    let (other, _) = bench.udp()?;
    for (number, transport) in [(1, &one), (2, &one), (3, &other)] {
        bench.add(&bench.peer(number, transport.id))?;
    }
    drop(one);
    if bench.is(Driver::KernelV2) {
        return holds_its_socket(&mut bench, &[1, 2, 3]);
    }
    let mut gone = Vec::new();
    for _ in 0..2 {
        let Event::PeerDeleted { peer, reason: DelReason::TransportDisconnect } = bench.event()? else {
            return Err("another event".into());
        };
        gone.push(peer.get());
    }
    gone.sort_unstable();
    expect(&gone, &vec![1, 2])?;
    expect(&bench.ids()?, &vec![3])?;
    bench.expect_quiet()?;
    Ok(Verdict::Passed)
}

fn close_tcp(factory: &dyn Factory) -> Done {
    let mut bench = Bench::p2p(factory)?;
    let (tcp, _other) = bench.tcp()?;
    let mut peer = bench.peer(1, tcp.id);
    peer.remote = None;
    bench.add(&peer)?;
    drop(tcp);
    if bench.is(Driver::KernelV2) {
        return holds_its_socket(&mut bench, &[1]);
    }
    bench.expect_deleted(id(1), DelReason::TransportDisconnect)?;
    expect(&bench.ids()?, &vec![])?;
    Ok(Verdict::Passed)
}

/// `ovpn-dco-v2` has a reference to the socket of its own: our closing it is not the last, and the peers live on until
/// they are deleted.
fn holds_its_socket(bench: &mut Bench, peers: &[u32]) -> Done {
    bench.expect_quiet()?;
    expect(&bench.ids()?, &peers.to_vec())?;
    for number in peers {
        accepted("del", bench.plane.peer_del(id(*number)))?;
        bench.expect_deleted(id(*number), DelReason::Userspace)?;
    }
    expect(&bench.ids()?, &vec![])?;
    Ok(Verdict::Passed)
}

fn remote_close(factory: &dyn Factory) -> Done {
    let mut bench = Bench::p2p(factory)?;
    let (tcp, other) = bench.tcp()?;
    let mut peer = bench.peer(1, tcp.id);
    peer.remote = None;
    bench.add(&peer)?;
    let key = key(CipherAlg::AesGcm, 32, 0, true);
    accepted("new key", bench.plane.key_new(id(1), KeySlot::Primary, &key))?;
    drop(other);
    bench.ended(&*tcp.port)?;
    // a driver may only notice when it sends; one that noticed before has no such peer any more
    if bench.ids()? == [1] {
        let _ = bench.keepalive(id(1), 1, 60);
    }
    bench.expect_disconnected(id(1))?;
    expect(&bench.ids()?, &vec![])?;
    Ok(Verdict::Passed)
}

/// What becomes of a broken frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The peer is deleted for its transport's error, or its port ends.
    Ends,
    /// It is handed out, as if it were a control packet.
    HandedOut,
    /// Nothing is seen of it.
    PassedOver,
}

fn bad_frame(factory: &dyn Factory) -> Done {
    use Fate::{Ends, HandedOut, PassedOver};
    // What must become of it, and what becomes of it in `ovpn-dco-v2`, whose stream parser looks for nothing but
    // lengths of 0, and hands out what is not DATA_V2.
    for (frame, fate, in_v2) in [
        (&[0, 0, 0, 0][..], Ends, Ends),
        (&[0, 1, 9, 9], Ends, HandedOut),
        // a packet that is no packet
        (&[0, 3, 9 << 3, 1, 2], Ends, PassedOver),
        // DATA_V1
        (&[0, 5, 6 << 3, 1, 2, 3, 4], Ends, HandedOut),
    ] {
        let mut bench = Bench::p2p(factory)?;
        if bench.plane.capabilities().data_v1 && frame.len() == 7 {
            continue;
        }
        let fate = if bench.is(Driver::KernelV2) { in_v2 } else { fate };
        let (tcp, mut other) = bench.tcp()?;
        let mut peer = bench.peer(1, tcp.id);
        peer.remote = None;
        bench.add(&peer)?;
        other.write_all(frame).map_err(|error| error.to_string())?;
        let seen = fate_of(&mut bench, &*tcp.port, if fate == PassedOver { QUIET } else { LIMIT })?;
        expect(&seen, &fate).map_err(|why| format!("{frame:?}: {why}"))?;
        if fate == PassedOver {
            expect(&bench.ids()?, &vec![1])?;
        }
    }
    Ok(Verdict::Passed)
}

/// Watches a port and its peer for what comes first, at most for `limit`.
fn fate_of(bench: &mut Bench, port: &dyn ControlPort, limit: Duration) -> Check<Fate> {
    let mut buf = [0; 100];
    let end = Instant::now() + limit * bench.patience;
    let broken = Event::PeerDeleted { peer: id(1), reason: DelReason::TransportError };
    while Instant::now() < end {
        if let Some(event) = bench.events.next().map_err(|error| error.to_string())? {
            expect(&event, &broken)?;
            return Ok(Fate::Ends);
        }
        match port.recv(&mut buf) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Ok(Fate::Ends),
            Ok(_) => return Ok(Fate::HandedOut),
            Err(_) => {}
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(Fate::PassedOver)
}

fn foreign_device(factory: &dyn Factory) -> Done {
    let (mut one, mut other) = (Bench::multi(factory)?, Bench::multi(factory)?);
    let (udp, _) = other.udp()?;
    other.add(&other.peer(1, udp.id))?;
    accepted("del", other.plane.peer_del(id(1)))?;
    other.expect_deleted(id(1), DelReason::Userspace)?;
    one.expect_quiet()?;
    refused("an unusable VPN address", EINVAL, {
        let mut peer = one.peer(1, udp.id);
        peer.vpn = crate::VpnAddrs::default();
        let (own, _) = one.udp()?;
        peer.transport = own.id;
        one.plane.peer_new(&peer)
    })?;
    Ok(Verdict::Passed)
}
