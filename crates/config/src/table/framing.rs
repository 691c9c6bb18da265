//! MTU and framing.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// MTU and framing.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("tun-mtu", "N [OCC]", (1, 2), Roles::ANY, Contexts::FILE, Tier::T1, "MTU of the tunnel device in bytes").also(Contexts::CONNECTION).also(Contexts::PUSHED),
    option("tun-mtu-max", "N", (1, 1), Roles::CLIENT, Contexts::FILE, Tier::T2, "Largest MTU to accept from the server, in bytes").also(Contexts::CONNECTION),
    option("tun-mtu-extra", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect; buffers are always large enough").also(Contexts::CONNECTION).dco(Dco::NoEffect).instead("remove it"),
    option("link-mtu", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect").also(Contexts::CONNECTION).dco(Dco::NoEffect).instead("use `tun-mtu`"),
    option("udp-mtu", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect").also(Contexts::CONNECTION).dco(Dco::NoEffect).instead("use `tun-mtu`"),
    option("max-packet-size", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Largest control packet, in bytes").also(Contexts::CONNECTION),
    option("mssfix", "[N [mtu|fixed]]", (0, 2), Roles::ANY, Contexts::FILE, Tier::T1, "Keep TCP segments inside the tunnel small enough for the outside path").also(Contexts::CONNECTION),
    option("fragment", "N [mtu]", (1, 2), Roles::ANY, Contexts::FILE, Tier::T3, "Send packets in pieces, each at most this long outside, in bytes; both sides must have it").also(Contexts::CONNECTION).dco(Dco::EngineOnly).instead("lower `mssfix` or `tun-mtu`"),
    option("mtu-dynamic", "[MIN [MAX]]", (0, 2), Roles::ANY, Contexts::FILE, Tier::T4, "Send packets in pieces").dco(Dco::Refused).instead("use `fragment`, or lower `mssfix`"),
    option("mtu-test", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect; the path MTU is not probed").dco(Dco::NoEffect).instead("remove it"),
    option("shaper", "BYTES_PER_S", (1, 1), Roles::CLIENT_PEER, Contexts::FILE, Tier::T3, "Limit what is sent, in bytes per second").also(Contexts::PUSHED).dco(Dco::NoEffect).instead("use `tc` on the tunnel device"),
    option("comp-lzo", "[yes|no|adaptive]", (0, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Speak LZO's framing: what comes compressed is expanded, nothing is compressed").also(Contexts::PUSHED).also(Contexts::CLIENT).dco(Dco::EngineOnly).instead("remove it on both sides (server: `compress migrate`)"),
    option("comp-noadapt", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect").also(Contexts::CLIENT).dco(Dco::NoEffect).instead("remove it"),
    option("compress", "[stub|stub-v2|lz4|lz4-v2|lzo|migrate]", (0, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Speak a compression framing: what comes compressed is expanded, nothing is compressed").also(Contexts::PUSHED).also(Contexts::CLIENT).dco(Dco::EngineOnly).instead("remove it on both sides (server: `compress migrate`)"),
    option("allow-compression", "no|asym|yes", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Whether compression framing is allowed at all"),
];
