//! System interfaces: TUN devices, UDP with segmentation offload, netlink, waiting; and what takes instructions that not
//! every processor has. The only crate with `unsafe` code.
//!
//! The interfaces are Linux's; the rest is for every system.

pub mod aead;
pub mod checksum;

#[cfg(target_os = "linux")]
pub mod background;
#[cfg(target_os = "linux")]
pub mod clock;
#[cfg(target_os = "linux")]
pub mod dir_watch;
#[cfg(target_os = "linux")]
pub mod local_time;
#[cfg(target_os = "linux")]
pub mod netlink;
#[cfg(target_os = "linux")]
pub mod netns;
#[cfg(target_os = "linux")]
pub mod poll;
#[cfg(target_os = "linux")]
pub mod privileges;
#[cfg(target_os = "linux")]
pub mod seqpacket;
#[cfg(target_os = "linux")]
pub mod tcp;
#[cfg(target_os = "linux")]
pub mod tun;
#[cfg(target_os = "linux")]
pub mod udp;
#[cfg(target_os = "linux")]
pub mod wake;
