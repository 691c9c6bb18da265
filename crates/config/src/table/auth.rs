//! Authentication.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// Authentication.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("auth-user-pass", "[FILE|username-only]", (0, 1), Roles::CLIENT, Contexts::FILE, Tier::T1, "Send username and password").inline(),
    option("auth-nocache", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T1, "Forget passwords after use"),
    option("auth-retry", "none|nointeract|interact", (1, 1), Roles::CLIENT, Contexts::FILE, Tier::T1, "What to do when the password is wrong"),
    option("auth-token", "TOKEN", (1, 1), Roles::CLIENT, Contexts::FILE, Tier::T1, "Session token (pushed)").also(Contexts::PUSHED).also(Contexts::CLIENT),
    option("auth-token-user", "B64", (1, 1), Roles::CLIENT, Contexts::FILE, Tier::T2, "Username of the session token (pushed)").also(Contexts::PUSHED).also(Contexts::CLIENT),
    option("static-challenge", "TEXT ECHO [concat|scrv1]", (2, 3), Roles::CLIENT, Contexts::FILE, Tier::T2, "Ask a second factor together with the password"),
    option("auth-user-pass-verify", "CMD via-env|via-file", (2, 2), Roles::SERVER, Contexts::FILE, Tier::T1, "Command that judges username and password"),
    option("auth-user-pass-optional", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T3, "Username and password may be missing"),
    option("auth-gen-token", "[LIFETIME [RENEWAL]] [external-auth]", (0, 3), Roles::SERVER, Contexts::FILE, Tier::T1, "Give clients a session token instead of their password"),
    option("auth-gen-token-secret", "FILE", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T2, "Key of session tokens, so that they survive a restart").inline(),
    option("username-as-common-name", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T1, "Use the username as the common name"),
    option("verify-client-cert", "none|optional|require", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T1, "Whether clients need a certificate"),
    option("client-cert-not-required", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T4, "Clients need no certificate").dco(Dco::NoEffect).removed("2.5").instead("use `verify-client-cert none`"),
    option("override-username", "NAME", (1, 1), Roles::SERVER, Contexts::CLIENT, Tier::T3, "Username to use after login").since("2.7"),
    option("client-crresponse", "CMD", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T3, "Command called with a client's answer to a challenge"),
];
