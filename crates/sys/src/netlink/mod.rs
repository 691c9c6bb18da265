//! Netlink: how Linux is asked about and told of links, addresses, routes, and the peers of `ovpn` devices.
//!
//! ```text
//!   message   headers and attributes, bytes only              (pure; works everywhere)
//!   socket    one socket: request and acknowledgement, dump, multicast
//!   generic   generic netlink: families, their multicast groups and operations
//!   route     rtnetlink: links, addresses, routes, rules, and a monitor of their changes
//!   nftables  one thing of nf_tables: clamping the MSS of connections through a device
//! ```
//!
//! A refused request carries the kernel's own sentence about it (the extended acknowledgement) where it has one.

mod error;
pub mod message;

#[cfg(target_os = "linux")]
pub mod generic;
#[cfg(target_os = "linux")]
pub mod nftables;
#[cfg(target_os = "linux")]
pub mod route;
#[cfg(target_os = "linux")]
pub mod socket;

pub use error::{Error, Result};
