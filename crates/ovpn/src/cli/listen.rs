//! `listen_mcast`: notifications of one device, or of every device of this network namespace, also of those that
//! are made later.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::PathBuf;

use ovpn_dco::{Event, EventSource};
use ovpn_sys::dir_watch::DirWatch;
use ovpn_sys::poll::{Interest, Poller};

use super::{Driver, Failure, notification};
use crate::engine_process::{RemoteEngine, RemoteEvents, path};

const WATCH: u64 = 0;

/// Said once nothing more is missed.
const LISTENING: &str = "listening";

/// Prints until killed; with a device, until it is gone.
///
/// # Errors
/// When there is no such device or nobody reads what is printed.
pub(crate) fn run(driver: Driver, iface: Option<&str>, json: bool) -> Result<(), Failure> {
    match (driver, iface) {
        (Driver::Engine, None) => every_engine(json),
        (_, Some(iface)) => {
            let plane = driver.open(iface)?;
            let mut events = plane.events()?;
            let poller = Poller::new()?;
            poller.add(events.fd(), WATCH, Interest::Read)?;
            let mut ready = Vec::new();
            eprintln!("{LISTENING}");
            loop {
                poller.wait(&mut ready, None)?;
                while let Some(event) = events.next()? {
                    print(plane.device().ifindex, &event, json)?;
                    if event == Event::DataPlaneGone {
                        return Ok(());
                    }
                }
            }
        }
        (Driver::Kernel, None) => every_kernel_device(json),
    }
}

fn every_kernel_device(json: bool) -> Result<(), Failure> {
    let mut notifications = ovpn_kernel::Notifications::listen()?;
    let poller = Poller::new()?;
    poller.add(&notifications, WATCH, Interest::Read)?;
    let mut ready = Vec::new();
    eprintln!("{LISTENING}");
    loop {
        poller.wait(&mut ready, None)?;
        while let Some((ifindex, event)) = notifications.next_event()? {
            print(ifindex, &event, json)?;
        }
    }
}

/// The engines of this namespace that are listened to.
struct Engines {
    poller: Poller,
    dir: PathBuf,
    known: HashSet<PathBuf>,
    sources: HashMap<u64, (PathBuf, RemoteEvents)>,
    next: u64,
}

fn every_engine(json: bool) -> Result<(), Failure> {
    let dir = path::namespace_dir()?;
    let watch = DirWatch::new(&dir)?;
    let poller = Poller::new()?;
    poller.add(&watch, WATCH, Interest::Read)?;
    let mut engines =
        Engines { poller, dir, known: HashSet::new(), sources: HashMap::new(), next: WATCH + 1 };
    // Of the engines that are there already, only what happens from now on counts.
    engines.find(false);
    let mut ready = Vec::new();
    eprintln!("{LISTENING}");
    loop {
        engines.poller.wait(&mut ready, None)?;
        for event in ready.drain(..) {
            if event.token == WATCH {
                watch.clear()?;
            } else {
                engines.print(event.token, json)?;
            }
        }
        engines.find(true);
    }
}

impl Engines {
    /// Subscribes to engines that have appeared; `from_start`: with all that happened since they did.
    fn find(&mut self, from_start: bool) {
        for socket in path::sockets(&self.dir) {
            if self.known.contains(&socket) {
                continue;
            }
            let events = RemoteEngine::connect_to(&socket).and_then(|engine| {
                if from_start { engine.events_from_start() } else { engine.events_from_now() }
            });
            // A file without an engine behind it is the trace of one that was killed.
            let Ok(events) = events else { continue };
            if self.poller.add(events.fd(), self.next, Interest::Read).is_ok() {
                self.known.insert(socket.clone());
                self.sources.insert(self.next, (socket, events));
                self.next += 1;
            }
        }
    }

    fn print(&mut self, token: u64, json: bool) -> Result<(), Failure> {
        let Some((socket, events)) = self.sources.get_mut(&token) else { return Ok(()) };
        while let Some(event) = events.next()? {
            if event == Event::DataPlaneGone {
                self.known.remove(socket);
                self.sources.remove(&token);
                return Ok(());
            }
            print(events.ifindex(), &event, json)?;
        }
        Ok(())
    }
}

/// Prints at once: who reads may be waiting for this very line.
fn print(ifindex: u32, event: &Event, json: bool) -> io::Result<()> {
    let line =
        if json { notification::json_line(ifindex, event) } else { notification::text_line(ifindex, event) };
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
