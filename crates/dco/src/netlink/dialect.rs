//! What the engine's dialect has beyond the kernel's: transports, capabilities, the device.
//!
//! A transport is opened with two descriptors passed along: the socket, and one end of a sequenced-packet socket pair
//! on which its control packets come and go.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use ovpn_sys::netlink::message::{AttributeWriter, Attributes, Message, MessageBuilder, NLM_F_MULTI};

use super::attribute::{ENGINE_FAMILY, VERSION, address, capability, command, device, drops, top, transport};
use super::policy::{Checked, Rule, Table, check, invalid, missing};
use super::request::{Command, cipher_from, cipher_number};
use crate::{Capabilities, Device, Driver, Drops, Mode, Protocol, Result, SocketSource, TransportId};

/// Where a transport's socket comes from; [`SocketSource`] with an index for the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Index of the socket among the descriptors passed with the request.
    Socket(u32),
    /// The driver makes it.
    Driver {
        /// UDP or TCP.
        protocol: Protocol,
        /// Address to bind.
        local: Option<SocketAddr>,
        /// Address to connect to.
        remote: Option<SocketAddr>,
    },
}

/// An opened transport, as the engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its id.
    pub id: TransportId,
    /// Its protocol.
    pub protocol: Protocol,
}

const ADDRESS: Table = &[
    (address::IP, Rule::AtMost(16)),
    (address::PORT, Rule::U32(0xFFFF)),
    (address::SCOPE_ID, Rule::U32(u32::MAX)),
];
pub(super) const TRANSPORT: Table = &[
    (transport::ID, Rule::U64),
    (transport::PROTOCOL, Rule::U32(1)),
    (transport::SOCKET, Rule::U32(u32::MAX)),
    (transport::PORT, Rule::U32(u32::MAX)),
    (transport::LOCAL, Rule::Nest(ADDRESS)),
    (transport::REMOTE, Rule::Nest(ADDRESS)),
];
const CAPABILITIES: Table = &[
    (capability::DRIVER, Rule::U32(3)),
    (capability::VERSION, Rule::AtMost(256)),
    (capability::CIPHER, Rule::U32(7)),
    (capability::FLAGS, Rule::U32(u32::MAX)),
];
const DEVICE: Table =
    &[(device::NAME, Rule::AtMost(64)), (device::IFINDEX, Rule::U32(u32::MAX)), (device::MODE, Rule::U32(1))];
const DROPS: Table = &[
    (drops::REASON, Rule::AtMost(64)),
    (drops::DESCRIPTION, Rule::AtMost(1024)),
    (drops::PACKETS, Rule::U64),
];
const ANSWER: Table = &[
    (top::IFINDEX, Rule::U32(u32::MAX)),
    (top::TRANSPORT, Rule::Nest(TRANSPORT)),
    (top::CAPABILITIES, Rule::Nest(CAPABILITIES)),
    (top::DEVICE, Rule::Nest(DEVICE)),
    (top::DROPS, Rule::Nest(DROPS)),
];

// ---- transports ----

pub(super) fn open(source: SocketSource, port: OwnedFd) -> (Command, Vec<OwnedFd>) {
    match source {
        SocketSource::Socket(socket) => {
            (Command::TransportOpen { source: Source::Socket(0), port: 1 }, vec![socket, port])
        }
        SocketSource::Driver { protocol, local, remote } => (
            Command::TransportOpen { source: Source::Driver { protocol, local, remote }, port: 0 },
            vec![port],
        ),
    }
}

pub(super) fn write_open(source: &Source, port: u32, a: &mut AttributeWriter) {
    a.nest(top::TRANSPORT, |a| {
        a.u32(transport::PORT, port);
        match *source {
            Source::Socket(index) => {
                a.u32(transport::SOCKET, index);
            }
            Source::Driver { protocol, local, remote } => {
                a.u32(transport::PROTOCOL, protocol_number(protocol));
                for (kind, address) in [(transport::LOCAL, local), (transport::REMOTE, remote)] {
                    if let Some(address) = address {
                        a.nest(kind, |a| write_address(address, a));
                    }
                }
            }
        }
    });
}

pub(super) fn write_close(id: TransportId, a: &mut AttributeWriter) {
    a.nest(top::TRANSPORT, |a| {
        a.bytes(transport::ID, &id.0.to_ne_bytes());
    });
}

fn write_address(address: SocketAddr, a: &mut AttributeWriter) {
    a.ip(address::IP, address.ip()).u32(address::PORT, address.port().into());
    if let SocketAddr::V6(v6) = address {
        a.u32(address::SCOPE_ID, v6.scope_id());
    }
}

pub(super) fn read_open(top: &Checked<'_>) -> Result<Command> {
    let nest = top.nest(top::TRANSPORT)?.ok_or_else(|| missing("TRANSPORT"))?;
    let port = nest.u32(transport::PORT)?.ok_or_else(|| missing("TRANSPORT.PORT"))?;
    let source = match nest.u32(transport::SOCKET)? {
        Some(index) => Source::Socket(index),
        None => Source::Driver {
            protocol: read_protocol(&nest)?,
            local: read_address(&nest, transport::LOCAL)?,
            remote: read_address(&nest, transport::REMOTE)?,
        },
    };
    Ok(Command::TransportOpen { source, port })
}

pub(super) fn read_close(top: &Checked<'_>) -> Result<Command> {
    let nest = top.nest(top::TRANSPORT)?.ok_or_else(|| missing("TRANSPORT"))?;
    let id = nest.find(transport::ID).ok_or_else(|| missing("TRANSPORT.ID"))?;
    Ok(Command::TransportClose(TransportId(id.uint()?)))
}

fn read_address(nest: &Checked<'_>, kind: u16) -> Result<Option<SocketAddr>> {
    let Some(nest) = nest.nest(kind)? else { return Ok(None) };
    let ip = nest.find(address::IP).ok_or_else(|| missing("address"))?.ip()?;
    let port = u16::try_from(nest.u32(address::PORT)?.unwrap_or(0)).unwrap_or(0);
    let scope = nest.u32(address::SCOPE_ID)?.unwrap_or(0);
    Ok(Some(match ip {
        IpAddr::V4(v4) => SocketAddr::from((v4, port)),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
    }))
}

const fn protocol_number(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::Udp => 0,
        Protocol::Tcp => 1,
    }
}

fn read_protocol(nest: &Checked<'_>) -> Result<Protocol> {
    Ok(match nest.u32(transport::PROTOCOL)?.ok_or_else(|| missing("TRANSPORT.PROTOCOL"))? {
        0 => Protocol::Udp,
        _ => Protocol::Tcp,
    })
}

// ---- answers ----

pub(super) fn encode_opened(opened: Opened) -> Vec<u8> {
    answer(command::TRANSPORT_OPEN, |a| {
        a.nest(top::TRANSPORT, |a| {
            a.bytes(transport::ID, &opened.id.0.to_ne_bytes())
                .u32(transport::PROTOCOL, protocol_number(opened.protocol));
        });
    })
}

pub(super) fn encode_capabilities(capabilities: &Capabilities, device: &Device) -> Vec<u8> {
    answer(command::CAPABILITIES_GET, |a| {
        a.nest(top::CAPABILITIES, |a| {
            let ciphers = capabilities.ciphers.iter().fold(0, |bits, c| bits | 1 << cipher_number(*c));
            let flags = flags(capabilities).iter().rev().fold(0, |bits, flag| bits << 1 | u32::from(*flag));
            a.u32(capability::DRIVER, driver_number(capabilities.driver))
                .string(capability::VERSION, &capabilities.version)
                .u32(capability::CIPHER, ciphers)
                .u32(capability::FLAGS, flags);
        });
        a.nest(top::DEVICE, |a| {
            a.string(device::NAME, &device.name)
                .u32(device::IFINDEX, device.ifindex)
                .u32(device::MODE, u32::from(device.mode == Mode::MultiPeer));
        });
    })
}

/// One part of the answer to [`Command::DropsGet`].
pub(super) fn encode_drops(dropped: &Drops) -> Vec<u8> {
    let message =
        MessageBuilder::new(ENGINE_FAMILY, NLM_F_MULTI).header(&[command::DROPS_GET, VERSION, 0, 0]);
    let written = message.with(|a| {
        a.nest(top::DROPS, |a| {
            a.string(drops::REASON, &dropped.reason)
                .string(drops::DESCRIPTION, &dropped.description)
                .bytes(drops::PACKETS, &dropped.packets.to_ne_bytes());
        });
    });
    written.finish()
}

/// Reads one part of the answer to [`Command::DropsGet`].
///
/// # Errors
/// Where it is none.
pub fn decode_drops(payload: &[u8]) -> Result<Drops> {
    let nest = read_answer(payload)?.nest(top::DROPS)?.ok_or_else(|| missing("DROPS"))?;
    let find = |kind, name: &str| nest.find(kind).ok_or_else(|| missing(name));
    Ok(Drops {
        reason: find(drops::REASON, "DROPS.REASON")?.string()?.to_owned().into(),
        description: find(drops::DESCRIPTION, "DROPS.DESCRIPTION")?.string()?.to_owned().into(),
        packets: find(drops::PACKETS, "DROPS.PACKETS")?.uint()?,
    })
}

/// Reads the answer to [`Command::TransportOpen`].
///
/// # Errors
/// Where it is none.
pub fn decode_opened(payload: &[u8]) -> Result<Opened> {
    let nest = read_answer(payload)?.nest(top::TRANSPORT)?.ok_or_else(|| missing("TRANSPORT"))?;
    let id = nest.find(transport::ID).ok_or_else(|| missing("TRANSPORT.ID"))?.uint()?;
    Ok(Opened { id: TransportId(id), protocol: read_protocol(&nest)? })
}

/// Reads the capabilities in the answer to [`Command::CapabilitiesGet`].
///
/// # Errors
/// Where it is none.
pub fn decode_capabilities(payload: &[u8]) -> Result<Capabilities> {
    let nest = read_answer(payload)?.nest(top::CAPABILITIES)?.ok_or_else(|| missing("CAPABILITIES"))?;
    let version = nest.find(capability::VERSION).ok_or_else(|| missing("VERSION"))?.string()?.to_owned();
    let bits = nest.u32(capability::CIPHER)?.unwrap_or(0);
    let ciphers = (0..3).filter(|number| bits >> number & 1 == 1).filter_map(cipher_from).collect();
    let flags = nest.u32(capability::FLAGS)?.unwrap_or(0);
    let flag = |index: u32| flags >> index & 1 == 1;
    let driver = match nest.u32(capability::DRIVER)?.ok_or_else(|| missing("DRIVER"))? {
        0 => Driver::Engine,
        1 => Driver::Kernel,
        2 => Driver::KernelV2,
        _ => Driver::Windows,
    };
    Ok(Capabilities {
        driver,
        version,
        ciphers,
        aes_192: flag(0),
        epoch: flag(1),
        data_v1: flag(2),
        tcp: flag(3),
        multi_peer: flag(4),
        multi_peer_tcp: flag(5),
        mss: flag(6),
        tx_id: flag(7),
        key_del: flag(8),
        float: flag(9),
        framing: flag(10),
        system_routes: flag(11),
        peer_exit: flag(12),
        fragment: flag(13),
    })
}

/// Reads the device in the answer to [`Command::CapabilitiesGet`].
///
/// # Errors
/// Where it is none.
pub fn decode_device(payload: &[u8]) -> Result<Device> {
    let nest = read_answer(payload)?.nest(top::DEVICE)?.ok_or_else(|| missing("DEVICE"))?;
    Ok(Device {
        name: nest.find(device::NAME).ok_or_else(|| missing("NAME"))?.string()?.to_owned(),
        ifindex: nest.u32(device::IFINDEX)?.ok_or_else(|| missing("IFINDEX"))?,
        mode: if nest.u32(device::MODE)? == Some(1) { Mode::MultiPeer } else { Mode::P2p },
    })
}

const fn flags(c: &Capabilities) -> [bool; 14] {
    [
        c.aes_192,
        c.epoch,
        c.data_v1,
        c.tcp,
        c.multi_peer,
        c.multi_peer_tcp,
        c.mss,
        c.tx_id,
        c.key_del,
        c.float,
        c.framing,
        c.system_routes,
        c.peer_exit,
        c.fragment,
    ]
}

const fn driver_number(driver: Driver) -> u32 {
    match driver {
        Driver::Engine => 0,
        Driver::Kernel => 1,
        Driver::KernelV2 => 2,
        Driver::Windows => 3,
    }
}

fn answer(number: u8, write: impl FnOnce(&mut AttributeWriter)) -> Vec<u8> {
    MessageBuilder::new(ENGINE_FAMILY, 0).header(&[number, VERSION, 0, 0]).with(write).finish()
}

/// `payload`: what follows the netlink header.
fn read_answer(payload: &[u8]) -> Result<Checked<'_>> {
    let message = Message { kind: ENGINE_FAMILY, flags: 0, sequence: 0, port: 0, payload };
    let (_, attributes): (_, Attributes<'_>) = message.after_header(4)?;
    if payload.is_empty() {
        return Err(invalid("an empty answer"));
    }
    check(attributes, ANSWER)
}
