//! What a connection with one peer counts: status file, management interface, idleness.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ovpn_config::Config;
use ovpn_dco::{DataPlane, PeerId, PeerStats};

use crate::management::Handle;

/// Bytes of the control channel.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// One connection's counters, and what happens with them when.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// The control channel's.
    pub(crate) control: Traffic,
    status_at: Option<Instant>,
    idle: Option<Idle>,
}

/// `inactive`: when to look, and what was counted last.
#[derive(Debug)]
struct Idle {
    after: Duration,
    bytes: u64,
    next: Instant,
    counted: u64,
}

impl Counters {
    /// The tunnel is up: the status file is written, `inactive` begins to run.
    pub(crate) fn begin(&mut self, config: &Config, stats: &PeerStats) {
        self.write_status(config, stats);
        self.idle = config.timers.inactive.map(|inactive| Idle {
            after: inactive.after,
            bytes: inactive.bytes,
            next: Instant::now() + inactive.after,
            counted: 0,
        });
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.status_at.into_iter().chain(self.idle.as_ref().map(|idle| idle.next)).min()
    }

    /// Does what is due; true where the tunnel was idle for too long.
    pub(crate) fn tick(&mut self, now: Instant, config: &Config, stats: impl Fn() -> PeerStats) -> bool {
        if self.status_at.is_some_and(|at| at <= now) {
            self.write_status(config, &stats());
        }
        let Some(idle) = self.idle.as_mut().filter(|idle| idle.next <= now) else { return false };
        idle.next = now + idle.after;
        let vpn = stats().vpn;
        let counted = vpn.rx_bytes + vpn.tx_bytes;
        let moved = counted.saturating_sub(idle.counted);
        idle.counted = counted;
        moved <= idle.bytes
    }

    /// `status FILE SECONDS`.
    fn write_status(&mut self, config: &Config, stats: &PeerStats) {
        let Some(status) = &config.process.status else { return };
        self.status_at = Some(Instant::now() + status.interval.max(Duration::from_secs(1)));
        let mut text = self.lines(stats).join("\n");
        text.push('\n');
        if let Err(error) = std::fs::write(&status.path, text) {
            tracing::warn!("--status {}: {error}", status.path);
        }
    }

    /// SIGUSR2, in the status file's form.
    pub(crate) fn log(&self, stats: &PeerStats) {
        for line in self.lines(stats) {
            tracing::info!("{line}");
        }
    }

    fn lines(&self, stats: &PeerStats) -> Vec<String> {
        statistics(stats, self.control)
    }
}

/// Lets the management interface read the counters.
pub(crate) fn offer(management: Option<&Handle>, data_plane: &Arc<dyn DataPlane>, peer: PeerId) {
    let Some(management) = management else { return };
    let weak: Weak<dyn DataPlane> = Arc::downgrade(data_plane);
    let stats = move || weak.upgrade().and_then(|plane| plane.peer_get(peer).ok()).map(|info| info.stats);
    let again = stats.clone();
    management.set_totals(move || {
        let link = stats().unwrap_or_default().link;
        (1, link.rx_bytes, link.tx_bytes)
    });
    management.set_status(move |_| statistics(&again().unwrap_or_default(), Traffic::default()));
}

/// A client's or point-to-point peer's status text.
fn statistics(stats: &PeerStats, control: Traffic) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use ovpn_config::model::Inactive;

    #[test]
    fn idle_is_whoever_moves_too_little() {
        let mut config = Config::default();
        config.timers.inactive = Some(Inactive { after: Duration::from_secs(10), bytes: 100 });
        let mut counters = Counters::default();
        let mut stats = PeerStats::default();
        counters.begin(&config, &stats);
        let start = counters.deadline().unwrap();
        stats.vpn.rx_bytes = 101;
        assert!(!counters.tick(start, &config, || stats));
        assert!(!counters.tick(start + Duration::from_secs(9), &config, || stats));
        stats.vpn.tx_bytes = 100;
        assert!(counters.tick(start + Duration::from_secs(10), &config, || stats));
    }
}
