//! One peer: its keys, where it is reached, its counters.
//!
//! ```text
//!            Peer
//!   TX lock: sealing keys, TX id, last sent           taken once a batch: tables.tx(peer, now)
//!   RX lock: opening keys with replay windows         taken once a batch: tables.rx(peer, now)
//!   endpoint lock: remote and local address           leaf; the receiver changes it, the sender reads it
//!   atomics: counters, times, keepalive, MSS
//! ```
//!
//! Lock order is TX, RX, endpoint. Key operations take TX and RX, so that a swap happens to both directions at once.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ovpn_dco::{
    Error, ErrorKind, Event, Framing, Keepalive, KeyConfig, KeyInfo, KeySlot, PeerConfig, PeerId, PeerInfo,
    Result, TransportId, VpnAddrs,
};

use crate::address_map::AddressMap;
use crate::drop_reason::DropCounters;
use crate::fragment::Reassembly;
use crate::key_slots::{self, KeySlots, OpenKey, SealKey};
use crate::stats::{self, Totals};
use crate::time::Timestamp;

/// Takes what the data plane reports by itself.
///
/// It is called with locks of this crate held: it must only queue the event and return.
pub trait EventSink: Send + Sync {
    /// One event.
    fn event(&self, event: Event);
}

/// What all peers of a device share.
pub(crate) struct Shared {
    pub(crate) drops: DropCounters,
    pub(crate) events: Box<dyn EventSink>,
    pub(crate) addresses: AddressMap,
    pub(crate) allow_none_cipher: bool,
}

/// Where a UDP peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// Its address; `None` for TCP peers.
    pub remote: Option<SocketAddr>,
    /// The local address to send from; `None` leaves it to the system.
    pub local: Option<IpAddr>,
}

/// Where a received datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The sender.
    pub remote: SocketAddr,
    /// The local address it was sent to, where the socket tells.
    pub local: Option<IpAddr>,
}

/// One peer. Shared between the threads that move its packets.
pub struct Peer {
    id: PeerId,
    transport: TransportId,
    framing: Framing,
    fragment: Option<u16>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tx: Mutex<TxState>,
    pub(crate) rx: Mutex<RxState>,
    endpoint: Mutex<Endpoint>,
    vpn: Mutex<VpnAddrs>,
    pub(crate) tx_totals: Totals,
    pub(crate) rx_totals: Totals,
    /// Milliseconds of [`Timestamp`].
    last_sent: AtomicU64,
    last_received: AtomicU64,
    /// Milliseconds, 0 is off.
    interval: AtomicU64,
    timeout: AtomicU64,
    /// Counts the settings of keepalive, so that deadlines of earlier ones are known as such; 0 is a deleted peer.
    keepalive_setting: AtomicU64,
    mss: AtomicU16,
}

pub(crate) struct TxState {
    pub(crate) slots: KeySlots<SealKey>,
    pub(crate) tx_id: PeerId,
    /// Number of the packet that was cut last.
    pub(crate) packet: u8,
}

pub(crate) struct RxState {
    pub(crate) slots: KeySlots<OpenKey>,
    /// Of a peer that sends pieces.
    pub(crate) reassembly: Option<Box<Reassembly>>,
    /// A copy of the peer's endpoint, compared with every packet's source.
    pub(crate) endpoint: Endpoint,
    /// The last period in which it streamed, see [`BusyPeers`](crate::worker::busy_peers::BusyPeers).
    pub(crate) streamed_in: u64,
}

impl Peer {
    /// A peer that was found valid, reached at `endpoint`.
    pub(crate) fn new(config: &PeerConfig, endpoint: Endpoint, shared: Arc<Shared>, now: Timestamp) -> Self {
        let &PeerConfig { id, transport, framing, fragment, vpn, .. } = config;
        let tx_id = config.tx_id.unwrap_or(id);
        let reassembly = fragment.map(|_| Box::default());
        Self {
            id,
            transport,
            framing,
            fragment,
            shared,
            tx: Mutex::new(TxState { slots: KeySlots::default(), tx_id, packet: 0 }),
            rx: Mutex::new(RxState { slots: KeySlots::default(), reassembly, endpoint, streamed_in: 0 }),
            endpoint: Mutex::new(endpoint),
            vpn: Mutex::new(vpn),
            tx_totals: Totals::default(),
            rx_totals: Totals::default(),
            last_sent: AtomicU64::new(now.as_millis()),
            last_received: AtomicU64::new(now.as_millis()),
            interval: AtomicU64::new(0),
            timeout: AtomicU64::new(0),
            keepalive_setting: AtomicU64::new(0),
            mss: AtomicU16::new(0),
        }
    }

    /// Its id: expected in received packets, and the handle in the DCO API.
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// The transport it is reached over.
    pub const fn transport(&self) -> TransportId {
        self.transport
    }

    /// The compression framing it speaks.
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// The largest piece of a packet sent to it, bytes behind the fragment header; `None` where it knows no such header.
    pub const fn fragment(&self) -> Option<u16> {
        self.fragment
    }

    /// True where payloads are inner packets as they stand: no compression framing, no fragment header.
    #[inline]
    pub const fn is_bare(&self) -> bool {
        matches!((self.framing, self.fragment), (Framing::None, None))
    }

    /// Where it is reached now.
    pub fn endpoint(&self) -> Endpoint {
        *lock(&self.endpoint)
    }

    /// Its VPN addresses.
    pub fn vpn(&self) -> VpnAddrs {
        *lock(&self.vpn)
    }

    pub(crate) fn set_vpn(&self, vpn: VpnAddrs) {
        *lock(&self.vpn) = vpn;
    }

    /// Largest TCP segment of inner IPv4 connections; 0 is off.
    pub fn mss(&self) -> u16 {
        self.mss.load(Ordering::Relaxed)
    }

    pub(crate) fn set_mss(&self, mss: u16) {
        self.mss.store(mss, Ordering::Relaxed);
    }

    pub(crate) fn set_tx_id(&self, tx_id: PeerId) {
        lock(&self.tx).tx_id = tx_id;
    }

    /// Moves the peer to another endpoint, without an event.
    pub(crate) fn set_endpoint(&self, endpoint: Endpoint) {
        self.move_endpoint(&mut lock(&self.rx), endpoint);
    }

    /// Moves the peer to another endpoint while its RX lock is held.
    pub(crate) fn move_endpoint(&self, rx: &mut RxState, endpoint: Endpoint) {
        self.shared.addresses.moved(self.id, rx.endpoint.remote, endpoint.remote);
        rx.endpoint = endpoint;
        *lock(&self.endpoint) = endpoint;
    }

    /// Everything that can be read back of the peer.
    pub fn info(&self) -> PeerInfo {
        let endpoint = self.endpoint();
        PeerInfo {
            id: self.id,
            tx_id: lock(&self.tx).tx_id,
            remote: endpoint.remote,
            local: endpoint.local.map(|local| SocketAddr::new(local, 0)),
            vpn: self.vpn(),
            keepalive: self.keepalive(),
            stats: stats::snapshot(&self.rx_totals, &self.tx_totals),
        }
    }

    // Keepalive.

    pub(crate) fn keepalive(&self) -> Keepalive {
        Keepalive {
            interval: Duration::from_millis(self.interval.load(Ordering::Relaxed)),
            timeout: Duration::from_millis(self.timeout.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn set_keepalive(&self, keepalive: Keepalive, setting: u64, now: Timestamp) {
        self.interval.store(keepalive.interval.as_millis() as u64, Ordering::Relaxed);
        self.timeout.store(keepalive.timeout.as_millis() as u64, Ordering::Relaxed);
        self.note_sent(now);
        self.note_received(now);
        self.keepalive_setting.store(setting, Ordering::Release);
    }

    pub(crate) fn keepalive_setting(&self) -> u64 {
        self.keepalive_setting.load(Ordering::Acquire)
    }

    pub(crate) fn stop_keepalive(&self) {
        self.keepalive_setting.store(0, Ordering::Release);
    }

    pub(crate) fn last_sent(&self) -> Timestamp {
        Timestamp::from_millis(self.last_sent.load(Ordering::Relaxed))
    }

    pub(crate) fn last_received(&self) -> Timestamp {
        Timestamp::from_millis(self.last_received.load(Ordering::Relaxed))
    }

    pub(crate) fn note_sent(&self, now: Timestamp) {
        self.last_sent.store(now.as_millis(), Ordering::Relaxed);
    }

    pub(crate) fn note_received(&self, now: Timestamp) {
        self.last_received.store(now.as_millis(), Ordering::Relaxed);
    }

    // Keys.

    /// Installs a key into a slot, replacing what is there.
    ///
    /// # Errors
    /// [`ErrorKind::BadKey`], [`ErrorKind::UnsupportedCipher`].
    pub fn key_new(&self, slot: KeySlot, key: &KeyConfig) -> Result<()> {
        let (seal, open) = key_slots::expand(key, self.shared.allow_none_cipher)?;
        tracing::debug!(peer = %self.id, ?slot, key_id = %key.key_id, cipher = ?key.cipher, format = ?key.format, "key installed");
        let (mut tx, mut rx) = self.both();
        *tx.slots.slot(slot) = Some(seal);
        *rx.slots.slot(slot) = Some(open);
        Ok(())
    }

    /// Tells which key is in a slot.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`].
    pub fn key_get(&self, slot: KeySlot) -> Result<KeyInfo> {
        match lock(&self.tx).slots.slot(slot) {
            Some(key) => Ok(KeyInfo { key_id: key.key_id, cipher: key.cipher }),
            None => Err(Error::new(ErrorKind::NoSuchKey, "the key slot is empty")),
        }
    }

    /// Exchanges the two slots in both directions at once.
    pub fn key_swap(&self) {
        let (mut tx, mut rx) = self.both();
        tx.slots.swap();
        rx.slots.swap();
        tracing::debug!(peer = %self.id, "keys swapped");
    }

    /// Empties a slot.
    pub fn key_del(&self, slot: KeySlot) {
        let (mut tx, mut rx) = self.both();
        *tx.slots.slot(slot) = None;
        *rx.slots.slot(slot) = None;
        tracing::debug!(peer = %self.id, ?slot, "key slot emptied");
    }

    fn both(&self) -> (MutexGuard<'_, TxState>, MutexGuard<'_, RxState>) {
        (lock(&self.tx), lock(&self.rx))
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("id", &self.id)
            .field("endpoint", &self.endpoint())
            .finish_non_exhaustive()
    }
}

/// Takes a lock. A panic elsewhere does not make a peer unusable: every change under these locks is complete or not
/// begun.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The form of an address that addresses are compared in: IPv4-mapped ones as IPv4, no flow label, and a scope only
/// where it has a meaning.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => {
                let scope = if v6.ip().is_unicast_link_local() { v6.scope_id() } else { 0 };
                SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into()
            }
        },
    }
}
