//! The TUN device.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// The kind of virtual device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// Layer 3.
    #[default]
    Tun,
    /// No device at all; packets are thrown away (`dev null`).
    Null,
}

/// `data-plane`: which data plane is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataPlane {
    /// The best that can carry this configuration.
    #[default]
    Auto,
    /// The userspace engine.
    Engine,
    /// The kernel's driver, or nothing.
    Kernel,
}

/// How addresses inside the tunnel relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One shared subnet.
    Subnet,
    /// A /30 per client.
    Net30,
    /// Point to point.
    P2p,
}

impl Topology {
    /// The word used in files and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subnet => "subnet",
            Self::Net30 => "net30",
            Self::P2p => "p2p",
        }
    }
}

/// `ifconfig LOCAL REMOTE|MASK`: the meaning of the second address depends on the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ifconfig {
    /// Address and prefix length.
    Subnet {
        /// Own address.
        local: Ipv4Addr,
        /// Netmask as prefix length, 0 to 32.
        prefix: u8,
    },
    /// Two ends.
    PointToPoint {
        /// Own address.
        local: Ipv4Addr,
        /// The other end's address.
        remote: Ipv4Addr,
    },
}

/// `ifconfig-ipv6 ADDR/BITS REMOTE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfconfigIpv6 {
    /// Own address and prefix length.
    pub local: Ipv6Net,
    /// The other end's address.
    pub remote: Ipv6Addr,
}

/// The TUN device and what is set on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Layer 3 or nothing; layer 2 is refused.
    pub kind: DeviceKind,
    /// Fixed name (`dev tun3`, `dev corp0`); `None`: the first free `tunN`.
    pub name: Option<String>,
    /// As given, or the default: servers subnet, others net30 until the server pushes something.
    pub topology: Topology,
    /// Whether [`Device::topology`] was written in the file.
    pub topology_given: bool,
    /// IPv4 address.
    pub ifconfig: Option<Ifconfig>,
    /// IPv6 address.
    pub ifconfig_ipv6: Option<IfconfigIpv6>,
    /// Only export the addresses to scripts, set nothing.
    pub ifconfig_noexec: bool,
    /// MTU in bytes.
    pub mtu: u16,
    /// Whether [`Device::mtu`] was written in the file.
    pub mtu_given: bool,
    /// Largest `tun-mtu` accepted from the server, in bytes.
    pub mtu_max: u16,
    /// Keep the device open over restarts.
    pub persist: bool,
    /// The file says `disable-dco`: the userspace data plane is used.
    pub disable_dco: bool,
    /// Which data plane is asked for.
    pub data_plane: DataPlane,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            kind: DeviceKind::Tun,
            name: None,
            topology: Topology::Net30,
            topology_given: false,
            ifconfig: None,
            ifconfig_ipv6: None,
            ifconfig_noexec: false,
            mtu: 1500,
            mtu_given: false,
            mtu_max: 1600,
            persist: false,
            disable_dco: false,
            data_plane: DataPlane::Auto,
        }
    }
}
