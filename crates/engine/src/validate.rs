//! What a peer may look like: the checks of PEER_NEW and PEER_SET, in the kernel driver's order.

use std::net::{IpAddr, SocketAddr};

use ovpn_dco::{Error, ErrorKind, Mode, PeerConfig, PeerUpdate, Protocol, Result, VpnAddrs};

use crate::keepalive;
use crate::peer::{Endpoint, canonical};

/// Checks a new peer by itself; `transport` is the protocol of its transport, `None` where there is no such transport.
/// Returns where it is reached.
///
/// # Errors
/// Rows of the kernel's PEER_NEW table up to the attaching of the socket.
pub(crate) fn peer_new(mode: Mode, peer: &PeerConfig, transport: Option<Protocol>) -> Result<Endpoint> {
    let endpoint = endpoint(peer.remote, peer.local)?;
    match mode {
        Mode::P2p => forbid_vpn(&peer.vpn)?,
        Mode::MultiPeer if peer.vpn.is_empty() => {
            return Err(invalid("a peer of a multi-peer device needs a VPN address"));
        }
        Mode::MultiPeer => peer.vpn.check()?,
    }
    if peer.fragment.is_some_and(|largest| usize::from(largest) < ovpn_wire::fragment::UNIT) {
        return Err(Error::new(ErrorKind::OutOfRange, "pieces of packets have at least 4 bytes"));
    }
    match (transport, endpoint.remote) {
        (None, _) => Err(Error::new(ErrorKind::NotASocket, "no such transport")),
        (Some(Protocol::Udp), None) => Err(invalid("a peer over UDP needs a remote address")),
        (Some(Protocol::Tcp), Some(_)) => Err(invalid("a peer over TCP takes no remote address")),
        (Some(_), _) => Ok(endpoint),
    }
}

/// What PEER_SET makes of a peer.
pub(crate) struct Changed {
    /// Its new endpoint, where it moves.
    pub(crate) endpoint: Option<Endpoint>,
    /// All of its VPN addresses afterwards, where they change.
    pub(crate) vpn: Option<VpnAddrs>,
}

/// Checks a change to a peer by itself.
///
/// # Errors
/// Rows of the kernel's PEER_SET table, collisions apart.
pub(crate) fn peer_set(mode: Mode, update: &PeerUpdate, is_tcp: bool, vpn: &VpnAddrs) -> Result<Changed> {
    let endpoint = endpoint(update.remote, update.local)?;
    if is_tcp && endpoint.remote.is_some() {
        return Err(invalid("a peer over TCP takes no remote address"));
    }
    if mode == Mode::P2p {
        forbid_vpn(&update.vpn)?;
    }
    if let Some(keepalive) = update.keepalive {
        keepalive::check(keepalive)?;
    }
    let vpn = if update.vpn.is_empty() { None } else { Some(changed_vpn(&update.vpn, vpn)?) };
    Ok(Changed { endpoint: endpoint.remote.is_some().then_some(endpoint), vpn })
}

/// The addresses after a change: an unspecified one clears its family.
fn changed_vpn(update: &VpnAddrs, present: &VpnAddrs) -> Result<VpnAddrs> {
    let v4 = update.v4.map_or(present.v4, |v4| (!v4.is_unspecified()).then_some(v4));
    let v6 = update.v6.map_or(present.v6, |v6| (!v6.is_unspecified()).then_some(v6));
    let changed = VpnAddrs { v4, v6 };
    changed.check()?;
    if changed.is_empty() {
        return Err(invalid("the last VPN address of a peer cannot be cleared"));
    }
    Ok(changed)
}

fn forbid_vpn(vpn: &VpnAddrs) -> Result<()> {
    if vpn.is_empty() {
        Ok(())
    } else {
        Err(invalid("a peer of a point-to-point device takes no VPN address"))
    }
}

/// Remote and local address in canonical form.
fn endpoint(remote: Option<SocketAddr>, local: Option<IpAddr>) -> Result<Endpoint> {
    let remote = remote.map(canonical);
    let local = local.map(|local| local.to_canonical());
    match (remote, local) {
        (None, Some(_)) => return Err(invalid("a local address needs a remote address")),
        (Some(remote), _) if remote.port() == 0 => return Err(invalid("the remote address has no port")),
        (Some(remote), Some(local)) if remote.is_ipv4() != local.is_ipv4() => {
            return Err(invalid("local and remote address are of different families"));
        }
        _ => {}
    }
    Ok(Endpoint { remote, local })
}

fn invalid(detail: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, detail)
}
