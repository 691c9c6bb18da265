//! Lanes: a busy UDP peer gets a socket of its own beside the transport's, connected to it.
//!
//! ```text
//!   transport ─ socket ── everyone                     ─▶ worker 0
//!             └ lane   ── busy peer, 203.0.113.9:40112 ─▶ worker 1
//! ```
//!
//! The kernel then finds socket and route for a datagram at once, and the worker with the fewest lanes reads it: so the
//! peers of one transport are spread over all workers, and each peer's packets stay in order. A lane is only a faster
//! way: whatever arrives on it is treated as if it had come through the transport's socket, and without lanes (an old
//! kernel, a marked socket, another namespace) everything works.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ovpn_sys::udp::{Path, UdpSocket};

use super::Link;
use crate::peer::{Peer, lock};
use crate::time::Timestamp;

/// How often the peers' traffic is looked at.
const REVIEW: Duration = Duration::from_millis(500);
/// Packets between two reviews that make a peer busy.
pub(crate) const BUSY: u64 = 1000;
/// A lane is closed when nothing has come for so long.
const IDLE: Duration = Duration::from_secs(10);

/// A socket connected to one peer.
pub(crate) struct Lane {
    pub(crate) socket: UdpSocket,
    remote: SocketAddr,
    /// When something came last, milliseconds of [`Timestamp`].
    last: AtomicU64,
}

/// A transport's lanes.
#[derive(Default)]
pub(crate) struct Lanes {
    open: Mutex<Vec<Arc<Lane>>>,
    /// Milliseconds of [`Timestamp`].
    review_at: AtomicU64,
    refused: AtomicBool,
    /// Messages that were dropped on lanes which are closed.
    dropped: AtomicU64,
}

impl Lane {
    /// Something has come.
    pub(crate) fn used(&self, now: Timestamp) {
        self.last.store(now.as_millis(), Ordering::Relaxed);
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        self.last.load(Ordering::Relaxed) + IDLE.as_millis() as u64 <= now.as_millis()
    }
}

impl Lanes {
    /// Says to one caller that it is time for a review, and whether the last was one period ago, so that what came
    /// since tells who is busy.
    pub(crate) fn due(&self, now: Timestamp) -> Option<bool> {
        let at = self.review_at.load(Ordering::Relaxed);
        let next = now.after(REVIEW).as_millis();
        if now.as_millis() < at || self.refused.load(Ordering::Relaxed) {
            return None;
        }
        self.review_at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(now.as_millis() < at + REVIEW.as_millis() as u64)
    }

    /// Closes lanes that nobody uses any more; returns them.
    pub(crate) fn close_idle(&self, now: Timestamp) -> Vec<Arc<Lane>> {
        self.close_if(|lane| lane.is_idle(now))
    }

    /// Closes one lane.
    pub(crate) fn close(&self, inlet: &Inlet) {
        if let Some(closed) = &inlet.lane {
            self.close_if(|lane| std::ptr::eq(lane, &**closed));
        }
    }

    fn close_if(&self, which: impl Fn(&Lane) -> bool) -> Vec<Arc<Lane>> {
        let mut open = lock(&self.open);
        let closed: Vec<_> = open.extract_if(.., |lane| which(lane)).collect();
        for lane in &closed {
            self.dropped.fetch_add(lane.socket.dropped().into(), Ordering::Relaxed);
        }
        closed
    }

    /// Opens a lane of `main` for each of the `busy` peers that has none.
    pub(crate) fn open<'a>(
        &self,
        main: &UdpSocket,
        busy: impl Iterator<Item = &'a Arc<Peer>>,
        now: Timestamp,
    ) -> Vec<Arc<Lane>> {
        let mut open = lock(&self.open);
        let mut made = Vec::new();
        for peer in busy {
            let endpoint = peer.endpoint();
            let Some(remote) = endpoint.remote else { continue };
            if open.iter().any(|lane| lane.remote == remote) {
                continue;
            }
            match main.sibling(&Path { remote, local: endpoint.local }) {
                Ok(socket) => {
                    tracing::debug!(peer = %peer.id(), %remote, "a busy peer gets a socket of its own");
                    let lane = Arc::new(Lane { socket, remote, last: AtomicU64::new(now.as_millis()) });
                    open.push(Arc::clone(&lane));
                    made.push(lane);
                }
                Err(error) => {
                    tracing::debug!(%error, "busy peers share the transport's socket");
                    self.refused.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
        made
    }

    /// Messages that the system has dropped for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        let open: u64 = lock(&self.open).iter().map(|lane| u64::from(lane.socket.dropped())).sum();
        open + self.dropped.load(Ordering::Relaxed)
    }
}

/// What a worker receives from: a transport, or one of its lanes.
#[derive(Clone)]
pub(crate) struct Inlet {
    pub(crate) link: Arc<Link>,
    pub(crate) lane: Option<Arc<Lane>>,
}

impl Inlet {
    /// A transport's own socket.
    pub(crate) const fn main(link: Arc<Link>) -> Self {
        Self { link, lane: None }
    }
}

impl AsFd for Inlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.lane {
            Some(lane) => lane.socket.as_fd(),
            None => self.link.as_fd(),
        }
    }
}
