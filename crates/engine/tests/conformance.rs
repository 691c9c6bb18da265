//! The suite that every driver must pass, on the engine. Needs root: each run has a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ovpn_dco::conformance::{self, Factory, Report};
use ovpn_dco::{DataPlane, Mode, Result};
use ovpn_engine::{Engine, EngineConfig};
use ovpn_sys::netlink::route::{LinkChange, Rtnetlink};
use ovpn_sys::netns;

struct Driver;

impl Factory for Driver {
    fn open(&self, mode: Mode) -> Result<Box<dyn DataPlane>> {
        Ok(Box::new(Engine::open(EngineConfig::new("tun", mode))?))
    }
}

/// Every case in a namespace of its own, several at a time: most of them wait.
#[test]
fn engine_conforms() {
    const AT_ONCE: usize = 8;
    let filter = std::env::var("OVPN_CASE").unwrap_or_default();
    let cases = conformance::cases();
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !case.name.contains(&filter) {
                        continue;
                    }
                    let report = netns::in_new(|| {
                        let up = LinkChange { up: Some(true), ..LinkChange::default() };
                        Rtnetlink::open().unwrap().link_change(1, &up).unwrap();
                        conformance::run_matching(&Driver, case.name)
                    });
                    total.lock().unwrap().add(report.unwrap());
                }
            });
        }
    });
    total.into_inner().unwrap().assert();
}
