//! Server.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// Server.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("push", "OPTION", (1, 15), Roles::SERVER, Contexts::FILE, Tier::T1, "Option to tell clients").also(Contexts::CLIENT).list(),
    option("push-reset", "", (0, 0), Roles::SERVER, Contexts::CLIENT, Tier::T2, "Tell this client nothing of the common list"),
    option("push-remove", "PREFIX", (1, 1), Roles::SERVER, Contexts::CLIENT, Tier::T2, "Leave options that start with this out of the common list").list(),
    option("push-continuation", "1|2", (1, 1), Roles::CLIENT, Contexts::PUSHED, Tier::T1, "More pushed options follow, or these were the last (pushed)"),
    option("client-config-dir", "DIR", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T1, "Directory with a file of options per client"),
    option("ccd-exclusive", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T2, "Refuse clients without a file of their own"),
    option("client-connect", "CMD", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T1, "Command called when a client is accepted"),
    option("client-disconnect", "CMD", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T1, "Command called when a client leaves"),
    option("learn-address", "CMD", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T2, "Command called when a client's address is learnt or forgotten"),
    option("nat", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T2, "Forward clients' traffic under this host's address, through nftables, until the server ends (ovpn only)"),
    option("client-to-client", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T1, "Clients may reach each other").dco(Dco::NoEffect),
    option("duplicate-cn", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T1, "Several clients may use one certificate"),
    option("max-clients", "N", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T1, "Most clients at once"),
    option("max-routes-per-client", "N", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T3, "Most networks behind one client").also(Contexts::CLIENT),
    option("connect-freq", "N S", (2, 2), Roles::SERVER, Contexts::FILE, Tier::T2, "At most N new clients in S seconds (UDP)"),
    option("connect-freq-initial", "N S", (2, 2), Roles::SERVER, Contexts::FILE, Tier::T2, "At most N first packets answered in S seconds").since("2.6"),
    option("disable", "", (0, 0), Roles::SERVER, Contexts::CLIENT, Tier::T2, "Refuse this client"),
    option("stale-routes-check", "N [T]", (1, 2), Roles::SERVER, Contexts::FILE, Tier::T4, "Forget learnt addresses after N seconds").dco(Dco::NoEffect).instead("remove it"),
    option("tcp-queue-limit", "N", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T4, "Packets waiting for a TCP client; sized by itself").dco(Dco::NoEffect).instead("remove it"),
    option("bcast-buffers", "N", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T4, "Buffers for broadcasts; sized by itself").dco(Dco::NoEffect).instead("remove it"),
    option("hash-size", "R V", (2, 2), Roles::SERVER, Contexts::FILE, Tier::T4, "Size of internal tables; they grow by themselves").dco(Dco::NoEffect).instead("remove it"),
    option("tmp-dir", "DIR", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T2, "Directory for files handed to scripts"),
];
