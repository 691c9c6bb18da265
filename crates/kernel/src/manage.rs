//! Devices and notifications apart from a [`Kernel`](crate::Kernel): for tools that make, watch and delete devices
//! which others use.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use ovpn_dco::netlink::{FAMILY_NAME, GROUP_NAME};
use ovpn_dco::{Error, ErrorKind, Event, Mode, Result};
use ovpn_sys::netlink::generic::Family;
use ovpn_sys::netlink::route::{OvpnMode, Rtnetlink};
use ovpn_sys::netlink::socket::{self, Notification, Socket, Subscription};

use crate::Api;
use crate::device::from_netlink;

/// Makes a device of the kernel's own driver; it stays until it is deleted.
///
/// # Errors
/// `EEXIST` where the name is taken; [`ErrorKind::Unsupported`] where the kernel has no such driver.
pub fn device_new(name: &str, mode: Mode) -> Result<()> {
    // Asking for the family makes the kernel load the module; making a link does not.
    family()?;
    let mode = match mode {
        Mode::P2p => OvpnMode::P2p,
        Mode::MultiPeer => OvpnMode::MultiPeer,
    };
    let net = Rtnetlink::open().map_err(from_netlink)?;
    net.link_add_ovpn(name, Api::Ovpn.link_kind(), mode).map_err(from_netlink)
}

/// Deletes a device of that name.
///
/// # Errors
/// [`ErrorKind::NoSuchDevice`] where there is none.
pub fn device_del(name: &str) -> Result<()> {
    let net = Rtnetlink::open().map_err(from_netlink)?;
    let link = net.link_by_name(name).map_err(from_netlink)?;
    net.link_del(link.index).map_err(from_netlink)
}

/// The notifications of every device whose peers' sockets are in the calling thread's network namespace.
#[derive(Debug)]
pub struct Notifications {
    subscription: Subscription,
    pending: VecDeque<(u32, Event)>,
}

impl Notifications {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the kernel has no such driver.
    pub fn listen() -> Result<Self> {
        let subscription = family()?.subscribe(GROUP_NAME).map_err(from_netlink)?;
        Ok(Self { subscription, pending: VecDeque::new() })
    }

    /// The next one, with the interface index of its device (0 where notifications were lost); `None` when there is
    /// none now.
    ///
    /// # Errors
    /// What the system says.
    pub fn next_event(&mut self) -> io::Result<Option<(u32, Event)>> {
        while self.pending.is_empty() {
            match self.subscription.receive()? {
                None => return Ok(None),
                Some(Notification::Lost) => self.pending.push_back((0, Event::Lost)),
                Some(Notification::Messages(messages)) => {
                    for message in messages {
                        match message.map_err(Error::from).and_then(|m| Api::Ovpn.decode_event(&m)) {
                            Ok(Some(event)) => self.pending.push_back(event),
                            Ok(None) => {}
                            Err(error) => {
                                tracing::warn!(%error, "notification of the kernel cannot be read");
                                self.pending.push_back((0, Event::Lost));
                            }
                        }
                    }
                }
            }
        }
        Ok(self.pending.pop_front())
    }
}

/// Readable while notifications wait.
impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.subscription.as_fd()
    }
}

fn family() -> Result<Family> {
    let socket = Socket::open(socket::Protocol::Generic).map_err(from_netlink)?;
    Family::lookup(&socket, FAMILY_NAME).map_err(from_netlink)?.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "the kernel has no ovpn driver (Linux 6.16 and later do)")
    })
}
