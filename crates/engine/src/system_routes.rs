//! Mirrors the system's routes over our device, so that `ip route add 11.11.11.11 via 5.5.5.2 dev tun0` reaches the
//! peer with VPN address 5.5.5.2 at once.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use ovpn_sys::netlink::Result;
use ovpn_sys::netlink::route::{Change, Groups, Monitor, Route, RouteKind, Rtnetlink};

use crate::peer_table::PeerTable;
use crate::route::{NextHop, Routes};

/// The kernel's table of local and broadcast addresses.
const TABLE_LOCAL: u32 = 255;
/// Room for bursts of changes, bytes.
const BUFFER: usize = 1 << 20;

/// The routes of one device as the system has them.
pub(crate) struct RouteMirror {
    monitor: Monitor,
    rtnetlink: Rtnetlink,
    device: u32,
    /// Routes of one prefix may differ in metric and table; the best one counts.
    routes: HashMap<IpNet, Vec<Route>>,
}

impl RouteMirror {
    /// Begins with the routes that are there.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn open(device: u32, table: &PeerTable) -> Result<Self> {
        let monitor = Monitor::open(Groups { links: true, addresses: false, routes: true })?;
        let _ = monitor.set_buffer(BUFFER);
        let mut this = Self { monitor, rtnetlink: Rtnetlink::open()?, device, routes: HashMap::new() };
        this.read_all(table)?;
        Ok(this)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }

    /// Follows the changes that have been told.
    pub(crate) fn follow(&mut self, table: &PeerTable) {
        loop {
            let read_all = match self.monitor.next_change() {
                Ok(None) => return,
                Ok(Some(Change::RouteNew(route))) => {
                    self.change(route, false, table);
                    false
                }
                // What it replaced is not told.
                Ok(Some(Change::RouteReplaced(route))) => self.concerns(&route) || self.knows(&route),
                Ok(Some(Change::RouteDel(route))) => {
                    self.change(route, true, table);
                    false
                }
                // IPv4 routes that vanish with their link are not told.
                Ok(Some(Change::LinkNew(link) | Change::LinkDel(link))) => link.index == self.device,
                Ok(Some(Change::Lost)) | Err(_) => true,
                Ok(Some(Change::AddressNew(_) | Change::AddressDel(_))) => false,
            };
            if read_all && let Err(error) = self.read_all(table) {
                tracing::warn!(%error, "cannot read the routes of the device");
                return;
            }
        }
    }

    fn read_all(&mut self, table: &PeerTable) -> Result<()> {
        self.routes.clear();
        for route in self.rtnetlink.routes(None)? {
            if self.concerns(&route) {
                self.routes.entry(route.destination.trunc()).or_default().push(route);
            }
        }
        let mut all = Routes::default();
        for (prefix, routes) in &self.routes {
            if let Some(best) = best(routes) {
                all.insert(*prefix, best);
            }
        }
        table.routes_replace(all);
        Ok(())
    }

    fn change(&mut self, route: Route, gone: bool, table: &PeerTable) {
        if !self.concerns(&route) {
            return;
        }
        let prefix = route.destination.trunc();
        let routes = self.routes.entry(prefix).or_default();
        let same = |other: &Route| {
            (other.table, other.metric, other.gateway) == (route.table, route.metric, route.gateway)
        };
        routes.retain(|other| !same(other));
        if !gone {
            routes.push(route);
        }
        match best(routes) {
            Some(next_hop) => {
                tracing::debug!(%prefix, ?next_hop, "route");
                table.route_insert(prefix, next_hop);
            }
            None => {
                tracing::debug!(%prefix, "route gone");
                self.routes.remove(&prefix);
                table.route_remove(prefix);
            }
        }
    }

    fn concerns(&self, route: &Route) -> bool {
        route.device == Some(self.device) && route.kind == RouteKind::Unicast && route.table != TABLE_LOCAL
    }

    fn knows(&self, route: &Route) -> bool {
        self.routes.contains_key(&route.destination.trunc())
    }
}

fn best(routes: &[Route]) -> Option<NextHop> {
    let route = routes.iter().min_by_key(|route| route.metric.unwrap_or(0))?;
    Some(route.gateway.map_or(NextHop::OnLink, NextHop::Via))
}
