//! Events: every deletion with its reason, to every subscriber.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::bench::{Bench, Done, EINVAL, ENOENT, accepted, expect, id, key, next_event, refused};
use super::{Case, Factory, LIMIT, Verdict, case, ensure};
use crate::{CipherAlg, DelReason, Event, KeySlot, Mode};

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
    bench.expect_quiet()?;
    expect(&bench.ids()?, &vec![1, 2, 3])?;
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
    bench.expect_deleted(id(1), DelReason::TransportDisconnect)?;
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

fn bad_frame(factory: &dyn Factory) -> Done {
    // lengths 0 and 1; a packet that is no packet; DATA_V1
    for frame in [&[0, 0, 0, 0][..], &[0, 1, 9, 9], &[0, 3, 9 << 3, 1, 2], &[0, 5, 6 << 3, 1, 2, 3, 4]] {
        let mut bench = Bench::p2p(factory)?;
        if bench.plane.capabilities().data_v1 && frame.len() == 7 {
            continue;
        }
        let (tcp, mut other) = bench.tcp()?;
        let mut peer = bench.peer(1, tcp.id);
        peer.remote = None;
        bench.add(&peer)?;
        other.write_all(frame).map_err(|error| error.to_string())?;
        let mut buf = [0; 100];
        let limit = LIMIT * factory.patience();
        let end = Instant::now() + limit;
        let broken = Event::PeerDeleted { peer: id(1), reason: DelReason::TransportError };
        loop {
            if let Some(event) = bench.events.next().map_err(|error| error.to_string())? {
                expect(&event, &broken).map_err(|why| format!("{frame:?}: {why}"))?;
                break;
            }
            match tcp.port.recv(&mut buf) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => break,
                Ok(received) => return Err(format!("{frame:?}: {} bytes are handed out", received.len)),
                Err(_) => {}
            }
            ensure!(Instant::now() < end, "{frame:?} is passed over");
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(Verdict::Passed)
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
