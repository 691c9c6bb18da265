//! Rekeying while packets flow from one end to the other: not one is lost, none is opened twice, none out of order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use ovpn_dco::{
    CipherAlg, DataFormat, Event, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig, PeerId,
    Protocol, TransportId, VpnAddrs,
};
use ovpn_engine::peer::EventSink;
use ovpn_engine::peer_table::{PeerTable, TableConfig};
use ovpn_engine::time::Timestamp;

struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, event: Event) {
        panic!("rekeying in time raises no event: {event:?}");
    }
}

fn id() -> PeerId {
    PeerId::new(5).unwrap()
}

fn end() -> PeerTable {
    let table = PeerTable::new(TableConfig { mode: Mode::P2p, allow_none_cipher: false }, Box::new(NoEvents));
    let peer = PeerConfig {
        id: id(),
        tx_id: None,
        transport: TransportId(0),
        remote: Some("192.0.2.1:1194".parse().unwrap()),
        local: None,
        vpn: VpnAddrs::default(),
        framing: Framing::None,
        fragment: None,
    };
    table.peer_new(&peer, Some(Protocol::Udp), Timestamp::default()).unwrap();
    table
}

/// The `n`-th key, seen from the end whose sending byte is `out`.
fn key(n: u8, format: DataFormat, out: u8, into: u8) -> KeyConfig {
    let direction = |byte: u8| KeyDirection {
        cipher_key: (0..32).map(|at| at ^ byte ^ n.wrapping_mul(31)).collect(),
        nonce_tail: [byte; 8],
    };
    let key_id = if n == 0 { 0 } else { (n - 1) % 7 + 1 };
    KeyConfig {
        key_id: KeyId::new(key_id).unwrap(),
        cipher: CipherAlg::AesGcm,
        format,
        key_len: 32,
        encrypt: direction(out),
        decrypt: direction(into),
    }
}

#[test]
fn no_packet_is_lost_while_keys_change() {
    for format in [DataFormat::V2, DataFormat::Epoch] {
        let (sender, receiver) = (end(), end());
        sender.key_new(id(), KeySlot::Primary, &key(0, format, 0x11, 0x77)).unwrap();
        receiver.key_new(id(), KeySlot::Primary, &key(0, format, 0x77, 0x11)).unwrap();
        let (sent, opened, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let (send, receive) = sync_channel::<Vec<u8>>(256);
        let mut rekeys = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let send = send;
                let mut inner = [0u8; 100];
                inner[0] = 0x45;
                while !stop.load(Ordering::Relaxed) {
                    let tables = sender.read();
                    let peer = tables.receiver(&inner).unwrap();
                    let mut tx = tables.tx(peer, Timestamp::default());
                    for _ in 0..16 {
                        let number = sent.fetch_add(1, Ordering::Relaxed);
                        inner[20..28].copy_from_slice(&number.to_be_bytes());
                        let mut packet = vec![0; 140];
                        let len = tx.seal(&inner, &mut packet).unwrap();
                        packet.truncate(len);
                        send.send(packet).unwrap();
                    }
                }
            });
            scope.spawn(|| {
                let mut out = [0u8; 200];
                let mut next = 0u64;
                for packet in receive {
                    let tables = receiver.read();
                    let peer = tables.get(id()).unwrap();
                    let opening =
                        tables.rx(peer, Timestamp::default()).open(&packet, None, &mut out).unwrap();
                    assert_eq!(opening.len(), 100);
                    assert_eq!(out[20..28], next.to_be_bytes());
                    next += 1;
                    opened.store(next, Ordering::Release);
                }
            });
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(700) {
                rekeys += 1;
                let n = (rekeys % 200) as u8;
                receiver.key_new(id(), KeySlot::Secondary, &key(n, format, 0x77, 0x11)).unwrap();
                sender.key_new(id(), KeySlot::Secondary, &key(n, format, 0x11, 0x77)).unwrap();
                sender.key_swap(id()).unwrap();
                // Everything that may have been sealed with the old key: then it goes.
                let last = sent.load(Ordering::Acquire) + 16;
                while opened.load(Ordering::Acquire) < last {
                    std::thread::sleep(Duration::from_micros(100));
                }
                receiver.key_swap(id()).unwrap();
                sender.key_del(id(), KeySlot::Secondary).unwrap();
                receiver.key_del(id(), KeySlot::Secondary).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(sent.load(Ordering::Relaxed), opened.load(Ordering::Relaxed));
        assert_eq!((sender.drops().total(), receiver.drops().total()), (0, 0));
        assert!(rekeys >= 5, "{rekeys}");
        println!("{format:?}: {rekeys} rekeys under {} packets", sent.load(Ordering::Relaxed));
    }
}
