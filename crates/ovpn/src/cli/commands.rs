//! Carrying out a command against a data plane.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ovpn_dco::{
    CipherAlg, ControlPort, DataPlane, Error, ErrorKind, Framing, Keepalive, KeyId, KeySlot, PeerConfig,
    PeerId, PeerUpdate, SocketSource, Transport, TransportId, VpnAddrs,
};

use super::grammar::{Command, Direction, Ids};
use super::peers_file::{self, PeerRow};
use super::{Driver, Failure, key_file, report, transport};

/// How long a control packet may take.
const CONTROL_LIMIT: Duration = Duration::from_secs(20);

/// What lives on after a command: the ports of its transports. Dropping them closes the sockets.
pub(crate) type Held = Vec<Box<dyn ControlPort>>;

/// Carries out any command but `listen_mcast`. What it prints for people goes to standard error, as with the
/// kernel's tool; the line about a received control packet goes to standard output.
///
/// # Errors
/// What the data plane, a file or a socket said.
pub(crate) fn run(driver: Driver, command: &Command) -> Result<Held, Failure> {
    let plane = |iface: &str| driver.open(iface);
    match command {
        Command::NewIface { iface, mode } => driver.create(iface, *mode)?,
        Command::DelIface { iface } => driver.delete(iface)?,
        Command::Listen { iface, port, ids, peers, ipv6 } => {
            let rows = peers_file::tcp(&read(peers)?).map_err(|error| invalid(peers, &error))?;
            return listen(&*plane(iface)?, *port, *ids, &rows, *ipv6);
        }
        Command::Connect { iface, peer, tx_id, host, port, key } => {
            let remote = transport::resolve(host, *port)?;
            return connect(&*plane(iface)?, *peer, *tx_id, remote, key.as_deref());
        }
        Command::NewPeer { iface, peer, tx_id, local_port, host, port, vpn } => {
            let remote = transport::resolve(host, *port)?;
            let plane = plane(iface)?;
            let transport = open(&*plane, transport::udp(*local_port, None)?)?;
            plane.peer_new(&config(*peer, *tx_id, transport.id, Some(remote), *vpn))?;
            return Ok(vec![transport.port]);
        }
        Command::NewMultiPeer { iface, local_port, ids, peers, mark } => {
            let rows = peers_file::udp(&read(peers)?).map_err(|error| invalid(peers, &error))?;
            let plane = plane(iface)?;
            let transport = open(&*plane, transport::udp(*local_port, *mark)?)?;
            for row in &rows {
                plane.peer_new(&config(row.id, ids.tx_id(row), transport.id, row.remote, row.vpn))?;
            }
            return Ok(vec![transport.port]);
        }
        Command::SetPeer { iface, peer, interval, timeout, vpn } => {
            let seconds = |s: &u32| Duration::from_secs(u64::from(*s));
            let keepalive = Keepalive { interval: seconds(interval), timeout: seconds(timeout) };
            let update = PeerUpdate { keepalive: Some(keepalive), vpn: *vpn, ..PeerUpdate::default() };
            plane(iface)?.peer_set(*peer, &update)?;
        }
        Command::DelPeer { iface, peer } => plane(iface)?.peer_del(*peer)?,
        Command::GetPeer { iface, peer: Some(peer) } => {
            eprint!("{}", report::peer(&plane(iface)?.peer_get(*peer)?))
        }
        Command::GetPeer { iface, peer: None } => {
            for peer in plane(iface)?.peer_dump()? {
                eprint!("{}", report::peer(&peer));
            }
        }
        Command::NewKey { iface, peer, slot, key_id, cipher, direction, key } => {
            let key = key_file::read(key, *direction, *key_id, *cipher)?;
            plane(iface)?.key_new(*peer, *slot, &key)?;
        }
        Command::DelKey { iface, peer, slot } => {
            let slot = slot.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "a key slot is missing"))?;
            plane(iface)?.key_del(*peer, slot)?;
        }
        Command::GetKey { iface, peer, slot } => {
            eprint!("{}", report::key(&plane(iface)?.key_get(*peer, *slot)?))
        }
        Command::SwapKeys { iface, peer } => plane(iface)?.key_swap(*peer)?,
        Command::ListenMcast { iface, json } => super::listen::run(driver, iface.as_deref(), *json)?,
    }
    Ok(Held::new())
}

impl Command {
    /// Whether the process stays in the background afterwards, because its socket must stay open.
    pub(crate) const fn stays(&self) -> bool {
        matches!(
            self,
            Self::Listen { .. } | Self::Connect { .. } | Self::NewPeer { .. } | Self::NewMultiPeer { .. }
        )
    }
}

impl Ids {
    fn tx_id(self, row: &PeerRow) -> Option<PeerId> {
        match self {
            Self::Symmetric => None,
            Self::Asymmetric => Some(row.tx_id),
        }
    }
}

fn listen(plane: &dyn DataPlane, port: u16, ids: Ids, rows: &[PeerRow], ipv6: bool) -> Result<Held, Failure> {
    let listener = transport::tcp_listener(port, ipv6)?;
    let mut held = Held::new();
    for row in rows {
        let (stream, _) = listener.accept()?;
        let transport = open(plane, stream.into())?;
        plane.peer_new(&config(row.id, ids.tx_id(row), transport.id, None, row.vpn))?;
        let mut buffer = [0; 2048];
        let got = transport::receive(&*transport.port, &mut buffer, CONTROL_LIMIT)?;
        let first = buffer.first().copied().unwrap_or_default();
        println!(">>>> Received {} bytes of control packet 0x{first:02x} from peer {}", got.len, row.id);
        held.push(transport.port);
    }
    Ok(held)
}

fn connect(
    plane: &dyn DataPlane,
    peer: PeerId,
    tx_id: Option<PeerId>,
    remote: SocketAddr,
    key: Option<&Path>,
) -> Result<Held, Failure> {
    let transport = open(plane, transport::tcp_connection(remote)?)?;
    plane.peer_new(&config(peer, tx_id, transport.id, None, VpnAddrs::default()))?;
    transport::send(&*transport.port, &transport::TEST_PACKET, remote, CONTROL_LIMIT)?;
    if let Some(key) = key {
        let key = key_file::read(key, Direction::Inverse, KeyId::FIRST, CipherAlg::AesGcm)?;
        plane.key_new(peer, KeySlot::Primary, &key)?;
    }
    Ok(vec![transport.port])
}

fn open(plane: &dyn DataPlane, socket: std::os::fd::OwnedFd) -> Result<Transport, Error> {
    plane.transport_open(SocketSource::Socket(socket))
}

const fn config(
    id: PeerId,
    tx_id: Option<PeerId>,
    transport: TransportId,
    remote: Option<SocketAddr>,
    vpn: VpnAddrs,
) -> PeerConfig {
    PeerConfig { id, tx_id, transport, remote, local: None, vpn, framing: Framing::None, fragment: None }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::File(path.into(), error))
}

fn invalid(path: &Path, error: &peers_file::PeersFileError) -> Failure {
    Failure::Dco(Error::new(ErrorKind::InvalidArgument, format!("{}: {error}", path.display())))
}
