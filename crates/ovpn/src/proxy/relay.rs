//! UDP through a SOCKS5 proxy: two local sockets between which the proxy's header comes and goes.
//!
//! ```text
//!   data plane ◀─ loopback ─▶ relay ◀─ header │ packet ─▶ proxy ◀─ packet ─▶ server
//!                               └── TCP connection to the proxy: as long as it stands, so does the way
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use ovpn_config::model::Transport;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::socks;
use crate::sockets;

/// Longest datagram, bytes.
const MAX_DATAGRAM: usize = 65_536;

/// A running relay. It ends when it is dropped, or with the proxy's connection.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Where the data plane's socket sends to, and hears from.
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
    gone: watch::Receiver<bool>,
}

impl Relay {
    /// Begins to relay between `server` and the returned socket, by way of the proxy's address `proxy`. `control` is
    /// the TCP connection on which the proxy agreed.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub(crate) async fn start(
        server: SocketAddr,
        proxy: SocketAddr,
        control: TcpStream,
        options: &Transport,
    ) -> io::Result<(Self, OwnedFd)> {
        let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = inside.local_addr()?;
        let loopback = Transport::default();
        let socket = sockets::udp_to(address, Some((Ipv4Addr::LOCALHOST, 0).into()), &loopback)?;
        // Whoever else is on this machine is not heard.
        let copy: std::net::UdpSocket = socket.try_clone()?.into();
        inside.connect(copy.local_addr()?).await?;
        let outside: std::net::UdpSocket = sockets::udp_to(proxy, None, options)?.into();
        let outside = UdpSocket::from_std(outside)?;
        outside.connect(proxy).await?;
        let (tell, gone) = watch::channel(false);
        let task = tokio::spawn(async move {
            let end = relay(server, &inside, &outside, control).await;
            tracing::debug!("SOCKS relay ends: {end}");
            let _ = tell.send(true);
        });
        Ok((Self { address, task, gone }, socket))
    }

    /// Returns when the proxy has ended the relay.
    pub(crate) async fn ended(&self) {
        let mut gone = self.gone.clone();
        // An error means that the task is gone, too.
        let _ = gone.wait_for(|gone| *gone).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs until the proxy's connection ends; returns why.
async fn relay(
    server: SocketAddr,
    inside: &UdpSocket,
    outside: &UdpSocket,
    mut control: TcpStream,
) -> io::Error {
    let header = socks::datagram_header(server);
    let mut out = vec![0; header.len() + MAX_DATAGRAM];
    out.splice(..header.len(), header.iter().copied());
    let mut back = vec![0; MAX_DATAGRAM];
    let mut byte = [0];
    loop {
        let room = out.get_mut(header.len()..).unwrap_or_default();
        // A lost datagram is UDP's business; only the connection to the proxy ends the relay.
        tokio::select! {
            received = inside.recv(room) => if let Ok(length) = received {
                let _ = outside.send(out.get(..header.len() + length).unwrap_or_default()).await;
            },
            received = outside.recv(&mut back) => if let Ok(length) = received {
                match socks::datagram(back.get(..length).unwrap_or_default()) {
                    Some((from, packet)) if from == server => {
                        let _ = inside.send(packet).await;
                    }
                    _ => tracing::debug!("SOCKS relay: a datagram that is not the server's"),
                }
            },
            read = control.read(&mut byte) => match read {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            },
        }
    }
}
