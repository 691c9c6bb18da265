//! The environment of scripts that concern one client.
//!
//! Source: OpenVPN server behaviour, "Environment variables on the server".

use std::net::SocketAddr;

use super::addresses::Assignment;
use crate::environment::Environment;

/// Where the client comes from, before and after it is authenticated.
pub(crate) fn set_remote(environment: &mut Environment, remote: SocketAddr, trusted: bool) {
    environment.set_address("untrusted", remote);
    if trusted {
        environment.set_address("trusted", remote);
    }
}

/// `ifconfig_pool_…`: the client's addresses.
pub(crate) fn set_addresses(environment: &mut Environment, assignment: &Assignment) {
    if let Some(pushed) = assignment.pushed_v4 {
        environment.set_ip("ifconfig_pool_remote_ip", assignment.v4);
        environment.set("ifconfig_pool_netmask", pushed.mask_or_remote);
    }
    if let Some(pushed) = assignment.pushed_v6 {
        environment.set_ip("ifconfig_pool_remote_ip6", assignment.v6);
        environment.set_ip("ifconfig_pool_local_ip6", Some(pushed.remote));
        environment.set("ifconfig_pool_ip6_netbits", pushed.address.prefix_len());
    }
}

/// When the client came: `ascii` as `YYYY-MM-DD HH:MM:SS`, `unix` in seconds.
pub(crate) fn set_time(environment: &mut Environment, ascii: &str, unix: i64) {
    environment.set("time_ascii", ascii);
    environment.set("time_unix", unix);
}

/// What it moved and how long it was there, for `client-disconnect`.
pub(crate) fn set_totals(environment: &mut Environment, received: u64, sent: u64, seconds: u64) {
    environment.set("bytes_received", received);
    environment.set("bytes_sent", sent);
    environment.set("time_duration", seconds);
}
