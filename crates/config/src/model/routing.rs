//! Routes and DNS.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::Ipv6Net;

use super::scripts::Command;
use crate::source::Span;

/// A host or network as a route names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteHost {
    /// A literal address.
    Addr(std::net::Ipv4Addr),
    /// The gateway inside the tunnel.
    VpnGateway,
    /// The system's gateway before the tunnel.
    NetGateway,
    /// The server's outside address.
    RemoteHost,
    /// A DNS name (pushed ones only with `allow-pull-fqdn`).
    Name(String),
}

/// `route NETWORK [MASK] [GATEWAY] [METRIC]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub network: RouteHost,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
    /// Next hop; `None`: the gateway inside the tunnel.
    pub gateway: Option<RouteHost>,
    /// Metric; `None`: `route-metric`.
    pub metric: Option<u32>,
    /// Where it stands.
    pub span: Span,
}

/// `route-ipv6 NET/BITS [GATEWAY] [METRIC]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteIpv6 {
    /// Destination.
    pub network: Ipv6Net,
    /// Next hop; `None`: the tunnel device.
    pub gateway: Option<Ipv6Addr>,
    /// Metric; `None`: `route-metric`.
    pub metric: Option<u32>,
    /// Where it stands.
    pub span: Span,
}

/// `route-gateway`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// An address or name.
    Host(RouteHost),
    /// From DHCP (layer 2 only; kept for the message).
    Dhcp,
}

/// Flags of `redirect-gateway` and `redirect-private`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedirectGateway {
    /// Redirect the default route (`redirect-gateway`); without it: `redirect-private`.
    pub default_route: bool,
    /// No host route to the server.
    pub local: bool,
    /// Decide [`RedirectGateway::local`] by whether the server is on-link.
    pub autolocal: bool,
    /// Two half routes instead of replacing the default route.
    pub def1: bool,
    /// Route the local network into the tunnel too.
    pub block_local: bool,
    /// Redirect IPv6.
    pub ipv6: bool,
    /// Leave IPv4 alone (`!ipv4`).
    pub not_ipv4: bool,
}

/// What `pull-filter` does with a matching option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullFilterAction {
    /// Take it.
    Accept,
    /// Drop it silently.
    Ignore,
    /// Restart the connection.
    Reject,
}

/// One `pull-filter` rule; the first rule whose text is a prefix of the option decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullFilter {
    /// What to do.
    pub action: PullFilterAction,
    /// Prefix of the option's text.
    pub text: String,
}

/// `dhcp-option TYPE [VALUE]`, as exported to scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpOption {
    /// Type in upper case, for example `DNS`.
    pub kind: String,
    /// Value, empty for types without one.
    pub value: String,
}

/// `dnssec` of a DNS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dnssec {
    /// Required.
    Yes,
    /// Off.
    No,
    /// If the zone has it.
    Optional,
}

/// Transport to a DNS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsTransport {
    /// Plain.
    Plain,
    /// DNS over TLS.
    Dot,
    /// DNS over HTTPS.
    Doh,
}

/// One `dns server N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsServer {
    /// Priority; the lowest with usable data wins.
    pub priority: i8,
    /// Addresses; port 0 where none was given.
    pub addresses: Vec<SocketAddr>,
    /// Domains resolved through it.
    pub resolve_domains: Vec<String>,
    /// DNSSEC.
    pub dnssec: Option<Dnssec>,
    /// Transport.
    pub transport: Option<DnsTransport>,
    /// Name in the server's certificate.
    pub sni: Option<String>,
}

impl DnsServer {
    /// An empty entry.
    #[must_use]
    pub const fn new(priority: i8) -> Self {
        Self {
            priority,
            addresses: Vec::new(),
            resolve_domains: Vec::new(),
            dnssec: None,
            transport: None,
            sni: None,
        }
    }
}

/// DNS settings as written (`dns …`) before conversion from `dhcp-option`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Servers in ascending priority.
    pub servers: Vec<DnsServer>,
    /// Search domains, in order.
    pub search_domains: Vec<String>,
}

impl Dns {
    /// The settings to apply: the `dns` options, else those made from `dhcp-option`s.
    #[must_use]
    pub fn effective(&self, dhcp: &[DhcpOption]) -> Self {
        let mut out = self.clone();
        let mut made = DnsServer::new(0);
        for option in dhcp {
            match option.kind.as_str() {
                "DNS" | "DNS6" => {
                    if let Ok(addr) = option.value.parse::<IpAddr>() {
                        made.addresses.push(SocketAddr::new(addr, 0));
                    }
                }
                "DOMAIN" | "DOMAIN-SEARCH" | "ADAPTER_DOMAIN_SUFFIX"
                    if !out.search_domains.contains(&option.value) =>
                {
                    out.search_domains.push(option.value.clone());
                }
                _ => {}
            }
        }
        out.servers.retain(|s| !s.addresses.is_empty());
        if out.servers.is_empty() && !made.addresses.is_empty() {
            out.servers.push(made);
        }
        out
    }
}

/// `dns-updown`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DnsUpdown {
    /// The built-in handling, unless an `up` script is configured.
    #[default]
    Auto,
    /// The built-in handling in any case (`force`).
    Force,
    /// A command.
    Command(Command),
    /// Nothing (`disable`).
    Disable,
}

/// Routes and DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// IPv4 routes.
    pub routes: Vec<Route>,
    /// IPv6 routes.
    pub routes_ipv6: Vec<RouteIpv6>,
    /// Default next hop for IPv4 routes.
    pub gateway: Option<Gateway>,
    /// Default next hop for IPv6 routes.
    pub gateway_ipv6: Option<Ipv6Addr>,
    /// Default metric.
    pub metric: Option<u32>,
    /// Wait this long before routes are set.
    pub delay: Option<Duration>,
    /// Only export routes to scripts.
    pub noexec: bool,
    /// Do not take routes or DNS from the server.
    pub nopull: bool,
    /// Routing table number.
    pub table: Option<u32>,
    /// Take DNS names in pushed routes.
    pub allow_pull_fqdn: bool,
    /// `redirect-gateway` or `redirect-private`.
    pub redirect: Option<RedirectGateway>,
    /// Answer IPv6 packets from inside with "no route".
    pub block_ipv6: bool,
    /// Let nothing leave outside the tunnel while it reconnects.
    pub block_leaks: bool,
    /// Rules over the text of pushed options.
    pub pull_filters: Vec<PullFilter>,
    /// `dns`.
    pub dns: Dns,
    /// `dhcp-option`, in order.
    pub dhcp_options: Vec<DhcpOption>,
    /// What sets DNS.
    pub dns_updown: DnsUpdown,
}
