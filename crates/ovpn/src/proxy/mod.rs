//! Connections through a proxy: HTTP (TCP only) and SOCKS5 (TCP and UDP).
//!
//! | file | what it is |
//! |---|---|
//! | `http`, `socks` | what is said to the proxy: pure |
//! | `relay` | datagrams to and from a SOCKS proxy |
//!
//! The data plane is the engine then; it gets a socket that is the server's stream, or the relay's.

mod http;
mod relay;
mod socks;

use std::net::SocketAddr;
use std::time::Duration;

use ovpn_control::Credentials;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) use http::{Dialogue, Step};
pub(crate) use relay::Relay;
pub(crate) use socks::Target;

/// Why there is no way through the proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    /// Username or password is wrong: ask again.
    #[error("{0}")]
    Password(String),
    /// Anything else.
    #[error("{0}")]
    Refused(String),
}

impl From<std::io::Error> for ProxyError {
    fn from(error: std::io::Error) -> Self {
        Self::Refused(match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "the proxy closed the connection".to_owned(),
            _ => error.to_string(),
        })
    }
}

/// One request to an HTTP proxy, and its answer.
///
/// # Errors
/// A sentence about what the proxy refuses, or no answer within `limit`.
pub(crate) async fn http_exchange(
    stream: &mut TcpStream,
    dialogue: &mut Dialogue<'_>,
    credentials: Option<&Credentials>,
    cnonce: &str,
    limit: Duration,
) -> Result<Step, ProxyError> {
    let request = dialogue.request(credentials, cnonce);
    let head = within(limit, async {
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        // Byte by byte: what follows the empty line is the server's.
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() >= http::MAX_HEAD {
                return Err(ProxyError::Refused("the HTTP proxy's answer has no end".to_owned()));
            }
            head.push(stream.read_u8().await?);
        }
        Ok(head)
    })
    .await?;
    dialogue.response(&head)
}

/// A TCP connection through a SOCKS proxy.
///
/// # Errors
/// A sentence about what the proxy refuses, or no answer within `limit`.
pub(crate) async fn socks_connect(
    stream: &mut TcpStream,
    target: &Target,
    credentials: Option<&Credentials>,
    limit: Duration,
) -> Result<(), ProxyError> {
    within(limit, socks_request(stream, socks::Command::Connect, target, credentials)).await.map(|_| ())
}

/// A relay for datagrams at a SOCKS proxy: its address.
///
/// # Errors
/// As [`socks_connect`].
pub(crate) async fn socks_associate(
    stream: &mut TcpStream,
    credentials: Option<&Credentials>,
    limit: Duration,
) -> Result<SocketAddr, ProxyError> {
    let proxy = stream.peer_addr()?;
    // Our own address is not known as the proxy sees it.
    let nobody = SocketAddr::new(
        if proxy.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        },
        0,
    );
    let target = Target::Address(nobody);
    let reply = within(limit, socks_request(stream, socks::Command::Associate, &target, credentials)).await?;
    let address = socks::reply_address(&reply)
        .ok_or_else(|| ProxyError::Refused("the SOCKS proxy names no address for datagrams".to_owned()))?;
    // "Here": the address that we reached it at.
    let ip = if address.ip().is_unspecified() { proxy.ip() } else { address.ip() };
    Ok(SocketAddr::new(ip, address.port()))
}

async fn socks_request(
    stream: &mut TcpStream,
    command: socks::Command,
    target: &Target,
    credentials: Option<&Credentials>,
) -> Result<Vec<u8>, ProxyError> {
    stream.write_all(&socks::greeting(credentials.is_some())).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    if socks::method(answer, credentials.is_some())?
        && let Some(credentials) = credentials
    {
        stream.write_all(&socks::login(credentials)?).await?;
        stream.read_exact(&mut answer).await?;
        socks::logged_in(answer)?;
    }
    stream.write_all(&socks::request(command, target)?).await?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let mut reply = head.to_vec();
    reply.resize(socks::reply_length(head)?, 0);
    stream.read_exact(reply.get_mut(head.len()..).unwrap_or_default()).await?;
    Ok(reply)
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, ProxyError>>,
) -> Result<T, ProxyError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(ProxyError::Refused("the proxy does not answer".to_owned())))
}
