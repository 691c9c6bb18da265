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
#![forbid(unsafe_code)]

mod client {
    pub(crate) mod remotes;
}
mod daemon;
mod dns;
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
fn main() {}
