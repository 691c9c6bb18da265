//! From data packets to inner packets.
//!
//! ```text
//! key id ─▶ lengths, epoch ─▶ AEAD open ─▶ epoch move ─▶ replay window ─▶ timers, float
//!        ─▶ framing off ─▶ ping · OCC · IP ─▶ source check ─▶ MSS ─▶ inner packet
//! ```
//!
//! The order is the security: nothing changes before the tag has verified, nothing but an epoch move before the
//! replay test. [`Opened`] exists only past both.

use std::sync::MutexGuard;

use ovpn_dco::{Event, KeyId};
use ovpn_wire::data_packet::{self, Bare, Class, Classic, Epoch};
use ovpn_wire::inner;
use ovpn_wire::payload::{self, Payload};

use crate::compress;
use crate::drop_reason::DropReason;
use crate::epoch::Which;
use crate::key_slots::{OpenFormat, OpenKey};
use crate::mss;
use crate::peer::{Endpoint, Peer, RxState, Source, canonical, lock};
use crate::peer_table::Tables;
use crate::stats::Batch;
use crate::time::Timestamp;

/// A packet that is authentic, was not received before, and has been dealt with as far as the data plane can: proof
/// of these, for only [`Rx::open`] makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    len: usize,
    kind: Kind,
}

/// What an opened packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An inner IP packet, to be delivered.
    Data,
    /// A keepalive; consumed.
    Ping,
    /// The peer says that it leaves; the event was raised.
    Exit,
    /// Another message of the options compatibility check; consumed.
    Occ,
}

impl Opened {
    /// Length of the inner packet in the output buffer, bytes; 0 unless it is [`Kind::Data`].
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True where there is nothing to deliver.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it was.
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

/// The receiving side of a peer, locked for one batch.
pub struct Rx<'a> {
    peer: &'a Peer,
    tables: &'a Tables,
    state: MutexGuard<'a, RxState>,
    now: Timestamp,
    batch: Batch,
    received: bool,
}

impl<'a> Rx<'a> {
    pub(crate) fn new(peer: &'a Peer, tables: &'a Tables, now: Timestamp) -> Self {
        Self { peer, tables, state: lock(&peer.rx), now, batch: Batch::default(), received: false }
    }

    /// The peer.
    pub const fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// Opens one data packet of this peer into `out`, which should be as long as the packet (64 KiB for peers that
    /// compress). `from` is given for UDP, where an authentic packet from elsewhere moves the peer.
    ///
    /// # Errors
    /// The reason why it was dropped, already counted. What is in `out` is then of no use.
    #[inline]
    pub fn open(
        &mut self,
        packet: &[u8],
        from: Option<&Source>,
        out: &mut [u8],
    ) -> Result<Opened, DropReason> {
        self.batch.link_packets += 1;
        self.batch.link_bytes += packet.len() as u64;
        match self.open_packet(packet, from, out) {
            Ok(opened) => {
                if opened.kind == Kind::Data {
                    self.batch.vpn_packets += 1;
                    self.batch.vpn_bytes += opened.len as u64;
                }
                Ok(opened)
            }
            Err(reason) => Err(self.peer.shared.drops.count(reason)),
        }
    }

    #[inline]
    fn open_packet(
        &mut self,
        packet: &[u8],
        from: Option<&Source>,
        out: &mut [u8],
    ) -> Result<Opened, DropReason> {
        let (key_id, v1) = match data_packet::classify(packet) {
            Some(Class::DataV2 { key_id, .. }) => (key_id, false),
            Some(Class::DataV1 { key_id }) => (key_id, true),
            Some(Class::Control) => return Err(DropReason::WrongOpcode),
            None => return Err(DropReason::TooShort),
        };
        let fresh = self.authenticate(key_id, v1, packet, out)?;
        self.received = true;
        if let Some(from) = from {
            let known = &self.state.endpoint;
            if Some(from.remote) != known.remote || from.local.is_some() && from.local != known.local {
                self.float(from);
            }
        }
        self.classify(fresh, out)
    }

    /// Authenticates and replay-tests.
    #[inline]
    fn authenticate(
        &mut self,
        key_id: u8,
        v1: bool,
        packet: &[u8],
        out: &mut [u8],
    ) -> Result<Fresh, DropReason> {
        let slots = &mut self.state.slots;
        let is_it = |key: &&mut OpenKey| key.key_id.get() == key_id;
        let key = slots.primary.as_mut().filter(is_it).or_else(|| slots.secondary.as_mut().filter(is_it));
        let key = key.ok_or(DropReason::UnknownKey)?;
        let fresh = authenticate_with(key, v1, packet, out, self.now);
        if key.wants_renewal() && !key.renewal_asked {
            key.renewal_asked = true;
            let key_id = key.key_id;
            self.ask_for_key(key_id);
        }
        fresh
    }

    #[cold]
    fn ask_for_key(&self, key_id: KeyId) {
        self.peer.shared.events.event(Event::KeySwap { peer: self.peer.id(), key_id });
    }

    /// An authentic, new packet came from another source, or to another local address: the peer is there now.
    #[cold]
    fn float(&mut self, from: &Source) {
        let old = self.state.endpoint;
        let remote = canonical(from.remote);
        let endpoint = Endpoint { remote: Some(remote), local: from.local.or(old.local) };
        // TCP peers have no endpoint, and never move.
        if old.remote.is_none() || endpoint == old {
            return;
        }
        self.peer.move_endpoint(&mut self.state, endpoint);
        if old.remote != endpoint.remote {
            self.peer.shared.events.event(Event::PeerFloat { peer: self.peer.id(), remote });
        }
    }

    /// What the payload is, and whether it may pass.
    #[inline]
    fn classify(&mut self, fresh: Fresh, out: &mut [u8]) -> Result<Opened, DropReason> {
        let len = compress::unwrap(self.peer.framing(), out, fresh.len)?;
        let Some(inner) = out.get_mut(..len) else { return Err(DropReason::NoRoom) };
        let kind = match payload::classify(inner) {
            Payload::Ipv4 | Payload::Ipv6 => {
                let source = inner::source(inner).ok_or(DropReason::NotIp)?;
                if !self.tables.may_send_from(self.peer, source) {
                    return Err(DropReason::BadSource);
                }
                mss::clamp(inner, self.peer.mss());
                return Ok(Opened { len, kind: Kind::Data });
            }
            Payload::Ping => Kind::Ping,
            Payload::OccExit => {
                self.peer.shared.events.event(Event::PeerExit { peer: self.peer.id() });
                Kind::Exit
            }
            Payload::Occ => Kind::Occ,
            Payload::Empty => return Err(DropReason::EmptyPayload),
            Payload::Unknown => return Err(DropReason::NotIp),
        };
        Ok(Opened { len: 0, kind })
    }
}

impl Drop for Rx<'_> {
    fn drop(&mut self) {
        self.peer.rx_totals.add(&self.batch);
        if self.received {
            self.peer.note_received(self.now);
        }
    }
}

/// Proof that a payload was authenticated and not replayed.
pub(crate) struct Fresh {
    pub(crate) len: usize,
}

impl OpenKey {
    #[inline]
    fn wants_renewal(&self) -> bool {
        match &self.format {
            OpenFormat::Classic { usage, .. } => usage.wants_renewal(),
            // The epoch format moves on by itself; the send chain asks when epochs come to an end.
            OpenFormat::Epoch(_) | OpenFormat::None { .. } => false,
        }
    }
}

#[inline]
pub(crate) fn authenticate_with(
    key: &mut OpenKey,
    v1: bool,
    packet: &[u8],
    out: &mut [u8],
    now: Timestamp,
) -> Result<Fresh, DropReason> {
    match &mut key.format {
        OpenFormat::Classic { key, tail, replay, usage, v1: expects_v1 } => {
            if v1 != *expects_v1 {
                return Err(DropReason::WrongOpcode);
            }
            let parsed = if v1 { Classic::parse_v1(packet) } else { Classic::parse_v2(packet) };
            let Classic { aad, packet_id, tag, ciphertext } = parsed.ok_or(DropReason::TooShort)?;
            let plaintext = out.get_mut(..ciphertext.len()).ok_or(DropReason::NoRoom)?;
            if usage.is_worn_out() {
                return Err(DropReason::KeyWornOut);
            }
            if key.open(tail.nonce(packet_id), aad, ciphertext, tag, plaintext).is_err() {
                usage.fail();
                return Err(DropReason::NotAuthentic);
            }
            usage.add(ciphertext.len());
            replay.accept(u32::from_be_bytes(packet_id).into(), now)?;
            Ok(Fresh { len: ciphertext.len() })
        }
        OpenFormat::Epoch(chain) => {
            if v1 {
                return Err(DropReason::WrongOpcode);
            }
            let Epoch { aad, packet_id, ciphertext, tag } =
                Epoch::parse(packet).ok_or(DropReason::TooShort)?;
            let plaintext = out.get_mut(..ciphertext.len()).ok_or(DropReason::NoRoom)?;
            let which = chain.find(packet_id.epoch()).ok_or(DropReason::UnknownEpoch)?;
            let epoch = chain.get(which);
            if epoch.usage.is_worn_out() {
                return Err(DropReason::KeyWornOut);
            }
            let nonce = epoch.key.nonce(packet_id.0);
            if epoch.key.aead.open(nonce, aad, ciphertext, tag, plaintext).is_err() {
                epoch.usage.fail();
                chain.note_usage();
                return Err(DropReason::NotAuthentic);
            }
            chain.authentic(which);
            let which = if which == Which::Future { Which::Current } else { which };
            let epoch = chain.get(which);
            epoch.usage.add(ciphertext.len());
            epoch.replay.accept(packet_id.counter(), now)?;
            chain.note_usage();
            Ok(Fresh { len: ciphertext.len() })
        }
        OpenFormat::None { replay } => {
            if v1 {
                return Err(DropReason::WrongOpcode);
            }
            let Bare { packet_id, payload } = Bare::parse(packet).ok_or(DropReason::TooShort)?;
            let plaintext = out.get_mut(..payload.len()).ok_or(DropReason::NoRoom)?;
            replay.accept(packet_id.into(), now)?;
            plaintext.copy_from_slice(payload);
            Ok(Fresh { len: payload.len() })
        }
    }
}
