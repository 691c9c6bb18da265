//! One client's task: its session from the first packet to the last, and its place in the data plane.
//!
//! ```text
//!   packets, orders, deadlines ─▶ Session ─▶ AuthRequest ─▶ LoginTask   ─▶ accept / refuse
//!                                          ▶ PushRequest ─▶ ConnectTask ─▶ push reply, peer
//!                                          ▶ InstallKey, UseKey, DropKey ─▶ data plane
//! ```

mod configure;
mod limits;
mod login;
mod orders;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ovpn_config::model::ClientOptions;
use ovpn_control::{Accepted, AuthCause, AuthId, Event, Now, PeerChain, PendingAuth, Session, SystemRandom};
use ovpn_crypto::auth_token::TokenSeries;
use ovpn_dco::{PeerId, PeerStats, TransportId};
use ovpn_join::data_plane::on_key_event;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use self::limits::Limits;
use super::client_environment as variables;
use super::connect_task::Configured;
use super::login::Identity;
use super::login_task::Decision;
use super::password_script::{PasswordCheck, Pending};
use super::registry::{ControlTraffic, Mail};
use super::routing_table::ClientId;
use super::shared::{Shared, unix_now};
use crate::environment::Environment;
use crate::key_budget::KeyBudget;
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
    limits: Limits,
    /// What the data plane counted, as of the last look.
    counted: PeerStats,
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
            limits: Limits { budget, ..Limits::default() },
            counted: PeerStats::default(),
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
        [session, self.limits.deadline()].into_iter().flatten().fold(far, Instant::min)
    }

    fn on_deadline(&mut self) -> Option<String> {
        let now = Instant::now();
        self.session.handle_timeout(Now::system());
        if let Some((_, reason)) = self.limits.leave.filter(|(at, _)| *at <= now) {
            return Some(reason.to_owned());
        }
        if self.limits.session_ends.is_some_and(|at| at <= now) {
            return Some("Session timeout, exiting".to_owned());
        }
        if self.limits.next_look.is_some_and(|at| at <= now) {
            self.look_at_counters();
        }
        if self.limits.next_token.is_some_and(|at| at <= now) {
            self.renew_token();
        }
        self.check_budget(now);
        self.check_idle(now)
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
                self.limits.leave = Some((Instant::now() + LINGER, "remote-exit"));
            }
            Event::Failed(failure) => return Some(failure.to_string()),
            other => tracing::debug!("a client has no business saying {other:?}"),
        }
        None
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
