//! From inner packets to data packets.
//!
//! ```text
//! inner packet ─▶ framing (old peers) ─▶ packet id ─▶ AEAD, straight into the send buffer ─▶ header
//! ```

use std::sync::MutexGuard;

use ovpn_crypto::aead::AeadKey;
use ovpn_dco::{Event, Framing};
use ovpn_wire::data_packet::{self, EPOCH_OVERHEAD, NONE_OVERHEAD, OPCODE_DATA_V1, V1_OVERHEAD, V2_OVERHEAD};
use ovpn_wire::payload::PING;

use crate::compress;
use crate::drop_reason::DropReason;
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
            } + match self.peer.framing() {
                Framing::None | Framing::V2 => 0,
                Framing::Lzo | Framing::Swap => 1,
            },
        )
    }

    /// Clamps the MSS that a SYN in `inner` announces, as the peer's setting asks.
    #[inline]
    pub fn clamp_mss(&self, inner: &mut [u8]) {
        mss::clamp(inner, self.peer.mss());
    }

    /// Seals one inner IP packet into `out` and returns the data packet's length.
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

    /// Seals a keepalive.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_ping(&mut self, out: &mut [u8]) -> Result<usize, DropReason> {
        self.seal_payload(&PING, out)
    }

    #[inline]
    fn seal_payload(&mut self, payload: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        let tx_id = self.state.tx_id.get();
        let Some(key) = &mut self.state.slots.primary else { return Err(self.dropped(DropReason::NoKey)) };
        match seal_with(key, tx_id, self.peer.framing(), payload, out) {
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
        self.peer.shared.events.event(Event::KeySwap { peer: self.peer.id(), key_id: key.key_id });
    }

    fn dropped(&self, reason: DropReason) -> DropReason {
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

pub(crate) struct Sealed {
    pub(crate) len: usize,
    pub(crate) wants_renewal: bool,
}

#[inline]
pub(crate) fn seal_with(
    key: &mut SealKey,
    tx_id: u32,
    framing: Framing,
    payload: &[u8],
    out: &mut [u8],
) -> Result<Sealed, DropReason> {
    let key_id = key.key_id.get();
    let len = payload.len() + compress::added(framing, payload);
    match &mut key.format {
        SealFormat::Classic { key, tail, last_id, usage, v1 } => {
            let (aad, tag, ciphertext) = if *v1 { split_v1(key_id, len, out) } else { split_v2(len, out) }
                .ok_or(DropReason::NoRoom)?;
            if *last_id == u32::MAX || usage.is_exhausted() {
                return Err(DropReason::KeyExhausted);
            }
            *last_id += 1;
            let id = last_id.to_be_bytes();
            if let Some((op32, packet_id)) = aad.split_first_chunk_mut::<4>() {
                if packet_id.is_empty() {
                    *op32 = id;
                } else {
                    *op32 = data_packet::op32(tx_id, key_id);
                    packet_id.copy_from_slice(&id);
                }
            }
            encrypt(key, tail.nonce(id), aad, framing, payload, ciphertext, tag)?;
            let overhead = if *v1 { V1_OVERHEAD } else { V2_OVERHEAD };
            usage.add(overhead + len);
            Ok(Sealed { len: overhead + len, wants_renewal: usage.wants_renewal() })
        }
        SealFormat::Epoch(chain) => {
            let (aad, rest) = out.split_first_chunk_mut::<12>().ok_or(DropReason::NoRoom)?;
            let (ciphertext, rest) = rest.split_at_mut_checked(len).ok_or(DropReason::NoRoom)?;
            let tag = rest.first_chunk_mut().ok_or(DropReason::NoRoom)?;
            let (key, packet_id) = chain.next_packet().map_err(|_| DropReason::KeyExhausted)?;
            aad[..4].copy_from_slice(&data_packet::op32(tx_id, key_id));
            aad[4..].copy_from_slice(&packet_id.0.to_be_bytes());
            encrypt(&key.aead, key.nonce(packet_id.0), aad, framing, payload, ciphertext, tag)?;
            chain.used(12 + len);
            Ok(Sealed { len: EPOCH_OVERHEAD + len, wants_renewal: chain.wants_renewal() })
        }
        SealFormat::None { last_id } => {
            let (header, rest) = out.split_first_chunk_mut::<8>().ok_or(DropReason::NoRoom)?;
            let plain = rest.get_mut(..len).ok_or(DropReason::NoRoom)?;
            *last_id = last_id.checked_add(1).ok_or(DropReason::KeyExhausted)?;
            header[..4].copy_from_slice(&data_packet::op32(tx_id, key_id));
            header[4..].copy_from_slice(&last_id.to_be_bytes());
            compress::wrap(framing, payload, plain);
            Ok(Sealed { len: NONE_OVERHEAD + len, wants_renewal: false })
        }
    }
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

/// From `payload` into `ciphertext` in one pass; framed payloads take a copy first.
#[inline]
fn encrypt(
    key: &AeadKey,
    nonce: [u8; 12],
    aad: &[u8],
    framing: Framing,
    payload: &[u8],
    ciphertext: &mut [u8],
    tag: &mut [u8; 16],
) -> Result<(), DropReason> {
    if ciphertext.len() == payload.len() {
        key.seal(nonce, aad, payload, ciphertext, tag)
    } else {
        compress::wrap(framing, payload, ciphertext);
        key.seal_in_place(nonce, aad, ciphertext, tag)
    }
    .map_err(|_| DropReason::NoRoom)
}
