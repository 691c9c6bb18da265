//! The userspace data plane.
#![forbid(unsafe_code)]

// Pure packet processing: bytes and time in, bytes and events out.
pub mod drop_reason;
pub mod pktid;
pub mod time;
