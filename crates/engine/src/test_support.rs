//! What the tests of several modules need: keys, peers, a sink for events, inner packets.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use ovpn_dco::{
    CipherAlg, DataFormat, Event, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig, PeerId,
    Protocol, TransportId, VpnAddrs,
};

use crate::peer::{EventSink, Source, lock};
use crate::peer_table::{PeerTable, TableConfig};
use crate::time::Timestamp;

/// Events, kept to be looked at.
#[derive(Default, Clone)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    /// All events since the last call.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl EventSink for Events {
    fn event(&self, event: Event) {
        lock(&self.0).push(event);
    }
}

pub(crate) fn id(id: u32) -> PeerId {
    PeerId::new(id).unwrap()
}

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn from(remote: &str) -> Source {
    Source { remote: addr(remote), local: None }
}

/// A key that encrypts with the byte `out` and decrypts with the byte `into`.
pub(crate) fn key(format: DataFormat, key_id: u8, out: u8, into: u8) -> KeyConfig {
    let direction = |byte| KeyDirection { cipher_key: vec![byte; 32], nonce_tail: [byte; 8] };
    KeyConfig {
        key_id: KeyId::new(key_id).unwrap(),
        cipher: CipherAlg::AesGcm,
        format,
        key_len: 32,
        encrypt: direction(out),
        decrypt: direction(into),
    }
}

pub(crate) fn none_key(key_id: u8) -> KeyConfig {
    let direction = || KeyDirection { cipher_key: Vec::new(), nonce_tail: [0; 8] };
    KeyConfig {
        key_id: KeyId::new(key_id).unwrap(),
        cipher: CipherAlg::None,
        format: DataFormat::V2,
        key_len: 0,
        encrypt: direction(),
        decrypt: direction(),
    }
}

pub(crate) fn table(mode: Mode) -> (PeerTable, Events) {
    let events = Events::default();
    let config = TableConfig { mode, allow_none_cipher: true };
    (PeerTable::new(config, Box::new(events.clone())), events)
}

/// A UDP peer at `remote`; `vpn` is empty on point-to-point devices.
pub(crate) fn peer(peer_id: u32, remote: &str, vpn: &str) -> PeerConfig {
    let v4 = if vpn.is_empty() { None } else { Some(vpn.parse().unwrap()) };
    PeerConfig {
        id: id(peer_id),
        tx_id: None,
        transport: TransportId(1),
        remote: Some(addr(remote)),
        local: None,
        vpn: VpnAddrs { v4, v6: None },
        framing: Framing::None,
        fragment: None,
    }
}

/// A table with one UDP peer, id 7 at 192.0.2.1:1194, and a key.
pub(crate) fn one_peer(framing: Framing, key: &KeyConfig) -> (PeerTable, Events) {
    let (table, events) = table(Mode::P2p);
    let config = PeerConfig { framing, ..peer(7, "192.0.2.1:1194", "") };
    table.peer_new(&config, Some(Protocol::Udp), at(0)).unwrap();
    table.key_new(id(7), KeySlot::Primary, key).unwrap();
    (table, events)
}

/// Two ends that share a key.
pub(crate) fn pair(format: DataFormat, framing: Framing) -> [(PeerTable, Events); 2] {
    [one_peer(framing, &key(format, 0, 1, 2)), one_peer(framing, &key(format, 0, 2, 1))]
}

/// Seals with peer 7.
pub(crate) fn seal(table: &PeerTable, inner: &[u8]) -> Vec<u8> {
    let peer = table.peer(id(7)).unwrap();
    let tables = table.read();
    let mut out = vec![0; inner.len() + 64];
    let len = tables.tx(&peer, at(1000)).seal(inner, &mut out).unwrap();
    out.truncate(len);
    out
}

/// An IPv4 packet of `len` bytes.
pub(crate) fn ipv4(source: &str, destination: &str, len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    for (at, address) in [(12, source), (16, destination)] {
        let IpAddr::V4(address) = address.parse().unwrap() else { panic!("{address} is not IPv4") };
        packet[at..at + 4].copy_from_slice(&address.octets());
    }
    for (index, byte) in packet[20..].iter_mut().enumerate() {
        *byte = index as u8;
    }
    packet
}
