//! `ovpn`: OpenVPN with an offloaded data channel; client, server and point-to-point peer in one program.
//!
//! | file | what it is |
//! |---|---|
//! | `arguments` | the words of subcommands |
//! | `command_line`, `version`, `process` | what is asked for, and a run of it |
//! | `logging`, `signal`, `sd_notify`, `outcome` | the process: its log, signals, service manager, exit codes |
//! | `materials`, `identity`, `private_key`, `external_key`, `pkcs12`, `prompt` | keys, certificates and passwords |
//! | `peer_info`, `setup` | what a run starts from: the configuration, what is told of this host, the data plane |
//! | `sockets`, `proxy`, `port` | outside sockets, ways through proxies, and the data plane's control port |
//! | `plane`, `tunnel`, `routes`, `dns` | the device over its life; its addresses, routes and name servers |
//! | `nat` | forwarding under this host's address |
//! | `leak_guard`, `nft` | nothing leaves outside of the tunnel |
//! | `script`, `environment`, `script_environment`, `certificate_environment` | user scripts |
//! | `client`, `p2p`, `server` | the modes |
//! | `counters`, `leaving`, `peer_scripts` | what client and point-to-point peer share |
//! | `status` | what a running tunnel tells: `ovpn status`, metrics |
//! | `management` | the management interface |
//! | `engine_process` | the userspace data plane as a process of its own |
//! | `cli` | the test bed `ovpn-cli` |
//! | `check`, `check_files` | what a configuration would do |
//! | `init`, `profile`, `pki`, `atomic_file` | the authority, the server's configuration, profiles for clients |
//! | `help` | options explained, completions, the manual page |
//! | `genkey` | options that make or print something and exit |
#![forbid(unsafe_code)]

mod arguments;
mod atomic_file;
mod certificate_environment;
mod check;
mod check_files;
mod cli;
mod client;
mod command_line;
mod config_files;
mod counters;
mod dns;
mod engine_process;
mod environment;
mod external_key;
mod genkey;
mod help;
mod identity;
mod init;
mod key_budget;
mod leak_guard;
mod leaving;
mod logging;
mod management;
mod materials;
mod nat;
mod nft;
mod outcome;
mod p2p;
mod peer_info;
mod peer_scripts;
mod pkcs12;
mod pki;
mod plane;
mod planner;
mod port;
mod private_key;
mod privileges;
mod process;
mod profile;
mod prompt;
mod proxy;
mod routes;
mod script;
mod script_environment;
mod sd_notify;
mod server;
mod setup;
mod signal;
mod sockets;
mod status;
mod tunnel;
mod version;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = cli::dispatch(&std::env::args().collect::<Vec<_>>()) {
        return code;
    }
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    match words.first().map(String::as_str) {
        Some("check") => check::run(words.get(1..).unwrap_or_default()),
        Some("help" | "completions" | "man") => help::run(&words),
        Some("init") => init::run(words.get(1..).unwrap_or_default()),
        Some("status") => status::run(words.get(1..).unwrap_or_default()),
        Some("profile") => profile::run(words.get(1..).unwrap_or_default()),
        _ => genkey::dispatch(&words).unwrap_or_else(|| process::run(&words)),
    }
}
