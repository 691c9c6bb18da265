//! System interfaces: TUN devices, UDP with segmentation offload, waiting; the only crate with `unsafe` code.

pub mod poll;
pub mod tun;
pub mod udp;
pub mod wake;
