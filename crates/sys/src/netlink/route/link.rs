//! Links: network interfaces.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::super::message::{Attributes, Malformed, MessageBuilder, NLM_F_CREATE, NLM_F_EXCL, u32_at};
use super::super::{Error, Result};
use super::Rtnetlink;

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
pub(super) const HEADER_LEN: usize = 16;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_STATS64: u16 = 23;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_OVPN_MODE: u16 = 1;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;

/// A link as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// MTU, bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// It has carrier.
    pub running: bool,
    /// Its kind (`tun`, `ovpn`, `veth`, …); hardware has none.
    pub kind: Option<String>,
    /// Its free text for people and programs.
    pub alias: Option<String>,
    /// Mode of an `ovpn` device, where the kernel tells it.
    pub ovpn_mode: Option<OvpnMode>,
    /// What went through it since it was made.
    pub counters: LinkCounters,
}

/// A link's counters (`struct rtnl_link_stats64`). Received is what came out of the link: for a tunnel's device,
/// what peers sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Received packets dropped for want of room.
    pub rx_dropped: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
}

impl LinkCounters {
    fn parse(bytes: &[u8]) -> Self {
        let at = |index: usize| {
            let field = bytes.get(index * 8..index * 8 + 8).and_then(|field| field.try_into().ok());
            field.map_or(0, u64::from_ne_bytes)
        };
        Self {
            rx_packets: at(0),
            tx_packets: at(1),
            rx_bytes: at(2),
            tx_bytes: at(3),
            rx_errors: at(4),
            tx_errors: at(5),
            rx_dropped: at(6),
            tx_dropped: at(7),
        }
    }
}

/// Mode of an `ovpn` device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OvpnMode {
    /// One peer.
    P2p,
    /// Many peers.
    MultiPeer,
}

/// Changes to a link; `None` leaves a property as it is.
#[derive(Debug, Clone, Default)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// MTU, bytes.
    pub mtu: Option<u32>,
    /// New name.
    pub name: Option<String>,
    /// New free text.
    pub alias: Option<String>,
    /// Network namespace to move to.
    pub namespace: Option<Namespace<'a>>,
}

/// A network namespace, named by one of its handles.
#[derive(Debug, Clone, Copy)]
pub enum Namespace<'a> {
    /// An open namespace file, such as `/run/netns/NAME`.
    Descriptor(BorrowedFd<'a>),
    /// That of a process.
    Process(u32),
}

impl Rtnetlink {
    /// Makes a link of a kind that needs no data (`dummy`, `ifb`, `wireguard`, …).
    ///
    /// # Errors
    /// `EEXIST` where the name is taken; `EOPNOTSUPP` where the kernel has no such kind.
    pub fn link_add(&self, name: &str, kind: &str) -> Result<()> {
        self.add(name, kind, &[])
    }

    /// Makes an `ovpn` device (`kind` `"ovpn"`), or one of its older form (`"ovpn-dco"`).
    ///
    /// # Errors
    /// As [`Self::link_add`].
    pub fn link_add_ovpn(&self, name: &str, kind: &str, mode: OvpnMode) -> Result<()> {
        let mut data = super::super::message::AttributeWriter::default();
        data.u8(IFLA_OVPN_MODE, u8::from(mode == OvpnMode::MultiPeer));
        self.add(name, kind, &data.into_bytes())
    }

    /// Makes a pair of virtual Ethernet links.
    ///
    /// # Errors
    /// As [`Self::link_add`].
    pub fn link_add_veth(&self, name: &str, peer: &str) -> Result<()> {
        let mut data = super::super::message::AttributeWriter::default();
        let mut content = vec![0; HEADER_LEN];
        let mut attributes = super::super::message::AttributeWriter::default();
        attributes.string(IFLA_IFNAME, peer);
        content.extend_from_slice(&attributes.into_bytes());
        data.bytes(VETH_INFO_PEER, &content);
        self.add(name, "veth", &data.into_bytes())
    }

    fn add(&self, name: &str, kind: &str, data: &[u8]) -> Result<()> {
        let request = link_add_request(name, kind, data);
        let what = format!("make link {name} of kind {kind}");
        self.socket.request(request).map_err(|error| error.during(what))?;
        Ok(())
    }

    /// Deletes a link.
    ///
    /// # Errors
    /// `ENODEV` where it is gone; `EOPNOTSUPP` for hardware.
    pub fn link_del(&self, index: u32) -> Result<()> {
        let request = MessageBuilder::new(RTM_DELLINK, 0).header(&header(index, 0, 0));
        self.socket.request(request).map_err(|error| error.during(format!("delete link {index}")))?;
        Ok(())
    }

    /// Changes a link.
    ///
    /// # Errors
    /// What the kernel says of the change.
    pub fn link_change(&self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        let (flags, mask) = match change.up {
            Some(up) => (if up { IFF_UP } else { 0 }, IFF_UP),
            None => (0, 0),
        };
        let request = MessageBuilder::new(RTM_NEWLINK, 0).header(&header(index, flags, mask)).with(|a| {
            if let Some(name) = &change.name {
                a.string(IFLA_IFNAME, name);
            }
            if let Some(mtu) = change.mtu {
                a.u32(IFLA_MTU, mtu);
            }
            if let Some(alias) = &change.alias {
                a.bytes(IFLA_IFALIAS, alias.as_bytes());
            }
            match change.namespace {
                Some(Namespace::Descriptor(fd)) => {
                    a.u32(IFLA_NET_NS_FD, fd.as_raw_fd().unsigned_abs());
                }
                Some(Namespace::Process(process)) => {
                    a.u32(IFLA_NET_NS_PID, process);
                }
                None => {}
            }
        });
        self.socket.request(request).map_err(|error| error.during(format!("change link {index}")))?;
        Ok(())
    }

    /// Reads a link by index.
    ///
    /// # Errors
    /// `ENODEV` where there is none.
    pub fn link_get(&self, index: u32) -> Result<Link> {
        let request = MessageBuilder::new(RTM_GETLINK, 0).header(&header(index, 0, 0));
        self.one(request).map_err(|error| error.during(format!("read link {index}")))
    }

    /// Reads a link by name.
    ///
    /// # Errors
    /// `ENODEV` where there is none.
    pub fn link_by_name(&self, name: &str) -> Result<Link> {
        let request = MessageBuilder::new(RTM_GETLINK, 0).header(&header(0, 0, 0)).with(|a| {
            a.string(IFLA_IFNAME, name);
        });
        self.one(request).map_err(|error| error.during(format!("read link {name}")))
    }

    /// Reads all links.
    ///
    /// # Errors
    /// What the system says.
    pub fn links(&self) -> Result<Vec<Link>> {
        let request = MessageBuilder::new(RTM_GETLINK, 0).header(&header(0, 0, 0));
        let replies = self.socket.dump(request).map_err(|error| error.during("read all links"))?;
        let mut links = Vec::with_capacity(replies.len());
        for reply in &replies {
            let (header, attributes) = reply.after_header(HEADER_LEN)?;
            links.push(parse(header, attributes)?);
        }
        Ok(links)
    }

    fn one(&self, request: MessageBuilder) -> Result<Link> {
        let replies = self.socket.request(request)?;
        let reply = replies.first().ok_or_else(|| Error::new(libc::ENODEV, ""))?;
        let (header, attributes) = reply.after_header(HEADER_LEN)?;
        Ok(parse(header, attributes)?)
    }
}

fn link_add_request(name: &str, kind: &str, data: &[u8]) -> MessageBuilder {
    MessageBuilder::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL).header(&header(0, 0, 0)).with(|a| {
        a.string(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |a| {
            a.string(IFLA_INFO_KIND, kind);
            if !data.is_empty() {
                a.nest(IFLA_INFO_DATA, |a| {
                    a.append(data);
                });
            }
        });
    })
}

/// `ifinfomsg`: family 1 │ padding 1 │ type 2 │ index 4 │ flags 4 │ change mask 4.
fn header(index: u32, flags: u32, mask: u32) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

pub(super) fn parse(header: &[u8], attributes: Attributes<'_>) -> std::result::Result<Link, Malformed> {
    let flags = u32_at(header, 8);
    let mut link = Link {
        index: u32_at(header, 4),
        up: flags & IFF_UP != 0,
        running: flags & IFF_LOWER_UP != 0,
        ..Link::default()
    };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.string()?.to_owned(),
            IFLA_IFALIAS => link.alias = Some(attribute.string()?.to_owned()),
            IFLA_MTU => link.mtu = attribute.u32()?,
            IFLA_STATS64 => link.counters = LinkCounters::parse(attribute.payload),
            IFLA_LINKINFO => {
                let mut data = None;
                for field in attribute.attributes() {
                    let field = field?;
                    match field.kind {
                        IFLA_INFO_KIND => link.kind = Some(field.string()?.to_owned()),
                        IFLA_INFO_DATA => data = Some(field),
                        _ => {}
                    }
                }
                if let (Some("ovpn" | "ovpn-dco"), Some(data)) = (link.kind.as_deref(), data) {
                    for field in data.attributes() {
                        let field = field?;
                        if field.kind == IFLA_OVPN_MODE {
                            link.ovpn_mode =
                                Some(if field.u8()? == 0 { OvpnMode::P2p } else { OvpnMode::MultiPeer });
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ip link add tun9 type ovpn mode multipeer`, from the kernel's rt_link specification.
    #[cfg(target_endian = "little")]
    #[test]
    fn ovpn_device_request() {
        let mut data = super::super::super::message::AttributeWriter::default();
        data.u8(IFLA_OVPN_MODE, 1);
        let bytes = link_add_request("tun9", "ovpn", &data.into_bytes()).finish();
        #[rustfmt::skip]
        let expected = [
            72, 0, 0, 0, 16, 0, 0x00, 0x06, 0, 0, 0, 0, 0, 0, 0, 0, // RTM_NEWLINK, CREATE|EXCL
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // ifinfomsg
            9, 0, 3, 0, b't', b'u', b'n', b'9', 0, 0, 0, 0, // IFLA_IFNAME
            28, 0, 18, 0x80, // IFLA_LINKINFO
            9, 0, 1, 0, b'o', b'v', b'p', b'n', 0, 0, 0, 0, // IFLA_INFO_KIND
            12, 0, 2, 0x80, 5, 0, 1, 0, 1, 0, 0, 0, // IFLA_INFO_DATA { IFLA_OVPN_MODE = MP }
        ];
        assert_eq!(bytes, expected);
    }
    #[test]
    fn counters_stand_in_the_order_of_the_kernel() {
        let bytes: Vec<u8> = (1..=24u64).flat_map(u64::to_ne_bytes).collect();
        let counters = LinkCounters::parse(&bytes);
        assert_eq!((counters.rx_packets, counters.tx_bytes, counters.tx_dropped), (1, 4, 8));
        assert_eq!(LinkCounters::parse(&bytes[..20]).rx_bytes, 0, "an old kernel's shorter form");
    }
}
