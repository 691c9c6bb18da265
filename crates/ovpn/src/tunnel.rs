//! The tunnel's face to the system: addresses, routes and DNS of one device, set and taken back.
//!
//! ```text
//!   configure ─▶ (up script) ─▶ add_routes ─▶ apply_dns ─▶ … ─▶ undo_dns ─▶ remove_routes ─▶ unconfigure
//! ```
//!
//! Whatever was set is remembered where it was set, so that taking it back touches nothing else.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use ovpn_config::Config;
use ovpn_config::model::{Dns, DnsServer, DnsTransport, Dnssec, Gateway, Ifconfig, RouteHost};
use ovpn_dco::Capabilities;
use ovpn_sys::netlink::route::{LinkChange, Route as SystemRoute, RouteKind, Rtnetlink, TABLE_MAIN};

use crate::dns;
use crate::planner;
use crate::privileges;
use crate::routes::{self, Change, DefaultGateway, Redirect, Route, Situation, Target, Via, Wish};

/// One device and what was set for it.
pub(crate) struct Tunnel {
    name: String,
    index: u32,
    driver: Capabilities,
    net: Rtnetlink,
    addresses: Vec<Assigned>,
    changes: Vec<Change>,
    table: u32,
    /// `block-ipv6`: what IPv6 would go into the tunnel is answered with "unreachable".
    block_ipv6: bool,
    dns: Option<dns::Applied>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Assigned {
    Network(IpNet),
    Peer(IpAddr, IpNet),
}

impl Tunnel {
    /// For an open device.
    ///
    /// # Errors
    /// When rtnetlink cannot be used.
    pub(crate) fn new(data_plane: &dyn ovpn_dco::DataPlane) -> io::Result<Self> {
        let device = data_plane.device();
        Ok(Self {
            driver: data_plane.capabilities().clone(),
            name: device.name.clone(),
            index: device.ifindex,
            net: Rtnetlink::open().map_err(io::Error::other)?,
            addresses: Vec::new(),
            changes: Vec::new(),
            table: TABLE_MAIN,
            block_ipv6: false,
            dns: None,
        })
    }

    /// The device's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sets MTU and addresses and brings the device up. `ifconfig-noexec` leaves all of it to scripts.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn configure(&mut self, config: &Config) -> io::Result<()> {
        if config.device.ifconfig_noexec {
            return Ok(());
        }
        let mtu = planner::device_mtu(config.device.mtu, &self.driver);
        let change = LinkChange { up: Some(true), mtu: Some(u32::from(mtu)), ..LinkChange::default() };
        self.net.link_change(self.index, &change).map_err(io::Error::other)?;
        tracing::info!("net_iface_mtu_set: mtu {mtu} for {}", self.name);
        tracing::info!("net_iface_up: set {} up", self.name);
        match config.device.ifconfig {
            Some(Ifconfig::Subnet { local, prefix }) => {
                let net = IpNet::new(local.into(), prefix).map_err(io::Error::other)?;
                self.net.address_replace(self.index, net).map_err(io::Error::other)?;
                self.addresses.push(Assigned::Network(net));
                tracing::info!("net_addr_v4_add: {net} dev {}", self.name);
            }
            Some(Ifconfig::PointToPoint { local, remote }) => {
                let peer = IpNet::from(IpAddr::V4(remote));
                match self.net.address_add_peer(self.index, local.into(), peer) {
                    Err(error) if error.errno() == EEXIST => {}
                    other => other.map_err(io::Error::other)?,
                }
                self.addresses.push(Assigned::Peer(local.into(), peer));
                tracing::info!("net_addr_ptp_v4_add: {local} peer {remote} dev {}", self.name);
            }
            None => {}
        }
        if let Some(ifconfig) = config.device.ifconfig_ipv6 {
            let net = IpNet::V6(ifconfig.local);
            self.net.address_replace(self.index, net).map_err(io::Error::other)?;
            self.addresses.push(Assigned::Network(net));
            tracing::info!("net_addr_v6_add: {net} dev {}", self.name);
        }
        Ok(())
    }

    /// Takes the addresses back (for devices that stay).
    pub(crate) fn unconfigure(&mut self) {
        for address in self.addresses.drain(..).rev() {
            let result = match address {
                Assigned::Network(net) => self.net.address_del(self.index, net),
                Assigned::Peer(local, peer) => self.net.address_del_peer(self.index, local, peer),
            };
            if let Err(error) = result {
                tracing::debug!("{error}");
            }
        }
    }

    /// Puts a plan's routes in. Problems are logged; false where there were any.
    pub(crate) fn add_routes(&mut self, config: &Config, plan: &routes::Plan) -> bool {
        let mut complete = plan.problems.is_empty();
        for problem in &plan.problems {
            tracing::warn!("ROUTE: {problem}");
        }
        self.table = config.routing.table.unwrap_or(TABLE_MAIN);
        self.block_ipv6 = config.routing.block_ipv6;
        for &change in &plan.changes {
            match self.apply(change) {
                Ok(true) => self.changes.push(change),
                Ok(false) => {}
                Err(error) => {
                    complete = false;
                    tracing::warn!("ROUTE: {error}");
                }
            }
        }
        complete
    }

    /// If the way to `server` leads into the tunnel, puts a host route past it.
    pub(crate) fn keep_way_to(&mut self, server: IpAddr, situation: &Situation) {
        if !self.net.route_get(server).is_ok_and(|route| route.device == Some(self.index)) {
            return;
        }
        let default = if server.is_ipv4() { situation.default4 } else { situation.default6 };
        let Some(default) = default else { return };
        let change = Change::Add(Route {
            destination: IpNet::from(server),
            gateway: default.gateway,
            device: Some(routes::Device::Index(default.device)),
            metric: None,
        });
        match self.apply(change) {
            Ok(true) => self.changes.push(change),
            Ok(false) => {}
            Err(error) => tracing::warn!("ROUTE: {error}"),
        }
    }

    /// Takes all routes back, last first.
    pub(crate) fn remove_routes(&mut self) {
        for change in std::mem::take(&mut self.changes).into_iter().rev() {
            if let Err(error) = self.apply(change.undo()) {
                tracing::debug!("ROUTE: {error}");
            }
        }
    }

    /// True where the table changed.
    fn apply(&self, change: Change) -> Result<bool, ovpn_sys::netlink::Error> {
        let (route, adds) = match change {
            Change::Add(route) => (route, true),
            Change::Remove(route) => (route, false),
        };
        let system = self.system_route(route)?;
        let shown = show(&route);
        if adds {
            match self.net.route_add(&system) {
                Ok(()) => {
                    tracing::info!("net_route_add: {shown} dev {}", self.name);
                    Ok(true)
                }
                Err(error) if error.errno() == EEXIST => {
                    tracing::info!("net_route_add: {shown} is there already");
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        } else {
            self.net.route_del(&system)?;
            tracing::info!("net_route_del: {shown}");
            Ok(true)
        }
    }

    fn system_route(&self, route: Route) -> Result<SystemRoute, ovpn_sys::netlink::Error> {
        let device = match (route.device, route.gateway) {
            (Some(routes::Device::Tunnel), _) => self.index,
            (Some(routes::Device::Index(index)), _) => index,
            // The way to a gateway tells the device.
            (None, Some(gateway)) => self.net.route_get(gateway)?.device.unwrap_or(self.index),
            (None, None) => self.index,
        };
        let system = match route.gateway {
            Some(gateway) => SystemRoute::via(route.destination, gateway, device),
            None => SystemRoute::dev(route.destination, device),
        };
        let system = SystemRoute { metric: route.metric, table: self.table, ..system };
        if self.block_ipv6 && device == self.index && matches!(route.destination, IpNet::V6(_)) {
            return Ok(SystemRoute { kind: RouteKind::Unreachable, gateway: None, device: None, ..system });
        }
        Ok(system)
    }

    /// Puts DNS settings in force.
    ///
    /// # Errors
    /// What the resolver's program or file said.
    pub(crate) async fn apply_dns(&mut self, config: &Config) -> io::Result<()> {
        let settings = dns_settings(config);
        if settings.is_empty() {
            return Ok(());
        }
        let applied = dns::apply(&settings, &self.name, privileges::gives_up(config)).await?;
        tracing::info!("DNS settings applied with {}", applied.mechanism());
        self.dns = Some(applied);
        Ok(())
    }

    /// Takes DNS settings back.
    pub(crate) async fn undo_dns(&mut self) {
        if let Some(applied) = self.dns.take()
            && let Err(error) = applied.undo().await
        {
            tracing::warn!("the former DNS settings could not be restored: {error}");
        }
    }

    /// What the routes of `config` depend on, read from the system now.
    ///
    /// # Errors
    /// When the routing table cannot be read.
    pub(crate) async fn situation(
        &self,
        config: &Config,
        server: Option<SocketAddr>,
    ) -> io::Result<Situation> {
        let vpn_gateway = match (&config.routing.gateway, config.device.ifconfig) {
            (Some(Gateway::Host(RouteHost::Addr(ip))), _) => Some(*ip),
            (_, Some(Ifconfig::PointToPoint { remote, .. })) => Some(remote),
            _ => None,
        };
        let server = server.map(|address| address.ip().to_canonical());
        let server_on_link = match server {
            Some(ip) => self.net.route_get(ip).is_ok_and(|route| route.gateway.is_none()),
            None => false,
        };
        let redirect = config.routing.redirect.map(|flags| Redirect {
            private: !flags.default_route,
            def1: flags.def1,
            local: flags.local,
            autolocal: flags.autolocal,
            block_local: flags.block_local,
            ipv6: flags.ipv6,
            not_ipv4: flags.not_ipv4,
        });
        let mut wishes = Vec::new();
        for route in &config.routing.routes {
            let metric = route.metric;
            let via = match &route.gateway {
                None | Some(RouteHost::VpnGateway) => Via::Vpn,
                Some(RouteHost::NetGateway) => Via::Net,
                Some(RouteHost::RemoteHost) => Via::RemoteHost,
                Some(RouteHost::Addr(ip)) => Via::Address((*ip).into()),
                Some(RouteHost::Name(name)) => match resolve_v4(name).await {
                    Some(ip) => Via::Address(ip.into()),
                    None => continue,
                },
            };
            let target = match &route.network {
                RouteHost::VpnGateway => Target::VpnGateway,
                RouteHost::NetGateway => Target::NetGateway,
                RouteHost::RemoteHost => Target::RemoteHost,
                RouteHost::Addr(ip) => match IpNet::new((*ip).into(), route.prefix) {
                    Ok(net) => Target::Net(net),
                    Err(_) => continue,
                },
                RouteHost::Name(name) => match resolve_v4(name).await {
                    Some(ip) => Target::Net(IpNet::from(IpAddr::V4(ip))),
                    None => continue,
                },
            };
            wishes.push(Wish { target, via, metric });
        }
        for route in &config.routing.routes_ipv6 {
            let via = route.gateway.map_or(Via::Vpn, |ip| Via::Address(ip.into()));
            wishes.push(Wish { target: Target::Net(IpNet::V6(route.network)), via, metric: route.metric });
        }
        Ok(Situation {
            wishes,
            redirect,
            vpn_gateway,
            vpn_gateway6: config
                .routing
                .gateway_ipv6
                .or(config.device.ifconfig_ipv6.map(|ifconfig| ifconfig.remote)),
            metric: config.routing.metric,
            tunnel_has_ipv6: config.device.ifconfig_ipv6.is_some() || config.routing.block_ipv6,
            server,
            server_on_link,
            default4: self.default_gateway(false)?,
            default6: self.default_gateway(true)?,
        })
    }

    /// The system's way out in one family, the tunnel itself excepted.
    fn default_gateway(&self, ipv6: bool) -> io::Result<Option<DefaultGateway>> {
        let routes = self.net.routes(Some(TABLE_MAIN)).map_err(io::Error::other)?;
        let best = routes
            .iter()
            .filter(|route| route.destination.prefix_len() == 0)
            .filter(|route| matches!(route.destination, IpNet::V6(_)) == ipv6)
            .filter(|route| route.device.is_some_and(|device| device != self.index))
            .min_by_key(|route| route.metric.unwrap_or(0));
        let Some(best) = best else { return Ok(None) };
        let device = best.device.unwrap_or_default();
        let addresses = self.net.addresses().map_err(io::Error::other)?;
        let network = best.gateway.and_then(|gateway| {
            addresses
                .iter()
                .filter(|address| address.index == device && address.peer.is_none())
                .map(|address| address.network)
                .find(|network| network.contains(&gateway))
        });
        Ok(Some(DefaultGateway { gateway: best.gateway, device, metric: best.metric, network }))
    }
}

/// The DNS settings a configuration asks for.
fn dns_settings(config: &Config) -> dns::Settings {
    let Dns { servers, search_domains } = config.routing.dns.effective(&config.routing.dhcp_options);
    dns::Settings { search_domains, servers: servers.into_iter().map(dns_server).collect() }
}

fn dns_server(server: DnsServer) -> dns::Server {
    let word = |text: &str| Some(text.to_owned());
    dns::Server {
        addresses: server
            .addresses
            .iter()
            .map(|address| (address.ip(), (address.port() != 0).then(|| address.port())))
            .collect(),
        resolve_domains: server.resolve_domains,
        dnssec: server.dnssec.and_then(|dnssec| match dnssec {
            Dnssec::Yes => word("yes"),
            Dnssec::No => word("no"),
            Dnssec::Optional => word("optional"),
        }),
        transport: server.transport.and_then(|transport| match transport {
            DnsTransport::Plain => word("plain"),
            DnsTransport::Dot => word("DoT"),
            DnsTransport::Doh => word("DoH"),
        }),
        sni: server.sni,
    }
}

const EEXIST: i32 = 17;

fn show(route: &Route) -> String {
    let mut text = route.destination.to_string();
    if let Some(gateway) = route.gateway {
        text.push_str(&format!(" via {gateway}"));
    }
    if let Some(metric) = route.metric {
        text.push_str(&format!(" metric {metric}"));
    }
    text
}

async fn resolve_v4(name: &str) -> Option<std::net::Ipv4Addr> {
    let found = crate::sockets::resolve(name, 0, ovpn_config::model::Family::V4).await;
    match found {
        Ok(found) => found.iter().find_map(|address| match address.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }),
        Err(error) => {
            tracing::warn!("ROUTE: {name} cannot be resolved: {error}");
            None
        }
    }
}
