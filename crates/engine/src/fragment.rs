//! Packets in pieces, as old peers with `fragment N` send and want them: cut when sending, joined when receiving.
//!
//! ```text
//!   framed packet  │ · · · · · · · │ · · · · · · · │ · · · · · │
//!   pieces         H0 · · · · · · ·  H1 · · · · · ·  H2 · · · ·      one size, a multiple of 4; the last may be shorter
//!
//!   slots          packet id mod 16 ─▶ │ id · size · which came · bytes │
//! ```
//!
//! Packets that need no cutting bear a header, too. Pieces are joined in whatever order they come. A packet that stays
//! incomplete leaves when a later one wants its slot; so memory is bounded by sixteen packets of a peer, and grows only
//! as far as the longest ones it really sends.

use std::time::Duration;

use ovpn_wire::fragment::{Fragment, LEN, MAX_PIECES, UNIT};

use crate::compress::MAX_EXPANDED;
use crate::drop_reason::{DropCounters, DropReason};
use crate::time::Timestamp;

/// Longest packet with its compression framing, bytes.
const MAX_PACKET: usize = MAX_EXPANDED + 1;

// ---- cutting ----

/// What is left to send of a packet that was cut.
#[derive(Debug)]
pub struct Pieces<'a> {
    parts: [&'a [u8]; 3],
    left: usize,
    /// Of each piece but the last.
    size: usize,
    inner: usize,
    packet: u8,
    index: u8,
}

/// One piece with its header.
#[derive(Debug)]
pub struct Piece<'a> {
    pub(crate) header: [u8; LEN],
    pub(crate) parts: [&'a [u8]; 3],
    /// The inner packet's length, with its last piece.
    pub(crate) completes: Option<usize>,
}

impl Piece<'_> {
    /// Header and what follows, bytes.
    pub fn len(&self) -> usize {
        LEN + self.parts.iter().map(|part| part.len()).sum::<usize>()
    }

    /// Never: there is always the header.
    pub const fn is_empty(&self) -> bool {
        false
    }
}

impl<'a> Pieces<'a> {
    /// Cuts the framed packet `parts` (of an inner one of `inner` bytes) into pieces of at most `largest` bytes.
    /// `packet` is the number of the packet that was cut before.
    ///
    /// # Errors
    /// [`DropReason::TooManyPieces`], not yet counted.
    pub(crate) fn cut(
        inner: usize,
        parts: [&'a [u8]; 3],
        largest: u16,
        packet: &mut u8,
    ) -> Result<Self, DropReason> {
        let largest = usize::from(largest);
        let left = parts.iter().map(|part| part.len()).sum();
        let mut pieces = Self { parts, left, size: left, inner, packet: 0, index: 0 };
        if left > largest {
            let count = left.div_ceil((largest / UNIT * UNIT).max(UNIT));
            if count > MAX_PIECES {
                return Err(DropReason::TooManyPieces);
            }
            // Pieces of about one size are less likely to be cut once more on their way.
            pieces.size = left.div_ceil(count).next_multiple_of(UNIT);
            *packet = packet.wrapping_add(1);
            pieces.packet = *packet;
        }
        Ok(pieces)
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.left == 0 {
            return None;
        }
        let last = self.left <= self.size;
        let header = match (self.index, last) {
            (0, true) => Fragment::Whole,
            (index, false) => Fragment::Piece { packet: self.packet, index },
            (index, true) => Fragment::Last { packet: self.packet, index, size: self.size as u16 },
        };
        let mut wanted = self.left.min(self.size);
        self.left -= wanted;
        self.index += 1;
        let parts = self.parts.each_mut().map(|part| {
            let (now, later) = part.split_at(wanted.min(part.len()));
            wanted -= now.len();
            *part = later;
            now
        });
        Some(Piece { header: header.to_bytes(), parts, completes: last.then_some(self.inner) })
    }
}

// ---- joining ----

/// Packets that are joined at a time: newer ones take the places of older ones, so this is also by how many packets one
/// may overtake another.
const SLOTS: usize = 16;

/// A packet of which nothing came for this long has no claim to its slot.
const LIFETIME: Duration = Duration::from_secs(10);

/// A packet is late if its number lies at most this far behind the one in its slot; else the numbers have come round.
const BEHIND: u8 = 64;

/// The packets of a peer that are not complete yet.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    slots: [Slot; SLOTS],
}

#[derive(Debug, Default)]
struct Slot {
    packet: u8,
    /// Of each piece but the last.
    size: usize,
    /// A bit for each piece that came; 0 is an empty slot.
    came: u32,
    /// The last piece's index, and the packet's length.
    end: Option<(u8, usize)>,
    touched: Timestamp,
    bytes: Vec<u8>,
}

impl Reassembly {
    /// Takes the fragment header off the payload in `buffer[..len]`. A whole packet, or the one that this piece
    /// completes, is then in `buffer`: its length is returned.
    ///
    /// # Errors
    /// [`DropReason::BadFragment`], [`DropReason::LateFragment`], [`DropReason::NoRoom`], not yet counted. Packets whose
    /// slots are taken are counted here.
    pub(crate) fn join(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        now: Timestamp,
        drops: &DropCounters,
    ) -> Result<Option<usize>, DropReason> {
        let payload = buffer.get(..len).ok_or(DropReason::NoRoom)?;
        let (header, piece) = Fragment::parse(payload).ok_or(DropReason::BadFragment)?;
        let (packet, index, size, is_last) = match header {
            Fragment::Whole => {
                buffer.copy_within(LEN..len, 0);
                return Ok(Some(len - LEN));
            }
            Fragment::Piece { packet, index } => (packet, index, piece.len(), false),
            Fragment::Last { packet, index, size } => (packet, index, size.into(), true),
            Fragment::Test => return Err(DropReason::BadFragment),
        };
        let start = usize::from(index) * size;
        let end = start + piece.len();
        if piece.is_empty() || piece.len() > size || size % UNIT != 0 || end > MAX_PACKET {
            return Err(DropReason::BadFragment);
        }
        let slot = &mut self.slots[usize::from(packet) % SLOTS];
        let old = now.since(slot.touched) > LIFETIME;
        if slot.came != 0 && (old || !slot.fits(packet, index, size, is_last)) {
            if !old && (1..=BEHIND).contains(&slot.packet.wrapping_sub(packet)) {
                return Err(DropReason::LateFragment);
            }
            drops.count(DropReason::MissingFragments);
            slot.came = 0;
        }
        if slot.came == 0 {
            (slot.packet, slot.size, slot.end) = (packet, size, None);
        }
        if slot.bytes.len() < end {
            slot.bytes.reserve_exact(end - slot.bytes.len());
            slot.bytes.resize(end, 0);
        }
        slot.bytes[start..end].copy_from_slice(piece);
        slot.came |= 1 << index;
        slot.touched = now;
        if is_last {
            slot.end = Some((index, end));
        }
        let Some(len) = slot.complete() else { return Ok(None) };
        slot.came = 0;
        buffer.get_mut(..len).ok_or(DropReason::NoRoom)?.copy_from_slice(&slot.bytes[..len]);
        Ok(Some(len))
    }
}

impl Slot {
    /// Whether a piece can be one of the packet whose pieces came before. A sender that starts anew may reuse a number.
    fn fits(&self, packet: u8, index: u8, size: usize, is_last: bool) -> bool {
        let in_order = match (self.end, is_last) {
            (None, false) => true,
            (None, true) => self.came >> index <= 1,
            (Some((last, _)), false) => index < last,
            (Some((last, _)), true) => index == last,
        };
        self.packet == packet && self.size == size && in_order
    }

    /// The packet's length, if all pieces came.
    fn complete(&self) -> Option<usize> {
        self.end.filter(|(last, _)| self.came == u32::MAX >> (31 - last)).map(|(_, len)| len)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ovpn_dco::{DataFormat, Framing, KeySlot, Mode, PeerConfig, Protocol};
    use proptest::prelude::*;

    use super::*;
    use crate::decrypt::Kind;
    use crate::peer_table::PeerTable;
    use crate::test_support::{at, from, id, ipv4, key, pair, peer, seal, table};

    /// Pieces of a packet of `len` bytes, as payloads.
    fn cut(len: usize, largest: u16, packet: &mut u8) -> Result<Vec<Vec<u8>>, DropReason> {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 7 % 251) as u8).collect();
        let (first, rest) = bytes.split_at(len.min(1));
        let pieces = Pieces::cut(len, [first, rest, &[]], largest, packet)?;
        Ok(pieces.map(|piece| [&piece.header, piece.parts.concat().as_slice()].concat()).collect())
    }

    fn join(reassembly: &mut Reassembly, payload: &[u8], now: u64) -> Result<Option<Vec<u8>>, DropReason> {
        let mut buffer = vec![0xEE; 70_000];
        buffer[..payload.len()].copy_from_slice(payload);
        let len = reassembly.join(&mut buffer, payload.len(), at(now), &DropCounters::default())?;
        Ok(len.map(|len| buffer[..len].to_vec()))
    }

    fn header(payload: &[u8]) -> Fragment {
        Fragment::parse(payload).unwrap().0
    }

    #[test]
    fn what_fits_goes_whole_and_takes_no_number() {
        let mut packet = 9;
        for len in [1, 100, 1172] {
            let pieces = cut(len, 1172, &mut packet).unwrap();
            assert_eq!((pieces.len(), header(&pieces[0]), pieces[0].len()), (1, Fragment::Whole, len + 4));
        }
        assert_eq!(packet, 9);
    }

    #[test]
    fn pieces_are_of_one_size_and_none_is_too_large() {
        let mut packet = 255;
        let pieces = cut(1173, 1172, &mut packet).unwrap();
        assert_eq!(packet, 0);
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [592, 589]);
        assert_eq!(header(&pieces[0]), Fragment::Piece { packet: 0, index: 0 });
        assert_eq!(header(&pieces[1]), Fragment::Last { packet: 0, index: 1, size: 588 });

        // A size that is no multiple of 4 is rounded down, but for packets that fit.
        let sizes = |len| cut(len, 103, &mut 0).map(|pieces| pieces.iter().map(|p| p.len() - 4).collect());
        assert_eq!(sizes(103), Ok(vec![103]));
        assert_eq!(sizes(201), Ok(vec![68, 68, 65]));
        assert_eq!(sizes(32 * 100), Ok(vec![100; 32]));
        assert_eq!(sizes(32 * 100 + 1), Err(DropReason::TooManyPieces));
    }

    #[test]
    fn pieces_join_in_any_order_and_among_others() {
        let mut packet = 254;
        let sent: Vec<Vec<Vec<u8>>> = (0..8).map(|n| cut(900 + n, 300, &mut packet).unwrap()).collect();
        let mut reassembly = Reassembly::default();
        // All last pieces first, then the others from behind, of all packets in turn.
        for index in (1..4).rev() {
            for pieces in &sent {
                if let Some(piece) = pieces.get(index) {
                    assert_eq!(join(&mut reassembly, piece, 0), Ok(None));
                }
            }
        }
        for (n, pieces) in sent.iter().enumerate() {
            let whole = join(&mut reassembly, &pieces[0], 9_999).unwrap().unwrap();
            assert_eq!(whole, cut(900 + n, u16::MAX, &mut 0).unwrap()[0][4..]);
        }
    }

    #[test]
    fn incomplete_packets_give_way() {
        let mut reassembly = Reassembly::default();
        let drops = DropCounters::default();
        let mut take = |payload: &[u8], now| {
            let mut buffer = vec![0; 2000];
            buffer[..payload.len()].copy_from_slice(payload);
            let taken = reassembly.join(&mut buffer, payload.len(), at(now), &drops);
            (taken.map(|len| len.is_some()), drops.get(DropReason::MissingFragments))
        };
        let of = |mut number: u8| cut(900, 600, &mut number).unwrap();
        let (first, second, third) = (of(0), of(16), of(16 + 128));
        assert_eq!(take(&first[0], 0), (Ok(false), 0));
        assert_eq!(take(&second[0], 0), (Ok(false), 1), "a later packet takes its slot");
        assert_eq!(take(&first[1], 0), (Err(DropReason::LateFragment), 1));
        assert_eq!(take(&second[1], 0), (Ok(true), 1));
        assert_eq!(take(&second[0], 0), (Ok(false), 1));
        assert_eq!(take(&second[1], 10_001), (Ok(false), 2), "too long ago");
        assert_eq!(take(&third[0], 10_001), (Ok(false), 3), "the numbers have come round");
        assert_eq!(take(&second[0], 10_001), (Ok(false), 4), "and once more");
        assert_eq!(take(&cut(1000, 700, &mut 16).unwrap()[0], 10_001), (Ok(false), 5), "a sender anew");
        assert_eq!(take(&cut(1000, 700, &mut 16).unwrap()[1], 10_001), (Ok(true), 5));
    }

    #[test]
    fn headers_that_do_not_fit_are_refused() {
        let piece = |header: Fragment, len: usize| [&header.to_bytes()[..], &vec![0; len]].concat();
        for payload in [
            vec![0; 3],
            piece(Fragment::Test, 4),
            piece(Fragment::Piece { packet: 1, index: 0 }, 0),
            piece(Fragment::Piece { packet: 1, index: 0 }, 6),
            piece(Fragment::Last { packet: 1, index: 0, size: 8 }, 0),
            piece(Fragment::Last { packet: 1, index: 1, size: 8 }, 9),
            piece(Fragment::Last { packet: 1, index: 1, size: 0 }, 1),
            piece(Fragment::Piece { packet: 1, index: 31 }, 2116),
            piece(Fragment::Last { packet: 1, index: 31, size: 65_532 }, 10),
        ] {
            let mut reassembly = Reassembly::default();
            assert_eq!(join(&mut reassembly, &payload, 0), Err(DropReason::BadFragment), "{payload:?}");
            assert!(reassembly.slots.iter().all(|slot| slot.bytes.capacity() == 0));
        }
        assert_eq!(join(&mut Reassembly::default(), &[0; 4], 0), Ok(Some(vec![])));
    }

    /// The same by the book and slowly: whole pieces in maps.
    #[derive(Default)]
    struct Model(BTreeMap<u8, ModelPacket>);

    struct ModelPacket {
        packet: u8,
        size: usize,
        pieces: BTreeMap<u8, Vec<u8>>,
        last: Option<u8>,
        touched: u64,
    }

    impl Model {
        fn join(&mut self, payload: &[u8], now: u64) -> Result<Option<Vec<u8>>, DropReason> {
            let Some((header, piece)) = Fragment::parse(payload) else { return Err(DropReason::BadFragment) };
            let (packet, index, size, is_last) = match header {
                Fragment::Whole => return Ok(Some(piece.to_vec())),
                Fragment::Piece { packet, index } => (packet, index, piece.len(), false),
                Fragment::Last { packet, index, size } => (packet, index, usize::from(size), true),
                Fragment::Test => return Err(DropReason::BadFragment),
            };
            let until = usize::from(index) * size + piece.len();
            if piece.is_empty() || piece.len() > size || !size.is_multiple_of(4) || until > 65_536 {
                return Err(DropReason::BadFragment);
            }
            if let Some(other) = self.0.get(&(packet % 16)) {
                let contradicts = match (other.last, is_last) {
                    (Some(last), true) => last != index,
                    (Some(last), false) => last <= index,
                    (None, true) => other.pieces.keys().any(|key| *key > index),
                    (None, false) => false,
                };
                let behind = (256 + i32::from(other.packet) - i32::from(packet)) % 256;
                let expired = now > other.touched + 10_000;
                if expired {
                    self.0.remove(&(packet % 16));
                } else if other.packet != packet && behind <= 64 {
                    return Err(DropReason::LateFragment);
                } else if other.packet != packet || other.size != size || contradicts {
                    self.0.remove(&(packet % 16));
                }
            }
            let new = ModelPacket { packet, size, pieces: BTreeMap::new(), last: None, touched: now };
            let whole = self.0.entry(packet % 16).or_insert(new);
            whole.pieces.insert(index, piece.to_vec());
            whole.touched = now;
            whole.last = whole.last.or(is_last.then_some(index));
            let complete = whole.last.is_some_and(|last| (0..=last).all(|i| whole.pieces.contains_key(&i)));
            Ok(complete
                .then(|| self.0.remove(&(packet % 16)))
                .flatten()
                .map(|whole| whole.pieces.into_values().collect::<Vec<_>>().concat()))
        }
    }

    /// Pieces of few packets and sizes, so that they meet; now and then any bytes at all.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let place = (prop::sample::select(vec![0u8, 1, 16, 32, 144, 255]), 0..4u8);
        let size = prop::sample::select(vec![0u16, 4, 8, 16, 2116, 65_532]);
        let piece = (place, size, 0..3usize, 0..18usize, any::<u8>());
        let made = piece.prop_map(|((packet, index), size, kind, len, fill)| {
            let header = match kind {
                0 => Fragment::Last { packet, index, size },
                _ => Fragment::Piece { packet, index },
            };
            let len = if len > 2 { usize::from(size) } else { len * 4 };
            [&header.to_bytes()[..], &vec![fill; len]].concat()
        });
        prop_oneof![9 => made, 1 => prop::collection::vec(any::<u8>(), 0..40)]
    }

    proptest! {
        #[test]
        fn joining_is_as_by_the_book(input in prop::collection::vec((payload(), 0..4000u64), 0..60)) {
            let (mut reassembly, mut model, mut now) = (Reassembly::default(), Model::default(), 0);
            for (payload, pause) in input {
                now += pause;
                prop_assert_eq!(join(&mut reassembly, &payload, now), model.join(&payload, now));
                prop_assert!(reassembly.slots.iter().all(|slot| slot.bytes.capacity() <= MAX_PACKET));
            }
        }

        /// Whatever is cut is joined, though neighbours are exchanged; of lost pieces only their packets suffer.
        #[test]
        fn what_is_cut_is_joined(
            packets in prop::collection::vec((1..3000usize, 0..8usize), 1..40),
            largest in 96..1500u16,
            swaps in prop::collection::vec((any::<prop::sample::Index>(), 0..8usize), 0..30),
        ) {
            let (mut number, mut sent) = (0, Vec::new());
            for (n, (len, lost)) in packets.iter().enumerate() {
                for (index, piece) in cut(*len, largest, &mut number).unwrap().into_iter().enumerate() {
                    prop_assert!(piece.len() - LEN <= usize::from(largest));
                    sent.push((n, *lost == index + 1, piece));
                }
            }
            for (index, distance) in swaps {
                let index = index.index(sent.len());
                let other = (index + distance).min(sent.len() - 1);
                sent.swap(index, other);
            }
            let mut reassembly = Reassembly::default();
            let mut joined: Vec<Vec<u8>> = Vec::new();
            for (_, lost, piece) in &sent {
                if !lost {
                    joined.extend(join(&mut reassembly, piece, 0).unwrap());
                }
            }
            let mut expected = Vec::new();
            for (n, (len, _)) in packets.iter().enumerate() {
                if !sent.iter().any(|(of, lost, _)| *of == n && *lost) {
                    expected.extend(cut(*len, u16::MAX, &mut 0).unwrap().pop().map(|piece| piece[4..].to_vec()));
                }
            }
            joined.sort();
            expected.sort();
            prop_assert_eq!(joined, expected);
        }
    }

    fn end(framing: Framing, out: u8, into: u8) -> PeerTable {
        let (table, _) = table(Mode::P2p);
        let config = PeerConfig { framing, fragment: Some(1172), ..peer(7, "192.0.2.1:1194", "") };
        table.peer_new(&config, Some(Protocol::Udp), at(0)).unwrap();
        table.key_new(id(7), KeySlot::Primary, &key(DataFormat::V2, 0, out, into)).unwrap();
        table
    }

    #[test]
    fn packets_cross_in_sealed_pieces_and_are_counted_once() {
        for framing in [Framing::None, Framing::Lzo, Framing::Swap, Framing::V2] {
            let (sender, receiver) = (end(framing, 1, 2), end(framing, 2, 1));
            let (to, back) = (sender.peer(id(7)).unwrap(), receiver.peer(id(7)).unwrap());
            let (arriving, mut out) = (receiver.read(), vec![0; 70_000]);
            for (len, wanted) in [(1171, 1), (1500, 2), (9000, 8)] {
                let inner = ipv4("10.0.0.1", "10.0.0.2", len);
                let tables = sender.read();
                let mut tx = tables.tx(&to, at(1));
                let mut kinds = Vec::new();
                for piece in tx.pieces(&inner).unwrap() {
                    let mut packet = vec![0; 1300];
                    let sealed = tx.seal_piece(&piece, &mut packet).unwrap();
                    assert!(sealed == piece.len() + 24 && sealed <= 1200);
                    let opened = arriving
                        .rx(&back, at(1))
                        .open(&packet[..sealed], Some(&from("192.0.2.1:1194")), &mut out)
                        .unwrap();
                    kinds.push(opened.kind());
                    assert!(opened.is_empty() || out[..opened.len()] == inner);
                }
                assert_eq!(kinds.len(), wanted);
                assert_eq!(kinds.pop(), Some(Kind::Data));
                assert!(kinds.iter().all(|kind| *kind == Kind::Piece));
            }
            for (stats, packets) in [(to.info().stats, [3, 0, 11, 0]), (back.info().stats, [0, 3, 0, 11])] {
                let (vpn, link) = (stats.vpn, stats.link);
                assert_eq!([vpn.tx_packets, vpn.rx_packets, link.tx_packets, link.rx_packets], packets);
                assert_eq!(vpn.tx_bytes + vpn.rx_bytes, 1171 + 1500 + 9000);
            }
            assert_eq!(receiver.drops().total(), 0);
        }
    }

    #[test]
    fn keepalives_have_the_header_and_packets_without_it_are_refused() {
        let (sender, receiver) = (end(Framing::None, 1, 2), end(Framing::None, 2, 1));
        let (to, back) = (sender.peer(id(7)).unwrap(), receiver.peer(id(7)).unwrap());
        let mut packet = [0; 100];
        let len = sender.read().tx(&to, at(1)).seal_ping(&mut packet).unwrap();
        assert_eq!(len, 24 + 4 + 16);
        assert_eq!(sender.read().tx(&to, at(1)).overhead(), Some(24 + 4));
        let (tables, mut out) = (receiver.read(), [0; 100]);
        let opened = tables.rx(&back, at(1)).open(&packet[..len], None, &mut out).unwrap();
        assert_eq!(opened.kind(), Kind::Ping);
        // The length of this packet reads as the number of a whole one; a keepalive reads as a test.
        let [(plain, _), _] = pair(DataFormat::V2, Framing::None);
        for inner in [&ipv4("10.0.0.1", "10.0.0.2", 40)[..], &ovpn_wire::payload::PING] {
            let bare = seal(&plain, inner);
            let other = end(Framing::None, 2, 1);
            let back = other.peer(id(7)).unwrap();
            let refused = other.read().rx(&back, at(1)).open(&bare, None, &mut out);
            assert_eq!(refused, Err(DropReason::BadFragment));
        }
    }
}
