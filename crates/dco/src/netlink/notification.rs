//! Notifications: what a data plane reports by itself.

use std::net::IpAddr;

use ovpn_sys::netlink::message::{AttributeWriter, Message, MessageBuilder, attributes};

use super::attribute::{MessageType, VERSION, command, key, peer, top};
use super::peer::{address, nest, read_key_id};
use super::policy::missing;
use super::request::write_remote;
use crate::{DelReason, Event, PeerId, Result};

/// The notification of an event, port id and sequence number zero. [`Event::DataPlaneGone`] has none: the
/// connection's end says it.
pub fn encode_event(family: MessageType, ifindex: u32, event: &Event) -> Option<Vec<u8>> {
    let message = |number: u8, write: &dyn Fn(&mut AttributeWriter)| {
        MessageBuilder::new(family, 0)
            .header(&[number, VERSION, 0, 0])
            .with(|a| {
                a.u32(top::IFINDEX, ifindex);
                write(a);
            })
            .finish()
    };
    Some(match event {
        Event::PeerDeleted { peer: id, reason } => message(command::PEER_DEL_NTF, &|a| {
            a.nest(top::PEER, |a| {
                a.u32(peer::DEL_REASON, *reason as u32).u32(peer::ID, id.get());
            });
        }),
        Event::KeySwap { peer: id, key_id } => message(command::KEY_SWAP_NTF, &|a| {
            a.nest(top::KEYCONF, |a| {
                a.u32(key::PEER_ID, id.get()).u16(key::KEY_ID, key_id.get().into());
            });
        }),
        Event::PeerFloat { peer: id, remote } => message(command::PEER_FLOAT_NTF, &|a| {
            a.nest(top::PEER, |a| {
                a.u32(peer::ID, id.get());
                write_remote(Some(*remote), a);
            });
        }),
        Event::PeerExit { peer: id } => message(command::PEER_EXIT_NTF, &|a| {
            a.nest(top::PEER, |a| {
                a.u32(peer::ID, id.get());
            });
        }),
        Event::Lost => message(command::LOST_NTF, &|_| {}),
        Event::DataPlaneGone => return None,
    })
}

/// Reads a notification: the interface index of its device, and the event. `None` for a command that is no
/// notification known here.
///
/// # Errors
/// Where a known notification is malformed.
pub fn decode_event(message: &Message<'_>) -> Result<Option<(u32, Event)>> {
    let (header, top) = message.after_header(4)?;
    let number = header.first().copied().unwrap_or_default();
    let mut ifindex = 0;
    for attribute in top {
        let attribute = attribute?;
        if attribute.kind == top::IFINDEX {
            ifindex = attribute.u32()?;
        }
    }
    let event = match number {
        command::PEER_DEL_NTF | command::PEER_FLOAT_NTF | command::PEER_EXIT_NTF => {
            let nest = nest(message.payload, top::PEER)?.ok_or_else(|| missing("PEER"))?;
            let (mut id, mut reason, mut ip, mut port, mut scope) = (None, None::<u32>, None::<IpAddr>, 0, 0);
            for field in attributes(nest.payload) {
                let field = field?;
                match field.kind {
                    peer::ID => id = PeerId::new(field.u32()?),
                    peer::DEL_REASON => reason = Some(field.u32()?),
                    peer::REMOTE_IPV4 | peer::REMOTE_IPV6 => ip = Some(field.ip()?),
                    peer::REMOTE_PORT => port = field.be16()?,
                    peer::REMOTE_IPV6_SCOPE_ID => scope = field.u32()?,
                    _ => {}
                }
            }
            let id = id.ok_or_else(|| missing("PEER.ID"))?;
            match number {
                command::PEER_DEL_NTF => Event::PeerDeleted { peer: id, reason: reason_from(reason) },
                command::PEER_EXIT_NTF => Event::PeerExit { peer: id },
                _ => {
                    let ip = ip.ok_or_else(|| missing("PEER.REMOTE"))?;
                    Event::PeerFloat { peer: id, remote: address(ip, port, scope) }
                }
            }
        }
        command::KEY_SWAP_NTF => {
            let nest = nest(message.payload, top::KEYCONF)?.ok_or_else(|| missing("KEYCONF"))?;
            let (mut id, mut key_id) = (None, None);
            for field in attributes(nest.payload) {
                let field = field?;
                match field.kind {
                    key::PEER_ID => id = PeerId::new(field.u32()?),
                    key::KEY_ID => key_id = Some(read_key_id(&field)?),
                    _ => {}
                }
            }
            let peer = id.ok_or_else(|| missing("KEYCONF.PEER_ID"))?;
            Event::KeySwap { peer, key_id: key_id.ok_or_else(|| missing("KEYCONF.KEY_ID"))? }
        }
        command::LOST_NTF => Event::Lost,
        _ => return Ok(None),
    };
    Ok(Some((ifindex, event)))
}

/// A reason that is not known (of a newer kernel) counts as teardown: the peer is gone all the same.
fn reason_from(number: Option<u32>) -> DelReason {
    match number {
        Some(1) => DelReason::Userspace,
        Some(2) => DelReason::Expired,
        Some(3) => DelReason::TransportError,
        Some(4) => DelReason::TransportDisconnect,
        _ => DelReason::Teardown,
    }
}
