//! A small OpenVPN client: the control plane decides, the engine moves the packets, this file joins them.
//!
//! ```text
//! sudo client anna.ovpn          a profile that `ovpn profile add` made: UDP, certificate, tls-crypt-v2
//! ```
//!
//! What it leaves out is what `ovpn client` is for: routes, DNS, reconnecting, scripts.

use std::net::{ToSocketAddrs as _, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_config::model::{Ifconfig, Material};
use ovpn_control::{
    ClientParams, DataKey, DataKeyDirection, Event, Identity, Link, Now, PeerRules, Session, SessionParams,
    SystemRandom, TlsClient, TlsOptions, Wrapping, certificates_from_pem,
};
use ovpn_crypto::tls_crypt_v2::ClientKey;
use ovpn_dco as dco;
use ovpn_dco::DataPlane as _;
use ovpn_engine::{Engine, EngineConfig};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let file = std::env::args().nth(1).ok_or("usage: client PROFILE")?;
    let config = ovpn_config::load_text(&file, &std::fs::read(&file)?, &ovpn_config::NoFiles).config;
    let entry = config.connections.first().ok_or("the profile has no `remote`")?;
    let mut servers = (entry.remote.host.as_str(), entry.remote.port).to_socket_addrs()?;
    let server = servers.find(|address| address.is_ipv4()).ok_or("the server has no IPv4 address")?;

    // The control plane: who we are, whom we trust, how the handshake is hidden.
    let identity = Identity::from_pem(inline(&config.tls.cert)?, inline(&config.tls.key)?)?;
    let ca = certificates_from_pem(inline(&config.tls.ca)?)?;
    let rules = PeerRules { ca, remote_cert_tls: true, ..PeerRules::default() };
    let key = ClientKey::from_pem(std::str::from_utf8(inline(&entry.tls_crypt_v2)?)?)?;
    let mut params = SessionParams::new(Link::UdpV4, Wrapping::TlsCryptV2(Arc::new(key)));

    // The data plane: a TUN device, and a socket that both planes share.
    let engine = Engine::open(EngineConfig::new("tun", dco::Mode::P2p))?;
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    let transport = engine.transport_open(dco::SocketSource::Socket(socket.into()))?;
    params.features.epoch = engine.capabilities().epoch;
    let params = ClientParams {
        session: params,
        tls: TlsClient::new(Some(identity), rules, &TlsOptions::default())?,
        version: "2.7.0".into(),
        peer_info: Vec::new(),
        tun_mtu_max: 1600,
        pull_filters: Vec::new(),
    };

    let mut session = Session::client(Arc::new(params), None, Box::new(SystemRandom), Now::system())?;
    let mut packet = [0; 2048];
    let mut id = dco::PeerId::MAX;
    loop {
        while let Some(event) = session.poll_event() {
            match event {
                Event::PushReply(reply) => {
                    id =
                        reply.negotiated.peer_id.and_then(dco::PeerId::new).ok_or("the server gave no id")?;
                    engine.peer_new(&dco::PeerConfig {
                        id,
                        tx_id: None,
                        transport: transport.id,
                        remote: Some(server),
                        local: None,
                        vpn: dco::VpnAddrs::default(),
                        framing: dco::Framing::None,
                    })?;
                    configure(
                        &engine.device().name,
                        config.apply_pushed(&reply.options).config.device.ifconfig,
                    )?;
                }
                Event::InstallKey { slot, key } => engine.key_new(id, place(slot), &key_config(&key)?)?,
                Event::UseKey { .. } => engine.key_swap(id)?,
                Event::DropKey { slot } => engine.key_del(id, place(slot))?,
                Event::Established(with) => println!("connected to {server}, {}", with.cipher.name()),
                Event::Failed(failure) => return Err(failure.into()),
                Event::Exit | Event::Restart(_) | Event::Halt(_) => return Ok(()),
                _ => {}
            }
        }
        while let Some(packet) = session.poll_transmit() {
            transport.port.send(&packet, server, None)?;
        }
        let due = session.poll_timeout().map_or(Duration::from_secs(1), |(at, _)| at - Instant::now());
        ovpn_sys::poll::wait_any(&[transport.port.fd()], Some(due))?;
        while let Ok(received) = transport.port.recv(&mut packet) {
            // A packet that is not for us is dropped, with a reason that nobody here wants to know.
            let _ = session.handle_packet(Now::system(), packet.get(..received.len).unwrap_or_default());
        }
        session.handle_timeout(Now::system());
    }
}

fn inline(material: &Option<Material>) -> Result<&[u8]> {
    match material {
        Some(Material::Inline(text)) => Ok(text.as_bytes()),
        _ => Err("the profile must hold ca, cert, key and tls-crypt-v2 inline".into()),
    }
}

fn configure(device: &str, ifconfig: Option<Ifconfig>) -> Result<()> {
    let Some(Ifconfig::Subnet { local, prefix }) = ifconfig else {
        return Err("no address was pushed".into());
    };
    for words in [format!("address add {local}/{prefix} dev {device}"), format!("link set {device} up")] {
        if !Command::new("ip").args(words.split(' ')).status()?.success() {
            return Err(format!("ip {words} failed").into());
        }
    }
    Ok(())
}

fn place(slot: ovpn_control::KeySlot) -> dco::KeySlot {
    match slot {
        ovpn_control::KeySlot::Primary => dco::KeySlot::Primary,
        ovpn_control::KeySlot::Secondary => dco::KeySlot::Secondary,
    }
}

/// The same key in the data plane's words.
fn key_config(key: &DataKey) -> Result<dco::KeyConfig> {
    let direction = |one: &DataKeyDirection| dco::KeyDirection {
        cipher_key: one.cipher_key.clone(),
        nonce_tail: one.nonce_tail,
    };
    Ok(dco::KeyConfig {
        key_id: dco::KeyId::new(key.key_id.get()).ok_or("a key id out of range")?,
        cipher: match key.cipher {
            ovpn_control::Cipher::ChaCha20Poly1305 => dco::CipherAlg::ChaCha20Poly1305,
            _ => dco::CipherAlg::AesGcm,
        },
        format: match key.format {
            ovpn_control::DataFormat::V1 => dco::DataFormat::V1,
            ovpn_control::DataFormat::V2 => dco::DataFormat::V2,
            ovpn_control::DataFormat::Epoch => dco::DataFormat::Epoch,
        },
        key_len: u8::try_from(key.cipher.key_len())?,
        encrypt: direction(&key.encrypt),
        decrypt: direction(&key.decrypt),
    })
}
