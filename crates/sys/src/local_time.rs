//! Wall-clock time in the machine's time zone, for log lines and status files.
//!
//! The zone rules live in the C library (`TZ`, `/etc/localtime`); this is the one call that reads them.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment as a calendar shows it here. Displays as `YYYY-MM-DD HH:MM:SS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Year, e.g. 2026.
    pub year: i32,
    /// Month, 1–12.
    pub month: u8,
    /// Day of the month, 1–31.
    pub day: u8,
    /// Hour, 0–23.
    pub hour: u8,
    /// Minute, 0–59.
    pub minute: u8,
    /// Second, 0–60.
    pub second: u8,
}

impl LocalTime {
    /// `time` in the machine's time zone; in UTC where the C library cannot tell.
    pub fn from_system(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let clock = libc::time_t::try_from(seconds).unwrap_or(0);
        let mut out = std::mem::MaybeUninit::<libc::tm>::zeroed();
        // SAFETY: both pointers are valid for the call; localtime_r writes only to `out` and is thread-safe.
        let result = unsafe { libc::localtime_r(&raw const clock, out.as_mut_ptr()) };
        if result.is_null() {
            return Self { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
        }
        // SAFETY: the memory was zeroed, which is a valid `tm` (integers and a nullable pointer), then filled.
        let tm = unsafe { out.assume_init() };
        let small = |n: libc::c_int| u8::try_from(n).unwrap_or(0);
        Self {
            year: tm.tm_year + 1900,
            month: small(tm.tm_mon + 1),
            day: small(tm.tm_mday),
            hour: small(tm.tm_hour),
            minute: small(tm.tm_min),
            second: small(tm.tm_sec),
        }
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_known_moment_is_within_a_day_of_utc() {
        let time = LocalTime::from_system(UNIX_EPOCH + Duration::from_secs(1_795_307_103));
        assert_eq!((time.year, time.month), (2026, 11));
        assert!((21..=23).contains(&time.day));
        assert_eq!(time.second, 3);
        assert_eq!(time.to_string().len(), 19);
    }
}
