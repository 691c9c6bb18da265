//! DNS, and Windows options around it.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// DNS, and Windows options around it.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("dns", "search-domains DOMAIN... | server N address|resolve-domains|dnssec|transport|sni VALUE...", (2, 15), Roles::ANY, Contexts::FILE, Tier::T1, "DNS servers and search domains").also(Contexts::PUSHED).list(),
    option("dns-updown", "CMD|disable|force", (1, 1), Roles::CLIENT_PEER, Contexts::FILE, Tier::T2, "What sets DNS: a command, `disable`, or `force`").since("2.7"),
    option("dhcp-option", "TYPE [VALUE]", (1, 15), Roles::ANY, Contexts::FILE, Tier::T1, "DNS servers, domains and the like, in the form of DHCP").also(Contexts::PUSHED).list(),
    option("register-dns", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T3, "Refresh DNS on Windows").also(Contexts::PUSHED).dco(Dco::NoEffect),
    option("block-outside-dns", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T2, "Block DNS outside the tunnel on Windows").also(Contexts::PUSHED).dco(Dco::NoEffect),
    option("ip-win32", "METHOD...", (1, 15), Roles::CLIENT, Contexts::FILE, Tier::T4, "How addresses are set on Windows").also(Contexts::PUSHED).dco(Dco::NoEffect),
    option("tap-sleep", "N", (1, 1), Roles::CLIENT, Contexts::FILE, Tier::T4, "Pause after opening the device on Windows").also(Contexts::PUSHED).dco(Dco::NoEffect),
    option("dhcp-renew", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T4, "Renew the DHCP lease on Windows").also(Contexts::PUSHED).dco(Dco::NoEffect),
    option("dhcp-pre-release", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T4, "Release the DHCP lease first on Windows").also(Contexts::PUSHED).dco(Dco::NoEffect),
    option("dhcp-release", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T4, "Release the DHCP lease on Windows").dco(Dco::NoEffect),
    option("dhcp-internal", "N", (1, 1), Roles::NONE, Contexts::FILE, Tier::T4, "Internal to stock on Windows").dco(Dco::Refused).instead("remove it"),
    option("rdns-internal", "", (0, 0), Roles::NONE, Contexts::FILE, Tier::T4, "Internal to stock on Windows").dco(Dco::Refused).instead("remove it"),
    option("show-net-up", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T4, "Show the network state after connecting, on Windows").also(Contexts::PUSHED).dco(Dco::NoEffect),
    option("win-sys", "PATH|env", (1, 1), Roles::CLIENT, Contexts::FILE, Tier::T4, "Path of the Windows system directory").dco(Dco::NoEffect),
    option("msg-channel", "HANDLE", (1, 1), Roles::CLIENT, Contexts::FILE, Tier::T4, "Handle of the Windows service").dco(Dco::NoEffect),
    option("service", "EVENT [0|1]", (1, 2), Roles::CLIENT, Contexts::FILE, Tier::T4, "Exit event of the Windows service").dco(Dco::NoEffect),
    option("pause-exit", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T4, "Wait for a key before exit, on Windows").dco(Dco::NoEffect),
    option("allow-nonadmin", "[NAME]", (0, 1), Roles::NONE, Contexts::FILE, Tier::T4, "Set rights of a tap device on Windows").dco(Dco::Refused).instead("remove it"),
];
