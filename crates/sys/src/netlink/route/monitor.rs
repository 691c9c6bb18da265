//! Changes of links, addresses and routes as they happen.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::super::Result;
use super::super::message::{Malformed, Message, messages};
use super::super::socket::{Notification, Protocol, Subscription};
use super::{Address, Link, Route, address, entry, link};

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;

/// What to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Groups {
    /// Links.
    pub links: bool,
    /// Addresses.
    pub addresses: bool,
    /// Routes.
    pub routes: bool,
}

impl Groups {
    /// Everything.
    pub const ALL: Self = Self { links: true, addresses: true, routes: true };
    /// Routes only.
    pub const ROUTES: Self = Self { links: false, addresses: false, routes: true };
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link is new or changed.
    LinkNew(Link),
    /// A link is gone.
    LinkDel(Link),
    /// An address is new or changed.
    AddressNew(Address),
    /// An address is gone.
    AddressDel(Address),
    /// A route is new; see [`Self::RouteReplaced`] for those that took another's place.
    RouteNew(Route),
    /// A route took the place of the one with its destination, table and metric.
    RouteReplaced(Route),
    /// A route is gone. (IPv4 routes that vanish with their link are not told: watch the link.)
    RouteDel(Route),
    /// Changes were lost: read all anew.
    Lost,
}

/// A subscription to changes in the network namespace where it was opened. Never blocks.
#[derive(Debug)]
pub struct Monitor {
    subscription: Subscription,
    /// Messages of the last datagram that are not yet given out, and where they begin.
    pending: (Vec<u8>, usize),
}

impl Monitor {
    /// Subscribes. To miss nothing: subscribe first, then read what is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(groups: Groups) -> Result<Self> {
        let mut numbers = Vec::new();
        if groups.links {
            numbers.push(RTNLGRP_LINK);
        }
        if groups.addresses {
            numbers.extend([RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR]);
        }
        if groups.routes {
            numbers.extend([RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE]);
        }
        let subscription = Subscription::open(Protocol::Route, &numbers)?;
        Ok(Self { subscription, pending: (Vec::new(), 0) })
    }

    /// The next change, `None` when there is none now.
    ///
    /// # Errors
    /// Where the socket has failed.
    pub fn next_change(&mut self) -> Result<Option<Change>> {
        loop {
            let (buffer, start) = &mut self.pending;
            let rest = buffer.get(*start..).unwrap_or_default();
            if let Some(message) = messages(rest).next() {
                let message = message?;
                *start += (message.payload.len() + super::super::message::HEADER_LEN).next_multiple_of(4);
                if let Some(change) = read(&message)? {
                    return Ok(Some(change));
                }
                continue;
            }
            match self.subscription.receive()? {
                None => return Ok(None),
                Some(Notification::Lost) => return Ok(Some(Change::Lost)),
                Some(Notification::Messages(datagram)) => {
                    buffer.clear();
                    buffer.extend_from_slice(datagram.rest());
                    *start = 0;
                }
            }
        }
    }

    /// Sets the receive buffer, bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_buffer(&self, bytes: usize) -> io::Result<()> {
        self.subscription.set_buffer(bytes)
    }
}

impl AsFd for Monitor {
    /// Readable while changes wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.subscription.as_fd()
    }
}

fn read(message: &Message<'_>) -> std::result::Result<Option<Change>, Malformed> {
    Ok(match message.kind {
        link::RTM_NEWLINK | link::RTM_DELLINK => {
            let (header, attributes) = message.after_header(link::HEADER_LEN)?;
            let link = link::parse(header, attributes)?;
            Some(if message.kind == link::RTM_NEWLINK {
                Change::LinkNew(link)
            } else {
                Change::LinkDel(link)
            })
        }
        address::RTM_NEWADDR | address::RTM_DELADDR => {
            let (header, attributes) = message.after_header(address::HEADER_LEN)?;
            let new = message.kind == address::RTM_NEWADDR;
            let address = address::parse(header, attributes)?;
            address.map(|address| if new { Change::AddressNew(address) } else { Change::AddressDel(address) })
        }
        entry::RTM_NEWROUTE | entry::RTM_DELROUTE => {
            let (header, attributes) = message.after_header(entry::HEADER_LEN)?;
            let replaced = message.flags & super::super::message::NLM_F_REPLACE != 0;
            entry::parse(header, attributes)?.map(|route| match message.kind {
                entry::RTM_DELROUTE => Change::RouteDel(route),
                _ if replaced => Change::RouteReplaced(route),
                _ => Change::RouteNew(route),
            })
        }
        _ => None,
    })
}
