//! One connection of a client, from its first packet to its end.
//!
//! ```text
//!   packets ─┐                     ┌─▶ packets
//!   time    ─┼─▶ Session ─▶ events ┼─▶ data plane: peer, keys
//!   signals ─┘                     └─▶ device: addresses, routes, DNS, scripts
//!   data plane's events: expired, key used up
//! ```

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_config::model::{Config, Ifconfig, MssFix};
use ovpn_control::{
    Credentials, DataFormat, Event, Failure, FailureKind, Negotiated, Now, PushReply, Session, SystemRandom,
};
use ovpn_dco::{self as dco, DelReason, PeerConfig, PeerId, Transport, TransportId, VpnAddrs};
use ovpn_wire::message::{AuthFailed, Restart};

use super::Client;
use super::login::{Challenge, Refused};
use super::push_update;
use super::remotes::Advance;
use crate::data_plane::{framing, key_config, outside, peer_id, peer_update, slot};
use crate::management::{Handle, TunnelState};
use crate::outcome::Fatal;
use crate::plane::Plane;
use crate::port::Port;
use crate::script::Script;
use crate::signal::{Kind, Signal, Signals};
use crate::{sd_notify, session_params, sockets};

/// How a connection ended, and where to turn next.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) signal: Signal,
    pub(crate) advance: Advance,
    /// What the server asked for at least.
    pub(crate) backoff: Duration,
    /// Pause before the next attempt.
    pub(crate) pause: bool,
    /// The connection had completed its initialisation.
    pub(crate) completed: bool,
}

impl End {
    /// Try the next address after a pause.
    pub(crate) fn retry(reason: &'static str) -> Self {
        Self::from_signal(Signal::soft(Kind::Usr1, reason))
    }

    /// What a signal asks for.
    pub(crate) fn from_signal(signal: Signal) -> Self {
        Self { signal, advance: Advance::Address, backoff: Duration::ZERO, pause: true, completed: false }
    }

    fn exit(reason: &'static str) -> Self {
        Self::from_signal(Signal::soft(Kind::Term, reason))
    }

    fn stay(self) -> Self {
        Self { advance: Advance::Stay, ..self }
    }
}

/// A running connection.
pub(crate) struct Connection<'a> {
    client: &'a mut Client,
    entry: usize,
    remote: SocketAddr,
    tcp: bool,
    session: Session,
    port: Port,
    transport: TransportId,
    credentials: Option<Credentials>,
    peer: Option<PeerId>,
    format: DataFormat,
    /// With the server's options applied.
    config: Config,
    /// What the server pushed, updates included.
    options: Vec<String>,
    /// The status file is written then.
    status_at: Option<Instant>,
    common_name: String,
    heard: bool,
    completed: bool,
    started: Instant,
    /// Routes go in then (`route-delay`).
    routes_at: Option<Instant>,
    /// The connection ends then, whatever happens (exit notification under way).
    leave_at: Option<(Instant, Signal)>,
    idle: Option<Idle>,
    control: Traffic,
}

/// Bytes of the control channel.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    received: u64,
    sent: u64,
}

/// `inactive`: when to look, and what was counted last.
struct Idle {
    after: Duration,
    bytes: u64,
    next: Instant,
    counted: u64,
}

impl<'a> Connection<'a> {
    /// Begins a connection over an open transport.
    ///
    /// # Errors
    /// A TLS configuration that cannot be used.
    pub(crate) fn new(
        client: &'a mut Client,
        entry: usize,
        remote: SocketAddr,
        tcp: bool,
        transport: Transport,
        credentials: Option<Credentials>,
    ) -> Result<Self, Fatal> {
        let port = Port::new(transport.port).map_err(|error| Fatal::new("the control port", error))?;
        let missing = || Fatal("the connection entry is gone".to_owned());
        let options = client.entry(entry).ok_or_else(missing)?;
        let plane = client.plane.as_ref().ok_or_else(missing)?;
        let session = session_params::session(
            &client.config,
            session_params::link(remote, tcp),
            options.wrapping.clone(),
            options.options.max_packet_size,
            plane.data_plane().capabilities(),
        );
        let params =
            session_params::client(&client.config, session, client.tls.clone(), options.options.tun_mtu_max);
        let session =
            Session::client(Arc::new(params), credentials.clone(), Box::new(SystemRandom), Now::system())
                .map_err(|failure| Fatal(failure.to_string()))?;
        Ok(Self {
            config: client.config.clone(),
            client,
            entry,
            remote,
            tcp,
            session,
            port,
            transport: transport.id,
            credentials,
            peer: None,
            format: DataFormat::V2,
            options: Vec::new(),
            status_at: None,
            common_name: String::new(),
            heard: false,
            completed: false,
            started: Instant::now(),
            routes_at: None,
            leave_at: None,
            idle: None,
            control: Traffic::default(),
        })
    }

    /// Runs the connection to its end.
    ///
    /// # Errors
    /// What ends the whole process.
    pub(crate) async fn run(mut self, signals: &mut Signals) -> Result<End, Fatal> {
        let end = self.serve(signals).await;
        self.session.close(Now::system());
        self.flush();
        if let Some(peer) = self.peer.take()
            && let Ok(plane) = self.plane()
        {
            // It may be gone already.
            let _ = plane.data_plane().peer_del(peer);
        }
        end.map(|end| End { completed: self.completed, ..end })
    }

    async fn serve(&mut self, signals: &mut Signals) -> Result<End, Fatal> {
        let mut buf = vec![0; 4096];
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(end) = self.on_event(event).await? {
                    return Ok(end);
                }
            }
            self.flush();
            if let Some((_, signal)) = &self.leave_at
                && self.session.is_quiet()
            {
                return Ok(End::from_signal(signal.clone()));
            }
            let deadline = self.deadline();
            let sleep = tokio::time::sleep_until(deadline.into());
            let plane_event = async {
                match self.client.plane.as_mut() {
                    Some(plane) => plane.events.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.port.recv(&mut buf) => {
                    match received {
                        Ok(received) => {
                            let packet = buf.get(..received.len).unwrap_or_default();
                            self.control.received += packet.len() as u64;
                            self.on_packet(packet, received.from);
                        }
                        Err(error) if self.tcp => {
                            tracing::info!("Connection reset, restarting [{error}]");
                            return Ok(End::retry("connection-reset").stay_if(self.completed));
                        }
                        Err(error) => tracing::info!("read {}: {error}", sockets::protocol_word(self.remote, false)),
                    }
                }
                () = sleep => {
                    if let Some(end) = self.on_deadline().await? {
                        return Ok(end);
                    }
                }
                event = plane_event => {
                    let event = event.unwrap_or(dco::Event::DataPlaneGone);
                    if let Some(end) = self.on_data_plane_event(event)? {
                        return Ok(end);
                    }
                }
                signal = signals.next() => {
                    if let Some(end) = self.on_signal(signal) {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn plane(&mut self) -> Result<&mut Plane, Fatal> {
        self.client.plane.as_mut().ok_or_else(|| Fatal("the data plane is gone".to_owned()))
    }

    fn flush(&mut self) {
        while let Some(packet) = self.session.poll_transmit() {
            self.control.sent += packet.len() as u64;
            if let Err(error) = self.port.send(&packet, self.remote, None) {
                tracing::debug!("write {}: {error}", sockets::protocol_word(self.remote, self.tcp));
            }
        }
    }

    fn deadline(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let mut deadline = self.session.poll_timeout().map_or(far, |(at, _)| at);
        let mut consider = |at: Option<Instant>| {
            if let Some(at) = at {
                deadline = deadline.min(at);
            }
        };
        consider(self.poll_deadline());
        consider(self.routes_at);
        consider(self.status_at);
        consider(self.leave_at.as_ref().map(|(at, _)| *at));
        consider(self.idle.as_ref().map(|idle| idle.next));
        consider(self.session_deadline());
        deadline
    }

    /// `connect-timeout`: the first packet of a UDP server must come by then.
    fn poll_deadline(&self) -> Option<Instant> {
        let timeout = self.client.entry(self.entry)?.options.connect_timeout;
        (!self.heard).then(|| self.started + timeout)
    }

    fn session_deadline(&self) -> Option<Instant> {
        self.config.timers.session_timeout.map(|timeout| self.started + timeout)
    }

    fn on_packet(&mut self, packet: &[u8], from: SocketAddr) {
        if !self.tcp && !same_address(from, self.remote) {
            tracing::debug!(
                "TCP/UDP: Incoming packet rejected from {}, expected peer address: {}",
                sockets::shown(from),
                sockets::shown(self.remote)
            );
            return;
        }
        if self.session.handle_packet(Now::system(), packet).is_ok() && !self.heard {
            self.heard = true;
            self.client.tell(TunnelState::Auth, "", None);
            tracing::info!(
                "TLS: Initial packet from {}, sid={}",
                sockets::shown(self.remote),
                session_id(packet)
            );
        }
    }

    async fn on_deadline(&mut self) -> Result<Option<End>, Fatal> {
        let now = Instant::now();
        self.session.handle_timeout(Now::system());
        if self.poll_deadline().is_some_and(|at| at <= now) {
            tracing::info!("Server poll timeout, restarting");
            let end = End::retry("server_poll");
            return Ok(Some(End { pause: false, ..end }));
        }
        if let Some((_, signal)) = self.leave_at.take_if(|(at, _)| *at <= now) {
            return Ok(Some(End::from_signal(signal)));
        }
        if self.session_deadline().is_some_and(|at| at <= now) {
            tracing::info!("Session timeout, exiting");
            return Ok(Some(End::exit("session-timeout")));
        }
        if self.routes_at.is_some_and(|at| at <= now) {
            self.routes_at = None;
            self.finish().await?;
        }
        if self.status_at.is_some_and(|at| at <= now) {
            self.write_status();
        }
        Ok(self.check_idle(now))
    }

    fn check_idle(&mut self, now: Instant) -> Option<End> {
        let peer = self.peer?;
        let plane = self.client.plane.as_ref()?;
        let idle = self.idle.as_mut().filter(|idle| idle.next <= now)?;
        idle.next = now + idle.after;
        let stats = plane.data_plane().peer_get(peer).ok()?.stats.vpn;
        let counted = stats.rx_bytes + stats.tx_bytes;
        let moved = counted.saturating_sub(idle.counted);
        idle.counted = counted;
        if moved > idle.bytes {
            return None;
        }
        tracing::info!("Inactivity timeout (--inactive), exiting");
        Some(End::exit("inactive"))
    }

    fn on_signal(&mut self, signal: Signal) -> Option<End> {
        if signal.kind == Kind::Usr2 {
            self.log_statistics();
            return None;
        }
        if signal.kind.is_exit() {
            if self.leave_at.is_some() {
                // An exit is under way; let the notification arrive.
                return None;
            }
            let notify = self
                .config
                .timers
                .explicit_exit_notify
                .or(self.client.entry(self.entry).and_then(|entry| entry.options.explicit_exit_notify))
                .filter(|&count| count > 0);
            if let (Some(count), false) = (notify, self.tcp)
                && self.session.exit(Now::system())
            {
                tracing::info!("{} received, sending exit notification to peer", signal.kind.name());
                let signal =
                    Signal { kind: signal.kind, soft: Some(Cow::Borrowed("exit-with-notification")) };
                self.leave_at = Some((Instant::now() + Duration::from_secs(count.into()), signal));
                return None;
            }
        }
        Some(End::from_signal(signal).stay_if(self.completed))
    }

    /// `status FILE SECONDS`.
    fn write_status(&mut self) {
        let Some(status) = &self.client.config.process.status else { return };
        self.status_at = Some(Instant::now() + status.interval.max(Duration::from_secs(1)));
        let path = status.path.clone();
        let mut text = statistics(&self.stats(), self.control).join("\n");
        text.push('\n');
        if let Err(error) = std::fs::write(&path, text) {
            tracing::warn!("--status {path}: {error}");
        }
    }

    fn stats(&self) -> dco::PeerStats {
        match (self.peer, &self.client.plane) {
            (Some(peer), Some(plane)) => {
                plane.data_plane().peer_get(peer).map(|info| info.stats).unwrap_or_default()
            }
            _ => dco::PeerStats::default(),
        }
    }

    /// SIGUSR2, in the status file's form.
    fn log_statistics(&mut self) {
        let stats = self.stats();
        for line in statistics(&stats, self.control) {
            tracing::info!("{line}");
        }
    }

    fn on_data_plane_event(&mut self, event: dco::Event) -> Result<Option<End>, Fatal> {
        match event {
            dco::Event::PeerDeleted { peer, reason } if Some(peer) == self.peer => {
                match reason {
                    DelReason::Expired => {
                        self.peer = None;
                        let exits = self.config.timers.ping_restart.is_none();
                        let cn = &self.common_name;
                        if exits {
                            tracing::info!("[{cn}] Inactivity timeout (--ping-exit), exiting");
                            return Ok(Some(End::exit("ping-exit")));
                        }
                        tracing::info!("[{cn}] Inactivity timeout (--ping-restart), restarting");
                        return Ok(Some(End::retry("ping-restart").stay()));
                    }
                    DelReason::TransportError | DelReason::TransportDisconnect => {
                        self.peer = None;
                        tracing::info!("Connection reset, restarting [{reason:?}]");
                        return Ok(Some(End::retry("connection-reset").stay()));
                    }
                    DelReason::Teardown | DelReason::Userspace => {}
                }
                Ok(None)
            }
            dco::Event::KeySwap { peer, key_id } if Some(peer) == self.peer => {
                tracing::info!("the data plane asks for a new key: key {key_id} is used up");
                self.session.renegotiate(Now::system());
                Ok(None)
            }
            dco::Event::PeerExit { peer } if Some(peer) == self.peer => {
                Ok(Some(End::retry("remote-exit").stay()))
            }
            dco::Event::Lost => {
                let known = match self.peer {
                    Some(peer) => self.plane()?.data_plane().peer_get(peer).is_ok(),
                    None => true,
                };
                Ok((!known).then(|| End::retry("ping-restart").stay()))
            }
            dco::Event::DataPlaneGone => {
                self.peer = None;
                Err(Fatal("the data plane is gone: its process or device was removed".to_owned()))
            }
            _ => Ok(None),
        }
    }

    async fn on_event(&mut self, event: Event) -> Result<Option<End>, Fatal> {
        match event {
            Event::PeerConnected { chain, tls, remote_options, .. } => {
                if let Some(chain) = &chain {
                    for (depth, certificate) in chain.certificates.iter().enumerate().rev() {
                        tracing::info!("VERIFY OK: depth={depth}, {}", certificate.subject);
                    }
                    self.common_name = chain.common_name().to_owned();
                }
                tracing::info!("Control Channel: {}, cipher {}, group {}", tls.version, tls.suite, tls.group);
                tracing::debug!("server's options: {remote_options}");
                tracing::info!(
                    "[{}] Peer Connection Initiated with {}",
                    self.common_name,
                    sockets::shown(self.remote)
                );
                self.run_ipchange().await;
                self.client.tell(TunnelState::GetConfig, "", None);
            }
            Event::PushReply(reply) => return self.on_push_reply(reply).await,
            Event::AuthToken(credentials) => {
                self.client.login.set_token(
                    Some(credentials.username.clone()).filter(|name| !name.is_empty()),
                    credentials.password.clone(),
                    self.credentials.as_ref(),
                );
                self.session.set_credentials(self.client.login.next(&self.client.config)?);
            }
            Event::InstallKey { slot: place, key } => {
                if let Some(peer) = self.peer {
                    let config = key_config(&key)
                        .ok_or_else(|| Fatal("a negotiated key is out of range".to_owned()))?;
                    let result = self.plane()?.data_plane().key_new(peer, slot(place), &config);
                    if let Some(end) = self.key_problem(result)? {
                        return Ok(Some(end));
                    }
                }
            }
            Event::UseKey { .. } => {
                if let Some(peer) = self.peer {
                    let result = self.plane()?.data_plane().key_swap(peer);
                    if let Some(end) = self.key_problem(result)? {
                        return Ok(Some(end));
                    }
                }
            }
            Event::DropKey { slot: place } => {
                if let Some(peer) = self.peer {
                    let result = self.plane()?.data_plane().key_del(peer, slot(place));
                    if let Some(end) = self.key_problem(result)? {
                        return Ok(Some(end));
                    }
                }
            }
            Event::Established(_) => match self.config.routing.delay {
                Some(delay) if !delay.is_zero() => self.routes_at = Some(Instant::now() + delay),
                _ => self.finish().await?,
            },
            Event::AuthFailed(failed) => return Ok(Some(self.on_auth_failed(failed))),
            Event::AuthPending { timeout, .. } => {
                let detail = format!("timeout {}", timeout.as_secs());
                self.client.tell(TunnelState::AuthPending, &detail, None);
                tracing::info!(
                    "AUTH_PENDING received, extending handshake timeout to {} s",
                    timeout.as_secs()
                );
            }
            Event::Info { text, .. } => {
                if let Some(management) = &self.client.management {
                    management.notice(format!(">INFOMSG:{text}"));
                }
                match text.split_once(':') {
                    Some(("WEB_AUTH", rest)) => {
                        let url = rest.split_once(':').map_or(rest, |(_, url)| url);
                        tracing::info!("Open this address in a browser to log in: {url}");
                    }
                    Some(("OPEN_URL", url)) => {
                        tracing::info!("Open this address in a browser to log in: {url}")
                    }
                    _ => tracing::info!("Info command was pushed by server ('{text}')"),
                }
            }
            Event::Restart(Restart { keep_credentials, advance, text }) => {
                tracing::info!("Connection reset command was pushed by server ('{text}')");
                if !keep_credentials {
                    self.client.login.forget_entered();
                }
                let end = End::retry("server-pushed-connection-reset");
                return Ok(Some(if advance { end } else { end.stay() }));
            }
            Event::Halt(text) => {
                tracing::info!("Halt command was pushed by server ('{text}')");
                return Ok(Some(End::exit("server-pushed-halt")));
            }
            Event::Exit => {
                tracing::info!("CC-EEN exit message received by peer");
                return Ok(Some(End::retry("remote-exit").stay()));
            }
            Event::Failed(failure) => return Ok(Some(self.on_failure(&failure))),
            Event::PushUpdate(options) => return self.on_push_update(&options).await,
            _ => {}
        }
        Ok(None)
    }

    /// A peer that the data plane removed meanwhile is no reason to end the process; its event follows.
    fn key_problem(&self, result: dco::Result<()>) -> Result<Option<End>, Fatal> {
        match result {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == dco::ErrorKind::NoSuchPeer => {
                Ok(Some(End::retry("ping-restart").stay()))
            }
            Err(error) => Err(Fatal::new("the data plane does not take the key", error)),
        }
    }

    async fn run_ipchange(&self) {
        let Some(command) = &self.config.scripts.ipchange else { return };
        let mut environment = self.client.environment.clone();
        crate::script_environment::add_peer(&mut environment, self.remote, &self.common_name);
        let ip = self.remote.ip().to_canonical().to_string();
        let arguments = vec![ip, self.remote.port().to_string()];
        let script = Script { what: "ipchange", command, arguments, environment: &environment };
        if let Err(error) = script.run(self.config.scripts.security).await {
            tracing::warn!("{error}");
        }
    }

    async fn on_push_reply(&mut self, reply: PushReply) -> Result<Option<End>, Fatal> {
        let shown: Vec<Cow<'_, str>> = reply.options.iter().map(|option| masked(option)).collect();
        tracing::info!("PUSH: Received control message: 'PUSH_REPLY,{}'", shown.join(","));
        let applied = self.client.config.apply_pushed(&reply.options);
        for diagnostic in &applied.diagnostics {
            tracing::warn!("{}", diagnostic.one_line(&applied.sources));
        }
        if let Some(rejected) = applied.rejected {
            tracing::warn!("Pushed option rejected by filter: '{rejected}'. Restarting.");
            return Ok(Some(End::retry("process-push-msg-failed")));
        }
        self.config = applied.config;
        self.options = reply.options.clone();
        if let Some(management) = &self.client.management {
            for text in &self.config.scripts.echo {
                management.echo(text);
            }
        }
        let pushed = applied.pushed;
        if let Some(token) = pushed.auth_token {
            self.client.login.set_token(pushed.auth_token_user, token.0.clone(), self.credentials.as_ref());
            self.session.set_credentials(self.client.login.next(&self.client.config)?);
        }
        let negotiated = reply.negotiated;
        self.format = negotiated.format;
        log_negotiated(&self.config, &negotiated);
        self.tell_addresses(TunnelState::AssignIp, "", None);
        let base = self.client.environment.clone();
        let (config, remote, common_name) = (self.config.clone(), self.remote, self.common_name.clone());
        self.plane()?.bring_up(&config, &reply.options, &base, Some((remote, &common_name))).await?;
        let compression = pushed.compression.unwrap_or(self.config.data.compression);
        let id = peer_id(&negotiated);
        let peer = PeerConfig {
            id,
            tx_id: None,
            transport: self.transport,
            remote: (!self.tcp).then_some(self.remote),
            local: None,
            vpn: VpnAddrs::default(),
            framing: framing(compression),
        };
        let mssfix = self.client.entry(self.entry).map_or(MssFix::Default, |entry| entry.options.mssfix);
        let outside = outside(self.remote, self.tcp, self.format);
        let update = peer_update(&self.config.timers, mssfix, self.config.device.mtu, outside);
        let plane = self.plane()?;
        if let Err(error) =
            plane.data_plane().peer_new(&peer).and_then(|()| plane.data_plane().peer_set(id, &update))
        {
            tracing::error!("the data plane does not take the server as a peer: {error}");
            return Ok(Some(End::retry("init_instance")));
        }
        self.peer = Some(id);
        self.offer_statistics(id);
        Ok(None)
    }

    /// Tells the management interface a state with the tunnel's addresses.
    fn tell_addresses(&self, state: TunnelState, detail: &str, remote: Option<SocketAddr>) {
        let Some(management) = &self.client.management else { return };
        let v4 = self.config.device.ifconfig.map(|ifconfig| match ifconfig {
            Ifconfig::Subnet { local, .. } | Ifconfig::PointToPoint { local, .. } => local,
        });
        let v6 = self.config.device.ifconfig_ipv6.map(|ifconfig| ifconfig.local.addr());
        management.state(state, detail, (v4, v6), remote);
    }

    /// Lets the management interface read the counters.
    fn offer_statistics(&self, peer: PeerId) {
        let (Some(management), Some(plane)) = (&self.client.management, &self.client.plane) else { return };
        let data_plane = Arc::downgrade(plane.data_plane());
        let stats = move || {
            let plane = data_plane.upgrade()?;
            plane.peer_get(peer).ok().map(|info| info.stats)
        };
        let again = stats.clone();
        management.set_totals(move || {
            let link = stats().unwrap_or_default().link;
            (1, link.rx_bytes, link.tx_bytes)
        });
        management.set_status(move |_| statistics(&again().unwrap_or_default(), Traffic::default()));
    }

    /// The server changes options: the edited list is applied as a whole, without ending the connection.
    async fn on_push_update(&mut self, update: &[String]) -> Result<Option<End>, Fatal> {
        let shown: Vec<Cow<'_, str>> = update.iter().map(|option| masked(option)).collect();
        tracing::info!("PUSH: Received control message: 'PUSH_UPDATE,{}'", shown.join(","));
        let options = match push_update::edit(&self.options, update) {
            Ok(options) => options,
            Err(option) => {
                tracing::warn!("PUSH_UPDATE: this option cannot be changed while connected: {option}");
                return Ok(Some(End::retry("Offending option received from server").stay()));
            }
        };
        let applied = self.client.config.apply_pushed(&options);
        for diagnostic in &applied.diagnostics {
            tracing::warn!("{}", diagnostic.one_line(&applied.sources));
        }
        if let Some(rejected) = applied.rejected {
            tracing::warn!("Pushed option rejected by filter: '{rejected}'. Restarting.");
            return Ok(Some(End::retry("process-push-msg-failed")));
        }
        self.config = applied.config;
        self.options = options;
        let base = self.client.environment.clone();
        let (config, options) = (self.config.clone(), self.options.clone());
        let (remote, common_name) = (self.remote, self.common_name.clone());
        self.plane()?.bring_up(&config, &options, &base, Some((remote, &common_name))).await?;
        self.plane()?.add_routes().await;
        tracing::info!("PUSH_UPDATE applied");
        Ok(None)
    }

    /// Routes, and the line that everyone waits for.
    async fn finish(&mut self) -> Result<(), Fatal> {
        self.client.tell(TunnelState::AddRoutes, "", None);
        let complete = self.plane()?.add_routes().await;
        self.completed = true;
        self.write_status();
        self.idle = self.config.timers.inactive.map(|inactive| Idle {
            after: inactive.after,
            bytes: inactive.bytes,
            next: Instant::now() + inactive.after,
            counted: 0,
        });
        self.tell_addresses(
            TunnelState::Connected,
            if complete { "SUCCESS" } else { "ROUTE_ERROR" },
            Some(self.remote),
        );
        let line = if complete {
            "Initialization Sequence Completed"
        } else {
            "Initialization Sequence Completed With Errors"
        };
        tracing::info!("{line}");
        sd_notify::status(line);
        Ok(())
    }

    fn on_auth_failed(&mut self, failed: AuthFailed) -> End {
        let retry = self.client.config.auth.retry;
        match failed {
            AuthFailed::Refused(reason) | AuthFailed::Session(reason) => {
                let suffix = if reason.is_empty() { String::new() } else { format!(",{reason}") };
                tracing::info!("AUTH: Received control message: AUTH_FAILED{suffix}");
                self.notice_refusal(&reason);
                match self.client.login.refused(retry) {
                    Refused::Token => End::retry("auth-failure (auth-token)").stay(),
                    Refused::GiveUp => {
                        if !reason.is_empty() {
                            tracing::error!("the server refused the login: {reason}");
                        } else {
                            tracing::error!(
                                "the server refused the login: check username and password (auth-user-pass)"
                            );
                        }
                        End::exit("auth-failure")
                    }
                    Refused::Again => End::retry("auth-failure").stay(),
                }
            }
            AuthFailed::Temporary { backoff, advance, reason } => {
                tracing::info!("AUTH: Received control message: AUTH_FAILED,TEMP:{reason}");
                let end = End::retry("auth-temp-failure (server temporary reject)");
                End {
                    backoff: Duration::from_secs(backoff.unwrap_or(0).into()),
                    advance: advance.into(),
                    ..end
                }
            }
            AuthFailed::Challenge { flags, state, username, text } => {
                tracing::info!("AUTH: Received control message: AUTH_FAILED,CRV1:{flags}:…:{text}");
                if self.client.management.as_ref().is_some_and(Handle::asks_passwords) {
                    // The program shows the question and enters the answer as the next password.
                    self.notice_refusal(&format!("CRV1:{flags}:{state}:{username}:{text}"));
                    self.client.login.forget_entered();
                    return End::retry("auth-failure").stay();
                }
                if retry != ovpn_config::model::AuthRetry::Interact {
                    tracing::error!(
                        "the server asks a question: \"{text}\"; auth-retry interact is needed to answer"
                    );
                    return End::exit("auth-failure");
                }
                self.client.login.challenged(Challenge {
                    state,
                    username,
                    text,
                    echo: flags.contains('E'),
                    required: flags.contains('R'),
                });
                End::retry("auth-failure").stay()
            }
        }
    }

    fn notice_refusal(&self, reason: &str) {
        if let Some(management) = &self.client.management {
            let text = if reason.is_empty() { String::new() } else { format!(" ['{reason}']") };
            management.notice(format!(">PASSWORD:Verification Failed: 'Auth'{text}"));
        }
    }

    fn on_failure(&mut self, failure: &Failure) -> End {
        let reason = match failure.kind {
            FailureKind::NoPushReply => "no-push-reply",
            FailureKind::PushedOption => "process-push-msg-failed",
            FailureKind::RemoteExit => "remote-exit",
            FailureKind::Auth => "auth-failure",
            FailureKind::Closed => "init_instance",
            FailureKind::HandWindow | FailureKind::Tls | FailureKind::Protocol | FailureKind::Negotiation => {
                "tls-error"
            }
        };
        match failure.kind {
            FailureKind::HandWindow | FailureKind::Tls => {
                tracing::warn!("TLS Error: {failure}");
                tracing::info!("TLS Error: TLS handshake failed");
            }
            _ => tracing::warn!("{failure}"),
        }
        End::retry(reason).stay_if(self.completed)
    }
}

impl End {
    fn stay_if(self, stay: bool) -> Self {
        if stay { self.stay() } else { self }
    }
}

/// A client's status text.
fn statistics(stats: &dco::PeerStats, control: Traffic) -> Vec<String> {
    let now = ovpn_sys::local_time::LocalTime::from_system(std::time::SystemTime::now());
    vec![
        "OpenVPN STATISTICS".to_owned(),
        format!("Updated,{now}"),
        format!("TUN/TAP read bytes,{}", stats.vpn.tx_bytes),
        format!("TUN/TAP write bytes,{}", stats.vpn.rx_bytes),
        format!("TCP/UDP read bytes,{}", stats.link.rx_bytes + control.received),
        format!("TCP/UDP write bytes,{}", stats.link.tx_bytes + control.sent),
        format!("Auth read bytes,{}", stats.vpn.rx_bytes),
        "END".to_owned(),
    ]
}

fn same_address(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

/// The sender's session id of a control packet, as stock logs it.
fn session_id(packet: &[u8]) -> String {
    let hex = |range: std::ops::Range<usize>| -> String {
        packet.get(range).unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!("{} {}", hex(1..5), hex(5..9))
}

/// An option for the log: secrets do not appear.
fn masked(option: &str) -> Cow<'_, str> {
    match option.split_once(' ') {
        Some(("auth-token", _)) => Cow::Borrowed("auth-token [[TOKEN]]"),
        _ => Cow::Borrowed(option),
    }
}

fn log_negotiated(config: &Config, negotiated: &Negotiated) {
    let id = negotiated.peer_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    tracing::info!("Data Channel: cipher '{}', peer-id: {id}", negotiated.cipher.name());
    let seconds = |timer: Option<Duration>| timer.map_or(0, |timer| timer.as_secs());
    let timers = &config.timers;
    if timers.ping_exit.is_some() && timers.ping_restart.is_none() {
        tracing::info!("Timers: ping {}, ping-exit {}", seconds(timers.ping), seconds(timers.ping_exit));
    } else {
        tracing::info!(
            "Timers: ping {}, ping-restart {}",
            seconds(timers.ping),
            seconds(timers.ping_restart)
        );
    }
    let mut flags = String::new();
    for (on, word) in [
        (negotiated.cc_exit, " cc-exit"),
        (negotiated.tls_ekm, " tls-ekm"),
        (negotiated.dyn_tls_crypt, " dyn-tls-crypt"),
        (negotiated.format == DataFormat::Epoch, " aead-epoch"),
    ] {
        if on {
            flags.push_str(word);
        }
    }
    if !flags.is_empty() {
        tracing::info!("Protocol options: protocol-flags{flags}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_not_logged() {
        assert_eq!(masked("auth-token SESS_ID_AT_x"), "auth-token [[TOKEN]]");
        assert_eq!(masked("ping 5"), "ping 5");
    }

    #[test]
    fn session_ids_are_shown_in_two_groups() {
        let packet = [0x40, 1, 2, 3, 4, 5, 6, 7, 8, 0];
        assert_eq!(session_id(&packet), "01020304 05060708");
        assert_eq!(session_id(&packet[..3]), " ");
    }
}
