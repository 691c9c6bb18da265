//! Peers: what is refused, and how it is said; what is changed, and what is told.

use std::net::{Ipv6Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;

use super::bench::{
    Bench, Check, Done, EADDRINUSE, EADDRNOTAVAIL, EEXIST, EINVAL, ENOENT, ENOTSOCK, ERANGE, accepted,
    expect, id, no_socket, refused, tcp_pair, text,
};
use super::{Case, Factory, Verdict, case, ensure};
use crate::{DelReason, Driver, Mode, PeerConfig, PeerUpdate, SocketSource, VpnAddrs};

pub(super) const CASES: &[Case] = &[
    case!(device: "device: name, index and mode are told"),
    case!(empty: "a device without peers dumps nothing and knows nobody"),
    case!(new_combinations: "PEER_NEW: contradicting attributes are refused"),
    case!(new_vpn_addresses: "PEER_NEW: VPN addresses that are no host's are refused"),
    case!(new_taken: "PEER_NEW: taken ids and VPN addresses are refused"),
    case!(new_bad_sockets: "PEER_NEW: descriptors that carry no peer are refused"),
    case!(new_tcp_twice: "PEER_NEW: a TCP socket carries one peer"),
    case!(new_foreign_socket: "PEER_NEW: a UDP socket belongs to one device"),
    case!(new_mapped: "PEER_NEW: IPv4-mapped addresses are IPv4"),
    case!(new_v6: "PEER_NEW: IPv6 remotes and local addresses"),
    case!(new_largest_id: "PEER_NEW: the largest id"),
    case!(tx_id: "PEER_NEW, PEER_SET: id for sending"),
    case!(p2p_replaces: "PEER_NEW: a point-to-point device replaces its peer"),
    case!(set_refusals: "PEER_SET: what is refused"),
    case!(set_vpn: "PEER_SET: VPN addresses are added, cleared and kept apart"),
    case!(set_remote: "PEER_SET: the remote address moves without an event"),
    case!(get: "PEER_GET: what was set is told"),
    case!(del: "PEER_DEL: the peer is gone, is said to be, and its id is free"),
    case!(many: "many peers on one socket"),
];

fn device(factory: &dyn Factory) -> Done {
    for mode in [Mode::P2p, Mode::MultiPeer] {
        let bench = Bench::open(factory, mode)?;
        let device = bench.plane.device();
        ensure!(device.mode == mode && device.ifindex > 0, "{device:?}");
        let net = ovpn_sys::netlink::route::Rtnetlink::open().map_err(|error| error.to_string())?;
        let link = net.link_get(device.ifindex).map_err(|error| error.to_string())?;
        ensure!(link.name == device.name, "{} instead of {}", device.name, link.name);
    }
    Ok(Verdict::Passed)
}

fn empty(factory: &dyn Factory) -> Done {
    for mode in [Mode::P2p, Mode::MultiPeer] {
        let bench = Bench::open(factory, mode)?;
        expect(&bench.ids()?, &vec![])?;
        refused("get", ENOENT, bench.plane.peer_get(id(20)))?;
        refused("del", ENOENT, bench.plane.peer_del(id(20)))?;
        refused("set", ENOENT, bench.plane.peer_set(id(20), &PeerUpdate::default()))?;
    }
    Ok(Verdict::Passed)
}

fn new_combinations(factory: &dyn Factory) -> Done {
    let (multi, single) = (Bench::multi(factory)?, Bench::p2p(factory)?);
    let (udp, _) = multi.udp()?;
    let (tcp, _other) = multi.tcp()?;
    let good = multi.peer(1, udp.id);

    let mut peer = good.clone();
    peer.remote = None;
    refused("UDP without remote", EINVAL, multi.plane.peer_new(&peer))?;
    peer.transport = tcp.id;
    peer.remote = good.remote;
    refused("TCP with remote", EINVAL, multi.plane.peer_new(&peer))?;
    let mut peer = good.clone();
    peer.vpn = VpnAddrs::default();
    refused("multi-peer without VPN address", EINVAL, multi.plane.peer_new(&peer))?;
    let mut peer = good.clone();
    peer.local = Some(Ipv6Addr::LOCALHOST.into());
    refused("local IPv6, remote IPv4", EINVAL, multi.plane.peer_new(&peer))?;
    let mut peer = good.clone();
    peer.remote = "[::1]:9".parse().ok();
    peer.local = "127.0.0.1".parse().ok();
    refused("local IPv4, remote IPv6", EINVAL, multi.plane.peer_new(&peer))?;

    let (udp, _) = single.udp()?;
    let mut peer = single.peer(1, udp.id);
    peer.vpn = good.vpn;
    // the older driver passes over VPN addresses of a point-to-point device
    if !single.is(Driver::KernelV2) {
        refused("VPN address on point-to-point", EINVAL, single.plane.peer_new(&peer))?;
    }
    expect(&multi.ids()?, &vec![])?;
    expect(&single.ids()?, &vec![])?;
    multi.add(&good)?;
    Ok(Verdict::Passed)
}

const NO_HOST_V4: &[&str] = &["127.0.0.1", "224.0.0.1", "255.255.255.255"];
const NO_HOST_V6: &[&str] = &["::1", "::192.0.2.1", "::ffff:192.0.2.1", "ff02::1"];

fn vpn(address: &str) -> VpnAddrs {
    VpnAddrs { v4: address.parse().ok(), v6: address.parse().ok() }
}

fn new_vpn_addresses(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    if bench.is(Driver::KernelV2) {
        return Ok(Verdict::NotApplicable("ovpn-dco-v2 does not look at VPN addresses"));
    }
    let (udp, _) = bench.udp()?;
    let mut peer = bench.peer(7, udp.id);
    for address in NO_HOST_V4.iter().chain(NO_HOST_V6) {
        peer.vpn = vpn(address);
        refused(address, EADDRNOTAVAIL, bench.plane.peer_new(&peer))?;
    }
    for address in ["0.0.0.0", "::"] {
        peer.vpn = vpn(address);
        ensure!(bench.plane.peer_new(&peer).is_err(), "{address} was taken");
    }
    expect(&bench.ids()?, &vec![])?;
    Ok(Verdict::Passed)
}

fn new_taken(factory: &dyn Factory) -> Done {
    let mut bench = Bench::multi(factory)?;
    let (udp, _) = bench.udp()?;
    bench.add(&bench.peer(1, udp.id))?;
    let mut peer = bench.peer(1, udp.id);
    peer.vpn = vpn("10.99.0.1");
    refused("the same id", EEXIST, bench.plane.peer_new(&peer))?;
    if !bench.is(Driver::KernelV2) {
        let mut peer = bench.peer(2, udp.id);
        peer.vpn = bench.peer(1, udp.id).vpn;
        refused("the same VPN address", EADDRINUSE, bench.plane.peer_new(&peer))?;
        peer.vpn = VpnAddrs { v6: "2001:db8::2".parse().ok(), v4: None };
        bench.add(&peer)?;
        peer.id = id(3);
        peer.vpn.v4 = "10.99.0.3".parse().ok();
        refused("the same IPv6 VPN address", EADDRINUSE, bench.plane.peer_new(&peer))?;
        expect(&bench.ids()?, &vec![1, 2])?;
    }
    bench.expect_quiet()?;
    // what a refused call had asked for is free
    let mut peer = bench.peer(3, udp.id);
    peer.vpn = vpn("10.99.0.3");
    bench.add(&peer)?;
    Ok(Verdict::Passed)
}

fn new_bad_sockets(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    let unix = UnixDatagram::unbound().map_err(text)?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(text)?;
    for (what, fd) in
        [("no socket", no_socket()?), ("Unix socket", unix.into()), ("listener", listener.into())]
    {
        let result = bench.plane.transport_open(SocketSource::Socket(fd)).and_then(|transport| {
            let mut peer = bench.peer(1, transport.id);
            peer.remote = None;
            bench.plane.peer_new(&peer)
        });
        refused(what, ENOTSOCK, result)?;
    }
    let (udp, _) = bench.udp()?;
    let transport = udp.id;
    drop(udp);
    refused("closed transport", ENOTSOCK, bench.plane.peer_new(&bench.peer(1, transport)))?;
    expect(&bench.ids()?, &vec![])?;
    Ok(Verdict::Passed)
}

fn new_tcp_twice(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    if !bench.plane.capabilities().multi_peer_tcp {
        return Ok(Verdict::NotApplicable("no TCP servers"));
    }
    let (tcp, _other) = bench.tcp()?;
    let mut peer = bench.peer(1, tcp.id);
    peer.remote = None;
    bench.add(&peer)?;
    let mut peer = bench.peer(2, tcp.id);
    peer.remote = None;
    refused("a second peer", ENOTSOCK, bench.plane.peer_new(&peer))?;
    expect(&bench.ids()?, &vec![1])?;
    Ok(Verdict::Passed)
}

fn new_foreign_socket(factory: &dyn Factory) -> Done {
    let (one, other) = (Bench::multi(factory)?, Bench::multi(factory)?);
    if !matches!(one.plane.capabilities().driver, Driver::Kernel | Driver::KernelV2) {
        return Ok(Verdict::NotApplicable("only a kernel sees the sockets of all devices"));
    }
    let socket = UdpSocket::bind(("127.0.0.1", 0)).map_err(text)?;
    let first = one.open_transport(socket.try_clone().map_err(text)?.into())?;
    one.add(&one.peer(1, first.id))?;
    let second = other.open_transport(socket.into())?;
    refused("the other device's socket", ENOTSOCK, other.plane.peer_new(&other.peer(1, second.id)))?;
    Ok(Verdict::Passed)
}

fn new_mapped(factory: &dyn Factory) -> Done {
    let bench = Bench::p2p(factory)?;
    let socket = UdpSocket::bind("[::]:0").map_err(text)?;
    let transport = bench.open_transport(socket.into())?;
    let mut peer = bench.peer(1, transport.id);
    peer.remote = "[::ffff:127.0.0.1]:77".parse().ok();
    peer.local = "::ffff:127.0.0.1".parse().ok();
    bench.add(&peer)?;
    let told = accepted("get", bench.plane.peer_get(id(1)))?;
    expect(&told.remote, &"127.0.0.1:77".parse().ok())?;
    Ok(Verdict::Passed)
}

fn new_v6(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    let socket = UdpSocket::bind("[::1]:0").map_err(text)?;
    let transport = bench.open_transport(socket.into())?;
    let mut peer = bench.peer(1, transport.id);
    peer.remote = "[::1]:77".parse().ok();
    peer.local = Some(Ipv6Addr::LOCALHOST.into());
    peer.vpn = VpnAddrs { v4: None, v6: "2001:db8::7".parse().ok() };
    bench.add(&peer)?;
    let told = accepted("get", bench.plane.peer_get(id(1)))?;
    expect(&told.remote, &peer.remote)?;
    expect(&told.vpn, &peer.vpn)?;
    expect(&told.local.map(|local| local.ip()), &peer.local)?;
    Ok(Verdict::Passed)
}

fn new_largest_id(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    let (udp, _) = bench.udp()?;
    let mut peer = bench.peer(0, udp.id);
    bench.add(&peer)?;
    peer.id = crate::PeerId::MAX;
    peer.vpn = vpn("10.99.0.1");
    bench.add(&peer)?;
    expect(&bench.ids()?, &vec![0, 0xFF_FFFE])?;
    Ok(Verdict::Passed)
}

fn tx_id(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    if !bench.plane.capabilities().tx_id {
        return Ok(Verdict::NotApplicable("no asymmetric ids"));
    }
    let (udp, _) = bench.udp()?;
    let mut peer = bench.peer(1, udp.id);
    peer.tx_id = Some(id(10));
    bench.add(&peer)?;
    bench.add(&bench.peer(2, udp.id))?;
    let tx_of = |number| accepted("get", bench.plane.peer_get(id(number))).map(|peer| peer.tx_id.get());
    expect(&(tx_of(1)?, tx_of(2)?), &(10, 2))?;
    let update = PeerUpdate { tx_id: Some(id(11)), ..PeerUpdate::default() };
    accepted("set", bench.plane.peer_set(id(1), &update))?;
    expect(&(tx_of(1)?, tx_of(2)?), &(11, 2))?;
    Ok(Verdict::Passed)
}

fn p2p_replaces(factory: &dyn Factory) -> Done {
    let mut bench = Bench::p2p(factory)?;
    let (udp, _) = bench.udp()?;
    bench.add(&bench.peer(1, udp.id))?;
    refused("another id", ENOENT, bench.plane.peer_get(id(2)))?;
    refused("another id", ENOENT, bench.plane.peer_del(id(2)))?;
    bench.add(&bench.peer(2, udp.id))?;
    bench.expect_deleted(id(1), DelReason::Teardown)?;
    expect(&bench.ids()?, &vec![2])?;
    // the same id replaces, too
    bench.add(&bench.peer(2, udp.id))?;
    bench.expect_deleted(id(2), DelReason::Teardown)?;
    expect(&bench.ids()?, &vec![2])?;
    Ok(Verdict::Passed)
}

fn set_refusals(factory: &dyn Factory) -> Done {
    let (multi, single) = (Bench::multi(factory)?, Bench::p2p(factory)?);
    let (udp, _) = single.udp()?;
    single.add(&single.peer(1, udp.id))?;
    let nothing = PeerUpdate::default();
    accepted("nothing", single.plane.peer_set(id(1), &nothing))?;
    if !single.is(Driver::KernelV2) {
        let day = std::time::Duration::from_secs(86_401);
        let keepalive = Some(crate::Keepalive { interval: day, timeout: day });
        let update = PeerUpdate { keepalive, ..nothing.clone() };
        refused("keepalive over a day", ERANGE, single.plane.peer_set(id(1), &update))?;
        let update = PeerUpdate { vpn: vpn("10.99.0.1"), ..nothing.clone() };
        refused("VPN address on point-to-point", EINVAL, single.plane.peer_set(id(1), &update))?;
        if multi.plane.capabilities().multi_peer_tcp {
            let (tcp, _other) = multi.tcp()?;
            let mut peer = multi.peer(1, tcp.id);
            peer.remote = None;
            multi.add(&peer)?;
            let update = PeerUpdate { remote: "127.0.0.1:7".parse().ok(), ..nothing };
            refused("remote of a TCP peer", EINVAL, multi.plane.peer_set(id(1), &update))?;
        }
    }
    Ok(Verdict::Passed)
}

/// The sequence of the kernel's own tests.
fn set_vpn(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    if bench.is(Driver::KernelV2) {
        return Ok(Verdict::NotApplicable("ovpn-dco-v2 does not change VPN addresses"));
    }
    let (udp, _) = bench.udp()?;
    for (number, address) in [(1, "5.5.5.2"), (2, "5.5.5.3")] {
        let mut peer = bench.peer(number, udp.id);
        peer.vpn = vpn(address);
        bench.add(&peer)?;
    }
    let set = |number, address: &str| {
        bench.plane.peer_set(id(number), &PeerUpdate { vpn: vpn(address), ..PeerUpdate::default() })
    };
    let vpn_of = |number| -> Check<VpnAddrs> { Ok(accepted("get", bench.plane.peer_get(id(number)))?.vpn) };
    refused("the only address cleared", EINVAL, set(1, "0.0.0.0"))?;
    for address in NO_HOST_V4.iter().chain(NO_HOST_V6) {
        refused(address, EADDRNOTAVAIL, set(1, address))?;
    }
    refused("another's address", EADDRINUSE, set(2, "5.5.5.2"))?;
    accepted("IPv6 added", set(1, "2001:db8::2"))?;
    refused("another's IPv6 address", EADDRINUSE, set(2, "2001:db8::2"))?;
    let mut peer = bench.peer(7, udp.id);
    peer.vpn = vpn("2001:db8::2");
    refused("a new peer with another's IPv6 address", EADDRINUSE, bench.plane.peer_new(&peer))?;
    accepted("IPv4 cleared", set(1, "0.0.0.0"))?;
    expect(&vpn_of(1)?, &vpn("2001:db8::2"))?;
    refused("the last one cleared", EINVAL, set(1, "::"))?;
    accepted("IPv4 again", set(1, "5.5.5.2"))?;
    accepted("IPv6 cleared", set(1, "::"))?;
    expect(&vpn_of(1)?, &vpn("5.5.5.2"))?;
    // what was cleared is free for others
    accepted("a free address", set(2, "2001:db8::2"))?;
    expect(&vpn_of(2)?, &VpnAddrs { v4: "5.5.5.3".parse().ok(), v6: "2001:db8::2".parse().ok() })?;
    accepted("its own address again", set(2, "5.5.5.3"))?;
    Ok(Verdict::Passed)
}

fn set_remote(factory: &dyn Factory) -> Done {
    let mut bench = Bench::multi(factory)?;
    if bench.is(Driver::KernelV2) {
        return Ok(Verdict::NotApplicable("ovpn-dco-v2 does not change remote addresses"));
    }
    let (udp, _) = bench.udp()?;
    bench.add(&bench.peer(1, udp.id))?;
    let update = PeerUpdate {
        remote: "127.0.0.2:1234".parse().ok(),
        local: "127.0.0.3".parse().ok(),
        ..PeerUpdate::default()
    };
    accepted("set", bench.plane.peer_set(id(1), &update))?;
    let told = accepted("get", bench.plane.peer_get(id(1)))?;
    expect(&told.remote, &update.remote)?;
    expect(&told.local.map(|local| local.ip()), &update.local)?;
    bench.expect_quiet()?;
    Ok(Verdict::Passed)
}

fn get(factory: &dyn Factory) -> Done {
    let bench = Bench::multi(factory)?;
    let (udp, address) = bench.udp()?;
    let peer = bench.peer(5, udp.id);
    bench.add(&peer)?;
    bench.keepalive(id(5), 60, 120)?;
    let told = accepted("get", bench.plane.peer_get(id(5)))?;
    expect(&(told.id, told.tx_id, told.remote, told.vpn), &(id(5), id(5), peer.remote, peer.vpn))?;
    expect(&told.local.map(|local| local.port()), &Some(address.port()))?;
    expect(&(told.keepalive.interval.as_secs(), told.keepalive.timeout.as_secs()), &(60, 120))?;
    expect(&told.stats, &crate::PeerStats::default())?;
    expect(&accepted("dump", bench.plane.peer_dump())?, &vec![told])?;
    if bench.is(Driver::KernelV2) {
        return Ok(Verdict::Passed);
    }
    // Of a connection, which has no remote to be told, the port still is.
    let (own, _other) = tcp_pair()?;
    let port = own.local_addr().map_err(text)?.port();
    let tcp = bench.open_transport(own.into())?;
    bench.add(&PeerConfig { remote: None, ..bench.peer(6, tcp.id) })?;
    let told = accepted("get", bench.plane.peer_get(id(6)))?;
    expect(&(told.remote, told.local.map(|local| local.port())), &(None, Some(port)))?;
    Ok(Verdict::Passed)
}

fn del(factory: &dyn Factory) -> Done {
    for mode in [Mode::P2p, Mode::MultiPeer] {
        let mut bench = Bench::open(factory, mode)?;
        let (udp, _) = bench.udp()?;
        for _ in 0..2 {
            bench.add(&bench.peer(1, udp.id))?;
            accepted("del", bench.plane.peer_del(id(1)))?;
            expect(&bench.ids()?, &vec![])?;
            refused("del again", ENOENT, bench.plane.peer_del(id(1)))?;
            refused("get", ENOENT, bench.plane.peer_get(id(1)))?;
            bench.expect_deleted(id(1), DelReason::Userspace)?;
        }
        bench.expect_quiet()?;
    }
    Ok(Verdict::Passed)
}

/// More than one datagram of a dump holds.
fn many(factory: &dyn Factory) -> Done {
    const COUNT: u32 = 500;
    let bench = Bench::multi(factory)?;
    let (udp, _) = bench.udp()?;
    for number in 0..COUNT {
        bench.add(&bench.peer(number, udp.id))?;
    }
    expect(&bench.ids()?, &(0..COUNT).collect())?;
    for number in (0..COUNT).step_by(2) {
        accepted("del", bench.plane.peer_del(id(number)))?;
    }
    expect(&bench.ids()?, &(1..COUNT).step_by(2).collect())?;
    let (own, _other) = tcp_pair()?;
    drop(own);
    Ok(Verdict::Passed)
}
