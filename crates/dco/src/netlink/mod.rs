//! The DCO API as the kernel's generic-netlink messages (family `ovpn`, version 1), both directions.
//!
//! ```text
//!  nlmsghdr │ genlmsghdr: command 1 · version 1 · 0 0 │ IFINDEX │ PEER { … } or KEYCONF { … }
//!
//!  request ──▶  Request::encode … Request::decode ──▶ serve(…, &dyn DataPlane)
//!          ◀──  PeerInfo, KeyInfo, acknowledgement (errno and sentence), dump parts and DONE
//!          ◀──  notifications: Event
//! ```
//!
//! Two dialects share all of this. The kernel's is spoken to the kernel. The *engine's* is spoken to an engine that
//! runs as its own process, over a Unix socket; it is the kernel's with these additions:
//!
//! | addition | number | what for |
//! |---|---|---|
//! | SOCKET | 6 (the kernel's) | an index into the descriptors passed with the request |
//! | PEER: MSS u32, FRAMING u32, FRAGMENT u32 | 0x1000… | mssfix, old peers' framing and pieces |
//! | PEER: TRANSPORT u64 | 0x1002 | a transport opened before |
//! | KEYCONF: FORMAT u32, KEY_LEN u32 | 0x1000… | DATA_V1 and epoch keys |
//! | TRANSPORT, ROUTE, CAPABILITIES, DEVICE | top level, 0x1000… | what the kernel leaves to sockets, routes, rtnetlink |
//! | TRANSPORT_OPEN … PEER_EXIT_NTF, LOST_NTF | commands 128… | the same, as operations |
//!
//! Requests are checked as the kernel checks them (strictly: unknown attributes and lengths that differ are errors)
//! and refused with the kernel's errno. Integers are in host order, addresses and ports in network order.

mod ack;
mod attribute;
mod dialect;
mod notification;
mod peer;
mod policy;
mod request;
mod serve;

pub use ack::{encode_ack, encode_done, error_from, error_kind};
pub use attribute::{ENGINE_FAMILY, FAMILY_NAME, GROUP_NAME, MessageType, VERSION, command};
pub use dialect::{Opened, Source, decode_capabilities, decode_device, decode_drops, decode_opened};
pub use notification::{decode_event, encode_event};
pub use peer::{decode_key, decode_peer, encode_key, encode_peer};
pub use request::{Command, Dialect, NewPeer, Request, SocketRef};
pub use serve::{Host, serve};

#[cfg(test)]
mod specification;
#[cfg(test)]
mod tests;
