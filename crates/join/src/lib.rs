//! Joins configuration, control plane and data plane: what one decided, in the words of the next.
//!
//! ```text
//!   Config ──▶ params ──▶ Session ──▶ key events ──▶ data_plane ──▶ DataPlane
//! ```
//!
//! Those three know nothing of each other; every program that joins them needs these functions, which are pure: no
//! file, no socket, no clock. Both the program `ovpn` and the small client among the examples stand on them.
//!
//! | module | what it is |
//! |---|---|
//! | [`params`] | from the configuration to the control plane's parameters |
//! | [`data_plane`] | from the control plane's decisions to the data plane's peers and keys |
//! | [`mss`] | the TCP segments that fit |
#![forbid(unsafe_code)]

pub mod data_plane;
pub mod mss;
pub mod params;

/// The OpenVPN release whose behaviour is followed; also announced as `IV_VER`.
pub const COMPATIBLE: &str = "2.7.0";
