//! How long a handshake with certificates at both sides and tls-crypt keeps each side's control plane busy: one thread,
//! no network, up to both sides' data keys.
//!
//! `cargo bench -p ovpn-control --bench handshake`
#![allow(missing_docs, reason = "a benchmark")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ovpn_control::{
    Answer, ClientParams, Endpoint, Event, Identity, InitialRate, Link, Now, PeerRules, Push, ServerParams,
    Session, SessionParams, SystemRandom, TlsClient, TlsOptions, TlsServer, VerifyClientCert, Wrapping,
};
use ovpn_crypto::secret::Secret;
use ovpn_crypto::static_key::StaticKey;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

struct Random;

impl ovpn_control::Random for Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        SystemRandom.fill(bytes);
    }
}

fn issue(
    ca: &CertifiedIssuer<'static, KeyPair>,
    purpose: ExtendedKeyUsagePurpose,
) -> Result<Identity, Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, ca)?;
    Ok(Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?)
}

/// What each side goes by.
fn params() -> Result<(Arc<ClientParams>, Arc<ServerParams>), Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let rules = PeerRules { ca: vec![ca.der().to_vec()], remote_cert_tls: true, ..PeerRules::default() };
    let session =
        || SessionParams::new(Link::UdpV4, Wrapping::TlsCrypt(StaticKey::new(Secret::new([7; 256]))));
    let options = TlsOptions::default();
    let client = Arc::new(ClientParams {
        session: session(),
        tls: TlsClient::new(Some(issue(&ca, ExtendedKeyUsagePurpose::ClientAuth)?), rules.clone(), &options)?,
        version: "handshakes".into(),
        peer_info: Vec::new(),
        tun_mtu_max: 1600,
        pull_filters: Vec::new(),
    });
    let server = Arc::new(ServerParams {
        session: session(),
        tls: TlsServer::new(
            issue(&ca, ExtendedKeyUsagePurpose::ServerAuth)?,
            rules,
            VerifyClientCert::Require,
            &options,
        )?,
        tls_crypt_v2: None,
        force_tls_ekm: false,
        single_session: false,
        compress_migrate: false,
    });
    Ok((client, server))
}

fn handshakes(c: &mut Criterion) {
    let (client, server) = params().unwrap_or_else(|error| panic!("{error}"));
    let rate = InitialRate { count: u32::MAX, ..InitialRate::default() };
    let mut endpoint = Endpoint::new(&server, rate, &[1; 32]);
    let mut group = c.benchmark_group("handshake");
    for (name, side) in [("client", 0), ("server", 1)] {
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let one = |_| match handshake(&client, &server, &mut endpoint) {
                    Ok(took) => took[side],
                    Err(error) => panic!("{error}"),
                };
                (0..times).map(one).sum()
            });
        });
    }
    group.finish();
}

/// One handshake up to both sides' data keys; how long the client and the server were busy.
fn handshake(
    client_params: &Arc<ClientParams>,
    server_params: &Arc<ServerParams>,
    endpoint: &mut Endpoint,
) -> Result<[Duration; 2], Box<dyn Error>> {
    let from = "192.0.2.2:1194".parse()?;
    let now = Now::system();
    let (mut client_time, mut server_time) = (Duration::ZERO, Duration::ZERO);
    let start = Instant::now();
    let mut client = Session::client(Arc::clone(client_params), None, Box::new(Random), now)?;
    client_time += start.elapsed();
    let mut server: Option<Session> = None;
    let (mut client_up, mut server_up) = (false, false);
    for _ in 0..100 {
        let start = Instant::now();
        let mut up: Vec<Vec<u8>> = Vec::new();
        while let Some(event) = client.poll_event() {
            client_up |= matches!(event, Event::Established(_));
        }
        while let Some(packet) = client.poll_transmit() {
            up.push(packet);
        }
        client_time += start.elapsed();

        let start = Instant::now();
        let mut down: Vec<Vec<u8>> = Vec::new();
        for packet in &up {
            match &mut server {
                Some(server) => {
                    let _ = server.handle_packet(now, packet);
                }
                None => match endpoint.handle_packet(now, from, packet) {
                    Ok(Answer::Reply(reply)) => down.push(reply),
                    Ok(Answer::Accepted(accepted)) => {
                        server = Some(Session::server(
                            Arc::clone(server_params),
                            *accepted,
                            Box::new(Random),
                            now,
                        )?);
                    }
                    Err(reason) => return Err(reason.sentence().into()),
                },
            }
        }
        if let Some(server) = &mut server {
            while let Some(event) = server.poll_event() {
                match event {
                    Event::AuthRequest(request) => server.auth_accept(now, request.id),
                    Event::PushRequest => {
                        let options = vec!["ifconfig 10.8.0.2 255.255.255.0".to_owned()];
                        let push = Push { options, peer_id: 0, tun_mtu: 1500, data_ciphers: None };
                        server.send_push_reply(now, &push)?;
                    }
                    Event::Established(_) => server_up = true,
                    Event::Failed(failure) => return Err(failure.into()),
                    _ => {}
                }
            }
            while let Some(packet) = server.poll_transmit() {
                down.push(packet);
            }
        }
        server_time += start.elapsed();

        let start = Instant::now();
        for packet in &down {
            let _ = client.handle_packet(now, packet);
        }
        client_time += start.elapsed();
        if client_up && server_up {
            return Ok([client_time, server_time]);
        }
    }
    Err("the handshake does not end".into())
}

criterion_group!(benches, handshakes);
criterion_main!(benches);
