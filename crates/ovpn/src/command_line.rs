//! The command line: subcommands of ours, or options as stock OpenVPN takes them.
//!
//! ```text
//!   ovpn client FILE [--option …]      ovpn server FILE …      ovpn p2p FILE …
//!   ovpn --config FILE [--option …]    ovpn FILE
//! ```

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
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// `--version`.
    Version,
    /// `--help`, or nothing at all.
    Usage,
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
fn server_file() -> String {
    let made = format!("{}/server.conf", crate::init::DEFAULT_DIR);
    if std::path::Path::new(&made).exists() { made } else { SERVER_FILE.to_owned() }
}

/// Takes a command line (without the program's name) apart.
pub(crate) fn parse(words: &[String]) -> Invocation {
    let Some(first) = words.first() else { return Invocation::Usage };
    let wanted = match first.as_str() {
        "--version" | "version" => return Invocation::Version,
        "--help" | "help" | "-h" => return Invocation::Usage,
        "client" => Wanted::Client,
        "server" => Wanted::Server,
        "p2p" => Wanted::Peer,
        _ => Wanted::Any,
    };
    let mut rest: Vec<String> = match wanted {
        Wanted::Any => words.to_vec(),
        _ => words.get(1..).unwrap_or_default().to_vec(),
    };
    let named = rest.first().is_some_and(|word| !word.starts_with("--"));
    if named {
        rest.insert(0, "--config".to_owned());
    } else if wanted == Wanted::Server && !rest.iter().any(|word| word == "--config") {
        rest.splice(0..0, ["--config".to_owned(), server_file()]);
    }
    let file = rest.iter().position(|word| word == "--config").and_then(|at| rest.get(at + 1)).cloned();
    Invocation::Run { wanted, words: rest, file }
}

/// The answer to `--help`.
pub(crate) fn usage() -> String {
    format!(
        "{}\n\n\
         Usage:\n  \
         ovpn client FILE [--option value …]   connect as FILE says\n  \
         ovpn server [FILE] [--option …]       serve clients ({SERVER_FILE} if no FILE)\n  \
         ovpn p2p FILE [--option …]            talk to one peer\n  \
         ovpn --config FILE [--option …]       as openvpn: the file says which\n  \
         ovpn check FILE                       what would happen, without doing it\n  \
         ovpn init --endpoint HOST             make a server: keys, certificates, configuration\n  \
         ovpn profile add|list|revoke|renew    profiles for its clients\n  \
         ovpn engine IFNAME                    the userspace data plane as a process of its own\n  \
         ovpn cli …                            drive a data plane by hand\n  \
         ovpn --version\n\n\
         Options are those of OpenVPN {}: any line of a configuration file with `--` before it.\n",
        crate::version::title(),
        crate::version::COMPATIBLE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> (Wanted, String, Option<String>) {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        match parse(&words) {
            Invocation::Run { wanted, words, file } => (wanted, words.join(" "), file),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_way_to_name_a_file() {
        let file = Some("a.ovpn".to_owned());
        assert_eq!(run("a.ovpn"), (Wanted::Any, "--config a.ovpn".to_owned(), file.clone()));
        assert_eq!(
            run("client a.ovpn --verb 4"),
            (Wanted::Client, "--config a.ovpn --verb 4".to_owned(), file.clone())
        );
        let stock = "--suppress-timestamps --nobind --config a.ovpn";
        assert_eq!(run(stock), (Wanted::Any, stock.to_owned(), file));
        assert_eq!(run("server").1, format!("--config {SERVER_FILE}"));
        assert_eq!(parse(&["--version".to_owned()]), Invocation::Version);
        assert_eq!(parse(&[]), Invocation::Usage);
    }
}
