//! A data plane's control port and its events, awaited.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd, RawFd};

use ovpn_dco::{ControlPort, DataPlane, Event, EventSource, Received};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// A [`ControlPort`] that can be awaited.
pub(crate) struct Port {
    inner: AsyncFd<Readable<Box<dyn ControlPort>>>,
}

struct Readable<T>(T);

impl AsRawFd for Readable<Box<dyn ControlPort>> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd().as_raw_fd()
    }
}

impl AsRawFd for Readable<Box<dyn EventSource>> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd().as_fd().as_raw_fd()
    }
}

impl Port {
    /// Registers the port with the runtime.
    ///
    /// # Errors
    /// When the descriptor cannot be watched.
    pub(crate) fn new(port: Box<dyn ControlPort>) -> io::Result<Self> {
        Ok(Self { inner: AsyncFd::with_interest(Readable(port), Interest::READABLE)? })
    }

    /// The next control packet. Cancel-safe.
    ///
    /// # Errors
    /// As [`ControlPort::recv`], `WouldBlock` excepted.
    pub(crate) async fn recv(&self, buf: &mut [u8]) -> io::Result<Received> {
        loop {
            let mut ready = self.inner.readable().await?;
            match ready.get_inner().0.recv(buf) {
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
        match self.inner.get_ref().0.send(packet, to, local) {
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
    let source = data_plane.events().map_err(io::Error::other)?;
    let mut source = AsyncFd::with_interest(Readable(source), Interest::READABLE)?;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let event = {
                let mut ready = match source.readable_mut().await {
                    Ok(ready) => ready,
                    Err(_) => break,
                };
                match ready.get_inner_mut().0.next() {
                    Ok(Some(event)) => event,
                    Ok(None) => {
                        ready.clear_ready();
                        continue;
                    }
                    Err(_) => break,
                }
            };
            if sender.send(event).is_err() {
                return;
            }
            if sender.is_closed() {
                return;
            }
        }
        let _ = sender.send(Event::DataPlaneGone);
    });
    Ok(receiver)
}
