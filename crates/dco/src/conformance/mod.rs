//! What every driver must do: one suite, generic over [`DataPlane`](crate::DataPlane).
//!
//! ```text
//!   impl Factory for MyDriver { fn open(&self, mode) -> Result<Box<dyn DataPlane>> }
//!   conformance::run_apart(|| MyDriver).assert()
//! ```
//!
//! `run_apart` gives each case a network namespace of its own, which needs root; `run` wants to be in one whose loopback
//! device is up. Devices and sockets are made in the namespace of the calling thread. The rows are those of the kernel driver's own tables: requests and their errnos,
//! replacement, key slots, events with their reasons, keepalive, float, control packets on both transports. What a
//! driver cannot do ([`Capabilities`](crate::Capabilities)) is reported as not applicable, never as passed.

mod bench;
mod events;
mod keys;
mod packets;
mod peers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use ovpn_sys::netlink::route::{LinkChange, Rtnetlink};
use ovpn_sys::netns;

use crate::{DataPlane, Mode, Result};

/// Makes devices of the driver under test.
pub trait Factory: Sync {
    /// A new device, without peers, in the namespace of the calling thread. Dropping it removes it.
    ///
    /// # Errors
    /// What the driver says.
    fn open(&self, mode: Mode) -> Result<Box<dyn DataPlane>>;

    /// By how much time limits are longer than on ordinary hardware (emulation is slow).
    fn patience(&self) -> u32 {
        1
    }
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What is demanded.
    pub name: &'static str,
    run: fn(&dyn Factory) -> Outcome,
}

/// How a case ended: `Err` where the demand was not met.
type Outcome = std::result::Result<Verdict, String>;

/// A case that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// The driver cannot do this, and says so.
    NotApplicable(&'static str),
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Cases that passed.
    pub passed: Vec<&'static str>,
    /// Cases that failed, and why.
    pub failed: Vec<(&'static str, String)>,
    /// Cases that the driver cannot do, and why.
    pub not_applicable: Vec<(&'static str, &'static str)>,
}

impl Report {
    /// Puts another report's cases to this one's.
    pub fn add(&mut self, other: Self) {
        self.passed.extend(other.passed);
        self.failed.extend(other.failed);
        self.not_applicable.extend(other.not_applicable);
    }

    /// # Panics
    /// With the whole report where a case failed, or none passed.
    pub fn assert(&self) {
        assert!(self.failed.is_empty() && !self.passed.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, why) in &self.not_applicable {
            writeln!(f, "n/a    {name}: {why}")?;
        }
        for (name, why) in &self.failed {
            writeln!(f, "FAILED {name}: {why}")?;
        }
        let (passed, failed, not) = (self.passed.len(), self.failed.len(), self.not_applicable.len());
        write!(f, "{passed} passed, {failed} failed, {not} not applicable")
    }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    [peers::CASES, keys::CASES, events::CASES, packets::CASES].concat()
}

/// Runs all cases, one after another, and tells each on standard error.
pub fn run(factory: &dyn Factory) -> Report {
    run_matching(factory, "")
}

/// Runs the cases whose names contain `filter`.
pub fn run_matching(factory: &dyn Factory, filter: &str) -> Report {
    let mut report = Report::default();
    for Case { name, run } in cases() {
        if !name.contains(filter) {
            continue;
        }
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(factory))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
        });
        let time = start.elapsed().as_millis();
        match outcome {
            Ok(Verdict::Passed) => {
                eprintln!("ok     {name} ({time} ms)");
                report.passed.push(name);
            }
            Ok(Verdict::NotApplicable(why)) => {
                eprintln!("n/a    {name}: {why}");
                report.not_applicable.push((name, why));
            }
            Err(why) => {
                eprintln!("FAILED {name}: {why}");
                report.failed.push((name, why));
            }
        }
    }
    report
}

/// Runs all cases (or those whose names contain the variable `OVPN_CASE`), several at a time since most of them wait,
/// each with a driver of its own in a network namespace of its own.
pub fn run_apart<F: Factory>(make: impl Fn() -> F + Sync) -> Report {
    const AT_ONCE: usize = 8;
    let filter = std::env::var("OVPN_CASE").unwrap_or_default();
    let mut cases = cases();
    cases.retain(|case| case.name.contains(&filter));
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = in_namespace(|| run_matching(&make(), case.name));
                    let failed = |error: io::Error| Report {
                        failed: vec![(case.name, format!("network namespace: {error}"))],
                        ..Report::default()
                    };
                    let report = report.unwrap_or_else(failed);
                    total.lock().unwrap_or_else(PoisonError::into_inner).add(report);
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `test` in a new network namespace with its loopback device up.
///
/// # Errors
/// Without the right to make one (root).
pub fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> io::Result<T> {
    netns::in_new(|| {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let changed = Rtnetlink::open().and_then(|net| net.link_change(1, &up));
        changed.map_err(|error| io::Error::from_raw_os_error(error.errno())).map(|()| test())
    })?
}

/// Time limit of one wait on ordinary hardware.
const LIMIT: Duration = Duration::from_secs(5);

macro_rules! case {
    ($function:ident: $name:literal) => {
        $crate::conformance::Case { name: $name, run: $function }
    };
}
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
use case;
use ensure;
