//! Options that print something and exit.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// Options that print something and exit.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("help", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T1, "Show help"),
    option("version", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T1, "Show versions"),
    option("genkey", "[TYPE [FILE] [ARGS]]", (0, 15), Roles::NONE, Contexts::CMDLINE, Tier::T2, "Make a key"),
    option("show-ciphers", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T3, "List ciphers of the data channel"),
    option("show-digests", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T3, "List digests"),
    option("show-tls", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T3, "List TLS cipher suites"),
    option("show-groups", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T4, "List TLS groups"),
    option("show-curves", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T4, "List TLS groups"),
    option("show-engines", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T4, "List crypto engines").dco(Dco::NoEffect),
    option("show-gateway", "[ADDR]", (0, 1), Roles::NONE, Contexts::CMDLINE, Tier::T3, "Show the default gateway, or the route to an address").dco(Dco::Refused).instead("`ip route get ADDRESS` shows the way to one"),
    option("show-pkcs11-ids", "[ARG]...", (0, 2), Roles::NONE, Contexts::CMDLINE, Tier::T4, "List certificates on hardware tokens").dco(Dco::NoEffect).instead("use `management-external-key`"),
    option("show-adapters", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T4, "List adapters on Windows").dco(Dco::NoEffect),
    option("show-net", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T4, "Show the network on Windows").dco(Dco::NoEffect),
    option("show-valid-subnets", "", (0, 0), Roles::NONE, Contexts::CMDLINE, Tier::T4, "Show valid /30 networks on Windows").dco(Dco::NoEffect),
];
