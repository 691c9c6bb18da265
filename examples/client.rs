//! An OpenVPN client in sixty lines: the control plane decides, the engine moves the packets, this file joins them.
//!
//! ```text
//! sudo client anna.ovpn          a profile that `ovpn profile add` made: UDP, certificate, tls-crypt-v2
//! ```
//!
//! What it leaves out is what `ovpn client` is for: routes, DNS, reconnecting, scripts.

use std::net::{ToSocketAddrs as _, UdpSocket};
use std::time::Instant;

use ipnet::IpNet;
use ovpn_config::model::{Ifconfig, Material};
use ovpn_control::{
    Event, Identity, Link, Now, PeerRules, Session, SystemRandom, TlsClient, TlsOptions, Wrapping,
    certificates_from_pem,
};
use ovpn_crypto::tls_crypt_v2::ClientKey;
use ovpn_dco::{DataPlane as _, Mode, PeerConfig, SocketSource};
use ovpn_engine::{Engine, EngineConfig};
use ovpn_join::{data_plane, params};
use ovpn_sys::netlink::route::{LinkChange, Rtnetlink};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let file = std::env::args().nth(1).ok_or("usage: client PROFILE")?;
    let config = ovpn_config::load_text(&file, &std::fs::read(&file)?, &ovpn_config::NoFiles).config;
    let entry = config.connections.first().ok_or("the profile has no `remote`")?;
    let mut servers = (entry.remote.host.as_str(), entry.remote.port).to_socket_addrs()?;
    let server = servers.find(|address| address.is_ipv4()).ok_or("the server has no IPv4 address")?;

    // The data plane: a TUN device, and a socket that both planes share.
    let engine = Engine::open(EngineConfig::new("tun", Mode::P2p))?;
    let transport = engine.transport_open(SocketSource::Socket(UdpSocket::bind(("0.0.0.0", 0))?.into()))?;

    // The control plane: who we are, whom we trust, how the handshake is hidden.
    let tls = &config.tls;
    let identity = Identity::from_pem(inline(&tls.cert)?.as_bytes(), inline(&tls.key)?.as_bytes())?;
    let ca = certificates_from_pem(inline(&tls.ca)?.as_bytes())?;
    let rules = PeerRules { ca, remote_cert_tls: true, ..PeerRules::default() };
    let tls = TlsClient::new(Some(identity), rules, &TlsOptions::default())?;
    let key = ClientKey::from_pem(inline(&entry.tls_crypt_v2)?)?;
    let wrapping = Wrapping::TlsCryptV2(key.into());
    let session = params::session(&config, Link::UdpV4, wrapping, 1250, engine.capabilities());
    let params = params::client(&config, session, tls, 1600, Vec::new());
    let mut session = Session::client(params.into(), None, Box::new(SystemRandom), Now::system())?;

    let (mut packet, mut peer) = ([0; 2048], None);
    loop {
        while let Some(event) = session.poll_event() {
            peer.and_then(|id| data_plane::on_key_event(&engine, id, &event)).transpose()?;
            match event {
                Event::PushReply(reply) => {
                    let id = data_plane::peer_id(&reply.negotiated);
                    let new = PeerConfig { remote: Some(server), ..PeerConfig::new(id, transport.id) };
                    engine.peer_new(&new)?;
                    peer = Some(id);
                    let pushed = config.apply_pushed(&reply.options).config.device;
                    let Some(Ifconfig::Subnet { local, prefix }) = pushed.ifconfig else {
                        return Err("no address was pushed".into());
                    };
                    let (net, device) = (Rtnetlink::open()?, engine.device().ifindex);
                    net.address_add(device, IpNet::new(local.into(), prefix)?)?;
                    net.link_change(device, &LinkChange { up: Some(true), ..Default::default() })?;
                }
                Event::Established(with) => println!("connected to {server}, {}", with.cipher.name()),
                Event::Failed(failure) => return Err(failure.into()),
                Event::Exit | Event::Restart(_) | Event::Halt(_) => return Ok(()),
                _ => {}
            }
        }
        while let Some(packet) = session.poll_transmit() {
            transport.port.send(&packet, server, None)?;
        }
        let wait = session.poll_timeout().map(|(due, _)| due.saturating_duration_since(Instant::now()));
        ovpn_sys::poll::wait_any(&[transport.port.fd()], wait)?;
        while let Ok(received) = transport.port.recv(&mut packet) {
            // A packet that is not for us is dropped, with a reason that nobody here wants to know.
            let _ = session.handle_packet(Now::system(), packet.get(..received.len).unwrap_or_default());
        }
        session.handle_timeout(Now::system());
    }
}

fn inline(material: &Option<Material>) -> Result<&str> {
    match material {
        Some(Material::Inline(text)) => Ok(text),
        _ => Err("the profile must hold ca, cert, key and tls-crypt-v2 inline".into()),
    }
}
