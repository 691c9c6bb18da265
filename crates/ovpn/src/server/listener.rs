//! Sockets that clients arrive at: UDP ports and TCP listeners.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_config::Config;
use ovpn_config::model::{Family, Local};
use ovpn_control::{Accepted, Answer, DropReason, Endpoint, Now};
use ovpn_dco::{Driver, SocketSource, TransportId};
use tokio::net::{TcpListener, TcpStream};

use super::client_task::{ClientTask, Newcomer};
use super::port_share::{self, Sniff};
use super::registry::Packet;
use super::shared::{Shared, unix_now};
use crate::outcome::Fatal;
use crate::port::Port;
use crate::sockets;

/// Room for one control packet; stock sends at most 2048 bytes.
const MAX_PACKET: usize = 4096;

/// How long an address may be in use when we want it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A bound socket, not yet served.
pub(crate) enum Listener {
    /// A UDP socket, in the data plane.
    Udp(Port, TransportId),
    /// A TCP listener.
    Tcp(TcpListener),
}

/// Binds a `local` of the configuration.
///
/// # Errors
/// What the system said.
pub(crate) async fn bind(shared: &Shared, local: &Local) -> Result<Listener, Fatal> {
    let config = &shared.config;
    let tcp = local.protocol.is_tcp();
    let start = Instant::now();
    let (socket, address) = loop {
        match open(config, local, tcp).await? {
            Ok(opened) => break opened,
            // After a restart the data plane may be about to let go of the former socket.
            Err((_, error)) if error.kind() == ErrorKind::AddrInUse && start.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err((address, error)) => {
                return Err(Fatal(format!(
                    "TCP/UDP: Socket bind failed on local address {}: {error}{}",
                    sockets::shown(address),
                    sockets::bind_hint(&error)
                )));
            }
        }
    };
    let word = match (tcp, address.is_ipv4()) {
        (false, true) => "UDPv4",
        (false, false) => "UDPv6",
        (true, true) => "TCPv4_SERVER",
        (true, false) => "TCPv6_SERVER",
    };
    let listener = match socket {
        Opened::Tcp(listener) => {
            tracing::info!("Listening for incoming TCP connection on {}", sockets::shown(address));
            Listener::Tcp(listener)
        }
        Opened::Udp(socket) => {
            let transport = shared
                .data_plane
                .transport_open(SocketSource::Socket(socket))
                .map_err(|error| Fatal::new("the data plane does not take the socket", error))?;
            let port = Port::new(transport.port).map_err(|error| Fatal::new("the control port", error))?;
            Listener::Udp(port, transport.id)
        }
    };
    tracing::info!("{word} link local (bound): {}", sockets::shown(address));
    tracing::info!("{word} link remote: [AF_UNSPEC]");
    Ok(listener)
}

enum Opened {
    Udp(std::os::fd::OwnedFd),
    Tcp(TcpListener),
}

/// Without a host and a family, one IPv6 socket takes both families; where there is no IPv6, IPv4.
async fn open(
    config: &Config,
    local: &Local,
    tcp: bool,
) -> Result<Result<(Opened, SocketAddr), (SocketAddr, Error)>, Fatal> {
    let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), local.port);
    let v6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), local.port);
    let candidates = match (&local.host, local.family) {
        (Some(host), family) => sockets::resolve(host, local.port, family)
            .await
            .map_err(|error| Fatal(format!("--local {host}: {error}")))?,
        (None, Family::V4) => vec![v4],
        (None, Family::V6) => vec![v6],
        (None, Family::Any) => vec![v6, v4],
    };
    let only_v6 = config.transport.bind_ipv6_only;
    let mut last = None;
    for address in candidates {
        let opened = if tcp {
            sockets::tcp_listen(address, only_v6, &config.transport).map(Opened::Tcp)
        } else {
            sockets::udp_listen(address, only_v6, &config.transport).map(Opened::Udp)
        };
        match opened {
            Ok(opened) => return Ok(Ok((opened, address))),
            Err(error) => last = Some((address, error)),
        }
    }
    last.map(Err).ok_or_else(|| Fatal("no address to listen on".to_owned()))
}

/// Serves a UDP port for ever.
pub(crate) async fn serve_udp(
    shared: Arc<Shared>,
    port: Port,
    transport: TransportId,
    mut endpoint: Endpoint,
) {
    let port = Arc::new(port);
    let mut buffer = vec![0; MAX_PACKET];
    let mut complaints = Complaints::default();
    let mut floats = UntoldFloats::of(&shared);
    loop {
        let received = match port.recv(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!("read UDP: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let bytes = buffer.get(..received.len).unwrap_or_default();
        let (from, local) = (received.from, received.local.filter(|_| shared.config.transport.multihome));
        if let Some(client) = shared.registry().at(transport, from) {
            if !client.deliver(Packet { bytes: bytes.to_vec(), local }) {
                tracing::debug!("{from}: control packet dropped: the client's task is busy");
            }
            continue;
        }
        match endpoint.handle_packet(Now::system(), from, bytes) {
            Ok(Answer::Reply(reply)) => {
                if let Err(error) = port.send(&reply, from, local) {
                    tracing::debug!("{from}: write: {error}");
                }
            }
            Ok(Answer::Accepted(accepted)) => {
                let place = Place { port: Arc::clone(&port), transport, remote: from, local };
                admit(&shared, place, *accepted);
            }
            Err(reason) if floats.take_up(&shared, from, reason, Instant::now()) => {
                if let Some(client) = shared.registry().at(transport, from) {
                    client.deliver(Packet { bytes: bytes.to_vec(), local });
                }
            }
            Err(reason) => complaints.about(from, reason, Instant::now()),
        }
    }
}

/// `ovpn-dco-v2` follows a client to its new address and tells nobody: the client's next control packet comes from a
/// stranger. The driver is then asked where its peers are, once a second at most: strangers may be many.
#[derive(Debug)]
struct UntoldFloats {
    silent: bool,
    asked: Option<Instant>,
}

impl UntoldFloats {
    const PAUSE: Duration = Duration::from_secs(1);

    fn of(shared: &Shared) -> Self {
        Self { silent: shared.data_plane.capabilities().driver == Driver::KernelV2, asked: None }
    }

    /// Whether the sender of a packet that belongs to no session is a client that has moved. Its address is noted, and
    /// its task told.
    fn take_up(&mut self, shared: &Shared, from: SocketAddr, reason: DropReason, now: Instant) -> bool {
        let may_be = matches!(reason, DropReason::UnknownSession | DropReason::BadCookie);
        if !self.silent || !may_be || self.asked.is_some_and(|asked| now - asked < Self::PAUSE) {
            return false;
        }
        self.asked = Some(now);
        let here = (from.ip().to_canonical(), from.port());
        let peers = shared.data_plane.peer_dump().unwrap_or_default();
        let is_here = |remote: SocketAddr| (remote.ip().to_canonical(), remote.port()) == here;
        let Some(peer) = peers.iter().find(|peer| peer.remote.is_some_and(is_here)) else { return false };
        shared.registry().peer_moved(peer.id, from)
    }
}

/// Dropped first packets, told without letting anyone flood the log: what an administrator should know is a warning
/// once a minute with the count of the others, all else is for debugging.
#[derive(Debug, Default)]
struct Complaints {
    told: HashMap<DropReason, (Instant, u32)>,
}

impl Complaints {
    const PAUSE: Duration = Duration::from_secs(60);

    fn about(&mut self, from: SocketAddr, reason: DropReason, now: Instant) {
        let from = sockets::shown(from);
        let matters = matches!(
            reason,
            DropReason::Unauthentic
                | DropReason::BadClientKey
                | DropReason::ClientKeyTooOld
                | DropReason::CookieRequired
                | DropReason::RateLimited
        );
        if !matters {
            tracing::debug!("{from}: packet dropped: {reason}");
            return;
        }
        match self.told.get_mut(&reason) {
            Some((when, silent)) if now.saturating_duration_since(*when) < Self::PAUSE => *silent += 1,
            former => {
                let more = match former.map_or(0, |(_, silent)| *silent) {
                    0 => String::new(),
                    silent => format!(" ({silent} more since the last such line)"),
                };
                tracing::warn!("{from}: {reason}{more}");
                self.told.insert(reason, (now, 0));
            }
        }
    }
}

struct Place {
    port: Arc<Port>,
    transport: TransportId,
    remote: SocketAddr,
    local: Option<IpAddr>,
}

/// Makes a task of a UDP client that answered the cookie.
fn admit(shared: &Arc<Shared>, place: Place, accepted: Accepted) {
    let Place { port, transport, remote, local } = place;
    let admitted = shared.registry().admit(transport, remote, true, Instant::now(), unix_now());
    match admitted {
        Ok((id, peer, mail)) => {
            let shared = Arc::clone(shared);
            let newcomer = Newcomer { shared, id, peer, mail, port, transport, remote, local, tcp: false };
            tokio::spawn(ClientTask::serve(newcomer, accepted));
        }
        Err(full) => tracing::warn!("{remote}: MULTI: new incoming connection dropped: {full}"),
    }
}

/// Accepts TCP connections for ever.
pub(crate) async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener, endpoint: Endpoint) {
    let endpoint = Arc::new(endpoint);
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                tracing::info!("TCP connection established with {}", sockets::shown(remote));
                tokio::spawn(connection(Arc::clone(&shared), stream, remote, Arc::clone(&endpoint)));
            }
            Err(error) => {
                // Most likely too many open files: others may close theirs.
                tracing::warn!("accept TCP: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A TCP connection: its first packet must be a client's reset, within the hand window.
async fn connection(shared: Arc<Shared>, stream: TcpStream, remote: SocketAddr, endpoint: Arc<Endpoint>) {
    if let Some(share) = &shared.config.server.port_share {
        match port_share::judge(&stream, shared.config.timers.hand_window).await {
            Ok(Sniff::Openvpn) => {}
            Ok(_) => {
                tracing::debug!("{remote}: not OpenVPN, handed to {}:{}", share.host, share.port);
                if let Err(error) = port_share::hand_over(stream, remote, share).await {
                    tracing::info!("{remote}: port-share {}:{}: {error}", share.host, share.port);
                }
                return;
            }
            Err(error) => {
                tracing::info!("{remote}: connection closed: {error}");
                return;
            }
        }
    }
    let opened = sockets::tcp_accepted(stream)
        .map_err(|error| error.to_string())
        .and_then(|socket| {
            shared.data_plane.transport_open(SocketSource::Socket(socket)).map_err(|error| error.to_string())
        })
        .and_then(|transport| {
            Ok((transport.id, Port::new(transport.port).map_err(|error| error.to_string())?))
        });
    let (transport, port) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!("{remote}: the connection cannot be served: {error}");
            return;
        }
    };
    let admitted = shared.registry().admit(transport, remote, false, Instant::now(), unix_now());
    let (id, peer, mail) = match admitted {
        Ok(admitted) => admitted,
        Err(full) => {
            tracing::warn!("{remote}: MULTI: new incoming connection dropped: {full}");
            return;
        }
    };
    let mut buffer = vec![0; MAX_PACKET];
    let first = tokio::time::timeout(shared.config.timers.hand_window, port.recv(&mut buffer)).await;
    let accepted = match first {
        Ok(Ok(received)) => {
            let bytes = buffer.get(..received.len).unwrap_or_default();
            endpoint.accept_stream(Now::system(), bytes).map_err(|reason| reason.to_string())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("nothing came within the hand window".to_owned()),
    };
    match accepted {
        Ok(accepted) => {
            let port = Arc::new(port);
            let newcomer =
                Newcomer { shared, id, peer, mail, port, transport, remote, local: None, tcp: true };
            ClientTask::serve(newcomer, accepted).await;
        }
        Err(reason) => {
            tracing::info!("{remote}: connection closed: {reason}");
            shared.registry().remove(id);
        }
    }
}
