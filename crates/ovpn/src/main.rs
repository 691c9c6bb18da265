//! placeholder
#![forbid(unsafe_code)]
mod client {
    pub(crate) mod remotes;
}
mod dns;
mod environment;
mod logging;
mod mss;
mod port;
mod routes;
mod script;
mod script_environment;
mod sd_notify;
mod signal;
mod sockets;
mod version;
fn main() {}
