//! Both key-method messages are exchanged; the peer has yet to acknowledge ours.

use super::active::Active;
use super::hello::KeySources;
use crate::tls::Tls;

/// Waits until everything sent is acknowledged.
pub(crate) struct Confirming {
    pub(super) tls: Tls,
    pub(super) sources: KeySources,
}

impl Confirming {
    /// Everything is acknowledged.
    pub(super) fn confirmed(self) -> Active {
        Active { tls: self.tls, sources: self.sources }
    }
}
