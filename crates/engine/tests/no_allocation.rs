//! No heap allocation per packet: an allocator that counts, and steady traffic in every format.
//!
//! The only unsafe code outside `sys`: a global allocator cannot be made without. It is in a test binary of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

use ovpn_dco::{
    CipherAlg, DataFormat, Event, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig, PeerId,
    Protocol, TransportId, VpnAddrs,
};
use ovpn_engine::decrypt::Kind;
use ovpn_engine::peer::{EventSink, Source};
use ovpn_engine::peer_table::{PeerTable, TableConfig};
use ovpn_engine::route::NextHop;
use ovpn_engine::time::Timestamp;
use ovpn_wire::data_packet;

struct Counting;

thread_local! {
    /// Of this thread only: the test harness has others. Needs neither allocation nor destructor itself.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is the system allocator's, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, event: Event) {
        panic!("steady traffic raises no event: {event:?}");
    }
}

const HOME: &str = "192.0.2.1:1194";

fn key(cipher: CipherAlg, format: DataFormat, out: u8, into: u8) -> KeyConfig {
    let direction = |byte| KeyDirection { cipher_key: vec![byte; 32], nonce_tail: [byte; 8] };
    let (encrypt, decrypt) = (direction(out), direction(into));
    KeyConfig { key_id: KeyId::FIRST, cipher, format, key_len: 32, encrypt, decrypt }
}

fn table(framing: Framing, fragment: Option<u16>, key: &KeyConfig) -> PeerTable {
    let config = TableConfig { mode: Mode::MultiPeer, allow_none_cipher: false };
    let table = PeerTable::new(config, Box::new(NoEvents));
    let id = PeerId::new(3).unwrap();
    let peer = PeerConfig {
        id,
        tx_id: None,
        transport: TransportId(0),
        remote: Some(HOME.parse().unwrap()),
        local: None,
        vpn: VpnAddrs { v4: Some("10.8.0.2".parse().unwrap()), v6: None },
        framing,
        fragment,
    };
    table.peer_new(&peer, Some(Protocol::Udp), Timestamp::default()).unwrap();
    table.key_new(id, KeySlot::Primary, key).unwrap();
    table.route_insert("10.8.0.0/24".parse().unwrap(), NextHop::OnLink);
    table
}

/// Sixty-four packets sealed by one end and opened by the other, each followed by a damaged one.
fn batch(sender: &PeerTable, receiver: &PeerTable, number: u64) {
    let mut inner = [0u8; 1400];
    inner[0] = 0x45;
    inner[2..4].copy_from_slice(&1400u16.to_be_bytes());
    inner[12..20].copy_from_slice(&[10, 8, 0, 2, 10, 8, 0, 2]);
    let from = Source { remote: HOME.parse::<SocketAddr>().unwrap(), local: None };
    let (mut packet, mut out) = ([0u8; 2048], [0u8; 2048]);
    let now = Timestamp::from_millis(number);
    let tables = sender.read();
    let peer = tables.receiver(&inner).unwrap();
    let mut tx = tables.tx(peer, now);
    let arriving = receiver.read();
    let fragment = peer.fragment().is_some();
    for _ in 0..64 {
        // In pieces; sealed whole, below, in any case.
        for piece in tx.pieces(&inner).unwrap().filter(|_| fragment) {
            let len = tx.seal_piece(&piece, &mut packet).unwrap();
            let to = arriving.get(peer.id()).unwrap();
            let opened = arriving.rx(to, now).open(&packet[..len], Some(&from), &mut out).unwrap();
            assert_eq!(opened.kind(), if opened.is_empty() { Kind::Piece } else { Kind::Data });
        }
        let len = tx.seal(&inner, &mut packet).unwrap();
        let class = data_packet::classify(&packet[..len]).unwrap();
        let peer = arriving.sender(class, from.remote).unwrap();
        let mut rx = arriving.rx(peer, now);
        let opened = rx.open(&packet[..len], Some(&from), &mut out).unwrap();
        assert_eq!(out[..opened.len()], inner);
        // Bad packets cost none either.
        packet[40] ^= 1;
        rx.open(&packet[..len], Some(&from), &mut out).unwrap_err();
    }
}

#[test]
fn steady_traffic_allocates_nothing() {
    for cipher in [CipherAlg::AesGcm, CipherAlg::ChaCha20Poly1305] {
        for format in [DataFormat::V2, DataFormat::V1, DataFormat::Epoch] {
            for (framing, fragment) in [
                (Framing::None, None),
                (Framing::Lzo, None),
                (Framing::Swap, None),
                (Framing::V2, None),
                (Framing::None, Some(600)),
                (Framing::Lzo, Some(600)),
            ] {
                let sender = table(framing, fragment, &key(cipher, format, 1, 2));
                let receiver = table(framing, fragment, &key(cipher, format, 2, 1));
                // The first batch registers the log's call sites, once in the process's life.
                batch(&sender, &receiver, 0);
                let before = ALLOCATIONS.get();
                for number in 1..20 {
                    batch(&sender, &receiver, number);
                }
                let after = ALLOCATIONS.get();
                assert_eq!(after - before, 0, "{cipher:?} {format:?} {framing:?} {fragment:?}");
            }
        }
    }
}
