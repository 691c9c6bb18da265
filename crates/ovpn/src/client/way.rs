//! The way to a server: a socket, directly or through a proxy.
//!
//! ```text
//!   direct        socket ─▶ server
//!   HTTP, SOCKS   socket ─▶ proxy ═▶ server            TCP: after a word with the proxy it is the server's stream
//!   SOCKS, UDP    socket ─▶ relay ─▶ proxy ─▶ server
//! ```

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ovpn_config::model::{Connection as Options, Family, HttpProxy, Material, SocksProxy, Transport};
use ovpn_control::Credentials;

use super::connection::End;
use super::{Client, login, next_but_usr2, random_u64};
use crate::management::{Handle, TunnelState};
use crate::outcome::Fatal;
use crate::proxy::{self, Dialogue, ProxyError, Relay, Step, Target};
use crate::signal::Signals;
use crate::sockets;

/// A way that is open.
pub(crate) struct Way {
    /// The socket for the data plane.
    pub(crate) socket: OwnedFd,
    /// Its peers.
    pub(crate) ends: Ends,
    /// Keeps a way through a SOCKS proxy open.
    pub(crate) relay: Option<Relay>,
}

/// Who is at the other end, by the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// TCP rather than UDP.
    pub(crate) tcp: bool,
    /// The server, as it is named to people; through a TCP proxy that is the proxy.
    pub(crate) server: SocketAddr,
    /// Where packets on the socket go to and come from.
    pub(crate) wire: SocketAddr,
    /// Who must stay reachable outside of the tunnel.
    pub(crate) outside: SocketAddr,
    /// Bytes that a proxy adds to each packet.
    pub(crate) overhead: u16,
}

impl Ends {
    const fn direct(tcp: bool, server: SocketAddr) -> Self {
        Self { tcp, server, wire: server, outside: server, overhead: 0 }
    }
}

/// The name that has to be resolved first, its port and family: through a proxy that resolves names itself it is the
/// proxy's.
pub(super) fn first_hop(options: &Options) -> (&str, u16, Family) {
    match (&options.http_proxy, &options.socks_proxy) {
        (Some(proxy), _) => (&proxy.host, proxy.port, Family::Any),
        (None, Some(proxy)) if options.remote.protocol.is_tcp() => (&proxy.host, proxy.port, Family::Any),
        _ => (&options.remote.host, options.remote.port, options.remote.family),
    }
}

/// Why there is no way.
enum Obstacle {
    /// Another attempt may do; it was told.
    Retry,
    /// A signal came meanwhile.
    End(End),
}

impl From<End> for Obstacle {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl Client {
    /// Opens the way to an entry's server; `first` is the address of its [`first_hop`].
    pub(super) async fn open_way(
        &mut self,
        options: &Options,
        first: SocketAddr,
        signals: &mut Signals,
    ) -> Result<Result<Way, End>, Fatal> {
        let result = match (&options.http_proxy, &options.socks_proxy) {
            (Some(proxy), _) => self.through_http(options, proxy, first, signals).await?,
            (None, Some(proxy)) => self.through_socks(options, proxy, first, signals).await?,
            (None, None) => self.direct(options, first, signals).await?,
        };
        Ok(result.map_err(|obstacle| match obstacle {
            Obstacle::Retry => End::retry("init_instance"),
            Obstacle::End(end) => end,
        }))
    }

    async fn direct(
        &mut self,
        options: &Options,
        remote: SocketAddr,
        signals: &mut Signals,
    ) -> Result<Result<Way, Obstacle>, Fatal> {
        let tcp = options.remote.protocol.is_tcp();
        let bound = options.local_port.is_some() || options.local_host.is_some() || options.bind;
        let local = if bound { Some(self.local_address(options, remote).await?) } else { None };
        let socket = if tcp {
            self.tell(TunnelState::TcpConnect, "", None);
            tracing::info!("Attempting to establish TCP connection with {}", sockets::shown(remote));
            let connect =
                sockets::tcp_connect(remote, local, &self.config.transport, options.connect_timeout);
            tokio::select! {
                socket = connect => socket,
                signal = next_but_usr2(signals) => return Ok(Err(End::from_signal(signal).into())),
            }
        } else {
            let transport =
                Transport { mtu_discovery: options.mtu_discovery, ..self.config.transport.clone() };
            sockets::udp_to(remote, local, &transport)
        };
        let word = sockets::protocol_word(remote, tcp);
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!("{word}: connect to {} failed: {error}", sockets::shown(remote));
                return Ok(Err(Obstacle::Retry));
            }
        };
        if tcp {
            tracing::info!("TCP connection established with {}", sockets::shown(remote));
        }
        let link_local = local.map_or_else(|| "(not bound)".to_owned(), sockets::shown);
        tracing::info!("{word} link local: {link_local}");
        Ok(Ok(Way { socket, ends: Ends::direct(tcp, remote), relay: None }))
    }

    /// The address of `local` and `lport`.
    async fn local_address(&mut self, options: &Options, remote: SocketAddr) -> Result<SocketAddr, Fatal> {
        let (host, port) = (options.local_host.as_deref(), options.local_port.unwrap_or(0));
        let keep = self.config.transport.persist_local_ip;
        self.locals
            .find(host, port, remote, keep)
            .await
            .map_err(|error| Fatal::new("the address of --local cannot be used", error))
    }

    /// A TCP connection to a proxy.
    async fn to_proxy(
        &self,
        address: SocketAddr,
        limit: Duration,
        signals: &mut Signals,
    ) -> Result<tokio::net::TcpStream, Obstacle> {
        self.tell(TunnelState::TcpConnect, "", None);
        tracing::info!("Attempting to establish TCP connection with {} [proxy]", sockets::shown(address));
        let connect = sockets::tcp_stream(address, None, &self.config.transport, limit);
        let stream = tokio::select! {
            stream = connect => stream,
            signal = next_but_usr2(signals) => return Err(End::from_signal(signal).into()),
        };
        stream.map_err(|error| {
            tracing::warn!("connect to the proxy at {} failed: {error}", sockets::shown(address));
            Obstacle::Retry
        })
    }

    async fn through_http(
        &mut self,
        options: &Options,
        proxy: &HttpProxy,
        address: SocketAddr,
        signals: &mut Signals,
    ) -> Result<Result<Way, Obstacle>, Fatal> {
        let limit = options.connect_timeout;
        let mut dialogue = Dialogue::new(proxy, &options.remote.host, options.remote.port);
        // A stale nonce may be renewed; then it is enough.
        for _ in 0..4 {
            let credentials = if dialogue.wants_credentials() {
                match self.proxy_credentials("HTTP Proxy", proxy.credentials.as_ref(), signals).await? {
                    Ok(credentials) => Some(credentials),
                    Err(end) => return Ok(Err(end.into())),
                }
            } else {
                None
            };
            let mut stream = match self.to_proxy(address, limit, signals).await {
                Ok(stream) => stream,
                Err(obstacle) => return Ok(Err(obstacle)),
            };
            let cnonce = format!("{:016x}", random_u64());
            let exchange =
                proxy::http_exchange(&mut stream, &mut dialogue, credentials.as_ref(), &cnonce, limit);
            let step = tokio::select! {
                step = exchange => step,
                signal = next_but_usr2(signals) => return Ok(Err(End::from_signal(signal).into())),
            };
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Open) => return Ok(self.opened(stream, address)),
                Err(error) => return Ok(Err(self.refused_by_proxy("HTTP Proxy", error))),
            }
        }
        let error = ProxyError::Refused("the HTTP proxy asks for a password again and again".to_owned());
        Ok(Err(self.refused_by_proxy("HTTP Proxy", error)))
    }

    async fn through_socks(
        &mut self,
        options: &Options,
        proxy: &SocksProxy,
        first: SocketAddr,
        signals: &mut Signals,
    ) -> Result<Result<Way, Obstacle>, Fatal> {
        const KIND: &str = "SOCKS Proxy";
        let limit = options.connect_timeout;
        let tcp = options.remote.protocol.is_tcp();
        let address = if tcp {
            first
        } else if let Some(known) = self.proxies.get(&proxy.host) {
            SocketAddr::new(known.ip(), proxy.port)
        } else {
            match sockets::resolve(&proxy.host, proxy.port, Family::Any).await {
                Ok(found) => found.first().copied().unwrap_or(first),
                Err(error) => {
                    tracing::warn!("RESOLVE: Cannot resolve the proxy {}: {error}", proxy.host);
                    return Ok(Err(Obstacle::Retry));
                }
            }
        };
        let credentials = match &proxy.credentials {
            None => None,
            Some(material) => match self.proxy_credentials(KIND, Some(material), signals).await? {
                Ok(credentials) => Some(credentials),
                Err(end) => return Ok(Err(end.into())),
            },
        };
        let mut stream = match self.to_proxy(address, limit, signals).await {
            Ok(stream) => stream,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        if tcp {
            let remote = &options.remote;
            let target = remote.host.parse().map_or_else(
                |_| Target::Name(remote.host.clone(), remote.port),
                |ip| Target::Address(SocketAddr::new(ip, remote.port)),
            );
            let connect = proxy::socks_connect(&mut stream, &target, credentials.as_ref(), limit);
            let result = tokio::select! {
                result = connect => result,
                signal = next_but_usr2(signals) => return Ok(Err(End::from_signal(signal).into())),
            };
            return Ok(match result {
                Ok(()) => self.opened(stream, address),
                Err(error) => Err(self.refused_by_proxy(KIND, error)),
            });
        }
        let associate = proxy::socks_associate(&mut stream, credentials.as_ref(), limit);
        let result = tokio::select! {
            result = associate => result,
            signal = next_but_usr2(signals) => return Ok(Err(End::from_signal(signal).into())),
        };
        let relay_at = match result {
            Ok(relay_at) => relay_at,
            Err(error) => return Ok(Err(self.refused_by_proxy(KIND, error))),
        };
        let (relay, socket) = Relay::start(first, relay_at, stream, &self.config.transport)
            .await
            .map_err(|error| Fatal::new("a socket for the SOCKS proxy", error))?;
        tracing::info!("datagrams go through the SOCKS proxy at {}", sockets::shown(relay_at));
        let overhead = if first.is_ipv4() { 10 } else { 22 };
        let ends = Ends { tcp, server: first, wire: relay.address, outside: relay_at, overhead };
        Ok(Ok(Way { socket, ends, relay: Some(relay) }))
    }

    /// The proxy has connected us: its stream is the server's.
    fn opened(&self, stream: tokio::net::TcpStream, address: SocketAddr) -> Result<Way, Obstacle> {
        tracing::info!("TCP connection established with {} [proxy]", sockets::shown(address));
        match sockets::tcp_accepted(stream) {
            Ok(socket) => Ok(Way { socket, ends: Ends::direct(true, address), relay: None }),
            Err(error) => {
                tracing::warn!("the connection to the proxy: {error}");
                Err(Obstacle::Retry)
            }
        }
    }

    fn refused_by_proxy(&mut self, kind: &str, error: ProxyError) -> Obstacle {
        tracing::warn!("{error}");
        if let ProxyError::Password(_) = error {
            self.proxy_login = None;
            if let Some(management) = &self.management {
                management.notice(format!(">PASSWORD:Verification Failed: '{kind}'"));
            }
        }
        Obstacle::Retry
    }

    /// Username and password for a proxy: what is known, the file, a person.
    async fn proxy_credentials(
        &mut self,
        kind: &'static str,
        material: Option<&Material>,
        signals: &mut Signals,
    ) -> Result<Result<Credentials, End>, Fatal> {
        if let Some(known) = &self.proxy_login {
            return Ok(Ok(known.clone()));
        }
        let (username, password) = match material {
            Some(material) => login::two_lines("http-proxy or socks-proxy", material)?,
            None => (None, None),
        };
        let credentials = match (username, password) {
            (Some(username), Some(password)) => Credentials { username, password },
            (username, _) => match self.management.clone().filter(Handle::asks_passwords) {
                Some(management) => tokio::select! {
                    credentials = management.ask(kind, "") => credentials,
                    signal = next_but_usr2(signals) => return Ok(Err(End::from_signal(signal))),
                },
                None => login::ask(kind, username)?,
            },
        };
        self.proxy_login = Some(credentials.clone());
        Ok(Ok(credentials))
    }
}
