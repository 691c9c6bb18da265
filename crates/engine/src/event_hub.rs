//! Events on their way to subscribers: one bounded queue for each, and a descriptor that tells that it is not empty.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, Weak};

use ovpn_dco::{Event, EventSource};
use ovpn_sys::wake::Wake;

use crate::peer::{EventSink, lock};

/// The most events that wait for one subscriber; what comes then is lost, and the subscriber told so.
const QUEUE: usize = 4096;

/// Hands every event to every subscriber.
pub(crate) struct EventHub {
    subscribers: Mutex<Vec<Weak<Subscriber>>>,
    /// Set when a peer has gone, for the worker that looks after carrier and transports.
    peer_gone: Arc<Wake>,
}

struct Subscriber {
    queue: Mutex<Queue>,
    wake: Wake,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    lost: bool,
}

impl EventHub {
    pub(crate) fn new(peer_gone: Arc<Wake>) -> Self {
        Self { subscribers: Mutex::default(), peer_gone }
    }

    pub(crate) fn subscribe(&self) -> io::Result<Box<dyn EventSource>> {
        let subscriber = Arc::new(Subscriber { queue: Mutex::default(), wake: Wake::new()? });
        let mut all = lock(&self.subscribers);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&subscriber));
        Ok(Box::new(Source(subscriber)))
    }

    pub(crate) fn send(&self, event: &Event) {
        for subscriber in lock(&self.subscribers).iter().filter_map(Weak::upgrade) {
            let mut queue = lock(&subscriber.queue);
            if queue.lost || queue.events.len() >= QUEUE {
                queue.lost = true;
            } else {
                queue.events.push_back(event.clone());
            }
            subscriber.wake.set();
        }
        if matches!(event, Event::PeerDeleted { .. }) {
            self.peer_gone.set();
        }
    }
}

impl EventSink for Arc<EventHub> {
    fn event(&self, event: Event) {
        tracing::debug!(?event, "event");
        self.send(&event);
    }
}

struct Source(Arc<Subscriber>);

impl EventSource for Source {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }

    fn next(&mut self) -> io::Result<Option<Event>> {
        let mut queue = lock(&self.0.queue);
        let event =
            queue.events.pop_front().or_else(|| std::mem::take(&mut queue.lost).then_some(Event::Lost));
        if queue.events.is_empty() && !queue.lost {
            self.0.wake.clear();
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovpn_dco::PeerId;

    #[test]
    fn every_subscriber_sees_every_event_and_learns_of_lost_ones() {
        let hub = Arc::new(EventHub::new(Arc::new(Wake::new().unwrap())));
        let (mut a, mut b) = (hub.subscribe().unwrap(), hub.subscribe().unwrap());
        let exit = |n: usize| Event::PeerExit { peer: PeerId::new(n as u32).unwrap() };
        hub.event(exit(0));
        assert_eq!(a.next().unwrap(), Some(exit(0)));
        assert_eq!(a.next().unwrap(), None);
        (1..=QUEUE).for_each(|n| hub.event(exit(n)));
        for n in 0..QUEUE {
            assert_eq!(b.next().unwrap(), Some(exit(n)));
        }
        assert_eq!(b.next().unwrap(), Some(Event::Lost));
        assert_eq!(b.next().unwrap(), None);
        drop(b);
        hub.event(exit(1));
        for n in 1..=QUEUE {
            assert_eq!(a.next().unwrap(), Some(exit(n)));
        }
    }
}
