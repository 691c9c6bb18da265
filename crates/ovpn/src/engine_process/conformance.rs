//! The suite that every driver must pass, on an engine behind its control socket. Needs root: each case has a network
//! namespace of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use ovpn_dco::conformance::{self, Factory, Report};
use ovpn_dco::{DataPlane, Mode, Result};
use ovpn_engine::{Engine, EngineConfig};
use ovpn_sys::netlink::route::{LinkChange, Rtnetlink};
use ovpn_sys::netns;
use ovpn_sys::seqpacket::Listener;
use ovpn_sys::wake::Wake;

use super::RemoteEngine;
use super::server::Server;

/// Engines with their serving threads, and clients of them; all end with the factory.
struct Served {
    dir: PathBuf,
    servers: Mutex<Vec<(Arc<Wake>, JoinHandle<()>)>>,
}

impl Factory for Served {
    fn open(&self, mode: Mode) -> Result<Box<dyn DataPlane>> {
        let mut servers = self.servers.lock().unwrap();
        let socket = self.dir.join(format!("{}.sock", servers.len()));
        let listener = Listener::bind(&socket)?;
        let engine = Engine::open(EngineConfig::new("tun", mode))?;
        let stop = Arc::new(Wake::new()?);
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            Server::new(&engine, listener, &*told).unwrap().run().unwrap();
        });
        servers.push((stop, thread));
        Ok(Box::new(RemoteEngine::connect_to(&socket)?))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        for (stop, thread) in self.servers.get_mut().unwrap().drain(..) {
            stop.set();
            thread.join().unwrap();
        }
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

#[test]
fn an_engine_behind_its_socket_conforms() {
    const AT_ONCE: usize = 8;
    let filter = std::env::var("OVPN_CASE").unwrap_or_default();
    let cases = conformance::cases();
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { return };
                    if !case.name.contains(&filter) {
                        continue;
                    }
                    let dir = format!("ovpn-conformance-{}-{number}", std::process::id());
                    let dir = std::env::temp_dir().join(dir);
                    std::fs::create_dir(&dir).unwrap();
                    let report = netns::in_new(|| {
                        let up = LinkChange { up: Some(true), ..LinkChange::default() };
                        Rtnetlink::open().unwrap().link_change(1, &up).unwrap();
                        conformance::run_matching(&Served { dir, servers: Mutex::default() }, case.name)
                    });
                    total.lock().unwrap().add(report.unwrap());
                }
            });
        }
    });
    total.into_inner().unwrap().assert();
}
