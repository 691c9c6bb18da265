//! What a data plane answers: peers with their counters, keys without their bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use ovpn_sys::netlink::message::{Attribute, AttributeWriter, Message, MessageBuilder, attributes};

use super::attribute::{MessageType, VERSION, command, key, peer, top};
use super::policy::{invalid, missing};
use super::request::{cipher_from, cipher_number, slot_number, write_keepalive, write_remote, write_vpn};
use crate::{Counters, Keepalive, KeyId, KeyInfo, KeySlot, PeerId, PeerInfo, PeerStats, Result, VpnAddrs};

/// The answer to PEER_GET, or one part of its dump (`flags` then has NLM_F_MULTI).
pub fn encode_peer(family: MessageType, flags: u16, info: &PeerInfo) -> Vec<u8> {
    MessageBuilder::new(family, flags)
        .header(&[command::PEER_GET, VERSION, 0, 0])
        .with(|a| {
            a.nest(top::PEER, |a| write(info, a));
        })
        .finish()
}

fn write(info: &PeerInfo, a: &mut AttributeWriter) {
    a.u32(peer::ID, info.id.get()).u32(peer::TX_ID, info.tx_id.get());
    write_vpn(&info.vpn, a);
    write_keepalive(Some(info.keepalive), a);
    write_remote(info.remote, a);
    if let Some(local) = info.local {
        match local.ip().to_canonical() {
            IpAddr::V4(v4) => a.bytes(peer::LOCAL_IPV4, &v4.octets()),
            IpAddr::V6(v6) => a.bytes(peer::LOCAL_IPV6, &v6.octets()),
        };
        a.be16(peer::LOCAL_PORT, local.port());
    }
    let PeerStats { vpn, link } = &info.stats;
    a.uint(peer::VPN_RX_BYTES, vpn.rx_bytes)
        .uint(peer::VPN_TX_BYTES, vpn.tx_bytes)
        .uint(peer::VPN_RX_PACKETS, vpn.rx_packets)
        .uint(peer::VPN_TX_PACKETS, vpn.tx_packets)
        .uint(peer::LINK_RX_BYTES, link.rx_bytes)
        .uint(peer::LINK_TX_BYTES, link.tx_bytes)
        .uint(peer::LINK_RX_PACKETS, link.rx_packets)
        .uint(peer::LINK_TX_PACKETS, link.tx_packets);
}

/// Reads an answer to PEER_GET, or one part of its dump; `payload` is what follows the netlink header. Attributes
/// of newer kernels are passed over.
///
/// # Errors
/// Where it is none.
pub fn decode_peer(payload: &[u8]) -> Result<PeerInfo> {
    let nest = nest(payload, top::PEER)?.ok_or_else(|| missing("PEER"))?;
    let (mut id, mut tx_id) = (None, None);
    let (mut remote, mut remote_port, mut scope) = (None, 0, 0);
    let (mut local, mut local_port) = (None, 0);
    let mut vpn = VpnAddrs::default();
    let mut keepalive = Keepalive::default();
    let mut stats = PeerStats { vpn: Counters::default(), link: Counters::default() };
    for field in attributes(nest.payload) {
        let field = field?;
        let seconds = || -> Result<Duration> { Ok(Duration::from_secs(field.u32()?.into())) };
        match field.kind {
            peer::ID => id = PeerId::new(field.u32()?),
            peer::TX_ID => tx_id = PeerId::new(field.u32()?),
            peer::REMOTE_IPV4 | peer::REMOTE_IPV6 => remote = Some(field.ip()?),
            peer::REMOTE_IPV6_SCOPE_ID => scope = field.u32()?,
            peer::REMOTE_PORT => remote_port = field.be16()?,
            peer::LOCAL_IPV4 | peer::LOCAL_IPV6 => local = Some(field.ip()?),
            peer::LOCAL_PORT => local_port = field.be16()?,
            peer::VPN_IPV4 => vpn.v4 = Some(field.array::<4>()?.into()),
            peer::VPN_IPV6 => vpn.v6 = Some(field.array::<16>()?.into()),
            peer::KEEPALIVE_INTERVAL => keepalive.interval = seconds()?,
            peer::KEEPALIVE_TIMEOUT => keepalive.timeout = seconds()?,
            peer::VPN_RX_BYTES => stats.vpn.rx_bytes = field.uint()?,
            peer::VPN_TX_BYTES => stats.vpn.tx_bytes = field.uint()?,
            peer::VPN_RX_PACKETS => stats.vpn.rx_packets = field.uint()?,
            peer::VPN_TX_PACKETS => stats.vpn.tx_packets = field.uint()?,
            peer::LINK_RX_BYTES => stats.link.rx_bytes = field.uint()?,
            peer::LINK_TX_BYTES => stats.link.tx_bytes = field.uint()?,
            peer::LINK_RX_PACKETS => stats.link.rx_packets = field.uint()?,
            peer::LINK_TX_PACKETS => stats.link.tx_packets = field.uint()?,
            _ => {}
        }
    }
    let id = id.ok_or_else(|| missing("PEER.ID"))?;
    // Only peers that are reached without a socket of their own (UDP) have a remote address.
    let remote = remote.map(|remote| address(remote, remote_port, scope));
    // The port alone is told of TCP peers, and where the system chooses the address.
    let any = match remote {
        Some(SocketAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let local = local.or((local_port != 0).then_some(any)).map(|local| address(local, local_port, 0));
    Ok(PeerInfo { id, tx_id: tx_id.unwrap_or(id), remote, local, vpn, keepalive, stats })
}

/// The answer to KEY_GET.
pub fn encode_key(family: MessageType, id: PeerId, slot: KeySlot, info: &KeyInfo) -> Vec<u8> {
    MessageBuilder::new(family, 0)
        .header(&[command::KEY_GET, VERSION, 0, 0])
        .with(|a| {
            a.nest(top::KEYCONF, |a| {
                a.u32(key::PEER_ID, id.get())
                    .u32(key::SLOT, slot_number(slot))
                    .u32(key::KEY_ID, info.key_id.get().into())
                    .u32(key::CIPHER_ALG, cipher_number(info.cipher));
            });
        })
        .finish()
}

/// Reads an answer to KEY_GET; `payload` is what follows the netlink header.
///
/// # Errors
/// Where it is none.
pub fn decode_key(payload: &[u8]) -> Result<KeyInfo> {
    let nest = nest(payload, top::KEYCONF)?.ok_or_else(|| missing("KEYCONF"))?;
    let (mut key_id, mut cipher) = (None, None);
    for field in attributes(nest.payload) {
        let field = field?;
        match field.kind {
            key::KEY_ID => key_id = Some(read_key_id(&field)?),
            key::CIPHER_ALG => cipher = cipher_from(field.u32()?),
            _ => {}
        }
    }
    let key_id = key_id.ok_or_else(|| missing("KEYCONF.KEY_ID"))?;
    Ok(KeyInfo { key_id, cipher: cipher.ok_or_else(|| missing("KEYCONF.CIPHER_ALG"))? })
}

/// A key id: `u32` in requests and answers, `u16` in the swap notification.
pub(super) fn read_key_id(field: &Attribute<'_>) -> Result<KeyId> {
    let number = if field.payload.len() == 2 { field.u16()?.into() } else { field.u32()? };
    u8::try_from(number).ok().and_then(KeyId::new).ok_or_else(|| invalid(format!("{number} is no key id")))
}

pub(super) fn address(ip: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, port)),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
    }
}

/// A top-level attribute of a generic-netlink payload.
pub(super) fn nest(payload: &[u8], kind: u16) -> Result<Option<Attribute<'_>>> {
    let message = Message { kind: 0, flags: 0, sequence: 0, port: 0, payload };
    for attribute in message.after_header(4)?.1 {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(Some(attribute));
        }
    }
    Ok(None)
}
