//! Point-to-point mode: two equal peers, each configured by its own file; nothing is pushed.
//!
//! ```text
//!   device up at the start ─▶ socket ─▶ Link ─▶ lost ─▶ again (the device stays with persist-tun)
//! ```
//!
//! A side with `remote` calls; a `tls-server` without one waits and keeps to the first peer that proves itself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_config::Config;
use ovpn_config::model::{self, Ifconfig, Material, Role, TlsRole};
use ovpn_control::{
    DataFormat, Event, FailureKind, Now, P2pParams, P2pTls, Session, SystemRandom, TlsCryptV2Server, Wrapping,
};
use ovpn_dco::{self as dco, DelReason, Mode, PeerConfig, PeerId, SocketSource, TransportId, VpnAddrs};

use crate::client::login::Login;
use crate::client::remotes::{Advance, Remotes, Retry};
use crate::data_plane::{framing, key_config, outside, peer_id, peer_update, slot};
use crate::identity::{self, Keyring};
use crate::key_budget::KeyBudget;
use crate::leak_guard::LeakGuard;
use crate::leaving::Leaving;
use crate::outcome::{Fatal, Outcome};
use crate::plane::Plane;
use crate::port::Port;
use crate::setup::Setup;
use crate::signal::{Kind, Signal, Signals};
use crate::status::{PeerFacts, board, unix_now};
use crate::{materials, privileges, sd_notify, session_params, sockets};

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
            materials::tls_server(config, keyring).map(|(tls, _)| P2pTls::Server(tls))
        }
        _ => materials::tls_client(config, keyring).map(P2pTls::Client),
    };
    let tls = match identity::unlocked(config, setup.management.as_ref(), signals, make).await? {
        Ok(tls) => tls,
        Err(outcome) => return Ok(outcome),
    };
    let mut peer = Peer::new(setup, tls)?;
    if config.routing.block_leaks && config.connections.is_empty() {
        return Err(Fatal("block-leaks needs to know the peer's address: give `remote`".to_owned()));
    }
    peer.guard = LeakGuard::raise(config.routing.block_leaks)?;
    let result = peer.run(setup, signals).await;
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
    tls: P2pTls,
    wrappings: Vec<Wrapping>,
    /// A TLS server's key for those of its peers.
    tls_crypt_v2: Option<TlsCryptV2Server>,
    remotes: Remotes,
    plane: Option<Plane>,
    /// `block-leaks`.
    guard: Option<LeakGuard>,
    /// What each entry's name resolved to; used again where nothing may be asked outside of the tunnel.
    addresses: HashMap<usize, SocketAddr>,
    /// What the kernel's driver refused, which made the engine take over.
    refusal: Option<String>,
    last_signal: Option<Signal>,
}

impl Peer {
    fn new(setup: &Setup, tls: P2pTls) -> Result<Self, Fatal> {
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
            tls,
            remotes: Remotes::new(config.connections.len()),
            wrappings,
            tls_crypt_v2,
            plane: None,
            guard: None,
            addresses: HashMap::new(),
            refusal: None,
            last_signal: None,
            config,
        })
    }

    async fn run(&mut self, setup: &Setup, signals: &mut Signals) -> Result<Outcome, Fatal> {
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
                let up = plane.bring_up(&self.config, &[], &setup.environment(), None).await;
                self.plane = Some(plane);
                up?;
            }
            board().handshake_started();
            board().state("WAIT");
            let (signal, completed) = self.attempt(signals).await?;
            board().state("RECONNECTING");
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
            if let Some(outcome) = Outcome::of(&signal) {
                return Ok(outcome);
            }
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
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
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
        let bind = sockets::local_address(host.as_deref(), port, family)
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
        let mut params = session_params::session(
            &self.config,
            session_params::link(family, tcp),
            self.wrappings.get(index).cloned().unwrap_or(Wrapping::None),
            entry.map_or(MAX_CONTROL_PACKET, |entry| entry.max_packet_size),
            plane.data_plane().capabilities(),
        );
        if let Some(Ifconfig::PointToPoint { local, remote }) = self.config.device.ifconfig {
            params.options.ifconfig = Some((remote.to_string(), local.to_string()));
        }
        let p2p = P2pParams {
            session: params,
            tls: self.tls.clone(),
            peer_info: self.config.scripts.peer_info.clone(),
            single_session: false,
            tls_crypt_v2: self.tls_crypt_v2.clone(),
        };
        let credentials = Login::default().next(&self.config)?;
        let session =
            Session::p2p(Arc::new(p2p), credentials, remote.is_some(), Box::new(SystemRandom), Now::system())
                .map_err(|failure| Fatal(failure.to_string()))?;
        let port = Port::new(transport.port).map_err(|error| Fatal::new("the control port", error))?;
        let float = entry.is_some_and(|entry| entry.float);
        let mssfix = entry.map_or(self.config.data.mssfix, |entry| entry.mssfix);
        let link = Link {
            config: &self.config,
            plane,
            session,
            port,
            transport: transport.id,
            tcp,
            remote,
            float,
            mssfix,
            peer: None,
            common_name: String::new(),
            completed: false,
            leaving: None,
            budget: KeyBudget::new(&self.config.timers, Instant::now()),
        };
        link.run(signals).await
    }
}

/// A running connection.
struct Link<'a> {
    config: &'a Config,
    plane: &'a mut Plane,
    session: Session,
    port: Port,
    transport: TransportId,
    tcp: bool,
    /// `None` until the first peer has proved itself.
    remote: Option<SocketAddr>,
    float: bool,
    mssfix: model::MssFix,
    peer: Option<PeerId>,
    common_name: String,
    completed: bool,
    leaving: Option<Leaving>,
    /// `reneg-bytes`, `reneg-pkts`.
    budget: Option<KeyBudget>,
}

impl Link<'_> {
    async fn run(mut self, signals: &mut Signals) -> Result<(Signal, bool), Fatal> {
        let result = self.serve(signals).await;
        self.session.close(Now::system());
        self.flush();
        if let Some(peer) = self.peer {
            // It may be gone already.
            let _ = self.plane.data_plane().peer_del(peer);
        }
        result.map(|signal| (signal, self.completed))
    }

    /// Asks for a new key where `reneg-bytes` or `reneg-pkts` say so.
    fn check_budget(&mut self) {
        let Some(budget) = &mut self.budget else { return };
        let stats = || self.plane.data_plane().peer_get(self.peer?).ok().map(|info| info.stats);
        if budget.is_spent(Instant::now(), stats) {
            self.session.renegotiate(Now::system());
        }
    }

    fn flush(&mut self) {
        while let Some(packet) = self.session.poll_transmit() {
            let Some(remote) = self.remote else { continue };
            if let Err(error) = self.port.send(&packet, remote, None) {
                tracing::debug!("write: {error}");
            }
        }
    }

    async fn serve(&mut self, signals: &mut Signals) -> Result<Signal, Fatal> {
        let mut buf = vec![0; 4096];
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(signal) = self.on_event(event).await? {
                    return Ok(signal);
                }
            }
            self.flush();
            let now = Instant::now();
            if let Some(leaving) = &mut self.leaving
                && let Some(signal) =
                    leaving.is_over(&self.session, self.plane.data_plane().as_ref(), self.peer)
            {
                return Ok(signal);
            }
            let leave = self.leaving.as_ref().map(Leaving::deadline);
            let budget = self.budget.as_ref().map(KeyBudget::next);
            let deadline = self
                .session
                .poll_timeout()
                .map(|(at, _)| at)
                .into_iter()
                .chain(leave)
                .chain(budget)
                .min()
                .unwrap_or(now + Duration::from_secs(3600));
            tokio::select! {
                received = self.port.recv(&mut buf) => match received {
                    Ok(received) => {
                        let packet = buf.get(..received.len).unwrap_or_default();
                        self.on_packet(packet, received.from);
                    }
                    Err(error) if self.tcp => {
                        tracing::info!("Connection reset, restarting [{error}]");
                        return Ok(Signal::soft(Kind::Usr1, "connection-reset"));
                    }
                    Err(error) => tracing::info!("read: {error}"),
                },
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.session.handle_timeout(Now::system());
                    self.check_budget();
                }
                event = self.plane.events.recv() => {
                    if let Some(signal) = self.on_data_plane(event.unwrap_or(dco::Event::DataPlaneGone))? {
                        return Ok(signal);
                    }
                }
                signal = signals.next() => {
                    if signal.kind == Kind::Usr2 || (signal.kind.is_exit() && self.leaving.is_some()) {
                        continue;
                    }
                    let notify = self.config.timers.explicit_exit_notify.filter(|count| *count > 0);
                    if let Some(count) = notify.filter(|_| signal.kind.is_exit() && !self.tcp) {
                        let plane = self.plane.data_plane().as_ref();
                        self.leaving = Leaving::begin(&mut self.session, plane, self.peer, count, &signal);
                    }
                    if self.leaving.is_none() {
                        return Ok(signal);
                    }
                }
            }
        }
    }

    fn on_packet(&mut self, packet: &[u8], from: SocketAddr) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let known = self.remote.map(|remote| SocketAddr::new(remote.ip().to_canonical(), remote.port()));
        // Another address may only begin where none is known, or with `float` while nothing is established; later the
        // data plane tells where the peer is, by authenticated packets.
        let may_begin = self.float && !self.completed;
        if !self.tcp && known.is_some_and(|known| known != from) && !may_begin {
            tracing::debug!("Incoming packet rejected from {}", sockets::shown(from));
            return;
        }
        if self.session.handle_packet(Now::system(), packet).is_ok() && known != Some(from) {
            tracing::info!("TLS: Initial packet from {}", sockets::shown(from));
            self.remote = Some(from);
        }
    }

    async fn on_event(&mut self, event: Event) -> Result<Option<Signal>, Fatal> {
        match event {
            Event::PeerConnected { chain, tls, .. } => {
                if let Some(chain) = &chain {
                    for (depth, certificate) in chain.certificates.iter().enumerate().rev() {
                        tracing::info!("VERIFY OK: depth={depth}, {}", certificate.subject);
                    }
                    self.common_name = chain.common_name().to_owned();
                }
                tracing::info!("Control Channel: {tls}");
                let remote = self.remote.map(sockets::shown).unwrap_or_default();
                tracing::info!("[{}] Peer Connection Initiated with {remote}", self.common_name);
            }
            Event::InstallKey { slot: place, key } => {
                if let Some(signal) = self.ensure_peer() {
                    return Ok(Some(signal));
                }
                if let (Some(peer), Some(key)) = (self.peer, key_config(&key)) {
                    let result = self.plane.data_plane().key_new(peer, slot(place), &key);
                    return self.key_result(result);
                }
            }
            Event::UseKey { .. } => {
                if let Some(peer) = self.peer {
                    let result = self.plane.data_plane().key_swap(peer);
                    return self.key_result(result);
                }
            }
            Event::DropKey { slot: place } => {
                if let Some(peer) = self.peer {
                    let result = self.plane.data_plane().key_del(peer, slot(place));
                    return self.key_result(result);
                }
            }
            Event::KeyRenewed { tls } => tracing::info!("Control Channel: {tls}"),
            Event::Established(negotiated) => {
                let id = self.peer.map_or_else(|| "none".to_owned(), |id| id.to_string());
                tracing::info!("Data Channel: cipher '{}', peer-id: {id}", negotiated.cipher.name());
                if !self.completed {
                    self.completed = true;
                    self.tell_status();
                    let complete = self.plane.add_routes().await;
                    privileges::give_up(self.config)?;
                    let line = if complete {
                        "Initialization Sequence Completed"
                    } else {
                        "Initialization Sequence Completed With Errors"
                    };
                    tracing::info!("{line}");
                    sd_notify::status(line);
                }
            }
            Event::Exit => {
                tracing::info!("CC-EEN exit message received by peer");
                return Ok(Some(Signal::soft(Kind::Usr1, "remote-exit")));
            }
            Event::Failed(failure) => {
                match failure.kind {
                    FailureKind::HandWindow | FailureKind::Tls => {
                        tracing::warn!("TLS Error: {failure}");
                        tracing::info!("TLS Error: TLS handshake failed");
                    }
                    _ => tracing::warn!("{failure}"),
                }
                if failure.kind == FailureKind::NoPeerId {
                    self.plane.fall_back(&failure.sentence);
                }
                return Ok(Some(Signal::soft(Kind::Usr1, "tls-error")));
            }
            _ => {}
        }
        Ok(None)
    }

    /// The tunnel is up: what `ovpn status` shows of the peer.
    fn tell_status(&self) {
        let device = &self.config.device;
        let v4 = device.ifconfig.map(|ifconfig| match ifconfig {
            Ifconfig::Subnet { local, .. } | Ifconfig::PointToPoint { local, .. } => local.into(),
        });
        let v6 = device.ifconfig_ipv6.map(|ifconfig| ifconfig.local.addr().into());
        let facts = PeerFacts {
            id: self.peer,
            name: Some(self.common_name.clone()),
            username: None,
            address: self.remote,
            vpn_addresses: v4.into_iter().chain(v6).collect(),
            since: Some(unix_now()),
        };
        board().peers(move || vec![facts.clone()]);
        board().state("CONNECTED");
    }

    fn key_result(&mut self, result: dco::Result<()>) -> Result<Option<Signal>, Fatal> {
        match result {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == dco::ErrorKind::NoSuchPeer => {
                Ok(Some(Signal::soft(Kind::Usr1, "ping-restart")))
            }
            Err(error) if self.plane.fall_back(&error.to_string()) => {
                Ok(Some(Signal::soft(Kind::Usr1, "init_instance")))
            }
            Err(error) => Err(Fatal::new("the data plane does not take the key", error)),
        }
    }

    /// The data plane has a peer of the negotiated id; a peer that started anew may have another one than before.
    fn ensure_peer(&mut self) -> Option<Signal> {
        let negotiated = self.session.negotiated()?;
        let id = peer_id(&negotiated);
        if self.peer == Some(id) {
            return None;
        }
        if let Some(former) = self.peer.take() {
            let _ = self.plane.data_plane().peer_del(former);
        }
        let remote = self.remote?;
        let peer = PeerConfig {
            id,
            tx_id: None,
            transport: self.transport,
            remote: (!self.tcp).then_some(remote),
            local: None,
            vpn: VpnAddrs::default(),
            framing: framing(self.config.data.compression),
        };
        let outside = outside(remote, self.tcp, negotiated.format);
        let update = peer_update(&self.config.timers, self.mssfix, self.config.device.mtu, outside);
        debug_assert!(negotiated.format != DataFormat::V1 || negotiated.peer_id.is_none());
        let plane = self.plane.data_plane();
        match plane.peer_new(&peer).and_then(|()| plane.peer_set(id, &update)) {
            Ok(()) => {
                self.peer = Some(id);
                None
            }
            Err(error) => {
                tracing::error!("the data plane does not take the peer: {error}");
                self.plane.fall_back(&error.to_string());
                Some(Signal::soft(Kind::Usr1, "init_instance"))
            }
        }
    }

    fn on_data_plane(&mut self, event: dco::Event) -> Result<Option<Signal>, Fatal> {
        match event {
            dco::Event::PeerDeleted { peer, reason: DelReason::Expired } if Some(peer) == self.peer => {
                self.peer = None;
                let cn = &self.common_name;
                if self.config.timers.ping_restart.is_none() {
                    tracing::info!("[{cn}] Inactivity timeout (--ping-exit), exiting");
                    return Ok(Some(Signal::soft(Kind::Term, "ping-exit")));
                }
                tracing::info!("[{cn}] Inactivity timeout (--ping-restart), restarting");
                Ok(Some(Signal::soft(Kind::Usr1, "ping-restart")))
            }
            dco::Event::PeerDeleted {
                peer,
                reason: DelReason::TransportError | DelReason::TransportDisconnect,
            } if Some(peer) == self.peer => {
                self.peer = None;
                Ok(Some(Signal::soft(Kind::Usr1, "connection-reset")))
            }
            dco::Event::KeySwap { peer, .. } if Some(peer) == self.peer => {
                self.session.renegotiate(Now::system());
                Ok(None)
            }
            dco::Event::PeerFloat { peer, remote } if Some(peer) == self.peer => {
                tracing::info!("the peer is now at {}", sockets::shown(remote));
                self.remote = Some(remote);
                Ok(None)
            }
            dco::Event::PeerExit { peer } if Some(peer) == self.peer => {
                Ok(Some(Signal::soft(Kind::Usr1, "remote-exit")))
            }
            dco::Event::Lost => {
                let Some(id) = self.peer else { return Ok(None) };
                match self.plane.data_plane().peer_get(id) {
                    Ok(info) => {
                        self.remote = info.remote.filter(|_| !self.tcp).or(self.remote);
                        Ok(None)
                    }
                    Err(_) => {
                        self.peer = None;
                        Ok(Some(Signal::soft(Kind::Usr1, "ping-restart")))
                    }
                }
            }
            dco::Event::DataPlaneGone => {
                Err(Fatal("the data plane is gone: its process or device was removed".to_owned()))
            }
            _ => Ok(None),
        }
    }
}
