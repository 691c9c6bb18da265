//! The numbers of the kernel's `ovpn` family (uapi `linux/ovpn.h`), and ours beyond them.

/// Name of the family.
pub const FAMILY_NAME: &str = "ovpn";
/// Its multicast group.
pub const GROUP_NAME: &str = "peers";
/// Its version.
pub const VERSION: u8 = 1;
/// Message type of the engine's dialect, where no kernel gives out family ids.
pub const ENGINE_FAMILY: MessageType = 0x4F56;

/// A netlink message type: the family id.
pub type MessageType = u16;

/// Commands.
pub mod command {
    #![allow(missing_docs, reason = "the names are the kernel's")]
    pub const PEER_NEW: u8 = 1;
    pub const PEER_SET: u8 = 2;
    pub const PEER_GET: u8 = 3;
    pub const PEER_DEL: u8 = 4;
    pub const PEER_DEL_NTF: u8 = 5;
    pub const KEY_NEW: u8 = 6;
    pub const KEY_GET: u8 = 7;
    pub const KEY_SWAP: u8 = 8;
    pub const KEY_SWAP_NTF: u8 = 9;
    pub const KEY_DEL: u8 = 10;
    pub const PEER_FLOAT_NTF: u8 = 11;
    // the engine's own
    pub const TRANSPORT_OPEN: u8 = 128;
    pub const TRANSPORT_CLOSE: u8 = 129;
    pub const ROUTE_ADD: u8 = 130;
    pub const ROUTE_DEL: u8 = 131;
    pub const CAPABILITIES_GET: u8 = 132;
    pub const SUBSCRIBE: u8 = 133;
    pub const PEER_EXIT_NTF: u8 = 134;
    pub const LOST_NTF: u8 = 135;
    pub const DROPS_GET: u8 = 136;
}

/// Top-level attributes.
pub(crate) mod top {
    pub(crate) const IFINDEX: u16 = 1;
    pub(crate) const PEER: u16 = 2;
    pub(crate) const KEYCONF: u16 = 3;
    pub(crate) const TRANSPORT: u16 = 0x1000;
    pub(crate) const ROUTE: u16 = 0x1001;
    pub(crate) const CAPABILITIES: u16 = 0x1002;
    pub(crate) const DEVICE: u16 = 0x1003;
    pub(crate) const DROPS: u16 = 0x1004;
}

/// Attributes in PEER.
pub(crate) mod peer {
    pub(crate) const ID: u16 = 1;
    pub(crate) const REMOTE_IPV4: u16 = 2;
    pub(crate) const REMOTE_IPV6: u16 = 3;
    pub(crate) const REMOTE_IPV6_SCOPE_ID: u16 = 4;
    pub(crate) const REMOTE_PORT: u16 = 5;
    pub(crate) const SOCKET: u16 = 6;
    pub(crate) const VPN_IPV4: u16 = 8;
    pub(crate) const VPN_IPV6: u16 = 9;
    pub(crate) const LOCAL_IPV4: u16 = 10;
    pub(crate) const LOCAL_IPV6: u16 = 11;
    pub(crate) const LOCAL_PORT: u16 = 12;
    pub(crate) const KEEPALIVE_INTERVAL: u16 = 13;
    pub(crate) const KEEPALIVE_TIMEOUT: u16 = 14;
    pub(crate) const DEL_REASON: u16 = 15;
    pub(crate) const VPN_RX_BYTES: u16 = 16;
    pub(crate) const VPN_TX_BYTES: u16 = 17;
    pub(crate) const VPN_RX_PACKETS: u16 = 18;
    pub(crate) const VPN_TX_PACKETS: u16 = 19;
    pub(crate) const LINK_RX_BYTES: u16 = 20;
    pub(crate) const LINK_TX_BYTES: u16 = 21;
    pub(crate) const LINK_RX_PACKETS: u16 = 22;
    pub(crate) const LINK_TX_PACKETS: u16 = 23;
    pub(crate) const TX_ID: u16 = 24;
    pub(crate) const MSS: u16 = 0x1000;
    pub(crate) const FRAMING: u16 = 0x1001;
    pub(crate) const TRANSPORT: u16 = 0x1002;
    pub(crate) const FRAGMENT: u16 = 0x1003;
}

/// Attributes in KEYCONF.
pub(crate) mod key {
    pub(crate) const PEER_ID: u16 = 1;
    pub(crate) const SLOT: u16 = 2;
    pub(crate) const KEY_ID: u16 = 3;
    pub(crate) const CIPHER_ALG: u16 = 4;
    pub(crate) const ENCRYPT_DIR: u16 = 5;
    pub(crate) const DECRYPT_DIR: u16 = 6;
    pub(crate) const FORMAT: u16 = 0x1000;
    pub(crate) const KEY_LEN: u16 = 0x1001;
    /// In a direction.
    pub(crate) const CIPHER_KEY: u16 = 1;
    /// In a direction.
    pub(crate) const NONCE_TAIL: u16 = 2;
}

/// Attributes in TRANSPORT (engine's dialect).
pub(crate) mod transport {
    pub(crate) const ID: u16 = 1;
    pub(crate) const PROTOCOL: u16 = 2;
    pub(crate) const SOCKET: u16 = 3;
    pub(crate) const PORT: u16 = 4;
    pub(crate) const LOCAL: u16 = 5;
    pub(crate) const REMOTE: u16 = 6;
}

/// Attributes of an address in TRANSPORT (engine's dialect).
pub(crate) mod address {
    pub(crate) const IP: u16 = 1;
    pub(crate) const PORT: u16 = 2;
    pub(crate) const SCOPE_ID: u16 = 3;
}

/// Attributes in DROPS (engine's dialect).
pub(crate) mod drops {
    pub(crate) const REASON: u16 = 1;
    pub(crate) const DESCRIPTION: u16 = 2;
    pub(crate) const PACKETS: u16 = 3;
}

/// Attributes in ROUTE (engine's dialect).
pub(crate) mod route {
    pub(crate) const PEER_ID: u16 = 1;
    pub(crate) const ADDRESS: u16 = 2;
    pub(crate) const PREFIX_LENGTH: u16 = 3;
}

/// Attributes in CAPABILITIES (engine's dialect).
pub(crate) mod capability {
    pub(crate) const DRIVER: u16 = 1;
    pub(crate) const VERSION: u16 = 2;
    /// One for each cipher.
    pub(crate) const CIPHER: u16 = 3;
    /// Bits, in the order of the fields.
    pub(crate) const FLAGS: u16 = 4;
}

/// Attributes in DEVICE (engine's dialect).
pub(crate) mod device {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const IFINDEX: u16 = 2;
    pub(crate) const MODE: u16 = 3;
}
