//! The board: what the modes write down about the tunnel, and the snapshot made of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use ovpn_dco::{Counters, DataFormat, DataPlane, PeerId, PeerInfo};
use ovpn_sys::netlink::route::Rtnetlink;

use super::observed::Observed;
use super::snapshot::{Dropped, Handshakes, Peer, Plane, SCHEMA, Snapshot, Traffic};

/// This process's tunnel.
pub(crate) struct Board {
    facts: Mutex<Facts>,
    started: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    rekeys: AtomicU64,
}

type Peers = Box<dyn Fn() -> Vec<PeerFacts> + Send>;

#[derive(Default)]
struct Facts {
    name: String,
    mode: &'static str,
    started: u64,
    state: String,
    since: u64,
    plane: Option<(Plane, Weak<Observed>)>,
    peers: Option<Peers>,
}

/// A peer as a mode knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerFacts {
    /// Its id on the data channel, once it is there.
    pub(crate) id: Option<PeerId>,
    /// Its common name.
    pub(crate) name: Option<String>,
    /// What it logged in as.
    pub(crate) username: Option<String>,
    /// Where it is.
    pub(crate) address: Option<SocketAddr>,
    /// Addresses in the tunnel.
    pub(crate) vpn_addresses: Vec<IpAddr>,
    /// Since when it is connected, seconds since 1970.
    pub(crate) since: Option<u64>,
}

static BOARD: Board = Board {
    facts: Mutex::new(Facts {
        name: String::new(),
        mode: "",
        started: 0,
        state: String::new(),
        since: 0,
        plane: None,
        peers: None,
    }),
    started: AtomicU64::new(0),
    completed: AtomicU64::new(0),
    failed: AtomicU64::new(0),
    rekeys: AtomicU64::new(0),
};

/// The board of this process.
pub(crate) fn board() -> &'static Board {
    &BOARD
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Board {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which tunnel this is.
    pub(crate) fn introduce(&self, name: &str, mode: &'static str, started: SystemTime) {
        let mut facts = self.facts();
        name.clone_into(&mut facts.name);
        facts.mode = mode;
        facts.started = started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        facts.peers = None;
        drop(facts);
        self.state("CONNECTING");
    }

    /// The tunnel's state, by the name that management programs know.
    pub(crate) fn state(&self, state: &str) {
        let mut facts = self.facts();
        let state = state.to_ascii_lowercase();
        if facts.state != state {
            facts.state = state;
            facts.since = unix_now();
        }
    }

    /// What carries the data.
    pub(crate) fn data_plane(&self, plane: Plane, observed: Weak<Observed>) {
        self.facts().plane = Some((plane, observed));
    }

    /// How to learn of the peers. It must not wait for long.
    pub(crate) fn peers(&self, peers: impl Fn() -> Vec<PeerFacts> + Send + 'static) {
        self.facts().peers = Some(Box::new(peers));
    }

    /// A connection begins.
    pub(crate) fn handshake_started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection ended before it was up.
    pub(crate) fn handshake_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Where first keys are counted.
    pub(crate) fn completed(&'static self) -> &'static AtomicU64 {
        &self.completed
    }

    /// Where further keys are counted.
    pub(crate) fn rekeys(&'static self) -> &'static AtomicU64 {
        &self.rekeys
    }

    /// The tunnel at this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let facts = self.facts();
        let observed = facts.plane.as_ref().and_then(|(_, observed)| observed.upgrade());
        let carried =
            observed.as_ref().map(|plane| plane.peer_dump().unwrap_or_default()).unwrap_or_default();
        let known = facts.peers.as_ref().map(|peers| peers()).unwrap_or_default();
        let peers = known.into_iter().map(|known| {
            let info = known.id.and_then(|id| carried.iter().find(|peer| peer.id == id));
            peer(known, info, observed.as_deref())
        });
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            schema: SCHEMA.to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            name: facts.name.clone(),
            mode: facts.mode.to_owned(),
            pid: std::process::id(),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            started: facts.started,
            state: facts.state.clone(),
            state_since: facts.since,
            data_plane: observed.as_ref().and(facts.plane.as_ref()).map(|(plane, _)| plane.clone()),
            handshakes: Handshakes {
                started: count(&self.started),
                completed: count(&self.completed),
                failed: count(&self.failed),
                rekeys: count(&self.rekeys),
            },
            traffic: observed
                .as_ref()
                .map(|plane| device_traffic(plane.device().ifindex))
                .unwrap_or_default(),
            drops: observed
                .as_ref()
                .map(|plane| plane.drops())
                .unwrap_or_default()
                .iter()
                .map(dropped)
                .collect(),
            peers: peers.collect(),
        }
    }
}

fn dropped(drops: &ovpn_dco::Drops) -> Dropped {
    Dropped {
        reason: drops.reason.clone().into_owned(),
        description: drops.description.clone().into_owned(),
        packets: drops.packets,
    }
}

/// The device's own counters outlive its peers. A tunnel's device receives what its peers sent.
fn device_traffic(ifindex: u32) -> Traffic {
    let link = Rtnetlink::open().and_then(|net| net.link_get(ifindex));
    link.map(|link| {
        let c = link.counters;
        Traffic {
            rx_bytes: c.rx_bytes,
            tx_bytes: c.tx_bytes,
            rx_packets: c.rx_packets,
            tx_packets: c.tx_packets,
        }
    })
    .unwrap_or_default()
}

fn traffic(counters: &Counters) -> Traffic {
    Traffic {
        rx_bytes: counters.rx_bytes,
        tx_bytes: counters.tx_bytes,
        rx_packets: counters.rx_packets,
        tx_packets: counters.tx_packets,
    }
}

fn peer(known: PeerFacts, info: Option<&PeerInfo>, observed: Option<&Observed>) -> Peer {
    let noted = match (observed, info) {
        (Some(observed), Some(info)) => observed.noted(info.id),
        _ => super::observed::Noted::default(),
    };
    let key = noted.key();
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Peer {
        name: known.name.filter(|name| !name.is_empty()),
        username: known.username.filter(|name| !name.is_empty()),
        address: info.and_then(|info| info.remote).or(known.address).map(canonical),
        vpn_addresses: known.vpn_addresses,
        peer_id: info.map(|info| info.id.get()),
        connected_since: known.since,
        cipher: key.map(|key| key.cipher.to_owned()),
        data_format: key.map(|key| {
            match key.format {
                DataFormat::V1 => "v1",
                DataFormat::V2 => "v2",
                DataFormat::Epoch => "epoch",
            }
            .to_owned()
        }),
        key_age: key.map(|key| key.installed.elapsed().as_secs_f64()),
        data_plane: info.and(observed).map(|plane| plane.capabilities().driver.to_string()),
        keys: noted.keys,
        traffic: info.map(|info| traffic(&info.stats.vpn)).unwrap_or_default(),
        link: info.map(|info| traffic(&info.stats.link)).unwrap_or_default(),
    }
}
