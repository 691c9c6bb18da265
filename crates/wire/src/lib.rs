//! OpenVPN wire formats: bytes ⇄ types of both channels. No IO, no clock, no heap on the data path.
//!
//! A parser takes a slice and returns a typed view or an error that says what was wrong; it never panics and never
//! allocates by a number the peer chose. Past this crate there are no raw bytes.
#![forbid(unsafe_code)]

// Control channel.
pub mod control_packet;
pub mod key_method;
pub mod message;
pub mod opcode;
pub mod peer_info;
pub mod push;
pub mod tcp_framing;

// Data channel.
pub mod compression;
pub mod data_packet;
pub mod fragment;
pub mod inner;
pub mod payload;
