//! From inner packets to data packets.
//!
//! ```text
//! inner packet ─▶ framing, pieces (old peers) ─▶ packet id ─▶ AEAD, straight into the send buffer ─▶ header
//! ```

use std::sync::MutexGuard;

use ovpn_crypto::aead::AeadKey;
use ovpn_dco::Event;
use ovpn_wire::data_packet::{self, EPOCH_OVERHEAD, NONE_OVERHEAD, OPCODE_DATA_V1, V1_OVERHEAD, V2_OVERHEAD};
use ovpn_wire::fragment::{self as header, Fragment};
use ovpn_wire::payload::{EXIT, PING};

use crate::compress;
use crate::drop_reason::DropReason;
use crate::fragment::{Piece, Pieces};
use crate::key_slots::{SealFormat, SealKey};
use crate::mss;
use crate::peer::{Endpoint, Peer, TxState, lock};
use crate::stats::Batch;
use crate::time::Timestamp;

/// The sending side of a peer, locked for one batch.
///
/// Packets must reach the wire in the order in which they were sealed, so send them before this is dropped, or keep
/// the peer's sending to one thread.
pub struct Tx<'a> {
    peer: &'a Peer,
    state: MutexGuard<'a, TxState>,
    now: Timestamp,
    batch: Batch,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(peer: &'a Peer, now: Timestamp) -> Self {
        Self { peer, state: lock(&peer.tx), now, batch: Batch::default() }
    }

    /// The peer.
    pub const fn peer(&self) -> &'a Peer {
        self.peer
    }

    /// Where to send what is sealed.
    pub fn endpoint(&self) -> Endpoint {
        self.peer.endpoint()
    }

    /// Bytes by which a sealed packet is longer than the inner one, with the present key; `None` without a key.
    pub fn overhead(&self) -> Option<usize> {
        let key = self.state.slots.primary.as_ref()?;
        Some(
            match &key.format {
                SealFormat::Classic { v1: false, .. } => V2_OVERHEAD,
                SealFormat::Classic { v1: true, .. } => V1_OVERHEAD,
                SealFormat::Epoch(_) => EPOCH_OVERHEAD,
                SealFormat::None { .. } => NONE_OVERHEAD,
            } + self.peer.framing().overhead()
                + self.peer.fragment().map_or(0, |_| header::LEN),
        )
    }

    /// Clamps the MSS that a SYN in `inner` announces, as the peer's setting asks.
    #[inline]
    pub fn clamp_mss(&self, inner: &mut [u8]) {
        mss::clamp(inner, self.peer.mss());
    }

    /// Seals one inner IP packet into `out` and returns the data packet's length. Peers with
    /// [`fragment`](Peer::fragment) get it whole, too; [`pieces`](Self::pieces) cuts it.
    ///
    /// # Errors
    /// The reason why it was dropped instead, already counted. A used-up key is removed from both directions and an
    /// [`Event::KeySwap`] raised.
    #[inline]
    pub fn seal(&mut self, inner: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        let len = self.seal_payload(inner, out)?;
        self.batch.vpn_packets += 1;
        self.batch.vpn_bytes += inner.len() as u64;
        Ok(len)
    }

    /// Cuts one inner IP packet as [`fragment`](Peer::fragment) asks; each piece is then to be
    /// [sealed](Self::seal_piece), in order.
    ///
    /// # Errors
    /// [`DropReason::TooManyPieces`], already counted.
    pub fn pieces<'p>(&mut self, inner: &'p [u8]) -> Result<Pieces<'p>, DropReason> {
        let largest = self.peer.fragment().unwrap_or(u16::MAX);
        let framed = compress::wrap(self.peer.framing(), inner);
        Pieces::cut(inner.len(), framed, largest, &mut self.state.packet).map_err(|why| self.dropped(why))
    }

    /// Seals one piece into `out` and returns the data packet's length.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_piece(&mut self, piece: &Piece<'_>, out: &mut [u8]) -> Result<usize, DropReason> {
        let [first, middle, last] = piece.parts;
        let len = self.seal_content(Content::Parts([&piece.header, first, middle, last]), out)?;
        if let Some(inner) = piece.completes {
            self.batch.vpn_packets += 1;
            self.batch.vpn_bytes += inner as u64;
        }
        Ok(len)
    }

    /// Seals a keepalive.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_ping(&mut self, out: &mut [u8]) -> Result<usize, DropReason> {
        self.seal_payload(&PING, out)
    }

    /// Seals the message of a peer that leaves.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_exit(&mut self, out: &mut [u8]) -> Result<usize, DropReason> {
        self.seal_payload(&EXIT, out)
    }

    #[inline]
    fn seal_payload(&mut self, payload: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        if self.peer.is_bare() {
            self.seal_content(Content::Bare(payload), out)
        } else {
            self.seal_framed(payload, out)
        }
    }

    fn seal_framed(&mut self, payload: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        let whole = Fragment::Whole.to_bytes();
        let header: &[u8] = if self.peer.fragment().is_some() { &whole } else { &[] };
        let content = match (header, compress::wrap(self.peer.framing(), payload)) {
            ([], [[], packet, []]) => Content::Bare(packet),
            (header, [first, middle, last]) => Content::Parts([header, first, middle, last]),
        };
        self.seal_content(content, out)
    }

    #[inline]
    fn seal_content(&mut self, content: Content<'_>, out: &mut [u8]) -> Result<usize, DropReason> {
        let tx_id = self.state.tx_id.get();
        let Some(key) = &mut self.state.slots.primary else { return Err(self.dropped(DropReason::NoKey)) };
        match seal_with(key, tx_id, content, out) {
            Ok(sealed) => {
                if sealed.wants_renewal && !key.renewal_asked {
                    key.renewal_asked = true;
                    self.peer
                        .shared
                        .events
                        .event(Event::KeySwap { peer: self.peer.id(), key_id: key.key_id });
                }
                self.batch.link_packets += 1;
                self.batch.link_bytes += sealed.len as u64;
                Ok(sealed.len)
            }
            Err(DropReason::KeyExhausted) => {
                self.retire_primary();
                Err(self.dropped(DropReason::KeyExhausted))
            }
            Err(reason) => Err(self.dropped(reason)),
        }
    }

    /// The primary key is used up: it leaves its slot in both directions, and a new one is asked for.
    #[cold]
    fn retire_primary(&mut self) {
        let Some(key) = self.state.slots.primary.take() else { return };
        lock(&self.peer.rx).slots.primary = None;
        tracing::debug!(peer = %self.peer.id(), key_id = %key.key_id, "the key is used up and removed");
        self.peer.shared.events.event(Event::KeySwap { peer: self.peer.id(), key_id: key.key_id });
    }

    #[cold]
    fn dropped(&self, reason: DropReason) -> DropReason {
        tracing::trace!(peer = %self.peer.id(), %reason, "packet to be sent dropped");
        self.peer.shared.drops.count(reason)
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.batch.link_packets != 0 {
            self.peer.tx_totals.add(&self.batch);
            self.peer.note_sent(self.now);
        }
    }
}

/// What goes into a data packet.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// These bytes.
    Bare(&'a [u8]),
    /// Fragment header and framing around a packet: these, one after the other.
    Parts([&'a [u8]; 4]),
}

impl Content<'_> {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Self::Bare(bytes) => bytes.len(),
            Self::Parts(parts) => parts.iter().map(|part| part.len()).sum(),
        }
    }

    /// Into `out`, of its length.
    fn write(&self, mut out: &mut [u8]) {
        let parts = match self {
            Self::Bare(bytes) => std::slice::from_ref(bytes),
            Self::Parts(parts) => parts,
        };
        for part in parts {
            let Some((place, rest)) = out.split_at_mut_checked(part.len()) else { return };
            place.copy_from_slice(part);
            out = rest;
        }
    }
}

pub(crate) struct Sealed {
    pub(crate) len: usize,
    pub(crate) wants_renewal: bool,
}

#[inline]
pub(crate) fn seal_with(
    key: &mut SealKey,
    tx_id: u32,
    content: Content<'_>,
    out: &mut [u8],
) -> Result<Sealed, DropReason> {
    let key_id = key.key_id.get();
    let len = content.len();
    match &mut key.format {
        SealFormat::Classic { key, tail, last_id, usage, v1 } => {
            let (aad, tag, ciphertext) = if *v1 { split_v1(key_id, len, out) } else { split_v2(len, out) }
                .ok_or(DropReason::NoRoom)?;
            if *last_id == u32::MAX || usage.is_exhausted() {
                return Err(DropReason::KeyExhausted);
            }
            *last_id += 1;
            let id = last_id.to_be_bytes();
            if let Some(header) = aad.first_chunk_mut() {
                *header = first_eight(tx_id, key_id, *last_id);
            } else if let Some(packet_id) = aad.first_chunk_mut() {
                *packet_id = id;
            }
            encrypt(key, tail.nonce(id), aad, content, ciphertext, tag)?;
            let overhead = if *v1 { V1_OVERHEAD } else { V2_OVERHEAD };
            usage.add(overhead + len);
            Ok(Sealed { len: overhead + len, wants_renewal: usage.wants_renewal() })
        }
        SealFormat::Epoch(chain) => {
            let (aad, rest) = out.split_first_chunk_mut::<12>().ok_or(DropReason::NoRoom)?;
            let (ciphertext, rest) = rest.split_at_mut_checked(len).ok_or(DropReason::NoRoom)?;
            let tag = rest.first_chunk_mut().ok_or(DropReason::NoRoom)?;
            let (key, packet_id) = chain.next_packet().map_err(|_| DropReason::KeyExhausted)?;
            aad[..8].copy_from_slice(&first_eight(tx_id, key_id, (packet_id.0 >> 32) as u32));
            aad[8..].copy_from_slice(&(packet_id.0 as u32).to_be_bytes());
            encrypt(&key.aead, key.nonce(packet_id.0), aad, content, ciphertext, tag)?;
            chain.used(12 + len);
            Ok(Sealed { len: EPOCH_OVERHEAD + len, wants_renewal: chain.wants_renewal() })
        }
        SealFormat::None { last_id } => {
            let (header, rest) = out.split_first_chunk_mut::<8>().ok_or(DropReason::NoRoom)?;
            let plain = rest.get_mut(..len).ok_or(DropReason::NoRoom)?;
            *last_id = last_id.checked_add(1).ok_or(DropReason::KeyExhausted)?;
            *header = first_eight(tx_id, key_id, *last_id);
            content.write(plain);
            Ok(Sealed { len: NONE_OVERHEAD + len, wants_renewal: false })
        }
    }
}

/// op32 and the four bytes of packet id behind it, as one number: a cipher reads them at once, and would wait for the cache
/// had they been written apart.
#[inline]
fn first_eight(tx_id: u32, key_id: u8, packet_id: u32) -> [u8; 8] {
    let op32 = u32::from_be_bytes(data_packet::op32(tx_id, key_id));
    (u64::from(op32) << 32 | u64::from(packet_id)).to_be_bytes()
}

type Parts<'a> = (&'a mut [u8], &'a mut [u8; 16], &'a mut [u8]);

/// AAD (op32 and packet id), tag and ciphertext of a DATA_V2 packet.
#[inline]
fn split_v2(len: usize, out: &mut [u8]) -> Option<Parts<'_>> {
    let (aad, rest) = out.split_first_chunk_mut::<8>()?;
    let (tag, rest) = rest.split_first_chunk_mut()?;
    Some((aad, tag, rest.get_mut(..len)?))
}

/// AAD (packet id), tag and ciphertext of a DATA_V1 packet, whose opcode is written here.
fn split_v1(key_id: u8, len: usize, out: &mut [u8]) -> Option<Parts<'_>> {
    let (opcode, rest) = out.split_first_mut()?;
    *opcode = OPCODE_DATA_V1 << 3 | key_id;
    let (aad, rest) = rest.split_first_chunk_mut::<4>()?;
    let (tag, rest) = rest.split_first_chunk_mut()?;
    Some((aad, tag, rest.get_mut(..len)?))
}

/// From `content` into `ciphertext`, of its length, in one pass; what has several parts takes a copy first.
#[inline]
fn encrypt(
    key: &AeadKey,
    nonce: [u8; 12],
    aad: &[u8],
    content: Content<'_>,
    ciphertext: &mut [u8],
    tag: &mut [u8; 16],
) -> Result<(), DropReason> {
    match content {
        Content::Bare(payload) => key.seal(nonce, aad, payload, ciphertext, tag),
        Content::Parts(_) => {
            content.write(ciphertext);
            key.seal_in_place(nonce, aad, ciphertext, tag)
        }
    }
    .map_err(|_| DropReason::NoRoom)
}

#[cfg(test)]
mod tests {
    use ovpn_dco::{DataFormat, Framing, KeySlot};

    use super::*;
    use crate::key_slots::OpenFormat;
    use crate::peer_table::PeerTable;
    use crate::test_support::{at, id, ipv4, key, none_key, one_peer};

    const FORMATS: [DataFormat; 3] = [DataFormat::V2, DataFormat::V1, DataFormat::Epoch];
    const LIMIT: u64 = (1 << 36) - 1;

    fn try_seal(table: &PeerTable, room: usize) -> Result<usize, DropReason> {
        let peer = table.peer(id(7)).unwrap();
        let tables = table.read();
        tables.tx(&peer, at(1)).seal(&ipv4("1.1.1.1", "2.2.2.2", 40), &mut vec![0; room])
    }

    fn primary(table: &PeerTable, change: impl FnOnce(&mut SealFormat)) {
        let peer = table.peer(id(7)).unwrap();
        let mut tx = lock(&peer.tx);
        change(&mut tx.slots.primary.as_mut().unwrap().format);
    }

    fn wanted() -> Event {
        Event::KeySwap { peer: id(7), key_id: ovpn_dco::KeyId::FIRST }
    }

    #[test]
    fn without_a_primary_key_nothing_is_sent() {
        let (table, events) = one_peer(Framing::None, &key(DataFormat::V2, 0, 1, 2));
        table.key_swap(id(7)).unwrap();
        assert_eq!(try_seal(&table, 100), Err(DropReason::NoKey));
        assert_eq!(table.drops().get(DropReason::NoKey), 1);
        let peer = table.peer(id(7)).unwrap();
        assert_eq!(table.read().tx(&peer, at(1)).overhead(), None);
        assert_eq!((peer.info().stats, peer.last_sent()), (ovpn_dco::PeerStats::default(), at(0)));
        assert_eq!(events.take(), []);
    }

    #[test]
    fn a_packet_needs_room_for_all_of_it_and_spends_no_id_otherwise() {
        for format in FORMATS {
            let (table, _) = one_peer(Framing::None, &key(format, 0, 1, 2));
            let peer = table.peer(id(7)).unwrap();
            let needed = 40 + table.read().tx(&peer, at(1)).overhead().unwrap();
            for room in 0..needed {
                assert_eq!(try_seal(&table, room), Err(DropReason::NoRoom), "{format:?} {room}");
            }
            assert_eq!(try_seal(&table, needed), Ok(needed));
            primary(&table, |format| match format {
                SealFormat::Classic { last_id, .. } => assert_eq!(*last_id, 1),
                SealFormat::Epoch(chain) => assert_eq!(chain.next_packet().unwrap().1.counter(), 2),
                SealFormat::None { .. } => panic!(),
            });
        }
    }

    #[test]
    fn the_counters_and_the_send_time_are_those_of_the_kernel() {
        let (table, _) = one_peer(Framing::None, &key(DataFormat::V2, 0, 1, 2));
        let peer = table.peer(id(7)).unwrap();
        {
            let tables = table.read();
            let mut tx = tables.tx(&peer, at(77));
            tx.seal(&[0x45; 100], &mut [0; 200]).unwrap();
            tx.seal(&[0x45; 50], &mut [0; 200]).unwrap();
            tx.seal_ping(&mut [0; 200]).unwrap();
        }
        let stats = peer.info().stats;
        assert_eq!((stats.vpn.tx_packets, stats.vpn.tx_bytes), (2, 150));
        assert_eq!((stats.link.tx_packets, stats.link.tx_bytes), (3, 150 + 16 + 3 * 24));
        assert_eq!(peer.last_sent(), at(77));
    }

    #[test]
    fn after_the_last_packet_id_the_key_leaves_both_directions() {
        for (key, last) in [
            (key(DataFormat::V2, 0, 1, 2), u64::from(u32::MAX)),
            (key(DataFormat::V1, 0, 1, 2), u64::from(u32::MAX)),
            (key(DataFormat::Epoch, 0, 1, 2), (1 << 48) - 1),
            (none_key(0), u64::from(u32::MAX)),
        ] {
            let (table, events) = one_peer(Framing::None, &key);
            let spare = crate::test_support::key(DataFormat::V2, 1, 3, 4);
            table.key_new(id(7), KeySlot::Secondary, &spare).unwrap();
            primary(&table, |format| match format {
                SealFormat::Classic { last_id, .. } | SealFormat::None { last_id } => {
                    *last_id = last as u32 - 1
                }
                SealFormat::Epoch(chain) => chain.preset(u16::MAX, last - 1, 0),
            });
            try_seal(&table, 100).unwrap();
            events.take();
            assert_eq!(try_seal(&table, 100), Err(DropReason::KeyExhausted));
            assert_eq!(events.take(), [wanted()]);
            assert!(table.key_get(id(7), KeySlot::Primary).is_err());
            let peer = table.peer(id(7)).unwrap();
            assert!(lock(&peer.rx).slots.primary.is_none());
            assert!(lock(&peer.rx).slots.secondary.is_some(), "the other key stays");
            assert_eq!(try_seal(&table, 100), Err(DropReason::NoKey));
            assert_eq!(events.take(), [], "once");
            assert_eq!(table.drops().get(DropReason::KeyExhausted), 1);
            table.key_swap(id(7)).unwrap();
            try_seal(&table, 100).unwrap();
        }
    }

    #[test]
    fn near_its_usage_limit_a_classic_key_asks_for_another_and_at_the_limit_it_stops() {
        let (table, events) = one_peer(Framing::None, &key(DataFormat::V2, 0, 1, 2));
        let preset = |used| {
            primary(&table, |format| match format {
                SealFormat::Classic { usage, .. } => usage.preset(used, 0),
                _ => panic!(),
            });
        };
        // A packet of 40 bytes counts 1 + (24 + 40) / 16.
        preset(LIMIT / 8 * 7 - 5);
        try_seal(&table, 100).unwrap();
        assert_eq!(events.take(), []);
        try_seal(&table, 100).unwrap();
        assert_eq!(events.take(), [wanted()]);
        try_seal(&table, 100).unwrap();
        assert_eq!(events.take(), [], "asked once");
        preset(LIMIT);
        try_seal(&table, 100).unwrap();
        assert_eq!(try_seal(&table, 100), Err(DropReason::KeyExhausted));
        assert_eq!(events.take(), [wanted()]);
        assert_eq!(try_seal(&table, 100), Err(DropReason::NoKey));
    }

    #[test]
    fn an_epoch_key_moves_on_instead_and_asks_when_epochs_run_out() {
        let (table, events) = one_peer(Framing::None, &key(DataFormat::Epoch, 0, 1, 2));
        let chain = |change: &dyn Fn(&mut crate::epoch::SendChain)| {
            primary(&table, |format| match format {
                SealFormat::Epoch(chain) => change(chain),
                _ => panic!(),
            });
        };
        chain(&|chain| chain.preset(1, 9, LIMIT));
        try_seal(&table, 100).unwrap();
        chain(&|chain| assert_eq!(chain.epoch(), 1));
        try_seal(&table, 100).unwrap();
        chain(&|chain| assert_eq!(chain.epoch(), 2));
        assert_eq!(events.take(), []);
        chain(&|chain| chain.preset(0xF000 - 1, (1 << 48) - 2, 0));
        try_seal(&table, 100).unwrap();
        assert_eq!(events.take(), []);
        try_seal(&table, 100).unwrap();
        chain(&|chain| assert_eq!(chain.epoch(), 0xF000));
        assert_eq!(events.take(), [wanted()]);
        try_seal(&table, 100).unwrap();
        assert_eq!(events.take(), []);
    }

    #[test]
    fn a_swap_changes_both_directions_at_once() {
        let (table, _) = one_peer(Framing::None, &key(DataFormat::V2, 0, 1, 2));
        table.key_new(id(7), KeySlot::Secondary, &key(DataFormat::Epoch, 1, 3, 4)).unwrap();
        assert_eq!(try_seal(&table, 100), Ok(64));
        table.key_swap(id(7)).unwrap();
        assert_eq!(try_seal(&table, 100), Ok(68));
        let peer = table.peer(id(7)).unwrap();
        let rx = lock(&peer.rx);
        assert!(matches!(rx.slots.primary.as_ref().unwrap().format, OpenFormat::Epoch(_)));
        assert!(matches!(rx.slots.secondary.as_ref().unwrap().format, OpenFormat::Classic { .. }));
    }
}
