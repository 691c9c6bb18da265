//! The time, as it is passed in.

use std::time::{Instant, SystemTime};

/// The time of a call: one clock for intervals, one for the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: retransmission, windows, renegotiation.
    pub instant: Instant,
    /// Seconds since 1970-01-01 UTC: certificates, replay protection, cookies.
    pub unix: u64,
}

impl Now {
    /// Reads both clocks of the system. Nothing in this crate calls it.
    pub fn system() -> Self {
        let unix =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { instant: Instant::now(), unix }
    }
}
