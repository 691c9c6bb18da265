//! Peers by transport address, for packets that name no peer id.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock};

use ovpn_dco::PeerId;

/// Transport address to peer. Addresses come from packets of authenticated peers only, and are in canonical form.
#[derive(Debug, Default)]
pub(crate) struct AddressMap(RwLock<HashMap<SocketAddr, PeerId>>);

impl AddressMap {
    pub(crate) fn get(&self, address: SocketAddr) -> Option<PeerId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&address).copied()
    }

    /// A peer that was reached at `from` is now reached at `to`; `None` is a new or a deleted one.
    pub(crate) fn moved(&self, peer: PeerId, from: Option<SocketAddr>, to: Option<SocketAddr>) {
        if from == to {
            return;
        }
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(from) = from
            && map.get(&from) == Some(&peer)
        {
            map.remove(&from);
        }
        if let Some(to) = to {
            map.insert(to, peer);
        }
    }
}
