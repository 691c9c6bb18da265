//! What clients share: seats, addresses, networks, and how to reach each client's task.
//!
//! The registry is locked for moments, never over a wait. A client's task owns everything else.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use ipnet::IpNet;
use ovpn_dco::{Event, PeerId, TransportId};
use tokio::sync::mpsc;

use super::admission::{RateLimit, Seats};
use super::pool::{AddressPool, Addresses, Lease};
use super::routing_table::{Claim, ClientId, RoutingTable};

/// Packets that may wait for a busy client task; the control channel repeats what is lost.
const WAITING_PACKETS: usize = 64;

/// A control packet for a client.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The address it was sent to, where known.
    pub(crate) local: Option<IpAddr>,
}

/// Something a client's task must do.
#[derive(Debug)]
pub(crate) enum Order {
    /// The data plane said something about its peer.
    Plane(Event),
    /// End now; the reason goes to the log.
    Close(&'static str),
    /// Tell the client this (`RESTART`, `HALT,text`), then end.
    Leave(String),
    /// Change these options of the client (PUSH_UPDATE).
    Update(Vec<String>),
    /// Revocation lists have changed: is the certificate still good?
    CheckCertificate,
    /// Tell the client to connect anew, then end.
    Restart {
        /// To the next remote.
        advance: bool,
    },
}

/// Both ends of a client task's mail.
pub(crate) struct Mail {
    /// Packets in order.
    pub(crate) packets: mpsc::Receiver<Packet>,
    /// Orders in order. When this end is dropped the client is gone for good.
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
}

/// Who a client turned out to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Its common name, once it is authenticated.
    pub(crate) common_name: Option<String>,
    /// What it logged in as.
    pub(crate) username: Option<String>,
    /// The data cipher.
    pub(crate) cipher: Option<String>,
    /// Its addresses.
    pub(crate) addresses: Option<Addresses>,
    /// It knows PUSH_UPDATE, and has its configuration.
    pub(crate) takes_updates: bool,
    /// Counts logins: the higher, the later.
    login: u64,
}

/// Bytes of a client's control channel, both ways; the data plane counts all others.
#[derive(Debug, Default)]
pub(crate) struct ControlTraffic {
    /// From the client.
    pub(crate) received: AtomicU64,
    /// To the client.
    pub(crate) sent: AtomicU64,
}

/// A client as others see it.
#[derive(Debug)]
pub(crate) struct Client {
    packets: mpsc::Sender<Packet>,
    orders: mpsc::UnboundedSender<Order>,
    /// Its peer id.
    pub(crate) peer: PeerId,
    /// Where it connects from.
    pub(crate) remote: SocketAddr,
    transport: TransportId,
    /// It came over TCP.
    pub(crate) tcp: bool,
    /// What its control channel moved.
    pub(crate) control: Arc<ControlTraffic>,
    /// Since when, in unix seconds.
    pub(crate) since: i64,
    /// Who it is.
    pub(crate) facts: Facts,
    lease: Option<Lease>,
}

impl Client {
    /// Hands a packet over; `false` if the task is too busy or gone.
    pub(crate) fn deliver(&self, packet: Packet) -> bool {
        self.packets.try_send(packet).is_ok()
    }

    /// The way to give orders.
    pub(crate) fn orders(&self) -> mpsc::UnboundedSender<Order> {
        self.orders.clone()
    }
}

/// Why a newcomer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// `connect-freq`.
    #[error("more new clients than connect-freq allows")]
    Frequency,
    /// `max-clients`.
    #[error("max-clients reached")]
    Seats,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Registry {
    seats: Seats,
    connect_freq: Option<RateLimit>,
    /// The address pool.
    pub(crate) pool: Option<AddressPool>,
    /// Who owns which virtual address.
    pub(crate) networks: RoutingTable,
    clients: BTreeMap<ClientId, Client>,
    by_address: HashMap<(TransportId, SocketAddr), ClientId>,
    by_peer: HashMap<PeerId, ClientId>,
    next: ClientId,
    logins: u64,
}

impl Registry {
    /// An empty table.
    pub(crate) fn new(max_clients: u32, connect_freq: Option<RateLimit>, pool: Option<AddressPool>) -> Self {
        Self {
            seats: Seats::new(max_clients),
            connect_freq,
            pool,
            networks: RoutingTable::default(),
            clients: BTreeMap::new(),
            by_address: HashMap::new(),
            by_peer: HashMap::new(),
            next: 0,
            logins: 0,
        }
    }

    /// Takes a newcomer in. `since` in unix seconds; only UDP clients count for `connect-freq`.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn admit(
        &mut self,
        transport: TransportId,
        remote: SocketAddr,
        udp: bool,
        now: Instant,
        since: i64,
    ) -> Result<(ClientId, PeerId, Mail), Full> {
        if udp && self.connect_freq.as_mut().is_some_and(|limit| !limit.admit(now)) {
            return Err(Full::Frequency);
        }
        let peer = self.seats.take().ok_or(Full::Seats)?;
        let id = self.next;
        self.next += 1;
        let (packets, packets_end) = mpsc::channel(WAITING_PACKETS);
        let (orders, orders_end) = mpsc::unbounded_channel();
        let facts = Facts::default();
        let control = Arc::default();
        let client = Client {
            packets,
            orders,
            peer,
            remote,
            transport,
            tcp: !udp,
            control,
            since,
            facts,
            lease: None,
        };
        self.clients.insert(id, client);
        self.by_address.insert((transport, canonical(remote)), id);
        self.by_peer.insert(peer, id);
        Ok((id, peer, Mail { packets: packets_end, orders: orders_end }))
    }

    /// The client at this address.
    pub(crate) fn at(&self, transport: TransportId, remote: SocketAddr) -> Option<&Client> {
        self.clients.get(self.by_address.get(&(transport, canonical(remote)))?)
    }

    /// The client with this peer id.
    pub(crate) fn peer(&self, peer: PeerId) -> Option<&Client> {
        self.clients.get(self.by_peer.get(&peer)?)
    }

    /// One client.
    pub(crate) fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(&id)
    }

    /// All clients in the order they came.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (ClientId, &Client)> {
        self.clients.iter().map(|(id, client)| (*id, client))
    }

    /// A client has logged in.
    pub(crate) fn log_in(&mut self, id: ClientId, common_name: &str, username: Option<&str>) {
        self.logins += 1;
        let login = self.logins;
        self.note(id, |facts| {
            facts.common_name = Some(common_name.to_owned());
            facts.username = username.map(str::to_owned);
            facts.login = login;
        });
    }

    /// Notes something about a client.
    pub(crate) fn note(&mut self, id: ClientId, facts: impl FnOnce(&mut Facts)) {
        if let Some(client) = self.clients.get_mut(&id) {
            facts(&mut client.facts);
        }
    }

    /// The client has a new address; another client there is no longer found by it.
    pub(crate) fn moved(&mut self, id: ClientId, remote: SocketAddr) {
        if let Some(client) = self.clients.get_mut(&id) {
            self.by_address.remove(&(client.transport, canonical(client.remote)));
            client.remote = remote;
            self.by_address.insert((client.transport, canonical(remote)), id);
        }
    }

    /// The data plane has a client's peer at another address than we do: its task is told. Whether there is such a
    /// client.
    pub(crate) fn peer_moved(&mut self, peer: PeerId, remote: SocketAddr) -> bool {
        let Some(id) = self.by_peer.get(&peer).copied() else { return false };
        self.moved(id, remote);
        let client = self.clients.get(&id);
        let event = Event::PeerFloat { peer, remote };
        client.is_some_and(|client| client.orders.send(Order::Plane(event)).is_ok())
    }

    /// Clients that logged in earlier under the same name: how to order them away. Clients without a name are
    /// strangers to each other.
    pub(crate) fn namesakes(&self, id: ClientId) -> Vec<mpsc::UnboundedSender<Order>> {
        let Some(client) = self.clients.get(&id) else { return Vec::new() };
        let (name, login) =
            (client.facts.common_name.clone().filter(|name| !name.is_empty()), client.facts.login);
        let same = |(_, other): &(ClientId, &Client)| {
            name.is_some() && other.facts.common_name == name && other.facts.login < login
        };
        self.clients().filter(same).map(|(_, client)| client.orders()).collect()
    }

    /// Addresses of the pool for a client, the same when asked again; `None` without a pool or a free entry.
    pub(crate) fn lease(&mut self, id: ClientId, common_name: &str) -> Option<Addresses> {
        let client = self.clients.get_mut(&id)?;
        if client.lease.is_none() {
            client.lease = self.pool.as_mut()?.acquire(common_name);
        }
        client.lease.as_ref().map(|lease| lease.addresses)
    }

    /// The client needs no address of the pool.
    pub(crate) fn return_lease(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id)
            && let Some(lease) = client.lease.take()
            && let Some(pool) = &mut self.pool
        {
            pool.release(lease);
        }
    }

    /// Gives a network to a client.
    pub(crate) fn claim(&mut self, id: ClientId, net: IpNet, limit: u32, now: i64) -> Claim {
        self.networks.claim(net, id, limit, now)
    }

    /// Forgets a client; returns its networks.
    pub(crate) fn remove(&mut self, id: ClientId) -> Vec<IpNet> {
        self.return_lease(id);
        if let Some(client) = self.clients.remove(&id) {
            self.seats.give_back(client.peer);
            self.by_peer.remove(&client.peer);
            let key = (client.transport, canonical(client.remote));
            if self.by_address.get(&key) == Some(&id) {
                self.by_address.remove(&key);
            }
        }
        self.networks.forget(id)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use ovpn_config::model::Pool;

    use super::*;

    const UDP: TransportId = TransportId(1);

    fn registry(max: u32) -> Registry {
        let pool =
            Pool { start: "10.8.0.2".parse().unwrap(), end: "10.8.0.9".parse().unwrap(), prefix: None };
        let pool = AddressPool::new(Some(pool), None, false, false).unwrap();
        Registry::new(max, None, pool)
    }

    fn admit(registry: &mut Registry, port: u16) -> Result<(ClientId, PeerId, Mail), Full> {
        let remote = SocketAddr::new("192.0.2.1".parse().unwrap(), port);
        registry.admit(UDP, remote, true, Instant::now(), 0)
    }

    #[test]
    fn clients_are_found_by_address_and_peer_id() {
        let mut registry = registry(2);
        let (id, peer, mut mail) = admit(&mut registry, 1).unwrap();
        let mapped = "[::ffff:192.0.2.1]:1".parse().unwrap();
        let packet = Packet { bytes: vec![1], local: None };
        assert!(registry.at(UDP, mapped).unwrap().deliver(packet));
        assert_eq!(mail.packets.try_recv().unwrap().bytes, [1]);
        assert!(registry.at(TransportId(2), mapped).is_none());
        let moved = "192.0.2.9:9".parse().unwrap();
        registry.moved(id, moved);
        assert!(registry.at(UDP, mapped).is_none() && registry.at(UDP, moved).is_some());
        assert_eq!(registry.peer(peer).unwrap().remote, moved);
        registry.remove(id);
        assert!(registry.at(UDP, moved).is_none() && registry.peer(peer).is_none());
    }

    #[test]
    fn seats_are_limited_and_come_back() {
        let mut registry = registry(1);
        let (id, peer, _mail) = admit(&mut registry, 1).unwrap();
        assert_eq!(admit(&mut registry, 2).err(), Some(Full::Seats));
        registry.remove(id);
        assert_eq!(admit(&mut registry, 2).unwrap().1, peer);
    }

    #[test]
    fn what_a_client_holds_goes_back_with_it() {
        let mut registry = registry(9);
        let (id, _, _mail) = admit(&mut registry, 1).unwrap();
        let first = registry.lease(id, "a").unwrap();
        assert_eq!(registry.lease(id, "a"), Some(first));
        assert_eq!(registry.claim(id, "10.9.0.0/16".parse().unwrap(), 9, 0), Claim::New);
        let (other, _, _mail2) = admit(&mut registry, 2).unwrap();
        assert_eq!(registry.remove(id), ["10.9.0.0/16".parse().unwrap()]);
        assert_eq!(registry.lease(other, "a"), Some(first));
    }

    #[test]
    fn the_later_login_sends_the_earlier_away() {
        let mut registry = registry(9);
        let (slow, _, mut slow_mail) = admit(&mut registry, 1).unwrap();
        let (quick, _, mut quick_mail) = admit(&mut registry, 2).unwrap();
        let (other, _, _mail) = admit(&mut registry, 3).unwrap();
        registry.log_in(quick, "a", None);
        registry.log_in(other, "b", None);
        registry.log_in(slow, "a", Some("alice"));
        for orders in registry.namesakes(slow) {
            orders.send(Order::Close("replaced")).unwrap();
        }
        assert!(quick_mail.orders.try_recv().is_ok() && slow_mail.orders.try_recv().is_err());
        assert!(registry.namesakes(quick).is_empty());
        registry.log_in(quick, "", None);
        registry.log_in(slow, "", None);
        assert!(registry.namesakes(slow).is_empty(), "clients without a name are strangers");
    }
}
