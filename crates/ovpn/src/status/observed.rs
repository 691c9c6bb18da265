//! A data plane as it is watched: every call goes through, and the keys' ages and the handshakes are noted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use ovpn_dco::{
    Capabilities, CipherAlg, DataFormat, DataPlane, Device, Drops, EventSource, KeyConfig, KeyInfo, KeySlot,
    PeerConfig, PeerId, PeerInfo, PeerUpdate, Result, SocketSource, Transport,
};

/// A data plane, and what was noted of its peers.
pub(crate) struct Observed {
    inner: Arc<dyn DataPlane>,
    peers: Mutex<HashMap<PeerId, Noted>>,
    completed: &'static AtomicU64,
    rekeys: &'static AtomicU64,
}

/// What was noted of one peer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Noted {
    primary: Option<Key>,
    secondary: Option<Key>,
    /// Keys installed so far.
    pub(crate) keys: u64,
}

/// A key, without its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Its cipher's name.
    pub(crate) cipher: &'static str,
    /// The packets' format.
    pub(crate) format: DataFormat,
    /// When it was installed.
    pub(crate) installed: Instant,
}

impl Noted {
    /// The key in use: the one that packets are sent with.
    pub(crate) fn key(&self) -> Option<Key> {
        self.primary.or(self.secondary)
    }

    fn slot(&mut self, slot: KeySlot) -> &mut Option<Key> {
        match slot {
            KeySlot::Primary => &mut self.primary,
            KeySlot::Secondary => &mut self.secondary,
        }
    }
}

impl Observed {
    /// Watches `inner`; first and further keys are counted there.
    pub(crate) fn new(
        inner: Arc<dyn DataPlane>,
        completed: &'static AtomicU64,
        rekeys: &'static AtomicU64,
    ) -> Self {
        Self { inner, peers: Mutex::default(), completed, rekeys }
    }

    /// What was noted of a peer.
    pub(crate) fn noted(&self, peer: PeerId) -> Noted {
        self.peers().get(&peer).copied().unwrap_or_default()
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, Noted>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cipher_name(key: &KeyConfig) -> &'static str {
    match (key.cipher, key.key_len) {
        (CipherAlg::AesGcm, 16) => "AES-128-GCM",
        (CipherAlg::AesGcm, 24) => "AES-192-GCM",
        (CipherAlg::AesGcm, _) => "AES-256-GCM",
        (CipherAlg::ChaCha20Poly1305, _) => "CHACHA20-POLY1305",
        (CipherAlg::None, _) => "none",
    }
}

impl DataPlane for Observed {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn device(&self) -> &Device {
        self.inner.device()
    }

    fn drops(&self) -> Vec<Drops> {
        self.inner.drops()
    }

    fn transport_open(&self, source: SocketSource) -> Result<Transport> {
        self.inner.transport_open(source)
    }

    fn peer_new(&self, peer: &PeerConfig) -> Result<()> {
        self.inner.peer_new(peer)?;
        self.peers().insert(peer.id, Noted::default());
        Ok(())
    }

    fn peer_set(&self, id: PeerId, update: &PeerUpdate) -> Result<()> {
        self.inner.peer_set(id, update)
    }

    fn peer_get(&self, id: PeerId) -> Result<PeerInfo> {
        self.inner.peer_get(id)
    }

    fn peer_dump(&self) -> Result<Vec<PeerInfo>> {
        let peers = self.inner.peer_dump()?;
        // Those that the data plane removed by itself are forgotten here.
        self.peers().retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        Ok(peers)
    }

    fn peer_del(&self, id: PeerId) -> Result<()> {
        self.peers().remove(&id);
        self.inner.peer_del(id)
    }

    fn peer_exit(&self, id: PeerId) -> Result<()> {
        self.inner.peer_exit(id)
    }

    fn key_new(&self, peer: PeerId, slot: KeySlot, key: &KeyConfig) -> Result<()> {
        self.inner.key_new(peer, slot, key)?;
        let mut peers = self.peers();
        let noted = peers.entry(peer).or_default();
        let count = if noted.keys == 0 { self.completed } else { self.rekeys };
        count.fetch_add(1, Ordering::Relaxed);
        noted.keys += 1;
        *noted.slot(slot) =
            Some(Key { cipher: cipher_name(key), format: key.format, installed: Instant::now() });
        Ok(())
    }

    fn key_get(&self, peer: PeerId, slot: KeySlot) -> Result<KeyInfo> {
        self.inner.key_get(peer, slot)
    }

    fn key_swap(&self, peer: PeerId) -> Result<()> {
        self.inner.key_swap(peer)?;
        if let Some(noted) = self.peers().get_mut(&peer) {
            std::mem::swap(&mut noted.primary, &mut noted.secondary);
        }
        Ok(())
    }

    fn key_del(&self, peer: PeerId, slot: KeySlot) -> Result<()> {
        self.inner.key_del(peer, slot)?;
        if let Some(noted) = self.peers().get_mut(&peer) {
            *noted.slot(slot) = None;
        }
        Ok(())
    }

    fn route_add(&self, prefix: IpNet, peer: PeerId) -> Result<()> {
        self.inner.route_add(prefix, peer)
    }

    fn route_del(&self, prefix: IpNet, peer: PeerId) -> Result<()> {
        self.inner.route_del(prefix, peer)
    }

    fn events(&self) -> Result<Box<dyn EventSource>> {
        self.inner.events()
    }
}
