//! Helper options expand into others, after the whole configuration has been read.
//!
//! ```text
//! server 10.8.0.0 255.255.255.0 ──► ifconfig 10.8.0.1 …  ifconfig-pool 10.8.0.2 10.8.0.254
//!                                   push "route-gateway 10.8.0.1"  push "topology subnet"
//! keepalive 10 60               ──► ping 10  ping-restart 120  push "ping 10"  push "ping-restart 60"
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use super::Builder;
use crate::diagnostic::{Class, Diagnostic};
use crate::model::{Gateway, Ifconfig, IfconfigIpv6, Pool, PoolIpv6, PushItem, RouteHost, Topology};
use crate::source::Span;

impl Builder {
    pub(super) fn expand_helpers(&mut self) {
        if self.flags.mode_server {
            self.topology_of_server();
            self.expand_server_ipv6();
            self.expand_server();
            self.manual_server();
        }
        self.expand_keepalive();
        if let Some(span) = self.tcp_nodelay {
            self.push("socket-flags TCP_NODELAY".to_owned(), span);
        }
    }

    fn push(&mut self, text: String, span: Span) {
        self.config.server.push.push(PushItem { text, span });
    }

    fn pushes(&self, start: &str) -> bool {
        self.config.server.push.iter().any(|p| p.text.starts_with(start))
    }

    /// Servers only do `subnet`, which is stock's default since 2.7.
    fn topology_of_server(&mut self) {
        let device = &mut self.config.device;
        let asked = device.topology;
        device.topology = Topology::Subnet;
        let span = self.config.where_given("topology");
        if span.is_none() {
            let at = self.config.where_given("server").or_else(|| self.config.where_given("mode"));
            self.diagnostics.push(
                Diagnostic::new(
                    Class::Advice,
                    "topology",
                    at,
                    "no `topology` is given: clients get `topology subnet`",
                )
                .help("write `topology subnet` to say so"),
            );
        } else if asked != Topology::Subnet {
            let text = format!("`topology {}` on a server acts as `topology subnet`", asked.as_str());
            self.diagnostics.push(
                Diagnostic::new(Class::Deprecated, "topology", span, text).help("write `topology subnet`"),
            );
        }
    }

    fn expand_server(&mut self) {
        let (Some(net), Some(span)) = (self.config.server.network, self.config.where_given("server")) else {
            return;
        };
        let base = u32::from(net.network());
        let own = Ipv4Addr::from(base + 1);
        let nopool = self.pool_flag_nopool;
        let config = &mut self.config;
        config.device.ifconfig = Some(Ifconfig::Subnet { local: own, prefix: net.prefix_len() });
        config.server.push_constraint.get_or_insert(net);
        if config.server.pool.is_some() && !nopool {
            let at = config.where_given("ifconfig-pool");
            self.diagnostics.push(
                Diagnostic::new(Class::Error, "ifconfig-pool", at, "`server` makes the pool itself")
                    .help("remove `ifconfig-pool`, or write `server … nopool`"),
            );
        } else if config.server.pool.is_none() && !nopool {
            let last = u32::from(net.broadcast()) - 1;
            let start = base + 2;
            let end = Ipv4Addr::from(last.min(start + 65535));
            config.server.pool =
                Some(Pool { start: Ipv4Addr::from(start), end, prefix: Some(net.prefix_len()) });
        }
        config.routing.gateway.get_or_insert(Gateway::Host(RouteHost::Addr(Ipv4Addr::from(base + 2))));
        self.push(format!("route-gateway {own}"), span);
        if !self.pushes("topology ") {
            self.push("topology subnet".to_owned(), span);
        }
    }

    fn expand_server_ipv6(&mut self) {
        let (Some(net), Some(span)) =
            (self.config.server.network_ipv6, self.config.where_given("server-ipv6"))
        else {
            return;
        };
        let base = u128::from(net.network());
        let bits = net.prefix_len();
        let at = |n: u128| Ipv6Addr::from(base + n);
        let first = if bits >= 112 { 2 } else { 0x1000 };
        if let (Ok(local), Ok(pool)) = (Ipv6Net::new(at(1), bits), Ipv6Net::new(at(first), bits)) {
            self.config.device.ifconfig_ipv6 = Some(IfconfigIpv6 { local, remote: at(2) });
            self.config.server.pool_ipv6.get_or_insert(PoolIpv6 { base: pool });
        }
        self.push("tun-ipv6".to_owned(), span);
    }

    /// `mode server` written out by hand, perhaps in the old form of pairs: brought into one subnet.
    fn manual_server(&mut self) {
        if self.config.server.network.is_some() {
            return;
        }
        let Some((local, second, span)) = self.ifconfig else { return };
        let prefix =
            ipnet::ipv4_mask_to_prefix(second).ok().filter(|p| (1..=30).contains(p)).unwrap_or_else(|| {
                let pool = self.config.server.pool;
                let ends = [Some(second), pool.map(|p| p.start), pool.map(|p| p.end)];
                let fits = |prefix: &u8| {
                    Ipv4Net::new(local, *prefix)
                        .is_ok_and(|net| ends.iter().flatten().all(|a| net.contains(a)))
                };
                (8..=29).rev().find(fits).unwrap_or(24)
            });
        self.config.device.ifconfig = Some(Ifconfig::Subnet { local, prefix });
        if !self.pushes("topology ") {
            self.push("topology subnet".to_owned(), span);
        }
        if !self.pushes("route-gateway ") {
            self.push(format!("route-gateway {local}"), span);
        }
    }

    fn expand_keepalive(&mut self) {
        let Some((interval, timeout, span)) = self.keepalive else { return };
        let seconds = |n: u32| Some(Duration::from_secs(u64::from(n))).filter(|d| !d.is_zero());
        let timers = &mut self.config.timers;
        timers.ping = seconds(interval);
        timers.ping_exit = None;
        if self.flags.mode_server {
            timers.ping_restart = seconds(timeout.saturating_mul(2));
            self.push(format!("ping {interval}"), span);
            self.push(format!("ping-restart {timeout}"), span);
        } else {
            timers.ping_restart = seconds(timeout);
        }
    }
}
