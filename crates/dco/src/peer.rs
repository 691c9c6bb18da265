//! Peers: what is told to a data plane, and what it tells back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::{Error, ErrorKind, PeerId, PeerStats, Result, TransportId};

/// A peer to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// The id expected in received packets, and the handle in this API.
    pub id: PeerId,
    /// The id written into sent packets where it differs from `id` (asymmetric ids).
    pub tx_id: Option<PeerId>,
    /// The transport it is reached over.
    pub transport: TransportId,
    /// Remote address, UDP only. An IPv4-mapped IPv6 address means the IPv4 address.
    pub remote: Option<SocketAddr>,
    /// Source address for packets to it (multihomed servers), UDP only.
    pub local: Option<IpAddr>,
    /// Its VPN addresses; required on a multi-peer device, forbidden on a point-to-point one.
    pub vpn: VpnAddrs,
    /// Compression framing of an old peer; [`Framing::None`] for everyone else.
    pub framing: Framing,
    /// Of an old peer that cuts packets by itself: the largest piece sent to it, bytes behind the fragment header, at
    /// least 4. That header then stands before every payload, both ways.
    pub fragment: Option<u16>,
}

impl PeerConfig {
    /// A peer reached over `transport`, and nothing more: a TCP connection's on a point-to-point device needs no more.
    pub const fn new(id: PeerId, transport: TransportId) -> Self {
        let (vpn, framing) = (VpnAddrs { v4: None, v6: None }, Framing::None);
        Self { id, tx_id: None, transport, remote: None, local: None, vpn, framing, fragment: None }
    }
}

/// VPN (inner) addresses of a peer on a multi-peer device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VpnAddrs {
    /// Inner IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Inner IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// Changes to a peer. `None` leaves a property as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerUpdate {
    /// New remote address (UDP only); no event is raised for it.
    pub remote: Option<SocketAddr>,
    /// New source address.
    pub local: Option<IpAddr>,
    /// New VPN addresses. An unspecified address (`0.0.0.0`, `::`) clears that family.
    pub vpn: VpnAddrs,
    /// New keepalive timers.
    pub keepalive: Option<Keepalive>,
    /// Largest TCP segment of inner IPv4 connections, bytes (IPv6: 20 less); 0 turns clamping off.
    pub mss: Option<u16>,
    /// New id written into sent packets.
    pub tx_id: Option<PeerId>,
}

/// Keepalive timers, whole seconds, at most a day. Either one zero turns both off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keepalive {
    /// A ping is sent when nothing else was for this long.
    pub interval: Duration,
    /// The peer is deleted ([`DelReason::Expired`](crate::DelReason::Expired)) when nothing authentic came for this
    /// long.
    pub timeout: Duration,
}

/// Compression framing that an old peer puts around inner packets. It is spoken and expanded, never applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Bare packets (also what `compress stub-v2` is on a tun device).
    #[default]
    None,
    /// `comp-lzo`: a prefix byte, 0xFA as is, 0x66 LZO.
    Lzo,
    /// `compress`, `compress lz4`: 0xFB with the first byte moved to the end, 0x69 LZ4.
    Swap,
    /// `compress lz4-v2` and `stub-v2`: 0x50 escape with an algorithm byte.
    V2,
}

impl Framing {
    /// Bytes that it adds to an IP packet that is not compressed (data-channel reference, section 11.1).
    pub const fn overhead(self) -> usize {
        match self {
            Self::None | Self::V2 => 0,
            Self::Lzo | Self::Swap => 1,
        }
    }
}

/// A peer as a data plane reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The peer's id.
    pub id: PeerId,
    /// The id in packets sent to it.
    pub tx_id: PeerId,
    /// Remote address, where known.
    pub remote: Option<SocketAddr>,
    /// Local address packets to it leave from, where known; unspecified when the system chooses.
    pub local: Option<SocketAddr>,
    /// VPN addresses.
    pub vpn: VpnAddrs,
    /// Keepalive timers.
    pub keepalive: Keepalive,
    /// Counters.
    pub stats: PeerStats,
}

impl VpnAddrs {
    /// True where neither family has an address.
    pub const fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// Refuses addresses that cannot belong to one host: multicast, broadcast, loopback, unspecified and embedded
    /// IPv4 ones.
    ///
    /// # Errors
    /// [`ErrorKind::BadVpnAddress`].
    pub fn check(&self) -> Result<()> {
        if let Some(v4) = self.v4
            && (v4.is_multicast() || v4.is_broadcast() || v4.is_loopback() || v4.is_unspecified())
        {
            return Err(Error::new(ErrorKind::BadVpnAddress, format!("{v4} is not the address of one host")));
        }
        if let Some(v6) = self.v6
            && (v6.is_multicast() || v6.is_loopback() || v6.is_unspecified() || v6.to_ipv4().is_some())
        {
            return Err(Error::new(ErrorKind::BadVpnAddress, format!("{v6} is not the address of one host")));
        }
        Ok(())
    }
}
