//! From data packets to inner packets.
//!
//! ```text
//! key id ─▶ lengths, epoch ─▶ AEAD open ─▶ epoch move ─▶ replay window ─▶ timers, float
//!        ─▶ pieces joined, framing off ─▶ ping · OCC · IP ─▶ source check ─▶ MSS ─▶ inner packet
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
    /// A piece of a packet that is not complete yet; kept.
    Piece,
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

    /// Bytes of inner packets opened since it was made.
    pub(crate) const fn opened_bytes(&self) -> u64 {
        self.batch.vpn_bytes
    }

    /// Remembers that the peer streams in this period of time; whether that is new.
    pub(crate) fn streams_in(&mut self, period: u64) -> bool {
        std::mem::replace(&mut self.state.streamed_in, period) != period
    }

    /// Opens one data packet of this peer into `out`, which should be as long as the packet (64 KiB for peers that are
    /// not [bare](Peer::is_bare)). `from` is given for UDP, where an authentic packet from elsewhere moves the peer.
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
            Err(reason) => Err(self.dropped(reason)),
        }
    }

    #[cold]
    fn dropped(&self, reason: DropReason) -> DropReason {
        tracing::trace!(peer = %self.peer.id(), %reason, "received packet dropped");
        self.peer.shared.drops.count(reason)
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
        tracing::debug!(peer = %self.peer.id(), %key_id, "a new key is wanted: by use or by forged packets");
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
        tracing::debug!(peer = %self.peer.id(), %remote, local = ?endpoint.local, "peer moved");
        if old.remote != endpoint.remote {
            self.peer.shared.events.event(Event::PeerFloat { peer: self.peer.id(), remote });
        }
    }

    /// Joins pieces and takes the framing off, in `out`; the packet's length where it is complete.
    fn unwrap(&mut self, fresh: Fresh, out: &mut [u8]) -> Result<Option<usize>, DropReason> {
        let mut len = fresh.len;
        if let Some(reassembly) = &mut self.state.reassembly {
            match reassembly.join(out, len, self.now, &self.peer.shared.drops)? {
                Some(joined) => len = joined,
                None => return Ok(None),
            }
        }
        compress::unwrap(self.peer.framing(), out, len).map(Some)
    }

    /// What the payload is, and whether it may pass.
    #[inline]
    fn classify(&mut self, fresh: Fresh, out: &mut [u8]) -> Result<Opened, DropReason> {
        let len = if self.peer.is_bare() {
            fresh.len
        } else {
            match self.unwrap(fresh, out)? {
                Some(len) => len,
                None => return Ok(Opened { len: 0, kind: Kind::Piece }),
            }
        };
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

#[cfg(test)]
mod tests {
    use ovpn_dco::{DataFormat, Framing, KeySlot, Mode, Protocol};
    use ovpn_wire::payload::{OCC_MAGIC, PING};

    use super::*;
    use crate::peer_table::PeerTable;
    use crate::test_support::{Events, addr, at, from, id, ipv4, key, none_key, one_peer, pair, seal, table};

    const HOME: &str = "192.0.2.1:1194";
    const ELSEWHERE: &str = "198.51.100.7:4000";

    /// Opens with peer 7; the inner packet where there is one to deliver.
    fn open(table: &PeerTable, packet: &[u8], source: &str, now: u64) -> Result<(Kind, Vec<u8>), DropReason> {
        let peer = table.peer(id(7)).unwrap();
        let tables = table.read();
        let mut out = vec![0; 4096];
        let opened = tables.rx(&peer, at(now)).open(packet, Some(&from(source)), &mut out)?;
        out.truncate(opened.len());
        Ok((opened.kind(), out))
    }

    /// Everything about the receiving side that a packet could change, except counters.
    fn state(table: &PeerTable) -> impl PartialEq + std::fmt::Debug + use<> {
        let peer = table.peer(id(7)).unwrap();
        let rx = lock(&peer.rx);
        let highest = |key: &Option<OpenKey>| match &key.as_ref()?.format {
            OpenFormat::Classic { replay, .. } | OpenFormat::None { replay } => Some((1, replay.highest())),
            OpenFormat::Epoch(chain) => Some((chain.epoch(), 0)),
        };
        let windows = (highest(&rx.slots.primary), highest(&rx.slots.secondary));
        (windows, peer.endpoint(), peer.last_received(), peer.info().stats.vpn)
    }

    fn inner() -> Vec<u8> {
        ipv4("10.8.0.2", "10.8.0.1", 100)
    }

    #[test]
    fn what_one_end_seals_the_other_opens_in_every_format_and_framing() {
        for format in [DataFormat::V2, DataFormat::V1, DataFormat::Epoch] {
            for framing in [Framing::None, Framing::Lzo, Framing::Swap, Framing::V2] {
                let [(a, _), (b, _)] = pair(format, framing);
                for len in [20, 21, 64, 1400] {
                    let inner = ipv4("10.8.0.2", "10.8.0.1", len);
                    let packet = seal(&a, &inner);
                    assert_eq!(open(&b, &packet, HOME, 1), Ok((Kind::Data, inner.clone())));
                    let packet = seal(&b, &inner);
                    assert_eq!(open(&a, &packet, HOME, 1), Ok((Kind::Data, inner)));
                }
                let ping = seal(&a, &PING);
                assert_eq!(open(&b, &ping, HOME, 1), Ok((Kind::Ping, vec![])));
            }
        }
    }

    #[test]
    fn unencrypted_packets_are_eight_bytes_longer() {
        let (table, _) = one_peer(Framing::None, &none_key(0));
        let packet = seal(&table, &inner());
        assert_eq!(packet[..8], [0x48, 0, 0, 7, 0, 0, 0, 1]);
        assert_eq!(packet[8..], inner());
        assert_eq!(open(&table, &packet, HOME, 1), Ok((Kind::Data, inner())));
        assert_eq!(open(&table, &packet, HOME, 1), Err(DropReason::Replayed));
        assert_eq!(open(&table, &packet[..7], HOME, 1), Err(DropReason::TooShort));
    }

    /// Each kind of bad packet, from elsewhere, is dropped under its reason and changes nothing but counters.
    #[test]
    fn bad_packets_are_dropped_under_their_reason_and_change_nothing() {
        for format in [DataFormat::V2, DataFormat::V1, DataFormat::Epoch] {
            let [(sender, _), (receiver, events)] = pair(format, Framing::None);
            let good = seal(&sender, &inner());
            let next = seal(&sender, &inner());
            open(&receiver, &good, HOME, 500).unwrap();
            let before = state(&receiver);
            let mut dropped = 0;
            let mut refuse = |case: &str, packet: &[u8], reasons: &[DropReason]| {
                let reason = open(&receiver, packet, ELSEWHERE, 900).expect_err(case);
                assert!(reasons.contains(&reason), "{format:?}, {case}: {reason}");
                dropped += 1;
                assert_eq!(receiver.drops().total(), dropped, "{case}: counted once");
                assert_eq!(state(&receiver), before, "{format:?}, {case}");
                assert_eq!(events.take(), []);
            };
            use DropReason::*;
            refuse("replayed", &good, &[Replayed]);
            refuse("empty", &[], &[TooShort]);
            for len in 1..next.len() {
                refuse("truncated", &next[..len], &[TooShort, NotAuthentic]);
            }
            refuse("one byte more", &[&next[..], &[0]].concat(), &[NotAuthentic]);
            refuse("oversized", &[&next[..], &[0; 8000]].concat(), &[NoRoom]);
            for byte in 0..next.len() {
                for bit in 0..8 {
                    let mut flipped = next.clone();
                    flipped[byte] ^= 1 << bit;
                    let in_v1_opcode = format == DataFormat::V1 && byte == 0;
                    let reasons: &[_] = match byte {
                        0 if in_v1_opcode || bit >= 3 => &[WrongOpcode, UnknownKey],
                        0 => &[UnknownKey],
                        4 | 5 if format == DataFormat::Epoch => &[UnknownEpoch, NotAuthentic],
                        _ => &[NotAuthentic],
                    };
                    refuse("bit-flipped", &flipped, reasons);
                }
            }
            let other_format = if format == DataFormat::V1 { 0x48 } else { 0x30 };
            refuse("the other data opcode", &[&[other_format], &next[1..]].concat(), &[WrongOpcode]);
            for control in [0x00, 0x18, 0x20, 0x28, 0x38, 0x40, 0x50, 0x58, 0xF8] {
                refuse("control opcode", &[&[control], &next[1..]].concat(), &[WrongOpcode]);
            }
            assert_eq!(
                open(&receiver, &next, HOME, 900),
                Ok((Kind::Data, inner())),
                "the good one still passes"
            );
        }
    }

    #[test]
    fn authentic_but_useless_payloads_keep_the_peer_alive_and_go_no_further() {
        let [(sender, _), (receiver, _)] = pair(DataFormat::V2, Framing::None);
        for (now, (payload, expected)) in [
            (vec![], DropReason::EmptyPayload),
            (vec![0x50; 60], DropReason::NotIp),
            (vec![0x45; 19], DropReason::NotIp),
            (vec![0x60; 39], DropReason::NotIp),
            ([&[0xFA][..], &inner()].concat(), DropReason::NotIp),
        ]
        .into_iter()
        .enumerate()
        {
            let packet = seal(&sender, &payload);
            assert_eq!(open(&receiver, &packet, HOME, 10 + now as u64), Err(expected));
            assert_eq!(receiver.peer(id(7)).unwrap().last_received(), at(10 + now as u64));
        }
        let stats = receiver.peer_get(id(7)).unwrap().stats;
        assert_eq!((stats.link.rx_packets, stats.vpn.rx_packets), (5, 0));
    }

    #[test]
    fn leaving_peers_are_reported_and_other_occ_messages_ignored() {
        let [(sender, _), (receiver, events)] = pair(DataFormat::V2, Framing::Lzo);
        let occ = |operation: &[u8]| seal(&sender, &[&OCC_MAGIC[..], operation].concat());
        let request = occ(&[0]);
        assert_eq!(open(&receiver, &request, HOME, 1), Ok((Kind::Occ, vec![])));
        assert_eq!(events.take(), []);
        let exit = occ(&[6]);
        assert_eq!(open(&receiver, &exit, HOME, 1), Ok((Kind::Exit, vec![])));
        assert_eq!(events.take(), [Event::PeerExit { peer: id(7) }]);
        assert!(receiver.peer(id(7)).is_ok(), "the peer stays until it is deleted");
    }

    #[test]
    fn damaged_compression_is_dropped() {
        let [(sender, _), (receiver, _)] = [
            one_peer(Framing::None, &key(DataFormat::V2, 0, 1, 2)),
            one_peer(Framing::Lzo, &key(DataFormat::V2, 0, 2, 1)),
        ];
        for payload in [&[0x66, 1, 2, 3][..], &[0x69, 0xF0, 1], &[0x45; 40]] {
            let packet = seal(&sender, payload);
            assert_eq!(open(&receiver, &packet, HOME, 1), Err(DropReason::BadCompression));
        }
    }

    #[test]
    fn both_slots_open_packets_of_their_key_id() {
        let [(sender, _), (receiver, _)] = pair(DataFormat::V2, Framing::None);
        let old = seal(&sender, &inner());
        let later = seal(&sender, &inner());
        receiver.key_new(id(7), KeySlot::Secondary, &key(DataFormat::V2, 1, 4, 3)).unwrap();
        sender.key_new(id(7), KeySlot::Secondary, &key(DataFormat::V2, 1, 3, 4)).unwrap();
        sender.key_swap(id(7)).unwrap();
        let new = seal(&sender, &inner());
        assert_eq!((old[0], new[0]), (0x48, 0x49));
        assert!(open(&receiver, &new, HOME, 1).is_ok());
        assert!(open(&receiver, &old, HOME, 1).is_ok());
        receiver.key_swap(id(7)).unwrap();
        assert_eq!(open(&receiver, &old, HOME, 1), Err(DropReason::Replayed), "a swap keeps the windows");
        assert!(open(&receiver, &later, HOME, 1).is_ok());
        receiver.key_del(id(7), KeySlot::Secondary).unwrap();
        assert_eq!(open(&receiver, &old, HOME, 1), Err(DropReason::UnknownKey));
    }

    #[test]
    fn an_authentic_new_packet_from_elsewhere_moves_the_peer() {
        let [(sender, _), (receiver, events)] = pair(DataFormat::V2, Framing::None);
        let (first, second) = (seal(&sender, &inner()), seal(&sender, &PING));
        let peer = receiver.peer(id(7)).unwrap();
        let moved = |to: &str| Event::PeerFloat { peer: id(7), remote: addr(to) };

        open(&receiver, &first, ELSEWHERE, 1).unwrap();
        assert_eq!(events.take(), [moved(ELSEWHERE)]);
        assert_eq!(peer.endpoint().remote, Some(addr(ELSEWHERE)));
        assert_eq!(receiver.read().tx(&peer, at(1)).endpoint().remote, Some(addr(ELSEWHERE)));
        let by_address =
            |source| receiver.read().sender(Class::DataV1 { key_id: 0 }, addr(source)).map(|peer| peer.id());
        assert_eq!(by_address(ELSEWHERE), Ok(id(7)));
        assert!(by_address(HOME).is_err());

        // A captured packet from a third place does not.
        assert!(open(&receiver, &first, "203.0.113.3:3", 1).is_err());
        assert_eq!((events.take(), peer.endpoint().remote), (vec![], Some(addr(ELSEWHERE))));

        // The same address in its IPv6 clothes is no move.
        open(&receiver, &second, "[::ffff:198.51.100.7]:4000", 1).unwrap();
        assert_eq!(events.take(), []);
        open(&receiver, &seal(&sender, &PING), HOME, 1).unwrap();
        assert_eq!(events.take(), [moved(HOME)]);
    }

    #[test]
    fn the_local_address_is_learned_without_an_event() {
        let [(sender, _), (receiver, events)] = pair(DataFormat::V2, Framing::None);
        let peer = receiver.peer(id(7)).unwrap();
        let tables = receiver.read();
        let local = |text: &str| Source { remote: addr(HOME), local: Some(text.parse().unwrap()) };
        let receive = |source: Option<&Source>| {
            let packet = seal(&sender, &PING);
            tables.rx(&peer, at(1)).open(&packet, source, &mut [0; 100]).unwrap();
            peer.endpoint().local
        };
        assert_eq!(receive(Some(&local("192.0.2.100"))), Some("192.0.2.100".parse().unwrap()));
        assert_eq!(receive(Some(&local("192.0.2.101"))), Some("192.0.2.101".parse().unwrap()));
        assert_eq!(receive(Some(&from(HOME))), Some("192.0.2.101".parse().unwrap()), "not told: kept");
        assert_eq!(receive(None), Some("192.0.2.101".parse().unwrap()));
        assert_eq!(events.take(), []);
    }

    #[test]
    fn a_peer_over_tcp_never_moves() {
        let (receiver, events) = table(Mode::P2p);
        let config = ovpn_dco::PeerConfig { remote: None, ..crate::test_support::peer(7, HOME, "") };
        receiver.peer_new(&config, Some(Protocol::Tcp), at(0)).unwrap();
        receiver.key_new(id(7), KeySlot::Primary, &key(DataFormat::V2, 0, 2, 1)).unwrap();
        let (sender, _) = one_peer(Framing::None, &key(DataFormat::V2, 0, 1, 2));
        open(&receiver, &seal(&sender, &inner()), ELSEWHERE, 1).unwrap();
        assert_eq!(receiver.peer(id(7)).unwrap().endpoint(), Endpoint::default());
        assert_eq!(events.take(), []);
    }

    #[test]
    fn inner_sources_must_be_routed_to_their_sender() {
        let (receiver, _): (PeerTable, Events) = table(Mode::MultiPeer);
        for (p, vpn) in [(7, "10.8.0.2"), (8, "10.8.0.3")] {
            let config = crate::test_support::peer(p, &format!("192.0.2.{p}:1"), vpn);
            receiver.peer_new(&config, Some(Protocol::Udp), at(0)).unwrap();
            receiver.key_new(id(p), KeySlot::Primary, &key(DataFormat::V2, 0, 2, 1)).unwrap();
        }
        let (sender, _) = one_peer(Framing::None, &key(DataFormat::V2, 0, 1, 2));
        let send =
            |source| open(&receiver, &seal(&sender, &ipv4(source, "10.8.0.1", 40)), HOME, 1).map(|_| ());
        assert_eq!(send("10.8.0.2"), Ok(()));
        assert_eq!(send("10.8.0.3"), Err(DropReason::BadSource));
        assert_eq!(send("11.11.11.11"), Err(DropReason::BadSource));
        let via = crate::route::NextHop::Via("10.8.0.2".parse().unwrap());
        receiver.route_insert("11.11.11.0/24".parse().unwrap(), via);
        assert_eq!(send("11.11.11.11"), Ok(()));
        let stats = receiver.peer_get(id(7)).unwrap().stats;
        assert_eq!((stats.vpn.rx_packets, stats.vpn.rx_bytes, stats.link.rx_packets), (2, 80, 4));
    }

    #[test]
    fn a_key_under_attack_asks_for_another_and_then_opens_nothing() {
        let [(sender, _), (receiver, events)] = pair(DataFormat::V2, Framing::None);
        let preset = |used, failed| {
            let peer = receiver.peer(id(7)).unwrap();
            let mut rx = lock(&peer.rx);
            match &mut rx.slots.primary.as_mut().unwrap().format {
                OpenFormat::Classic { usage, .. } => usage.preset(used, failed),
                _ => panic!(),
            }
        };
        let mut forged = seal(&sender, &inner());
        forged[30] ^= 1;
        let wanted = Event::KeySwap { peer: id(7), key_id: KeyId::FIRST };
        preset(0, (1 << 35) - 1);
        assert_eq!(open(&receiver, &forged, HOME, 1), Err(DropReason::NotAuthentic));
        assert_eq!(events.take(), []);
        assert_eq!(open(&receiver, &forged, HOME, 1), Err(DropReason::NotAuthentic));
        assert_eq!(events.take(), std::slice::from_ref(&wanted));
        preset(0, 1 << 36);
        assert!(open(&receiver, &seal(&sender, &inner()), HOME, 1).is_ok());
        assert_eq!(open(&receiver, &forged, HOME, 1), Err(DropReason::NotAuthentic));
        assert_eq!(open(&receiver, &seal(&sender, &inner()), HOME, 1), Err(DropReason::KeyWornOut));
        assert_eq!(events.take(), [], "asked once");

        let [(sender, _), (receiver, events)] = pair(DataFormat::V2, Framing::None);
        let peer = receiver.peer(id(7)).unwrap();
        match &mut lock(&peer.rx).slots.primary.as_mut().unwrap().format {
            OpenFormat::Classic { usage, .. } => usage.preset(((1 << 36) - 1) / 8 * 7, 0),
            _ => panic!(),
        }
        open(&receiver, &seal(&sender, &inner()), HOME, 1).unwrap();
        assert_eq!(events.take(), [wanted], "by what was received, too");
    }
}
