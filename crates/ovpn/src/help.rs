//! `ovpn help`, `ovpn completions`, `ovpn man`: what the option table says.

use std::io::Write as _;
use std::process::ExitCode;

use ovpn_config::{manual, table};

use crate::arguments;

const HELP: &str = "Explains options.

Usage: ovpn help OPTION        one option in full
       ovpn help options       every option with one line
       ovpn help --markdown    the table of the documentation
       ovpn completions bash|zsh|fish
       ovpn man                the manual page
       ovpn man cli            that of ovpn-cli and the engine process

Examples:
  ovpn help tls-crypt-v2
  ovpn completions bash > /etc/bash_completion.d/ovpn
  ovpn man | man -l -
";

/// Runs the command; the first word is its name.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        ["man", "cli"] => crate::cli::man_page(env!("CARGO_PKG_VERSION")),
        ["man"] => manual::man_page(env!("CARGO_PKG_VERSION")),
        ["completions", "bash"] => manual::bash(),
        ["completions", "zsh"] => manual::zsh(),
        ["completions", "fish"] => manual::fish(),
        ["help", "options"] => manual::list(),
        ["help", "--markdown"] => manual::markdown(),
        ["help"] => format!("{}\n{HELP}", crate::command_line::usage()),
        [_, "--help" | "-h"] => HELP.to_owned(),
        ["completions", other] => {
            return wrong(&arguments::unknown(other, &["bash", "zsh", "fish"]));
        }
        ["help", name] => {
            let name = name.trim_start_matches("--");
            match (table::lookup(name), table::nearest(name)) {
                (Some(row), _) => manual::explain(row),
                (None, Some(near)) => {
                    return wrong(&format!("there is no option \"{name}\"; did you mean {near}?"));
                }
                (None, None) => {
                    return wrong(&format!("there is no option \"{name}\"; `ovpn help options` lists them"));
                }
            }
        }
        ["completions"] => return wrong("name a shell: bash, zsh or fish"),
        _ => return wrong("there are too many words; `ovpn help --help` shows how"),
    };
    // A pager that was closed early is no error.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn wrong(sentence: &str) -> ExitCode {
    eprintln!("ovpn: {sentence}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The options that a help text lists: the first words of its indented lines.
    fn listed(help: &str) -> BTreeSet<&str> {
        help.lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|word| word.starts_with("--") && !matches!(*word, "--help" | "--OPTION"))
            .collect()
    }

    #[test]
    fn completions_know_the_options_that_help_lists() {
        for (name, help) in [
            ("init", crate::init::HELP),
            ("profile", crate::profile::HELP),
            ("check", crate::check::HELP),
            ("status", crate::status::HELP),
            ("engine", crate::engine_process::HELP),
        ] {
            let command = manual::COMMANDS.iter().find(|command| command.name == name).expect(name);
            assert_eq!(listed(help), command.options.iter().copied().collect(), "{name}");
            assert!(help.contains("Example"), "{name}");
            assert!(help.contains("Exit code: "), "{name}");
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{name}");
        }
    }
}
