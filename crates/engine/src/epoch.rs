//! The two chains of epoch keys that one installed key has.
//!
//! ```text
//!   send      E_s ── used up, or the peer is ahead ──▶ E_s+1 …
//!   receive   [retiring] [current] [future +1 … +16]
//!                 ▲          ▲            │ the first authentic packet of a future epoch
//!                 └──────────┴────────────┘ moves everything; a forged one moves nothing
//! ```
//!
//! A receiver that has had enough of a key moves its own send chain: the peer follows. So the chains must know of
//! each other; they share a [`Link`] of two numbers, since each lives behind its direction's lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use ovpn_crypto::aead::{Cipher, KeyError};
use ovpn_crypto::epoch::{EpochKey, EpochSecret};
use ovpn_wire::data_packet::EpochPacketId;

use crate::pktid::ReplayWindow;
use crate::usage::Usage;

/// How far ahead of the current receive epoch a packet may be.
pub const FUTURE_EPOCHS: u16 = 16;

/// The send epoch from which on a new TLS key is wanted.
const RENEW_EPOCH: u16 = 0xF000;

/// What the receive chain tells the send chain.
#[derive(Debug)]
pub struct Link {
    receive_epoch: AtomicU16,
    receive_used_up: AtomicBool,
}

/// The send chain.
#[derive(Debug)]
pub struct SendChain {
    cipher: Cipher,
    epoch: u16,
    counter: u64,
    key: EpochKey,
    /// The secret of the next epoch: the current one's is not kept.
    next: EpochSecret,
    usage: Usage,
    link: Arc<Link>,
}

/// The chain has no packet id left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

impl SendChain {
    fn new(cipher: Cipher, first: &EpochSecret, link: Arc<Link>) -> Result<Self, KeyError> {
        Ok(Self {
            cipher,
            epoch: 1,
            counter: 0,
            key: first.key(cipher)?,
            next: first.next(),
            usage: Usage::new(cipher),
            link,
        })
    }

    /// The key and packet id for the next packet; moves to another epoch where that is due.
    ///
    /// # Errors
    /// [`Exhausted`] at the very end of the last epoch.
    #[inline]
    pub fn next_packet(&mut self) -> Result<(&EpochKey, EpochPacketId), Exhausted> {
        let receive_epoch = self.link.receive_epoch.load(Ordering::Acquire);
        if self.epoch < receive_epoch {
            self.advance_to(receive_epoch)?;
        }
        let due = self.usage.wants_next_epoch()
            || self.epoch == receive_epoch && self.link.receive_used_up.load(Ordering::Acquire)
            || self.counter == EpochPacketId::MAX_COUNTER;
        if due && self.epoch < u16::MAX {
            self.advance_to(self.epoch + 1)?;
        }
        if self.counter == EpochPacketId::MAX_COUNTER {
            return Err(Exhausted);
        }
        self.counter += 1;
        Ok((&self.key, EpochPacketId::new(self.epoch, self.counter)))
    }

    /// Counts a sent packet's bytes.
    #[inline]
    pub fn used(&mut self, bytes: usize) {
        self.usage.add(bytes);
    }

    /// The epochs come to an end: a new TLS key is wanted.
    #[inline]
    pub const fn wants_renewal(&self) -> bool {
        self.epoch >= RENEW_EPOCH
    }

    /// The current epoch.
    pub const fn epoch(&self) -> u16 {
        self.epoch
    }

    #[cold]
    fn advance_to(&mut self, epoch: u16) -> Result<(), Exhausted> {
        while self.epoch < epoch {
            // A key of zero bytes has a chance of 2^-128; there is then none to send with.
            self.key = self.next.key(self.cipher).map_err(|_| Exhausted)?;
            self.next = self.next.next();
            self.epoch += 1;
            self.counter = 0;
            self.usage.reset();
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn preset(&mut self, epoch: u16, counter: u64, used: u64) {
        self.advance_to(epoch).unwrap();
        self.counter = counter;
        self.usage.preset(used, 0);
    }
}

/// One epoch as the receiver knows it.
#[derive(Debug)]
pub struct ReceiveEpoch {
    epoch: u16,
    /// Its cipher key and IV.
    pub key: EpochKey,
    /// The packet ids seen in it.
    pub replay: ReplayWindow,
    /// What was opened with it.
    pub usage: Usage,
}

impl ReceiveEpoch {
    fn new(cipher: Cipher, epoch: u16, secret: &EpochSecret) -> Result<Self, KeyError> {
        Ok(Self { epoch, key: secret.key(cipher)?, replay: ReplayWindow::new(), usage: Usage::new(cipher) })
    }
}

/// The receive chain.
#[derive(Debug)]
pub struct ReceiveChain {
    cipher: Cipher,
    current: Box<ReceiveEpoch>,
    retiring: Option<Box<ReceiveEpoch>>,
    /// The future epoch that a packet last named: its key is made once, not for every forged packet.
    candidate: Option<Box<ReceiveEpoch>>,
    /// Secrets of the epochs after the current one, at most [`FUTURE_EPOCHS`].
    future: VecDeque<EpochSecret>,
    link: Arc<Link>,
}

/// Which epoch of the chain a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The current one.
    Current,
    /// The one before.
    Retiring,
    /// One ahead; the chain moves there once the packet proves authentic.
    Future,
}

impl ReceiveChain {
    fn new(cipher: Cipher, first: &EpochSecret, link: Arc<Link>) -> Result<Self, KeyError> {
        let mut future = VecDeque::with_capacity(FUTURE_EPOCHS.into());
        future.push_back(first.next());
        let mut chain = Self {
            cipher,
            current: Box::new(ReceiveEpoch::new(cipher, 1, first)?),
            retiring: None,
            candidate: None,
            future,
            link,
        };
        chain.refill();
        Ok(chain)
    }

    /// Finds the epoch of a packet; `None` for zero, past and far-off ones.
    #[inline]
    pub fn find(&mut self, epoch: u16) -> Option<Which> {
        if epoch == self.current.epoch {
            return Some(Which::Current);
        }
        if self.retiring.as_ref().is_some_and(|retiring| retiring.epoch == epoch) {
            return Some(Which::Retiring);
        }
        self.find_future(epoch).then_some(Which::Future)
    }

    #[cold]
    fn find_future(&mut self, epoch: u16) -> bool {
        let Some(ahead @ 1..) = epoch.checked_sub(self.current.epoch) else { return false };
        let Some(secret) = self.future.get(usize::from(ahead) - 1) else { return false };
        if self.candidate.as_ref().is_none_or(|candidate| candidate.epoch != epoch) {
            self.candidate = ReceiveEpoch::new(self.cipher, epoch, secret).ok().map(Box::new);
        }
        self.candidate.is_some()
    }

    /// The epoch that [`find`](Self::find) found.
    #[inline]
    pub fn get(&mut self, which: Which) -> &mut ReceiveEpoch {
        let found = match which {
            Which::Current => None,
            Which::Retiring => self.retiring.as_mut(),
            Which::Future => self.candidate.as_mut(),
        };
        found.unwrap_or(&mut self.current)
    }

    /// To be called after a packet of this epoch proved authentic, before its replay test: moves the chain if the
    /// epoch is a future one.
    #[inline]
    pub fn authentic(&mut self, which: Which) {
        if which == Which::Future {
            self.move_to_candidate();
        }
    }

    #[cold]
    fn move_to_candidate(&mut self) {
        let Some(candidate) = self.candidate.take() else { return };
        let passed = usize::from(candidate.epoch - self.current.epoch).min(self.future.len());
        // The last secret stays until its successors are made, even where all were passed.
        let last = self.future.back().cloned();
        self.future.drain(..passed);
        self.retiring = Some(std::mem::replace(&mut self.current, candidate));
        if let (true, Some(last)) = (self.future.is_empty(), last)
            && self.current.epoch < u16::MAX
        {
            self.future.push_back(last.next());
        }
        self.refill();
        tracing::debug!(epoch = self.current.epoch, "the peer moved to another epoch");
        self.link.receive_used_up.store(false, Ordering::Release);
        self.link.receive_epoch.store(self.current.epoch, Ordering::Release);
    }

    /// To be called after each packet: tells the send chain when the peer should move on.
    #[inline]
    pub fn note_usage(&self) {
        if self.current.usage.wants_next_epoch() {
            self.link.receive_used_up.store(true, Ordering::Release);
        }
    }

    /// The current epoch.
    pub const fn epoch(&self) -> u16 {
        self.current.epoch
    }

    /// Makes the secrets of the epochs ahead, none past the last epoch there can be.
    fn refill(&mut self) {
        let wanted = FUTURE_EPOCHS.min(u16::MAX - self.current.epoch);
        while self.future.len() < usize::from(wanted) {
            let Some(last) = self.future.back() else { return };
            let next = last.next();
            self.future.push_back(next);
        }
    }
}

/// Both chains of a key; `send` and `receive` are the `E_1` of each direction.
///
/// # Errors
/// [`KeyError`] for secrets of the wrong length or of zero bytes only.
pub fn chains(cipher: Cipher, send: &[u8], receive: &[u8]) -> Result<(SendChain, ReceiveChain), KeyError> {
    let link = Arc::new(Link { receive_epoch: AtomicU16::new(1), receive_used_up: AtomicBool::new(false) });
    let send = SendChain::new(cipher, &EpochSecret::first(send)?, Arc::clone(&link))?;
    let receive = ReceiveChain::new(cipher, &EpochSecret::first(receive)?, link)?;
    Ok((send, receive))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use ovpn_dco::DataFormat;
    use proptest::prelude::*;

    use super::*;
    use crate::decrypt::authenticate_with;
    use crate::drop_reason::DropReason;
    use crate::key_slots::{OpenFormat, OpenKey, SealFormat, expand};
    use crate::test_support::{at, key};

    const CIPHER: Cipher = Cipher::Aes256Gcm;

    /// Packets of any epoch and counter, from the definition: `E_n` is `E_1` advanced n − 1 times.
    struct Forge(BTreeMap<u16, EpochSecret>);

    impl Forge {
        fn new() -> Self {
            Self(BTreeMap::from([(1, EpochSecret::first(&[2; 32]).unwrap())]))
        }

        fn packet(&mut self, epoch: u16, counter: u64, authentic: bool) -> Vec<u8> {
            // Epoch 0 has no key; any will do.
            let (&near, secret) = self.0.range(..=epoch.max(1)).next_back().unwrap();
            let secret = (near..epoch).fold(secret.clone(), |secret, _| secret.next());
            let key = secret.key(CIPHER).unwrap();
            self.0.insert(epoch.max(1), secret);
            let id = EpochPacketId::new(epoch, counter).0;
            let aad = [&[0x48, 0, 0, 7][..], &id.to_be_bytes()].concat();
            let (mut ciphertext, mut tag) = ([0; 3], [0; 16]);
            key.aead.seal(key.nonce(id), &aad, &[1, 2, 3], &mut ciphertext, &mut tag).unwrap();
            if !authentic {
                tag[3] ^= 4;
            }
            [&aad[..], &ciphertext, &tag].concat()
        }
    }

    /// The receiver in plain words.
    struct Slow {
        current: u16,
        retiring: Option<u16>,
        seen: BTreeMap<u16, BTreeSet<u64>>,
    }

    impl Slow {
        fn receive(&mut self, epoch: u16, counter: u64, authentic: bool) -> Result<(), DropReason> {
            let ahead = i32::from(epoch) - i32::from(self.current);
            if epoch == 0 || !(Some(epoch) == self.retiring || (0..=16).contains(&ahead)) {
                return Err(DropReason::UnknownEpoch);
            }
            if !authentic {
                return Err(DropReason::NotAuthentic);
            }
            if ahead > 0 {
                self.seen.retain(|&seen, _| seen == self.current);
                self.retiring = Some(self.current);
                self.current = epoch;
            }
            let seen = self.seen.entry(epoch).or_default();
            let highest = seen.last().copied().unwrap_or(0);
            if counter == 0 || counter + 2048 <= highest {
                Err(DropReason::ReplayTooOld)
            } else if !seen.insert(counter) {
                Err(DropReason::Replayed)
            } else {
                Ok(())
            }
        }
    }

    fn open_chain(key: &OpenKey) -> &ReceiveChain {
        match &key.format {
            OpenFormat::Epoch(chain) => chain,
            _ => panic!(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn agrees_with_the_slow_model(
            steps in proptest::collection::vec(
                (
                    prop_oneof![6 => -2..3i32, 2 => -20..20i32, 1 => 14..19i32, 1 => Just(-100_000)],
                    prop_oneof![4 => 0..6u64, 1 => 2040..2056u64, 1 => Just(EpochPacketId::MAX_COUNTER)],
                    prop::bool::weighted(0.8),
                    any::<bool>(),
                ),
                1..120,
            )
        ) {
            let mut forge = Forge::new();
            let (mut seal, mut open) = expand(&key(DataFormat::Epoch, 0, 1, 2), false).unwrap();
            let mut slow = Slow { current: 1, retiring: None, seen: BTreeMap::new() };
            let mut sent_epoch = 1;
            for (offset, counter, authentic, send) in steps {
                let epoch = (i32::from(slow.current) + offset).clamp(0, 0xFFFF) as u16;
                let packet = forge.packet(epoch, counter, authentic);
                let got = authenticate_with(&mut open, false, &packet, &mut [0; 64], at(0)).map(|_| ());
                prop_assert_eq!(got, slow.receive(epoch, counter, authentic), "epoch {}", epoch);
                let chain = open_chain(&open);
                prop_assert_eq!(chain.epoch(), slow.current);
                prop_assert_eq!(chain.retiring.as_ref().map(|retiring| retiring.epoch), slow.retiring);
                prop_assert_eq!(chain.future.len(), 16);
                if send {
                    // Never behind the peer, and no further ahead than needed.
                    let SealFormat::Epoch(chain) = &mut seal.format else { panic!() };
                    let (_, id) = chain.next_packet().unwrap();
                    sent_epoch = sent_epoch.max(slow.current);
                    prop_assert_eq!(id.epoch(), sent_epoch);
                }
            }
        }
    }

    #[test]
    fn the_chains_end_at_the_last_epoch() {
        let (mut send, mut receive) = chains(CIPHER, &[1; 32], &[2; 32]).unwrap();
        while receive.epoch() < u16::MAX {
            let next = receive.epoch().saturating_add(FUTURE_EPOCHS);
            assert_eq!(receive.find(next), Some(Which::Future));
            receive.authentic(Which::Future);
        }
        assert!(receive.future.is_empty());
        assert_eq!(receive.find(u16::MAX), Some(Which::Current));
        assert_eq!((receive.find(0), receive.find(1)), (None, None));
        assert_eq!(send.next_packet().unwrap().1, EpochPacketId::new(u16::MAX, 1));
        send.preset(u16::MAX, EpochPacketId::MAX_COUNTER - 1, 1 << 60);
        assert_eq!(send.next_packet().unwrap().1.counter(), EpochPacketId::MAX_COUNTER);
        assert_eq!(send.next_packet().unwrap_err(), Exhausted);
    }

    /// A receiver that has had enough of a key moves its own send chain, which makes the peer follow.
    #[test]
    fn a_worn_receive_key_moves_the_send_chain_once() {
        for (used, failed) in [((1 << 36), 0), (0, (1 << 35) + 1)] {
            let (mut send, mut receive) = chains(CIPHER, &[1; 32], &[2; 32]).unwrap();
            assert_eq!(send.next_packet().unwrap().1.epoch(), 1);
            receive.current.usage.preset(used, failed);
            receive.note_usage();
            assert_eq!(send.next_packet().unwrap().1, EpochPacketId::new(2, 1));
            assert_eq!(
                send.next_packet().unwrap().1,
                EpochPacketId::new(2, 2),
                "the peer is to follow first"
            );
            assert_eq!(receive.find(2), Some(Which::Future));
            receive.authentic(Which::Future);
            assert_eq!(send.next_packet().unwrap().1, EpochPacketId::new(2, 3), "the new key is fresh");
        }
        // Ciphers without a limit do not.
        let (mut send, mut receive) = chains(Cipher::ChaCha20Poly1305, &[1; 32], &[2; 32]).unwrap();
        receive.current.usage.preset(1 << 60, (1 << 35) + 1);
        receive.note_usage();
        assert_eq!(send.next_packet().unwrap().1.epoch(), 1);
    }

    #[test]
    fn an_epoch_ends_after_its_usage_limit_or_its_last_counter() {
        let (mut send, _) = chains(CIPHER, &[1; 32], &[2; 32]).unwrap();
        send.preset(1, 5, (1 << 36) - 1);
        assert_eq!(send.next_packet().unwrap().1, EpochPacketId::new(1, 6));
        send.used(16);
        assert_eq!(send.next_packet().unwrap().1, EpochPacketId::new(2, 1));
        assert_eq!(send.next_packet().unwrap().1, EpochPacketId::new(2, 2));
        send.preset(2, EpochPacketId::MAX_COUNTER, 0);
        assert_eq!(send.next_packet().unwrap().1, EpochPacketId::new(3, 1));
    }
}
