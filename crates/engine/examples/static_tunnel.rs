//! A point-to-point tunnel with fixed keys, to measure and to try the engine without a control plane.
//!
//! ```text
//! static_tunnel DEVICE udp|tcp-listen|tcp-connect LOCAL REMOTE SIDE CIPHER [WORKERS [MTU]]
//! static_tunnel tun0 udp 192.0.2.1:1194 192.0.2.2:1194 0 aes-256-gcm
//! ```
//!
//! SIDE is 0 at one end, 1 at the other. CIPHER is `aes-128-gcm`, `aes-256-gcm`, `chacha20-poly1305` or `none`.
//! WORKERS is `auto` or a number. The keys are no secret: never use this for anything but tests.

use std::error::Error;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use ovpn_dco::{
    CipherAlg, DataFormat, DataPlane, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig,
    PeerId, Protocol, SocketSource, VpnAddrs,
};
use ovpn_engine::{Engine, EngineConfig, Workers};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, transport, local, remote, side, cipher, more @ ..] = arguments.as_slice() else {
        return Err(
            "arguments: DEVICE udp|tcp-listen|tcp-connect LOCAL REMOTE SIDE CIPHER [WORKERS [MTU]]".into()
        );
    };
    let (local, remote): (SocketAddr, SocketAddr) = (local.parse()?, remote.parse()?);
    let mut config = EngineConfig::new(device, Mode::P2p);
    config.allow_none_cipher = cipher == "none";
    config.workers = match more.first().map_or("auto", String::as_str) {
        "auto" => Workers::Auto,
        count => Workers::Many(count.parse()?),
    };
    config.mtu = more.get(1).map(|mtu| mtu.parse()).transpose()?;
    let engine = Engine::open(config)?;
    let socket: OwnedFd = match transport.as_str() {
        "udp" => UdpSocket::bind(local)?.into(),
        "tcp-listen" => TcpListener::bind(local)?.accept()?.0.into(),
        "tcp-connect" => loop {
            match TcpStream::connect(remote) {
                Ok(stream) => break stream.into(),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        },
        other => return Err(format!("no such transport: {other}").into()),
    };
    let transport = engine.transport_open(SocketSource::Socket(socket))?;
    let id = PeerId::new(1).ok_or("peer id")?;
    engine.peer_new(&PeerConfig {
        id,
        tx_id: None,
        transport: transport.id,
        remote: (transport.protocol == Protocol::Udp).then_some(remote),
        local: None,
        vpn: VpnAddrs::default(),
        framing: Framing::None,
        fragment: None,
    })?;
    engine.key_new(id, KeySlot::Primary, &key(cipher, side == "1")?)?;
    let mut report = Duration::from_secs(10);
    loop {
        std::thread::sleep(report);
        report = Duration::from_secs(3600);
        let drops: Vec<_> = engine.drops().into_iter().filter(|(_, count)| *count > 0).collect();
        eprintln!("{} dropped: {drops:?}", engine.device().name);
    }
}

fn key(cipher: &str, reverse: bool) -> Result<KeyConfig, Box<dyn Error>> {
    let (cipher, key_len) = match cipher {
        "aes-128-gcm" => (CipherAlg::AesGcm, 16),
        "aes-256-gcm" => (CipherAlg::AesGcm, 32),
        "chacha20-poly1305" => (CipherAlg::ChaCha20Poly1305, 32),
        "none" => (CipherAlg::None, 0),
        other => return Err(format!("no such cipher: {other}").into()),
    };
    let direction =
        |byte: u8| KeyDirection { cipher_key: vec![byte; usize::from(key_len)], nonce_tail: [byte; 8] };
    let (encrypt, decrypt) = if reverse { (2, 1) } else { (1, 2) };
    Ok(KeyConfig {
        key_id: KeyId::FIRST,
        cipher,
        format: DataFormat::V2,
        key_len,
        encrypt: direction(encrypt),
        decrypt: direction(decrypt),
    })
}
