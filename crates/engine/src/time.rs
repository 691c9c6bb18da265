//! Time as the data plane takes it: a monotonic number, read once a batch by whoever drives it.

use std::time::Duration;

/// Milliseconds since some fixed moment, of a clock that never goes back and goes on while the system sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A moment by its milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A moment by its distance from the clock's fixed one.
    pub const fn from_duration(since: Duration) -> Self {
        Self(since.as_millis() as u64)
    }

    /// Its milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time since `earlier`, zero where that lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// A later moment.
    pub const fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time.as_millis() as u64))
    }
}
