//! Scripts, plugins, environment.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// Scripts, plugins, environment.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("script-security", "0|1|2|3", (1, 2), Roles::ANY, Contexts::FILE, Tier::T1, "What may be run: 0 nothing, 1 system tools, 2 scripts, 3 scripts that see passwords"),
    option("up", "CMD", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Command to run after the device is up"),
    option("down", "CMD", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Command to run after the device is down"),
    option("down-pre", "", (0, 0), Roles::CLIENT_PEER, Contexts::FILE, Tier::T3, "Run `down` before the device is closed"),
    option("up-delay", "", (0, 0), Roles::CLIENT_PEER, Contexts::FILE, Tier::T3, "Run `up` only once the peer is connected"),
    option("up-restart", "", (0, 0), Roles::CLIENT_PEER, Contexts::FILE, Tier::T2, "Run `up` and `down` on restarts too"),
    option("ipchange", "CMD", (1, 1), Roles::CLIENT_PEER, Contexts::FILE, Tier::T3, "Command to run when the peer's address is known or changes"),
    option("plugin", "FILE [ARGS]", (1, 15), Roles::ANY, Contexts::FILE, Tier::T3, "Module in stock's C interface").dco(Dco::Refused).instead("use scripts or the management interface"),
    option("setenv", "NAME [VALUE]", (1, 2), Roles::ANY, Contexts::FILE, Tier::T1, "Variable for scripts"),
    option("setenv-safe", "NAME VALUE", (1, 2), Roles::ANY, Contexts::FILE, Tier::T2, "Variable for scripts, prefixed with OPENVPN_").also(Contexts::PUSHED),
    option("ignore-unknown-option", "OPT...", (1, 15), Roles::ANY, Contexts::FILE, Tier::T1, "Options not to complain about"),
    option("echo", "[TEXT...]", (0, 15), Roles::ANY, Contexts::FILE, Tier::T2, "Text for the management interface").also(Contexts::PUSHED).also(Contexts::CLIENT).list(),
    option("parameter", "[TEXT...]", (0, 15), Roles::ANY, Contexts::FILE, Tier::T4, "Text for the management interface").also(Contexts::PUSHED).also(Contexts::CLIENT).list().instead("use `echo`"),
];
