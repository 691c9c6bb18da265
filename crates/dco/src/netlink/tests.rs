//! Golden bytes of every message, derived by hand from the kernel's `ovpn` specification and netlink's layout (little
//! endian); decoding with the kernel's errnos; a served data plane; arbitrary bytes.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Duration;

use ipnet::IpNet;
use ovpn_sys::netlink::message::{AttributeWriter, MessageBuilder, NLM_F_DUMP, messages};
use proptest::prelude::*;

use super::*;
use crate::*;

/// Family id in these bytes.
const FAMILY: u16 = 0x1C;

/// Hex digits, blanks between them; `;` begins a comment that ends with the line.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.lines().map(|line| line.split(';').next().unwrap()).collect();
    let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn id(number: u32) -> PeerId {
    PeerId::new(number).unwrap()
}

fn key(cipher: CipherAlg, len: usize) -> KeyConfig {
    let direction = |byte: u8| KeyDirection { cipher_key: vec![byte; len], nonce_tail: [byte + 1; 8] };
    KeyConfig {
        key_id: KeyId::new(3).unwrap(),
        cipher,
        format: DataFormat::V2,
        key_len: len.try_into().unwrap(),
        encrypt: direction(0xA0),
        decrypt: direction(0xB0),
    }
}

fn new_peer(number: u32) -> NewPeer {
    NewPeer {
        id: id(number),
        tx_id: None,
        socket: SocketRef::Descriptor(5),
        remote: None,
        local: None,
        vpn: VpnAddrs::default(),
        keepalive: None,
        framing: Framing::None,
        fragment: None,
    }
}

/// Encodes to these bytes, and decodes from them to the same request.
#[track_caller]
fn golden(ifindex: u32, command: Command, expected: &str) {
    let request = Request { ifindex, command };
    let expected = hex(expected);
    assert_eq!(*request.encode(FAMILY), expected, "\n{:02x?}\n{expected:02x?}", *request.encode(FAMILY));
    let message = messages(&expected).next().unwrap().unwrap();
    assert_eq!((message.kind, message.payload.len() + 16), (FAMILY, expected.len()));
    for dialect in [Dialect::Kernel, Dialect::Engine] {
        let decoded = Request::decode(&message, dialect).unwrap();
        assert_eq!(format!("{decoded:?}"), format!("{request:?}"));
        assert_eq!(*decoded.encode(FAMILY), expected);
    }
}

#[cfg(target_endian = "little")]
#[test]
fn peer_requests() {
    let mut peer = new_peer(0x0102);
    peer.tx_id = Some(id(0xFFFFFE));
    peer.remote = Some("10.10.1.2:1194".parse().unwrap());
    peer.local = Some("10.10.1.1".parse().unwrap());
    let ipv4 = "50000000 1c00 0500 00000000 00000000  01 01 0000
        0800 0100 07000000           ; IFINDEX 7
        3400 0280                    ; PEER
          0800 0100 02010000         ; ID
          0800 1800 feffff00         ; TX_ID
          0800 0600 05000000         ; SOCKET
          0800 0200 0a0a0102         ; REMOTE_IPV4
          0600 0500 04aa 0000        ; REMOTE_PORT
          0800 0a00 0a0a0101         ; LOCAL_IPV4";
    golden(7, Command::PeerNew(peer), ipv4);

    let mut peer = new_peer(1);
    peer.remote = Some("[fe80::2%9]:1".parse().unwrap());
    peer.vpn = VpnAddrs { v4: Some("5.5.5.2".parse().unwrap()), v6: Some("2001:db8::2".parse().unwrap()) };
    golden(
        7,
        Command::PeerNew(peer),
        "70000000 1c00 0500 00000000 00000000  01 01 0000
        0800 0100 07000000
        5400 0280
          0800 0100 01000000
          0800 0600 05000000
          1400 0300 fe80000000000000 0000000000000002  ; REMOTE_IPV6
          0800 0400 09000000         ; REMOTE_IPV6_SCOPE_ID
          0600 0500 0001 0000
          0800 0800 05050502         ; VPN_IPV4
          1400 0900 20010db800000000 0000000000000002  ; VPN_IPV6",
    );

    // a TCP peer has no remote address
    golden(
        7,
        Command::PeerNew(new_peer(1)),
        "30000000 1c00 0500 00000000 00000000  01 01 0000
        0800 0100 07000000  1400 0280 0800 0100 01000000 0800 0600 05000000",
    );

    let keepalive = Keepalive { interval: Duration::from_secs(60), timeout: Duration::from_secs(120) };
    let update = PeerUpdate { keepalive: Some(keepalive), ..PeerUpdate::default() };
    golden(
        7,
        Command::PeerSet { id: id(1), update },
        "38000000 1c00 0500 00000000 00000000  02 01 0000
        0800 0100 07000000
        1c00 0280 0800 0100 01000000
          0800 0d00 3c000000         ; KEEPALIVE_INTERVAL
          0800 0e00 78000000         ; KEEPALIVE_TIMEOUT",
    );
    golden(
        7,
        Command::PeerGet(id(20)),
        "28000000 1c00 0500 00000000 00000000  03 01 0000
        0800 0100 07000000  0c00 0280 0800 0100 14000000",
    );
    golden(7, Command::PeerDump, "1c000000 1c00 0103 00000000 00000000  03 01 0000  0800 0100 07000000");
    golden(
        7,
        Command::PeerDel(id(1)),
        "28000000 1c00 0500 00000000 00000000  04 01 0000
        0800 0100 07000000  0c00 0280 0800 0100 01000000",
    );
}

#[cfg(target_endian = "little")]
#[test]
fn key_requests() {
    golden(
        7,
        Command::KeyNew { peer: id(1), slot: KeySlot::Secondary, key: key(CipherAlg::AesGcm, 16) },
        "88000000 1c00 0500 00000000 00000000  06 01 0000
        0800 0100 07000000
        6c00 0380                    ; KEYCONF
          0800 0100 01000000         ; PEER_ID
          0800 0200 01000000         ; SLOT secondary
          0800 0300 03000000         ; KEY_ID
          0800 0400 01000000         ; CIPHER_ALG AES-GCM
          2400 0580                  ; ENCRYPT_DIR
            1400 0100 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0
            0c00 0200 a1a1a1a1a1a1a1a1
          2400 0680                  ; DECRYPT_DIR
            1400 0100 b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0
            0c00 0200 b1b1b1b1b1b1b1b1",
    );
    for (command, number) in [
        (Command::KeyGet { peer: id(1), slot: KeySlot::Primary }, "07"),
        (Command::KeyDel { peer: id(1), slot: KeySlot::Primary }, "0a"),
    ] {
        let bytes = format!(
            "30000000 1c00 0500 00000000 00000000  {number} 01 0000
            0800 0100 07000000  1400 0380 0800 0100 01000000 0800 0200 00000000"
        );
        golden(7, command, &bytes);
    }
    golden(
        7,
        Command::KeySwap(id(1)),
        "28000000 1c00 0500 00000000 00000000  08 01 0000
        0800 0100 07000000  0c00 0380 0800 0100 01000000",
    );
}

#[cfg(target_endian = "little")]
#[test]
fn notifications() {
    let remote4: SocketAddr = "10.10.1.3:1".parse().unwrap();
    let remote6: SocketAddr = "[fd00::3%4]:1194".parse().unwrap();
    let cases = [
        (
            Event::PeerDeleted { peer: id(12), reason: DelReason::Expired },
            "30000000 1c00 0000 00000000 00000000  05 01 0000
            0800 0100 03000000  1400 0280 0800 0f00 02000000 0800 0100 0c000000",
        ),
        (
            Event::PeerFloat { peer: id(1), remote: remote4 },
            "38000000 1c00 0000 00000000 00000000  0b 01 0000
            0800 0100 03000000
            1c00 0280 0800 0100 01000000 0800 0200 0a0a0103 0600 0500 0001 0000",
        ),
        (
            Event::PeerFloat { peer: id(1), remote: remote6 },
            "4c000000 1c00 0000 00000000 00000000  0b 01 0000
            0800 0100 03000000
            3000 0280 0800 0100 01000000
              1400 0300 fd00000000000000 0000000000000003 0800 0400 04000000 0600 0500 04aa 0000",
        ),
        (
            // the key id of this notification is 16 bits wide
            Event::KeySwap { peer: id(1), key_id: KeyId::new(5).unwrap() },
            "30000000 1c00 0000 00000000 00000000  09 01 0000
            0800 0100 03000000  1400 0380 0800 0100 01000000 0600 0300 0500 0000",
        ),
    ];
    for (event, bytes) in cases {
        let bytes = hex(bytes);
        assert_eq!(encode_event(FAMILY, 3, &event).unwrap(), bytes, "{event:?}");
        let message = messages(&bytes).next().unwrap().unwrap();
        assert_eq!(decode_event(&message).unwrap(), Some((3, event)));
    }
    for event in [Event::PeerExit { peer: id(4) }, Event::Lost] {
        let bytes = encode_event(ENGINE_FAMILY, 3, &event).unwrap();
        let message = messages(&bytes).next().unwrap().unwrap();
        assert_eq!(decode_event(&message).unwrap(), Some((3, event)));
    }
}

fn info() -> PeerInfo {
    PeerInfo {
        id: id(1),
        tx_id: id(10),
        remote: Some("[fd00:0:0:1::2]:1".parse().unwrap()),
        local: Some("[fd00:0:0:1::1]:1".parse().unwrap()),
        vpn: VpnAddrs { v4: Some("5.5.5.2".parse().unwrap()), v6: None },
        keepalive: Keepalive { interval: Duration::from_secs(60), timeout: Duration::from_secs(120) },
        stats: PeerStats {
            vpn: Counters { rx_bytes: 5 << 32, tx_bytes: 4, rx_packets: 2, tx_packets: 1 },
            link: Counters { rx_bytes: u64::MAX, tx_bytes: 40, rx_packets: 0xFFFF_FFFF, tx_packets: 10 },
        },
    }
}

#[cfg(target_endian = "little")]
#[test]
fn answers() {
    let bytes = hex("c0000000 1c00 0000 00000000 00000000  03 01 0000
        ac00 0280
          0800 0100 01000000
          0800 1800 0a000000         ; TX_ID
          0800 0800 05050502         ; VPN_IPV4
          0800 0d00 3c000000  0800 0e00 78000000
          1400 0300 fd00000000000001 0000000000000002  0600 0500 0001 0000
          1400 0b00 fd00000000000001 0000000000000001  0600 0c00 0001 0000
          0c00 1000 0000000005000000 ; VPN_RX_BYTES, eight bytes wide
          0800 1100 04000000  0800 1200 02000000  0800 1300 01000000
          0c00 1400 ffffffffffffffff ; LINK_RX_BYTES
          0800 1500 28000000  0800 1600 ffffffff  0800 1700 0a000000");
    let encoded = encode_peer(FAMILY, 0, &info());
    assert_eq!(encoded, bytes, "\n{encoded:02x?}\n{bytes:02x?}");
    assert_eq!(decode_peer(&bytes[16..]).unwrap(), info());

    let key = KeyInfo { key_id: KeyId::new(3).unwrap(), cipher: CipherAlg::ChaCha20Poly1305 };
    let bytes = hex("38000000 1c00 0000 00000000 00000000  07 01 0000
        2400 0380 0800 0100 01000000 0800 0200 01000000 0800 0300 03000000 0800 0400 02000000");
    assert_eq!(encode_key(FAMILY, id(1), KeySlot::Secondary, &key), bytes);
    assert_eq!(decode_key(&bytes[16..]).unwrap(), key);
}

/// Kernels without asymmetric ids do not tell the id for sending; newer ones tell attributes that are unknown here.
#[test]
fn answers_of_older_and_newer_kernels() {
    let bytes = MessageBuilder::new(FAMILY, 0).header(&[3, 1, 0, 0]).with(|a| {
        a.nest(2, |a| {
            a.u32(1, 6).u32(200, 1).nest(25, |a| {
                a.u32(1, 1);
            });
        })
        .u32(300, 5);
    });
    let peer = decode_peer(&bytes.finish()[16..]).unwrap();
    assert_eq!((peer.id, peer.tx_id, peer.remote), (id(6), id(6), None));
}

/// The kernel tells the port alone where it knows no address: of TCP peers, and where none was chosen.
#[test]
fn a_local_port_without_an_address_is_kept() {
    let decode = |remote: Option<&[u8]>| {
        let bytes = MessageBuilder::new(FAMILY, 0).header(&[3, 1, 0, 0]).with(|a| {
            a.nest(2, |a| {
                a.u32(1, 6);
                if let Some(remote) = remote {
                    a.bytes(if remote.len() == 4 { 2 } else { 3 }, remote).be16(5, 1194);
                }
                a.be16(12, 443);
            });
        });
        decode_peer(&bytes.finish()[16..]).unwrap().local
    };
    assert_eq!(decode(None), Some("0.0.0.0:443".parse().unwrap()));
    assert_eq!(decode(Some(&[192, 0, 2, 1])), Some("0.0.0.0:443".parse().unwrap()));
    assert_eq!(decode(Some(&[0x20; 16])), Some("[::]:443".parse().unwrap()));
}

#[test]
fn ipv4_mapped_addresses_are_ipv4() {
    let mut peer = new_peer(1);
    peer.remote = Some("[::ffff:10.0.0.1]:7".parse().unwrap());
    let bytes = Request { ifindex: 1, command: Command::PeerNew(peer) }.encode(FAMILY);
    let message = messages(&bytes).next().unwrap().unwrap();
    let Command::PeerNew(read) = Request::decode(&message, Dialect::Kernel).unwrap().command else {
        panic!()
    };
    assert_eq!(read.remote, Some("10.0.0.1:7".parse().unwrap()));
    assert!(bytes.windows(4).any(|w| w == [8, 0, 2, 0]) || cfg!(target_endian = "big"));
}

// ---- what the engine adds ----

#[test]
fn engine_dialect_round_trip_and_kernel_refusal() {
    let mut framed = new_peer(1);
    framed.framing = Framing::Swap;
    framed.fragment = Some(1172);
    framed.socket = SocketRef::Transport(TransportId(u64::MAX));
    let mut epoch = key(CipherAlg::AesGcm, 32);
    epoch.format = DataFormat::Epoch;
    epoch.key_len = 16;
    let mss = PeerUpdate { mss: Some(1328), ..PeerUpdate::default() };
    let udp = Source::Driver {
        protocol: Protocol::Udp,
        local: Some("[::1%3]:5".parse().unwrap()),
        remote: Some("1.2.3.4:5".parse().unwrap()),
    };
    let commands = [
        Command::PeerNew(framed),
        Command::PeerSet { id: id(1), update: mss },
        Command::KeyNew { peer: id(1), slot: KeySlot::Primary, key: epoch },
        Command::TransportOpen { source: Source::Socket(0), port: 1 },
        Command::TransportOpen { source: udp, port: 0 },
        Command::TransportClose(TransportId(4)),
        Command::RouteAdd("10.0.0.0/8".parse().unwrap(), id(1)),
        Command::RouteDel("2001:db8::/32".parse().unwrap(), id(1)),
        Command::CapabilitiesGet,
        Command::DropsGet,
        Command::Subscribe,
    ];
    for command in commands {
        let request = Request { ifindex: 0, command };
        let bytes = request.encode(ENGINE_FAMILY);
        let message = messages(&bytes).next().unwrap().unwrap();
        let read = Request::decode(&message, Dialect::Engine).unwrap();
        assert_eq!(format!("{read:?}"), format!("{request:?}"));
        let refused = Request::decode(&message, Dialect::Kernel).unwrap_err();
        assert!(matches!(refused.errno(), 22 | 95), "{refused}");
    }
}

// ---- what is refused, and with which errno ----

/// A request by hand; `a` writes the top level.
fn by_hand(number: u8, flags: u16, write: impl FnOnce(&mut AttributeWriter)) -> Result<Request> {
    let bytes = MessageBuilder::new(FAMILY, flags).header(&[number, 1, 0, 0]).with(write).finish();
    Request::decode(&messages(&bytes).next().unwrap().unwrap(), Dialect::Kernel)
}

#[track_caller]
fn refused(number: u8, errno: i32, write: impl FnOnce(&mut AttributeWriter)) {
    assert_eq!(by_hand(number, 5, write).map_err(|error| error.errno()).unwrap_err(), errno);
}

/// A PEER nest with id and socket, and more.
#[track_caller]
fn peer_new_refused(errno: i32, more: impl FnOnce(&mut AttributeWriter)) {
    refused(command::PEER_NEW, errno, |a| {
        a.u32(1, 7).nest(2, |a| {
            a.u32(1, 1).u32(6, 5);
            more(a);
        });
    });
}

#[test]
fn refusals() {
    const EINVAL: i32 = 22;
    const ERANGE: i32 = 34;
    const EOPNOTSUPP: i32 = 95;
    let v4 = [10, 0, 0, 1];
    let v6 = [0x20; 16];
    // combinations
    peer_new_refused(EINVAL, |a| {
        a.bytes(2, &v4).bytes(3, &v6).be16(5, 1);
    });
    peer_new_refused(EINVAL, |a| {
        a.bytes(2, &v4);
    });
    peer_new_refused(EINVAL, |a| {
        a.be16(5, 1);
    });
    peer_new_refused(EINVAL, |a| {
        a.bytes(10, &v4);
    });
    peer_new_refused(EINVAL, |a| {
        a.bytes(11, &v6).bytes(2, &v4).be16(5, 1);
    });
    peer_new_refused(EINVAL, |a| {
        a.bytes(2, &v4).be16(5, 1).u32(4, 1);
    });
    // an IPv4-mapped local address against an IPv6 remote
    peer_new_refused(EINVAL, |a| {
        let mapped = "::ffff:10.0.0.1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        a.bytes(3, &v6).be16(5, 1).bytes(11, &mapped);
    });
    peer_new_refused(EINVAL, |a| {
        a.u32(13, 1);
    });
    // types, ranges, unknown and left-over ones
    peer_new_refused(ERANGE, |a| {
        a.u32(13, 86_401).u32(14, 1);
    });
    peer_new_refused(ERANGE, |a| {
        a.be16(5, 0).bytes(2, &v4);
    });
    peer_new_refused(ERANGE, |a| {
        a.u32(24, 0x100_0000);
    });
    peer_new_refused(EINVAL, |a| {
        a.bytes(2, &v6).be16(5, 1);
    });
    peer_new_refused(ERANGE, |a| {
        a.bytes(3, &v4).be16(5, 1);
    });
    peer_new_refused(EINVAL, |a| {
        a.u32(15, 1);
    });
    peer_new_refused(EINVAL, |a| {
        a.u32(99, 1);
    });
    peer_new_refused(EINVAL, |a| {
        a.append(&[2, 0, 1, 0]);
    });
    // required ones
    refused(command::PEER_NEW, EINVAL, |a| {
        a.u32(1, 7).nest(2, |a| {
            a.u32(1, 1);
        });
    });
    refused(command::PEER_NEW, EINVAL, |a| {
        a.u32(1, 7);
    });
    refused(command::PEER_NEW, EINVAL, |a| {
        a.nest(2, |a| {
            a.u32(1, 1).u32(6, 5);
        });
    });
    refused(command::PEER_SET, EINVAL, |a| {
        a.u32(1, 7).nest(2, |a| {
            a.u32(1, 1).u32(6, 5);
        });
    });
    for number in [command::PEER_GET, command::PEER_DEL] {
        refused(number, EINVAL, |a| {
            a.u32(1, 7).nest(2, |a| {
                a.u32(1, 1).u32(13, 5);
            });
        });
    }
    // keys
    for left_out in 1..=6 {
        refused(command::KEY_NEW, EINVAL, |a| {
            a.u32(1, 7).nest(3, |a| {
                for kind in (1..=4).filter(|kind| *kind != left_out) {
                    a.u32(kind, 1);
                }
                for kind in (5..=6).filter(|kind| *kind != left_out) {
                    a.nest(kind, |a| {
                        a.bytes(1, &[1; 32]).bytes(2, &[2; 8]);
                    });
                }
            });
        });
    }
    for (errno, tail, key_id, cipher) in
        [(ERANGE, 7, 1, 1), (ERANGE, 9, 1, 1), (ERANGE, 8, 8, 1), (ERANGE, 8, 1, 3)]
    {
        refused(command::KEY_NEW, errno, |a| {
            a.u32(1, 7).nest(3, |a| {
                a.u32(1, 1).u32(2, 1).u32(3, key_id).u32(4, cipher);
                for kind in 5..=6 {
                    a.nest(kind, |a| {
                        a.bytes(1, &[1; 32]).bytes(2, &vec![2; tail]);
                    });
                }
            });
        });
    }
    refused(command::KEY_DEL, EINVAL, |a| {
        a.u32(1, 7).nest(3, |a| {
            a.u32(1, 1);
        });
    });
    refused(command::KEY_SWAP, EINVAL, |a| {
        a.u32(1, 7).nest(3, |a| {
            a.u32(1, 1).u32(2, 0);
        });
    });
    // a nest without its flag
    refused(command::PEER_DEL, EINVAL, |a| {
        let mut inner = AttributeWriter::default();
        inner.u32(1, 1);
        a.u32(1, 7).bytes(2, &inner.into_bytes());
    });
    // commands
    refused(command::PEER_DEL_NTF, EOPNOTSUPP, |_| {});
    refused(200, EOPNOTSUPP, |_| {});
    let dump = by_hand(command::KEY_GET, 1 | NLM_F_DUMP, |_| {});
    assert_eq!(dump.unwrap_err().errno(), EOPNOTSUPP);
}

// ---- serving ----

/// A data plane of one table, without packets.
struct Table {
    capabilities: Capabilities,
    device: Device,
    peers: Mutex<Vec<PeerInfo>>,
    calls: Mutex<Vec<String>>,
}

impl Table {
    fn new() -> Self {
        let capabilities = Capabilities {
            driver: Driver::Windows,
            version: "1.2".into(),
            ciphers: vec![CipherAlg::AesGcm],
            aes_192: true,
            epoch: false,
            data_v1: true,
            tcp: false,
            multi_peer: true,
            multi_peer_tcp: false,
            mss: true,
            tx_id: false,
            key_del: true,
            float: false,
            framing: true,
            fragment: true,
            system_routes: false,
            peer_exit: true,
        };
        let device = Device { name: "tun7".into(), ifindex: 7, mode: Mode::MultiPeer };
        Self { capabilities, device, peers: Mutex::default(), calls: Mutex::default() }
    }

    fn called(&self, call: String) -> Result<()> {
        self.calls.lock().unwrap().push(call);
        Ok(())
    }
}

impl DataPlane for Table {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn drops(&self) -> Vec<Drops> {
        let dropped = |reason, packets| Drops { reason, description: "It happens.".into(), packets };
        vec![dropped("replayed".into(), 1 << 40), dropped("too-short".into(), 0)]
    }
    fn device(&self) -> &Device {
        &self.device
    }
    fn transport_open(&self, _: SocketSource) -> Result<Transport> {
        unreachable!("the host opens transports")
    }
    fn peer_new(&self, peer: &PeerConfig) -> Result<()> {
        self.peers.lock().unwrap().push(PeerInfo { id: peer.id, ..info() });
        self.called(format!("{peer:?}"))
    }
    fn peer_set(&self, id: PeerId, update: &PeerUpdate) -> Result<()> {
        self.called(format!("{id} {update:?}"))
    }
    fn peer_get(&self, id: PeerId) -> Result<PeerInfo> {
        let peers = self.peers.lock().unwrap();
        let missing = Error::new(ErrorKind::NoSuchPeer, "nobody");
        peers.iter().find(|peer| peer.id == id).cloned().ok_or(missing)
    }
    fn peer_dump(&self) -> Result<Vec<PeerInfo>> {
        Ok(self.peers.lock().unwrap().clone())
    }
    fn peer_del(&self, id: PeerId) -> Result<()> {
        self.peers.lock().unwrap().retain(|peer| peer.id != id);
        Ok(())
    }
    fn peer_exit(&self, _id: PeerId) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "this data plane sends nothing but what comes from its device",
        ))
    }

    fn key_new(&self, peer: PeerId, slot: KeySlot, key: &KeyConfig) -> Result<()> {
        self.called(format!("{peer} {slot:?} {}", key.key_id))
    }
    fn key_get(&self, _: PeerId, _: KeySlot) -> Result<KeyInfo> {
        Ok(KeyInfo { key_id: KeyId::FIRST, cipher: CipherAlg::AesGcm })
    }
    fn key_swap(&self, peer: PeerId) -> Result<()> {
        self.called(format!("swap {peer}"))
    }
    fn key_del(&self, peer: PeerId, slot: KeySlot) -> Result<()> {
        self.called(format!("del {peer} {slot:?}"))
    }
    fn route_add(&self, prefix: IpNet, peer: PeerId) -> Result<()> {
        self.called(format!("route {prefix} {peer}"))
    }
    fn route_del(&self, _: IpNet, _: PeerId) -> Result<()> {
        Ok(())
    }
    fn events(&self) -> Result<Box<dyn EventSource>> {
        unreachable!("the host subscribes")
    }
}

#[derive(Default)]
struct OneHost {
    sockets: Vec<OwnedFd>,
    subscribed: bool,
}

impl Host for OneHost {
    fn socket(&mut self, socket: OwnedFd) -> Result<TransportId> {
        self.sockets.push(socket);
        Ok(TransportId(77))
    }
    fn transport_open(&mut self, source: SocketSource, port: OwnedFd) -> Result<(TransportId, Protocol)> {
        let SocketSource::Socket(socket) = source else { return Err(Error::new(ErrorKind::Unsupported, "")) };
        self.sockets.extend([socket, port]);
        Ok((TransportId(78), Protocol::Tcp))
    }
    fn transport_close(&mut self, _: TransportId) -> Result<()> {
        self.sockets.clear();
        Ok(())
    }
    fn subscribe(&mut self) -> Result<()> {
        self.subscribed = true;
        Ok(())
    }
}

/// Sends a request through `serve`; replies' payloads, and the acknowledgement.
fn ask(plane: &Table, host: &mut OneHost, command: Command, fds: Vec<OwnedFd>) -> (Vec<Vec<u8>>, Result<()>) {
    let number = command.number();
    let mut bytes = Request { ifindex: 7, command }.encode(ENGINE_FAMILY);
    ovpn_sys::netlink::message::set_sequence(&mut bytes, 42, 0);
    let mut replies = Vec::new();
    for datagram in serve(&bytes, fds, plane, host) {
        for message in messages(&datagram) {
            let message = message.unwrap();
            assert_eq!(message.sequence, 42);
            match message.ack().unwrap() {
                Some(ack) => return (replies, ack.into_result().map_err(|e| error_from(&e, number))),
                None => replies.push(message.payload.to_vec()),
            }
        }
    }
    panic!("no acknowledgement");
}

fn socket() -> OwnedFd {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()
}

#[test]
fn serves_a_data_plane() {
    let (plane, mut host) = (Table::new(), OneHost::default());
    let host = &mut host;

    let mut peer = new_peer(1);
    peer.socket = SocketRef::Descriptor(1);
    peer.keepalive = Some(Keepalive::default());
    let (_, result) = ask(&plane, host, Command::PeerNew(peer.clone()), vec![socket(), socket()]);
    assert_eq!((result, host.sockets.len()), (Ok(()), 1));
    let calls = std::mem::take(&mut *plane.calls.lock().unwrap());
    assert!(calls[0].contains("TransportId(77)") && calls[1].contains("keepalive: Some"), "{calls:?}");
    // a descriptor that was not passed
    let (_, result) = ask(&plane, host, Command::PeerNew(peer), vec![socket()]);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::NotASocket);

    let (replies, _) = ask(&plane, host, Command::PeerGet(id(1)), vec![]);
    assert_eq!(decode_peer(&replies[0]).unwrap(), info());
    let (_, result) = ask(&plane, host, Command::PeerGet(id(2)), vec![]);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::NoSuchPeer);

    let (replies, _) = ask(&plane, host, Command::KeyGet { peer: id(1), slot: KeySlot::Primary }, vec![]);
    assert_eq!(decode_key(&replies[0]).unwrap().cipher, CipherAlg::AesGcm);

    let (command, fds) = Command::transport_open(SocketSource::Socket(socket()), socket());
    let (replies, result) = ask(&plane, host, command, fds);
    result.unwrap();
    assert_eq!(decode_opened(&replies[0]).unwrap(), Opened { id: TransportId(78), protocol: Protocol::Tcp });

    let (replies, _) = ask(&plane, host, Command::CapabilitiesGet, vec![]);
    assert_eq!(decode_capabilities(&replies[0]).unwrap(), plane.capabilities);
    assert_eq!(decode_device(&replies[0]).unwrap(), plane.device);

    let (replies, _) = ask(&plane, host, Command::DropsGet, vec![]);
    assert_eq!(replies.iter().map(|reply| decode_drops(reply).unwrap()).collect::<Vec<_>>(), plane.drops());

    assert_eq!(ask(&plane, host, Command::Subscribe, vec![]).1, Ok(()));
    assert!(host.subscribed);

    let other = Request { ifindex: 8, command: Command::PeerDump }.encode(ENGINE_FAMILY);
    let answer = serve(&other, vec![], &plane, host);
    let ack = messages(&answer[0]).next().unwrap().unwrap().ack().unwrap().unwrap();
    assert_eq!(ack.errno, 19);
}

/// More peers than one datagram holds.
#[test]
fn dumps_in_parts() {
    let (plane, mut host) = (Table::new(), OneHost::default());
    let (replies, result) = ask(&plane, &mut host, Command::PeerDump, vec![]);
    assert_eq!((replies.len(), result), (0, Ok(())));
    *plane.peers.lock().unwrap() = (0..1000).map(|number| PeerInfo { id: id(number), ..info() }).collect();
    let (replies, result) = ask(&plane, &mut host, Command::PeerDump, vec![]);
    result.unwrap();
    let ids: Vec<u32> = replies.iter().map(|reply| decode_peer(reply).unwrap().id.get()).collect();
    assert_eq!(ids, (0..1000).collect::<Vec<_>>());
    let bytes = Request { ifindex: 0, command: Command::PeerDump }.encode(ENGINE_FAMILY);
    let datagrams = serve(&bytes, vec![], &plane, &mut host);
    assert!(datagrams.len() > 5 && datagrams.iter().all(|datagram| datagram.len() <= 16 * 1024));
}

proptest! {
    #[test]
    fn any_bytes_are_answered_without_panic(
        number in 0u8..140, flags in any::<u16>(), ifindex in 6u32..9,
        kind in prop_oneof![2u16..4, 0x1000u16..0x1004],
        body in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let (plane, mut host) = (Table::new(), OneHost::default());
        let bytes = MessageBuilder::new(ENGINE_FAMILY, flags).header(&[number, 1, 0, 0]).with(|a| {
            a.u32(1, ifindex).nest(kind, |a| { a.append(&body); });
        }).finish();
        serve(&bytes, vec![], &plane, &mut host);
        serve(&body, vec![], &plane, &mut host);
        let _ = decode_peer(&body);
        let _ = decode_key(&body);
        let _ = decode_opened(&body);
        let _ = decode_capabilities(&body);
        let _ = decode_drops(&body);
        let _ = decode_device(&body);
        let _ = decode_event(&messages(&bytes).next().unwrap().unwrap());
    }

    #[test]
    fn peers_survive_the_wire(
        number in 0u32..0xFF_FFFF, tx in 0u32..0xFF_FFFF, v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(),
        port in any::<u16>(), six in any::<bool>(), counters in any::<[u64; 8]>(), seconds in 0u64..86_401,
    ) {
        let ip: IpAddr = if six { v6.into() } else { v4.into() };
        let [a, b, c, d, e, f, g, h] = counters;
        let peer = PeerInfo {
            id: id(number),
            tx_id: id(tx),
            remote: Some((ip.to_canonical(), port).into()),
            local: None,
            vpn: VpnAddrs { v4: Some(v4.into()), v6: Some(v6.into()) },
            keepalive: Keepalive { interval: Duration::from_secs(seconds), timeout: Duration::from_secs(seconds / 2) },
            stats: PeerStats {
                vpn: Counters { rx_bytes: a, tx_bytes: b, rx_packets: c, tx_packets: d },
                link: Counters { rx_bytes: e, tx_bytes: f, rx_packets: g, tx_packets: h },
            },
        };
        prop_assert_eq!(decode_peer(&encode_peer(FAMILY, 0, &peer)[16..]).unwrap(), peer);
    }
}
