//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::super::message::{
    Attributes, Malformed, MessageBuilder, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, u16_at, u32_at,
};
use super::super::{Error, Result};
use super::{AF_INET, AF_INET6, Rtnetlink, TABLE_MAIN, family_of};

pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
pub(super) const HEADER_LEN: usize = 12;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RTNH_F_ONLINK: u32 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTPROT_BOOT: u8 = 3;
/// Length of `rtnexthop`, bytes.
const NEXT_HOP_LEN: usize = 8;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RouteKind {
    /// Leads to a gateway or a link.
    #[default]
    Unicast,
    /// Leads to this host.
    Local,
    /// Drops silently.
    Blackhole,
    /// Refuses with "unreachable".
    Unreachable,
    /// Refuses with "prohibited".
    Prohibit,
    /// Ends the search in this table.
    Throw,
    /// Another kind, by number (broadcast, anycast, multicast, …).
    Other(u8),
}

/// A route. Of a route with several next hops the first is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// Over which gateway; may be IPv6 for an IPv4 destination.
    pub gateway: Option<IpAddr>,
    /// Over which link.
    pub device: Option<u32>,
    /// Source address for packets that have none yet.
    pub source: Option<IpAddr>,
    /// Metric; `None` is the kernel's default (0 for IPv4, 1024 for IPv6).
    pub metric: Option<u32>,
    /// Table, [`TABLE_MAIN`] for most.
    pub table: u32,
    /// The gateway is reachable on the link, whatever the addresses say.
    pub onlink: bool,
    /// What it does.
    pub kind: RouteKind,
    /// Path MTU, bytes.
    pub mtu: Option<u32>,
    /// MSS to announce, bytes.
    pub advmss: Option<u32>,
}

impl Route {
    /// A route over a link, without gateway.
    pub const fn dev(destination: IpNet, device: u32) -> Self {
        Self {
            destination,
            gateway: None,
            device: Some(device),
            source: None,
            metric: None,
            table: TABLE_MAIN,
            onlink: false,
            kind: RouteKind::Unicast,
            mtu: None,
            advmss: None,
        }
    }

    /// A route over a gateway on a link.
    pub const fn via(destination: IpNet, gateway: IpAddr, device: u32) -> Self {
        let mut route = Self::dev(destination, device);
        route.gateway = Some(gateway);
        route
    }

    fn during(&self, verb: &str, error: Error) -> Error {
        let mut what = format!("{verb} route {}", self.destination);
        if let Some(gateway) = self.gateway {
            what += &format!(" via {gateway}");
        }
        if let Some(device) = self.device {
            what += &format!(" dev {device}");
        }
        error.during(what)
    }
}

impl Rtnetlink {
    /// Adds a route.
    ///
    /// # Errors
    /// `EEXIST` where there is one to the same destination with the same metric in the same table.
    pub fn route_add(&self, route: &Route) -> Result<()> {
        let request = request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route);
        self.socket.request(request).map_err(|error| route.during("add", error))?;
        Ok(())
    }

    /// Adds a route, or puts it in the place of one to the same destination with the same metric.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn route_replace(&self, route: &Route) -> Result<()> {
        let request = request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
        self.socket.request(request).map_err(|error| route.during("replace", error))?;
        Ok(())
    }

    /// Deletes a route.
    ///
    /// # Errors
    /// `ESRCH` where there is none.
    pub fn route_del(&self, route: &Route) -> Result<()> {
        let request = request(RTM_DELROUTE, 0, route);
        self.socket.request(request).map_err(|error| route.during("delete", error))?;
        Ok(())
    }

    /// Reads the routes of one table, or of all, both families.
    ///
    /// # Errors
    /// What the system says.
    pub fn routes(&self, table: Option<u32>) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut header = [0; HEADER_LEN];
            header[0] = family;
            let request = MessageBuilder::new(RTM_GETROUTE, 0).header(&header).with(|a| {
                if let Some(table) = table {
                    a.u32(RTA_TABLE, table);
                }
            });
            let replies = match self.socket.dump(request) {
                Ok(replies) => replies,
                // The kernel has no such table (or no such family): no routes.
                Err(error) if matches!(error.errno(), libc::ENOENT | libc::EOPNOTSUPP) => continue,
                Err(error) => return Err(error.during("read all routes")),
            };
            for reply in &replies {
                let (header, attributes) = reply.after_header(HEADER_LEN)?;
                let route = parse(header, attributes)?;
                routes.extend(route.filter(|route| table.is_none_or(|table| table == route.table)));
            }
        }
        Ok(routes)
    }

    /// The way the kernel would take to an address.
    ///
    /// # Errors
    /// `ENETUNREACH`, `EHOSTUNREACH`, `EACCES`, `EINVAL` where there is none.
    pub fn route_get(&self, destination: IpAddr) -> Result<Route> {
        let what = || format!("find the way to {destination}");
        let mut header = [0; HEADER_LEN];
        header[0] = family_of(destination);
        header[1] = if destination.is_ipv4() { 32 } else { 128 };
        let request = MessageBuilder::new(RTM_GETROUTE, 0).header(&header).with(|a| {
            a.ip(RTA_DST, destination);
        });
        let replies = self.socket.request(request).map_err(|error| error.during(what()))?;
        let reply = replies.first().ok_or_else(|| Error::new(libc::ENETUNREACH, "").during(what()))?;
        let (header, attributes) = reply.after_header(HEADER_LEN)?;
        let route =
            parse(header, attributes)?.ok_or_else(|| Error::new(libc::ENETUNREACH, "").during(what()))?;
        match route.kind {
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw => {
                Err(Error::new(libc::EHOSTUNREACH, "").during(what()))
            }
            _ => Ok(route),
        }
    }
}

fn request(kind: u16, flags: u16, route: &Route) -> MessageBuilder {
    let way = matches!(route.kind, RouteKind::Unicast);
    let scope = if kind == RTM_DELROUTE {
        RT_SCOPE_NOWHERE
    } else if way && route.gateway.is_none() && route.destination.addr().is_ipv4() {
        RT_SCOPE_LINK
    } else {
        RT_SCOPE_UNIVERSE
    };
    // family │ destination length │ source length │ TOS │ table │ protocol │ scope │ type │ flags 4
    let mut header = [
        family_of(route.destination.addr()),
        route.destination.prefix_len(),
        0,
        0,
        u8::try_from(route.table).unwrap_or(0),
        if kind == RTM_DELROUTE { 0 } else { RTPROT_BOOT },
        scope,
        route.kind.number(),
        0,
        0,
        0,
        0,
    ];
    if route.onlink {
        header[8..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    MessageBuilder::new(kind, flags).header(&header).with(|a| {
        a.ip(RTA_DST, route.destination.network());
        match route.gateway {
            Some(gateway) if gateway.is_ipv4() == route.destination.addr().is_ipv4() => {
                a.ip(RTA_GATEWAY, gateway);
            }
            Some(IpAddr::V6(gateway)) => {
                let mut via = u16::from(AF_INET6).to_ne_bytes().to_vec();
                via.extend_from_slice(&gateway.octets());
                a.bytes(RTA_VIA, &via);
            }
            // an IPv6 destination has no IPv4 gateway: the kernel shall say so
            Some(gateway) => {
                a.ip(RTA_GATEWAY, gateway);
            }
            None => {}
        }
        if let Some(device) = route.device {
            a.u32(RTA_OIF, device);
        }
        if let Some(source) = route.source {
            a.ip(RTA_PREFSRC, source);
        }
        if let Some(metric) = route.metric {
            a.u32(RTA_PRIORITY, metric);
        }
        if route.table > 255 {
            a.u32(RTA_TABLE, route.table);
        }
        if route.mtu.is_some() || route.advmss.is_some() {
            a.nest(RTA_METRICS, |a| {
                if let Some(mtu) = route.mtu {
                    a.u32(RTAX_MTU, mtu);
                }
                if let Some(advmss) = route.advmss {
                    a.u32(RTAX_ADVMSS, advmss);
                }
            });
        }
    })
}

/// `None` for a family other than IPv4 and IPv6.
pub(super) fn parse(
    header: &[u8],
    attributes: Attributes<'_>,
) -> std::result::Result<Option<Route>, Malformed> {
    let &[family, length, _, _, table, _, _, kind, ..] = header else {
        return Err(Malformed("route header is cut"));
    };
    let any = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    let net = |address| IpNet::new(address, length).map_err(|_| Malformed("prefix length"));
    let mut route = Route {
        table: table.into(),
        onlink: u32_at(header, 8) & RTNH_F_ONLINK != 0,
        kind: RouteKind::from_number(kind),
        ..Route::dev(net(any)?, 0)
    };
    route.device = None;
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            RTA_DST => route.destination = net(attribute.ip()?)?,
            RTA_TABLE => route.table = attribute.u32()?,
            RTA_PRIORITY => route.metric = Some(attribute.u32()?),
            RTA_PREFSRC => route.source = Some(attribute.ip()?),
            RTA_METRICS => {
                for metric in attribute.attributes() {
                    let metric = metric?;
                    match metric.kind {
                        RTAX_MTU => route.mtu = Some(metric.u32()?),
                        RTAX_ADVMSS => route.advmss = Some(metric.u32()?),
                        _ => {}
                    }
                }
            }
            RTA_MULTIPATH => {
                // length 2 │ flags 1 │ hops 1 │ link 4 │ attributes
                let Some((hop, rest)) = attribute.payload.split_at_checked(NEXT_HOP_LEN) else { continue };
                let length = usize::from(u16_at(hop, 0)).saturating_sub(NEXT_HOP_LEN);
                route.device = Some(u32_at(hop, 4));
                for field in super::super::message::attributes(rest.get(..length).unwrap_or_default()) {
                    read_hop(&mut route, field?)?;
                }
            }
            _ => read_hop(&mut route, attribute)?,
        }
    }
    Ok(Some(route))
}

fn read_hop(
    route: &mut Route,
    attribute: super::super::message::Attribute<'_>,
) -> std::result::Result<(), Malformed> {
    match attribute.kind {
        RTA_OIF => route.device = Some(attribute.u32()?),
        RTA_GATEWAY => route.gateway = Some(attribute.ip()?),
        RTA_VIA => {
            let (_, address) = attribute.payload.split_at_checked(2).ok_or(Malformed("gateway is cut"))?;
            route.gateway = Some(
                super::super::message::Attribute { kind: RTA_VIA, nested: false, payload: address }.ip()?,
            );
        }
        _ => {}
    }
    Ok(())
}

impl RouteKind {
    const fn number(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Local => 2,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Throw => 9,
            Self::Other(number) => number,
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Unicast,
            2 => Self::Local,
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            9 => Self::Throw,
            other => Self::Other(other),
        }
    }
}
