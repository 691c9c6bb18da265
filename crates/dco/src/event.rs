//! What a data plane reports by itself.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use crate::{KeyId, PeerId};

/// Why a peer was deleted. Numbers are those of the kernel's `ovpn_del_peer_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum DelReason {
    /// The device went away, or a point-to-point peer was replaced.
    Teardown = 0,
    /// The caller asked for it.
    Userspace = 1,
    /// The keepalive timeout passed.
    Expired = 2,
    /// The transport broke its framing or failed.
    TransportError = 3,
    /// The transport was closed.
    TransportDisconnect = 4,
}

/// An event. Events carry ids only; what they mean for a client or a session is the control plane's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer is gone.
    PeerDeleted {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: DelReason,
    },
    /// The key used for sending is used up (packet ids or usage limit) and no longer sends: a new one is needed now.
    KeySwap {
        /// The peer.
        peer: PeerId,
        /// The used-up key.
        key_id: KeyId,
    },
    /// The peer is now reached at another address; the data plane has already followed.
    PeerFloat {
        /// The peer.
        peer: PeerId,
        /// Its new address.
        remote: SocketAddr,
    },
    /// The peer said on the data channel that it leaves (explicit-exit-notify of peers older than 2.6). Only the
    /// engine sees this; the peer itself stays until it is deleted.
    PeerExit {
        /// The peer.
        peer: PeerId,
    },
    /// Notifications were lost: read all peers again with [`DataPlane::peer_dump`](crate::DataPlane::peer_dump).
    Lost,
    /// The data plane itself is gone (an engine process died); every peer with it.
    DataPlaneGone,
}

/// A subscription to a data plane's events.
pub trait EventSource: Send {
    /// A descriptor that is readable while events wait.
    fn fd(&self) -> BorrowedFd<'_>;

    /// The next event, `None` when there is none now. Never blocks.
    ///
    /// # Errors
    /// When the subscription itself has failed; it is then useless.
    fn next(&mut self) -> io::Result<Option<Event>>;
}
