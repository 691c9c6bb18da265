//! What every task of the server holds: configuration, data plane, and the registry.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use ovpn_config::Config;
use ovpn_config::model::RouteHost;
use ovpn_control::{Link, ServerParams, TlsServer};
use ovpn_dco::{DataPlane, PeerId};
use ovpn_join::params;
use ovpn_sys::netlink::route::{Route, Rtnetlink};

use super::addresses::{Assignment, ServerSide};
use super::client_scripts::Runner;
use super::interface::Judges;
use super::registry::Registry;
use super::status::{ClientRow, RouteRow, Status};
use super::tokens::Tokens;
use crate::environment::Environment;
use crate::management::Handle;
use crate::version;

/// The server.
pub(crate) struct Shared {
    /// What is wanted.
    pub(crate) config: Config,
    /// Variables that every script gets.
    pub(crate) environment: Environment,
    /// Moves the packets.
    pub(crate) data_plane: Arc<dyn DataPlane>,
    /// `auth-gen-token`.
    pub(crate) tokens: Option<Arc<Tokens>>,
    /// The server's own addresses.
    pub(crate) server_side: ServerSide,
    /// One for each [`Link`].
    pub(crate) params: Vec<Arc<ServerParams>>,
    /// TLS, to ask revocation lists again.
    pub(crate) tls: TlsServer,
    /// The management interface, where there is one.
    pub(crate) management: Option<Handle>,
    /// Logins that wait for it.
    pub(crate) judges: Judges,
    /// The clients.
    pub(crate) registry: Mutex<Registry>,
    /// For routes to networks behind clients.
    pub(crate) routes: Mutex<Rtnetlink>,
}

impl Shared {
    /// The registry, for a moment. A task that panicked while holding it does not take the server along.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For scripts.
    pub(crate) fn runner(&self) -> Runner<'_> {
        Runner { security: self.config.scripts.security, tmp_dir: self.config.server.tmp_dir.as_deref() }
    }

    /// Session parameters for a client at this address.
    pub(crate) fn params(&self, remote: SocketAddr, tcp: bool) -> Option<Arc<ServerParams>> {
        let link: Link = params::link(remote, tcp);
        self.params.iter().find(|params| params.session.link == link).cloned()
    }

    /// Leads packets for a network behind a client to it.
    pub(crate) fn add_iroute(&self, net: IpNet, peer: PeerId, assignment: &Assignment) {
        if !self.data_plane.capabilities().system_routes {
            if let Err(error) = self.data_plane.route_add(net, peer) {
                tracing::warn!("no route to {net}: {error}");
            }
            return;
        }
        let gateway = match net {
            IpNet::V4(_) => assignment.v4.map(Into::into),
            IpNet::V6(_) => assignment.v6.map(Into::into),
        };
        let Some(gateway) = gateway else {
            tracing::warn!("iroute {net}: the client has no tunnel address of that family to lead it to");
            return;
        };
        let route = Route::via(net.trunc(), gateway, self.data_plane.device().ifindex);
        if let Err(error) = self.system_routes().route_replace(&route) {
            tracing::warn!("iroute {net} via {gateway}: {error}");
        }
    }

    /// Takes [`Self::add_iroute`] back; what `route` in the configuration says is in force again.
    pub(crate) fn remove_iroute(&self, net: IpNet, peer: PeerId) {
        if !self.data_plane.capabilities().system_routes {
            // It may have gone with the peer.
            let _ = self.data_plane.route_del(net, peer);
            return;
        }
        let route = Route::dev(net.trunc(), self.data_plane.device().ifindex);
        let routes = self.system_routes();
        let result =
            if self.is_routed(net) { routes.route_replace(&route) } else { routes.route_del(&route) };
        if let Err(error) = result {
            tracing::debug!("iroute {net}: {error}");
        }
    }

    fn system_routes(&self) -> MutexGuard<'_, Rtnetlink> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the configuration has a `route` for exactly this network.
    fn is_routed(&self, net: IpNet) -> bool {
        let routing = &self.config.routing;
        match net.trunc() {
            IpNet::V4(net) => routing.routes.iter().any(|route| {
                matches!(route.network, RouteHost::Addr(ip) if ip == net.addr() && route.prefix == net.prefix_len())
            }),
            IpNet::V6(net) => routing.routes_ipv6.iter().any(|route| route.network.trunc() == net),
        }
    }

    /// The status as it is now.
    pub(crate) fn status(&self) -> Status {
        let registry = self.registry();
        let clients = registry.clients().map(|(id, client)| {
            let link = self.data_plane.peer_get(client.peer).map(|info| info.stats.link).unwrap_or_default();
            let addresses = client.facts.addresses;
            ClientRow {
                common_name: client.facts.common_name.clone(),
                real: client.remote,
                v4: addresses.and_then(|addresses| addresses.v4),
                v6: addresses.and_then(|addresses| addresses.v6),
                bytes_received: link.rx_bytes + client.control.received.load(Ordering::Relaxed),
                bytes_sent: link.tx_bytes + client.control.sent.load(Ordering::Relaxed),
                since: client.since,
                username: client.facts.username.clone(),
                client_id: id,
                peer_id: client.peer.get(),
                cipher: client.facts.cipher.clone(),
            }
        });
        let clients: Vec<ClientRow> = clients.collect();
        let routes = registry.networks.rows().filter_map(|(net, owner)| {
            let client = registry.client(owner.client)?;
            Some(RouteRow {
                net,
                common_name: client.facts.common_name.clone().unwrap_or_default(),
                real: client.remote,
                last_ref: owner.since,
            })
        });
        let routes = routes.collect();
        let dco_enabled = self.data_plane.capabilities().driver != ovpn_dco::Driver::Engine;
        Status { title: version::title(), now: unix_now(), clients, routes, dco_enabled }
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Unix seconds as `YYYY-MM-DD HH:MM:SS` here.
pub(crate) fn local_time(unix: i64) -> String {
    let since = std::time::Duration::from_secs(u64::try_from(unix).unwrap_or_default());
    ovpn_sys::local_time::LocalTime::from_system(UNIX_EPOCH + since).to_string()
}
