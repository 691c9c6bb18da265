//! `ovpn`: OpenVPN with an offloaded data channel; client, server and point-to-point peer in one program.
//!
//! | file | what it is |
//! |---|---|
//! | `logging`, `signal`, `sd_notify`, `daemon`, `outcome` | the process: its log, signals, service manager, exit codes |
//! | `materials`, `private_key`, `prompt` | keys, certificates and passwords |
//! | `sockets`, `port` | outside sockets, and the data plane's control port |
//! | `tunnel`, `routes`, `dns`, `mss` | the device's addresses, routes and name servers |
//! | `script`, `environment`, `script_environment` | user scripts |
//! | `client`, `p2p`, `server` | the modes |
//! | `engine_process` | the engine as a process of its own, and its client side |
//! | `cli` | the test bed `ovpn-cli` |
//! | `check` | what a configuration would do |
#![forbid(unsafe_code)]

mod check;
mod cli;
mod client {
    pub(crate) mod remotes;
}
mod config_files;
mod daemon;
mod dns;
mod engine_process;
mod environment;
mod logging;
#[allow(dead_code, unused_imports)] // wired up with the modes
mod management;
mod materials;
mod mss;
mod outcome;
mod port;
mod private_key;
mod prompt;
mod routes;
mod script;
mod script_environment;
mod sd_notify;
#[allow(dead_code)]
mod server;
mod signal;
mod sockets;
mod tunnel;
mod version;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = cli::dispatch(&std::env::args().collect::<Vec<_>>()) {
        return code;
    }
    let words: Vec<String> = std::env::args_os().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
    match words.first().map(String::as_str) {
        Some("check") => check::run(words.get(1..).unwrap_or_default()),
        _ => {
            eprintln!("ovpn: name a command; `ovpn check FILE` says what a configuration would do");
            ExitCode::from(2)
        }
    }
}
