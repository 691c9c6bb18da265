//! Client mode: one server after another until one answers, and again when it is lost.
//!
//! ```text
//!  ┌─▶ choose a remote ─▶ resolve ─▶ socket ─▶ Connection ─▶ how it ended ─┬─▶ exit
//!  └────────────── pause (back-off) ◀──────────────────────────────────────┘
//! ```
//!
//! The data plane and its device outlive a connection where `persist-tun` says so.

mod connection;
pub(crate) mod login;
mod push_update;
pub(crate) mod remotes;
mod resolve;
mod steering;
mod way;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use ovpn_config::Config;
use ovpn_config::model;
use ovpn_control::{Credentials, TlsClient, Wrapping};
use ovpn_dco::{Mode, SocketSource};

use self::connection::{Connection, End};
use self::login::Login;
use self::remotes::{Advance, Remotes, Retry};
use self::steering::Steering;
use self::way::Way;
use crate::environment::Environment;
use crate::identity::{self, Keyring};
use crate::leak_guard::LeakGuard;
use crate::management::{Handle, TunnelState};
use crate::materials::CrlFile;
use crate::outcome::{Fatal, Outcome};
use crate::plane::Plane;
use crate::setup::Setup;
use crate::signal::{Kind, Signal, Signals};
use crate::status::board;
use crate::{materials, sd_notify, sockets};

/// Runs the client until a signal ends or reloads it.
///
/// # Errors
/// What cannot be repaired by trying again.
pub(crate) async fn run(setup: &Setup, signals: &mut Signals) -> Result<Outcome, Fatal> {
    sd_notify::ready();
    let management = setup.management.as_ref();
    if let Some(management) = management {
        management.state(TunnelState::Connecting, "", (None, None), None);
    }
    if let Some(signal) = hold(management, Duration::ZERO, signals).await {
        return Ok(Outcome::of(&signal).unwrap_or(Outcome::Exit(0)));
    }
    let make = |keyring: &Keyring| materials::tls_client(&setup.config, keyring);
    let tls = match identity::unlocked(&setup.config, management, signals, make).await? {
        Ok(tls) => tls,
        Err(outcome) => return Ok(outcome),
    };
    let mut client = Client::new(setup, tls)?;
    client.guard = LeakGuard::raise(setup.config.routing.block_leaks)?;
    let result = client.run(signals).await;
    client.plane_down("init", &result).await;
    if let Some(guard) = client.guard.take() {
        guard.ended(&result);
    }
    result
}

/// All that outlives a connection.
pub(crate) struct Client {
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) tls: TlsClient,
    crl: Option<CrlFile>,
    pub(crate) login: Login,
    /// Username and password for a proxy, once they are known.
    proxy_login: Option<Credentials>,
    pub(crate) management: Option<Handle>,
    pub(crate) plane: Option<Plane>,
    /// What the kernel's driver refused, which made the engine take over.
    refusal: Option<String>,
    steering: Steering,
    entries: Vec<Entry>,
    remotes: Remotes,
    retry: Retry,
    /// `block-leaks`.
    guard: Option<LeakGuard>,
    /// Proxies that were resolved ahead of time.
    proxies: HashMap<String, SocketAddr>,
    locals: sockets::LocalAddresses,
    /// The last signal, for `down` scripts.
    last_signal: Option<Signal>,
}

/// A connection entry with its keys at hand.
pub(crate) struct Entry {
    pub(crate) options: model::Connection,
    pub(crate) wrapping: Wrapping,
    addresses: Vec<SocketAddr>,
    /// The proxies of the configuration; a program may have chosen others for now.
    proxies: Proxies,
}

type Proxies = (Option<model::HttpProxy>, Option<model::SocksProxy>);

impl Client {
    fn new(setup: &Setup, (tls, crl): (TlsClient, Option<CrlFile>)) -> Result<Self, Fatal> {
        let config = setup.config.clone();
        let mut entries = Vec::new();
        for options in &config.connections {
            let tcp = options.remote.protocol.is_tcp();
            if config.transport.force_tcp.is_some_and(|force| force != tcp) {
                continue;
            }
            let wrapping = materials::wrapping_of(&config, options)?;
            let proxies = (options.http_proxy.clone(), options.socks_proxy.clone());
            entries.push(Entry { options: options.clone(), wrapping, addresses: Vec::new(), proxies });
        }
        if config.transport.remote_random {
            shuffle(&mut entries);
        }
        let Some(first) = entries.first() else {
            return Err(Fatal("No usable connection profiles are present".to_owned()));
        };
        let retry = Retry {
            pause: if config.auth.retry == model::AuthRetry::NoInteract {
                first.options.retry_pause.max(Duration::from_secs(10))
            } else {
                first.options.retry_pause
            },
            longest: first.options.retry_pause_max,
            rounds: config.transport.connect_retry_max,
        };
        Ok(Self {
            tls,
            crl,
            environment: setup.environment(),
            login: Login::default(),
            proxy_login: None,
            management: setup.management.clone(),
            plane: None,
            refusal: None,
            steering: Steering::new(setup.management.as_ref(), config.auth.retry, &entries),
            remotes: Remotes::new(entries.len()),
            entries,
            retry,
            config,
            guard: None,
            proxies: HashMap::new(),
            locals: sockets::LocalAddresses::default(),
            last_signal: None,
        })
    }

    async fn run(&mut self, signals: &mut Signals) -> Result<Outcome, Fatal> {
        if self.config.transport.preresolve || self.guard.is_some() {
            self.resolve_all().await?;
        }
        loop {
            if self.remotes.exhausted(&self.retry) {
                let rounds = self.retry.rounds.unwrap_or_default();
                return Err(Fatal(format!(
                    "All connections have been connect-retry-max ({rounds}) times unsuccessful, exiting"
                )));
            }
            self.remotes.attempt();
            board().handshake_started();
            let end = self.attempt(signals).await?;
            board().peers(Vec::new);
            if !end.completed {
                board().handshake_failed();
            }
            let signal = end.signal.remapped(self.config.process.remap_usr1.map(|to| match to {
                model::RemapUsr1::Hup => Kind::Hup,
                model::RemapUsr1::Term => Kind::Term,
            }));
            tracing::info!("{signal}");
            self.last_signal = Some(signal.clone());
            if let Some(outcome) = Outcome::of(&signal) {
                self.tell(TunnelState::Exiting, &state_word(&signal), None);
                return Ok(outcome);
            }
            self.tell(TunnelState::Reconnecting, &state_word(&signal), None);
            let refusal = self.plane.as_ref().and_then(Plane::refusal);
            if !self.config.device.persist || refusal.is_some() {
                self.refusal = refusal.or(self.refusal.take());
                self.plane_down("restart", &Ok(Outcome::Reload)).await;
            }
            if end.completed {
                self.remotes.completed();
            }
            let addresses =
                self.entries.get(self.remotes.current().0).map_or(0, |entry| entry.addresses.len());
            self.remotes.advance(end.advance, addresses);
            if end.pause {
                let pause = self.remotes.pause(&self.retry, end.backoff);
                tracing::info!("Restart pause, {} second(s)", pause.as_secs());
                let outcome = if self.management.as_ref().is_some_and(Handle::holds) {
                    let signal = hold(self.management.as_ref(), pause, signals).await;
                    let outcome = signal.as_ref().and_then(Outcome::of);
                    self.last_signal = signal.or(self.last_signal.take());
                    outcome
                } else {
                    self.wait(pause, signals).await
                };
                if let Some(outcome) = outcome {
                    return Ok(outcome);
                }
            }
        }
    }

    /// Tells the management interface where the connection stands.
    pub(crate) fn tell(&self, state: TunnelState, detail: &str, remote: Option<SocketAddr>) {
        board().state(state.name());
        if let Some(management) = &self.management {
            management.state(state, detail, (None, None), remote);
        }
    }

    /// Waits between attempts; signals are heard.
    async fn wait(&mut self, pause: Duration, signals: &mut Signals) -> Option<Outcome> {
        let sleep = tokio::time::sleep(pause);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return None,
                signal = signals.next() => {
                    if signal.kind == Kind::Usr2 {
                        continue;
                    }
                    tracing::info!("{signal}");
                    self.last_signal = Some(signal.clone());
                    if let Some(outcome) = Outcome::of(&signal) {
                        return Some(outcome);
                    }
                }
            }
        }
    }

    /// One attempt at one address, to the end of the connection if it comes up.
    async fn attempt(&mut self, signals: &mut Signals) -> Result<End, Fatal> {
        if let Some(crl) = &mut self.crl {
            crl.refresh();
        }
        let (entry_index, address_index) = self.remotes.current();
        // Stock asks for the one or the other, too.
        let chosen = match (self.config.management.query_remote, self.config.management.query_proxy) {
            (true, _) => self.choose(entry_index, signals).await,
            (false, true) => self.choose_proxy(entry_index, signals).await,
            (false, false) => Ok(()),
        };
        if let Err(end) = chosen {
            return Ok(end);
        }
        self.tell(TunnelState::Resolve, "", None);
        let remote = match self.resolve(entry_index, address_index, signals).await {
            Ok(remote) => remote,
            Err(end) => return Ok(end),
        };
        let Some(entry) = self.entries.get(entry_index) else {
            return Err(Fatal("No usable connection profiles are present".to_owned()));
        };
        let options = entry.options.clone();
        if let Some(guard) = &mut self.guard {
            guard.pass(remote.ip())?;
            guard.end_dns()?;
        }
        if let Some(plane) = &mut self.plane {
            plane.keep_way_to(remote.ip().to_canonical());
        }
        let Way { socket, ends, relay } = match self.open_way(&options, remote, signals).await? {
            Ok(way) => way,
            Err(end) => return Ok(end),
        };
        if let Some(plane) = &mut self.plane {
            plane.keep_way_to(ends.outside.ip().to_canonical());
        }
        if let Some(guard) = &mut self.guard {
            guard.pass(ends.outside.ip())?;
        }
        let word = sockets::protocol_word(ends.server, ends.tcp);
        tracing::info!("{word} link remote: {}", sockets::shown(ends.server));
        let credentials =
            match login::obtain(&mut self.login, &self.config, self.management.as_ref(), signals).await? {
                Ok(credentials) => credentials,
                Err(signal) => return Ok(End::from_signal(signal)),
            };
        self.tell(TunnelState::Wait, "", None);
        if self.plane.is_none() {
            let plane = Plane::open(&self.config, Mode::P2p, self.refusal.as_deref())?;
            if let Some(guard) = &mut self.guard {
                guard.device(&plane.data_plane().device().name)?;
            }
            self.plane = Some(plane);
        }
        let Some(plane) = &self.plane else { return Ok(End::retry("init_instance")) };
        let transport = match plane.data_plane().transport_open(SocketSource::Socket(socket)) {
            Ok(transport) => transport,
            Err(error) => return Err(Fatal::new("the data plane does not take the socket", error)),
        };
        let connection = Connection::new(self, entry_index, ends, transport, credentials)?;
        connection.run(relay, signals).await
    }

    pub(crate) fn entry(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// Takes the tunnel down: DNS, routes, addresses, device, scripts.
    async fn plane_down(&mut self, context: &str, result: &Result<Outcome, Fatal>) {
        if let Some(plane) = self.plane.take() {
            let word = match (&self.last_signal, result) {
                (Some(signal), _) => signal.word(),
                (None, _) => "exit".to_owned(),
            };
            plane.close(&self.config, context, &word).await;
        }
    }
}

/// `management-hold`: waits for its release; a signal that ends or reloads the client comes back.
async fn hold(management: Option<&Handle>, pause: Duration, signals: &mut Signals) -> Option<Signal> {
    let hold = management?.hold(pause);
    tokio::pin!(hold);
    loop {
        tokio::select! {
            () = &mut hold => return None,
            signal = signals.next() => {
                if Outcome::of(&signal).is_some() {
                    tracing::info!("{signal}");
                    return Some(signal);
                }
            }
        }
    }
}

/// A signal as the management interface's states name it: `SIGTERM`, `ping-restart`, …
fn state_word(signal: &Signal) -> String {
    signal.soft.as_ref().map_or_else(|| signal.kind.name().to_owned(), ToString::to_string)
}

/// The next signal that is not SIGUSR2, which has nothing to tell while there is no connection.
async fn next_but_usr2(signals: &mut Signals) -> Signal {
    loop {
        let signal = signals.next().await;
        if signal.kind != Kind::Usr2 {
            return signal;
        }
    }
}

fn random_u64() -> u64 {
    use ovpn_control::{Random as _, SystemRandom};
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let bound = u64::try_from(last + 1).unwrap_or(1);
        let other = usize::try_from(random_u64() % bound).unwrap_or(0);
        items.swap(last, other);
    }
}

impl From<ovpn_wire::message::Advance> for Advance {
    fn from(advance: ovpn_wire::message::Advance) -> Self {
        use ovpn_wire::message::Advance as Wire;
        match advance {
            Wire::No => Self::Stay,
            Wire::Unspecified | Wire::Address => Self::Address,
            Wire::Remote => Self::Remote,
        }
    }
}
