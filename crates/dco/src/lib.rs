//! The DCO API: all that OpenVPN's control plane and a data plane share.
//!
//! ```text
//!   control plane ──▶ peer new·set·get·dump·del   key new·get·swap·del   route add·del ──▶ data plane
//!   control plane ◀── events: peer deleted · key swap wanted · peer floated               ◀── data plane
//!   control plane ◀─▶ control packets of each transport, through its ControlPort          ◀─▶ data plane
//! ```
//!
//! Three drivers stand side by side behind [`DataPlane`]: the userspace engine, the Linux kernel's `ovpn` module
//! (and its older form `ovpn-dco-v2`), and the Windows driver `ovpn-dco-win`. The trait is drawn from all three:
//!
//! | question | Linux `ovpn` | Windows | engine |
//! |---|---|---|---|
//! | who owns the transport socket | the caller, the kernel taps it | the driver | either |
//! | where control packets appear | on that socket | on the device handle | on a queue of the engine |
//! | who keeps alive and floats | driver | driver | driver |
//! | where iroutes live | system routing table | in the driver | system routing table |
//!
//! [`DataPlane::transport_open`] hides the first two rows, [`Capabilities`] tells the rest. A data plane knows
//! nothing of TLS, roles, push or certificates; a key arrives as "encrypt with this, decrypt with that".
//!
//! The same API has one wire form, the kernel's generic-netlink messages ([`netlink`]): sent to the kernel by the
//! kernel driver, and over a Unix socket to an engine that runs as its own process.
#![forbid(unsafe_code)]

mod capabilities;
mod error;
mod event;
mod ids;
mod key;
mod peer;
mod stats;
mod transport;

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod netlink;

pub use capabilities::{Capabilities, Driver};
pub use error::{Error, ErrorKind, Result};
pub use event::{DelReason, Event, EventSource};
pub use ids::{KeyId, KeySlot, PeerId, TransportId};
pub use key::{CipherAlg, DataFormat, KeyConfig, KeyDirection, KeyInfo};
pub use peer::{Framing, Keepalive, PeerConfig, PeerInfo, PeerUpdate, VpnAddrs};
pub use stats::{Counters, Drops, PeerStats};
pub use transport::{ControlPort, Protocol, Received, SocketSource, Transport};

use ipnet::IpNet;

/// Whether a device has one peer or many; fixed when the device is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Exactly one peer at a time (client or point-to-point): all inner traffic goes to it.
    #[default]
    P2p,
    /// Many peers (server): inner traffic is routed by VPN address.
    MultiPeer,
}

/// A device that a data plane has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Interface name, e.g. `tun0`.
    pub name: String,
    /// Interface index in the device's network namespace.
    pub ifindex: u32,
    /// Mode chosen when the device was made.
    pub mode: Mode,
}

/// One data plane with one open device.
///
/// Methods take `&self` and may be called from any thread; each is atomic and returns when the change is in force.
/// A peer that the data plane removed by itself between two calls shows as [`ErrorKind::NoSuchPeer`]: treat it as
/// "the peer is gone", never as fatal. Deleting is idempotent in effect.
pub trait DataPlane: Send + Sync {
    /// What this driver can do; the planner turns gaps into a reason a person can read.
    fn capabilities(&self) -> &Capabilities;

    /// The device this data plane serves.
    fn device(&self) -> &Device;

    /// Makes a transport known to the data plane and returns the way to exchange control packets over it.
    ///
    /// UDP: any bound socket; one socket may serve many peers. TCP: a connected socket; it carries one peer. Before
    /// the first [`peer_new`](Self::peer_new) on it a TCP transport already exchanges whole control packets through
    /// its port, so that the handshake runs over the same port from first packet to last.
    ///
    /// Dropping the returned port is what closing the socket is for the kernel: peers that still use the transport
    /// are deleted with [`DelReason::TransportDisconnect`].
    ///
    /// # Errors
    /// [`ErrorKind::NotASocket`] where the descriptor is no UDP or TCP socket or another device uses it.
    fn transport_open(&self, source: SocketSource) -> Result<Transport>;

    /// Adds a peer. On a point-to-point device an existing peer is replaced (and reported as
    /// [`DelReason::Teardown`]).
    ///
    /// # Errors
    /// Every row of the kernel's PEER_NEW table; a failed call leaves no state behind.
    fn peer_new(&self, peer: &PeerConfig) -> Result<()>;

    /// Changes a peer; fields left `None` stay as they are. Setting [`Keepalive`] restarts both of its timers.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`] and every row of the kernel's PEER_SET table.
    fn peer_set(&self, id: PeerId, update: &PeerUpdate) -> Result<()>;

    /// Reads one peer, its counters included.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    fn peer_get(&self, id: PeerId) -> Result<PeerInfo>;

    /// Reads all peers; the remedy after a lost notification.
    ///
    /// # Errors
    /// Only when the driver itself has failed.
    fn peer_dump(&self) -> Result<Vec<PeerInfo>>;

    /// Removes a peer, its keys and counters. An [`Event::PeerDeleted`] with [`DelReason::Userspace`] follows.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    fn peer_del(&self, id: PeerId) -> Result<()>;

    /// Tells the peer on the data channel that this host leaves (`explicit-exit-notify` of releases before 2.6). One
    /// message, not acknowledged; nothing else changes.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the driver sends nothing but what comes from its device
    /// ([`Capabilities::peer_exit`] is false); [`ErrorKind::NoSuchPeer`].
    fn peer_exit(&self, id: PeerId) -> Result<()>;

    /// Installs a key into a slot, replacing what is there. Traffic is encrypted with the primary slot; received
    /// packets find their key by key id in either.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`], [`ErrorKind::BadKey`], [`ErrorKind::UnsupportedCipher`].
    fn key_new(&self, peer: PeerId, slot: KeySlot, key: &KeyConfig) -> Result<()>;

    /// Tells which key is in a slot, never its bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`], [`ErrorKind::NoSuchKey`].
    fn key_get(&self, peer: PeerId, slot: KeySlot) -> Result<KeyInfo>;

    /// Exchanges the primary and secondary slot; legal with either or both empty.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    fn key_swap(&self, peer: PeerId) -> Result<()>;

    /// Empties a slot; legal when it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    fn key_del(&self, peer: PeerId, slot: KeySlot) -> Result<()>;

    /// Sends inner packets for `prefix` to `peer`. Drivers that follow the system's routing table
    /// ([`Capabilities::system_routes`]) do nothing here: the caller installs `prefix via <VPN address> dev <device>`.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    fn route_add(&self, prefix: IpNet, peer: PeerId) -> Result<()>;

    /// Takes back [`route_add`](Self::route_add).
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchPeer`].
    fn route_del(&self, prefix: IpNet, peer: PeerId) -> Result<()>;

    /// Dropped packets by reason, reasons without any included; empty where the driver does not tell.
    fn drops(&self) -> Vec<Drops> {
        Vec::new()
    }

    /// Subscribes to events from now on; each subscriber sees every event.
    ///
    /// # Errors
    /// When the driver cannot deliver events (the kernel's multicast group is missing).
    fn events(&self) -> Result<Box<dyn EventSource>>;
}
