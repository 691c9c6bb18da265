//! The command line: subcommands of ours, or options as stock OpenVPN takes them.
//!
//! ```text
//!   ovpn client FILE [--option …]      ovpn server FILE …      ovpn p2p FILE …
//!   ovpn --config FILE [--option …]    ovpn FILE
//! ```

use ovpn_config::manual;
use ovpn_config::model::Role;

/// Which mode a subcommand names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Whatever the configuration says.
    Any,
    /// `ovpn client`.
    Client,
    /// `ovpn server`.
    Server,
    /// `ovpn p2p`.
    Peer,
}

impl Wanted {
    /// Whether a configuration is of the wanted mode.
    pub(crate) const fn fits(self, role: Role) -> bool {
        matches!(
            (self, role),
            (Self::Any, _)
                | (Self::Client, Role::Client)
                | (Self::Server, Role::Server)
                | (Self::Peer, Role::Peer(_))
        )
    }

    /// Its word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Client => "client",
            Self::Server => "server",
            Self::Peer => "p2p",
        }
    }

    /// The answer to `ovpn WORD --help`.
    pub(crate) fn help(self) -> String {
        match self {
            Self::Any => usage(),
            Self::Client => CLIENT_HELP.to_owned(),
            Self::Server => SERVER_HELP.to_owned(),
            Self::Peer => PEER_HELP.to_owned(),
        }
    }
}

const CLIENT_HELP: &str = "Connects to a server, and stays connected until it is ended by a signal.

Usage: ovpn client FILE [--OPTION [VALUE]...]...

  FILE      a profile: NAME.ovpn or NAME.conf
  --OPTION  any line of a configuration file with two dashes before it;
            `ovpn help options` lists them
  --help    this text

Exit code: 0 ended by a signal or a refused login, 1 failed, 2 wrong use.

Examples:
  ovpn check office.ovpn                       what it would do
  sudo ovpn client office.ovpn
  sudo ovpn client office.ovpn --data-plane engine --verb 4
  sudo ovpn client office.ovpn --daemon --log /var/log/office.log
";

const SERVER_HELP: &str = "Serves clients, until it is ended by a signal.

Usage: ovpn server [FILE] [--nat] [--OPTION [VALUE]...]...

  FILE      a server's configuration; what `ovpn init` made if left out
  --nat     forward clients' traffic to the outside under this host's address;
            taken back at the end
  --OPTION  any line of a configuration file with two dashes before it;
            `ovpn help options` lists them
  --help    this text

Exit code: 0 ended by a signal, 1 failed, 2 wrong use.

Examples:
  sudo ovpn init --endpoint vpn.example.org    once: keys and configuration
  sudo ovpn server --nat
  sudo ovpn server office.conf --metrics 127.0.0.1:9176
";

const PEER_HELP: &str = "Talks to one peer: two files, one on each side, and nothing is pushed.

Usage: ovpn p2p FILE [--OPTION [VALUE]...]...

  FILE      a configuration with `tls-server` on one side, `tls-client` and
            `remote` on the other
  --OPTION  any line of a configuration file with two dashes before it;
            `ovpn help options` lists them
  --help    this text

Exit code: 0 ended by a signal, 1 failed, 2 wrong use.

Example:
  sudo ovpn p2p site-a.conf
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// `--version`.
    Version,
    /// `--help`, of the program or of a mode.
    Help(String),
    /// It cannot be meant so: a sentence about it.
    Wrong(String),
    /// Run a mode with these option words.
    Run {
        /// The mode named.
        wanted: Wanted,
        /// Words as stock takes them: `--option value …`.
        words: Vec<String>,
        /// The first configuration file, for scripts.
        file: Option<String>,
    },
}

/// Where Debian's units look for a server's configuration.
const SERVER_FILE: &str = "/etc/openvpn/server/server.conf";

/// What `ovpn init` made, if it is there; else what Debian's units run.
fn server_file() -> Result<String, String> {
    let made = format!("{}/server.conf", crate::init::DEFAULT_DIR);
    let there = |path: &&str| std::path::Path::new(path).try_exists().unwrap_or(true);
    [made.as_str(), SERVER_FILE].iter().find(|path| there(path)).map(|path| (*path).to_owned()).ok_or_else(|| {
        format!(
            "there is no server here yet ({made} is missing): make one with `ovpn init --endpoint HOST`, or name its file with `ovpn server FILE`"
        )
    })
}

/// Takes a command line (without the program's name) apart.
pub(crate) fn parse(words: &[String]) -> Invocation {
    let Some(first) = words.first() else {
        return Invocation::Wrong(format!("say what to do\n\n{}", usage().trim_end()));
    };
    let wanted = match first.as_str() {
        "--version" | "version" | "-V" => return Invocation::Version,
        "--help" | "help" | "-h" => return Invocation::Help(usage()),
        "client" => Wanted::Client,
        "server" => Wanted::Server,
        "p2p" => Wanted::Peer,
        other if !other.starts_with('-') && !std::path::Path::new(other).exists() => {
            return Invocation::Wrong(neither_command_nor_file(other));
        }
        _ => Wanted::Any,
    };
    let mut rest: Vec<String> = match wanted {
        Wanted::Any => words.to_vec(),
        _ => words.get(1..).unwrap_or_default().to_vec(),
    };
    if wanted != Wanted::Any && matches!(rest.first().map(String::as_str), Some("--help" | "-h")) {
        return Invocation::Help(wanted.help());
    }
    let named = rest.first().is_some_and(|word| !word.starts_with("--"));
    if named {
        rest.insert(0, "--config".to_owned());
    } else if wanted == Wanted::Server && !rest.iter().any(|word| word == "--config") {
        match server_file() {
            Ok(file) => rest.splice(0..0, ["--config".to_owned(), file]),
            Err(sentence) => return Invocation::Wrong(sentence),
        };
    } else if rest.is_empty() {
        let word = wanted.word();
        return Invocation::Wrong(format!("name a file: `ovpn {word} FILE`; `ovpn {word} --help` shows how"));
    }
    let file = rest.iter().position(|word| word == "--config").and_then(|at| rest.get(at + 1)).cloned();
    Invocation::Run { wanted, words: rest, file }
}

/// A sentence about a first word that is no command, and no file either.
fn neither_command_nor_file(word: &str) -> String {
    let names = || manual::COMMANDS.iter().map(|command| command.name);
    let looks_like_file = word.contains(['/', '.']);
    let near = if looks_like_file { None } else { ovpn_config::table::nearest_of(word, names()) };
    match near {
        Some(near) => format!("there is no command and no file \"{word}\"; did you mean `ovpn {near}`?"),
        None if looks_like_file => format!("there is no file \"{word}\"; look at the path"),
        None => format!("there is no command and no file \"{word}\"; `ovpn --help` lists the commands"),
    }
}

/// The answer to `--help`.
pub(crate) fn usage() -> String {
    use std::fmt::Write as _;
    let mut out = format!(
        "ovpn {}: OpenVPN client, server and peer with an offloaded data channel\n\n\
         Usage: ovpn COMMAND [ARGUMENT]...\n       \
         ovpn --config FILE [--OPTION [VALUE]...]...   as stock OpenVPN\n\nCommands:\n",
        env!("CARGO_PKG_VERSION")
    );
    for command in manual::COMMANDS {
        let _ = writeln!(out, "  {:<12} {}", command.name, command.help);
    }
    let _ = write!(
        out,
        "\n`ovpn COMMAND --help` explains a command, `ovpn help OPTION` an option;\n\
         `ovpn --version` tells what was found here. Options are those of OpenVPN {}:\n\
         any line of a configuration file with two dashes before it.\n\n\
         Examples:\n  \
         sudo ovpn init --endpoint vpn.example.org\n  \
         sudo ovpn server --nat\n  \
         sudo ovpn profile add anna > anna.ovpn\n  \
         sudo ovpn client anna.ovpn\n  \
         ovpn check anna.ovpn\n  \
         sudo ovpn status --watch\n",
        crate::version::COMPATIBLE,
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Invocation {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    fn run(text: &str) -> (Wanted, String, Option<String>) {
        match parsed(text) {
            Invocation::Run { wanted, words, file } => (wanted, words.join(" "), file),
            other => panic!("{other:?}"),
        }
    }

    fn wrong(text: &str) -> String {
        match parsed(text) {
            Invocation::Wrong(sentence) => sentence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_way_to_name_a_file() {
        let file = Some("a.ovpn".to_owned());
        assert_eq!(
            run("client a.ovpn --verb 4"),
            (Wanted::Client, "--config a.ovpn --verb 4".to_owned(), file.clone())
        );
        let stock = "--suppress-timestamps --nobind --config a.ovpn";
        assert_eq!(run(stock), (Wanted::Any, stock.to_owned(), file));
        assert_eq!(run("server x.conf --nat").1, "--config x.conf --nat");
        assert_eq!(
            run("Cargo.toml"),
            (Wanted::Any, "--config Cargo.toml".to_owned(), Some("Cargo.toml".to_owned()))
        );
        assert_eq!(parsed("--version"), Invocation::Version);
    }

    #[test]
    fn wrong_words_are_answered_in_one_sentence() {
        assert_eq!(
            wrong("clinet a.ovpn"),
            "there is no command and no file \"clinet\"; did you mean `ovpn client`?"
        );
        assert_eq!(wrong("nowhere.ovpn"), "there is no file \"nowhere.ovpn\"; look at the path");
        assert_eq!(
            wrong("frobnicate"),
            "there is no command and no file \"frobnicate\"; `ovpn --help` lists the commands"
        );
        assert!(wrong("client").starts_with("name a file"));
        assert!(wrong("").contains("Usage:"));
    }

    #[test]
    fn help_fits_into_80_columns_and_has_examples() {
        for text in [usage(), Wanted::Client.help(), Wanted::Server.help(), Wanted::Peer.help()] {
            assert!(text.contains("Example"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
        assert_eq!(parsed("server --help"), Invocation::Help(SERVER_HELP.to_owned()));
    }
}
