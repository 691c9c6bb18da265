//! `ovpn help`, `ovpn completions`, `ovpn man`: what the option table says.

use std::io::Write as _;
use std::process::ExitCode;

use ovpn_config::{manual, table};

const HELP: &str = "Explains options.

Usage: ovpn help OPTION        one option in full
       ovpn help options       every option with one line
       ovpn help --markdown    the table of the documentation
       ovpn completions bash|zsh|fish
       ovpn man                the manual page

Examples:
  ovpn help tls-crypt-v2
  ovpn completions bash > /etc/bash_completion.d/ovpn
  ovpn man | man -l -
";

/// Runs the command; the first word is its name.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        ["man"] => manual::man_page(env!("CARGO_PKG_VERSION")),
        ["completions", "bash"] => manual::bash(),
        ["completions", "zsh"] => manual::zsh(),
        ["completions", "fish"] => manual::fish(),
        ["help", "options"] => manual::list(),
        ["help", "--markdown"] => manual::markdown(),
        ["help"] => format!("{}\n{HELP}", crate::command_line::usage()),
        [_, "--help" | "-h"] => HELP.to_owned(),
        ["help", name] => {
            let name = name.trim_start_matches("--");
            match (table::lookup(name), table::nearest(name)) {
                (Some(row), _) => manual::explain(row),
                (None, Some(near)) => {
                    return wrong(&format!("there is no option \"{name}\"; did you mean `{near}`?"));
                }
                (None, None) => {
                    return wrong(&format!("there is no option \"{name}\"; `ovpn help options` lists them"));
                }
            }
        }
        _ => return wrong("`ovpn help --help` shows how to use this"),
    };
    // A pager that was closed early is no error.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn wrong(sentence: &str) -> ExitCode {
    eprintln!("ovpn: {sentence}");
    ExitCode::from(2)
}
