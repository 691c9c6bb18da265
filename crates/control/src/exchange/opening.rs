//! The own reset is on its way.

use super::handshaking::Handshaking;
use crate::tls::Tls;

/// Waits for the acknowledgement of the own reset.
pub(crate) struct Opening {
    pub(super) tls: Tls,
}

impl Opening {
    /// The peer has our reset: TLS begins.
    pub(super) fn acknowledged(mut self) -> Handshaking {
        self.tls.begin();
        Handshaking { tls: self.tls }
    }
}
