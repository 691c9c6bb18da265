//! Which addresses a client gets: its static ones before those of the pool.
//!
//! Source: OpenVPN server behaviour, "Per-client static addresses".

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use ovpn_config::model::ClientOptions;

use super::pool::Addresses;
use super::push_list::{PushedV4, PushedV6};

/// The server's own side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerSide {
    /// Netmask that clients of the pool are told.
    pub(crate) netmask: Ipv4Addr,
    /// Its IPv6 address and the prefix length that clients are told.
    pub(crate) v6: Option<Ipv6Net>,
    /// `ifconfig-push-constraint`, or the network of `server`.
    pub(crate) constraint: Option<Ipv4Net>,
}

/// A client's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Assignment {
    /// Routed to the client.
    pub(crate) v4: Option<Ipv4Addr>,
    /// Told to the client: differs from `v4` where an alias is configured.
    pub(crate) pushed_v4: Option<PushedV4>,
    /// Routed to the client.
    pub(crate) v6: Option<Ipv6Addr>,
    /// Told to the client.
    pub(crate) pushed_v6: Option<PushedV6>,
    /// An address of the pool is in use: the lease must be kept.
    pub(crate) uses_pool: bool,
    /// For the log.
    pub(crate) warnings: Vec<String>,
}

/// Chooses.
pub(crate) fn assign(pool: Option<Addresses>, options: &ClientOptions, server: ServerSide) -> Assignment {
    let mut assignment = Assignment::default();
    if let Some(push) = options.ifconfig_push {
        assignment.v4 = Some(push.local);
        assignment.pushed_v4 =
            Some(PushedV4 { address: push.alias.unwrap_or(push.local), mask_or_remote: push.remote_or_mask });
        if let Some(net) = server.constraint.filter(|net| !net.contains(&push.local)) {
            assignment.warnings.push(format!(
                "ifconfig-push {} is outside {net}: packets to it will not find their way unless a route leads there",
                push.local
            ));
        }
    } else if let Some(address) = pool.and_then(|addresses| addresses.v4) {
        assignment.v4 = Some(address);
        assignment.pushed_v4 = Some(PushedV4 { address, mask_or_remote: server.netmask });
        assignment.uses_pool = true;
    }
    if let Some(push) = options.ifconfig_ipv6_push {
        let remote = push.remote.or(server.v6.map(|net| net.addr()));
        match remote {
            Some(remote) => {
                assignment.v6 = Some(push.local.addr());
                assignment.pushed_v6 = Some(PushedV6 { address: push.local, remote });
            }
            None => assignment.warnings.push(
                "ifconfig-ipv6-push without a second address needs an IPv6 address of the server's own: \
                 set ifconfig-ipv6 or server-ipv6"
                    .to_owned(),
            ),
        }
    } else if let (Some(address), Some(net)) = (pool.and_then(|addresses| addresses.v6), server.v6)
        && let Ok(pushed) = Ipv6Net::new(address, net.prefix_len())
    {
        assignment.v6 = Some(address);
        assignment.pushed_v6 = Some(PushedV6 { address: pushed, remote: net.addr() });
        assignment.uses_pool = true;
    }
    assignment
}

#[cfg(test)]
mod tests {
    use ovpn_config::model::{IfconfigIpv6Push, IfconfigPush};

    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn server() -> ServerSide {
        ServerSide {
            netmask: ip("255.255.255.0"),
            v6: Some("fd77::1/64".parse().unwrap()),
            constraint: Some("10.77.0.0/24".parse().unwrap()),
        }
    }

    fn pool() -> Option<Addresses> {
        Some(Addresses { v4: Some(ip("10.77.0.2")), v6: Some("fd77::1000".parse().unwrap()) })
    }

    #[test]
    fn from_the_pool() {
        let given = assign(pool(), &ClientOptions::default(), server());
        assert_eq!(given.v4, Some(ip("10.77.0.2")));
        assert_eq!(given.pushed_v4.unwrap().mask_or_remote, ip("255.255.255.0"));
        assert_eq!(given.pushed_v6.unwrap().address.to_string(), "fd77::1000/64");
        assert!(given.uses_pool && given.warnings.is_empty());
        let nothing = assign(None, &ClientOptions::default(), server());
        assert_eq!(nothing, Assignment::default());
    }

    #[test]
    fn static_addresses_come_first() {
        let local = ip("10.77.0.99");
        let mut options = ClientOptions {
            ifconfig_push: Some(IfconfigPush { local, remote_or_mask: ip("255.255.255.0"), alias: None }),
            ..ClientOptions::default()
        };
        let given = assign(pool(), &options, server());
        assert_eq!((given.v4, given.v6), (Some(local), Some("fd77::1000".parse().unwrap())));
        let address: Ipv6Net = "fd77::99/64".parse().unwrap();
        options.ifconfig_ipv6_push = Some(IfconfigIpv6Push { local: address, remote: None });
        let given = assign(pool(), &options, server());
        assert_eq!(given.pushed_v6.unwrap().remote, "fd77::1".parse::<Ipv6Addr>().unwrap());
        assert!(!given.uses_pool && given.warnings.is_empty());
    }

    #[test]
    fn aliases_and_foreign_networks() {
        let push = IfconfigPush {
            local: ip("10.78.0.5"),
            remote_or_mask: ip("255.255.255.0"),
            alias: Some(ip("192.168.0.5")),
        };
        let options = ClientOptions { ifconfig_push: Some(push), ..ClientOptions::default() };
        let given = assign(None, &options, server());
        assert_eq!((given.v4, given.pushed_v4.unwrap().address), (Some(ip("10.78.0.5")), ip("192.168.0.5")));
        assert_eq!(given.warnings.len(), 1);
    }
}
