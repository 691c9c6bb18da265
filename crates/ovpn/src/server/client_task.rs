//! One client's task: its session from the first packet to the last, and its place in the data plane.
//!
//! ```text
//!   packets, orders, deadlines ─▶ Session ─▶ AuthRequest ─▶ LoginTask   ─▶ accept / refuse
//!                                          ▶ PushRequest ─▶ ConnectTask ─▶ push reply, peer
//!                                          ▶ InstallKey, UseKey, DropKey ─▶ data plane
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ovpn_config::model::{ClientOptions, Compression, Timers};
use ovpn_control::{
    Accepted, AuthCause, AuthId, AuthRequest, Cipher, Event, Negotiated, Now, PeerChain, PendingAuth, Push,
    Reject, Session, SystemRandom,
};
use ovpn_crypto::auth_token::TokenSeries;
use ovpn_dco::{self as dco, DelReason, Framing, PeerConfig, PeerId, PeerStats, TransportId, VpnAddrs};
use ovpn_join::data_plane::{framing, lacks_a_key, on_key_event, outside, peer_update};
use ovpn_wire::message::{AuthFailed, Message, Restart};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::client_environment as variables;
use super::client_options::timers;
use super::connect_task::{Configured, ConnectTask};
use super::interface;
use super::login::{Candidate, Identity};
use super::login_task::{Decision, LoginTask};
use super::names;
use super::password_script::{PasswordCheck, Pending};
use super::pool::Addresses;
use super::registry::{ControlTraffic, Mail, Order};
use super::routing_table::ClientId;
use super::shared::{Shared, local_time, unix_now};
use crate::certificate_environment::set_chain;
use crate::environment::Environment;
use crate::key_budget::KeyBudget;
use crate::management::Handle;
use crate::port::Port;
use crate::sockets;
use crate::status::board;

/// How long a client that said goodbye, or was told to go, is still listened to.
const LINGER: Duration = Duration::from_secs(5);

/// How often a client's counters are looked at.
const LOOK: Duration = Duration::from_secs(30);

/// What a newcomer starts with.
pub(crate) struct Newcomer {
    /// What all clients share.
    pub(crate) shared: Arc<Shared>,
    /// Its number.
    pub(crate) id: ClientId,
    /// Its peer id.
    pub(crate) peer: PeerId,
    /// Packets and orders for it.
    pub(crate) mail: Mail,
    /// The way back to it.
    pub(crate) port: Arc<Port>,
    /// The port's transport.
    pub(crate) transport: TransportId,
    /// Where it is.
    pub(crate) remote: SocketAddr,
    /// The address it sent to, with `multihome`.
    pub(crate) local: Option<IpAddr>,
    /// Its transport is a connection of its own, from which this task reads.
    pub(crate) tcp: bool,
}

enum Done {
    Login(Decision),
    Connect(Option<Box<Configured>>),
}

/// A running client.
pub(crate) struct ClientTask {
    base: Newcomer,
    session: Session,
    span: tracing::Span,
    jobs: JoinSet<Done>,
    pending: mpsc::UnboundedReceiver<(AuthId, Pending)>,
    pending_sender: mpsc::UnboundedSender<(AuthId, Pending)>,
    environment: Environment,
    identity: Option<Identity>,
    /// With `auth-gen-token`: its tokens, once it has logged in.
    series: Option<TokenSeries>,
    check: Option<Arc<PasswordCheck>>,
    /// The last login that was asked for, and why.
    asked: Option<(AuthId, AuthCause)>,
    /// How many logins were asked for.
    logins: u64,
    /// What the management interface gave it at its login.
    granted: Option<Box<ClientOptions>>,
    /// The certificates of its last login.
    chain: Option<PeerChain>,
    /// Programs at the management interface have heard of it.
    announced: bool,
    /// What its control channel moves.
    control: Arc<ControlTraffic>,
    configured: Option<Box<Configured>>,
    in_data_plane: bool,
    started: Instant,
    since: i64,
    leave: Option<(Instant, &'static str)>,
    session_ends: Option<Instant>,
    idle: Option<Idle>,
    /// `reneg-bytes`, `reneg-pkts`.
    budget: Option<KeyBudget>,
    next_token: Option<Instant>,
    /// What the data plane counted, as of the last look.
    counted: PeerStats,
    next_look: Option<Instant>,
}

/// `inactive`: when to look, and what was counted last.
struct Idle {
    after: Duration,
    bytes: u64,
    next: Instant,
    counted: u64,
}

impl ClientTask {
    /// Serves an accepted client to its end.
    pub(crate) async fn serve(base: Newcomer, accepted: Accepted) {
        board().handshake_started();
        let span = peer_span(&sockets::shown(base.remote));
        let shared = Arc::clone(&base.shared);
        let id = base.id;
        let Some(params) = shared.params(base.remote, base.tcp) else { return };
        match Session::server(params, accepted, Box::new(SystemRandom), Now::system()) {
            Ok(session) => Self::new(base, session, span).run().await,
            Err(failure) => {
                let _entered = span.entered();
                tracing::error!("{failure}");
                shared.registry().remove(id);
            }
        }
    }

    fn new(base: Newcomer, session: Session, span: tracing::Span) -> Self {
        let mut environment = base.shared.environment.clone();
        variables::set_remote(&mut environment, base.remote, false);
        let budget = KeyBudget::new(&base.shared.config.timers, Instant::now());
        let (pending_sender, pending) = mpsc::unbounded_channel();
        let control = base.shared.registry().client(base.id).map(|client| Arc::clone(&client.control));
        let control = control.unwrap_or_default();
        Self {
            environment,
            base,
            session,
            span,
            jobs: JoinSet::new(),
            pending,
            pending_sender,
            identity: None,
            series: None,
            check: None,
            asked: None,
            logins: 0,
            granted: None,
            chain: None,
            announced: false,
            control,
            configured: None,
            in_data_plane: false,
            started: Instant::now(),
            since: unix_now(),
            leave: None,
            session_ends: None,
            idle: None,
            budget,
            next_token: None,
            counted: PeerStats::default(),
            next_look: None,
        }
    }

    async fn run(mut self) {
        let mut buffer = vec![0; if self.base.tcp { 4096 } else { 0 }];
        let reason = loop {
            let span = self.span.clone();
            if let Some(reason) = self.turn(&mut buffer).instrument(span).await {
                break reason;
            }
        };
        let span = self.span.clone();
        self.finish(reason).instrument(span).await;
    }

    /// One thing that happens; a reason when it was the last.
    async fn turn(&mut self, buffer: &mut [u8]) -> Option<String> {
        while let Some(event) = self.session.poll_event() {
            if let Some(reason) = self.on_event(event) {
                return Some(reason);
            }
        }
        self.flush();
        let deadline = self.deadline();
        let tcp = self.base.tcp;
        let Newcomer { mail, port, .. } = &mut self.base;
        tokio::select! {
            packet = mail.packets.recv(), if !tcp => {
                if let Some(packet) = packet {
                    self.base.local = packet.local.or(self.base.local);
                    self.on_packet(&packet.bytes);
                }
                None
            }
            received = port.recv(buffer), if tcp => match received {
                Ok(received) => {
                    self.on_packet(buffer.get(..received.len).unwrap_or_default());
                    None
                }
                Err(error) => Some(format!("Connection reset, restarting [{error}]")),
            },
            order = mail.orders.recv() => order.and_then(|order| self.on_order(order)),
            Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => match done {
                Ok(Done::Login(decision)) => {
                    self.on_decision(decision);
                    None
                }
                Ok(Done::Connect(configured)) => self.on_configured(configured),
                Err(error) => Some(format!("internal error: {error}")),
            },
            Some((id, pending)) = self.pending.recv() => {
                let info = Some(pending.extra).filter(|extra| !extra.is_empty());
                self.session.auth_pending(Now::system(), id, &PendingAuth { timeout: pending.timeout, info });
                None
            }
            () = tokio::time::sleep_until(deadline.into()) => self.on_deadline(),
        }
    }

    fn on_packet(&mut self, packet: &[u8]) {
        self.control.received.fetch_add(packet.len() as u64, Ordering::Relaxed);
        // A dropped packet is logged by the session, with its reason.
        let _ = self.session.handle_packet(Now::system(), packet);
    }

    fn flush(&mut self) {
        while let Some(packet) = self.session.poll_transmit() {
            self.control.sent.fetch_add(packet.len() as u64, Ordering::Relaxed);
            if let Err(error) = self.base.port.send(&packet, self.base.remote, self.base.local) {
                tracing::debug!("write: {error}");
            }
        }
    }

    fn deadline(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let session = self.session.poll_timeout().map(|(at, _)| at);
        let leave = self.leave.map(|(at, _)| at);
        let idle = self.idle.as_ref().map(|idle| idle.next);
        let budget = self.budget.as_ref().map(KeyBudget::next);
        [session, leave, idle, budget, self.session_ends, self.next_token, self.next_look]
            .into_iter()
            .flatten()
            .fold(far, Instant::min)
    }

    fn on_deadline(&mut self) -> Option<String> {
        let now = Instant::now();
        self.session.handle_timeout(Now::system());
        if let Some((_, reason)) = self.leave.filter(|(at, _)| *at <= now) {
            return Some(reason.to_owned());
        }
        if self.session_ends.is_some_and(|at| at <= now) {
            return Some("Session timeout, exiting".to_owned());
        }
        if self.next_look.is_some_and(|at| at <= now) {
            self.look_at_counters();
        }
        if self.next_token.is_some_and(|at| at <= now) {
            self.renew_token();
        }
        self.check_budget(now);
        self.check_idle(now)
    }

    /// Asks for a new key where `reneg-bytes` or `reneg-pkts` say so.
    fn check_budget(&mut self, now: Instant) {
        let Some(budget) = &mut self.budget else { return };
        let (plane, peer) = (&self.base.shared.data_plane, self.base.peer);
        let stats = || plane.peer_get(peer).ok().map(|info| info.stats);
        if budget.is_spent(now, stats) {
            self.session.renegotiate(Now::system());
        }
    }

    fn check_idle(&mut self, now: Instant) -> Option<String> {
        let idle = self.idle.as_mut().filter(|idle| idle.next <= now)?;
        idle.next = now + idle.after;
        let stats = self.base.shared.data_plane.peer_get(self.base.peer).ok()?.stats.vpn;
        let counted = stats.rx_bytes + stats.tx_bytes;
        let moved = counted.saturating_sub(idle.counted);
        idle.counted = counted;
        (moved <= idle.bytes).then(|| "Inactivity timeout (--inactive), exiting".to_owned())
    }

    fn on_order(&mut self, order: Order) -> Option<String> {
        match order {
            Order::Close(reason) => Some(reason.to_owned()),
            Order::Restart { advance } => {
                let restart = Restart { keep_credentials: true, advance, text: String::new() };
                self.session.send_message(Now::system(), &Message::Restart(restart).to_string());
                self.leave = Some((Instant::now() + LINGER, "the server restarts"));
                None
            }
            Order::Leave(message) => {
                self.session.send_message(Now::system(), &message);
                self.leave = Some((Instant::now() + LINGER, "told to go by the management interface"));
                None
            }
            Order::Update(options) => {
                match self.session.send_push_update(Now::system(), &options) {
                    Ok(true) => {
                        tracing::info!("SENT CONTROL [{}]: 'PUSH_UPDATE,{}'", self.name(), options.join(","))
                    }
                    Ok(false) => tracing::info!("PUSH_UPDATE not sent: the client does not know it"),
                    Err(failure) => tracing::warn!("PUSH_UPDATE not sent: {failure}"),
                }
                None
            }
            Order::CheckCertificate => {
                self.check_certificate();
                None
            }
            Order::Plane(event) => self.on_plane(event),
        }
    }

    /// The revocation lists have changed: a client that they name now is cut at once, and told to stay away.
    fn check_certificate(&mut self) {
        let Some(chain) = &self.chain else { return };
        let shared = &self.base.shared;
        let now = u64::try_from(unix_now()).unwrap_or_default();
        let Some(why) = shared.tls.revoked_since(chain, now) else { return };
        if self.leave.is_some() {
            return;
        }
        tracing::info!("the client is cut off: {why}");
        self.session.send_message(Now::system(), "HALT,your certificate has been revoked");
        self.leave_data_plane();
        self.leave = Some((Instant::now() + LINGER, "certificate revoked"));
    }

    fn on_plane(&mut self, event: dco::Event) -> Option<String> {
        match event {
            // Asked for by this process; it comes late, and the id may be another client's by now.
            dco::Event::PeerDeleted { reason: DelReason::Userspace, .. } => None,
            dco::Event::PeerDeleted { reason, .. } => {
                self.in_data_plane = false;
                match reason {
                    DelReason::Expired => Some("Inactivity timeout (--ping-restart), restarting".to_owned()),
                    _ => Some(format!("Connection reset, restarting [{reason:?}]")),
                }
            }
            dco::Event::KeySwap { key_id, .. } => {
                tracing::info!("the data plane asks for a new key: key {key_id} is used up");
                self.session.renegotiate(Now::system());
                None
            }
            dco::Event::PeerFloat { remote, .. } => {
                // The same socket goes on serving it: the address keeps the form that the socket understands.
                let remote = match (self.base.remote, remote.ip()) {
                    (SocketAddr::V6(_), IpAddr::V4(ip)) => {
                        SocketAddr::new(ip.to_ipv6_mapped().into(), remote.port())
                    }
                    _ => remote,
                };
                tracing::info!("Float requested for peer {} to {}", self.base.peer, sockets::shown(remote));
                self.base.remote = remote;
                self.base.shared.registry().moved(self.base.id, remote);
                self.rename();
                None
            }
            dco::Event::PeerExit { .. } => {
                tracing::info!("OCC exit message received by peer");
                Some("remote-exit".to_owned())
            }
            dco::Event::Lost if !self.in_data_plane => None,
            dco::Event::Lost => {
                let (plane, peer) = (Arc::clone(&self.base.shared.data_plane), self.base.peer);
                let Ok(info) = plane.peer_get(peer) else {
                    self.in_data_plane = false;
                    return Some("the data plane has lost the client".to_owned());
                };
                if lacks_a_key(&*plane, peer) {
                    self.session.renegotiate(Now::system());
                }
                let here = self.base.remote;
                let moved = info.remote.filter(|there| {
                    !self.base.tcp
                        && (there.ip().to_canonical(), there.port())
                            != (here.ip().to_canonical(), here.port())
                });
                moved.and_then(|remote| self.on_plane(dco::Event::PeerFloat { peer, remote }))
            }
            dco::Event::DataPlaneGone => Some("the data plane is gone".to_owned()),
        }
    }

    fn on_event(&mut self, event: Event) -> Option<String> {
        match event {
            Event::PeerConnected { tls, remote_options, .. } => {
                tracing::info!("Control Channel: {tls}");
                tracing::debug!("client's options: {remote_options}");
            }
            Event::AuthRequest(request) => self.on_auth_request(request),
            Event::PushRequest => self.on_push_request(),
            Event::InstallKey { .. } | Event::UseKey { .. } | Event::DropKey { .. } => {
                let plane = &self.base.shared.data_plane;
                let done = self.in_data_plane.then(|| on_key_event(&**plane, self.base.peer, &event));
                if let Some(Some(Err(error))) = done {
                    return Some(format!("the data plane does not take the key: {error}"));
                }
            }
            Event::KeyRenewed { tls } => tracing::info!("Control Channel: {tls}"),
            Event::Established(_) => {}
            Event::CrResponse(response) => self.on_challenge_response(response),
            Event::Exit => {
                tracing::info!("CC-EEN exit message received by peer");
                self.leave_data_plane();
                self.leave = Some((Instant::now() + LINGER, "remote-exit"));
            }
            Event::Failed(failure) => return Some(failure.to_string()),
            other => tracing::debug!("a client has no business saying {other:?}"),
        }
        None
    }

    fn on_auth_request(&mut self, request: Box<AuthRequest>) {
        self.asked = Some((request.id, request.cause));
        self.logins += 1;
        let shared = &self.base.shared;
        let chain = request.chain.as_ref();
        let mut environment = self.environment.clone();
        environment.set_peer_info(&request.peer_info.to_string());
        if let Some(chain) = chain {
            set_chain(&mut environment, chain, &shared.config.tls.x509_track);
            let fields = &shared.config.tls.x509_username_fields;
            environment.set("common_name", names::of_certificate(chain, fields).unwrap_or_default());
        }
        if shared.config.auth.verify.is_some() && self.check.is_none() {
            match PasswordCheck::new(shared.config.server.tmp_dir.as_deref()) {
                Ok(check) => self.check = Some(Arc::new(check)),
                Err(error) => tracing::error!("no files for auth-user-pass-verify: {error}"),
            }
        }
        if request.cause == AuthCause::Connect {
            self.environment = environment.clone();
        }
        let reconnects = request.cause == AuthCause::Reconnect;
        self.chain = request.chain.clone();
        self.announced |= shared.management.as_ref().is_some_and(Handle::judges_clients);
        let task = LoginTask {
            shared: Arc::clone(shared),
            client: self.base.id,
            key: self.logins,
            established: self.configured.is_some() && !reconnects,
            request,
            locked: self.identity.clone(),
            // A client that starts anew may log in anew.
            series: self.series.filter(|_| !reconnects),
            environment,
            check: self.check.clone(),
            pending: self.pending_sender.clone(),
            now: unix_now(),
        };
        let span = self.span.clone();
        self.jobs.spawn(async move { Done::Login(task.run().await) }.instrument(span));
    }

    fn on_decision(&mut self, decision: Decision) {
        // The files of a login serve it alone.
        self.check = None;
        match decision {
            Decision::Accept(id, candidate, granted) => {
                self.granted = granted.or(self.granted.take());
                let Candidate { identity, token } = candidate;
                let cause = self.asked.filter(|(asked, _)| *asked == id).map(|(_, cause)| cause);
                let first = self.identity.is_none();
                if first {
                    self.identified(identity);
                }
                if self.base.shared.tokens.is_some() {
                    let continued = token.and_then(|token| token.series);
                    self.series = continued.or(self.series).or_else(|| Some(new_series()));
                }
                self.session.auth_accept(Now::system(), id);
                if cause == Some(AuthCause::Renegotiate) {
                    self.renew_token();
                }
            }
            Decision::Reject { id, log, reason } => {
                tracing::warn!("TLS Auth Error: {log}");
                let failure = match Message::parse(&format!("AUTH_FAILED,{reason}")) {
                    Message::AuthFailed(failure) => failure,
                    _ => AuthFailed::Refused(reason),
                };
                let established = self.session.negotiated().is_some();
                let reconnects = matches!(self.asked, Some((_, AuthCause::Reconnect)));
                self.session.auth_reject(Now::system(), id, &Reject { failure });
                if established && !reconnects {
                    self.leave_data_plane();
                }
            }
        }
    }

    /// The client's names are known: for the log, scripts and the registry.
    fn identified(&mut self, identity: Identity) {
        self.environment.set("common_name", &identity.common_name);
        if let Some(username) = &identity.username {
            self.environment.set("username", username);
        }
        variables::set_remote(&mut self.environment, self.base.remote, true);
        variables::set_time(&mut self.environment, &local_time(self.since), self.since);
        let username = identity.username.as_deref();
        self.base.shared.registry().log_in(self.base.id, &identity.common_name, username);
        let remote = sockets::shown(self.base.remote);
        tracing::info!("[{}] Peer Connection Initiated with {remote}", identity.common_name);
        self.identity = Some(identity);
        self.rename();
    }

    fn rename(&mut self) {
        self.span = peer_span(&self.tag());
    }

    /// `CN/ip:port`.
    fn tag(&self) -> String {
        let remote = SocketAddr::new(self.base.remote.ip().to_canonical(), self.base.remote.port());
        match &self.identity {
            Some(identity) => format!("{}/{remote}", identity.common_name),
            None => remote.to_string(),
        }
    }

    fn on_push_request(&mut self) {
        if let Some(configured) = self.configured.take() {
            // The client started anew on the same address: everything but its keys stays.
            if let Some(reason) = self.push(configured) {
                tracing::warn!("{reason}");
            }
            return;
        }
        let task = ConnectTask {
            shared: Arc::clone(&self.base.shared),
            id: self.base.id,
            common_name: self.identity.as_ref().map(|who| who.common_name.clone()).unwrap_or_default(),
            tag: self.tag(),
            granted: self.granted.as_deref().cloned(),
            environment: self.environment.clone(),
        };
        let span = self.span.clone();
        self.jobs.spawn(async move { Done::Connect(task.run().await.map(Box::new)) }.instrument(span));
    }

    fn on_configured(&mut self, configured: Option<Box<Configured>>) -> Option<String> {
        let Some(configured) = configured else {
            self.session.send_message(Now::system(), "AUTH_FAILED");
            self.leave = Some((Instant::now() + LINGER, "the client was refused"));
            return None;
        };
        self.environment = configured.environment.clone();
        if let (Some(name), Some(identity)) = (&configured.options.override_username, &mut self.identity) {
            // From here on it is the one; with `auth-gen-token` the client itself uses it from its next login on.
            tracing::info!("MULTI: override-username: {name}");
            identity.username = Some(name.clone());
            self.environment.set("username", name);
            self.base.shared.registry().note(self.base.id, |facts| facts.username = Some(name.clone()));
        }
        let end = self.push(configured);
        if end.is_none() && self.in_data_plane {
            self.tell_programs("ESTABLISHED", &[]);
        }
        end
    }

    /// Tells programs at the management interface that something happened to this client.
    fn tell_programs(&self, what: &str, more: &[(&str, &str)]) {
        let shared = &self.base.shared;
        if let Some(management) = shared.management.as_ref().filter(|_| self.announced) {
            let variables = interface::variables(shared, &self.environment, more);
            management.client_event(format!("{what},{}", self.base.id), Some(variables));
        }
    }

    /// The common name, or nothing.
    fn name(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.common_name)
    }

    /// Sends the push reply and puts the client into the data plane.
    fn push(&mut self, configured: Box<Configured>) -> Option<String> {
        let shared = Arc::clone(&self.base.shared);
        let mut options = configured.push.clone();
        if let (Some(tokens), Some(series)) = (&shared.tokens, &self.series) {
            if configured.options.override_username.is_some() {
                options.push(format!("auth-token-user {}", BASE64.encode(self.username())));
            }
            options.push(format!("auth-token {}", tokens.issue(series, self.username(), unix_now())));
        }
        let ciphers = configured.options.data_ciphers.as_ref();
        let push = Push {
            options,
            peer_id: self.base.peer.get(),
            tun_mtu: shared.config.device.mtu,
            data_ciphers: ciphers.map(|list| list.iter().filter_map(|c| known_cipher(c.name())).collect()),
        };
        self.configured = Some(configured);
        let negotiated = match self.session.send_push_reply(Now::system(), &push) {
            Ok(negotiated) => negotiated,
            Err(failure) => {
                tracing::warn!("{failure}");
                return None;
            }
        };
        let told: Vec<&str> = push.options.iter().map(|option| without_secret(option)).collect();
        let common_name = self.identity.as_ref().map_or("", |identity| &identity.common_name);
        tracing::info!("SENT CONTROL [{common_name}]: 'PUSH_REPLY,{}' (status=1)", told.join(","));
        tracing::info!("Data Channel: cipher '{}', peer-id: {}", negotiated.cipher.name(), push.peer_id);
        self.enter_data_plane(&negotiated)
    }

    fn enter_data_plane(&mut self, negotiated: &Negotiated) -> Option<String> {
        let shared = Arc::clone(&self.base.shared);
        let (config, plane) = (&shared.config, &shared.data_plane);
        let configured = self.configured.as_ref()?;
        let assignment = &configured.assignment;
        let timers = timers(&config.timers, &configured.options);
        let addresses = Addresses { v4: assignment.v4, v6: assignment.v6 };
        let takes_updates = self.session.takes_push_updates();
        shared.registry().note(self.base.id, |facts| {
            facts.takes_updates = takes_updates;
            facts.cipher = Some(negotiated.cipher.name().to_owned());
            facts.addresses = Some(addresses);
        });
        if !self.in_data_plane {
            let peer = PeerConfig {
                id: self.base.peer,
                tx_id: None,
                transport: self.base.transport,
                remote: (!self.base.tcp).then_some(self.base.remote),
                local: self.base.local,
                vpn: VpnAddrs { v4: assignment.v4, v6: assignment.v6 },
                framing: self.framing(configured),
            };
            let outside = outside(self.base.remote, self.base.tcp, negotiated.format);
            let update = peer_update(&timers, config.data.mssfix, config.device.mtu, outside);
            let id = self.base.peer;
            if let Err(error) = plane.peer_new(&peer).and_then(|()| plane.peer_set(id, &update)) {
                return Some(format!("the data plane does not take the client: {error}"));
            }
            self.in_data_plane = true;
            self.next_look = Some(Instant::now() + LOOK);
            for (family, address) in
                [("", assignment.v4.map(IpAddr::from)), (" IPv6", assignment.v6.map(IpAddr::from))]
            {
                if let Some(address) = address {
                    tracing::info!("MULTI: primary virtual{family} IP for {}: {address}", self.tag());
                }
            }
            for net in &configured.iroutes {
                shared.add_iroute(*net, self.base.peer, assignment);
            }
        }
        self.set_limits(&timers);
        None
    }

    /// The framing that this client speaks: what `compress migrate` steered it to, its own options, or the common ones.
    fn framing(&self, configured: &Configured) -> Framing {
        let own = configured.options.compression.unwrap_or(self.base.shared.config.data.compression);
        framing(match self.session.migrated_compression() {
            Some("comp-lzo no") => Some(Compression::CompLzo),
            Some(_) => None,
            None => own,
        })
    }

    fn set_limits(&mut self, timers: &Timers) {
        self.session_ends = timers.session_timeout.map(|timeout| self.started + timeout);
        self.idle = timers.inactive.map(|inactive| Idle {
            after: inactive.after,
            bytes: inactive.bytes,
            next: Instant::now() + inactive.after,
            counted: 0,
        });
        self.schedule_token();
    }

    fn username(&self) -> &str {
        self.identity.as_ref().and_then(|identity| identity.username.as_deref()).unwrap_or_default()
    }

    /// Tokens outlive renegotiations that are rarer than they last.
    fn schedule_token(&mut self) {
        let renewal = self.base.shared.tokens.as_ref().map(|tokens| tokens.renewal());
        let reneg = self.base.shared.config.timers.reneg;
        self.next_token = renewal
            .filter(|renewal| !renewal.is_zero() && reneg.is_none_or(|reneg| *renewal < reneg))
            .map(|renewal| Instant::now() + renewal);
    }

    fn renew_token(&mut self) {
        let shared = Arc::clone(&self.base.shared);
        if let (Some(tokens), Some(series)) = (&shared.tokens, &self.series) {
            let token = tokens.issue(series, self.username(), unix_now());
            self.session.send_message(Now::system(), &format!("PUSH_REPLY,auth-token {token}"));
        }
        self.schedule_token();
    }

    fn on_challenge_response(&mut self, response: String) {
        let config = &self.base.shared.config;
        let Some((id, _)) = self.asked else { return };
        if let Some(management) = self.base.shared.management.as_ref().filter(|_| self.announced) {
            let variables = interface::variables(&self.base.shared, &self.environment, &[]);
            let head = format!("CR_RESPONSE,{},{},{response}", self.base.id, self.logins);
            management.client_event(head, Some(variables));
            if config.auth.crresponse.is_none() {
                return;
            }
        }
        let (Some(command), Some(check)) = (config.auth.crresponse.clone(), self.check.clone()) else {
            tracing::info!("a challenge response, and no client-crresponse to hand it to");
            return;
        };
        let shared = Arc::clone(&self.base.shared);
        let environment = self.environment.clone();
        let span = self.span.clone();
        let run = async move {
            if check.challenge_response(&command, shared.runner(), &response, environment).await {
                // The decision comes by the control file, to the login that waits for it.
                std::future::pending::<()>().await;
            }
            let log = "client-crresponse refused".to_owned();
            Done::Login(Decision::Reject { id, log, reason: String::new() })
        };
        self.jobs.spawn(run.instrument(span));
    }

    /// The data plane forgets a silent peer together with its counters: what they were is kept.
    fn look_at_counters(&mut self) {
        if self.in_data_plane
            && let Ok(info) = self.base.shared.data_plane.peer_get(self.base.peer)
        {
            self.counted = info.stats;
        }
        self.next_look = self.in_data_plane.then(|| Instant::now() + LOOK);
    }

    fn leave_data_plane(&mut self) {
        self.look_at_counters();
        if std::mem::take(&mut self.in_data_plane) {
            // It may be gone already.
            let _ = self.base.shared.data_plane.peer_del(self.base.peer);
        }
    }

    /// The end: everything is given back, and scripts are told.
    async fn finish(mut self, reason: String) {
        tracing::info!("{reason}");
        let shared = Arc::clone(&self.base.shared);
        self.session.close(Now::system());
        self.flush();
        self.leave_data_plane();
        if let Some(configured) = &self.configured {
            for net in &configured.iroutes {
                shared.remove_iroute(*net, self.base.peer);
            }
        }
        self.jobs.shutdown().await;
        let networks = shared.registry().remove(self.base.id);
        let PeerStats { link, .. } = self.counted;
        let seconds = self.started.elapsed().as_secs();
        let received = link.rx_bytes + self.control.received.load(Ordering::Relaxed);
        let sent = link.tx_bytes + self.control.sent.load(Ordering::Relaxed);
        variables::set_totals(&mut self.environment, received, sent, seconds);
        self.tell_programs("DISCONNECT", &[]);
        let completed = self.configured.is_some();
        if !completed {
            board().handshake_failed();
        }
        if let Some(command) = shared.config.server.client_disconnect.as_ref().filter(|_| completed) {
            shared.runner().client_disconnect(command, &self.environment).await;
        }
        if let Some(command) = &shared.config.server.learn_address {
            for net in networks {
                shared.runner().forget_address(command, net, &self.environment).await;
            }
        }
        // Dropping the mail tells those who wait for the end.
    }
}

fn peer_span(tag: &str) -> tracing::Span {
    tracing::info_span!(parent: None, "peer", "{tag}")
}

fn new_series() -> TokenSeries {
    use ovpn_control::Random as _;
    let mut session_id = [0; 12];
    SystemRandom.fill(&mut session_id);
    TokenSeries { session_id, initial_time: unix_now() }
}

fn known_cipher(name: &str) -> Option<Cipher> {
    Cipher::parse_list(name).first().copied()
}

/// An option as the log may show it.
fn without_secret(option: &str) -> &str {
    if option.starts_with("auth-token ") { "auth-token [redacted]" } else { option }
}
