//! Ten thousand idle peers: what each costs in memory, and what their keepalive costs in time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ovpn_dco::{
    CipherAlg, DataFormat, Event, Framing, Keepalive, KeyConfig, KeyDirection, KeyId, KeySlot, Mode,
    PeerConfig, PeerId, PeerUpdate, Protocol, TransportId, VpnAddrs,
};
use ovpn_engine::peer::EventSink;
use ovpn_engine::peer_table::{PeerTable, TableConfig};
use ovpn_engine::time::Timestamp;

const PEERS: u32 = 10_000;

struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, _: Event) {}
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn key(format: DataFormat) -> KeyConfig {
    let direction = || KeyDirection { cipher_key: vec![7; 32], nonce_tail: [7; 8] };
    KeyConfig {
        key_id: KeyId::FIRST,
        cipher: CipherAlg::AesGcm,
        format,
        key_len: 32,
        encrypt: direction(),
        decrypt: direction(),
    }
}

fn fill(format: DataFormat, slots: &[KeySlot]) -> (PeerTable, usize) {
    let config = TableConfig { mode: Mode::MultiPeer, allow_none_cipher: false };
    let table = PeerTable::new(config, Box::new(NoEvents));
    let keepalive = Some(Keepalive { interval: Duration::from_secs(10), timeout: Duration::from_secs(120) });
    let before = resident();
    for n in 0..PEERS {
        let id = PeerId::new(n).unwrap();
        let address = Ipv4Addr::from_bits(0x0A08_0000 + n);
        let peer = PeerConfig {
            id,
            tx_id: None,
            transport: TransportId(0),
            remote: Some(SocketAddr::new(address.into(), 1194)),
            local: None,
            vpn: VpnAddrs { v4: Some(address), v6: None },
            framing: Framing::None,
            fragment: None,
        };
        table.peer_new(&peer, Some(Protocol::Udp), Timestamp::default()).unwrap();
        table.peer_set(id, &PeerUpdate { keepalive, ..Default::default() }, Timestamp::default()).unwrap();
        for &slot in slots {
            table.key_new(id, slot, &key(format)).unwrap();
        }
    }
    (table, (resident() - before) / PEERS as usize)
}

#[test]
fn an_idle_peer_takes_at_most_4_kib_and_its_keepalive_next_to_no_time() {
    use KeySlot::{Primary, Secondary};
    // All are kept, so that none measures memory that another gave back.
    let mut kept = Vec::new();
    for (format, slots) in [
        (DataFormat::V2, &[Primary][..]),
        (DataFormat::V2, &[Primary, Secondary]),
        (DataFormat::Epoch, &[Primary]),
    ] {
        let (table, each) = fill(format, slots);
        println!("{format:?}, {} key(s): {each} bytes a peer", slots.len());
        assert!(each <= 4096, "{format:?}, {} key(s): {each} bytes a peer", slots.len());
        // A minute of keepalive, driven once a second, nobody speaking: every peer is pinged six times.
        let mut packet = [0; 64];
        let start = Instant::now();
        let mut pings = 0;
        for second in 0..60 {
            let now = Timestamp::from_millis(second * 1000);
            let timeouts = table.handle_timeout(now);
            assert!(timeouts.expired.is_empty());
            let tables = table.read();
            for peer in &timeouts.ping {
                tables.tx(peer, now).seal_ping(&mut packet).unwrap();
                pings += 1;
            }
        }
        let took = start.elapsed();
        println!("{pings} pings sealed in {took:?}, for one minute");
        assert_eq!(pings, 5 * PEERS);
        // 1 % of the minute; unoptimized builds and busy machines have some room.
        let allowed = Duration::from_millis(if cfg!(debug_assertions) { 6000 } else { 600 });
        assert!(took < allowed, "{took:?}");
        kept.push(table);
    }
}
