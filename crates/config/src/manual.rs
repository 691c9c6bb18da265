//! Texts made from the option table: help, manual page, completions, documentation.

use std::fmt::Write as _;

use crate::table::{self, Contexts, Dco, GROUPS, OptionSpec, Roles, Tier};

/// A subcommand of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its word.
    pub name: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    /// Words that may follow it at once, of which one is meant.
    pub words: &'static [&'static str],
    /// Options of its own. Those of configurations follow the modes besides.
    pub options: &'static [&'static str],
}

const fn command(
    name: &'static str,
    help: &'static str,
    words: &'static [&'static str],
    options: &'static [&'static str],
) -> Command {
    Command { name, help, words, options }
}

/// The subcommands, for help, completions and the manual page.
pub const COMMANDS: &[Command] = &[
    command("client", "connect to a server", &[], &[]),
    command("server", "serve clients", &[], &[]),
    command("p2p", "talk to one peer", &[], &[]),
    command("status", "show what a running tunnel does", &[], &["--json", "--watch", "--interval"]),
    command("check", "say what a configuration would do", &[], &["--json"]),
    command(
        "init",
        "make a server: authority, keys, configuration",
        &[],
        &["--endpoint", "--tcp", "--network", "--import", "--dir"],
    ),
    command(
        "profile",
        "make, list, renew and revoke profiles of clients",
        &["add", "list", "renew", "revoke"],
        &["--password", "--days", "--output", "--qr", "--json", "--dir"],
    ),
    command(
        "engine",
        "run the userspace data plane as a process of its own",
        &[],
        &["--mode", "--foreground"],
    ),
    command("cli", "drive a data plane by hand", &[], &[]),
    command("dco-cli", "be one end of a link, as the tool of Windows' driver", &[], &[]),
    command("help", "explain options", &["options"], &["--markdown"]),
    command("completions", "print completions for a shell", &["bash", "zsh", "fish"], &[]),
    command("man", "print the manual page", &["cli"], &[]),
];

/// One option in full: what it takes, where it stands, since when, what instead.
#[must_use]
pub fn explain(spec: &OptionSpec) -> String {
    let mut out = format!("{}\n\n  {}.\n\n", spec.synopsis(), spec.help);
    let mut row = |name: &str, text: &str| {
        if !text.is_empty() {
            let _ = writeln!(out, "  {name:<9} {text}");
        }
    };
    row("for", &roles(spec.roles));
    row("stands in", &places(spec.contexts));
    row("inline", if spec.inline { "can be a block: <NAME> … </NAME>" } else { "" });
    row("repeated", if spec.list { "adds" } else { "" });
    row("works", works(spec));
    row("since", spec.since);
    row("removed", spec.removed);
    row("instead", spec.instead);
    out
}

/// Every option with its line of help, by group.
#[must_use]
pub fn list() -> String {
    let mut out = String::new();
    for (title, rows) in GROUPS {
        let _ = writeln!(out, "{title}:");
        for row in *rows {
            let synopsis = row.synopsis();
            if synopsis.chars().count() <= 34 {
                let _ = writeln!(out, "  --{synopsis:<34}  {}", row.help);
            } else {
                let _ = writeln!(out, "  --{synopsis}\n{:40}{}", "", row.help);
            }
        }
        out.push('\n');
    }
    out
}

/// The manual page, in roff.
#[must_use]
pub fn man_page(version: &str) -> String {
    let mut out = format!(
        ".TH OVPN 8 \"\" \"ovpn {version}\" \"System administration\"\n.SH NAME\novpn \\- OpenVPN client, server and peer with an \
         offloaded data channel\n.SH SYNOPSIS\n.B ovpn\n.I COMMAND\n[\\fIARGUMENT\\fR]...\n.br\n.B ovpn\n\\-\\-config \
         \\fIFILE\\fR [\\-\\-\\fIOPTION\\fR [\\fIVALUE\\fR]...]...\n.SH COMMANDS\n"
    );
    for Command { name, help, words, options } in COMMANDS {
        let words = if words.is_empty() { String::new() } else { format!(" {}", words.join("|")) };
        let _ = writeln!(out, ".TP\n.B ovpn {}{}\n{}.", roff(name), roff(&words), roff(&capital(help)));
        if !options.is_empty() {
            let _ = writeln!(out, "Options: {}.", roff(&options.join(", ")));
        }
    }
    out.push_str("Each explains itself with \\-\\-help.\n");
    out.push_str(
        ".SH CONFIGURATION\nOne option a line, or on the command line with two dashes before it. Words are separated by blanks; \
         double quotes and backslashes work as in OpenVPN; a number sign or semicolon starts a comment where a word could \
         start. Files can be written inline between \\fI<name>\\fR and \\fI</name>\\fR.\n",
    );
    for (title, rows) in GROUPS {
        let _ = writeln!(out, ".SH {}", roff(&title.to_uppercase()));
        for row in *rows {
            let args =
                if row.args.is_empty() { String::new() } else { format!(" \\fI{}\\fR", roff(row.args)) };
            let _ = writeln!(out, ".TP\n\\fB{}\\fR{args}\n{}.", roff(row.name), roff(row.help));
            if row.tier == Tier::T4 || row.dco != Dco::Works {
                let _ = writeln!(out, "{}.", roff(&capital(works(row))));
            }
            if !row.instead.is_empty() {
                let _ = writeln!(out, "{}.", roff(&capital(row.instead)));
            }
        }
    }
    out.push_str(
        ".SH EXIT STATUS\n.TP\n.B 0\nDone; a tunnel was ended by a signal, or its login was refused.\n.TP\n.B 1\nFailed: the last line \
         of the log says why.\n.TP\n.B 2\nWrong use of a command.\n.SH SIGNALS\n.TP\n.B SIGINT, SIGTERM\nEnd, with a \
         notification to the peer where that is configured.\n.TP\n.B SIGHUP\nRead the configuration again and start \
         over.\n.TP\n.B SIGUSR1\nConnect anew; the device stays with persist\\-tun.\n.TP\n.B SIGUSR2\nWrite counters to the \
         log.\n.SH FILES\n.TP\n.I /etc/ovpn\nWhat ovpn init made: server.conf, client.conf, clients/, pki/.\n.TP\n.I \
         /etc/openvpn/client/NAME.conf, /etc/openvpn/server/NAME.conf\nWhat the units ovpn\\-client@NAME and ovpn\\-server@NAME \
         run.\n.TP\n.I /run/ovpn/NAME.sock\nWhere ovpn status asks.\n.SH EXAMPLES\n.nf\novpn init \\-\\-endpoint \
         vpn.example.org\novpn server \\-\\-nat\novpn profile add anna > anna.ovpn\novpn client anna.ovpn\novpn status \
         \\-\\-watch\n.fi\n",
    );
    out
}

/// The table as Markdown: `docs/options.md`.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# Options\n\nMade from the option table by `ovpn help --markdown`; do not edit.\n\n\
         **For**: C client, S server, P peer. **In**: f file or command line, c `<connection>`, p pushed by a server, k one \
         client's options on a server, ! command line only, i can be an inline block. **Works**: yes; engine (userspace data plane \
         only); no effect (accepted); refused.\n",
    );
    for (title, rows) in GROUPS {
        let _ =
            write!(out, "\n## {title}\n\n| Option | For | In | Works | Meaning |\n|---|---|---|---|---|\n");
        for row in *rows {
            let mut meaning = row.help.to_owned();
            if !row.since.is_empty() {
                let _ = write!(meaning, " (since {})", row.since);
            }
            if !row.removed.is_empty() {
                let _ = write!(meaning, " (removed in {})", row.removed);
            }
            if !row.instead.is_empty() {
                let _ = write!(meaning, "; {}", row.instead);
            }
            let cells = [
                format!("`{}`", row.synopsis()),
                row.roles.letters(),
                letters(row),
                short(row).to_owned(),
                meaning,
            ];
            let _ = writeln!(out, "| {} |", cells.map(|c| c.replace('|', "\\|")).join(" | "));
        }
    }
    out
}

/// Completions for bash.
#[must_use]
pub fn bash() -> String {
    let commands: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
    let options: Vec<String> = table::all().map(|row| format!("--{}", row.name)).collect();
    let mut cases = String::new();
    for Command { name, words, options, .. } in
        COMMANDS.iter().filter(|c| !(c.words.is_empty() && c.options.is_empty()))
    {
        let _ = writeln!(
            cases,
            "    {name}) words=\"{}\" options=\"{} --help\" ;;",
            words.join(" "),
            options.join(" ")
        );
    }
    format!(
        "_ovpn() {{\n  local current=${{COMP_WORDS[COMP_CWORD]}} words= options=\n  case ${{COMP_WORDS[1]}} in\n{cases}    *) \
         options=\"{} --help\" ;;\n  esac\n  if [[ $current == -* ]]; then\n    COMPREPLY=($(compgen -W \"$options\" -- \
         \"$current\"))\n  elif (( COMP_CWORD == 1 )); then\n    COMPREPLY=($(compgen -W \"{}\" -- \"$current\") $(compgen -f -- \
         \"$current\"))\n  elif (( COMP_CWORD == 2 )) && [[ -n $words ]]; then\n    COMPREPLY=($(compgen -W \"$words\" -- \
         \"$current\"))\n  else\n    COMPREPLY=($(compgen -f -- \"$current\"))\n  fi\n}}\ncomplete -o filenames -F _ovpn ovpn\n",
        options.join(" "),
        commands.join(" ")
    )
}

/// Completions for zsh.
#[must_use]
pub fn zsh() -> String {
    let mut out = String::from("#compdef ovpn\nlocal -a commands options\ncommands=(\n");
    for Command { name, help, .. } in COMMANDS {
        let _ = writeln!(out, "  '{name}:{}'", help.replace('\'', "'\\''").replace(':', "\\:"));
    }
    out.push_str(")\noptions=(\n");
    for row in table::all() {
        let help = row.help.replace('\'', "'\\''").replace(':', "\\:");
        let _ = writeln!(out, "  '--{}:{help}'", row.name);
    }
    out.push_str(")\nif (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n  _describe command commands\n  _files\n  return\nfi\n");
    out.push_str("case $words[2] in\n");
    for Command { name, words, options, .. } in
        COMMANDS.iter().filter(|c| !(c.words.is_empty() && c.options.is_empty()))
    {
        let _ = writeln!(
            out,
            "  {name})\n    if [[ $words[CURRENT] == -* ]]; then compadd -- {} --help",
            options.join(" ")
        );
        if !words.is_empty() {
            let _ = writeln!(out, "    elif (( CURRENT == 3 )); then compadd {}", words.join(" "));
        }
        out.push_str("    else _files\n    fi ;;\n");
    }
    out.push_str("  *)\n    if [[ $words[CURRENT] == -* ]]; then _describe option options\n    else _files\n    fi ;;\nesac\n");
    out
}

/// Completions for fish.
#[must_use]
pub fn fish() -> String {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut out = String::new();
    let mut own = Vec::new();
    for Command { name, help, words, options } in COMMANDS {
        let _ = writeln!(out, "complete -c ovpn -n __fish_use_subcommand -a {name} -d '{}'", quote(help));
        let seen = format!("-n '__fish_seen_subcommand_from {name}'");
        if !words.is_empty() {
            let _ = writeln!(out, "complete -c ovpn {seen} -a '{}'", words.join(" "));
        }
        for option in *options {
            let _ = writeln!(out, "complete -c ovpn {seen} -l {}", option.trim_start_matches('-'));
        }
        if !(words.is_empty() && options.is_empty()) {
            own.push(*name);
        }
    }
    for row in table::all() {
        let takes = if row.arity.1 > 0 { " -r" } else { "" };
        let _ = writeln!(
            out,
            "complete -c ovpn -n 'not __fish_seen_subcommand_from {}' -l {}{takes} -d '{}'",
            own.join(" "),
            row.name,
            quote(row.help)
        );
    }
    out
}

fn roles(roles: Roles) -> String {
    let all = [(Roles::CLIENT, "clients"), (Roles::SERVER, "servers"), (Roles::PEER, "peers")];
    all.iter().filter(|(r, _)| roles.contains(*r)).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

fn places(contexts: Contexts) -> String {
    let all = [
        (Contexts::FILE, "files and command line"),
        (Contexts::CMDLINE, "the command line only"),
        (Contexts::CONNECTION, "<connection> blocks"),
        (Contexts::PUSHED, "what a server pushes"),
        (Contexts::CLIENT, "one client's options on a server"),
    ];
    all.iter().filter(|(c, _)| contexts.contains(*c)).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

fn letters(row: &OptionSpec) -> String {
    let all = [
        (Contexts::FILE, 'f'),
        (Contexts::CMDLINE, '!'),
        (Contexts::CONNECTION, 'c'),
        (Contexts::PUSHED, 'p'),
        (Contexts::CLIENT, 'k'),
    ];
    let mut out: String = all.iter().filter(|(c, _)| row.contexts.contains(*c)).map(|(_, l)| *l).collect();
    if row.inline {
        out.push('i');
    }
    out
}

const fn short(row: &OptionSpec) -> &'static str {
    match row.dco {
        Dco::Works => "yes",
        Dco::EngineOnly => "engine",
        Dco::NoEffect => "no effect",
        Dco::Refused => "refused",
    }
}

const fn works(row: &OptionSpec) -> &'static str {
    match row.dco {
        Dco::Works => "on every data plane",
        Dco::EngineOnly => "on the userspace data plane only",
        Dco::NoEffect => "accepted, without effect",
        Dco::Refused => "not supported",
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Escapes for roff: backslashes, hyphens, and a control character at the start of a line.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('`', "");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_every_text() {
        let (man, list, bash, zsh, fish) = (man_page("1"), list(), bash(), zsh(), fish());
        for row in table::all() {
            assert!(man.contains(&format!("\\fB{}\\fR", roff(row.name))), "{}", row.name);
            for text in [&list, &bash, &zsh] {
                assert!(text.contains(&format!("--{}", row.name)), "{}", row.name);
            }
            assert!(fish.contains(&format!("-l {} ", row.name)), "{}", row.name);
        }
    }

    #[test]
    fn the_documentation_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/options.md");
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            there,
            markdown(),
            "write it anew: cargo run -p ovpn -- help --markdown > docs/options.md"
        );
    }

    #[test]
    fn an_option_is_explained() {
        let text = explain(table::lookup("ns-cert-type").expect("known"));
        for part in ["ns-cert-type server|client\n", "use `remote-cert-tls`", "clients, servers, peers"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(explain(table::lookup("tls-auth").expect("known")).contains("<connection> blocks"));
    }
}
