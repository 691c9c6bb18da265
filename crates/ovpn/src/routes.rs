//! Which routes a tunnel wants: pure planning, from options and the system's default gateway to a list of changes.
//!
//! ```text
//!   route, route-ipv6, redirect-gateway ─┐
//!   route-gateway, ifconfig             ─┼─▶ plan() ─▶ [Change, Change, …] applied in order, undone in reverse
//!   server address, old default gateway ─┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Which device a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// The tunnel.
    Tunnel,
    /// Another interface, by index.
    Index(u32),
}

/// One route of the system's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// What it leads to.
    pub(crate) destination: IpNet,
    /// Next hop; `None` is on-link.
    pub(crate) gateway: Option<IpAddr>,
    /// Device; `None` lets the system find it from the gateway.
    pub(crate) device: Option<Device>,
    /// Metric; `None` is the system's default.
    pub(crate) metric: Option<u32>,
}

/// One change of the system's table. Undoing it is the opposite change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Put the route in ("already there" is no error, but then it is not ours to take out).
    Add(Route),
    /// Take the route out.
    Remove(Route),
}

impl Change {
    /// The change that undoes this one.
    pub(crate) const fn undo(self) -> Self {
        match self {
            Self::Add(route) => Self::Remove(route),
            Self::Remove(route) => Self::Add(route),
        }
    }
}

/// Destination of a `route` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A network.
    Net(IpNet),
    /// The word `vpn_gateway`.
    VpnGateway,
    /// The word `net_gateway`.
    NetGateway,
    /// The word `remote_host`.
    RemoteHost,
}

/// Gateway of a `route` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Via {
    /// Into the tunnel (also the words `default` and `vpn_gateway`).
    #[default]
    Vpn,
    /// The word `net_gateway`: past the tunnel.
    Net,
    /// The word `remote_host`.
    RemoteHost,
    /// This address.
    Address(IpAddr),
}

/// One `route` or `route-ipv6` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Where to.
    pub(crate) target: Target,
    /// By which way.
    pub(crate) via: Via,
    /// Metric of its own.
    pub(crate) metric: Option<u32>,
}

/// `redirect-gateway` and `redirect-private` with their flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Redirect {
    /// `redirect-private`: everything but the default routes.
    pub(crate) private: bool,
    /// Two halves in place of a replaced default route.
    pub(crate) def1: bool,
    /// The server is on the same network: no host route to it.
    pub(crate) local: bool,
    /// Find out whether it is.
    pub(crate) autolocal: bool,
    /// The local network goes into the tunnel too.
    pub(crate) block_local: bool,
    /// IPv6 as well.
    pub(crate) ipv6: bool,
    /// Leave IPv4 alone.
    pub(crate) not_ipv4: bool,
}

/// The way out of the machine before the tunnel came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DefaultGateway {
    /// Next hop; `None` on a point-to-point link.
    pub(crate) gateway: Option<IpAddr>,
    /// Interface.
    pub(crate) device: u32,
    /// Metric of the default route.
    pub(crate) metric: Option<u32>,
    /// The network it is on, where known (for `block-local`).
    pub(crate) network: Option<IpNet>,
}

/// All that a plan depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Situation {
    /// `route` and `route-ipv6` in order.
    pub(crate) wishes: Vec<Wish>,
    /// `redirect-gateway`.
    pub(crate) redirect: Option<Redirect>,
    /// `route-gateway`, or the remote end of `ifconfig`.
    pub(crate) vpn_gateway: Option<Ipv4Addr>,
    /// `route-ipv6-gateway`, or the remote end of `ifconfig-ipv6`.
    pub(crate) vpn_gateway6: Option<Ipv6Addr>,
    /// `route-metric`.
    pub(crate) metric: Option<u32>,
    /// The tunnel has an IPv6 address.
    pub(crate) tunnel_has_ipv6: bool,
    /// The server's address.
    pub(crate) server: Option<IpAddr>,
    /// The server is reached without a next hop.
    pub(crate) server_on_link: bool,
    /// The way out for IPv4.
    pub(crate) default4: Option<DefaultGateway>,
    /// The way out for IPv6.
    pub(crate) default6: Option<DefaultGateway>,
}

/// What to do, and what could not be planned (one sentence each, for the log).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Changes in order.
    pub(crate) changes: Vec<Change>,
    /// Wishes that cannot be met.
    pub(crate) problems: Vec<String>,
}

const HALVES: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 1)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(128, 0, 0, 0), 1)),
];
const DEFAULT4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
/// All of IPv6 that is used, without touching the default route.
const PARTS6: [IpNet; 4] = [
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 3)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0x3000, 0, 0, 0, 0, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)),
];

/// Plans the routes of a tunnel.
pub(crate) fn plan(situation: &Situation) -> Plan {
    let mut plan = Plan::default();
    if let Some(redirect) = situation.redirect {
        plan.redirect(situation, redirect);
    }
    for wish in &situation.wishes {
        plan.wish(situation, wish);
    }
    plan
}

impl Plan {
    fn add(
        &mut self,
        destination: IpNet,
        gateway: Option<IpAddr>,
        device: Option<Device>,
        metric: Option<u32>,
    ) {
        let change = Change::Add(Route { destination: destination.trunc(), gateway, device, metric });
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    fn redirect(&mut self, situation: &Situation, redirect: Redirect) {
        let local = redirect.local || (redirect.autolocal && situation.server_on_link);
        let four = !redirect.not_ipv4;
        if four && situation.vpn_gateway.is_none() {
            self.problems.push("unable to redirect IPv4 default gateway -- VPN gateway parameter (--route-gateway or --ifconfig) is missing".to_owned());
        }
        // The way to the server first, so that the tunnel never carries itself.
        if !local && let Some(server) = situation.server {
            let (wanted, gateway) = if server.is_ipv4() {
                (four, situation.default4)
            } else {
                (redirect.ipv6, situation.default6)
            };
            if wanted {
                match gateway {
                    Some(gateway) if !situation.server_on_link => {
                        let device = gateway.gateway.is_none().then_some(Device::Index(gateway.device));
                        self.add(IpNet::from(server), gateway.gateway, device, None);
                    }
                    Some(_) => {}
                    None => {
                        self.problems.push(
                            "unable to redirect default gateway -- cannot read current default gateway from system"
                                .to_owned(),
                        );
                        return;
                    }
                }
            }
        }
        if four && let Some(vpn) = situation.vpn_gateway {
            let vpn = Some(IpAddr::V4(vpn));
            if redirect.block_local {
                self.block_local(situation.default4, vpn, situation.metric);
            }
            if !redirect.private {
                if redirect.def1 {
                    for half in HALVES {
                        self.add(half, vpn, Some(Device::Tunnel), situation.metric);
                    }
                } else {
                    if let Some(old) = situation.default4 {
                        self.changes.push(Change::Remove(Route {
                            destination: DEFAULT4,
                            gateway: old.gateway,
                            device: Some(Device::Index(old.device)),
                            metric: old.metric,
                        }));
                    }
                    self.add(DEFAULT4, vpn, Some(Device::Tunnel), situation.metric);
                }
            }
        }
        if redirect.ipv6 {
            if redirect.block_local {
                self.block_local(situation.default6, None, situation.metric);
            }
            if !redirect.private {
                for part in PARTS6 {
                    self.add(part, None, Some(Device::Tunnel), situation.metric);
                }
            }
        }
    }

    /// Both halves of the local network go into the tunnel; its gateway stays reachable.
    fn block_local(&mut self, default: Option<DefaultGateway>, vpn: Option<IpAddr>, metric: Option<u32>) {
        let Some(DefaultGateway { gateway: Some(gateway), device, network: Some(network), .. }) = default
        else {
            self.problems.push("block-local: the local network is not known, it stays reachable".to_owned());
            return;
        };
        let Ok(halves) = network.trunc().subnets(network.prefix_len() + 1) else { return };
        self.add(IpNet::from(gateway), None, Some(Device::Index(device)), None);
        for half in halves {
            self.add(half, vpn, Some(Device::Tunnel), metric);
        }
    }

    fn wish(&mut self, situation: &Situation, wish: &Wish) {
        let net_gateway = situation.default4.and_then(|default| default.gateway);
        let destination = match wish.target {
            Target::Net(net) => Some(net),
            Target::VpnGateway => situation.vpn_gateway.map(|ip| IpNet::from(IpAddr::V4(ip))),
            Target::NetGateway => net_gateway.map(IpNet::from),
            Target::RemoteHost => situation.server.map(IpNet::from),
        };
        let Some(destination) = destination else {
            self.problems
                .push(format!("route {:?}: the address that this word stands for is not known", wish.target));
            return;
        };
        let metric = wish.metric.or(situation.metric);
        let is_ipv4 = matches!(destination, IpNet::V4(_));
        match wish.via {
            Via::Vpn if is_ipv4 => match situation.vpn_gateway {
                Some(gateway) => self.add(destination, Some(IpAddr::V4(gateway)), Some(Device::Tunnel), metric),
                None => self.problems.push(format!(
                    "OpenVPN needs a gateway parameter for the route to {destination} and no default was specified by either --route-gateway or --ifconfig options"
                )),
            },
            Via::Vpn => {
                if situation.tunnel_has_ipv6 {
                    self.add(destination, None, Some(Device::Tunnel), metric);
                } else {
                    self.problems.push(format!("route-ipv6 {destination}: the tunnel has no IPv6 address (ifconfig-ipv6)"));
                }
            }
            Via::Net => {
                let default = if is_ipv4 { situation.default4 } else { situation.default6 };
                match default {
                    Some(default) => {
                        self.add(destination, default.gateway, Some(Device::Index(default.device)), metric);
                    }
                    None => self.problems.push(format!("route to {destination}: net_gateway is not known")),
                }
            }
            Via::RemoteHost => match situation.server {
                Some(server) if server.is_ipv4() == is_ipv4 => self.add(destination, Some(server), None, metric),
                _ => self.problems.push(format!("route to {destination}: remote_host is not known in this family")),
            },
            Via::Address(gateway) if gateway.is_ipv4() == is_ipv4 => {
                // An IPv6 next hop inside the tunnel would need neighbour discovery, which a tunnel has not.
                let inside = !is_ipv4 && situation.vpn_gateway6.is_some_and(|vpn| gateway == IpAddr::V6(vpn));
                if inside {
                    self.add(destination, None, Some(Device::Tunnel), metric);
                } else {
                    let to_vpn = situation.vpn_gateway.is_some_and(|vpn| gateway == IpAddr::V4(vpn));
                    self.add(destination, Some(gateway), to_vpn.then_some(Device::Tunnel), metric);
                }
            }
            Via::Address(gateway) => {
                self.problems.push(format!("route to {destination}: gateway {gateway} is of the other family"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn situation() -> Situation {
        Situation {
            vpn_gateway: Some(Ipv4Addr::new(10, 8, 0, 1)),
            tunnel_has_ipv6: true,
            server: Some("198.51.100.7".parse().unwrap()),
            default4: Some(DefaultGateway {
                gateway: Some("192.0.2.254".parse().unwrap()),
                device: 2,
                metric: Some(100),
                network: Some(net("192.0.2.17/24")),
            }),
            ..Situation::default()
        }
    }

    fn added(plan: &Plan) -> Vec<String> {
        plan.changes
            .iter()
            .map(|change| {
                let (sign, route) = match change {
                    Change::Add(route) => ("+", route),
                    Change::Remove(route) => ("-", route),
                };
                let via = route.gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
                let dev = match route.device {
                    Some(Device::Tunnel) => " tun".to_owned(),
                    Some(Device::Index(n)) => format!(" if{n}"),
                    None => String::new(),
                };
                format!("{sign}{}{via}{dev}", route.destination)
            })
            .collect()
    }

    fn redirect(redirect: Redirect) -> Plan {
        plan(&Situation { redirect: Some(redirect), ..situation() })
    }

    #[test]
    fn def1_covers_all_without_touching_the_default_route() {
        let plan = redirect(Redirect { def1: true, ..Redirect::default() });
        assert_eq!(
            added(&plan),
            [
                "+198.51.100.7/32 via 192.0.2.254",
                "+0.0.0.0/1 via 10.8.0.1 tun",
                "+128.0.0.0/1 via 10.8.0.1 tun"
            ]
        );
        assert!(plan.problems.is_empty());
    }

    #[test]
    fn without_def1_the_default_route_is_replaced_and_can_be_restored() {
        let plan = redirect(Redirect::default());
        assert_eq!(
            added(&plan),
            [
                "+198.51.100.7/32 via 192.0.2.254",
                "-0.0.0.0/0 via 192.0.2.254 if2",
                "+0.0.0.0/0 via 10.8.0.1 tun"
            ]
        );
        let undo = Plan { changes: plan.changes.iter().rev().map(|c| c.undo()).collect(), problems: vec![] };
        assert_eq!(
            added(&undo),
            [
                "-0.0.0.0/0 via 10.8.0.1 tun",
                "+0.0.0.0/0 via 192.0.2.254 if2",
                "-198.51.100.7/32 via 192.0.2.254"
            ]
        );
    }

    #[test]
    fn local_flags_leave_out_the_host_route() {
        let plan = redirect(Redirect { def1: true, local: true, ..Redirect::default() });
        assert_eq!(plan.changes.len(), 2);
        let autolocal = Redirect { def1: true, autolocal: true, ..Redirect::default() };
        assert_eq!(redirect(autolocal).changes.len(), 3);
        let near = Situation { redirect: Some(autolocal), server_on_link: true, ..situation() };
        assert_eq!(super::plan(&near).changes.len(), 2);
    }

    #[test]
    fn ipv6_only_redirection() {
        let plan = redirect(Redirect { ipv6: true, not_ipv4: true, ..Redirect::default() });
        assert_eq!(added(&plan), ["+::/3 tun", "+2000::/4 tun", "+3000::/4 tun", "+fc00::/7 tun"]);
    }

    #[test]
    fn block_local_takes_the_lan_but_not_its_gateway() {
        let plan = redirect(Redirect { def1: true, block_local: true, ..Redirect::default() });
        assert_eq!(
            added(&plan)[1..4],
            ["+192.0.2.254/32 if2", "+192.0.2.0/25 via 10.8.0.1 tun", "+192.0.2.128/25 via 10.8.0.1 tun"]
        );
    }

    #[test]
    fn redirect_private_adds_no_default() {
        let plan = redirect(Redirect { private: true, def1: true, ..Redirect::default() });
        assert_eq!(added(&plan), ["+198.51.100.7/32 via 192.0.2.254"]);
    }

    #[test]
    fn without_a_way_out_nothing_is_redirected() {
        let plan = plan(&Situation {
            redirect: Some(Redirect { def1: true, ..Redirect::default() }),
            default4: None,
            ..situation()
        });
        assert!(plan.changes.is_empty());
        assert_eq!(plan.problems.len(), 1);
    }

    #[test]
    fn words_stand_for_addresses() {
        let wish = |target, via| Wish { target, via, metric: None };
        let wishes = vec![
            wish(Target::Net(net("10.1.0.0/16")), Via::Vpn),
            wish(Target::RemoteHost, Via::Net),
            wish(Target::Net(net("172.16.9.1/12")), Via::Address("10.8.0.1".parse().unwrap())),
            wish(Target::Net(net("fd01::/64")), Via::Vpn),
        ];
        let plan = plan(&Situation { wishes, ..situation() });
        assert_eq!(
            added(&plan),
            [
                "+10.1.0.0/16 via 10.8.0.1 tun",
                "+198.51.100.7/32 via 192.0.2.254 if2",
                "+172.16.0.0/12 via 10.8.0.1 tun",
                "+fd01::/64 tun"
            ]
        );
    }

    #[test]
    fn what_cannot_be_routed_is_said() {
        let wishes = vec![
            Wish { target: Target::Net(net("10.1.0.0/16")), via: Via::Vpn, metric: None },
            Wish { target: Target::Net(net("fd01::/64")), via: Via::Vpn, metric: None },
            Wish { target: Target::NetGateway, via: Via::Vpn, metric: None },
        ];
        let bare = Situation { wishes, ..Situation::default() };
        let plan = plan(&bare);
        assert!(plan.changes.is_empty());
        assert_eq!(plan.problems.len(), 3);
    }
}
