//! What a driver can do, so that the planner can choose with a reason.

use std::fmt;

use crate::CipherAlg;

/// The data planes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Driver {
    /// Our userspace engine.
    Engine,
    /// The Linux kernel's `ovpn` module (6.16 and later).
    Kernel,
    /// Its older out-of-tree form, `ovpn-dco-v2`.
    KernelV2,
    /// Windows' `ovpn-dco-win`.
    Windows,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Engine => "engine",
            Self::Kernel => "kernel (ovpn)",
            Self::KernelV2 => "kernel (ovpn-dco-v2)",
            Self::Windows => "windows (ovpn-dco-win)",
        })
    }
}

/// What one driver offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Which driver this is.
    pub driver: Driver,
    /// Version text for log and status.
    pub version: String,
    /// Ciphers it takes; `None` only where tests asked for it.
    pub ciphers: Vec<CipherAlg>,
    /// AES-192-GCM keys are taken.
    pub aes_192: bool,
    /// The epoch data format.
    pub epoch: bool,
    /// DATA_V1 packets of peers without peer ids.
    pub data_v1: bool,
    /// TCP transports.
    pub tcp: bool,
    /// Multi-peer devices.
    pub multi_peer: bool,
    /// Multi-peer devices over TCP.
    pub multi_peer_tcp: bool,
    /// Clamps TCP MSS of inner connections.
    pub mss: bool,
    /// Different ids for sending and receiving.
    pub tx_id: bool,
    /// Deletes one key without touching the other.
    pub key_del: bool,
    /// Peers may float.
    pub float: bool,
    /// Speaks the compression framings of old peers.
    pub framing: bool,
    /// Cuts packets into pieces, and joins them, for old peers.
    pub fragment: bool,
    /// Follows the system's routing table for networks behind peers (else `route_add` is needed).
    pub system_routes: bool,
    /// Reports exits that older peers announce on the data channel, and announces one there.
    pub peer_exit: bool,
}
