//! The driver alone: the conformance suite, the kernel's refusals and ours, devices, events.

use std::time::Duration;

use ovpn_dco::conformance::{self, Factory};
use ovpn_dco::netlink::{Dialect, Request, command};
use ovpn_dco::{
    DataPlane, DelReason, Event, EventSource, Framing, Mode, PeerConfig, PeerId, Result, SocketSource,
    TransportId, VpnAddrs,
};
use ovpn_kernel::{Api, Kernel, Probe};
use ovpn_sys::netlink::generic::Family;
use ovpn_sys::netlink::message::{AttributeWriter, MessageBuilder, NLM_F_DUMP, messages};
use ovpn_sys::netlink::route::{OvpnMode, Rtnetlink};
use ovpn_sys::netlink::socket::{Protocol, Socket};

/// Makes devices of one of the drivers.
pub(crate) struct Driver(pub(crate) Api);

impl Factory for Driver {
    fn open(&self, mode: Mode) -> Result<Box<dyn DataPlane>> {
        Ok(Box::new(Kernel::open_with(self.0, "tun", mode)?))
    }

    fn patience(&self) -> u32 {
        std::env::var("OVPN_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
    }
}

/// Runs `test` in a new network namespace with its loopback device up.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    conformance::in_namespace(test).unwrap()
}

#[test]
#[ignore = "needs the kernel's driver"]
fn conformance_ovpn() {
    conformance::run_apart(|| Driver(Api::Ovpn)).assert();
}

// ---- the kernel's validation and ours ----

/// A request by hand: command, flags beyond the usual ones, top-level attributes.
struct Malformed {
    what: &'static str,
    command: u8,
    flags: u16,
    attributes: Vec<u8>,
}

/// Every way to go wrong before a device is looked at closely.
fn malformed(ifindex: u32) -> Vec<Malformed> {
    let mut list = Vec::new();
    let mut add = |what, command, write: &dyn Fn(&mut AttributeWriter)| {
        let mut writer = AttributeWriter::default();
        write(&mut writer);
        list.push(Malformed { what, command, flags: 0, attributes: writer.into_bytes() });
    };
    let v4 = [10, 0, 0, 1];
    let v6 = [0x20; 16];
    let mapped = "::ffff:10.0.0.1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let peer = |a: &mut AttributeWriter, write: &dyn Fn(&mut AttributeWriter)| {
        a.u32(1, ifindex).nest(2, |a| {
            a.u32(1, 1).u32(6, 0);
            write(a);
        });
    };
    let key = |a: &mut AttributeWriter, left_out: u16, tail: usize, key_id: u32, cipher: u32, slot: u32| {
        a.u32(1, ifindex).nest(3, |a| {
            for (kind, value) in [(1, 1), (2, slot), (3, key_id), (4, cipher)] {
                if kind != left_out {
                    a.u32(kind, value);
                }
            }
            for kind in (5..=6).filter(|kind| *kind != left_out) {
                a.nest(kind, |a| {
                    a.bytes(1, &[1; 32]).bytes(2, &vec![2; tail]);
                });
            }
        });
    };
    use command::*;
    add("both remotes", PEER_NEW, &|a| peer(a, &|a| _ = a.bytes(2, &v4).bytes(3, &v6).be16(5, 1)));
    add("remote without port", PEER_NEW, &|a| peer(a, &|a| _ = a.bytes(2, &v4)));
    add("port without remote", PEER_NEW, &|a| peer(a, &|a| _ = a.be16(5, 1)));
    add("local without remote", PEER_NEW, &|a| peer(a, &|a| _ = a.bytes(10, &v4)));
    add("local of the other family", PEER_NEW, &|a| {
        peer(a, &|a| _ = a.bytes(11, &v6).bytes(2, &v4).be16(5, 1))
    });
    add("scope without IPv6", PEER_NEW, &|a| peer(a, &|a| _ = a.bytes(2, &v4).be16(5, 1).u32(4, 1)));
    add("mapped local", PEER_NEW, &|a| peer(a, &|a| _ = a.bytes(3, &v6).be16(5, 1).bytes(11, &mapped)));
    add("one timer", PEER_NEW, &|a| peer(a, &|a| _ = a.u32(13, 1)));
    add("timer over a day", PEER_NEW, &|a| peer(a, &|a| _ = a.u32(13, 86_401).u32(14, 1)));
    add("port 0", PEER_NEW, &|a| peer(a, &|a| _ = a.bytes(2, &v4).be16(5, 0)));
    add("sending id too large", PEER_NEW, &|a| peer(a, &|a| _ = a.u32(24, 0x100_0000)));
    add("IPv4 of 16 bytes", PEER_NEW, &|a| peer(a, &|a| _ = a.bytes(2, &v6).be16(5, 1)));
    add("IPv6 of 4 bytes", PEER_NEW, &|a| peer(a, &|a| _ = a.bytes(3, &v4).be16(5, 1)));
    add("port of 4 bytes", PEER_NEW, &|a| peer(a, &|a| _ = a.bytes(2, &v4).u32(5, 1)));
    add("timer of 2 bytes", PEER_NEW, &|a| peer(a, &|a| _ = a.u16(13, 1).u32(14, 1)));
    add("attribute of answers", PEER_NEW, &|a| peer(a, &|a| _ = a.u32(15, 1)));
    add("socket's namespace", PEER_NEW, &|a| peer(a, &|a| _ = a.u32(7, 1)));
    add("unknown attribute", PEER_NEW, &|a| peer(a, &|a| _ = a.u32(99, 1)));
    add("attribute 0", PEER_NEW, &|a| peer(a, &|a| _ = a.u32(0, 1)));
    add("nest flag on a number", PEER_NEW, &|a| {
        peer(a, &|a| _ = a.nest(13, |a| _ = a.append(&[1, 0, 0, 0])))
    });
    add("left-over bytes", PEER_NEW, &|a| peer(a, &|a| _ = a.append(&[2, 0, 1, 0])));
    add("id too large", PEER_NEW, &|a| {
        a.u32(1, ifindex).nest(2, |a| _ = a.u32(1, 0x100_0000).u32(6, 0));
    });
    add("no id", PEER_NEW, &|a| _ = a.u32(1, ifindex).nest(2, |a| _ = a.u32(6, 0)));
    add("no socket", PEER_NEW, &|a| _ = a.u32(1, ifindex).nest(2, |a| _ = a.u32(1, 1)));
    add("no peer", PEER_NEW, &|a| _ = a.u32(1, ifindex));
    add("no device", PEER_NEW, &|a| _ = a.nest(2, |a| _ = a.u32(1, 1).u32(6, 0)));
    add("unknown at the top", PEER_NEW, &|a| {
        a.u32(99, 1);
        peer(a, &|_| {});
    });
    add("key at a peer's place", PEER_NEW, &|a| _ = a.u32(1, ifindex).nest(3, |a| _ = a.u32(1, 1)));
    add("device index of 8 bytes", PEER_NEW, &|a| {
        a.bytes(1, &[0; 8]).nest(2, |a| _ = a.u32(1, 1).u32(6, 0));
    });
    add("nest without its flag", PEER_DEL, &|a| _ = a.u32(1, ifindex).bytes(2, &[8, 0, 1, 0, 1, 0, 0, 0]));
    add("socket in a change", PEER_SET, &|a| peer(a, &|_| {}));
    for number in [PEER_GET, PEER_DEL] {
        add("more than the id", number, &|a| {
            a.u32(1, ifindex).nest(2, |a| _ = a.u32(1, 1).u32(13, 1));
        });
        add("no id", number, &|a| _ = a.u32(1, ifindex).nest(2, |_| {}));
    }
    for left_out in 1..=6 {
        add("a part of a key is missing", KEY_NEW, &|a| key(a, left_out, 8, 1, 1, 1));
    }
    add("nonce tail of 7", KEY_NEW, &|a| key(a, 0, 7, 1, 1, 1));
    add("nonce tail of 9", KEY_NEW, &|a| key(a, 0, 9, 1, 1, 1));
    add("key id 8", KEY_NEW, &|a| key(a, 0, 8, 8, 1, 1));
    add("cipher 3", KEY_NEW, &|a| key(a, 0, 8, 1, 3, 1));
    add("slot 2", KEY_NEW, &|a| key(a, 0, 8, 1, 1, 2));
    add("key of 257 bytes", KEY_NEW, &|a| {
        a.u32(1, ifindex).nest(3, |a| {
            a.u32(1, 1).u32(2, 1).u32(3, 1).u32(4, 1);
            for kind in 5..=6 {
                a.nest(kind, |a| _ = a.bytes(1, &[1; 257]).bytes(2, &[2; 8]));
            }
        });
    });
    add("no slot", KEY_DEL, &|a| _ = a.u32(1, ifindex).nest(3, |a| _ = a.u32(1, 1)));
    add("no slot", KEY_GET, &|a| _ = a.u32(1, ifindex).nest(3, |a| _ = a.u32(1, 1)));
    add("more than the slot", KEY_GET, &|a| {
        a.u32(1, ifindex).nest(3, |a| _ = a.u32(1, 1).u32(2, 0).u32(3, 0));
    });
    add("a slot", KEY_SWAP, &|a| _ = a.u32(1, ifindex).nest(3, |a| _ = a.u32(1, 1).u32(2, 0)));
    add("a notification", PEER_DEL_NTF, &|a| peer(a, &|_| {}));
    add("an unknown command", 77, &|a| peer(a, &|_| {}));
    add("command 0", 0, &|a| peer(a, &|_| {}));
    let mut writer = AttributeWriter::default();
    writer.u32(1, ifindex);
    let attributes = writer.into_bytes();
    list.push(Malformed { what: "dump of keys", command: KEY_GET, flags: NLM_F_DUMP, attributes });
    let mut writer = AttributeWriter::default();
    writer.u32(1, ifindex).nest(2, |a| _ = a.u32(1, 1));
    let attributes = writer.into_bytes();
    list.push(Malformed { what: "dump of one peer", command: PEER_GET, flags: NLM_F_DUMP, attributes });
    list
}

/// The requests that our decoder refuses are those that the kernel refuses, with the same errno.
#[test]
#[ignore = "needs the kernel's driver"]
fn validation_is_the_kernels() {
    in_namespace(|| {
        let device = Kernel::open_with(Api::Ovpn, "tun", Mode::P2p).unwrap();
        let socket = Socket::open(Protocol::Generic).unwrap();
        let family = Family::lookup(&socket, "ovpn").unwrap().unwrap();
        let mut differences = Vec::new();
        let list = malformed(device.device().ifindex);
        for Malformed { what, command, flags, attributes } in &list {
            let message = MessageBuilder::new(family.id, *flags).header(&[*command, 1, 0, 0]).with(|a| {
                a.append(attributes);
            });
            let bytes = message.clone().finish();
            let ours = messages(&bytes).next().unwrap().map_err(Into::into);
            let ours = ours.and_then(|message| Request::decode(&message, Dialect::Kernel));
            let ours = ours.map_or_else(|error| error.errno(), |_| 0);
            let kernel = if *flags == 0 { socket.request(message) } else { socket.dump(message) };
            let kernel =
                kernel.map_or_else(|error| (error.errno(), error.to_string()), |_| (0, String::new()));
            if ours != kernel.0 {
                differences.push(format!("{what} ({command}): ours {ours}, kernel {kernel:?}"));
            }
        }
        assert!(list.len() > 50);
        assert!(differences.is_empty(), "{differences:#?}");
    });
}

// ---- the device ----

#[test]
#[ignore = "needs the kernel's driver"]
fn devices_are_named_adopted_and_removed() {
    in_namespace(|| {
        let net = Rtnetlink::open().unwrap();
        let first = Kernel::open("tun", Mode::MultiPeer).unwrap();
        let second = Kernel::open("tun", Mode::P2p).unwrap();
        assert_eq!((first.device().name.as_str(), second.device().name.as_str()), ("tun0", "tun1"));
        assert!(first.capabilities().version.starts_with("ovpn, Linux "));
        assert!(first.capabilities().tx_id);
        drop(first);
        assert_eq!(net.link_by_name("tun0").unwrap_err().errno(), 19);

        // one that somebody else made stays
        net.link_add_ovpn("vpn7", "ovpn", OvpnMode::MultiPeer).unwrap();
        let error = Kernel::open("vpn7", Mode::P2p).unwrap_err();
        assert!(error.to_string().contains("the other mode"), "{error}");
        let adopted = Kernel::open("vpn7", Mode::MultiPeer).unwrap();
        assert!(adopted.is_persistent());
        // while it has peers nobody else gets it
        let transport = adopted.transport_open(udp("127.0.0.1:0")).unwrap();
        adopted.peer_new(&peer(1, transport.id, Some("127.0.0.1:9"), Some("10.9.0.2"))).unwrap();
        let error = Kernel::open("vpn7", Mode::MultiPeer).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        drop(transport);
        drop(adopted);
        assert!(net.link_by_name("vpn7").is_ok());

        // one that a killed process of ours left behind is adopted and removed in the end
        let left = Kernel::open("vpn8", Mode::P2p).unwrap();
        std::mem::forget(left);
        let found = Kernel::open("vpn8", Mode::P2p).unwrap();
        assert!(!found.is_persistent());
        drop(found);
        assert_eq!(net.link_by_name("vpn8").unwrap_err().errno(), 19);

        // one that shall stay, as a command-line tool makes it, and several handles on it
        ovpn_kernel::device_new("vpn9", Mode::MultiPeer).unwrap();
        let (one, other) = (Kernel::join("vpn9").unwrap(), Kernel::join("vpn9").unwrap());
        assert_eq!((one.device().mode, one.is_persistent()), (Mode::MultiPeer, true));
        let transport = one.transport_open(udp("127.0.0.1:0")).unwrap();
        one.peer_new(&peer(1, transport.id, Some("127.0.0.1:9"), Some("10.9.0.2"))).unwrap();
        assert_eq!(other.peer_dump().unwrap().len(), 1);
        drop(one);
        drop(other);
        ovpn_kernel::device_del("vpn9").unwrap();
        assert_eq!(Kernel::join("vpn9").unwrap_err().errno(), 19);

        net.link_add_veth("veth7", "veth8").unwrap();
        assert_eq!(Kernel::join("veth7").unwrap_err().errno(), 22);
        let error = Kernel::open("veth7", Mode::P2p).unwrap_err();
        assert!(error.to_string().contains("of kind veth"), "{error}");
    });
}

fn udp(address: &str) -> SocketSource {
    SocketSource::Socket(std::net::UdpSocket::bind(address).unwrap().into())
}

fn peer(id: u32, transport: TransportId, remote: Option<&str>, vpn: Option<&str>) -> PeerConfig {
    PeerConfig {
        id: PeerId::new(id).unwrap(),
        tx_id: None,
        transport,
        remote: remote.map(|remote| remote.parse().unwrap()),
        local: None,
        vpn: VpnAddrs { v4: vpn.map(|vpn| vpn.parse().unwrap()), v6: None },
        framing: Framing::None,
        fragment: None,
    }
}

/// The next event within some seconds.
fn next(events: &mut dyn EventSource) -> Option<Event> {
    for _ in 0..500 {
        if let Some(event) = events.next().unwrap() {
            return Some(event);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Notifications are sent in the namespace of the socket: a source that was there before the socket hears them, too.
#[test]
#[ignore = "needs the kernel's driver"]
fn sockets_of_another_namespace() {
    let outside = in_namespace(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    in_namespace(|| {
        let plane = Kernel::open_with(Api::Ovpn, "tun", Mode::MultiPeer).unwrap();
        let mut before = plane.events().unwrap();
        let transport = plane.transport_open(SocketSource::Socket(outside.into())).unwrap();
        let mut after = plane.events().unwrap();
        let inside = plane.transport_open(udp("127.0.0.1:0")).unwrap();
        for (id, transport) in [(1, transport.id), (2, inside.id)] {
            plane.peer_new(&peer(id, transport, Some("127.0.0.1:9"), Some(&format!("10.9.0.{id}")))).unwrap();
            let id = PeerId::new(id).unwrap();
            plane.peer_del(id).unwrap();
            for events in [&mut before, &mut after] {
                let deleted = Event::PeerDeleted { peer: id, reason: DelReason::Userspace };
                assert_eq!(next(&mut **events), Some(deleted));
            }
        }
        assert_eq!(before.next().unwrap(), None);
    });
}

fn make_and_delete(plane: &Kernel, transport: TransportId, peers: u32) {
    for number in 0..peers {
        let id = number % 1000 + 1;
        let vpn = format!("10.9.{}.{}", id >> 8, id & 0xFF);
        plane.peer_new(&peer(id, transport, Some("127.0.0.1:9"), Some(&vpn))).unwrap();
        plane.peer_del(PeerId::new(id).unwrap()).unwrap();
    }
}

/// Makes so many notifications in the namespace of the calling thread that whoever does not read loses some.
pub(crate) fn flood(device: &str, peers: u32) {
    let plane = Kernel::open_with(Api::Ovpn, device, Mode::MultiPeer).unwrap();
    let transport = plane.transport_open(udp("127.0.0.1:0")).unwrap();
    make_and_delete(&plane, transport.id, peers);
}

/// A peer that nobody knows, and its transport.
pub(crate) fn some_peer(plane: &Kernel, id: u32, vpn: &str) -> (ovpn_dco::Transport, PeerConfig) {
    let transport = plane.transport_open(udp("127.0.0.1:0")).unwrap();
    let peer = peer(id, transport.id, Some("127.0.0.1:9"), Some(vpn));
    (transport, peer)
}

/// More notifications than the socket's buffer holds: `Lost`, and a dump tells the truth.
#[test]
#[ignore = "needs the kernel's driver"]
fn lost_notifications_are_told() {
    in_namespace(|| {
        let plane = Kernel::open_with(Api::Ovpn, "tun", Mode::MultiPeer).unwrap();
        let mut events = plane.events().unwrap();
        let transport = plane.transport_open(udp("127.0.0.1:0")).unwrap();
        // four MiB, each notification with its overhead of about half a KiB
        make_and_delete(&plane, transport.id, 14_000);
        let (mut lost, mut seen) = (0, 0);
        while let Some(event) = events.next().unwrap() {
            lost += usize::from(event == Event::Lost);
            seen += 1;
        }
        assert!(lost > 0 && seen < 14_000, "{lost} losses, {seen} events");
        // it goes on afterwards
        plane.peer_new(&peer(1, transport.id, Some("127.0.0.1:9"), Some("10.9.0.1"))).unwrap();
        plane.peer_del(PeerId::new(1).unwrap()).unwrap();
        let deleted = Event::PeerDeleted { peer: PeerId::new(1).unwrap(), reason: DelReason::Userspace };
        assert_eq!(next(&mut *events), Some(deleted));
        assert_eq!(plane.peer_dump().unwrap(), vec![]);
    });
}

// ---- what is said where it does not work ----

#[test]
#[ignore = "needs the kernel's driver"]
fn probe_finds_the_driver() {
    let found = ovpn_kernel::probe();
    let capabilities = found.ovpn.capabilities().expect("the driver ovpn");
    assert_eq!(capabilities.driver, ovpn_dco::Driver::Kernel);
    let Probe::Unavailable(why) = found.dco_v2 else { panic!("an old driver, too") };
    assert!(why.contains("not installed"), "{why}");
}

/// The root of a container: in a user namespace of its own.
#[test]
#[ignore = "needs the kernel's driver"]
fn probe_as_root_of_a_container() {
    let exe = std::env::current_exe().unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(exe)
        .args(["--ignored", "--exact", "--nocapture", "driver::container_probe"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("CAP_NET_ADMIN in the initial user namespace"), "{text}");
}

/// Not a test: what `probe_as_root_of_a_container` runs there. Prints what is found.
#[test]
#[ignore = "run by another test"]
fn container_probe() {
    if let Probe::Unavailable(why) = ovpn_kernel::probe().ovpn {
        eprintln!("{why}");
    }
}
