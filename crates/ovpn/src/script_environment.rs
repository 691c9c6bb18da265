//! Which variables scripts get: the configuration's part, the device's and the routes'.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use ovpn_config::Config;
use ovpn_config::model::{Dns, DnsTransport, Dnssec, Ifconfig, Protocol};

use crate::environment::Environment;
use crate::routes::{Redirect, Situation, Target, Via};

/// What is known from the start: `setenv` values, process facts, remotes.
pub(crate) fn of_process(config: &Config, file: Option<&str>, started: SystemTime) -> Environment {
    let mut env = Environment::default();
    if let Some(file) = file {
        env.set("config", file);
    }
    env.set("verb", config.process.verb);
    let daemon = config.process.daemon.is_some();
    env.set("daemon", u8::from(daemon));
    env.set("daemon_log_redirect", u8::from(!matches!(config.process.log, ovpn_config::model::Log::Stdout)));
    env.set("daemon_pid", std::process::id());
    env.set("daemon_start_time", started.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()));
    for (n, connection) in config.connections.iter().enumerate() {
        let n = n + 1;
        env.set(format!("remote_{n}"), &connection.remote.host);
        env.set(format!("remote_port_{n}"), connection.remote.port);
        env.set(format!("proto_{n}"), protocol_word(connection.remote.protocol));
        if let Some(host) = &connection.local_host {
            env.set(format!("local_{n}"), host);
        }
        if let Some(port) = connection.local_port {
            env.set(format!("local_port_{n}"), port);
        }
    }
    if config.connections.is_empty() {
        for (n, local) in config.locals.iter().enumerate() {
            let n = n + 1;
            env.set(format!("proto_{n}"), protocol_word(local.protocol));
            env.set(format!("local_port_{n}"), local.port);
            env.set(format!("remote_port_{n}"), local.port);
            if let Some(host) = &local.host {
                env.set(format!("local_{n}"), host);
            }
        }
    }
    for (name, value) in &config.scripts.environment {
        env.set(name, value);
    }
    env
}

const fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "udp",
        Protocol::TcpClient => "tcp-client",
        Protocol::TcpServer => "tcp-server",
    }
}

/// What is known of the device and its addresses.
pub(crate) fn add_device(env: &mut Environment, config: &Config, name: &str, context: &str) {
    env.set("dev", name);
    env.set("dev_type", "tun");
    env.set("tun_mtu", config.device.mtu);
    env.set("script_context", context);
    match config.device.ifconfig {
        Some(Ifconfig::Subnet { local, prefix }) => {
            env.set("ifconfig_local", local);
            env.set(
                "ifconfig_netmask",
                ipnet::Ipv4Net::new(local, prefix).map_or(local, |net| net.netmask()),
            );
        }
        Some(Ifconfig::PointToPoint { local, remote }) => {
            env.set("ifconfig_local", local);
            env.set("ifconfig_remote", remote);
        }
        None => {}
    }
    if let Some(ifconfig) = config.device.ifconfig_ipv6 {
        env.set("ifconfig_ipv6_local", ifconfig.local.addr());
        env.set("ifconfig_ipv6_netbits", ifconfig.local.prefix_len());
        env.set("ifconfig_ipv6_remote", ifconfig.remote);
    }
}

/// The arguments of `up`, `down` and `route-pre-down`.
pub(crate) fn device_arguments(config: &Config, name: &str, context: &str) -> Vec<String> {
    let (local, remote) = match config.device.ifconfig {
        Some(Ifconfig::Subnet { local, prefix }) => (
            local.to_string(),
            ipnet::Ipv4Net::new(local, prefix).map_or(local, |net| net.netmask()).to_string(),
        ),
        Some(Ifconfig::PointToPoint { local, remote }) => (local.to_string(), remote.to_string()),
        None => (String::new(), String::new()),
    };
    vec![name.to_owned(), config.device.mtu.to_string(), "0".to_owned(), local, remote, context.to_owned()]
}

/// The addresses of the connection.
pub(crate) fn add_peer(env: &mut Environment, remote: SocketAddr, common_name: &str) {
    env.set_address("untrusted", remote);
    env.set_address("trusted", remote);
    env.set("common_name", common_name);
}

/// Routes and gateways.
pub(crate) fn add_routes(env: &mut Environment, situation: &Situation) {
    env.set_ip("route_vpn_gateway", situation.vpn_gateway);
    let net_gateway = situation.default4.and_then(|default| default.gateway);
    env.set_ip("route_net_gateway", net_gateway);
    env.set_ip("net_gateway_ipv6", situation.default6.and_then(|default| default.gateway));
    let redirect = situation.redirect.filter(|redirect| !redirect.private);
    env.set("redirect_gateway", u8::from(redirect.is_some()));
    if let Some(Redirect { block_local, ipv6, not_ipv4, .. }) = redirect {
        let value = if block_local { 2 } else { 1 };
        if !not_ipv4 {
            env.set("route_redirect_gateway_ipv4", value);
        }
        if ipv6 {
            env.set("route_redirect_gateway_ipv6", value);
        }
    }
    let (mut four, mut six) = (0, 0);
    for wish in &situation.wishes {
        let destination = match wish.target {
            Target::Net(net) => net,
            Target::VpnGateway => match situation.vpn_gateway {
                Some(ip) => ipnet::IpNet::from(std::net::IpAddr::V4(ip)),
                None => continue,
            },
            Target::NetGateway => match net_gateway {
                Some(ip) => ipnet::IpNet::from(ip),
                None => continue,
            },
            Target::RemoteHost => match situation.server {
                Some(ip) => ipnet::IpNet::from(ip),
                None => continue,
            },
        };
        let metric = wish.metric.or(situation.metric);
        match destination {
            ipnet::IpNet::V4(net) => {
                four += 1;
                env.set(format!("route_network_{four}"), net.network());
                env.set(format!("route_netmask_{four}"), net.netmask());
                let gateway = match wish.via {
                    Via::Vpn => situation.vpn_gateway.map(std::net::IpAddr::V4),
                    Via::Net => net_gateway,
                    Via::RemoteHost => situation.server,
                    Via::Address(ip) => Some(ip),
                };
                env.set_ip(&format!("route_gateway_{four}"), gateway);
                if let Some(metric) = metric {
                    env.set(format!("route_metric_{four}"), metric);
                }
            }
            ipnet::IpNet::V6(net) => {
                six += 1;
                env.set(format!("route_ipv6_network_{six}"), net.trunc());
                let gateway = match wish.via {
                    Via::Address(ip) => Some(ip),
                    _ => situation.vpn_gateway6.map(std::net::IpAddr::V6),
                };
                env.set_ip(&format!("route_ipv6_gateway_{six}"), gateway);
                if let Some(metric) = metric {
                    env.set(format!("route_ipv6_metric_{six}"), metric);
                }
            }
        }
    }
}

/// `foreign_option_N` and the `dns_…` variables.
pub(crate) fn add_dns(env: &mut Environment, config: &Config) {
    for (n, option) in config.routing.dhcp_options.iter().enumerate() {
        let text = format!("dhcp-option {} {}", option.kind, option.value);
        env.set(format!("foreign_option_{}", n + 1), text.trim_end());
    }
    let Dns { servers, search_domains } = &config.routing.dns;
    for (n, domain) in search_domains.iter().enumerate() {
        env.set(format!("dns_search_domain_{}", n + 1), domain);
    }
    for (n, server) in servers.iter().enumerate() {
        let n = n + 1;
        for (m, address) in server.addresses.iter().enumerate() {
            let m = m + 1;
            env.set(format!("dns_server_{n}_address_{m}"), address.ip());
            if address.port() != 0 {
                env.set(format!("dns_server_{n}_port_{m}"), address.port());
            }
        }
        for (m, domain) in server.resolve_domains.iter().enumerate() {
            env.set(format!("dns_server_{n}_resolve_domain_{}", m + 1), domain);
        }
        if let Some(dnssec) = server.dnssec {
            let word = match dnssec {
                Dnssec::Yes => "yes",
                Dnssec::No => "no",
                Dnssec::Optional => "optional",
            };
            env.set(format!("dns_server_{n}_dnssec"), word);
        }
        if let Some(transport) = server.transport {
            let word = match transport {
                DnsTransport::Plain => "plain",
                DnsTransport::Dot => "DoT",
                DnsTransport::Doh => "DoH",
            };
            env.set(format!("dns_server_{n}_transport"), word);
        }
        if let Some(sni) = &server.sni {
            env.set(format!("dns_server_{n}_sni"), sni);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::Wish;

    #[test]
    fn up_sees_what_network_manager_reads() {
        let mut config = Config::default();
        config.device.ifconfig = Some(Ifconfig::Subnet { local: "10.77.0.2".parse().unwrap(), prefix: 24 });
        let mut env = Environment::default();
        add_device(&mut env, &config, "tun0", "init");
        assert_eq!(env.get("ifconfig_local"), Some("10.77.0.2"));
        assert_eq!(env.get("ifconfig_netmask"), Some("255.255.255.0"));
        assert_eq!(
            device_arguments(&config, "tun0", "init"),
            ["tun0", "1500", "0", "10.77.0.2", "255.255.255.0", "init"]
        );
    }

    #[test]
    fn routes_are_numbered_by_family() {
        let wish =
            |net: &str| Wish { target: Target::Net(net.parse().unwrap()), via: Via::Vpn, metric: None };
        let situation = Situation {
            wishes: vec![wish("10.1.0.0/16"), wish("fd01::/64"), wish("10.2.0.0/16")],
            vpn_gateway: Some("10.77.0.1".parse().unwrap()),
            metric: Some(7),
            ..Situation::default()
        };
        let mut env = Environment::default();
        add_routes(&mut env, &situation);
        assert_eq!(env.get("route_network_2"), Some("10.2.0.0"));
        assert_eq!(env.get("route_netmask_2"), Some("255.255.0.0"));
        assert_eq!(env.get("route_gateway_2"), Some("10.77.0.1"));
        assert_eq!(env.get("route_metric_1"), Some("7"));
        assert_eq!(env.get("route_ipv6_network_1"), Some("fd01::/64"));
        assert_eq!(env.get("redirect_gateway"), Some("0"));
    }
}
