//! The suite that every driver must pass, on an engine behind its control socket. Needs root: each case has a network
//! namespace of its own.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ovpn_dco::conformance::{self, Factory};
use ovpn_dco::{DataPlane, Mode, PeerConfig, PeerId, Result, SocketSource};
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

/// Numbers of the folders.
static NEXT: AtomicUsize = AtomicUsize::new(0);

impl Served {
    fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("ovpn-conformance-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self { dir, servers: Mutex::default() }
    }
}

#[test]
fn an_engine_behind_its_socket_conforms() {
    conformance::run_apart(Served::new).assert();
}

#[test]
fn a_transport_closed_before_a_request_is_closed() {
    let accepted = netns::in_new(|| {
        let served = Served::new();
        let plane = served.open(Mode::P2p).unwrap();
        (0..500)
            .filter(|_| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let transport = plane.transport_open(SocketSource::Socket(socket.into())).unwrap();
                let mut peer = PeerConfig::new(PeerId::MAX, transport.id);
                peer.remote = Some("192.0.2.1:1194".parse().unwrap());
                drop(transport);
                plane.peer_new(&peer).is_ok()
            })
            .count()
    });
    assert_eq!(accepted.unwrap(), 0);
}

#[test]
fn what_an_engine_drops_is_told_through_its_socket() {
    let unknown = netns::in_new(|| {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        Rtnetlink::open().unwrap().link_change(1, &up).unwrap();
        let served = Served::new();
        let plane = served.open(Mode::MultiPeer).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        let _transport = plane.transport_open(SocketSource::Socket(socket.into())).unwrap();
        UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .send_to(&[0x48, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8], to)
            .unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let drops = plane.drops();
            let dropped = drops.iter().find(|drops| drops.packets > 0).cloned();
            if dropped.is_some() || Instant::now() > end {
                return (drops.len(), dropped);
            }
        }
    });
    let (reasons, dropped) = unknown.unwrap();
    assert_eq!(reasons, ovpn_engine::drop_reason::DropReason::ALL.len());
    assert_eq!(dropped.map(|drops| (drops.reason, drops.packets)), Some(("unknown-peer".into(), 1)));
}
