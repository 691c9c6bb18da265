//! A peer's counters: added up within a batch, stored once at its end.

use std::sync::atomic::{AtomicU64, Ordering};

use ovpn_dco::{Counters, PeerStats};

/// Packets and bytes of one batch and direction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Batch {
    pub(crate) vpn_packets: u64,
    pub(crate) vpn_bytes: u64,
    pub(crate) link_packets: u64,
    pub(crate) link_bytes: u64,
}

/// One direction's totals.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    vpn_packets: AtomicU64,
    vpn_bytes: AtomicU64,
    link_packets: AtomicU64,
    link_bytes: AtomicU64,
}

impl Totals {
    /// Adds a batch. The caller holds the direction's lock, so no other thread writes.
    pub(crate) fn add(&self, batch: &Batch) {
        let add = |total: &AtomicU64, count: u64| {
            if count != 0 {
                total.store(total.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
            }
        };
        add(&self.vpn_packets, batch.vpn_packets);
        add(&self.vpn_bytes, batch.vpn_bytes);
        add(&self.link_packets, batch.link_packets);
        add(&self.link_bytes, batch.link_bytes);
    }
}

/// Both directions together.
pub(crate) fn snapshot(rx: &Totals, tx: &Totals) -> PeerStats {
    let read = |total: &AtomicU64| total.load(Ordering::Relaxed);
    PeerStats {
        vpn: Counters {
            rx_bytes: read(&rx.vpn_bytes),
            tx_bytes: read(&tx.vpn_bytes),
            rx_packets: read(&rx.vpn_packets),
            tx_packets: read(&tx.vpn_packets),
        },
        link: Counters {
            rx_bytes: read(&rx.link_bytes),
            tx_bytes: read(&tx.link_bytes),
            rx_packets: read(&rx.link_packets),
            tx_packets: read(&tx.link_packets),
        },
    }
}
