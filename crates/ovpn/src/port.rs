//! A data plane's control port and its events, awaited.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use ovpn_dco::{ControlPort, DataPlane, Event, Received};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// A [`ControlPort`] that can be awaited.
pub(crate) struct Port {
    ready: AsyncFd<OwnedFd>,
    port: Box<dyn ControlPort>,
}

/// Watches a copy of a descriptor for readability.
fn watch(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let copy = fd.try_clone_to_owned()?;
    // The safe constructor is deprecated for types whose descriptor may change; that of an OwnedFd cannot.
    #[expect(deprecated)]
    AsyncFd::with_interest(copy, Interest::READABLE)
}

impl Port {
    /// Registers the port with the runtime.
    ///
    /// # Errors
    /// When the descriptor cannot be watched.
    pub(crate) fn new(port: Box<dyn ControlPort>) -> io::Result<Self> {
        Ok(Self { ready: watch(port.fd())?, port })
    }

    /// The next control packet. Cancel-safe.
    ///
    /// # Errors
    /// As [`ControlPort::recv`], `WouldBlock` excepted.
    pub(crate) async fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        loop {
            let mut ready = self.ready.readable().await?;
            match self.port.recv(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Sends one packet. A congested transport loses it, which the control channel repairs.
    ///
    /// # Errors
    /// As [`ControlPort::send`].
    pub(crate) fn send(&self, packet: &[u8], to: SocketAddr, local: Option<IpAddr>) -> io::Result<()> {
        match self.port.send(packet, to, local) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

/// Subscribes to a data plane's events; they arrive in the returned queue until the subscription fails, which is told
/// as [`Event::DataPlaneGone`].
///
/// # Errors
/// When the driver cannot deliver events.
pub(crate) fn events(data_plane: &dyn DataPlane) -> io::Result<mpsc::UnboundedReceiver<Event>> {
    let mut source = data_plane.events().map_err(io::Error::other)?;
    let readiness = watch(source.fd())?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let mut ready = tokio::select! {
                ready = readiness.readable() => match ready {
                    Ok(ready) => ready,
                    Err(_) => break,
                },
                () = sender.closed() => return,
            };
            match source.next() {
                Ok(Some(event)) => {
                    let _ = sender.send(event);
                }
                Ok(None) => ready.clear_ready(),
                Err(_) => break,
            }
        }
        let _ = sender.send(Event::DataPlaneGone);
    });
    Ok(receiver)
}
