//! The grammar of the kernel's selftest tool: words in, a command out. Pure.
//!
//! ```text
//!   ovpn-cli <command> <iface> [arguments…]
//! ```

use std::net::IpAddr;
use std::path::PathBuf;

use ovpn_dco::{CipherAlg, KeyId, KeySlot, Mode, PeerId, VpnAddrs};

/// A command, ready to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Makes a device.
    NewIface { iface: String, mode: Mode },
    /// Deletes a device.
    DelIface { iface: String },
    /// TCP server: one connection for each row of the peers file, in order.
    Listen { iface: String, port: u16, ids: Ids, peers: PathBuf, ipv6: bool },
    /// TCP client.
    Connect {
        iface: String,
        peer: PeerId,
        tx_id: Option<PeerId>,
        host: String,
        port: u16,
        key: Option<PathBuf>,
    },
    /// UDP peer.
    NewPeer {
        iface: String,
        peer: PeerId,
        tx_id: Option<PeerId>,
        local_port: u16,
        host: String,
        port: u16,
        vpn: VpnAddrs,
    },
    /// UDP peers of a file, on one socket.
    NewMultiPeer { iface: String, local_port: u16, ids: Ids, peers: PathBuf, mark: Option<u32> },
    /// Keepalive (seconds) and VPN address of a peer.
    SetPeer { iface: String, peer: PeerId, interval: u32, timeout: u32, vpn: VpnAddrs },
    /// Deletes a peer.
    DelPeer { iface: String, peer: PeerId },
    /// Prints one peer, or all.
    GetPeer { iface: String, peer: Option<PeerId> },
    /// Installs a key.
    NewKey {
        iface: String,
        peer: PeerId,
        slot: KeySlot,
        key_id: KeyId,
        cipher: CipherAlg,
        direction: Direction,
        key: PathBuf,
    },
    /// Empties a slot; without a slot the driver refuses, as the kernel's does.
    DelKey { iface: String, peer: PeerId, slot: Option<KeySlot> },
    /// Prints key id and cipher of a slot.
    GetKey { iface: String, peer: PeerId, slot: KeySlot },
    /// Exchanges the slots.
    SwapKeys { iface: String, peer: PeerId },
    /// Prints notifications until killed.
    ListenMcast { iface: Option<String>, json: bool },
}

/// Whether both sides use the same ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// The column tx_id of peers files is ignored.
    Symmetric,
    /// It is the id written into sent packets.
    Asymmetric,
}

/// Which half of a key file encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// 0: the first.
    Normal,
    /// 1: the second.
    Inverse,
}

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GrammarError {
    /// No command, or none of that name.
    #[error("{0}\n\n{usage}", usage = usage())]
    Usage(String),
    /// Too few or too many arguments.
    #[error("usage: ovpn-cli {0}")]
    Arguments(&'static str),
    /// An argument that is not what its place asks for.
    #[error("{place}: {given:?} is not {wanted}")]
    Value { place: &'static str, given: String, wanted: &'static str },
}

/// What the command line is like, for people.
pub(crate) fn usage() -> String {
    let mut text = String::from("usage: ovpn-cli <command> <iface> [arguments]\n\n");
    for row in GRAMMAR {
        text += &format!("  {}\n        {}\n", row.usage, row.help);
    }
    text + "\nOVPN_DRIVER=engine (default) or kernel says who carries the data."
}

/// Every command: its usage, and what it does.
pub(crate) fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    GRAMMAR.iter().map(|row| (row.usage, row.help))
}

/// One row of the grammar: name, usage, what it does, number of arguments after the name, and what they mean.
struct Row {
    name: &'static str,
    usage: &'static str,
    help: &'static str,
    arguments: std::ops::RangeInclusive<usize>,
    parse: fn(&Words<'_>) -> Result<Command, GrammarError>,
}

const GRAMMAR: &[Row] = &[
    Row {
        name: "new_iface",
        usage: "new_iface <iface> [P2P|MP]",
        help: "make a device; P2P where nothing else is said",
        arguments: 1..=2,
        parse: |w| Ok(Command::NewIface { iface: w.iface(0)?, mode: w.mode(1)? }),
    },
    Row {
        name: "del_iface",
        usage: "del_iface <iface>",
        help: "delete a device",
        arguments: 1..=1,
        parse: |w| Ok(Command::DelIface { iface: w.iface(0)? }),
    },
    Row {
        name: "listen",
        usage: "listen <iface> <lport> <SYMM|ASYMM> <peers_file> [ipv6]",
        help: "TCP server: one connection for each row of the file, in order; stays in the background",
        arguments: 4..=5,
        parse: |w| {
            Ok(Command::Listen {
                iface: w.iface(0)?,
                port: w.port(1)?,
                ids: w.ids(2)?,
                peers: w.path(3),
                ipv6: w.keyword(4, "ipv6")?,
            })
        },
    },
    Row {
        name: "connect",
        usage: "connect <iface> <peer_id> <tx_id|none> <raddr> <rport> [key_file]",
        help: "TCP client; with a key file also a key in slot 1; stays in the background",
        arguments: 5..=6,
        parse: |w| {
            Ok(Command::Connect {
                iface: w.iface(0)?,
                peer: w.peer(1)?,
                tx_id: w.tx_id(2)?,
                host: w.text(3),
                port: w.port(4)?,
                key: w.optional_path(5),
            })
        },
    },
    Row {
        name: "new_peer",
        usage: "new_peer <iface> <peer_id> <tx_id|none> <lport> <raddr> <rport> [vpnaddr]",
        help: "UDP peer on a socket of its own; stays in the background",
        arguments: 6..=7,
        parse: |w| {
            Ok(Command::NewPeer {
                iface: w.iface(0)?,
                peer: w.peer(1)?,
                tx_id: w.tx_id(2)?,
                local_port: w.port(3)?,
                host: w.text(4),
                port: w.port(5)?,
                vpn: w.vpn(6)?,
            })
        },
    },
    Row {
        name: "new_multi_peer",
        usage: "new_multi_peer <iface> <lport> <SYMM|ASYMM> <peers_file> [mark]",
        help: "UDP peers of a file on one socket; stays in the background",
        arguments: 4..=5,
        parse: |w| {
            Ok(Command::NewMultiPeer {
                iface: w.iface(0)?,
                local_port: w.port(1)?,
                ids: w.ids(2)?,
                peers: w.path(3),
                mark: w.optional(4, |i| w.number(i, "mark", u32::MAX))?,
            })
        },
    },
    Row {
        name: "set_peer",
        usage: "set_peer <iface> <peer_id> <interval> <timeout> [vpnaddr]",
        help: "keepalive in seconds (0 is off) and VPN address",
        arguments: 4..=5,
        parse: |w| {
            Ok(Command::SetPeer {
                iface: w.iface(0)?,
                peer: w.peer(1)?,
                interval: w.number(2, "keepalive interval", u32::MAX)?,
                timeout: w.number(3, "keepalive timeout", u32::MAX)?,
                vpn: w.vpn(4)?,
            })
        },
    },
    Row {
        name: "del_peer",
        usage: "del_peer <iface> <peer_id>",
        help: "delete a peer",
        arguments: 2..=2,
        parse: |w| Ok(Command::DelPeer { iface: w.iface(0)?, peer: w.peer(1)? }),
    },
    Row {
        name: "get_peer",
        usage: "get_peer <iface> [peer_id]",
        help: "print one peer, or all",
        arguments: 1..=2,
        parse: |w| Ok(Command::GetPeer { iface: w.iface(0)?, peer: w.optional(1, |i| w.peer(i))? }),
    },
    Row {
        name: "new_key",
        usage: "new_key <iface> <peer_id> <slot> <key_id> <cipher> <key_dir> <key_file>",
        help: "slot 1 is the primary, 2 the secondary; key_id 0 to 2; cipher aes, chachapoly or none; key_dir 0 or 1",
        arguments: 7..=7,
        parse: |w| {
            Ok(Command::NewKey {
                iface: w.iface(0)?,
                peer: w.peer(1)?,
                slot: w.slot(2)?,
                key_id: w.key_id(3)?,
                cipher: w.cipher(4)?,
                direction: w.direction(5)?,
                key: w.path(6),
            })
        },
    },
    Row {
        name: "del_key",
        usage: "del_key <iface> <peer_id> [slot]",
        help: "empty a slot",
        arguments: 2..=3,
        parse: |w| {
            let slot = w.optional(2, |i| w.slot(i))?;
            Ok(Command::DelKey { iface: w.iface(0)?, peer: w.peer(1)?, slot })
        },
    },
    Row {
        name: "get_key",
        usage: "get_key <iface> <peer_id> <slot>",
        help: "print key id and cipher of a slot",
        arguments: 3..=3,
        parse: |w| Ok(Command::GetKey { iface: w.iface(0)?, peer: w.peer(1)?, slot: w.slot(2)? }),
    },
    Row {
        name: "swap_keys",
        usage: "swap_keys <iface> <peer_id>",
        help: "exchange the slots",
        arguments: 2..=2,
        parse: |w| Ok(Command::SwapKeys { iface: w.iface(0)?, peer: w.peer(1)? }),
    },
    Row {
        name: "listen_mcast",
        usage: "listen_mcast [iface] [--json]",
        help: "print notifications until killed; with --json one object a line",
        arguments: 0..=2,
        parse: |w| {
            let json = w.0.iter().any(|word| word == "--json");
            let mut others = w.0.iter().filter(|word| *word != "--json");
            let iface = others.next().map(|name| iface_name(name)).transpose()?;
            if others.next().is_some() {
                return Err(GrammarError::Arguments("listen_mcast [iface] [--json]"));
            }
            Ok(Command::ListenMcast { iface, json })
        },
    },
];

/// Reads a command line (without the program's own name).
///
/// # Errors
/// See [`GrammarError`].
pub(crate) fn parse(words: &[String]) -> Result<Command, GrammarError> {
    let Some((name, arguments)) = words.split_first() else {
        return Err(GrammarError::Usage("a command is missing".into()));
    };
    let Some(row) = GRAMMAR.iter().find(|row| row.name == name) else {
        return Err(GrammarError::Usage(format!("{name:?} is no command")));
    };
    if !row.arguments.contains(&arguments.len()) {
        return Err(GrammarError::Arguments(row.usage));
    }
    (row.parse)(&Words(arguments))
}

/// A VPN address of either family.
pub(crate) fn vpn_address(text: &str) -> Result<VpnAddrs, GrammarError> {
    match text.parse() {
        Ok(IpAddr::V4(v4)) => Ok(VpnAddrs { v4: Some(v4), v6: None }),
        Ok(IpAddr::V6(v6)) => Ok(VpnAddrs { v4: None, v6: Some(v6) }),
        Err(_) => Err(wrong("VPN address", text, "an IP address")),
    }
}

/// A peer id.
pub(crate) fn peer_id(place: &'static str, text: &str) -> Result<PeerId, GrammarError> {
    text.parse().ok().and_then(PeerId::new).ok_or_else(|| wrong(place, text, "a number up to 16777214"))
}

fn wrong(place: &'static str, given: &str, wanted: &'static str) -> GrammarError {
    GrammarError::Value { place, given: given.into(), wanted }
}

fn iface_name(text: &str) -> Result<String, GrammarError> {
    let fits = (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    if fits { Ok(text.into()) } else { Err(wrong("iface", text, "an interface name (1 to 15 characters)")) }
}

/// The arguments after the command's name. Places that a row's count does not promise read as empty.
struct Words<'a>(&'a [String]);

impl Words<'_> {
    fn get(&self, i: usize) -> &str {
        self.0.get(i).map_or("", String::as_str)
    }

    fn text(&self, i: usize) -> String {
        self.get(i).into()
    }

    fn path(&self, i: usize) -> PathBuf {
        PathBuf::from(self.get(i))
    }

    fn optional_path(&self, i: usize) -> Option<PathBuf> {
        self.0.get(i).map(PathBuf::from)
    }

    fn optional<T>(
        &self,
        i: usize,
        read: impl FnOnce(usize) -> Result<T, GrammarError>,
    ) -> Result<Option<T>, GrammarError> {
        if i < self.0.len() { read(i).map(Some) } else { Ok(None) }
    }

    fn iface(&self, i: usize) -> Result<String, GrammarError> {
        iface_name(self.get(i))
    }

    fn number(&self, i: usize, place: &'static str, max: u32) -> Result<u32, GrammarError> {
        let text = self.get(i);
        text.parse().ok().filter(|n| *n <= max).ok_or_else(|| wrong(place, text, "a number in range"))
    }

    fn port(&self, i: usize) -> Result<u16, GrammarError> {
        let text = self.get(i);
        text.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("port", text, "a port number"))
    }

    fn peer(&self, i: usize) -> Result<PeerId, GrammarError> {
        peer_id("peer_id", self.get(i))
    }

    fn tx_id(&self, i: usize) -> Result<Option<PeerId>, GrammarError> {
        if self.get(i) == "none" { Ok(None) } else { peer_id("tx_id", self.get(i)).map(Some) }
    }

    fn vpn(&self, i: usize) -> Result<VpnAddrs, GrammarError> {
        Ok(self.optional(i, |i| vpn_address(self.get(i)))?.unwrap_or_default())
    }

    fn one_of<T: Copy>(
        &self,
        i: usize,
        place: &'static str,
        wanted: &'static str,
        choices: &[(&str, T)],
    ) -> Result<T, GrammarError> {
        let text = self.get(i);
        let choice = choices.iter().find(|(name, _)| *name == text);
        choice.map(|(_, value)| *value).ok_or_else(|| wrong(place, text, wanted))
    }

    fn mode(&self, i: usize) -> Result<Mode, GrammarError> {
        let choices = [("P2P", Mode::P2p), ("MP", Mode::MultiPeer)];
        Ok(self.optional(i, |i| self.one_of(i, "mode", "P2P or MP", &choices))?.unwrap_or(Mode::P2p))
    }

    fn ids(&self, i: usize) -> Result<Ids, GrammarError> {
        self.one_of(i, "ids", "SYMM or ASYMM", &[("SYMM", Ids::Symmetric), ("ASYMM", Ids::Asymmetric)])
    }

    fn slot(&self, i: usize) -> Result<KeySlot, GrammarError> {
        let choices = [("1", KeySlot::Primary), ("2", KeySlot::Secondary)];
        self.one_of(i, "slot", "1 (primary) or 2 (secondary)", &choices)
    }

    fn key_id(&self, i: usize) -> Result<KeyId, GrammarError> {
        let id = self.get(i).parse().ok().filter(|id| *id <= 2).and_then(KeyId::new);
        id.ok_or_else(|| wrong("key_id", self.get(i), "a number from 0 to 2"))
    }

    fn cipher(&self, i: usize) -> Result<CipherAlg, GrammarError> {
        let choices = [
            ("aes", CipherAlg::AesGcm),
            ("chachapoly", CipherAlg::ChaCha20Poly1305),
            ("none", CipherAlg::None),
        ];
        self.one_of(i, "cipher", "aes, chachapoly or none", &choices)
    }

    fn direction(&self, i: usize) -> Result<Direction, GrammarError> {
        self.one_of(i, "key_dir", "0 or 1", &[("0", Direction::Normal), ("1", Direction::Inverse)])
    }

    fn keyword(&self, i: usize, word: &'static str) -> Result<bool, GrammarError> {
        match self.0.get(i) {
            None => Ok(false),
            Some(given) if given == word => Ok(true),
            Some(given) => Err(wrong("last argument", given, word)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Command, GrammarError> {
        parse(&text.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    fn id(n: u32) -> PeerId {
        PeerId::new(n).unwrap()
    }

    #[test]
    fn every_command_of_the_table() {
        let tun0 = || "tun0".to_owned();
        let v4 = |text: &str| VpnAddrs { v4: Some(text.parse().unwrap()), v6: None };
        let cases = [
            ("new_iface tun0", Command::NewIface { iface: tun0(), mode: Mode::P2p }),
            ("new_iface tun0 P2P", Command::NewIface { iface: tun0(), mode: Mode::P2p }),
            ("new_iface tun0 MP", Command::NewIface { iface: tun0(), mode: Mode::MultiPeer }),
            ("del_iface tun0", Command::DelIface { iface: tun0() }),
            (
                "listen tun0 1 ASYMM f ipv6",
                Command::Listen {
                    iface: tun0(),
                    port: 1,
                    ids: Ids::Asymmetric,
                    peers: "f".into(),
                    ipv6: true,
                },
            ),
            (
                "listen tun0 1 SYMM f",
                Command::Listen {
                    iface: tun0(),
                    port: 1,
                    ids: Ids::Symmetric,
                    peers: "f".into(),
                    ipv6: false,
                },
            ),
            (
                "connect tun0 10 1 10.10.1.1 1 k",
                Command::Connect {
                    iface: tun0(),
                    peer: id(10),
                    tx_id: Some(id(1)),
                    host: "10.10.1.1".into(),
                    port: 1,
                    key: Some("k".into()),
                },
            ),
            (
                "new_peer tun0 7 none 65000 10.10.1.2 1 5.5.5.2",
                Command::NewPeer {
                    iface: tun0(),
                    peer: id(7),
                    tx_id: None,
                    local_port: 65000,
                    host: "10.10.1.2".into(),
                    port: 1,
                    vpn: v4("5.5.5.2"),
                },
            ),
            (
                "new_multi_peer tun0 1 ASYMM f 1056",
                Command::NewMultiPeer {
                    iface: tun0(),
                    local_port: 1,
                    ids: Ids::Asymmetric,
                    peers: "f".into(),
                    mark: Some(1056),
                },
            ),
            (
                "set_peer tun0 1 60 120 2001:db8::2",
                Command::SetPeer {
                    iface: tun0(),
                    peer: id(1),
                    interval: 60,
                    timeout: 120,
                    vpn: VpnAddrs { v4: None, v6: Some("2001:db8::2".parse().unwrap()) },
                },
            ),
            ("del_peer tun0 1", Command::DelPeer { iface: tun0(), peer: id(1) }),
            ("get_peer tun0", Command::GetPeer { iface: tun0(), peer: None }),
            ("get_peer tun0 1", Command::GetPeer { iface: tun0(), peer: Some(id(1)) }),
            (
                "new_key tun0 1 2 1 chachapoly 1 k",
                Command::NewKey {
                    iface: tun0(),
                    peer: id(1),
                    slot: KeySlot::Secondary,
                    key_id: KeyId::new(1).unwrap(),
                    cipher: CipherAlg::ChaCha20Poly1305,
                    direction: Direction::Inverse,
                    key: "k".into(),
                },
            ),
            (
                "del_key tun0 1 1",
                Command::DelKey { iface: tun0(), peer: id(1), slot: Some(KeySlot::Primary) },
            ),
            ("del_key tun0 1", Command::DelKey { iface: tun0(), peer: id(1), slot: None }),
            ("get_key tun0 1 2", Command::GetKey { iface: tun0(), peer: id(1), slot: KeySlot::Secondary }),
            ("swap_keys tun0 1", Command::SwapKeys { iface: tun0(), peer: id(1) }),
            ("listen_mcast", Command::ListenMcast { iface: None, json: false }),
            ("listen_mcast --json", Command::ListenMcast { iface: None, json: true }),
            ("listen_mcast tun0 --json", Command::ListenMcast { iface: Some(tun0()), json: true }),
        ];
        for (text, command) in cases {
            assert_eq!(line(text), Ok(command), "{text}");
        }
        assert_eq!(GRAMMAR.len(), 14);
        assert!(GRAMMAR.iter().all(|row| usage().contains(row.usage)), "the usage text names every row");
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for text in [
            "",
            "fly tun0",
            "new_iface",
            "new_iface tun0 XP",
            "new_iface averyveryverylongname",
            "new_iface a/b",
            "del_peer tun0 16777215",
            "del_peer tun0 -1",
            "new_peer tun0 7 none 0 10.10.1.2 1",
            "new_peer tun0 7 none 65536 10.10.1.2 1",
            "new_peer tun0 7 none 1 10.10.1.2 1 nowhere",
            "listen tun0 1 BOTH f",
            "listen tun0 1 SYMM f ipv4",
            "new_key tun0 1 0 0 aes 0 k",
            "new_key tun0 1 3 0 aes 0 k",
            "new_key tun0 1 1 3 aes 0 k",
            "new_key tun0 1 1 0 des 0 k",
            "new_key tun0 1 1 0 aes 2 k",
            "listen_mcast tun0 tun1",
        ] {
            let error = line(text).unwrap_err().to_string();
            assert!(!error.is_empty(), "{text}");
        }
    }
}
