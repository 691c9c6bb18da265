//! Outside sockets: made, bound and connected as the configuration says, then handed to the data plane.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use ovpn_config::model::{Family, MtuDiscovery, Transport};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, Socket, Type};

/// A UDP socket for reaching `remote`: of its family, bound to `local` (any address and an ephemeral port if `None`).
///
/// # Errors
/// What the system said, e.g. that the local port is in use.
pub(crate) fn udp_to(
    remote: SocketAddr,
    local: Option<SocketAddr>,
    options: &Transport,
) -> io::Result<OwnedFd> {
    let any: IpAddr =
        if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let local = local.unwrap_or(SocketAddr::new(any, 0));
    let socket = Socket::new(Domain::for_address(remote), Type::DGRAM, Some(Protocol::UDP))?;
    set_options(&socket, options)?;
    socket.bind(&local.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A UDP socket that listens on `local`; an IPv6 wildcard takes IPv4 too unless `only_v6`.
///
/// # Errors
/// What the system said.
pub(crate) fn udp_listen(local: SocketAddr, only_v6: bool, options: &Transport) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    set_options(&socket, options)?;
    socket.bind(&local.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A listening TCP socket.
///
/// # Errors
/// What the system said.
pub(crate) fn tcp_listen(
    local: SocketAddr,
    only_v6: bool,
    options: &Transport,
) -> io::Result<tokio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
    if local.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    set_options(&socket, options)?;
    socket.bind(&local.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket.into())
}

/// A TCP connection to `remote`, out of the runtime.
///
/// # Errors
/// What the system said; `TimedOut` after `limit`.
pub(crate) async fn tcp_connect(
    remote: SocketAddr,
    local: Option<SocketAddr>,
    options: &Transport,
    limit: Duration,
) -> io::Result<OwnedFd> {
    tcp_accepted(tcp_stream(remote, local, options, limit).await?)
}

/// A TCP connection to `remote`.
///
/// # Errors
/// As [`tcp_connect`].
pub(crate) async fn tcp_stream(
    remote: SocketAddr,
    local: Option<SocketAddr>,
    options: &Transport,
    limit: Duration,
) -> io::Result<tokio::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
    set_options(&socket, options)?;
    if let Some(local) = local {
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
    }
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
    tokio::time::timeout(limit, socket.connect(remote))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection within connect-timeout"))?
}

/// Takes an accepted or connected stream out of the runtime.
///
/// # Errors
/// What the system said.
pub(crate) fn tcp_accepted(stream: tokio::net::TcpStream) -> io::Result<OwnedFd> {
    stream.set_nodelay(true)?;
    Ok(stream.into_std()?.into())
}

fn set_options(socket: &Socket, options: &Transport) -> io::Result<()> {
    // Sizes are wishes: the system may grant less, and 0 means its own default.
    if let Some(bytes) = options.rcvbuf.filter(|&bytes| bytes > 0) {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = options.sndbuf.filter(|&bytes| bytes > 0) {
        socket.set_send_buffer_size(bytes as usize)?;
    }
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    if let Some(device) = &options.bind_device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(discovery) = options.mtu_discovery {
        let (v4, v6) = match discovery {
            MtuDiscovery::No => (Ipv4PathMtuDiscovery::DONT, Ipv6PathMtuDiscovery::DONT),
            MtuDiscovery::Yes => (Ipv4PathMtuDiscovery::DO, Ipv6PathMtuDiscovery::DO),
        };
        if socket.domain()? == Domain::IPV6 {
            sockopt::set_ipv6_mtu_discover(socket, v6)?;
            // For IPv4 through the same socket, where the system has IPv4.
            let _ = sockopt::set_ip_mtu_discover(socket, v4);
        } else {
            sockopt::set_ip_mtu_discover(socket, v4)?;
        }
    }
    Ok(())
}

/// The addresses of a host in the resolver's order, of the family asked for.
///
/// # Errors
/// When the name has no such address, or the resolver fails.
pub(crate) async fn resolve(host: &str, port: u16, family: Family) -> io::Result<Vec<SocketAddr>> {
    let all = tokio::net::lookup_host((host, port)).await?;
    let mut found = Vec::new();
    for address in all {
        let fits = match family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        };
        if fits && !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{host} has no address of the wanted family"),
        ));
    }
    Ok(found)
}

/// Own addresses that were found by name: `persist-local-ip` keeps to them over restarts.
#[derive(Debug, Default)]
pub(crate) struct LocalAddresses(HashMap<(String, bool), IpAddr>);

impl LocalAddresses {
    /// The address to bind for `local HOST` and `lport`, of the remote's family; with `keep` the one that was found first.
    ///
    /// # Errors
    /// As [`resolve`].
    pub(crate) async fn find(
        &mut self,
        host: Option<&str>,
        port: u16,
        remote: SocketAddr,
        keep: bool,
    ) -> io::Result<SocketAddr> {
        let name = (host.unwrap_or_default().to_owned(), remote.is_ipv4());
        if let Some(known) = self.0.get(&name).filter(|_| keep) {
            return Ok(SocketAddr::new(*known, port));
        }
        let found = local_address(host, port, remote).await?;
        self.0.insert(name, found.ip());
        Ok(found)
    }
}

async fn local_address(host: Option<&str>, port: u16, remote: SocketAddr) -> io::Result<SocketAddr> {
    match host {
        Some(host) => {
            let family = if remote.is_ipv4() { Family::V4 } else { Family::V6 };
            let found = resolve(host, port, family).await?;
            found.first().copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        }
        None if remote.is_ipv4() => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
        None => Ok(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)),
    }
}

/// The transport as stock names it in the log: `UDPv4`, `TCPv6_CLIENT`, …
pub(crate) fn protocol_word(remote: SocketAddr, tcp: bool) -> &'static str {
    match (tcp, remote.ip().to_canonical().is_ipv4()) {
        (false, true) => "UDPv4",
        (false, false) => "UDPv6",
        (true, true) => "TCPv4_CLIENT",
        (true, false) => "TCPv6_CLIENT",
    }
}

/// An address as stock logs it: `[AF_INET]192.0.2.1:1194`.
pub(crate) fn shown(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => format!("[AF_INET]{address}"),
        SocketAddr::V6(address) => format!("[AF_INET6]{}:{}", address.ip(), address.port()),
    }
}

/// What to do about an address that cannot be bound.
pub(crate) fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has this port: `ss -lunpt` shows which, --port takes another"
        }
        io::ErrorKind::AddrNotAvailable => "; this host has no such address: see `ip address`, and --local",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root (or CAP_NET_BIND_SERVICE)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn families_are_filtered() {
        let v4 = resolve("127.0.0.1", 5, Family::Any).await.unwrap();
        assert_eq!(v4, ["127.0.0.1:5".parse().unwrap()]);
        assert!(resolve("127.0.0.1", 5, Family::V6).await.is_err());
        assert_eq!(shown(v4[0]), "[AF_INET]127.0.0.1:5");
        assert_eq!(shown("[::1]:5".parse().unwrap()), "[AF_INET6]::1:5");
    }

    #[tokio::test]
    async fn an_address_that_is_kept_is_not_looked_up_again() {
        let mut locals = LocalAddresses::default();
        let remote = "192.0.2.1:5".parse().unwrap();
        let first = locals.find(Some("127.0.0.1"), 7, remote, true).await.unwrap();
        assert_eq!(first, "127.0.0.1:7".parse().unwrap());
        let name = ("127.0.0.1".to_owned(), true);
        locals.0.insert(name, "127.0.0.9".parse().unwrap());
        let kept = locals.find(Some("127.0.0.1"), 8, remote, true).await.unwrap();
        assert_eq!(kept, "127.0.0.9:8".parse().unwrap());
        assert_eq!(locals.find(Some("127.0.0.1"), 7, remote, false).await.unwrap(), first);
    }

    #[tokio::test]
    async fn tcp_connects_and_gives_up() {
        let options = Transport::default();
        let listener = tcp_listen("127.0.0.1:0".parse().unwrap(), false, &options).unwrap();
        let address = listener.local_addr().unwrap();
        let (connected, accepted) =
            tokio::join!(tcp_connect(address, None, &options, Duration::from_secs(5)), listener.accept());
        connected.unwrap();
        tcp_accepted(accepted.unwrap().0).unwrap();
        drop(listener);
        assert!(tcp_connect(address, None, &options, Duration::from_secs(5)).await.is_err());
    }

    #[test]
    fn path_mtu_discovery_is_as_asked() {
        let with = |mtu_discovery| {
            let options = Transport { mtu_discovery, ..Transport::default() };
            let v4 = udp_to("127.0.0.1:9".parse().unwrap(), None, &options).unwrap();
            let v6 = udp_listen("[::1]:0".parse().unwrap(), false, &options).unwrap();
            (sockopt::ip_mtu_discover(&v4).unwrap(), sockopt::ipv6_mtu_discover(&v6).unwrap())
        };
        assert_eq!(with(Some(MtuDiscovery::Yes)), (Ipv4PathMtuDiscovery::DO, Ipv6PathMtuDiscovery::DO));
        assert_eq!(with(Some(MtuDiscovery::No)), (Ipv4PathMtuDiscovery::DONT, Ipv6PathMtuDiscovery::DONT));
        assert_eq!(with(None), (Ipv4PathMtuDiscovery::WANT, Ipv6PathMtuDiscovery::WANT));
    }

    #[test]
    fn udp_binds_in_the_family_of_the_remote() {
        let options = Transport { rcvbuf: Some(100_000), ..Transport::default() };
        udp_to("127.0.0.1:9".parse().unwrap(), None, &options).unwrap();
        udp_listen("127.0.0.1:0".parse().unwrap(), false, &options).unwrap();
    }
}
