//! Data channel.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// Data channel.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("data-ciphers", "LIST", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Ciphers of the data channel, most wanted first").also(Contexts::CLIENT).since("2.5"),
    option("ncp-ciphers", "LIST", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Old name of `data-ciphers`").also(Contexts::CLIENT).since("2.4").instead("use `data-ciphers`"),
    option("data-ciphers-fallback", "CIPHER", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Cipher for peers that cannot negotiate").also(Contexts::CLIENT).since("2.5"),
    option("cipher", "CIPHER", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Cipher of old peers; negotiation decides otherwise").also(Contexts::PUSHED).also(Contexts::CLIENT),
    option("ncp-disable", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect; ciphers are always negotiated").dco(Dco::NoEffect).since("2.4").removed("2.6").instead("use `data-ciphers`"),
    option("key-derivation", "tls-ekm", (1, 1), Roles::CLIENT, Contexts::FILE, Tier::T1, "Where data keys come from (pushed)").also(Contexts::PUSHED).since("2.6"),
    option("protocol-flags", "FLAG...", (1, 15), Roles::CLIENT, Contexts::FILE, Tier::T1, "What both ends can do (pushed)").also(Contexts::PUSHED).since("2.6"),
    option("force-tls-key-material-export", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T3, "Refuse clients that cannot use the TLS exporter").since("2.6"),
    option("peer-id", "N", (1, 1), Roles::CLIENT, Contexts::FILE, Tier::T1, "Number of this client in data packets (pushed)").also(Contexts::PUSHED).since("2.4"),
    option("keysize", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect; ciphers have one key size").dco(Dco::NoEffect).removed("2.6").instead("remove it"),
    option("no-replay", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect; replay protection is always on").dco(Dco::NoEffect).removed("2.7").instead("remove it"),
    option("no-iv", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect; packets always carry their number").dco(Dco::NoEffect).removed("2.5").instead("remove it"),
    option("replay-window", "[N [T]]", (0, 2), Roles::ANY, Contexts::FILE, Tier::T2, "Packets, and seconds, by which control packets may come late").dco(Dco::NoEffect),
    option("mute-replay-warnings", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T3, "Do not log every replayed packet").dco(Dco::NoEffect),
    option("replay-persist", "FILE", (1, 1), Roles::ANY, Contexts::FILE, Tier::T4, "File that remembers packet numbers of tls-auth").dco(Dco::NoEffect).instead("use `tls-crypt` or `tls-crypt-v2`, whose first packets cannot be replayed"),
    option("prng", "[ARG]...", (0, 2), Roles::ANY, Contexts::FILE, Tier::T4, "Has no effect").dco(Dco::NoEffect).instead("remove it"),
    option("secret", "FILE [DIRECTION]", (1, 2), Roles::PEER, Contexts::FILE, Tier::T4, "Static key instead of TLS").inline().dco(Dco::Refused).instead("use TLS with `peer-fingerprint`"),
    option("allow-deprecated-insecure-static-crypto", "", (0, 0), Roles::PEER, Contexts::FILE, Tier::T4, "Allow a static key").dco(Dco::Refused).instead("use TLS with `peer-fingerprint`"),
    option("test-crypto", "", (0, 0), Roles::NONE, Contexts::FILE, Tier::T4, "Stock's self test of ciphers").dco(Dco::Refused).instead("remove it"),
    option("disable-occ", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T3, "Do not compare options with the peer; they never are"),
    option("opt-verify", "", (0, 0), Roles::SERVER, Contexts::FILE, Tier::T4, "Refuse clients with other options").dco(Dco::NoEffect).instead("remove it; options are negotiated"),
];
