//! Timers and keepalive.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// Timers and keepalive.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("keepalive", "A B", (2, 2), Roles::ANY, Contexts::FILE, Tier::T1, "Ping every A seconds, restart after B seconds of silence"),
    option("ping", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Ping when nothing was sent for this many seconds").also(Contexts::PUSHED).also(Contexts::CLIENT),
    option("ping-restart", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Restart when nothing came for this many seconds").also(Contexts::PUSHED).also(Contexts::CLIENT),
    option("ping-exit", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Exit when nothing came for this many seconds").also(Contexts::PUSHED).also(Contexts::CLIENT),
    option("ping-timer-rem", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T3, "Run ping timers only once the peer is known").also(Contexts::PUSHED).also(Contexts::CLIENT),
    option("inactive", "N [BYTES]", (1, 2), Roles::ANY, Contexts::FILE, Tier::T2, "Exit when fewer than BYTES moved in N seconds").also(Contexts::PUSHED).also(Contexts::CLIENT),
    option("session-timeout", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Exit after this many seconds").also(Contexts::PUSHED).also(Contexts::CLIENT).since("2.6"),
    option("explicit-exit-notify", "[N]", (0, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Tell the peer about the exit, this many times (UDP)").also(Contexts::CONNECTION).also(Contexts::PUSHED),
    option("hand-window", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Seconds a handshake may take"),
    option("tran-window", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Seconds an old key stays valid after a renegotiation"),
    option("tls-timeout", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Seconds until a control packet is first sent again"),
    option("reneg-sec", "MAX [MIN]", (1, 2), Roles::ANY, Contexts::FILE, Tier::T1, "Renegotiate keys after at most this many seconds; 0: never by time"),
    option("reneg-bytes", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Renegotiate keys after this many bytes").dco(Dco::NoEffect),
    option("reneg-pkts", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Renegotiate keys after this many packets").dco(Dco::NoEffect),
];
