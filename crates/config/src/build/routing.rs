//! Routes and DNS.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Builder;
use super::arguments::{Bad, Opt};
use crate::diagnostic::Class;
use crate::model::{
    DhcpOption, DnsServer, DnsTransport, DnsUpdown, Dnssec, Gateway, PullFilter, PullFilterAction,
    RedirectGateway, Route, RouteHost, RouteIpv6,
};
use crate::table::Contexts;

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let r = &mut b.config.routing;
    // Who pushes a name decides what it leads to.
    let named = !b.context.contains(Contexts::PUSHED) || r.allow_pull_fqdn;
    match o.name() {
        "route" => {
            let network = host(&o.text(0)?);
            pulled_name(named, 0, &network, o)?;
            let prefix = match o.get(1) {
                None | Some("default") => 32,
                Some(_) => o.mask(1)?,
            };
            let gateway = o.get(2).filter(|g| *g != "default").map(host);
            if let Some(gateway) = &gateway {
                pulled_name(named, 2, gateway, o)?;
            }
            let metric = match o.get(3) {
                None | Some("default") => None,
                Some(_) => Some(o.number(3, 0..=u32::MAX)?),
            };
            r.routes.push(Route { network, prefix, gateway, metric, span: o.span() });
        }
        "route-ipv6" => {
            let network = o.net6(0)?;
            let gateway = match o.get(1) {
                None | Some("default") => None,
                Some(_) => Some(o.ipv6(1)?),
            };
            let metric = match o.get(2) {
                None | Some("default") => None,
                Some(_) => Some(o.number(2, 0..=u32::MAX)?),
            };
            r.routes_ipv6.push(RouteIpv6 { network, gateway, metric, span: o.span() });
        }
        "route-gateway" => {
            r.gateway = if o.is(0, "dhcp") {
                o.say(
                    Class::Ignored,
                    "`route-gateway dhcp` needs a tap device",
                    "remove it, or name the gateway",
                );
                Some(Gateway::Dhcp)
            } else {
                let gateway = host(&o.text(0)?);
                pulled_name(named, 0, &gateway, o)?;
                Some(Gateway::Host(gateway))
            };
        }
        "route-ipv6-gateway" => r.gateway_ipv6 = Some(o.ipv6(0)?),
        "route-metric" => r.metric = Some(o.number(0, 0..=u32::MAX)?),
        "route-delay" => {
            r.delay = if o.count() > 0 { Some(o.seconds(0, 0)?) } else { Some(Duration::ZERO) };
            if o.count() > 1 {
                // How long to wait for a Windows adapter.
                o.seconds(1, 0)?;
            }
        }
        "route-noexec" => r.noexec = true,
        "route-nopull" => r.nopull = true,
        "route-table" => r.table = Some(o.number(0, 1..=u32::MAX)?),
        "allow-pull-fqdn" => r.allow_pull_fqdn = true,
        "redirect-gateway" | "redirect-private" => {
            let mut redirect = r.redirect.unwrap_or_default();
            redirect.default_route |= o.name() == "redirect-gateway";
            for (at, arg) in o.args().iter().enumerate() {
                if !redirect_flag(&mut redirect, &arg.text) {
                    let message =
                        format!("\"{}\" is no flag of `{}`", super::arguments::short(&arg.text), o.name());
                    let flags = "the flags are local, autolocal, def1, bypass-dhcp, bypass-dns, block-local, ipv6 and !ipv4";
                    return Err(o.bad(at, message, flags));
                }
            }
            r.redirect = Some(redirect);
        }
        "block-ipv6" => r.block_ipv6 = true,
        "pull-filter" => {
            let action = o.word(
                0,
                &[
                    ("accept", PullFilterAction::Accept),
                    ("ignore", PullFilterAction::Ignore),
                    ("reject", PullFilterAction::Reject),
                ],
            )?;
            r.pull_filters.push(PullFilter { action, text: o.text(1)? });
        }
        "dhcp-option" => {
            let kind = o.text(0)?.to_ascii_uppercase();
            let value = o.args().iter().skip(1).map(|a| a.text.as_str()).collect::<Vec<_>>().join(" ");
            match kind.as_str() {
                "DNS" | "DNS6" | "WINS" | "NBDD" | "NTP" => {
                    o.address(1)?;
                }
                _ => {}
            }
            r.dhcp_options.push(DhcpOption { kind, value });
        }
        "dns" => dns(b, o)?,
        "dns-updown" => {
            r.dns_updown = match o.get(0) {
                Some("disable") => DnsUpdown::Disable,
                Some("force") => DnsUpdown::Force,
                _ => o.command(0)?.map_or(DnsUpdown::Disable, DnsUpdown::Command),
            };
        }
        "client-nat" => {
            o.say(
                Class::Ignored,
                "`client-nat` has no effect on an offloaded data channel",
                "use nftables instead",
            );
        }
        "register-dns" | "block-outside-dns" | "ip-win32" | "tap-sleep" | "dhcp-renew"
        | "dhcp-pre-release" | "dhcp-release" | "show-net-up" | "win-sys" | "msg-channel" | "service"
        | "pause-exit" | "route-method" | "windows-driver" => {
            if cfg!(not(windows)) && o.name() != "block-outside-dns" {
                let text = format!("`{}` only means something on Windows", o.name());
                o.say(Class::Ignored, text, "");
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A name where an address is expected, in an option that came from the server.
fn pulled_name(allowed: bool, at: usize, host: &RouteHost, o: &mut Opt<'_>) -> Result<(), Bad> {
    match host {
        RouteHost::Name(name) if !allowed => {
            let text = format!(
                "the server names \"{}\" where an address is expected",
                super::arguments::short(name)
            );
            Err(o.bad(at, text, "`allow-pull-fqdn` takes names from the server"))
        }
        _ => Ok(()),
    }
}

pub(super) fn host(text: &str) -> RouteHost {
    match text {
        "vpn_gateway" => RouteHost::VpnGateway,
        "net_gateway" => RouteHost::NetGateway,
        "remote_host" => RouteHost::RemoteHost,
        _ => text.parse().map_or_else(|_| RouteHost::Name(text.to_owned()), RouteHost::Addr),
    }
}

fn redirect_flag(r: &mut RedirectGateway, flag: &str) -> bool {
    match flag {
        "local" => r.local = true,
        "autolocal" => r.autolocal = true,
        "def1" => r.def1 = true,
        // Host routes around the tunnel, which stock makes on Windows only.
        "bypass-dhcp" | "bypass-dns" => {}
        "block-local" => r.block_local = true,
        "ipv6" => r.ipv6 = true,
        "!ipv4" => r.not_ipv4 = true,
        _ => return false,
    }
    true
}

fn dns(b: &mut Builder, o: &mut Opt<'_>) -> Result<(), Bad> {
    let dns = &mut b.config.routing.dns;
    if o.word(0, &[("search-domains", true), ("server", false)])? {
        dns.search_domains.extend(o.args().iter().skip(1).map(|a| a.text.clone()));
        return Ok(());
    }
    let priority = o.number(1, -128..=127i8)?;
    let what =
        o.word(2, &[("address", 0), ("resolve-domains", 1), ("dnssec", 2), ("transport", 3), ("sni", 4)])?;
    if o.count() < 4 {
        return Err(o.bad(2, "this `dns server` line has no value", "write `dns server N address ADDRESS`"));
    }
    let mut server =
        dns.servers.iter().find(|s| s.priority == priority).cloned().unwrap_or(DnsServer::new(priority));
    match what {
        0 => {
            for (at, arg) in o.args().iter().enumerate().skip(3) {
                let Some(address) = address_port(&arg.text) else {
                    return Err(o.bad(
                        at,
                        format!("\"{}\" is no address", arg.text),
                        "write ADDRESS or ADDRESS:PORT; [ADDRESS]:PORT for IPv6",
                    ));
                };
                if server.addresses.len() >= 8 {
                    return Err(o.bad(at, "a DNS server has at most 8 addresses", "remove some"));
                }
                server.addresses.push(address);
            }
        }
        1 => server.resolve_domains.extend(o.args().iter().skip(3).map(|a| a.text.clone())),
        2 => {
            let words = [("yes", Dnssec::Yes), ("no", Dnssec::No), ("optional", Dnssec::Optional)];
            server.dnssec = Some(o.word(3, &words)?);
        }
        3 => {
            let words =
                [("plain", DnsTransport::Plain), ("DoT", DnsTransport::Dot), ("DoH", DnsTransport::Doh)];
            server.transport = Some(o.word(3, &words)?);
        }
        _ => server.sni = Some(o.text(3)?),
    }
    dns.servers.retain(|s| s.priority != priority);
    dns.servers.push(server);
    dns.servers.sort_by_key(|s| s.priority);
    Ok(())
}

/// `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`; port 0 where none is given.
fn address_port(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().map(|a| SocketAddr::new(a, 0)).or_else(|_| text.parse()).ok()
}
