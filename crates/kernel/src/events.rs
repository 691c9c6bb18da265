//! Events of the kernel driver: multicast notifications.
//!
//! The driver sends them in the network namespace of the *peer's socket* (the older one: of the device). So one
//! source listens in several namespaces, and learns of further ones while it lives.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ovpn_dco::{DelReason, Event, EventSource};
use ovpn_sys::netlink::generic::Family;
use ovpn_sys::netlink::socket::{Notification, Subscription};
use rustix::event::epoll;

use crate::Api;
use crate::driver::Shared;

/// The subscriptions of one source, shared with the driver, which adds namespaces.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    epoll: OwnedFd,
    list: Mutex<Vec<Subscription>>,
}

impl Subscriptions {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, list: Mutex::new(Vec::new()) })
    }

    /// Listens in the namespace of the calling thread, too.
    pub(crate) fn listen(&self, family: &Family) -> ovpn_sys::netlink::Result<()> {
        let subscription = family.subscribe(ovpn_dco::netlink::GROUP_NAME)?;
        epoll::add(&self.epoll, &subscription, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(subscription);
        Ok(())
    }
}

/// A source of the events of one device.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) driver: Weak<Shared>,
    pub(crate) api: Api,
    pub(crate) ifindex: u32,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) pending: VecDeque<Event>,
}

impl EventSource for Events {
    fn fd(&self) -> BorrowedFd<'_> {
        self.subscriptions.epoll.as_fd()
    }

    fn next(&mut self) -> io::Result<Option<Event>> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(Some(self.noted(event)));
        }
        let mut list = self.subscriptions.list.lock().unwrap_or_else(PoisonError::into_inner);
        for subscription in list.iter_mut() {
            while let Some(notification) = subscription.receive()? {
                match notification {
                    Notification::Lost => self.pending.push_back(Event::Lost),
                    Notification::Messages(messages) => {
                        for message in messages {
                            let event = message.map_err(Into::into).and_then(|m| self.api.decode_event(&m));
                            match event {
                                Ok(Some((ifindex, event))) if ifindex == self.ifindex => {
                                    self.pending.push_back(event);
                                }
                                Ok(_) => {}
                                // a notification that cannot be read is as good as lost
                                Err(error) => {
                                    tracing::warn!(%error, "notification of the kernel cannot be read");
                                    self.pending.push_back(Event::Lost);
                                }
                            }
                        }
                    }
                }
                if !self.pending.is_empty() {
                    break;
                }
            }
        }
        drop(list);
        Ok(self.pending.pop_front().map(|event| self.noted(event)))
    }
}

impl Events {
    /// The driver's own list of peers follows what the kernel did by itself.
    fn noted(&self, event: Event) -> Event {
        if let Some(driver) = self.driver.upgrade() {
            match event {
                // what was asked for was noted when it was
                Event::PeerDeleted { reason: DelReason::Userspace, .. } => {}
                Event::PeerDeleted { peer, .. } => driver.reconcile(peer),
                Event::Lost => driver.reconcile_all(),
                _ => {}
            }
        }
        event
    }
}
