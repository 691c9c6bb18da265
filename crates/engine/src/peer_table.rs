//! The peers of one device, by everything they are looked up by.
//!
//! ```text
//!   received   peer id ──────────────┐
//!              source address ───────┤                 (packets without a peer id)
//!   to send    inner destination ─▶ route ─▶ VPN address ─▶ peer
//!   check      inner source ──────▶ route ─▶ VPN address ─▶ is it the sender?
//! ```
//!
//! [`PeerTable`] carries the DCO operations, each atomic, each a function of the state, the request and the time.
//! Threads that move packets take [`PeerTable::read`] once a batch; what happens within a batch takes no lock of the
//! table's. Hold it no longer than a batch and across nothing that blocks, for changes wait for it.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ipnet::IpNet;
use ovpn_dco::{
    DelReason, Error, ErrorKind, Event, KeyConfig, KeyInfo, KeySlot, Mode, PeerConfig, PeerId, PeerInfo,
    PeerUpdate, Protocol, Result, TransportId, VpnAddrs,
};
use ovpn_wire::data_packet::{Class, NO_PEER_ID};
use ovpn_wire::inner;

use crate::address_map::AddressMap;
use crate::decrypt::Rx;
use crate::drop_reason::{DropCounters, DropReason};
use crate::encrypt::Tx;
use crate::keepalive::{Due, Schedule};
use crate::peer::{EventSink, Peer, Shared, canonical, lock};
use crate::route::{FastMap, NextHop, Routes, VpnMap};
use crate::time::Timestamp;
use crate::validate;

/// What a device is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableConfig {
    /// One peer or many.
    pub mode: Mode,
    /// Take keys with the cipher `none`: packets go unencrypted. For tests only.
    pub allow_none_cipher: bool,
}

/// All peers of one device.
pub struct PeerTable {
    mode: Mode,
    shared: Arc<Shared>,
    tables: RwLock<Tables>,
    schedule: Mutex<Schedule>,
}

/// The peers as one batch sees them.
pub struct Tables {
    mode: Mode,
    shared: Arc<Shared>,
    by_id: FastMap<u32, Arc<Peer>>,
    /// The peer of a point-to-point device.
    only: Option<Arc<Peer>>,
    by_vpn: VpnMap<Arc<Peer>>,
    by_tcp_transport: FastMap<u64, Arc<Peer>>,
    routes: Routes,
}

/// A read lock on the tables, to be held for one batch.
pub struct TablesGuard<'a>(RwLockReadGuard<'a, Tables>);

impl Deref for TablesGuard<'_> {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.0
    }
}

impl Tables {
    /// The peer that a received UDP data packet belongs to.
    ///
    /// # Errors
    /// [`DropReason::UnknownPeer`], already counted; also for control packets, which belong to none.
    #[inline]
    pub fn sender(&self, class: Class, from: SocketAddr) -> std::result::Result<&Arc<Peer>, DropReason> {
        let peer = match class {
            Class::DataV2 { peer_id: NO_PEER_ID, .. } | Class::DataV1 { .. } => self.by_address(from),
            Class::DataV2 { peer_id, .. } => self.by_id.get(&peer_id),
            Class::Control => None,
        };
        peer.ok_or_else(|| self.shared.drops.count(DropReason::UnknownPeer))
    }

    /// The peer that an inner packet is for.
    ///
    /// # Errors
    /// [`DropReason::InnerNotIp`] or [`DropReason::NoRoute`], already counted.
    #[inline]
    pub fn receiver(&self, inner: &[u8]) -> std::result::Result<&Arc<Peer>, DropReason> {
        let Some(destination) = inner::destination(inner) else {
            return Err(self.shared.drops.count(DropReason::InnerNotIp));
        };
        let peer = match self.mode {
            Mode::P2p => self.only.as_ref(),
            Mode::MultiPeer => self.by_vpn.get(self.routes.next_hop(destination)),
        };
        peer.ok_or_else(|| self.shared.drops.count(DropReason::NoRoute))
    }

    /// Whether inner packets from `source` may come from `peer`: on a multi-peer device the way back must lead there.
    #[inline]
    pub fn may_send_from(&self, peer: &Peer, source: IpAddr) -> bool {
        match self.mode {
            Mode::P2p => true,
            Mode::MultiPeer => self
                .by_vpn
                .get(self.routes.next_hop(source))
                .is_some_and(|owner| std::ptr::eq(Arc::as_ptr(owner), peer)),
        }
    }

    /// Locks a peer's sending side for a batch.
    #[inline]
    pub fn tx<'a>(&self, peer: &'a Peer, now: Timestamp) -> Tx<'a> {
        Tx::new(peer, now)
    }

    /// Locks a peer's receiving side for a batch.
    #[inline]
    pub fn rx<'a>(&'a self, peer: &'a Peer, now: Timestamp) -> Rx<'a> {
        Rx::new(peer, self, now)
    }

    /// A peer by its id.
    pub fn get(&self, id: PeerId) -> Option<&Arc<Peer>> {
        self.by_id.get(&id.get())
    }

    /// The peer that a TCP transport carries.
    pub fn by_tcp_transport(&self, transport: TransportId) -> Option<&Arc<Peer>> {
        self.by_tcp_transport.get(&transport.0)
    }

    /// All peers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_id.values()
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn by_address(&self, from: SocketAddr) -> Option<&Arc<Peer>> {
        let id = self.shared.addresses.get(canonical(from))?;
        self.by_id.get(&id.get())
    }

    /// Refuses VPN addresses of other peers.
    fn check_vpn_free(&self, id: Option<PeerId>, vpn: &VpnAddrs) -> Result<()> {
        for address in addresses(vpn) {
            if self.by_vpn.get(address).is_some_and(|owner| Some(owner.id()) != id) {
                let detail = format!("{address} is the VPN address of another peer");
                return Err(Error::new(ErrorKind::VpnAddressInUse, detail));
            }
        }
        Ok(())
    }

    fn insert_vpn(&mut self, peer: &Arc<Peer>, vpn: &VpnAddrs) {
        if let Some(v4) = vpn.v4 {
            self.by_vpn.insert_v4(v4, Arc::clone(peer));
        }
        if let Some(v6) = vpn.v6 {
            self.by_vpn.insert_v6(v6, Arc::clone(peer));
        }
    }

    fn remove_vpn(&mut self, vpn: &VpnAddrs) {
        for address in addresses(vpn) {
            self.by_vpn.remove(address);
        }
    }

    fn insert(&mut self, peer: &Arc<Peer>, is_tcp: bool) {
        self.by_id.insert(peer.id().get(), Arc::clone(peer));
        if self.mode == Mode::P2p {
            self.only = Some(Arc::clone(peer));
        }
        self.insert_vpn(peer, &peer.vpn());
        if is_tcp {
            self.by_tcp_transport.insert(peer.transport().0, Arc::clone(peer));
        }
        self.shared.addresses.moved(peer.id(), None, peer.endpoint().remote);
    }

    /// Takes a peer out of every table; the one place where peers end.
    fn remove(&mut self, id: PeerId, reason: DelReason) -> Option<Arc<Peer>> {
        let peer = self.by_id.remove(&id.get())?;
        self.only = None;
        peer.stop_keepalive();
        self.remove_vpn(&peer.vpn());
        if self.by_tcp_transport.get(&peer.transport().0).is_some_and(|other| Arc::ptr_eq(other, &peer)) {
            self.by_tcp_transport.remove(&peer.transport().0);
        }
        self.shared.addresses.moved(id, peer.endpoint().remote, None);
        tracing::debug!(peer = %id, ?reason, "peer removed");
        self.shared.events.event(Event::PeerDeleted { peer: id, reason });
        Some(peer)
    }
}

impl PeerTable {
    /// A device without peers.
    pub fn new(config: TableConfig, events: Box<dyn EventSink>) -> Self {
        let TableConfig { mode, allow_none_cipher } = config;
        let shared = Arc::new(Shared {
            drops: DropCounters::default(),
            events,
            addresses: AddressMap::default(),
            allow_none_cipher,
        });
        let tables = Tables {
            mode,
            shared: Arc::clone(&shared),
            by_id: FastMap::default(),
            only: None,
            by_vpn: VpnMap::default(),
            by_tcp_transport: FastMap::default(),
            routes: Routes::default(),
        };
        Self { mode, shared, tables: RwLock::new(tables), schedule: Mutex::default() }
    }

    /// One peer or many.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The device's counters of dropped packets.
    pub fn drops(&self) -> &DropCounters {
        &self.shared.drops
    }

    /// The tables, locked against changes for one batch.
    #[inline]
    pub fn read(&self) -> TablesGuard<'_> {
        TablesGuard(self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer that stays valid after the tables' lock is given back.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    pub fn peer(&self, id: PeerId) -> Result<Arc<Peer>> {
        self.read().get(id).cloned().ok_or_else(|| no_such_peer(id))
    }

    // DCO operations on peers.

    /// Adds a peer; on a point-to-point device it replaces the one that is there. `transport` is the protocol of the
    /// peer's transport, `None` where the data plane knows no such transport.
    ///
    /// # Errors
    /// Every row of the kernel's PEER_NEW table; a failed call changes nothing.
    pub fn peer_new(
        &self,
        config: &PeerConfig,
        transport: Option<Protocol>,
        now: Timestamp,
    ) -> Result<Arc<Peer>> {
        let endpoint = validate::peer_new(self.mode, config, transport)?;
        let is_tcp = transport == Some(Protocol::Tcp);
        let mut tables = self.write();
        if tables.by_tcp_transport(config.transport).is_some() {
            return Err(Error::new(ErrorKind::NotASocket, "the TCP transport carries another peer"));
        }
        if self.mode == Mode::MultiPeer {
            if tables.get(config.id).is_some() {
                return Err(Error::new(ErrorKind::PeerExists, format!("peer {} exists", config.id)));
            }
            tables.check_vpn_free(None, &config.vpn)?;
        }
        let peer = Arc::new(Peer::new(config, endpoint, Arc::clone(&self.shared), now));
        if self.mode == Mode::P2p {
            let present: Vec<PeerId> = tables.iter().map(|peer| peer.id()).collect();
            for id in present {
                tables.remove(id, DelReason::Teardown);
            }
        }
        tables.insert(&peer, is_tcp);
        tracing::debug!(peer = %config.id, remote = ?endpoint.remote, vpn = ?config.vpn, "peer added");
        Ok(peer)
    }

    /// Changes a peer. A new keepalive starts both timers anew.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`] and every row of the kernel's PEER_SET table; a failed call changes nothing.
    pub fn peer_set(&self, id: PeerId, update: &PeerUpdate, now: Timestamp) -> Result<()> {
        let mut tables = self.write();
        let peer = Arc::clone(tables.get(id).ok_or_else(|| no_such_peer(id))?);
        let is_tcp = peer.endpoint().remote.is_none();
        let present = peer.vpn();
        let changed = validate::peer_set(self.mode, update, is_tcp, &present)?;
        if let Some(vpn) = &changed.vpn {
            tables.check_vpn_free(Some(id), vpn)?;
            tables.remove_vpn(&present);
            tables.insert_vpn(&peer, vpn);
            peer.set_vpn(*vpn);
        }
        drop(tables);
        if let Some(endpoint) = changed.endpoint {
            peer.set_endpoint(endpoint);
        }
        if let Some(tx_id) = update.tx_id {
            peer.set_tx_id(tx_id);
        }
        if let Some(mss) = update.mss {
            peer.set_mss(mss);
        }
        if let Some(keepalive) = update.keepalive {
            lock(&self.schedule).set(&peer, keepalive, now);
        }
        Ok(())
    }

    /// Reads one peer.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    pub fn peer_get(&self, id: PeerId) -> Result<PeerInfo> {
        Ok(self.peer(id)?.info())
    }

    /// Reads all peers, in the order of their ids.
    pub fn peer_dump(&self) -> Vec<PeerInfo> {
        let mut peers: Vec<Arc<Peer>> = self.read().iter().cloned().collect();
        peers.sort_by_key(|peer| peer.id());
        peers.iter().map(|peer| peer.info()).collect()
    }

    /// Removes a peer at the caller's wish; returns it, for whoever must let go of its transport.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    pub fn peer_del(&self, id: PeerId) -> Result<Arc<Peer>> {
        self.remove(id, DelReason::Userspace).ok_or_else(|| no_such_peer(id))
    }

    /// Removes a peer for any reason, and reports it; `None` where it is gone already.
    pub fn remove(&self, id: PeerId, reason: DelReason) -> Option<Arc<Peer>> {
        self.write().remove(id, reason)
    }

    /// Removes every peer of a transport.
    pub fn transport_gone(&self, transport: TransportId, reason: DelReason) -> Vec<Arc<Peer>> {
        self.remove_where(|peer| peer.transport() == transport, reason)
    }

    /// Removes all peers, for the device goes away.
    pub fn teardown(&self) -> Vec<Arc<Peer>> {
        self.remove_where(|_| true, DelReason::Teardown)
    }

    fn remove_where(&self, wanted: impl Fn(&Peer) -> bool, reason: DelReason) -> Vec<Arc<Peer>> {
        let mut tables = self.write();
        let mut ids: Vec<PeerId> = tables.iter().filter(|peer| wanted(peer)).map(|peer| peer.id()).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| tables.remove(id, reason)).collect()
    }

    // DCO operations on keys.

    /// Installs a key into a slot, replacing what is there.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`], [`ErrorKind::BadKey`], [`ErrorKind::UnsupportedCipher`].
    pub fn key_new(&self, peer: PeerId, slot: KeySlot, key: &KeyConfig) -> Result<()> {
        self.peer(peer)?.key_new(slot, key)
    }

    /// Tells which key is in a slot.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`], [`ErrorKind::NoSuchKey`].
    pub fn key_get(&self, peer: PeerId, slot: KeySlot) -> Result<KeyInfo> {
        self.peer(peer)?.key_get(slot)
    }

    /// Exchanges the slots, whatever is in them.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    pub fn key_swap(&self, peer: PeerId) -> Result<()> {
        self.peer(peer)?.key_swap();
        Ok(())
    }

    /// Empties a slot, whether or not there is something in it.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    pub fn key_del(&self, peer: PeerId, slot: KeySlot) -> Result<()> {
        self.peer(peer)?.key_del(slot);
        Ok(())
    }

    // Routes, as mirrored from the system's routing table.

    /// Adds a route or replaces the one of this prefix.
    pub fn route_insert(&self, prefix: IpNet, next_hop: NextHop) {
        self.write().routes.insert(prefix, next_hop);
    }

    /// Removes the route of this prefix; whether there was one.
    pub fn route_remove(&self, prefix: IpNet) -> bool {
        self.write().routes.remove(prefix)
    }

    /// Replaces all routes at once.
    pub fn routes_replace(&self, routes: Routes) {
        self.write().routes = routes;
    }

    // Keepalive.

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next; changed only by
    /// [`peer_set`](Self::peer_set) and by `handle_timeout` itself.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        lock(&self.schedule).next()
    }

    /// Removes peers that were silent too long, and returns those that a ping must be sent to
    /// ([`Tx::seal_ping`]), each once.
    pub fn handle_timeout(&self, now: Timestamp) -> Timeouts {
        let mut timeouts = Timeouts::default();
        let mut expired = Vec::new();
        {
            let tables = self.read();
            let mut schedule = lock(&self.schedule);
            while let Some(deadline) = schedule.pop(now) {
                let Some(peer) = tables.get(deadline.peer) else { continue };
                match schedule.judge(deadline, peer, now) {
                    Due::Ping => timeouts.ping.push(Arc::clone(peer)),
                    Due::Expired => expired.push(Arc::clone(peer)),
                    Due::Nothing | Due::Later => {}
                }
            }
        }
        for peer in expired {
            let mut tables = self.write();
            // Between the locks it may have been replaced by another peer of the same id.
            if tables.get(peer.id()).is_some_and(|present| Arc::ptr_eq(present, &peer)) {
                timeouts.expired.extend(tables.remove(peer.id(), DelReason::Expired));
            }
        }
        timeouts.ping.retain(|peer| peer.keepalive_setting() != 0);
        timeouts
    }
}

/// What [`PeerTable::handle_timeout`] found.
#[derive(Debug, Default)]
pub struct Timeouts {
    /// Peers to send a ping to.
    pub ping: Vec<Arc<Peer>>,
    /// Peers that were removed, with the event raised; for whoever must let go of their transports.
    pub expired: Vec<Arc<Peer>>,
}

fn addresses(vpn: &VpnAddrs) -> impl Iterator<Item = IpAddr> {
    vpn.v4.map(IpAddr::V4).into_iter().chain(vpn.v6.map(IpAddr::V6))
}

fn no_such_peer(id: PeerId) -> Error {
    Error::new(ErrorKind::NoSuchPeer, format!("there is no peer {id}"))
}

#[cfg(test)]
mod tests;
