//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::Result;
use super::super::message::{
    Attributes, Malformed, MessageBuilder, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, u32_at,
};
use super::{Rtnetlink, family_of};

pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
pub(super) const HEADER_LEN: usize = 8;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub index: u32,
    /// The address with its prefix length (the peer's prefix length where there is a peer).
    pub network: IpNet,
    /// The other end of a point-to-point link.
    pub peer: Option<IpAddr>,
}

impl Rtnetlink {
    /// Adds an address, with the network's broadcast address where IPv4 has one.
    ///
    /// # Errors
    /// `EEXIST` where the link has it.
    pub fn address_add(&self, index: u32, network: IpNet) -> Result<()> {
        self.address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, network.addr(), network, "add")
    }

    /// Adds an address, or keeps it where the link has it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address_replace(&self, index: u32, network: IpNet) -> Result<()> {
        self.address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, network.addr(), network, "add")
    }

    /// Adds a point-to-point address: `local` here, `peer` (with its prefix length) there.
    ///
    /// # Errors
    /// `EEXIST` where the link has it.
    pub fn address_add_peer(&self, index: u32, local: IpAddr, peer: IpNet) -> Result<()> {
        self.address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, local, peer, "add")
    }

    /// Deletes an address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` where the link lacks it.
    pub fn address_del(&self, index: u32, network: IpNet) -> Result<()> {
        self.address(RTM_DELADDR, 0, index, network.addr(), network, "delete")
    }

    /// Deletes a point-to-point address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` where the link lacks it.
    pub fn address_del_peer(&self, index: u32, local: IpAddr, peer: IpNet) -> Result<()> {
        self.address(RTM_DELADDR, 0, index, local, peer, "delete")
    }

    /// Reads all addresses of all links, both families.
    ///
    /// # Errors
    /// What the system says.
    pub fn addresses(&self) -> Result<Vec<Address>> {
        let request = MessageBuilder::new(RTM_GETADDR, 0).header(&[0; HEADER_LEN]);
        let replies = self.socket.dump(request).map_err(|error| error.during("read all addresses"))?;
        let mut addresses = Vec::with_capacity(replies.len());
        for reply in &replies {
            let (header, attributes) = reply.after_header(HEADER_LEN)?;
            addresses.extend(parse(header, attributes)?);
        }
        Ok(addresses)
    }

    fn address(
        &self,
        kind: u16,
        flags: u16,
        index: u32,
        local: IpAddr,
        other: IpNet,
        verb: &str,
    ) -> Result<()> {
        // family 1 │ prefix length 1 │ flags 1 │ scope 1 │ index 4
        let mut header = [family_of(local), other.prefix_len(), 0, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&index.to_ne_bytes());
        let request = MessageBuilder::new(kind, flags).header(&header).with(|a| {
            a.ip(IFA_LOCAL, local).ip(IFA_ADDRESS, other.addr());
            if let IpNet::V4(v4) = other
                && other.addr() == local
                && other.prefix_len() < 31
            {
                a.ip(IFA_BROADCAST, v4.broadcast().into());
            }
        });
        let what = format!("{verb} address {local} ({other}) on link {index}");
        self.socket.request(request).map_err(|error| error.during(what))?;
        Ok(())
    }
}

/// `None` for a family other than IPv4 and IPv6.
pub(super) fn parse(
    header: &[u8],
    attributes: Attributes<'_>,
) -> std::result::Result<Option<Address>, Malformed> {
    let (mut local, mut address) = (None, None);
    let prefix = header.get(1).copied().unwrap_or_default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            IFA_LOCAL => local = Some(attribute.ip()?),
            IFA_ADDRESS => address = Some(attribute.ip()?),
            _ => {}
        }
    }
    let peer = match (local, address) {
        (Some(local), Some(address)) if local != address => Some(address),
        _ => None,
    };
    let Some(own) = local.or(address) else { return Ok(None) };
    let network = IpNet::new(own, prefix).map_err(|_| Malformed("prefix length"))?;
    Ok(Some(Address { index: u32_at(header, 4), network, peer }))
}
