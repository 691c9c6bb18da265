//! The busiest sender's own socket.
//!
//! ```text
//!   everybody ───────────────────▶ the transport's socket ─┐
//!   one sender, thousands in a row ─▶ a connected socket ──┴─▶ the transport's worker
//! ```
//!
//! The kernel looks up the route of each datagram, but not for a connected socket (early demultiplexing, which looks at
//! one socket of a port only: so each worker has one to give away). Nothing depends on it. It only receives; where it
//! cannot be opened, where the sender moves or where an address of ours goes, the transport's socket has it all.

use std::sync::Arc;
use std::time::Duration;

use ovpn_dco::TransportId;
use ovpn_sys::udp::{Path, UdpSocket};

use crate::peer::Source;
use crate::time::Timestamp;
use crate::transport::udp::UdpLink;
use crate::transport::{Link, LinkKind};

/// After so many messages in a row a sender has a socket of its own.
const MANY: usize = 4096;
/// Batches below this are no sign of much to do.
const BATCH: usize = 8;
/// A socket on which nothing came for so long goes to another sender.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a refusal stands.
const RETRY: Duration = Duration::from_secs(60);

/// One worker's.
#[derive(Default)]
pub(crate) struct OwnSocket {
    open: Option<Open>,
    /// Who has sent everything lately to one transport, and how many messages.
    streak: Option<(TransportId, Source, usize)>,
    retry_at: Timestamp,
}

struct Open {
    link: Arc<Link>,
    socket: Arc<UdpSocket>,
    last: Timestamp,
}

impl OwnSocket {
    /// The socket, to wait for and to receive from, and the transport it belongs to.
    pub(crate) fn get(&self) -> Option<(&Arc<Link>, &Arc<UdpSocket>)> {
        self.open.as_ref().map(|open| (&open.link, &open.socket))
    }

    /// Something came on it.
    pub(crate) fn received(&mut self, now: Timestamp) {
        if let Some(open) = &mut self.open {
            open.last = now;
        }
    }

    /// A batch of `count` messages came on the transport's socket, all from `sender` as far as one can see.
    pub(crate) fn saw(&mut self, link: &Link, sender: Option<Source>, count: usize) {
        self.streak = match (sender, self.streak) {
            (Some(source), Some((id, known, before)))
                if id == link.id && known == source && count >= BATCH =>
            {
                Some((id, source, before.saturating_add(count)))
            }
            (Some(source), _) if count >= BATCH => Some((link.id, source, count)),
            // A few packets of others between thousands do not matter.
            _ => self.streak,
        };
    }

    /// Opens it for the sender who deserves it now, if there is one, and tells on which transport: what waits in that
    /// transport's socket came before, and is to be received first.
    pub(crate) fn open(&mut self, links: &[Arc<Link>], now: Timestamp) -> Option<Arc<Link>> {
        let (id, source, _) = self.streak.filter(|(_, _, count)| *count >= MANY)?;
        if now < self.retry_at || self.open.as_ref().is_some_and(|open| now.since(open.last) < SILENCE) {
            return None;
        }
        self.streak = None;
        let path = Path { remote: source.remote, local: source.local };
        if let Some(link) = self.hand_over(id, &path, now) {
            return Some(link);
        }
        let link = links.iter().find(|link| link.id == id)?;
        self.close();
        match udp(link)?.open_own(&path) {
            Ok(socket) => {
                tracing::debug!(id = id.0, remote = %path.remote, "the busiest sender has a socket of its own");
                self.open = Some(Open { link: Arc::clone(link), socket, last: now });
                Some(Arc::clone(link))
            }
            Err(error) => {
                tracing::debug!(%error, id = id.0, remote = %path.remote, "no socket for the busiest sender");
                self.retry_at = now.after(RETRY);
                None
            }
        }
    }

    /// Gives the socket there is to another sender to the same address, where that can be; the transport.
    fn hand_over(&mut self, id: TransportId, path: &Path, now: Timestamp) -> Option<Arc<Link>> {
        let open = self.open.as_mut()?;
        if open.link.id != id || open.socket.bound() != path.local {
            return None;
        }
        open.socket.reconnect(path.remote).ok()?;
        tracing::debug!(id = id.0, remote = %path.remote, "the busiest sender is another");
        open.last = now;
        Some(Arc::clone(&open.link))
    }

    /// Closes it unless its transport is among `links`.
    pub(crate) fn keep(&mut self, links: &[Arc<Link>]) {
        if self.open.as_ref().is_some_and(|open| !links.iter().any(|link| Arc::ptr_eq(link, &open.link))) {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && let Some(udp) = udp(&open.link)
        {
            udp.remove_own();
        }
    }
}

fn udp(link: &Link) -> Option<&UdpLink> {
    match &link.kind {
        LinkKind::Udp(udp) => Some(udp),
        LinkKind::Tcp(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Std;

    use super::*;
    use crate::control_port::ControlQueue;
    use crate::test_support::{at, from};

    fn link(number: u64) -> Arc<Link> {
        let socket = UdpSocket::new(Std::bind("127.0.0.1:0").unwrap().into()).unwrap();
        Arc::new(Link {
            id: TransportId(number),
            worker: 0,
            control: Arc::new(ControlQueue::new().unwrap()),
            kind: LinkKind::Udp(UdpLink::new(socket)),
            siblings: Vec::new(),
        })
    }

    fn sender(address: &str) -> Source {
        Source { local: Some([127, 0, 0, 1].into()), ..from(address) }
    }

    #[test]
    fn it_goes_to_whoever_sends_most_once_the_one_before_is_silent() {
        let (first, other) = (link(1), link(2));
        let (busy, next) = (sender("127.0.0.1:1001"), sender("127.0.0.1:1002"));
        let links = [Arc::clone(&first)];
        let mut own = OwnSocket::default();
        own.saw(&first, Some(busy), MANY - BATCH);
        own.saw(&first, None, BATCH);
        assert!(own.open(&links, at(0)).is_none(), "not many enough");
        own.saw(&first, Some(busy), BATCH);
        assert!(own.open(&links, at(0)).is_some());
        own.saw(&first, Some(next), MANY);
        assert!(own.open(&links, at(999)).is_none(), "it is in use");
        let peer = |own: &OwnSocket| own.get().unwrap().1.peer_addr();
        assert_eq!(peer(&own), Some(busy.remote));
        assert!(own.open(&links, at(1000)).is_some());
        assert_eq!(peer(&own), Some(next.remote));
        // A transport that is not waited for with the others.
        own.saw(&other, Some(busy), MANY);
        assert!(own.open(&links, at(3000)).is_none());
        assert_eq!(peer(&own), Some(next.remote));
        own.keep(&[]);
        assert!(own.get().is_none());
    }
}
