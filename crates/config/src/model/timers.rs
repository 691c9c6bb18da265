//! Keepalive, renegotiation, windows.

use std::time::Duration;

/// `inactive N [BYTES]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inactive {
    /// Exit after this long …
    pub after: Duration,
    /// … in which fewer than this many bytes of payload were moved.
    pub bytes: u64,
}

/// Timers. `None` means off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Send a ping when nothing was sent for this long.
    pub ping: Option<Duration>,
    /// Restart (client, peer) or close the client (server) when nothing came for this long.
    pub ping_restart: Option<Duration>,
    /// Exit when nothing came for this long.
    pub ping_exit: Option<Duration>,
    /// Exit when idle.
    pub inactive: Option<Inactive>,
    /// Exit after this long.
    pub session_timeout: Option<Duration>,
    /// Exit notifications to send; also in each [`super::Connection`].
    pub explicit_exit_notify: Option<u32>,
    /// A handshake may take this long.
    pub hand_window: Duration,
    /// An old key is still accepted this long after a renegotiation.
    pub tran_window: Duration,
    /// First retransmission of a control packet after this long.
    pub tls_timeout: Duration,
    /// Renegotiate after at most this long; `None`: never by time.
    pub reneg: Option<Duration>,
    /// Lower bound of the random renegotiation time.
    pub reneg_min: Option<Duration>,
    /// Renegotiate after this many bytes.
    pub reneg_bytes: Option<u64>,
    /// Renegotiate after this many packets.
    pub reneg_packets: Option<u64>,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            ping: None,
            ping_restart: None,
            ping_exit: None,
            inactive: None,
            session_timeout: None,
            explicit_exit_notify: None,
            hand_window: Duration::from_secs(60),
            tran_window: Duration::from_secs(3600),
            tls_timeout: Duration::from_secs(2),
            reneg: Some(Duration::from_secs(3600)),
            reneg_min: None,
            reneg_bytes: None,
            reneg_packets: None,
        }
    }
}
