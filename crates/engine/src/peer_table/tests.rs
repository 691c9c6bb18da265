//! The DCO operations, row by row of the kernel driver's error tables, and the lookups.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ovpn_dco::{CipherAlg, DataFormat, Framing, Keepalive};

use super::*;
use crate::test_support::{addr, at, id, ipv4, key, none_key, peer, table};

const UDP: Option<Protocol> = Some(Protocol::Udp);
const TCP: Option<Protocol> = Some(Protocol::Tcp);

fn v4(text: &str) -> VpnAddrs {
    VpnAddrs { v4: Some(text.parse().unwrap()), v6: None }
}

fn v6(text: &str) -> VpnAddrs {
    VpnAddrs { v4: None, v6: Some(text.parse().unwrap()) }
}

fn vpn(text: &str) -> VpnAddrs {
    match text.parse().unwrap() {
        IpAddr::V4(address) => VpnAddrs { v4: Some(address), v6: None },
        IpAddr::V6(address) => VpnAddrs { v4: None, v6: Some(address) },
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn keepalive(interval: u64, timeout: u64) -> Option<Keepalive> {
    Some(Keepalive { interval: Duration::from_secs(interval), timeout: Duration::from_secs(timeout) })
}

fn deleted(peer: u32, reason: DelReason) -> Event {
    Event::PeerDeleted { peer: id(peer), reason }
}

/// A multi-peer device with the server's peers 1 to 6 of the kernel's selftests.
fn server() -> (PeerTable, crate::test_support::Events) {
    let (table, events) = table(Mode::MultiPeer);
    for p in 1..=6 {
        let config = peer(p, &format!("10.10.{p}.2:1"), &format!("5.5.5.{}", p + 1));
        table.peer_new(&config, UDP, at(0)).unwrap();
    }
    (table, events)
}

#[test]
fn peer_new_refuses_what_the_kernel_refuses() {
    use ErrorKind::*;
    let base = || peer(7, "10.10.1.2:1", "5.5.5.9");
    let unchecked: Vec<(&str, ErrorKind, Option<Protocol>, PeerConfig)> = vec![
        ("no such transport", NotASocket, None, base()),
        ("UDP without remote", InvalidArgument, UDP, PeerConfig { remote: None, ..base() }),
        ("TCP with remote", InvalidArgument, TCP, base()),
        (
            "remote without port",
            InvalidArgument,
            UDP,
            PeerConfig { remote: Some(addr("1.2.3.4:0")), ..base() },
        ),
        (
            "local without remote",
            InvalidArgument,
            TCP,
            PeerConfig { remote: None, local: Some("1.2.3.4".parse().unwrap()), ..base() },
        ),
        (
            "families differ",
            InvalidArgument,
            UDP,
            PeerConfig { local: Some("fd00::1".parse().unwrap()), ..base() },
        ),
        (
            "families differ once mapped addresses are plain",
            InvalidArgument,
            UDP,
            PeerConfig {
                remote: Some(addr("[fd00::2]:1")),
                local: Some("::ffff:1.2.3.4".parse().unwrap()),
                ..base()
            },
        ),
        ("no VPN address", InvalidArgument, UDP, PeerConfig { vpn: VpnAddrs::default(), ..base() }),
        ("peer id taken", PeerExists, UDP, PeerConfig { id: id(1), ..base() }),
        ("VPN address taken", VpnAddressInUse, UDP, PeerConfig { vpn: vpn("5.5.5.2"), ..base() }),
        // Attribute checks come before the descriptor's, and VPN addresses too.
        ("order: attributes first", InvalidArgument, None, PeerConfig { vpn: VpnAddrs::default(), ..base() }),
        ("order: VPN address first", BadVpnAddress, None, PeerConfig { vpn: vpn("127.0.0.1"), ..base() }),
        ("order: descriptor before its kind", NotASocket, None, PeerConfig { remote: None, ..base() }),
    ];
    let bad_addresses = [
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::192.0.2.1",
        "::ffff:192.0.2.1",
        "ff02::1",
    ];
    let bad = bad_addresses.map(|text| (text, BadVpnAddress, UDP, PeerConfig { vpn: vpn(text), ..base() }));
    for (case, expected, transport, config) in unchecked.into_iter().chain(bad) {
        let (table, events) = server();
        let before = table.peer_dump();
        assert_eq!(kind(table.peer_new(&config, transport, at(0))), expected, "{case}");
        assert_eq!(table.peer_dump(), before, "{case}: a failed call changes nothing");
        assert_eq!(events.take(), [], "{case}");
        let class = Class::DataV2 { peer_id: NO_PEER_ID, key_id: 0 };
        assert_eq!(table.read().sender(class, addr("10.10.1.2:1")).unwrap().id(), id(1));
    }
    let (table, _) = server();
    assert!(table.peer_new(&base(), UDP, at(0)).is_ok());
}

/// The list of the kernel's selftests, in its order, on one server.
#[test]
fn vpn_addresses_are_validated_as_by_the_kernels_selftest() {
    let (table, _) = server();
    let new = |vpn: VpnAddrs| table.peer_new(&PeerConfig { vpn, ..peer(7, "10.10.1.2:1", "") }, UDP, at(0));
    let set = |p, vpn: VpnAddrs| {
        table.peer_set(id(p), &PeerUpdate { vpn, keepalive: keepalive(60, 120), ..Default::default() }, at(0))
    };
    assert!(new(v4("5.5.5.2")).is_err());
    assert!(set(1, v4("0.0.0.0")).is_err());
    for bad in
        ["127.0.0.1", "224.0.0.1", "255.255.255.255", "::1", "::192.0.2.1", "::ffff:192.0.2.1", "ff02::1"]
    {
        assert_eq!(kind(set(1, vpn(bad))), ErrorKind::BadVpnAddress, "{bad}");
    }
    assert_eq!(kind(set(2, v4("5.5.5.2"))), ErrorKind::VpnAddressInUse);
    set(1, v6("2001:db8::2")).unwrap();
    assert!(new(v6("2001:db8::2")).is_err());
    assert!(set(2, v6("2001:db8::2")).is_err());
    set(1, v4("0.0.0.0")).unwrap();
    assert_eq!(table.peer_get(id(1)).unwrap().vpn, v6("2001:db8::2"));
    assert_eq!(kind(set(1, v6("::"))), ErrorKind::InvalidArgument);
    set(1, v4("5.5.5.2")).unwrap();
    set(1, v6("::")).unwrap();
    assert_eq!(table.peer_get(id(1)).unwrap().vpn, v4("5.5.5.2"));
    assert!(new(v6("2001:db8::2")).is_ok(), "the cleared address is free again");
}

#[test]
fn peer_set_refuses_what_the_kernel_refuses_and_changes_nothing_then() {
    use ErrorKind::*;
    let none = PeerUpdate::default;
    let (table, events) = server();
    let tcp = PeerConfig { remote: None, transport: TransportId(2), ..peer(9, "1.1.1.1:1", "5.5.5.99") };
    table.peer_new(&tcp, TCP, at(0)).unwrap();
    let cases = [
        ("unknown", 20, NoSuchPeer, none()),
        ("TCP with remote", 9, InvalidArgument, PeerUpdate { remote: Some(addr("1.2.3.4:5")), ..none() }),
        ("no port", 1, InvalidArgument, PeerUpdate { remote: Some(addr("1.2.3.4:0")), ..none() }),
        ("local alone", 1, InvalidArgument, PeerUpdate { local: Some("1.2.3.4".parse().unwrap()), ..none() }),
        (
            "both cleared",
            1,
            InvalidArgument,
            PeerUpdate {
                vpn: VpnAddrs { v4: Some(Ipv4Addr::UNSPECIFIED), v6: Some(Ipv6Addr::UNSPECIFIED) },
                ..none()
            },
        ),
        (
            "collision",
            1,
            VpnAddressInUse,
            PeerUpdate { vpn: v4("5.5.5.3"), tx_id: Some(id(77)), keepalive: keepalive(1, 2), ..none() },
        ),
        ("class", 1, BadVpnAddress, PeerUpdate { vpn: v6("ff02::1"), mss: Some(1), ..none() }),
        ("interval", 1, OutOfRange, PeerUpdate { keepalive: keepalive(86_401, 1), ..none() }),
        ("timeout", 1, OutOfRange, PeerUpdate { keepalive: keepalive(1, 86_401), ..none() }),
    ];
    let before = table.peer_dump();
    for (case, peer, expected, update) in cases {
        assert_eq!(kind(table.peer_set(id(peer), &update, at(0))), expected, "{case}");
        assert_eq!(table.peer_dump(), before, "{case}");
    }
    assert_eq!(events.take(), []);

    let (table, _) = p2p();
    let update = PeerUpdate { vpn: v4("5.5.5.2"), ..none() };
    assert_eq!(kind(table.peer_set(id(10), &update, at(0))), InvalidArgument, "VPN address on P2P");
}

#[test]
fn peer_set_changes_what_it_is_told() {
    let (table, events) = server();
    let update = PeerUpdate {
        remote: Some(addr("[::ffff:192.0.2.9]:99")),
        local: Some("::ffff:192.0.2.1".parse().unwrap()),
        vpn: v4("5.5.5.200"),
        keepalive: keepalive(86_400, 86_400),
        mss: Some(1400),
        tx_id: Some(id(42)),
    };
    table.peer_set(id(3), &update, at(5)).unwrap();
    let info = table.peer_get(id(3)).unwrap();
    assert_eq!(info.remote, Some(addr("192.0.2.9:99")));
    assert_eq!(info.local, Some(addr("192.0.2.1:0")));
    assert_eq!((info.vpn, info.tx_id), (v4("5.5.5.200"), id(42)));
    assert_eq!(Some(info.keepalive), keepalive(86_400, 86_400));
    assert_eq!(events.take(), [], "a move by hand raises no event");

    let tables = table.read();
    let to = |destination| tables.receiver(&ipv4("1.1.1.1", destination, 40)).map(|peer| peer.id());
    assert_eq!(to("5.5.5.200"), Ok(id(3)));
    assert_eq!(to("5.5.5.4"), Err(DropReason::NoRoute), "the old address is gone");
    let class = Class::DataV1 { key_id: 0 };
    assert_eq!(tables.sender(class, addr("192.0.2.9:99")).unwrap().id(), id(3));
    assert!(tables.sender(class, addr("10.10.3.2:1")).is_err());
}

fn p2p() -> (PeerTable, crate::test_support::Events) {
    let (table, events) = table(Mode::P2p);
    table.peer_new(&peer(10, "10.10.1.1:1", ""), UDP, at(0)).unwrap();
    (table, events)
}

#[test]
fn a_point_to_point_peer_is_replaced() {
    let (table, events) = p2p();
    assert_eq!(
        kind(table.peer_new(&peer(11, "10.10.1.1:1", "5.5.5.2"), UDP, at(0))),
        ErrorKind::InvalidArgument,
        "a VPN address on P2P"
    );
    assert_eq!(events.take(), []);
    table.peer_new(&peer(11, "10.10.1.1:1", ""), UDP, at(0)).unwrap();
    assert_eq!(events.take(), [deleted(10, DelReason::Teardown)]);
    // The same id again is a replacement, too.
    table.peer_new(&peer(11, "10.10.1.1:2", ""), UDP, at(0)).unwrap();
    assert_eq!(events.take(), [deleted(11, DelReason::Teardown)]);
    assert_eq!(table.peer_dump().len(), 1);
    assert_eq!(kind(table.peer_get(id(10))), ErrorKind::NoSuchPeer);

    let tables = table.read();
    let receiver = tables.receiver(&ipv4("9.9.9.9", "8.8.8.8", 40)).unwrap();
    assert_eq!(receiver.id(), id(11), "all inner traffic goes to the one peer");
    assert!(tables.may_send_from(receiver, "203.0.113.77".parse().unwrap()));
    let class = |peer_id| Class::DataV2 { peer_id, key_id: 0 };
    assert!(tables.sender(class(11), addr("9.9.9.9:9")).is_ok());
    assert!(tables.sender(class(10), addr("10.10.1.1:2")).is_err(), "the id must be the peer's");
    assert_eq!(tables.sender(class(NO_PEER_ID), addr("10.10.1.1:2")).unwrap().id(), id(11));
    assert!(tables.sender(class(NO_PEER_ID), addr("10.10.1.1:1")).is_err());
}

#[test]
fn one_tcp_transport_carries_one_peer() {
    for mode in [Mode::P2p, Mode::MultiPeer] {
        let (table, _) = table(mode);
        let tcp = |p, transport| PeerConfig {
            remote: None,
            transport: TransportId(transport),
            ..peer(p, "1.1.1.1:1", if mode == Mode::P2p { "" } else { ["5.5.5.1", "5.5.5.2"][p as usize] })
        };
        table.peer_new(&tcp(0, 5), TCP, at(0)).unwrap();
        assert_eq!(kind(table.peer_new(&tcp(1, 5), TCP, at(0))), ErrorKind::NotASocket);
        assert_eq!(table.read().by_tcp_transport(TransportId(5)).unwrap().id(), id(0));
        table.peer_new(&tcp(1, 6), TCP, at(0)).unwrap();
        assert_eq!(table.read().by_tcp_transport(TransportId(6)).unwrap().id(), id(1));
        table.peer_del(id(1)).unwrap();
        assert!(table.read().by_tcp_transport(TransportId(6)).is_none());
    }
}

#[test]
fn deleted_peers_are_gone_from_every_table() {
    let (table, events) = server();
    table.peer_del(id(2)).unwrap();
    assert_eq!(events.take(), [deleted(2, DelReason::Userspace)]);
    assert_eq!(kind(table.peer_del(id(2))), ErrorKind::NoSuchPeer);
    assert_eq!(kind(table.peer_get(id(2))), ErrorKind::NoSuchPeer);
    {
        let tables = table.read();
        assert!(tables.sender(Class::DataV2 { peer_id: 2, key_id: 0 }, addr("10.10.2.2:1")).is_err());
        assert!(tables.sender(Class::DataV1 { key_id: 0 }, addr("10.10.2.2:1")).is_err());
        assert!(tables.receiver(&ipv4("1.1.1.1", "5.5.5.3", 40)).is_err());
    }
    table.peer_new(&peer(2, "10.10.2.2:1", "5.5.5.3"), UDP, at(0)).unwrap();

    let other = PeerConfig { transport: TransportId(9), ..peer(20, "10.10.9.2:1", "5.5.5.20") };
    table.peer_new(&other, UDP, at(0)).unwrap();
    assert_eq!(table.transport_gone(TransportId(1), DelReason::TransportDisconnect).len(), 6);
    assert_eq!(
        events.take(),
        (1..=6).map(|p| deleted(p, DelReason::TransportDisconnect)).collect::<Vec<_>>()
    );
    assert_eq!(table.teardown().len(), 1);
    assert_eq!(events.take(), [deleted(20, DelReason::Teardown)]);
    assert!(table.read().is_empty());
}

#[test]
fn key_operations_refuse_what_the_kernel_refuses() {
    use KeySlot::{Primary, Secondary};
    let (table, _) = server();
    let good = key(DataFormat::V2, 1, 1, 2);
    assert_eq!(kind(table.key_new(id(20), Primary, &good)), ErrorKind::NoSuchPeer);
    assert_eq!(kind(table.key_get(id(20), Primary)), ErrorKind::NoSuchPeer);
    assert_eq!(kind(table.key_swap(id(20))), ErrorKind::NoSuchPeer);
    assert_eq!(kind(table.key_del(id(20), Primary)), ErrorKind::NoSuchPeer);

    assert_eq!(kind(table.key_get(id(1), Primary)), ErrorKind::NoSuchKey);
    table.key_swap(id(1)).unwrap();
    table.key_del(id(1), Secondary).unwrap();

    table.key_new(id(1), Primary, &good).unwrap();
    let replaced = KeyConfig { cipher: CipherAlg::ChaCha20Poly1305, ..key(DataFormat::V2, 2, 1, 2) };
    table.key_new(id(1), Primary, &replaced).unwrap();
    let in_slot = |slot| table.key_get(id(1), slot).ok().map(|info| (info.key_id.get(), info.cipher));
    assert_eq!(in_slot(Primary), Some((2, CipherAlg::ChaCha20Poly1305)));
    table.key_swap(id(1)).unwrap();
    assert_eq!((in_slot(Primary), in_slot(Secondary)), (None, Some((2, CipherAlg::ChaCha20Poly1305))));
    table.key_del(id(1), Secondary).unwrap();
    assert_eq!(in_slot(Secondary), None);

    let bad = [
        ("AES key of 15 bytes", KeyConfig { key_len: 15, ..good.clone() }),
        ("length and key differ", KeyConfig { key_len: 16, ..good.clone() }),
        (
            "ChaCha key of 16 bytes",
            KeyConfig { key_len: 16, cipher: CipherAlg::ChaCha20Poly1305, ..good.clone() },
        ),
        ("zero key", key(DataFormat::V2, 1, 0, 2)),
        ("zero key to decrypt", key(DataFormat::V2, 1, 1, 0)),
        ("zero epoch secret", key(DataFormat::Epoch, 1, 1, 0)),
        ("short epoch secret", {
            let mut short = key(DataFormat::Epoch, 1, 1, 2);
            short.decrypt.cipher_key.truncate(16);
            short
        }),
    ];
    table.key_new(id(1), Primary, &good).unwrap();
    for (case, bad) in bad {
        assert_eq!(kind(table.key_new(id(1), Primary, &bad)), ErrorKind::BadKey, "{case}");
        assert_eq!(in_slot(Primary), Some((1, CipherAlg::AesGcm)), "{case}: the old key stays");
    }
}

#[test]
fn unencrypted_keys_are_taken_only_where_allowed() {
    let strict = PeerTable::new(TableConfig::default(), Box::new(crate::test_support::Events::default()));
    strict.peer_new(&peer(1, "1.1.1.1:1", ""), UDP, at(0)).unwrap();
    assert_eq!(kind(strict.key_new(id(1), KeySlot::Primary, &none_key(0))), ErrorKind::UnsupportedCipher);
    let (lenient, _) = p2p();
    lenient.key_new(id(10), KeySlot::Primary, &none_key(0)).unwrap();
}

#[test]
fn inner_packets_find_their_peer_by_the_systems_routes() {
    let (table, _) = server();
    table.peer_set(id(4), &PeerUpdate { vpn: v6("fd00::5"), ..Default::default() }, at(0)).unwrap();
    let to = |destination: &str| {
        let packet = match destination.parse().unwrap() {
            IpAddr::V4(_) => ipv4("5.5.5.1", destination, 40),
            IpAddr::V6(v6) => {
                let mut packet = vec![0; 40];
                packet[0] = 0x60;
                packet[24..].copy_from_slice(&v6.octets());
                packet
            }
        };
        table.read().receiver(&packet).map(|peer| peer.id().get())
    };
    assert_eq!(to("5.5.5.3"), Ok(2));
    assert_eq!(to("11.11.11.11"), Err(DropReason::NoRoute));
    table.route_insert("11.11.11.11/32".parse().unwrap(), NextHop::Via("5.5.5.2".parse().unwrap()));
    table.route_insert("5.5.5.0/24".parse().unwrap(), NextHop::OnLink);
    table.route_insert("fd77::/16".parse().unwrap(), NextHop::Via("fd00::5".parse().unwrap()));
    assert_eq!(to("11.11.11.11"), Ok(1));
    assert_eq!(to("5.5.5.3"), Ok(2));
    assert_eq!(to("fd00::5"), Ok(4));
    assert_eq!(to("fd77::1"), Ok(4));
    assert_eq!(to("fd78::1"), Err(DropReason::NoRoute));
    assert_eq!(table.read().receiver(&[0x50; 40]).err(), Some(DropReason::InnerNotIp));

    // The reverse path: the same routes, seen from the other side.
    let (one, two) = (table.peer(id(1)).unwrap(), table.peer(id(2)).unwrap());
    let may = |peer: &Peer, source: &str| table.read().may_send_from(peer, source.parse().unwrap());
    assert!(may(&one, "5.5.5.2") && may(&one, "11.11.11.11"));
    assert!(!may(&two, "5.5.5.2") && !may(&two, "11.11.11.11") && !may(&one, "9.9.9.9"));

    assert!(table.route_remove("11.11.11.11/32".parse().unwrap()));
    assert_eq!(to("11.11.11.11"), Err(DropReason::NoRoute));
    table.routes_replace(
        [("11.0.0.0/8".parse().unwrap(), NextHop::Via("5.5.5.7".parse().unwrap()))].into_iter().collect(),
    );
    assert_eq!(to("11.11.11.11"), Ok(6));
}

fn timeouts(table: &PeerTable, millis: u64) -> (Vec<u32>, Vec<u32>) {
    let ids = |peers: Vec<Arc<Peer>>| peers.iter().map(|peer| peer.id().get()).collect();
    let Timeouts { ping, expired } = table.handle_timeout(at(millis));
    (ids(ping), ids(expired))
}

#[test]
fn silent_peers_are_pinged_and_then_expire() {
    let (table, events) = server();
    assert_eq!(table.poll_timeout(), None);
    let update = PeerUpdate { keepalive: keepalive(10, 25), ..Default::default() };
    table.peer_set(id(1), &update, at(1000)).unwrap();
    assert_eq!(table.poll_timeout(), Some(at(11_000)));
    assert_eq!(timeouts(&table, 10_999), (vec![], vec![]));
    assert_eq!(timeouts(&table, 11_000), (vec![1], vec![]));
    assert_eq!(timeouts(&table, 11_001), (vec![], vec![]), "once an interval");
    assert_eq!(timeouts(&table, 21_000), (vec![1], vec![]));
    assert_eq!(timeouts(&table, 26_000), (vec![], vec![1]));
    assert_eq!(events.take(), [deleted(1, DelReason::Expired)]);
    assert_eq!(kind(table.peer_get(id(1))), ErrorKind::NoSuchPeer);
    assert_eq!(timeouts(&table, 1_000_000), (vec![], vec![]));
    assert_eq!(table.poll_timeout(), None);
}

#[test]
fn traffic_puts_off_both_timers() {
    let (table, _) = server();
    table.peer_set(id(1), &PeerUpdate { keepalive: keepalive(10, 25), ..Default::default() }, at(0)).unwrap();
    table.key_new(id(1), KeySlot::Primary, &key(DataFormat::V2, 0, 3, 3)).unwrap();
    let peer = table.peer(id(1)).unwrap();
    let mut packet = [0; 64];
    let len = table.read().tx(&peer, at(9_000)).seal_ping(&mut packet).unwrap();
    assert_eq!(timeouts(&table, 10_000), (vec![], vec![]));
    assert_eq!(table.poll_timeout(), Some(at(19_000)));
    assert_eq!(timeouts(&table, 19_000), (vec![1], vec![]));

    let tables = table.read();
    tables.rx(&peer, at(24_000)).open(&packet[..len], None, &mut [0; 64]).unwrap();
    // A replay does not keep a peer alive, nor does a forgery.
    tables.rx(&peer, at(30_000)).open(&packet[..len], None, &mut [0; 64]).unwrap_err();
    packet[20] ^= 1;
    tables.rx(&peer, at(30_000)).open(&packet[..len], None, &mut [0; 64]).unwrap_err();
    drop(tables);
    assert_eq!(timeouts(&table, 48_999).1, Vec::<u32>::new());
    assert_eq!(timeouts(&table, 49_000).1, vec![1]);
}

#[test]
fn a_new_keepalive_replaces_the_old_one() {
    let (table, _) = server();
    let set = |keepalive, now| {
        table.peer_set(id(1), &PeerUpdate { keepalive, ..Default::default() }, at(now)).unwrap();
    };
    set(keepalive(10, 20), 0);
    set(keepalive(100, 200), 5_000);
    assert_eq!(timeouts(&table, 60_000), (vec![], vec![]));
    assert_eq!(timeouts(&table, 105_000), (vec![1], vec![]));
    // Setting restarts the timers, whatever came before.
    set(keepalive(100, 200), 204_000);
    assert_eq!(timeouts(&table, 303_999), (vec![], vec![]));
    for (interval, timeout) in [(0, 5), (5, 0), (0, 0)] {
        set(keepalive(interval, timeout), 400_000);
        assert_eq!(timeouts(&table, 900_000), (vec![], vec![]), "one of them zero turns both off");
    }
}

#[test]
fn a_peer_with_a_reused_id_has_timers_of_its_own() {
    let (table, _) = server();
    let set = |seconds, now| {
        let update = PeerUpdate { keepalive: keepalive(seconds, seconds), ..Default::default() };
        table.peer_set(id(1), &update, at(now)).unwrap();
    };
    set(10, 0);
    table.peer_del(id(1)).unwrap();
    table.peer_new(&peer(1, "10.10.1.2:1", "5.5.5.2"), UDP, at(1)).unwrap();
    assert_eq!(timeouts(&table, 20_000), (vec![], vec![]));
    set(10, 20_000);
    assert_eq!(timeouts(&table, 29_999), (vec![], vec![]));
    assert_eq!(timeouts(&table, 30_000).1, [1]);
}

#[test]
fn framing_and_transport_are_kept() {
    let (table, _) = table(Mode::P2p);
    let config = PeerConfig { framing: Framing::Swap, transport: TransportId(3), ..peer(1, "1.1.1.1:1", "") };
    let peer = table.peer_new(&config, UDP, at(0)).unwrap();
    assert_eq!((peer.framing(), peer.transport()), (Framing::Swap, TransportId(3)));
}
