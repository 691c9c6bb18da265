//! The Linux kernel's drivers behind the DCO API: `ovpn` (6.16 and later) and its older form `ovpn-dco-v2`.
//!
//! ```text
//!   Kernel (DataPlane)
//!     ├─ rtnetlink         the device: made, adopted, removed
//!     ├─ generic netlink   peers and keys: one request, one acknowledgement
//!     ├─ multicast         events, in every network namespace that a transport's socket lives in
//!     └─ sockets           stay the caller's; control packets come and go on them (ControlPort)
//! ```
//!
//! Both drivers take the same operations; [`Api`] is where they differ. [`probe`] says which of them this machine
//! has, or why not.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod api;
mod clamp;
mod dco_v2;
mod device;
mod driver;
mod events;
mod manage;
mod probe;
mod tcp_port;
mod udp_port;

pub use api::Api;
pub use driver::Kernel;
pub use manage::{Notifications, device_del, device_new};
pub use probe::{Availability, Probe, probe};
