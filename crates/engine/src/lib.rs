//! The userspace data plane.
//!
//! ```text
//!            pure: bytes and time in, bytes and events out             threads and sockets
//!   inside   offload · route ─▶ encrypt ─▶ pktid · epoch · AEAD   ┐
//!                                                                 ├─  workers over TUN and UDP/TCP
//!   outside  decrypt: AEAD ─▶ epoch ─▶ replay ─▶ float ─▶ checks  ┘
//!            peer_table: the DCO operations, lookups, keepalive
//! ```
#![forbid(unsafe_code)]

// Pure packet processing.
mod address_map;
pub mod compress;
pub mod decrypt;
pub mod drop_reason;
pub mod encrypt;
pub mod epoch;
pub mod fragment;
pub mod framing;
pub mod keepalive;
mod key_slots;
pub mod lzo;
pub mod mss;
pub mod peer;
pub mod peer_table;
pub mod pktid;
pub mod route;
mod stats;
pub mod time;
pub mod usage;
mod validate;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod vectors;

// Inner offload.
pub mod offload;

// Threads and sockets.
mod control_port;
mod device;
mod engine;
mod event_hub;
mod system_routes;
mod transport;
mod worker;

pub use engine::{Engine, EngineConfig, Workers};
