//! What `ovpn completions` prints, loaded by the shells it is for: each completes a command, an option and an argument.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use ovpn_testkit::{Output, TempDir, run};

const LIMIT: Duration = Duration::from_secs(20);
const OVPN: &str = env!("CARGO_BIN_EXE_ovpn");

/// A shell's script for `ovpn`, written to a file of this name.
fn script(dir: &TempDir, shell: &str, name: &str) -> String {
    let mut command = Command::new(OVPN);
    let text = run(command.args(["completions", shell]), LIMIT).and_then(Output::success).unwrap();
    dir.write(name, text).unwrap().display().to_string()
}

fn said(dir: &TempDir, shell: &str, words: &[&str]) -> String {
    let mut command = Command::new(shell);
    // An empty home, and a place without files that could be offered.
    command.current_dir(dir.path()).env("HOME", dir.path()).env("TERM", "xterm").args(words);
    run(&mut command, LIMIT).and_then(Output::success).unwrap()
}

#[test]
fn bash_completes() {
    let dir = TempDir::new("bash").unwrap();
    let script = script(&dir, "bash", "ovpn.bash");
    let ask = format!(
        r#"source {script}
        of() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $(complete -p ovpn | sed 's/.*-F \([^ ]*\).*/\1/'); echo "${{COMPREPLY[@]}}"; }}
        of ovpn cli; of ovpn --data-pla; of ovpn init --end"#
    );
    assert_eq!(said(&dir, "bash", &["--norc", "-c", &ask]), "client cli\n--data-plane\n--endpoint\n");
}

#[test]
fn zsh_completes() {
    let dir = TempDir::new("zsh").unwrap();
    script(&dir, "zsh", "_ovpn");
    // A shell on a terminal of its own, whose keys are typed here.
    let ask = format!(
        r#"zmodload zsh/zpty; zpty z zsh -f -i
        zpty -w z 'fpath=({dir} $fpath); autoload -U compinit; compinit -u -d {dir}/dump; PS1="RE""ADY"'
        zpty -r z seen '*READY*'
        ask() {{ zpty -w -n z "$1"; zpty -r z seen "*$2*"; zpty -w -n z $'\C-u'; }}
        ask $'ovpn cli\t\t' 'connect to a server'
        ask $'ovpn --data-\t\t' '--data-plane'
        ask $'ovpn init --\t\t' '--endpoint'
        print all three"#,
        dir = dir.path().display()
    );
    assert_eq!(said(&dir, "zsh", &["-f", "-c", &ask]), "all three\n");
}

#[test]
fn fish_completes() {
    let dir = TempDir::new("fish").unwrap();
    let script = script(&dir, "fish", "ovpn.fish");
    let ask = format!(
        "source {script}; complete -C 'ovpn clien'; complete -C 'ovpn --data-pla'; complete -C 'ovpn init --end'"
    );
    let said = said(&dir, "fish", &["--no-config", "-c", &ask]);
    let offered: Vec<&str> = said.lines().map(|line| line.split('\t').next().unwrap_or_default()).collect();
    assert_eq!(offered, ["client", "--data-plane", "--endpoint"], "{said}");
}
