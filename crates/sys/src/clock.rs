//! The clock that goes on while the system sleeps.

use std::time::Duration;

/// Time since the system started, sleep included.
pub fn boottime() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec`, which `now` is.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_goes_on() {
        let before = super::boottime();
        assert!(!before.is_zero());
        std::thread::sleep(std::time::Duration::from_millis(2));
        let passed = super::boottime() - before;
        assert!(passed.as_millis() >= 2 && passed.as_secs() < 60);
    }
}
