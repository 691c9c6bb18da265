//! What one client is told: the common push list, edited, and the client's own addresses.
//!
//! The session itself adds what it negotiated (peer-id, cipher, protocol-flags, tun-mtu).
//! Source: OpenVPN wire protocol, "PUSH_REPLY"; OpenVPN server behaviour, "Per-client static addresses".

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use ovpn_config::model::{ClientOptions, PushItem};

/// A client's IPv4 address as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PushedV4 {
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// Netmask, or the other end.
    pub(crate) mask_or_remote: Ipv4Addr,
}

/// A client's IPv6 address as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PushedV6 {
    /// Address and prefix length.
    pub(crate) address: Ipv6Net,
    /// The server's address.
    pub(crate) remote: Ipv6Addr,
}

/// The option lines for one client.
pub(crate) fn build(
    common: &[PushItem],
    options: &ClientOptions,
    v4: Option<PushedV4>,
    v6: Option<PushedV6>,
) -> Vec<String> {
    let removed = |text: &str| options.push_remove.iter().any(|prefix| text.starts_with(prefix.as_str()));
    let mut list: Vec<String> = Vec::new();
    if !options.push_reset {
        list.extend(common.iter().map(|item| item.text.clone()).filter(|text| !removed(text)));
    }
    list.extend(options.push.iter().map(|item| item.text.clone()));
    list.retain(|text| !leads_to_itself(text, options));

    let told = |option: &str| !options.push_remove.iter().any(|prefix| prefix == option);
    if let Some(PushedV6 { address, remote }) = v6.filter(|_| told("ifconfig-ipv6")) {
        list.push(format!("ifconfig-ipv6 {address} {remote}"));
    }
    if let Some(PushedV4 { address, mask_or_remote }) = v4.filter(|_| told("ifconfig")) {
        list.push(format!("ifconfig {address} {mask_or_remote}"));
    }
    list
}

/// Whether a pushed route is one of the networks behind the client itself.
fn leads_to_itself(text: &str, options: &ClientOptions) -> bool {
    let Ok(tokens) = ovpn_wire::push::tokens(text) else { return false };
    match tokens.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["route", network, rest @ ..] => {
            let mask = rest.first().copied().unwrap_or("255.255.255.255");
            let (Ok(network), Ok(mask)) = (network.parse::<Ipv4Addr>(), mask.parse::<Ipv4Addr>()) else {
                return false;
            };
            let net = Ipv4Net::with_netmask(network, mask);
            net.is_ok_and(|net| options.iroutes.iter().any(|iroute| iroute.trunc() == net.trunc()))
        }
        ["route-ipv6", network, ..] => {
            let net = network.parse::<Ipv6Net>();
            net.is_ok_and(|net| options.iroutes_ipv6.iter().any(|iroute| iroute.trunc() == net.trunc()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(texts: &[&str]) -> Vec<PushItem> {
        texts.iter().map(|text| PushItem { text: (*text).to_owned(), span: Default::default() }).collect()
    }

    const V4: Option<PushedV4> = Some(PushedV4 {
        address: Ipv4Addr::new(10, 77, 0, 2),
        mask_or_remote: Ipv4Addr::new(255, 255, 255, 0),
    });

    fn v6() -> Option<PushedV6> {
        Some(PushedV6 { address: "fd77::1000/64".parse().unwrap(), remote: "fd77::1".parse().unwrap() })
    }

    #[test]
    fn common_options_then_own_then_addresses() {
        let common = items(&["route 198.51.100.0 255.255.255.0", "topology subnet", "ping 5"]);
        let own = ClientOptions { push: items(&["echo hello"]), ..ClientOptions::default() };
        assert_eq!(
            build(&common, &own, V4, v6()),
            [
                "route 198.51.100.0 255.255.255.0",
                "topology subnet",
                "ping 5",
                "echo hello",
                "ifconfig-ipv6 fd77::1000/64 fd77::1",
                "ifconfig 10.77.0.2 255.255.255.0",
            ]
        );
    }

    #[test]
    fn the_common_list_can_be_edited() {
        let common = items(&["route 10.1.0.0 255.255.0.0", "route-gateway 10.77.0.1", "ping 5"]);
        let mut own = ClientOptions { push_remove: vec!["route ".to_owned()], ..ClientOptions::default() };
        assert_eq!(build(&common, &own, None, None), ["route-gateway 10.77.0.1", "ping 5"]);
        own.push_remove = vec!["ifconfig".to_owned()];
        assert_eq!(build(&[], &own, V4, v6()).len(), 1, "ifconfig-ipv6 is still told");
        own.push_reset = true;
        own.push = items(&["route-gateway 10.77.0.1"]);
        assert_eq!(build(&common, &own, None, None), ["route-gateway 10.77.0.1"]);
    }

    #[test]
    fn a_client_gets_no_route_to_itself() {
        let common = items(&[
            "route 10.1.0.0 255.255.0.0",
            "route 10.2.0.0 255.255.0.0",
            "route-ipv6 fd01::/64",
            "route 10.3.0.1",
            "route vpn_gateway",
        ]);
        let own = ClientOptions {
            iroutes: vec!["10.2.0.0/16".parse().unwrap(), "10.3.0.1/32".parse().unwrap()],
            iroutes_ipv6: vec!["fd01::/64".parse().unwrap()],
            ..ClientOptions::default()
        };
        assert_eq!(build(&common, &own, None, None), ["route 10.1.0.0 255.255.0.0", "route vpn_gateway"]);
    }
}
