//! What a connection counts: status file, management interface, idleness.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_dco::{self as dco, PeerId};

use super::{Connection, End};

/// Bytes of the control channel.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// `inactive`: when to look, and what was counted last.
pub(super) struct Idle {
    pub(super) after: Duration,
    pub(super) bytes: u64,
    pub(super) next: Instant,
    pub(super) counted: u64,
}

impl Connection<'_> {
    pub(super) fn check_idle(&mut self, now: Instant) -> Option<End> {
        let peer = self.peer?;
        let plane = self.client.plane.as_ref()?;
        let idle = self.idle.as_mut().filter(|idle| idle.next <= now)?;
        idle.next = now + idle.after;
        let stats = plane.data_plane().peer_get(peer).ok()?.stats.vpn;
        let counted = stats.rx_bytes + stats.tx_bytes;
        let moved = counted.saturating_sub(idle.counted);
        idle.counted = counted;
        if moved > idle.bytes {
            return None;
        }
        tracing::info!("Inactivity timeout (--inactive), exiting");
        Some(End::exit("inactive"))
    }

    /// `status FILE SECONDS`.
    pub(super) fn write_status(&mut self) {
        let Some(status) = &self.client.config.process.status else { return };
        self.status_at = Some(Instant::now() + status.interval.max(Duration::from_secs(1)));
        let path = status.path.clone();
        let mut text = statistics(&self.stats(), self.control).join("\n");
        text.push('\n');
        if let Err(error) = std::fs::write(&path, text) {
            tracing::warn!("--status {path}: {error}");
        }
    }

    pub(super) fn stats(&self) -> dco::PeerStats {
        match (self.peer, &self.client.plane) {
            (Some(peer), Some(plane)) => {
                plane.data_plane().peer_get(peer).map(|info| info.stats).unwrap_or_default()
            }
            _ => dco::PeerStats::default(),
        }
    }

    /// SIGUSR2, in the status file's form.
    pub(super) fn log_statistics(&mut self) {
        let stats = self.stats();
        for line in statistics(&stats, self.control) {
            tracing::info!("{line}");
        }
    }

    /// Lets the management interface read the counters.
    pub(super) fn offer_statistics(&self, peer: PeerId) {
        let (Some(management), Some(plane)) = (&self.client.management, &self.client.plane) else { return };
        let data_plane = Arc::downgrade(plane.data_plane());
        let stats = move || {
            let plane = data_plane.upgrade()?;
            plane.peer_get(peer).ok().map(|info| info.stats)
        };
        let again = stats.clone();
        management.set_totals(move || {
            let link = stats().unwrap_or_default().link;
            (1, link.rx_bytes, link.tx_bytes)
        });
        management.set_status(move |_| statistics(&again().unwrap_or_default(), Traffic::default()));
    }
}

/// A client's status text.
fn statistics(stats: &dco::PeerStats, control: Traffic) -> Vec<String> {
    let now = ovpn_sys::local_time::LocalTime::from_system(std::time::SystemTime::now());
    vec![
        "OpenVPN STATISTICS".to_owned(),
        format!("Updated,{now}"),
        format!("TUN/TAP read bytes,{}", stats.vpn.tx_bytes),
        format!("TUN/TAP write bytes,{}", stats.vpn.rx_bytes),
        format!("TCP/UDP read bytes,{}", stats.link.rx_bytes + control.received),
        format!("TCP/UDP write bytes,{}", stats.link.tx_bytes + control.sent),
        format!("Auth read bytes,{}", stats.vpn.rx_bytes),
        "END".to_owned(),
    ]
}
