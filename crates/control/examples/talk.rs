//! A control channel without a data plane, to try against stock OpenVPN by hand.
//!
//! ```text
//! talk client|server|p2p-client|p2p-server LOCAL REMOTE SECONDS DIR [none|auth|crypt|v2] [reneg SECONDS] [login USER PASSWORD] [epoch] [loss PERCENT]
//! ```
//!
//! `DIR` holds `ca.crt`, `server1.{crt,key}`, `client1.{crt,key}`, `ta.key`, `tc.key`, `tcv2-server.key`,
//! `tcv2-client1.key`. A server takes one client, and any login. Nothing is carried; keys are announced by name only.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead;
use ovpn_control::Random as _;
use ovpn_control::{
    Answer, Cipher, ClientParams, Credentials, DataFormat, DataKey, Endpoint, Event, Identity, InitialRate,
    Link, Now, P2pParams, P2pTls, PeerRules, Push, ServerParams, Session, SessionParams, SystemRandom,
    TlsClient, TlsCryptV2Server, TlsOptions, TlsServer, VerifyClientCert, Wrapping, certificates_from_pem,
};
use ovpn_crypto::static_key::{KeyDirection, StaticKey};
use ovpn_crypto::tls_auth::AuthDigest;
use ovpn_crypto::tls_crypt_v2::{ClientKey, ServerKey};

struct Random;

impl ovpn_control::Random for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        SystemRandom.fill(bytes);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, local, remote, seconds, dir, rest @ ..] = arguments.as_slice() else {
        return Err(
            "talk ROLE LOCAL REMOTE SECONDS DIR [wrapping] [reneg SECONDS] [login USER PASSWORD]".into()
        );
    };
    let after = |word: &str| rest.iter().position(|other| other == word).map(|place| &rest[place + 1..]);
    let is_server = role.ends_with("server");
    let dir = Path::new(dir);
    let read = |name: &str| std::fs::read_to_string(dir.join(name));
    let mut v2 = None;
    let wrapping = match rest.first().map(String::as_str) {
        Some("auth") => Wrapping::TlsAuth {
            key: StaticKey::from_text(&read("ta.key")?)?,
            direction: if is_server { KeyDirection::Normal } else { KeyDirection::Inverse },
            digest: AuthDigest::Sha256,
        },
        Some("crypt") => Wrapping::TlsCrypt(StaticKey::from_text(&read("tc.key")?)?),
        Some("v2") if is_server => {
            let key = Arc::new(ServerKey::from_pem(&read("tcv2-server.key")?)?);
            v2 = Some(TlsCryptV2Server { key, force_cookie: true, max_age_days: None });
            Wrapping::None
        }
        Some("v2") => Wrapping::TlsCryptV2(Arc::new(ClientKey::from_pem(&read("tcv2-client1.key")?)?)),
        _ => Wrapping::None,
    };
    let mut session = SessionParams::new(Link::UdpV4, wrapping);
    if let Some([seconds, ..]) = after("reneg") {
        session.timing.reneg = Some(Duration::from_secs(seconds.parse()?));
    }
    session.features.epoch = rest.iter().any(|word| word == "epoch");
    let name = if is_server { "server1" } else { "client1" };
    let identity = Identity::from_pem(
        read(&format!("{name}.crt"))?.as_bytes(),
        read(&format!("{name}.key"))?.as_bytes(),
    )?;
    let ca = certificates_from_pem(read("ca.crt")?.as_bytes())?;
    let rules = PeerRules { ca, remote_cert_tls: true, ..PeerRules::default() };
    let credentials = match after("login") {
        Some([username, password, ..]) => {
            Some(Credentials { username: username.clone(), password: password.clone() })
        }
        _ => None,
    };

    let loss: u8 = match after("loss") {
        Some([percent, ..]) => percent.parse()?,
        _ => 0,
    };
    let socket = UdpSocket::bind(local.as_str())?;
    let remote: SocketAddr = remote.parse()?;
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let options = TlsOptions::default();
    let client_tls = || TlsClient::new(Some(identity.clone()), rules.clone(), &options);
    let server_tls = || TlsServer::new(identity.clone(), rules.clone(), VerifyClientCert::Require, &options);
    match role.as_str() {
        "client" => {
            let params = Arc::new(ClientParams {
                session,
                tls: client_tls()?,
                version: "ovpn-rs talk".into(),
                peer_info: Vec::new(),
                tun_mtu_max: 1600,
                pull_filters: Vec::new(),
            });
            let session = Session::client(params, credentials, Box::new(Random), Now::system())?;
            talk(session, &socket, remote, end, loss)
        }
        "p2p-client" | "p2p-server" => {
            let tls = if is_server { P2pTls::Server(server_tls()?) } else { P2pTls::Client(client_tls()?) };
            let params = Arc::new(P2pParams {
                session,
                tls,
                peer_info: Vec::new(),
                single_session: false,
                tls_crypt_v2: v2,
            });
            let session = Session::p2p(params, credentials, true, Box::new(Random), Now::system())?;
            talk(session, &socket, remote, end, loss)
        }
        "server" => {
            let params = Arc::new(ServerParams {
                session,
                tls: server_tls()?,
                tls_crypt_v2: v2,
                force_tls_ekm: false,
                single_session: false,
                compress_migrate: false,
            });
            let mut endpoint = Endpoint::new(&params, InitialRate::default(), &[42; 32]);
            let mut packet = [0; 2048];
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            while Instant::now() < end {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                match endpoint.handle_packet(Now::system(), from, &packet[..length]) {
                    Ok(Answer::Reply(reply)) => {
                        socket.send_to(&reply, from)?;
                    }
                    Ok(Answer::Accepted(accepted)) => {
                        println!("accepted {from}");
                        let session =
                            Session::server(Arc::clone(&params), *accepted, Box::new(Random), Now::system())?;
                        return talk(session, &socket, from, end, loss);
                    }
                    Err(reason) => println!("dropped: {reason}"),
                }
            }
            Ok(())
        }
        other => Err(format!("no role {other}").into()),
    }
}

fn talk(
    mut session: Session,
    socket: &UdpSocket,
    remote: SocketAddr,
    end: Instant,
    loss: u8,
) -> Result<(), Box<dyn Error>> {
    let lost = || {
        let mut die = [0; 1];
        SystemRandom.fill(&mut die);
        die[0] % 100 < loss
    };
    let start = Instant::now();
    let mut packet = [0; 2048];
    let mut said_exit = false;
    let mut keys: Vec<DataKey> = Vec::new();
    loop {
        while let Some(event) = session.poll_event() {
            println!("{:8.3} {event:?}", start.elapsed().as_secs_f64());
            match event {
                Event::AuthRequest(request) => session.auth_accept(Now::system(), request.id),
                Event::PushRequest => {
                    let options =
                        ["route-gateway 10.77.0.1", "topology subnet", "ifconfig 10.77.0.2 255.255.255.0"]
                            .map(str::to_owned)
                            .to_vec();
                    let push = Push { options, peer_id: 0, tun_mtu: 1500, data_ciphers: None };
                    session.send_push_reply(Now::system(), &push)?;
                }
                Event::Failed(failure) => {
                    while let Some(packet) = session.poll_transmit() {
                        socket.send_to(&packet, remote)?;
                    }
                    return Err(failure.into());
                }
                Event::InstallKey { key, .. } => keys.push(key),
                Event::Exit => return Ok(()),
                _ => {}
            }
        }
        while let Some(packet) = session.poll_transmit() {
            if !lost() {
                socket.send_to(&packet, remote)?;
            }
        }
        let now = Instant::now();
        if now >= end {
            if !said_exit && session.exit(Now::system()).control {
                said_exit = true;
                continue;
            }
            if !said_exit || session.is_quiet() || now >= end + Duration::from_secs(2) {
                return Ok(());
            }
        }
        let due = session.poll_timeout().map_or(end, |(at, _)| at);
        let wait = due.min(now + Duration::from_millis(200)).saturating_duration_since(now);
        socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        if let Ok((length, from)) = socket.recv_from(&mut packet)
            && from == remote
            && !lost()
        {
            let packet = &packet[..length];
            // Data packets have no place to go here, but they tell whether the keys are right.
            let is_data = matches!(packet.first().map(|first| first >> 3), Some(6 | 9));
            if is_data {
                let verdict = open(&keys, packet).unwrap_or("data packet that no key opens");
                println!("{:8.3} {verdict}", start.elapsed().as_secs_f64());
            }
            if !is_data && let Err(reason) = session.handle_packet(Now::system(), packet) {
                println!("{:8.3} dropped: {reason}", start.elapsed().as_secs_f64());
            }
        }
        session.handle_timeout(Now::system());
    }
}

/// Opens a data packet with whichever key does.
fn open(keys: &[DataKey], packet: &[u8]) -> Option<&'static str> {
    const PING: [u8; 16] =
        [0x2a, 0x18, 0x7b, 0xf3, 0x64, 0x1e, 0xb4, 0xcb, 0x07, 0xed, 0x2d, 0x0a, 0x98, 0x1f, 0xc7, 0x48];
    let (aad, rest) = packet.split_at_checked(8)?;
    let (tag, ciphertext) = rest.split_at_checked(16)?;
    keys.iter().rev().filter(|key| key.format == DataFormat::V2).find_map(|key| {
        let algorithm = match key.cipher {
            Cipher::Aes128Gcm => &aead::AES_128_GCM,
            Cipher::Aes192Gcm => &aead::AES_192_GCM,
            Cipher::Aes256Gcm => &aead::AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&aad[4..]);
        nonce[4..].copy_from_slice(&key.decrypt.nonce_tail);
        let mut inner = [ciphertext, tag].concat();
        let opened = aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, &key.decrypt.cipher_key).ok()?)
            .open_in_place(aead::Nonce::assume_unique_for_key(nonce), aead::Aad::from(aad), &mut inner)
            .ok()?;
        Some(if *opened == PING { "ping received" } else { "data packet received" })
    })
}
