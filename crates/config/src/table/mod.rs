//! The one table of options: it drives parsing, `check`, help, completions, the manual page and the compatibility table.
//!
//! ```text
//! name · arguments · how many · who · where · tier · one line of help  [+ inline, list, DCO effect, since, removed, instead]
//! ```

mod auth;
mod data;
mod device;
mod dns;
mod framing;
mod management;
mod mode;
mod process;
mod scripts;
mod server;
mod standalone;
mod timers;
mod tls;
mod transport;

/// How far an option works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Works; nearly every tunnel needs it.
    T1,
    /// Works.
    T2,
    /// Works, or is refused by name.
    T3,
    /// Obsolete, foreign or impossible: a message names the replacement.
    T4,
}

/// What an option means for an offloaded data channel here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dco {
    /// Works on every data plane.
    Works,
    /// Accepted, changes nothing.
    NoEffect,
    /// Works on the userspace data plane only.
    EngineOnly,
    /// Refused with a sentence that names the replacement.
    Refused,
}

/// Who can use an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// A client that takes options from its server.
    pub const CLIENT: Self = Self(1);
    /// A server of many clients.
    pub const SERVER: Self = Self(2);
    /// One of two peers.
    pub const PEER: Self = Self(4);
    /// Client or peer.
    pub const CLIENT_PEER: Self = Self(5);
    /// Server or peer.
    pub const SERVER_PEER: Self = Self(6);
    /// Everyone.
    pub const ANY: Self = Self(7);
    /// No tunnel: the option prints or makes something.
    pub const NONE: Self = Self(0);

    /// Whether all of `other` are in here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Letters for tables: C, S, P.
    #[must_use]
    pub fn letters(self) -> String {
        if self == Self::NONE {
            return "–".to_owned();
        }
        [(Self::CLIENT, 'C'), (Self::SERVER, 'S'), (Self::PEER, 'P')]
            .iter()
            .filter(|(r, _)| self.contains(*r))
            .map(|(_, c)| *c)
            .collect()
    }
}

/// Where an option may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts(u8);

impl Contexts {
    /// A file or the command line.
    pub const FILE: Self = Self(1);
    /// Only the command line.
    pub const CMDLINE: Self = Self(2);
    /// Inside `<connection>`.
    pub const CONNECTION: Self = Self(4);
    /// Pushed by a server.
    pub const PUSHED: Self = Self(8);
    /// In the options of one client of a server: ccd file, client-connect script, management.
    pub const CLIENT: Self = Self(16);

    /// Whether all of `other` are in here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// Name, without dashes.
    pub name: &'static str,
    /// Syntax of its arguments, for people; empty: none.
    pub args: &'static str,
    /// Fewest and most arguments.
    pub arity: (u8, u8),
    /// Who can use it.
    pub roles: Roles,
    /// Where it may stand.
    pub contexts: Contexts,
    /// May be written as an inline block.
    pub inline: bool,
    /// Further occurrences add; otherwise the last one wins.
    pub list: bool,
    /// How far it works.
    pub tier: Tier,
    /// What it means for an offloaded data channel.
    pub dco: Dco,
    /// Release of stock that brought it, empty if old.
    pub since: &'static str,
    /// Release of stock that removed it, empty if it is still there.
    pub removed: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// What to do instead, for options that are obsolete or refused; empty otherwise.
    pub instead: &'static str,
}

const fn option(
    name: &'static str,
    args: &'static str,
    arity: (u8, u8),
    roles: Roles,
    contexts: Contexts,
    tier: Tier,
    help: &'static str,
) -> OptionSpec {
    OptionSpec {
        name,
        args,
        arity,
        roles,
        contexts,
        inline: false,
        list: false,
        tier,
        dco: Dco::Works,
        since: "",
        removed: "",
        help,
        instead: "",
    }
}

impl OptionSpec {
    const fn also(mut self, contexts: Contexts) -> Self {
        self.contexts = Contexts(self.contexts.0 | contexts.0);
        self
    }

    const fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    const fn list(mut self) -> Self {
        self.list = true;
        self
    }

    const fn dco(mut self, dco: Dco) -> Self {
        self.dco = dco;
        self
    }

    const fn since(mut self, release: &'static str) -> Self {
        self.since = release;
        self
    }

    const fn removed(mut self, release: &'static str) -> Self {
        self.removed = release;
        self
    }

    const fn instead(mut self, text: &'static str) -> Self {
        self.instead = text;
        self
    }

    /// `name ARGS`, as help shows it.
    #[must_use]
    pub fn synopsis(&self) -> String {
        if self.args.is_empty() { self.name.to_owned() } else { format!("{} {}", self.name, self.args) }
    }
}

/// The groups of the table, in the order of the manual: title and rows.
pub const GROUPS: &[(&str, &[OptionSpec])] = &[
    ("Mode and role", mode::OPTIONS),
    ("Remote, local, transport", transport::OPTIONS),
    ("Device, addresses, routes", device::OPTIONS),
    ("DNS", dns::OPTIONS),
    ("MTU and framing", framing::OPTIONS),
    ("Timers and keepalive", timers::OPTIONS),
    ("TLS and certificates", tls::OPTIONS),
    ("Data channel", data::OPTIONS),
    ("Authentication", auth::OPTIONS),
    ("Server", server::OPTIONS),
    ("Scripts, plugins, environment", scripts::OPTIONS),
    ("Process, logging, privileges", process::OPTIONS),
    ("Management interface", management::OPTIONS),
    ("Options that print something and exit", standalone::OPTIONS),
];

/// Every option, in the order of the manual.
pub fn all() -> impl Iterator<Item = &'static OptionSpec> {
    GROUPS.iter().flat_map(|(_, rows)| rows.iter())
}

/// The row of a name (without dashes).
#[must_use]
pub fn lookup(name: &str) -> Option<&'static OptionSpec> {
    all().find(|row| row.name == name)
}

/// The name most like `name`, if one is near enough to be a slip of the fingers.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, all().map(|row| row.name))
}

/// The one of `known` most like `name`, if one is near enough to be a slip of the fingers. Dashes before a name do not
/// count.
#[must_use]
pub fn nearest_of<'a>(name: &str, mut known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bare = |name: &'a str| name.trim_start_matches('-');
    let name: String = name
        .trim_start_matches('-')
        .chars()
        .take(64)
        .map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() })
        .collect();
    let limit = match name.chars().count() {
        0..=2 => return known.find(|known| bare(known) == name),
        3..=5 => 1,
        6..=9 => 2,
        _ => 3,
    };
    known
        .map(|known| (distance(&name, bare(known)), known))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Edit distance with swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_stands_once() {
        let names: Vec<_> = all().map(|row| row.name).collect();
        let set: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), set.len());
        assert!(names.len() >= 323, "{} names", names.len());
    }

    #[test]
    fn rows_are_well_formed() {
        for row in all() {
            assert!(row.arity.0 <= row.arity.1, "{}", row.name);
            assert!(!row.help.is_empty() && !row.help.ends_with('.'), "{}", row.name);
            assert_eq!(row.arity.1 == 0, row.args.is_empty() && row.name != "connection", "{}", row.name);
            if row.dco == Dco::Refused && row.roles != Roles::NONE {
                assert!(!row.instead.is_empty(), "{} is refused without a replacement", row.name);
            }
            if !row.removed.is_empty() {
                assert!(!row.instead.is_empty(), "{} was removed without a replacement", row.name);
            }
        }
    }

    #[test]
    fn slips_are_recognised() {
        assert_eq!(nearest("setenv_safe"), Some("setenv-safe"));
        assert_eq!(nearest("cypher"), Some("cipher"));
        assert_eq!(nearest("remtoe"), Some("remote"));
        assert_eq!(nearest("keepalvie"), Some("keepalive"));
        assert_eq!(nearest("frobnicate"), None);
        assert_eq!(nearest("xq"), None);
    }
}
