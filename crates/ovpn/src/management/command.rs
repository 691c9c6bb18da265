//! Commands of the management interface, parsed from the words of one line.

use super::{Block, DaemonMode};

/// What a program may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Version(Option<u32>),
    Exit,
    Pid,
    State(Subscribe),
    Log(Subscribe),
    Echo(Subscribe),
    Bytecount(u32),
    Hold(Option<Hold>),
    Signal(String),
    Username {
        kind: String,
        value: String,
    },
    Password {
        kind: String,
        value: String,
    },
    ForgetPasswords,
    Status(u32),
    AuthRetry(Option<String>),
    Verb(Option<u32>),
    Mute(Option<u32>),
    LoadStats,
    NClients,
    Kill(String),
    /// With the option lines that followed.
    ClientAuth {
        cid: u64,
        kid: u64,
        options: Vec<String>,
    },
    ClientAuthNt {
        cid: u64,
        kid: u64,
    },
    ClientDeny {
        cid: u64,
        kid: u64,
        reason: String,
        client_reason: Option<String>,
    },
    ClientPendingAuth {
        cid: u64,
        kid: u64,
        extra: String,
        timeout: u32,
    },
    ClientKill {
        cid: u64,
        message: Option<String>,
    },
    EnvFilter(u32),
    /// To one client, or to all.
    PushUpdate {
        cid: Option<u64>,
        options: String,
    },
    CrResponse(String),
    Remote(RemoteChoice),
    Proxy(ProxyChoice),
    RemoteEntryCount,
    RemoteEntryGet {
        from: Option<usize>,
        to: Option<usize>,
    },
    NeedOk {
        name: String,
        confirmed: bool,
    },
    NeedStr {
        name: String,
        value: String,
    },
    /// The answer to a question that takes several lines: `pk-sig`, `rsa-sig`, `certificate`, and its lines.
    Block {
        name: &'static str,
        block: Block,
        lines: Vec<String>,
    },
    Test(u32),
}

/// `on`, `off`, `all`, a number, or `on all`: subscribe to a kind of line, and show its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscribe {
    /// Turn real-time lines on or off.
    pub(crate) realtime: Option<bool>,
    /// How many old lines to show.
    pub(crate) show: Option<usize>,
}

/// What to do with the hold flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    On,
    Off,
    Release,
}

/// The answer to `>REMOTE:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemoteChoice {
    Accept,
    Skip(u32),
    Replace { host: String, port: String },
}

/// The answer to `>PROXY:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProxyChoice {
    /// As configured.
    Configured,
    Http {
        host: String,
        port: u16,
        clear_text: bool,
    },
    Socks {
        host: String,
        port: u16,
    },
}

/// Why a line is no command; the text goes to the program after `ERROR: `.
pub(crate) type ParseError = String;

/// Which daemons know a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    All,
    Client,
    Server,
}

/// Name, who knows it, fewest parameters, line of help.
const TABLE: &[(&str, Who, usize, &str)] = &[
    (
        "auth-retry",
        Who::All,
        0,
        "auth-retry [t]         : what to do after a failed login (none, nointeract, interact)",
    ),
    (
        "certificate",
        Who::All,
        0,
        "certificate            : the certificate asked for; PEM lines follow, then END",
    ),
    ("bytecount", Who::All, 1, "bytecount n            : print bytes in and out every n seconds (0: never)"),
    (
        "client-auth",
        Who::Server,
        2,
        "client-auth CID KID    : accept a client; option lines follow, then END",
    ),
    ("client-auth-nt", Who::Server, 2, "client-auth-nt CID KID : accept a client without option lines"),
    (
        "client-deny",
        Who::Server,
        3,
        "client-deny CID KID R [CR] : refuse a client, R for the log, CR for the client",
    ),
    (
        "client-kill",
        Who::Server,
        1,
        "client-kill CID [M]    : end a client's connection, telling it M (RESTART)",
    ),
    (
        "client-pending-auth",
        Who::Server,
        4,
        "client-pending-auth CID KID MSG TIMEOUT : the login goes on out of band",
    ),
    ("cr-response", Who::Client, 1, "cr-response R          : answer to a challenge, base64"),
    ("echo", Who::All, 1, "echo [on|off] [N|all]  : like log, for echo lines"),
    ("env-filter", Who::Server, 0, "env-filter [level]     : leave out some of a client's environment"),
    ("exit", Who::All, 0, "exit|quit              : close this connection"),
    ("forget-passwords", Who::All, 0, "forget-passwords       : forget the passwords entered so far"),
    ("help", Who::All, 0, "help                   : print this list"),
    ("hold", Who::All, 0, "hold [on|off|release]  : show, set or leave the hold"),
    ("kill", Who::Server, 1, "kill CN | kill IP:PORT : end the clients of that name or address"),
    ("load-stats", Who::All, 0, "load-stats             : number of clients and bytes in and out"),
    ("log", Who::All, 1, "log [on|off] [N|all]   : log lines in real time, and the last N"),
    ("mute", Who::All, 0, "mute [n]               : show or set the log mute level"),
    ("nclients", Who::Server, 0, "nclients               : number of connected clients"),
    ("needok", Who::All, 2, "needok NAME ok|cancel  : answer to a NEED-OK question"),
    ("needstr", Who::All, 2, "needstr NAME STRING    : answer to a NEED-STR question"),
    ("password", Who::All, 2, "password TYPE P        : enter a password"),
    (
        "pk-sig",
        Who::All,
        0,
        "pk-sig                 : the signature asked for; base64 lines follow, then END",
    ),
    ("pid", Who::All, 0, "pid                    : the daemon's process id"),
    ("proxy", Who::Client, 1, "proxy NONE|HTTP HOST PORT [nct]|SOCKS HOST PORT : answer to a PROXY question"),
    (
        "push-update-broad",
        Who::Server,
        1,
        "push-update-broad O    : change options O (comma separated) of all clients",
    ),
    ("push-update-cid", Who::Server, 2, "push-update-cid CID O  : change options O of one client"),
    ("quit", Who::All, 0, ""),
    ("remote", Who::Client, 1, "remote ACCEPT|SKIP|MOD HOST PORT : answer to a REMOTE question"),
    ("remote-entry-count", Who::Client, 0, "remote-entry-count     : number of remote entries"),
    ("remote-entry-get", Who::Client, 1, "remote-entry-get i [j]|all : show remote entries"),
    ("rsa-sig", Who::All, 0, "rsa-sig                : the same, of old"),
    ("signal", Who::All, 1, "signal S               : SIGHUP, SIGTERM, SIGUSR1 or SIGUSR2"),
    ("state", Who::All, 0, "state [on|off] [N|all] : like log, for states of the tunnel"),
    ("status", Who::All, 0, "status [n]             : status in format n (1, 2 or 3)"),
    ("test", Who::All, 1, "test n                 : print n lines"),
    ("username", Who::All, 2, "username TYPE U        : enter a user name"),
    ("verb", Who::All, 0, "verb [n]               : show or set the log verbosity"),
    (
        "version",
        Who::All,
        0,
        "version [n]            : show versions; n tells the version the program speaks",
    ),
];

/// The text of `help`, without the final END.
pub(crate) fn help() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.3).filter(|line| !line.is_empty())
}

impl Command {
    /// Parses the words of one line, for a daemon in `mode`.
    ///
    /// # Errors
    /// The text that stock prints after `ERROR: `.
    pub(crate) fn parse(words: &[String], mode: DaemonMode) -> Result<Self, ParseError> {
        let unknown = || "unknown command, enter 'help' for more options".to_owned();
        let (name, args) = words.split_first().ok_or_else(unknown)?;
        let (name, who, needed, _) = TABLE.iter().find(|row| row.0 == name).copied().ok_or_else(unknown)?;
        let elsewhere = match who {
            Who::All => false,
            Who::Client => mode == DaemonMode::Server,
            Who::Server => mode == DaemonMode::Client,
        };
        if elsewhere {
            return Err(format!("The '{name}' command is not supported by the current daemon mode"));
        }
        if args.len() < needed {
            let s = if needed == 1 { "" } else { "s" };
            return Err(format!("the '{name}' command requires at least {needed} parameter{s}"));
        }
        let arg = |n: usize| args.get(n).map(String::as_str);
        let text = |n: usize| args.get(n).cloned().unwrap_or_default();
        Ok(match name {
            "help" => Self::Help,
            "version" => Self::Version(arg(0).and_then(|n| n.parse().ok())),
            "exit" | "quit" => Self::Exit,
            "pid" => Self::Pid,
            "state" => Self::State(Subscribe::parse(name, args)?),
            "log" => Self::Log(Subscribe::parse(name, args)?),
            "echo" => Self::Echo(Subscribe::parse(name, args)?),
            "bytecount" => Self::Bytecount(number(name, &text(0))?),
            "hold" => Self::Hold(match arg(0) {
                None => None,
                Some("on") => Some(Hold::On),
                Some("off") => Some(Hold::Off),
                Some("release") => Some(Hold::Release),
                Some(_) => return Err("bad hold command parameter".into()),
            }),
            "signal" => Self::Signal(text(0)),
            "username" => Self::Username { kind: text(0), value: text(1) },
            "password" => Self::Password { kind: text(0), value: text(1) },
            "forget-passwords" => Self::ForgetPasswords,
            "status" => Self::Status(arg(0).and_then(|n| n.parse().ok()).unwrap_or(1)),
            "auth-retry" => Self::AuthRetry(arg(0).map(str::to_owned)),
            "verb" => Self::Verb(optional(name, arg(0))?),
            "mute" => Self::Mute(optional(name, arg(0))?),
            "load-stats" => Self::LoadStats,
            "nclients" => Self::NClients,
            "kill" => Self::Kill(text(0)),
            "client-auth" => {
                Self::ClientAuth { cid: id(name, arg(0))?, kid: id(name, arg(1))?, options: Vec::new() }
            }
            "client-auth-nt" => Self::ClientAuthNt { cid: id(name, arg(0))?, kid: id(name, arg(1))? },
            "client-deny" => Self::ClientDeny {
                cid: id(name, arg(0))?,
                kid: id(name, arg(1))?,
                reason: text(2),
                client_reason: arg(3).map(str::to_owned),
            },
            "client-pending-auth" => Self::ClientPendingAuth {
                cid: id(name, arg(0))?,
                kid: id(name, arg(1))?,
                extra: text(2),
                timeout: number(name, &text(3))?,
            },
            "client-kill" => Self::ClientKill { cid: id(name, arg(0))?, message: arg(1).map(str::to_owned) },
            "env-filter" => Self::EnvFilter(optional(name, arg(0))?.unwrap_or(0)),
            "push-update-broad" => Self::PushUpdate { cid: None, options: text(0) },
            "push-update-cid" => Self::PushUpdate { cid: Some(id(name, arg(0))?), options: text(1) },
            "cr-response" => Self::CrResponse(text(0)),
            "remote" => Self::Remote(match arg(0) {
                Some("ACCEPT") => RemoteChoice::Accept,
                Some("SKIP") => RemoteChoice::Skip(optional(name, arg(1))?.unwrap_or(1)),
                Some("MOD") if args.len() >= 3 => RemoteChoice::Replace { host: text(1), port: text(2) },
                _ => return Err("remote command failed".into()),
            }),
            "proxy" => Self::Proxy(match (arg(0), arg(1), arg(2)) {
                (Some("NONE"), ..) => ProxyChoice::Configured,
                (Some("HTTP"), Some(host), Some(port)) => ProxyChoice::Http {
                    host: host.to_owned(),
                    port: number(name, port)?,
                    clear_text: arg(3) != Some("nct"),
                },
                (Some("SOCKS"), Some(host), Some(port)) => {
                    ProxyChoice::Socks { host: host.to_owned(), port: number(name, port)? }
                }
                _ => return Err("proxy command failed".into()),
            }),
            "remote-entry-count" => Self::RemoteEntryCount,
            "remote-entry-get" => match arg(0) {
                Some("all") => Self::RemoteEntryGet { from: None, to: None },
                first => {
                    let from: u32 = optional(name, first)?.unwrap_or(0);
                    let to = optional(name, arg(1))?.unwrap_or(from.saturating_add(1));
                    Self::RemoteEntryGet { from: Some(from as usize), to: Some(to as usize) }
                }
            },
            "needok" => Self::NeedOk { name: text(0), confirmed: arg(1) == Some("ok") },
            "needstr" => Self::NeedStr { name: text(0), value: text(1) },
            "pk-sig" | "rsa-sig" => Self::Block { name, block: Block::Signature, lines: Vec::new() },
            "certificate" => Self::Block { name, block: Block::Certificate, lines: Vec::new() },
            "test" => Self::Test(number::<u32>(name, &text(0))?.min(1000)),
            _ => return Err(unknown()),
        })
    }
}

impl Subscribe {
    fn parse(name: &str, args: &[String]) -> Result<Self, ParseError> {
        let mut subscribe = Self { realtime: None, show: None };
        for arg in args {
            match arg.as_str() {
                "on" => subscribe.realtime = Some(true),
                "off" => subscribe.realtime = Some(false),
                "all" => subscribe.show = Some(usize::MAX),
                n => match n.parse() {
                    Ok(n) => subscribe.show = Some(n),
                    Err(_) => {
                        return Err(format!(
                            "{name} parameter must be 'on' or 'off' or some number n or 'all'"
                        ));
                    }
                },
            }
        }
        if args.is_empty() {
            subscribe.show = Some(1);
        }
        Ok(subscribe)
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, ParseError> {
    text.parse().map_err(|_| format!("the '{name}' command needs a number, not '{text}'"))
}

fn optional<T: std::str::FromStr>(name: &str, text: Option<&str>) -> Result<Option<T>, ParseError> {
    text.map(|text| number(name, text)).transpose()
}

fn id(name: &str, text: Option<&str>) -> Result<u64, ParseError> {
    let text = text.unwrap_or_default();
    text.parse().map_err(|_| format!("cannot parse the client or key id '{text}' of {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, mode: DaemonMode) -> Result<Command, ParseError> {
        Command::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), mode)
    }

    #[test]
    fn commands_of_the_other_mode_are_refused_as_stock_refuses_them() {
        assert_eq!(
            parse("remote-entry-count", DaemonMode::Server),
            Err("The 'remote-entry-count' command is not supported by the current daemon mode".into())
        );
        assert!(parse("client-kill 1", DaemonMode::Client).is_err());
    }

    #[test]
    fn subscriptions() {
        let both = Subscribe { realtime: Some(true), show: Some(usize::MAX) };
        assert_eq!(parse("state on all", DaemonMode::Client), Ok(Command::State(both)));
        let last = Subscribe { realtime: None, show: Some(1) };
        assert_eq!(parse("state", DaemonMode::Client), Ok(Command::State(last)));
        assert!(parse("log maybe", DaemonMode::Client).is_err());
        assert!(parse("log", DaemonMode::Client).is_err());
    }

    #[test]
    fn every_command_of_the_table_is_parsed() {
        for (name, who, needed, _) in TABLE {
            let mode = if *who == Who::Server { DaemonMode::Server } else { DaemonMode::Client };
            let filler = match *name {
                "remote" => "ACCEPT",
                "proxy" => "NONE",
                _ => "1",
            };
            let words: Vec<String> = std::iter::once(*name)
                .chain(std::iter::repeat_n(filler, *needed))
                .map(str::to_owned)
                .collect();
            let parsed = Command::parse(&words, mode);
            assert!(parsed.is_ok(), "{words:?}: {parsed:?}");
        }
    }
}
