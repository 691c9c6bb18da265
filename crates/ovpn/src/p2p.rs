//! Point-to-point mode: two equal peers, each configured by its own file; nothing is pushed.
//!
//! ```text
//!   device up at the start ─▶ socket ─▶ Link ─▶ lost ─▶ again (the device stays with persist-tun)
//! ```
//!
//! A side with `remote` calls; a `tls-server` without one waits and keeps to the first peer that proves itself.

mod link;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_config::Config;
use ovpn_config::model::{self, Ifconfig, Material, Role, TlsRole};
use ovpn_control::{Now, P2pParams, P2pTls, Session, SystemRandom, TlsCryptV2Server, Wrapping};
use ovpn_dco::{Mode, SocketSource};
use ovpn_join::params;

use crate::client::login::{self, Login};
use crate::client::remotes::{Advance, Remotes, Retry};
use crate::counters::Counters;
use crate::environment::Environment;
use crate::identity::{self, Keyring};
use crate::key_budget::KeyBudget;
use crate::leak_guard::LeakGuard;
use crate::management::{Handle, TunnelState};
use crate::materials::CrlFile;
use crate::outcome::{Fatal, Outcome};
use crate::plane::Plane;
use crate::port::Port;
use crate::setup::Setup;
use crate::signal::{Kind, Signal, Signals};
use crate::status::board;
use crate::{materials, sd_notify, sockets};

/// Largest IP packet that carries a control packet, bytes, where no entry says otherwise.
const MAX_CONTROL_PACKET: u16 = 1250;

/// Runs the peer until a signal ends or reloads it.
///
/// # Errors
/// What cannot be repaired by trying again.
pub(crate) async fn run(setup: &Setup, signals: &mut Signals) -> Result<Outcome, Fatal> {
    sd_notify::ready();
    let config = &setup.config;
    let make = |keyring: &Keyring| match config.role {
        Role::Peer(TlsRole::Server) => {
            materials::tls_server(config, keyring).map(|(tls, crl)| (P2pTls::Server(tls), crl))
        }
        _ => materials::tls_client(config, keyring).map(|(tls, crl)| (P2pTls::Client(tls), crl)),
    };
    let management = setup.management.as_ref();
    link::tell(management, TunnelState::Connecting, "", None);
    if let Some(management) = management.filter(|management| management.holds()) {
        tokio::select! {
            () = management.hold(Duration::ZERO) => {}
            signal = signals.next() => if let Some(outcome) = Outcome::of(&signal) {
                tracing::info!("{signal}");
                return Ok(outcome);
            },
        }
    }
    let tls = match identity::unlocked(config, management, signals, make).await? {
        Ok(tls) => tls,
        Err(outcome) => return Ok(outcome),
    };
    let mut peer = Peer::new(setup, tls)?;
    if config.routing.block_leaks && config.connections.is_empty() {
        return Err(Fatal("block-leaks needs to know the peer's address: give `remote`".to_owned()));
    }
    peer.guard = LeakGuard::raise(config.routing.block_leaks)?;
    let result = peer.run(signals).await;
    if let Some(plane) = peer.plane.take() {
        let word = peer.last_signal.as_ref().map_or_else(|| "exit".to_owned(), Signal::word);
        plane.close(&peer.config, "init", &word).await;
    }
    if let Some(guard) = peer.guard.take() {
        guard.ended(&result);
    }
    result
}

struct Peer {
    config: Config,
    environment: Environment,
    management: Option<Handle>,
    login: Login,
    tls: P2pTls,
    crl: Option<CrlFile>,
    wrappings: Vec<Wrapping>,
    /// A TLS server's key for those of its peers.
    tls_crypt_v2: Option<TlsCryptV2Server>,
    remotes: Remotes,
    plane: Option<Plane>,
    /// `block-leaks`.
    guard: Option<LeakGuard>,
    /// What each entry's name resolved to; used again where nothing may be asked outside of the tunnel.
    addresses: HashMap<usize, SocketAddr>,
    locals: sockets::LocalAddresses,
    /// What the kernel's driver refused, which made the engine take over.
    refusal: Option<String>,
    last_signal: Option<Signal>,
}

impl Peer {
    fn new(setup: &Setup, (tls, crl): (P2pTls, Option<CrlFile>)) -> Result<Self, Fatal> {
        let config = setup.config.clone();
        if let Some(command) = &config.tls.tls_crypt_v2_verify {
            return Err(Fatal(format!(
                "--tls-crypt-v2-verify {}: only a server runs it; use `mode server` with `server NETWORK MASK`",
                command.argv.first().map_or("", String::as_str)
            )));
        }
        let is_server = config.role == Role::Peer(TlsRole::Server);
        let tls_crypt_v2 = if is_server { materials::tls_crypt_v2_server(&config.tls)? } else { None };
        let v2 = |material: &Option<Material>| material.clone().filter(|_| !is_server);
        let tls_options = &config.tls;
        let wrappings = if config.connections.is_empty() {
            let (auth, crypt) = (tls_options.tls_auth.as_ref(), tls_options.tls_crypt.as_ref());
            vec![materials::wrapping(tls_options, auth, crypt, v2(&tls_options.tls_crypt_v2).as_ref())?]
        } else {
            let mut wrappings = Vec::new();
            for entry in &config.connections {
                let (auth, crypt) = (entry.tls_auth.as_ref(), entry.tls_crypt.as_ref());
                wrappings.push(materials::wrapping(
                    tls_options,
                    auth,
                    crypt,
                    v2(&entry.tls_crypt_v2).as_ref(),
                )?);
            }
            wrappings
        };
        Ok(Self {
            environment: setup.environment(),
            management: setup.management.clone(),
            login: Login::default(),
            tls,
            crl,
            remotes: Remotes::new(config.connections.len()),
            wrappings,
            tls_crypt_v2,
            plane: None,
            guard: None,
            addresses: HashMap::new(),
            locals: sockets::LocalAddresses::default(),
            refusal: None,
            last_signal: None,
            config,
        })
    }

    async fn run(&mut self, signals: &mut Signals) -> Result<Outcome, Fatal> {
        let retry = Retry {
            pause: self.config.connections.first().map_or(Duration::from_secs(1), |entry| entry.retry_pause),
            longest: Duration::from_secs(300),
            rounds: self.config.transport.connect_retry_max,
        };
        loop {
            if self.remotes.exhausted(&retry) {
                return Err(Fatal(
                    "All connections have been connect-retry-max times unsuccessful, exiting".to_owned(),
                ));
            }
            self.remotes.attempt();
            if self.plane.is_none() {
                let mut plane = Plane::open(&self.config, Mode::P2p, self.refusal.as_deref())?;
                if let Some(guard) = &mut self.guard {
                    guard.device(&plane.data_plane().device().name)?;
                }
                // `up-delay`: not before the peer has proved itself.
                let up = if self.config.scripts.up_delay {
                    Ok(())
                } else {
                    plane.bring_up(&self.config, &[], &self.environment, None).await
                };
                self.plane = Some(plane);
                up?;
            }
            board().handshake_started();
            if let Some(crl) = &mut self.crl {
                crl.refresh();
            }
            let (signal, completed) = self.attempt(signals).await?;
            board().peers(Vec::new);
            if !completed {
                board().handshake_failed();
            }
            let signal = signal.remapped(self.config.process.remap_usr1.map(|to| match to {
                model::RemapUsr1::Hup => Kind::Hup,
                model::RemapUsr1::Term => Kind::Term,
            }));
            tracing::info!("{signal}");
            self.last_signal = Some(signal.clone());
            let word =
                signal.soft.as_ref().map_or_else(|| signal.kind.name().to_owned(), ToString::to_string);
            if let Some(outcome) = Outcome::of(&signal) {
                link::tell(self.management.as_ref(), TunnelState::Exiting, &word, None);
                return Ok(outcome);
            }
            link::tell(self.management.as_ref(), TunnelState::Reconnecting, &word, None);
            let refusal = self.plane.as_ref().and_then(Plane::refusal);
            if (!self.config.device.persist || refusal.is_some())
                && let Some(plane) = self.plane.take()
            {
                self.refusal = refusal.or(self.refusal.take());
                plane.close(&self.config, "restart", &signal.word()).await;
            }
            if completed {
                self.remotes.completed();
            } else {
                self.remotes.advance(Advance::Address, 1);
            }
            let pause = self.remotes.pause(&retry, Duration::ZERO);
            tracing::info!("Restart pause, {} second(s)", pause.as_secs());
            let pause = async {
                match self.management.as_ref().filter(|management| management.holds()) {
                    Some(management) => management.hold(pause).await,
                    None => tokio::time::sleep(pause).await,
                }
            };
            tokio::select! {
                () = pause => {}
                signal = signals.next() => {
                    tracing::info!("{signal}");
                    if let Some(outcome) = Outcome::of(&signal) {
                        self.last_signal = Some(signal);
                        return Ok(outcome);
                    }
                }
            }
        }
    }

    /// One connection, to its end.
    async fn attempt(&mut self, signals: &mut Signals) -> Result<(Signal, bool), Fatal> {
        let obtained = login::obtain(&mut self.login, &self.config, self.management.as_ref(), signals);
        let credentials = match obtained.await? {
            Ok(credentials) => credentials,
            Err(signal) => return Ok((signal, false)),
        };
        link::tell(self.management.as_ref(), TunnelState::Wait, "", None);
        let (index, _) = self.remotes.current();
        let entry = self.config.connections.get(index);
        let init = |error: &dyn std::fmt::Display| {
            tracing::warn!("{error}");
            Ok((Signal::soft(Kind::Usr1, "init_instance"), false))
        };
        let known = self.addresses.get(&index).copied().filter(|_| {
            self.guard.is_some()
                || self.config.transport.persist_remote_ip
                || self.config.transport.preresolve
        });
        let remote = match (entry, known) {
            (None, _) => None,
            (_, Some(known)) => Some(known),
            (Some(entry), None) => {
                match sockets::resolve(&entry.remote.host, entry.remote.port, entry.remote.family).await {
                    Ok(found) => found.first().copied(),
                    Err(error) => {
                        return init(&format!(
                            "RESOLVE: Cannot resolve host address: {}: {error}",
                            entry.remote.host
                        ));
                    }
                }
            }
        };
        if let Some(remote) = remote {
            self.addresses.insert(index, remote);
            if let Some(guard) = &mut self.guard {
                guard.pass(remote.ip())?;
                if self.addresses.len() == self.config.connections.len() {
                    guard.end_dns()?;
                }
            }
        }
        let local = self.config.locals.first().cloned().unwrap_or_default();
        let protocol = entry.map_or(local.protocol, |entry| entry.remote.protocol);
        let tcp = protocol.is_tcp();
        let host = entry.and_then(|entry| entry.local_host.clone()).or(local.host.clone());
        let port = match entry {
            Some(entry) => entry.local_port.unwrap_or(0),
            None => local.port,
        };
        let family = remote.unwrap_or(match local.family {
            model::Family::V6 => SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0),
            _ => SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0),
        });
        let keep = self.config.transport.persist_local_ip;
        let bind = self
            .locals
            .find(host.as_deref(), port, family, keep)
            .await
            .map_err(|error| Fatal::new("the address of --local cannot be used", error))?;
        let options = &self.config.transport;
        let (socket, remote) = if protocol == model::Protocol::TcpServer {
            let listener = sockets::tcp_listen(bind, false, options).map_err(|error| {
                let hint = sockets::bind_hint(&error);
                Fatal(format!("Socket bind failed on local address {bind}: {error}{hint}"))
            })?;
            tracing::info!("Listening for incoming TCP connection on {}", sockets::shown(bind));
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => (sockets::tcp_accepted(stream), Some(from)),
                    Err(error) => return init(&error),
                },
                signal = signals.next() => return Ok((signal, false)),
            }
        } else if let (true, Some(remote)) = (tcp, remote) {
            let limit = entry.map_or(Duration::from_secs(120), |entry| entry.connect_timeout);
            tokio::select! {
                socket = sockets::tcp_connect(remote, None, options, limit) => (socket, Some(remote)),
                signal = signals.next() => return Ok((signal, false)),
            }
        } else {
            (sockets::udp_to(family, Some(bind), options), remote)
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => return init(&format!("{}: {error}", sockets::protocol_word(family, tcp))),
        };
        let word = sockets::protocol_word(family, tcp);
        tracing::info!("{word} link local (bound): {}", sockets::shown(bind));
        tracing::info!(
            "{word} link remote: {}",
            remote.map_or_else(|| "[AF_UNSPEC]".to_owned(), sockets::shown)
        );
        let Some(plane) = &mut self.plane else { return Err(Fatal("the data plane is gone".to_owned())) };
        let transport = plane
            .data_plane()
            .transport_open(SocketSource::Socket(socket))
            .map_err(|error| Fatal::new("the data plane does not take the socket", error))?;
        let mut params = params::session(
            &self.config,
            params::link(family, tcp),
            self.wrappings.get(index).cloned().unwrap_or(Wrapping::None),
            entry.map_or(MAX_CONTROL_PACKET, |entry| entry.max_packet_size),
            plane.data_plane().capabilities(),
        );
        let fragment = entry.map_or(self.config.data.fragment, |entry| entry.fragment);
        params.options.fragment = fragment.is_some();
        if let Some(Ifconfig::PointToPoint { local, remote }) = self.config.device.ifconfig {
            params.options.ifconfig = Some((remote.to_string(), local.to_string()));
        }
        let p2p = P2pParams {
            session: params,
            tls: self.tls.clone(),
            // As stock: two peers have nothing to tell each other about their hosts.
            peer_info: Vec::new(),
            single_session: false,
            tls_crypt_v2: self.tls_crypt_v2.clone(),
        };
        // Over TCP the TLS client begins. Where both do, and their resets cross, stock clients number two messages 1
        // and the handshake ends there.
        let initiate = remote.is_some() && !(tcp && matches!(self.tls, P2pTls::Server(_)));
        let session =
            Session::p2p(Arc::new(p2p), credentials, initiate, Box::new(SystemRandom), Now::system())
                .map_err(|failure| Fatal(failure.to_string()))?;
        let port = Port::new(transport.port).map_err(|error| Fatal::new("the control port", error))?;
        let float = entry.is_some_and(|entry| entry.float);
        let mssfix = entry.map_or(self.config.data.mssfix, |entry| entry.mssfix);
        let link = link::Link {
            config: &self.config,
            environment: &self.environment,
            management: self.management.as_ref(),
            plane,
            session,
            port,
            transport: transport.id,
            tcp,
            remote,
            float,
            mssfix,
            fragment,
            peer: None,
            common_name: String::new(),
            completed: false,
            leaving: None,
            counters: Counters::default(),
            budget: KeyBudget::new(&self.config.timers, Instant::now()),
            started: Instant::now(),
            routes_at: None,
        };
        link.run(signals).await
    }
}
