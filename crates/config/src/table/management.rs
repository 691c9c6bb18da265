//! Management interface.

use super::{Contexts, OptionSpec, Roles, Tier, option};

/// Management interface.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("management", "ADDR PORT [PWFILE] | PATH unix [PWFILE]", (2, 3), Roles::ANY, Contexts::FILE, Tier::T1, "Listen for a managing program"),
    option("management-client", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T2, "Connect to the managing program instead"),
    option("management-query-passwords", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T1, "Ask passwords there"),
    option("management-query-remote", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T2, "Ask the remote there"),
    option("management-query-proxy", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T3, "Ask the proxy there"),
    option("management-hold", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T1, "Wait until told to start"),
    option("management-signal", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T2, "Restart when the managing program goes"),
    option("management-forget-disconnect", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T2, "Forget passwords when the managing program goes"),
    option("management-up-down", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T3, "Tell the managing program about up and down"),
    option("management-client-auth", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T2, "Let the managing program judge clients"),
    option("management-client-user", "NAME", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Only this user may connect there (Unix socket)"),
    option("management-client-group", "NAME", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Only this group may connect there (Unix socket)"),
    option("management-log-cache", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Log lines to keep for it"),
    option("management-external-key", "[nopadding|pkcs1|pss|digest]...", (0, 15), Roles::ANY, Contexts::FILE, Tier::T3, "It signs with the private key"),
    option("management-external-cert", "HINT", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "It has the certificate"),
];
