//! Mode and role.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// Mode and role.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("client", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T1, "Connect and take settings from the server: short for `pull` and `tls-client`"),
    option("server", "NET MASK [nopool]", (2, 3), Roles::SERVER, Contexts::FILE, Tier::T1, "Serve many clients from this network; the first address is the server's"),
    option("server-ipv6", "NET/BITS", (1, 1), Roles::SERVER, Contexts::FILE, Tier::T1, "Serve clients from this IPv6 network as well"),
    option("server-bridge", "[IP MASK START END] | nogw", (0, 4), Roles::SERVER, Contexts::FILE, Tier::T4, "Serve clients over a bridged (tap) device").dco(Dco::Refused).instead("use `server` with `dev tun`"),
    option("mode", "p2p|server", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Talk to one peer (`p2p`) or serve many clients (`server`)"),
    option("tls-client", "", (0, 0), Roles::CLIENT_PEER, Contexts::FILE, Tier::T1, "Take the client's side of the TLS handshake"),
    option("tls-server", "", (0, 0), Roles::SERVER_PEER, Contexts::FILE, Tier::T1, "Take the server's side of the TLS handshake"),
    option("pull", "", (0, 0), Roles::CLIENT, Contexts::FILE, Tier::T2, "Ask the server for options and apply them"),
    option("topology", "subnet|net30|p2p", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "How addresses inside the tunnel relate to each other").also(Contexts::PUSHED),
    option("config", "FILE", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Read options from another file at this place").also(Contexts::CLIENT),
    option("compat-mode", "X.Y.Z", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Lower defaults to those of an older release").since("2.6"),
];
