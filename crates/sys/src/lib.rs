//! System interfaces: TUN devices, UDP with segmentation offload, netlink, waiting; the only crate with `unsafe` code.

pub mod aead;
pub mod background;
pub mod checksum;
pub mod clock;
pub mod dir_watch;
pub mod local_time;
pub mod netlink;
#[cfg(target_os = "linux")]
pub mod netns;
pub mod poll;
pub mod privileges;
pub mod seqpacket;
pub mod tcp;
pub mod tun;
pub mod udp;
pub mod wake;
