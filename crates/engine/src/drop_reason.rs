//! Why packets are dropped: one enum that gives counter, log line and documentation.
//!
//! Whoever decides to drop a packet counts it, once, in the device's [`DropCounters`]; a [`DropReason`] that a
//! function returns has been counted already, unless it says otherwise.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)+) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Name for metrics and logs: lower case, words joined by `-`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One sentence that tells a person what happened.
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

drop_reasons! {
    /// Outside: the packet is shorter than its format's headers.
    TooShort = "too-short";
    /// Outside: the datagram is longer than any this data plane takes.
    TooLong = "too-long";
    /// Outside: no peer has this peer id, or this address where the packet names no id.
    UnknownPeer = "unknown-peer";
    /// Outside: the packet's data format is not the one of the peer's key.
    WrongOpcode = "wrong-opcode";
    /// Outside: the peer has no key with the packet's key id.
    UnknownKey = "unknown-key";
    /// Outside: the packet's epoch is zero, past, or too far ahead.
    UnknownEpoch = "unknown-epoch";
    /// Outside: the authentication tag is wrong, so the packet is forged, damaged or of another key.
    NotAuthentic = "not-authentic";
    /// Outside: too many packets failed authentication with this key, so it opens no more.
    KeyWornOut = "key-worn-out";
    /// Outside: a packet with this packet id was received before.
    Replayed = "replayed";
    /// Outside: the packet id lies behind the replay window, or is zero.
    ReplayTooOld = "replay-too-old";
    /// Outside: the decrypted payload is neither IP nor any message of the data channel.
    NotIp = "not-ip";
    /// Outside: the decrypted payload is empty.
    EmptyPayload = "empty-payload";
    /// Outside: the inner source address is not routed to the peer that sent it.
    BadSource = "bad-source";
    /// Outside: the compression framing is none that the peer may use, or its data is damaged.
    BadCompression = "bad-compression";
    /// Outside: the fragment header is missing, or does not fit the piece behind it.
    BadFragment = "bad-fragment";
    /// Outside: a piece of a packet came when later packets had taken its place.
    LateFragment = "late-fragment";
    /// Outside: pieces of a packet did not come in time; counted once for all that did.
    MissingFragments = "missing-fragments";
    /// The output buffer is too small for the packet.
    NoRoom = "no-room";
    /// Inside: the destination is routed to no peer.
    NoRoute = "no-route";
    /// Inside: the peer has no primary key.
    NoKey = "no-key";
    /// Inside: the primary key has used all of its packet ids or its usage limit.
    KeyExhausted = "key-exhausted";
    /// Inside: the packet is not IPv4 or IPv6.
    InnerNotIp = "inner-not-ip";
    /// Inside: the packet does not fit into 32 pieces of the size that `fragment` sets.
    TooManyPieces = "too-many-pieces";
    /// Inside: the offload header of a super-packet contradicts the packet.
    BadOffload = "bad-offload";
    /// The transport's send queue is full.
    TransportFull = "transport-full";
    /// The system refused to send the packet.
    SendFailed = "send-failed";
    /// The system refused the packet on its way into the device.
    DeviceFull = "device-full";
    /// Outside: the device is down, so the packet had nowhere to go.
    DeviceDown = "device-down";
    /// Outside: a transport's receive queue was full; counted by the system, merged datagrams once.
    ReceiveFull = "receive-full";
    /// Outside: a TCP transport's length prefix is illegal.
    BadFraming = "bad-framing";
    /// Outside: the queue of control packets is full.
    ControlFull = "control-full";
}

impl DropReason {
    /// Index of its counter.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for DropReason {}

/// One counter for each reason, of one device.
#[derive(Debug)]
pub struct DropCounters([AtomicU64; DropReason::ALL.len()]);

impl DropCounters {
    /// Counts one dropped packet, and hands the reason on.
    #[cold]
    pub fn count(&self, reason: DropReason) -> DropReason {
        self.add(reason, 1);
        reason
    }

    /// Counts `packets` dropped packets.
    pub fn add(&self, reason: DropReason, packets: u64) {
        self.0[reason.index()].fetch_add(packets, Ordering::Relaxed);
    }

    /// Packets dropped for this reason so far.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason.index()].load(Ordering::Relaxed)
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().map(|&reason| (reason, self.get(reason)))
    }

    /// Packets dropped for any reason.
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }
}

impl Default for DropCounters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; DropReason::ALL.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_name_and_sentence() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(reason.description().ends_with('.'), "{reason}: {}", reason.description());
            assert_eq!(DropReason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
        let counters = DropCounters::default();
        counters.count(DropReason::Replayed);
        counters.add(DropReason::Replayed, 2);
        assert_eq!((counters.get(DropReason::Replayed), counters.total()), (3, 3));
    }
}
