//! rtnetlink: links, addresses, routes and rules of one network namespace.
//!
//! ```text
//!  let net = Rtnetlink::open()?;                       // the namespace of this thread
//!  let tun = net.link_by_name("tun0")?;
//!  net.address_replace(tun.index, "10.8.0.1/24".parse()?)?;
//!  net.link_change(tun.index, &LinkChange { up: Some(true), mtu: Some(1420), ..Default::default() })?;
//!  net.route_replace(&Route { metric: Some(100), ..Route::via("10.9.0.0/16".parse()?, "10.8.0.2".parse()?, tun.index) })?;
//! ```
//!
//! Each change is one acknowledged request; refusals name what was asked and carry the kernel's sentence.

mod address;
mod entry;
mod link;
mod monitor;
mod rule;

pub use address::Address;
pub use entry::{Route, RouteKind};
pub use link::{Link, LinkChange, LinkCounters, Namespace, OvpnMode};
pub use monitor::{Change, Groups, Monitor};
pub use rule::Rule;

use super::Result;
use super::socket::{Protocol, Socket};

/// The main routing table.
pub const TABLE_MAIN: u32 = 254;
/// The table of local addresses.
pub const TABLE_LOCAL: u32 = 255;

/// A handle for requests; may be shared between threads.
#[derive(Debug)]
pub struct Rtnetlink {
    socket: Socket,
}

impl Rtnetlink {
    /// Opens a handle in the network namespace of the calling thread; it stays there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }
}

/// Address families of rtnetlink headers.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const fn family_of(address: std::net::IpAddr) -> u8 {
    match address {
        std::net::IpAddr::V4(_) => AF_INET,
        std::net::IpAddr::V6(_) => AF_INET6,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::netns;

    fn in_new_namespace(test: impl FnOnce(&Rtnetlink) + Send) {
        netns::in_new(|| test(&Rtnetlink::open().unwrap())).unwrap();
    }

    /// A veth pair `a0`-`b0`, both up, 10.1.2.1/24 and fd00:12::1/64 on the first.
    fn veth(net: &Rtnetlink) -> (u32, u32) {
        net.link_add_veth("a0", "b0").unwrap();
        let (a, b) = (net.link_by_name("a0").unwrap().index, net.link_by_name("b0").unwrap().index);
        for index in [a, b] {
            net.link_change(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        }
        net.address_add(a, "10.1.2.1/24".parse().unwrap()).unwrap();
        net.address_add(a, "fd00:12::1/64".parse().unwrap()).unwrap();
        (a, b)
    }

    #[test]
    fn links_are_made_changed_and_deleted() {
        in_new_namespace(|net| {
            net.link_add("d0", "bridge").unwrap();
            let link = net.link_by_name("d0").unwrap();
            assert_eq!(link.kind.as_deref(), Some("bridge"));
            assert!(!link.up);
            assert_eq!(net.link_add("d0", "bridge").unwrap_err().errno(), libc::EEXIST);
            let change = LinkChange {
                up: Some(true),
                mtu: Some(1300),
                name: Some("d1".into()),
                alias: Some("of a test".into()),
                namespace: None,
            };
            net.link_change(link.index, &change).unwrap();
            let link = net.link_get(link.index).unwrap();
            assert_eq!((link.name.as_str(), link.up, link.mtu), ("d1", true, 1300));
            assert_eq!(link.alias.as_deref(), Some("of a test"));
            let error = net
                .link_change(link.index, &LinkChange { mtu: Some(1), ..LinkChange::default() })
                .map(|()| net.link_get(link.index).unwrap().mtu);
            assert!(error.is_err() || error == Ok(1));
            assert!(net.links().unwrap().iter().any(|l| l.name == "d1"));
            net.link_del(link.index).unwrap();
            assert_eq!(net.link_by_name("d1").unwrap_err().errno(), libc::ENODEV);
            assert_eq!(net.link_get(link.index).unwrap_err().errno(), libc::ENODEV);
            assert_eq!(net.link_add("x0", "no-such-kind").unwrap_err().errno(), libc::EOPNOTSUPP);
            let error = net.link_by_name("no-such-link").unwrap_err();
            assert!(error.to_string().contains("no-such-link"), "{error}");
        });
    }

    #[test]
    fn links_move_between_namespaces() {
        in_new_namespace(|net| {
            net.link_add_veth("d0", "e0").unwrap();
            let index = net.link_by_name("d0").unwrap().index;
            let there = netns::in_new(|| netns::current().unwrap()).unwrap();
            let namespace = Some(Namespace::Descriptor(std::os::fd::AsFd::as_fd(&there)));
            net.link_change(index, &LinkChange { namespace, ..LinkChange::default() }).unwrap();
            assert_eq!(net.link_by_name("d0").unwrap_err().errno(), libc::ENODEV);
            let found = netns::within(&there, || Rtnetlink::open().unwrap().link_by_name("d0").unwrap());
            assert_eq!(found.unwrap().kind.as_deref(), Some("veth"));
        });
    }

    #[test]
    fn addresses_come_and_go() {
        in_new_namespace(|net| {
            let (a, _) = veth(net);
            assert_eq!(net.address_add(a, "10.1.2.1/24".parse().unwrap()).unwrap_err().errno(), libc::EEXIST);
            net.address_replace(a, "10.1.2.1/24".parse().unwrap()).unwrap();
            net.address_add_peer(a, "10.5.0.1".parse().unwrap(), "10.5.0.2/32".parse().unwrap()).unwrap();
            let all = net.addresses().unwrap();
            let mine: Vec<_> = all.iter().filter(|address| address.index == a).collect();
            assert!(mine.iter().any(|x| x.network.to_string() == "10.1.2.1/24" && x.peer.is_none()));
            assert!(mine.iter().any(|x| x.network.to_string() == "fd00:12::1/64"));
            assert!(mine.iter().any(|x| x.network.addr() == "10.5.0.1".parse::<IpAddr>().unwrap()
                && x.peer == Some("10.5.0.2".parse().unwrap())));
            net.address_del(a, "10.1.2.1/24".parse().unwrap()).unwrap();
            net.address_del(a, "fd00:12::1/64".parse().unwrap()).unwrap();
            let error = net.address_del(a, "10.1.2.1/24".parse().unwrap()).unwrap_err();
            assert_eq!(error.errno(), libc::EADDRNOTAVAIL);
            assert!(!net.addresses().unwrap().iter().any(|x| x.network.to_string() == "10.1.2.1/24"));
        });
    }

    #[test]
    fn routes_are_added_found_replaced_and_deleted() {
        in_new_namespace(|net| {
            let (a, _) = veth(net);
            for (prefix, via, other) in
                [("10.77.0.0/16", "10.1.2.9", "10.1.2.10"), ("fd77::/32", "fd00:12::9", "fd00:12::10")]
            {
                let route = Route {
                    metric: Some(100),
                    ..Route::via(prefix.parse().unwrap(), via.parse().unwrap(), a)
                };
                net.route_add(&route).unwrap();
                assert_eq!(net.route_add(&route).unwrap_err().errno(), libc::EEXIST);
                let inside = route.destination.hosts().next().unwrap();
                let found = net.route_get(inside).unwrap();
                assert_eq!((found.gateway, found.device), (route.gateway, Some(a)));
                let changed = Route { gateway: Some(other.parse().unwrap()), ..route.clone() };
                net.route_replace(&changed).unwrap();
                let all = net.routes(None).unwrap();
                let found: Vec<_> = all.iter().filter(|r| r.destination == route.destination).collect();
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!(found[0].gateway, changed.gateway);
                assert_eq!(found[0].metric, Some(100));
                assert_eq!(
                    (found[0].table, found[0].device, found[0].kind),
                    (TABLE_MAIN, Some(a), RouteKind::Unicast)
                );
                net.route_del(&changed).unwrap();
                assert_eq!(net.route_del(&changed).unwrap_err().errno(), libc::ESRCH);
            }
        });
    }

    #[test]
    fn routes_on_link_in_other_tables_and_without_way() {
        in_new_namespace(|net| {
            let (a, _) = veth(net);
            // a gateway that no address of the device reaches
            let far = Route::via("0.0.0.0/0".parse().unwrap(), "172.16.0.1".parse().unwrap(), a);
            let error = net.route_add(&far).unwrap_err();
            assert!(error.to_string().contains("Nexthop has invalid gateway"), "{error}");
            net.route_add(&Route { onlink: true, mtu: Some(1200), ..far.clone() }).unwrap();
            let found = net.routes(Some(TABLE_MAIN)).unwrap();
            let default =
                found.iter().find(|r| r.destination.prefix_len() == 0 && r.gateway.is_some()).unwrap();
            assert!(default.onlink);
            assert_eq!(default.mtu, Some(1200));
            // the host route to a client outside the device's network
            net.route_add(&Route::dev("10.200.0.7/32".parse().unwrap(), a)).unwrap();
            assert_eq!(net.route_get("10.200.0.7".parse().unwrap()).unwrap().gateway, None);
            let tabled = Route { table: 4711, ..Route::dev("10.201.0.0/24".parse().unwrap(), a) };
            net.route_add(&tabled).unwrap();
            assert_eq!(net.routes(Some(4711)).unwrap().len(), 1);
            assert!(net.routes(Some(TABLE_MAIN)).unwrap().iter().all(|r| r.table == TABLE_MAIN));
            let hole = Route {
                kind: RouteKind::Blackhole,
                device: None,
                ..Route::dev("10.202.0.0/24".parse().unwrap(), 0)
            };
            net.route_add(&hole).unwrap();
            assert!(net.route_get("10.202.0.1".parse().unwrap()).is_err());
        });
    }

    #[test]
    fn rules_choose_tables() {
        in_new_namespace(|net| {
            let (a, _) = veth(net);
            net.route_add(&Route { table: 99, ..Route::dev("192.0.2.0/24".parse().unwrap(), a) }).unwrap();
            assert!(net.route_get("192.0.2.1".parse().unwrap()).is_err());
            let rule = Rule { table: 99, priority: Some(500), ..Rule::default() };
            net.rule_add(&rule).unwrap();
            assert_eq!(net.route_get("192.0.2.1".parse().unwrap()).unwrap().device, Some(a));
            assert!(net.rules().unwrap().iter().any(|r| r.table == 99 && r.priority == Some(500) && !r.v6));
            net.rule_del(&rule).unwrap();
            assert!(net.route_get("192.0.2.1".parse().unwrap()).is_err());
            let marked = Rule {
                v6: true,
                table: 98,
                mark: Some((0x10, 0xFF)),
                to: Some("fd01::/16".parse().unwrap()),
                ..Rule::default()
            };
            net.rule_add(&marked).unwrap();
            let all = net.rules().unwrap();
            let found = all.iter().find(|r| r.table == 98).unwrap();
            assert_eq!((found.v6, found.mark, found.to), (true, marked.mark, marked.to));
        });
    }

    #[test]
    fn monitor_tells_changes() {
        in_new_namespace(|net| {
            let (a, _) = veth(net);
            let mut monitor = Monitor::open(Groups::ALL).unwrap();
            assert!(monitor.next_change().unwrap().is_none());
            let route = Route::via("10.77.0.0/16".parse().unwrap(), "10.1.2.9".parse().unwrap(), a);
            net.route_add(&route).unwrap();
            net.route_del(&route).unwrap();
            net.link_add("d0", "bridge").unwrap();
            let mut changes = Vec::new();
            while let Some(change) = monitor.next_change().unwrap() {
                changes.push(change);
            }
            let place = |wanted: &dyn Fn(&Change) -> bool| changes.iter().position(wanted);
            let new = place(
                &|c| matches!(c, Change::RouteNew(r) if r.destination == route.destination && r.gateway == route.gateway),
            );
            let del = place(&|c| matches!(c, Change::RouteDel(r) if r.destination == route.destination));
            assert!(new.unwrap() < del.unwrap(), "{changes:?}");
            assert!(place(&|c| matches!(c, Change::LinkNew(l) if l.name == "d0")).is_some());
        });
    }

    /// An overrun shows as `Lost`, and the monitor goes on afterwards.
    #[test]
    fn monitor_reports_an_overrun() {
        in_new_namespace(|net| {
            let (a, _) = veth(net);
            let mut monitor = Monitor::open(Groups::ROUTES).unwrap();
            monitor.set_buffer(4096).unwrap();
            for third in 0..200u8 {
                net.route_add(&Route::dev(format!("10.99.{third}.0/24").parse().unwrap(), a)).unwrap();
            }
            let mut lost = 0;
            let mut seen = 0;
            while let Some(change) = monitor.next_change().unwrap() {
                lost += usize::from(matches!(change, Change::Lost));
                seen += 1;
            }
            assert!(lost >= 1 && seen < 200, "lost {lost} seen {seen}");
            net.route_add(&Route::dev("10.100.0.0/24".parse().unwrap(), a)).unwrap();
            assert!(matches!(monitor.next_change().unwrap(), Some(Change::RouteNew(_))));
        });
    }
}
