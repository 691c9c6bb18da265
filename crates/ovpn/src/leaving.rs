//! Leaving a peer (`explicit-exit-notify`): the exit is announced, and repeated until it was heard or the time is over.
//!
//! ```text
//!  peer understands EXIT on the control channel ─▶ there, until it is acknowledged
//!  it does not, or is busy with a renegotiation ─▶ on the data channel, once a second
//! ```

use std::time::{Duration, Instant};

use ovpn_control::{Farewell, Now, Session};
use ovpn_dco::{DataPlane, PeerId};

use crate::signal::Signal;

const AGAIN: Duration = Duration::from_secs(1);

/// An exit under way.
#[derive(Debug)]
pub(crate) struct Leaving {
    until: Instant,
    signal: Signal,
    farewell: Farewell,
    next: Instant,
}

impl Leaving {
    /// Announces the exit, for at most `seconds`; `None` where nobody can be told.
    pub(crate) fn begin(
        session: &mut Session,
        plane: &dyn DataPlane,
        peer: Option<PeerId>,
        seconds: u32,
        signal: &Signal,
    ) -> Option<Self> {
        let mut farewell = session.exit(Now::system());
        farewell.data &= announce(plane, peer);
        if !farewell.control && !farewell.data {
            return None;
        }
        tracing::info!("{} received, sending exit notification to peer", signal.kind.name());
        let now = Instant::now();
        let signal = Signal { kind: signal.kind, soft: Some("exit-with-notification".into()) };
        let until = now + Duration::from_secs(seconds.into());
        Some(Self { until, signal, farewell, next: now + AGAIN })
    }

    /// The signal to end with, whatever else came in between.
    pub(crate) fn into_signal(self) -> Signal {
        self.signal
    }

    /// When [`is_over`](Self::is_over) wants to be asked.
    pub(crate) fn deadline(&self) -> Instant {
        if self.farewell.data { self.until.min(self.next) } else { self.until }
    }

    /// Repeats what is due; the signal to end with, once the peer has heard or the time is over.
    pub(crate) fn is_over(
        &mut self,
        session: &Session,
        plane: &dyn DataPlane,
        peer: Option<PeerId>,
    ) -> Option<Signal> {
        let now = Instant::now();
        let heard = self.farewell.control && session.is_quiet();
        if heard || self.until <= now {
            return Some(self.signal.clone());
        }
        if self.farewell.data && self.next <= now {
            self.next = now + AGAIN;
            announce(plane, peer);
        }
        None
    }
}

/// Whether it could be said on the data channel.
fn announce(plane: &dyn DataPlane, peer: Option<PeerId>) -> bool {
    let Some(peer) = peer else { return false };
    let said = plane.peer_exit(peer);
    if let Err(error) = &said {
        tracing::debug!("exit notification on the data channel: {error}");
    }
    said.is_ok()
}
