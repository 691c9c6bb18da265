//! `ovpn-dco-cli`: the grammar of the Windows driver's test tool, with the engine in this very process.
//!
//! ```text
//!   ovpn-dco-cli udp|tcp i4|i6 LOCAL LPORT REMOTE RPORT VPNIP MASK GATEWAY [KEYFILE [DIRECTION]]
//! ```
//!
//! One end of a point-to-point link: transport, peer, key, keepalive 5/60, then address, mask and gateway of a new
//! device (printed), MTU 1428; statistics once a second until killed. Without a key file packets go unencrypted,
//! as with the Windows tool. The gateway's route has the lowest preference, so that it takes nothing away.
//!
//! Windows' driver only ever connects TCP. So that both ends can be this tool, a remote port of 0 waits for one
//! connection on the local port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use ovpn_dco::{
    CipherAlg, DataFormat, DataPlane, Event, Framing, Keepalive, KeyConfig, KeyDirection, KeyId, KeySlot,
    Mode, PeerConfig, PeerId, PeerUpdate, Protocol, SocketSource, VpnAddrs,
};
use ovpn_engine::{Engine, EngineConfig};
use ovpn_sys::netlink::route::{LinkChange, Route, Rtnetlink};
use ovpn_sys::poll::{Interest, Poller};
use socket2::SockRef;

use super::grammar::Direction;
use super::{Failure, key_file};

/// What the command line is like, for people.
pub(super) const USAGE: &str = "\
usage: ovpn-dco-cli <udp|tcp> <i4|i6> <local-ip> <local-port> <remote-ip> <remote-port>
                    <vpn-ip> <vpn-netmask> <vpn-gw> [<key-file> [<key-direction>]]

  tcp with remote-port 0 waits for a connection on local-port";

const MTU: u32 = 1428;
const KEEPALIVE: Keepalive = Keepalive { interval: Duration::from_secs(5), timeout: Duration::from_secs(60) };
/// Metric of the gateway's route.
const LAST_RESORT: u32 = 1 << 16;
const CONNECT: Duration = Duration::from_secs(10);

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    protocol: Protocol,
    local: SocketAddr,
    remote: SocketAddr,
    vpn: Ipv4Net,
    gateway: Ipv4Addr,
    key: Option<(PathBuf, Direction)>,
}

/// Runs the tool with the arguments after its name.
pub(super) fn run(words: &[String]) -> ExitCode {
    if super::asks_for_help(words) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let link = match parse(words) {
        Ok(link) => link,
        Err(wrong) => {
            eprintln!("ovpn-dco-cli: {wrong}\n\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match carry(&link) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ovpn-dco-cli: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Link, String> {
    let [protocol, family, local, lport, remote, rport, vpn, mask, gateway, rest @ ..] = words else {
        return Err("too few arguments".into());
    };
    let protocol = match protocol.as_str() {
        "udp" => Protocol::Udp,
        "tcp" => Protocol::Tcp,
        other => return Err(format!("{other:?} is neither udp nor tcp")),
    };
    let v4 = match family.as_str() {
        "i4" => true,
        "i6" => false,
        other => return Err(format!("{other:?} is neither i4 nor i6")),
    };
    let address = |ip: &str, port: &str| -> Result<SocketAddr, String> {
        let ip: IpAddr = ip.parse().map_err(|_| format!("{ip:?} is no IP address"))?;
        if ip.is_ipv4() != v4 {
            return Err(format!("{ip} is not of family {family}"));
        }
        let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
        Ok(SocketAddr::new(ip, port))
    };
    let v4_address = |text: &str| -> Result<Ipv4Addr, String> {
        text.parse().map_err(|_| format!("{text:?} is no IPv4 address"))
    };
    let remote = address(remote, rport)?;
    if remote.port() == 0 && protocol == Protocol::Udp {
        return Err("a remote port is needed".into());
    }
    let vpn = Ipv4Net::with_netmask(v4_address(vpn)?, v4_address(mask)?)
        .map_err(|_| format!("{mask:?} is no netmask"))?;
    let key = match rest {
        [] => None,
        [file] => Some((file.into(), Direction::Normal)),
        [file, direction] => Some((
            file.into(),
            match direction.as_str() {
                "0" => Direction::Normal,
                "1" => Direction::Inverse,
                other => return Err(format!("{other:?} is no key direction (0 or 1)")),
            },
        )),
        _ => return Err("too many arguments".into()),
    };
    let local = address(local, lport)?;
    Ok(Link { protocol, local, remote, vpn, gateway: v4_address(gateway)?, key })
}

fn carry(link: &Link) -> Result<(), Failure> {
    let key = match &link.key {
        Some((file, direction)) => key_file::read(file, *direction, KeyId::FIRST, CipherAlg::AesGcm)?,
        None => no_key(),
    };
    let mut config = EngineConfig::new("tun", Mode::P2p);
    config.allow_none_cipher = link.key.is_none();
    let engine = Engine::open(config)?;
    let mut events = engine.events()?;
    let id = PeerId::new(0).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;

    let transport = engine.transport_open(SocketSource::Socket(socket(link)?))?;
    engine.peer_new(&PeerConfig {
        id,
        tx_id: None,
        transport: transport.id,
        remote: (link.protocol == Protocol::Udp).then_some(link.remote),
        local: None,
        vpn: VpnAddrs::default(),
        framing: Framing::None,
        fragment: None,
    })?;
    engine.key_new(id, KeySlot::Primary, &key)?;
    engine.peer_set(id, &PeerUpdate { keepalive: Some(KEEPALIVE), mss: Some(0), ..PeerUpdate::default() })?;
    configure(&engine, link).map_err(|error| io::Error::other(error.to_string()))?;
    println!("device {}", engine.device().name);

    let poller = Poller::new()?;
    poller.add(events.fd(), 0, Interest::Read)?;
    poller.add(transport.port.fd(), 1, Interest::Read)?;
    let mut packet = vec![0; 2048];
    let mut ready = Vec::new();
    let mut next = Instant::now();
    loop {
        poller.wait(&mut ready, Some(next.saturating_duration_since(Instant::now())))?;
        while let Some(event) = events.next()? {
            match event {
                Event::PeerDeleted { reason, .. } => {
                    println!("peer deleted: {reason:?}");
                    return Ok(());
                }
                Event::DataPlaneGone => return Ok(()),
                other => println!("{other:?}"),
            }
        }
        loop {
            match transport.port.recv(&mut packet) {
                Ok(got) => println!("control packet of {} bytes", got.len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    println!("transport ended: {error}");
                    return Ok(());
                }
            }
        }
        if Instant::now() >= next {
            next += Duration::from_secs(1);
            let stats = engine.peer_get(id)?.stats;
            println!(
                "transport sent {} received {} | tun sent {} received {} bytes",
                stats.link.tx_bytes, stats.link.rx_bytes, stats.vpn.tx_bytes, stats.vpn.rx_bytes
            );
        }
    }
}

fn socket(link: &Link) -> io::Result<OwnedFd> {
    match link.protocol {
        Protocol::Udp => Ok(UdpSocket::bind(link.local)?.into()),
        Protocol::Tcp if link.remote.port() == 0 => Ok(TcpListener::bind(link.local)?.accept()?.0.into()),
        Protocol::Tcp => {
            let end = Instant::now() + CONNECT;
            loop {
                let socket = socket2::Socket::new(
                    socket2::Domain::for_address(link.remote),
                    socket2::Type::STREAM,
                    Some(socket2::Protocol::TCP),
                )?;
                SockRef::from(&socket).set_reuse_address(true)?;
                socket.bind(&link.local.into())?;
                match socket.connect_timeout(&link.remote.into(), CONNECT) {
                    Ok(()) => return Ok(TcpStream::from(socket).into()),
                    Err(error)
                        if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < end =>
                    {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// Address, mask, gateway, MTU, up.
fn configure(engine: &Engine, link: &Link) -> ovpn_sys::netlink::Result<()> {
    let net = Rtnetlink::open()?;
    let device = engine.device().ifindex;
    net.address_add(device, IpNet::V4(link.vpn))?;
    net.link_change(device, &LinkChange { mtu: Some(MTU), up: Some(true), ..LinkChange::default() })?;
    let mut route = Route::via(IpNet::V4(Ipv4Net::default()), IpAddr::V4(link.gateway), device);
    route.metric = Some(LAST_RESORT);
    net.route_add(&route)
}

/// The key of the cipher that is none.
fn no_key() -> KeyConfig {
    let none = || KeyDirection { cipher_key: Vec::new(), nonce_tail: [0; 8] };
    KeyConfig {
        key_id: KeyId::FIRST,
        cipher: CipherAlg::None,
        format: DataFormat::V2,
        key_len: 0,
        encrypt: none(),
        decrypt: none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Link, String> {
        parse(&text.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_documented_line() {
        let link =
            line("udp i4 10.0.0.1 1194 10.0.0.2 1195 10.8.0.50 255.255.255.0 10.8.0.1 data64.key 1").unwrap();
        assert_eq!(link.protocol, Protocol::Udp);
        assert_eq!(link.local, "10.0.0.1:1194".parse().unwrap());
        assert_eq!(link.remote, "10.0.0.2:1195".parse().unwrap());
        assert_eq!(link.vpn.to_string(), "10.8.0.50/24");
        assert_eq!(link.gateway.to_string(), "10.8.0.1");
        assert_eq!(link.key, Some(("data64.key".into(), Direction::Inverse)));
        assert_eq!(line("tcp i6 ::1 0 ::1 1 10.8.0.50 255.255.255.0 10.8.0.1").unwrap().key, None);
    }

    #[test]
    fn wrong_lines() {
        for text in [
            "",
            "udp i4 10.0.0.1 1194 10.0.0.2 1195 10.8.0.50 255.255.255.0",
            "sctp i4 10.0.0.1 1194 10.0.0.2 1195 10.8.0.50 255.255.255.0 10.8.0.1",
            "udp i6 10.0.0.1 1194 10.0.0.2 1195 10.8.0.50 255.255.255.0 10.8.0.1",
            "udp i4 10.0.0.1 1194 10.0.0.2 0 10.8.0.50 255.255.255.0 10.8.0.1",
            "udp i4 10.0.0.1 1194 10.0.0.2 1195 10.8.0.50 255.0.255.0 10.8.0.1",
            "udp i4 10.0.0.1 1194 10.0.0.2 1195 10.8.0.50 255.255.255.0 10.8.0.1 k 2",
        ] {
            assert!(line(text).is_err(), "{text}");
        }
    }
}
