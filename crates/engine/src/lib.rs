//! The userspace data plane.
#![forbid(unsafe_code)]

pub mod offload;
