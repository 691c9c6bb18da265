//! What this machine's clock says about a time in a certificate or a revocation list, in words.
//!
//! A wrong clock looks like a wrong certificate: so the sentence names the date by which it was judged. Times are
//! seconds since 1970-01-01 UTC.

use x509_parser::time::ASN1Time;

/// What is to be said of something that ended at `end`, before `now`.
pub(crate) fn expired(end: u64, now: u64) -> String {
    format!(
        "expired {} ago by this machine's clock, which says {}: set the clock if that is wrong, else renew it",
        span(now.saturating_sub(end)),
        date(now)
    )
}

/// What is to be said of something that begins at `start`, after `now`.
pub(crate) fn not_valid_yet(start: u64, now: u64) -> String {
    format!(
        "is valid only in {} by this machine's clock, which says {}: set the clock if that is wrong, else issue it anew",
        span(start.saturating_sub(now)),
        date(now)
    )
}

fn date(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|unix| ASN1Time::from_timestamp(unix).ok());
    time.map_or_else(|| format!("{unix} seconds since 1970"), |time| time.to_datetime().date().to_string())
}

fn span(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    match seconds {
        0..=119 => format!("{seconds} seconds"),
        120..=7199 => format!("{} minutes", seconds / 60),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ if seconds < 731 * DAY => format!("{} days", seconds / DAY),
        _ => format!("{} years", seconds / (365 * DAY + DAY / 4)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_spans() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(1_795_305_600), "2026-11-22");
        assert_eq!(date(u64::MAX), "18446744073709551615 seconds since 1970");
        for (seconds, words) in [
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7200, "2 hours"),
            (172_800, "2 days"),
            (731 * 86_400, "2 years"),
            (1_000_000_000, "31 years"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }
}
