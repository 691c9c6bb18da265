//! The serving side: a request in, the kernel's answer out, with any [`DataPlane`] doing the work.

use std::os::fd::OwnedFd;

use ovpn_sys::netlink::message::{HEADER_LEN, NLM_F_ACK, NLM_F_MULTI, messages};

use super::ack::with_sequence_of;
use super::attribute::ENGINE_FAMILY;
use super::dialect::{self, Opened, Source};
use super::policy::invalid;
use super::{Command, Dialect, Request, SocketRef, encode_ack, encode_done, encode_key, encode_peer};
use crate::{
    DataPlane, Error, ErrorKind, PeerConfig, PeerUpdate, Protocol, Result, SocketSource, TransportId,
};

/// Bytes of one datagram of a dump, at most (a single larger message apart).
const DATAGRAM: usize = 16 * 1024;

/// What a server of requests keeps for one connection: its transports and its subscription.
pub trait Host {
    /// The transport of a socket that came with a PEER_NEW, as the kernel takes it. The same socket may come again,
    /// by another descriptor: it is one transport.
    ///
    /// # Errors
    /// [`ErrorKind::NotASocket`].
    fn socket(&mut self, socket: OwnedFd) -> Result<TransportId>;

    /// Opens a transport whose control packets come and go on `port`.
    ///
    /// # Errors
    /// As [`DataPlane::transport_open`].
    fn transport_open(&mut self, source: SocketSource, port: OwnedFd) -> Result<(TransportId, Protocol)>;

    /// Closes a transport; legal when it is closed.
    ///
    /// # Errors
    /// None that the caller could mend.
    fn transport_close(&mut self, transport: TransportId) -> Result<()>;

    /// Sends events on this connection from now on.
    ///
    /// # Errors
    /// As [`DataPlane::events`].
    fn subscribe(&mut self) -> Result<()>;
}

/// Executes the request in `datagram` and gives the datagrams to answer with, in order: replies, then the
/// acknowledgement (or, of a dump, its parts and DONE). `fds` are the descriptors passed with it; those that are not
/// used are closed. An answer is always given, unless the bytes hold no message header at all.
pub fn serve(datagram: &[u8], fds: Vec<OwnedFd>, plane: &dyn DataPlane, host: &mut dyn Host) -> Vec<Vec<u8>> {
    let Some(header) = datagram.first_chunk::<HEADER_LEN>() else { return Vec::new() };
    let message = match messages(datagram).next() {
        Some(Ok(message)) => message,
        Some(Err(malformed)) => return vec![encode_ack(header, &Err(malformed.into()))],
        None => return Vec::new(),
    };
    let answer = Request::decode(&message, Dialect::Engine).and_then(|request| {
        if request.ifindex != 0 && request.ifindex != plane.device().ifindex {
            return Err(Error::new(ErrorKind::NoSuchDevice, format!("no device {}", request.ifindex)));
        }
        execute(request.command, fds, plane, host)
    });
    let (replies, result) = match answer {
        Ok(Answer::Done) => (Vec::new(), Ok(())),
        Ok(Answer::Reply(reply)) => (vec![with_sequence_of(header, reply)], Ok(())),
        Ok(Answer::Dump(parts)) => {
            let parts = parts.into_iter().chain([encode_done(header)]);
            return gather(parts.map(|part| with_sequence_of(header, part)));
        }
        Err(error) => (Vec::new(), Err(error)),
    };
    let mut answers = replies;
    if message.flags & NLM_F_ACK != 0 || result.is_err() {
        answers.push(encode_ack(header, &result));
    }
    answers
}

enum Answer {
    Done,
    Reply(Vec<u8>),
    Dump(Vec<Vec<u8>>),
}

fn execute(
    command: Command,
    fds: Vec<OwnedFd>,
    plane: &dyn DataPlane,
    host: &mut dyn Host,
) -> Result<Answer> {
    let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
    let mut take = |index: u32| {
        fds.get_mut(index as usize).and_then(Option::take).ok_or_else(|| {
            Error::new(ErrorKind::NotASocket, format!("descriptor {index} was not passed along"))
        })
    };
    match command {
        Command::PeerNew(new) => {
            let transport = match new.socket {
                SocketRef::Transport(id) => id,
                SocketRef::Descriptor(index) => host.socket(take(index)?)?,
            };
            plane.peer_new(&PeerConfig {
                id: new.id,
                tx_id: new.tx_id,
                transport,
                remote: new.remote,
                local: new.local,
                vpn: new.vpn,
                framing: new.framing,
                fragment: new.fragment,
            })?;
            if new.keepalive.is_some() {
                let update = PeerUpdate { keepalive: new.keepalive, ..PeerUpdate::default() };
                plane.peer_set(new.id, &update)?;
            }
        }
        Command::PeerSet { id, update } => plane.peer_set(id, &update)?,
        Command::PeerGet(id) => {
            return Ok(Answer::Reply(encode_peer(ENGINE_FAMILY, 0, &plane.peer_get(id)?)));
        }
        Command::PeerDump => {
            let peers = plane.peer_dump()?;
            let part = |info| encode_peer(ENGINE_FAMILY, NLM_F_MULTI, info);
            return Ok(Answer::Dump(peers.iter().map(part).collect()));
        }
        Command::PeerDel(id) => plane.peer_del(id)?,
        Command::KeyNew { peer, slot, key } => plane.key_new(peer, slot, &key)?,
        Command::KeyGet { peer, slot } => {
            let info = plane.key_get(peer, slot)?;
            return Ok(Answer::Reply(encode_key(ENGINE_FAMILY, peer, slot, &info)));
        }
        Command::KeySwap(peer) => plane.key_swap(peer)?,
        Command::KeyDel { peer, slot } => plane.key_del(peer, slot)?,
        Command::TransportOpen { source, port } => {
            let source = match source {
                Source::Socket(index) => SocketSource::Socket(take(index)?),
                Source::Driver { protocol, local, remote } => {
                    SocketSource::Driver { protocol, local, remote }
                }
            };
            let port = take(port).map_err(|error| invalid(error.detail()))?;
            let (id, protocol) = host.transport_open(source, port)?;
            return Ok(Answer::Reply(dialect::encode_opened(Opened { id, protocol })));
        }
        Command::TransportClose(id) => host.transport_close(id)?,
        Command::RouteAdd(prefix, peer) => plane.route_add(prefix, peer)?,
        Command::RouteDel(prefix, peer) => plane.route_del(prefix, peer)?,
        Command::CapabilitiesGet => {
            return Ok(Answer::Reply(dialect::encode_capabilities(plane.capabilities(), plane.device())));
        }
        Command::DropsGet => {
            return Ok(Answer::Dump(plane.drops().iter().map(dialect::encode_drops).collect()));
        }
        Command::Subscribe => host.subscribe()?,
    }
    Ok(Answer::Done)
}

/// Packs the parts of a dump into datagrams.
fn gather(parts: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    for part in parts {
        match datagrams.last_mut() {
            Some(last) if last.len() + part.len() <= DATAGRAM => last.extend_from_slice(&part),
            _ => datagrams.push(part),
        }
    }
    datagrams
}
