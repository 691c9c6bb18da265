//! The running server: sockets, one task for each client, and the table that they share.
//!
//! ```text
//!   UDP port ──▶ by address ─┬─▶ client task (session, timers, scripts) ──▶ data plane
//!                            └─▶ endpoint: cookie ──▶ new client task
//!   TCP accept ─────────────────▶ client task with a port of its own
//!   data plane's events ──▶ by peer id ──▶ client task
//! ```
//!
//! A client's task waits for its own scripts only; what clients share is taken for moments, never over a wait.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::Ipv4Net;
use ovpn_config::Config;
use ovpn_config::model::{Ifconfig, RemapUsr1};
use ovpn_control::{
    Endpoint, InitialRate, Link, Random as _, ServerParams, SystemRandom, TlsServer, Wrapping,
};
use ovpn_crypto::auth_token::TokenKey;
use ovpn_crypto::secret::Secret;
use ovpn_dco as dco;
use ovpn_join::params;
use ovpn_sys::netlink::route::Rtnetlink;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use super::addresses::ServerSide;
use super::admission::RateLimit;
use super::device::Device;
use super::files::Rewritten;
use super::interface;
use super::listener::{self, Listener};
use super::pool::{AddressPool, Addresses};
use super::registry::{Order, Registry};
use super::shared::{Shared, local_time};
use super::status::StatusVersion;
use super::tokens::Tokens;
use crate::identity::Keyring;
use crate::management::{Handle, TunnelState};
use crate::materials::CrlFile;
use crate::nat::Nat;
use crate::outcome::{Fatal, Outcome};
use crate::setup::Setup;
use crate::signal::{Kind, Signal, Signals};
use crate::status::{PeerFacts, board};
use crate::{materials, port, privileges, sd_notify};

/// How long clients' last words and scripts are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often revocation lists are looked at: those that they concern are cut within two seconds.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the server until a signal ends or reloads it.
///
/// # Errors
/// What prevents it from serving.
pub(crate) async fn run(setup: &Setup, signals: &mut Signals) -> Result<Outcome, Fatal> {
    let config = &setup.config;
    let management = setup.management.as_ref();
    let tell = |state, detail: &str| interface::tell(management, config, state, detail);
    let mut keys = Keys::read(config)?;
    let mut files = Files::open(config);
    tell(TunnelState::Connecting, "");
    let mut device: Option<Opened> = None;
    loop {
        let signal = match hold(management, signals).await {
            Some(signal) => signal,
            None => serve(setup, signals, &mut keys, &mut files, &mut device).await?,
        };
        tracing::info!("{signal}");
        let outcome = Outcome::of(&signal);
        let word = if signal.soft.is_some() { signal.word() } else { signal.kind.name().to_owned() };
        match &outcome {
            Some(Outcome::Exit(_)) => tell(TunnelState::Exiting, &word),
            _ => tell(TunnelState::Reconnecting, &word),
        }
        // SIGUSR1 keeps the keys, and the device where `persist-tun` says so.
        if (outcome.is_some() || !config.device.persist)
            && let Some(Opened { device, nat, .. }) = device.take()
        {
            drop(nat);
            device.close(config, &signal.word()).await;
        }
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
    }
}

/// `management-hold`: a signal that came before the release.
async fn hold(management: Option<&Handle>, signals: &mut Signals) -> Option<Signal> {
    let hold = management?.hold(Duration::ZERO);
    tokio::pin!(hold);
    loop {
        tokio::select! {
            () = &mut hold => return None,
            signal = signals.next() => {
                if Outcome::of(&signal).is_some() {
                    return Some(signal);
                }
            }
        }
    }
}

/// What is read once, while it may be read.
struct Keys {
    tls: TlsServer,
    revocations: Option<CrlFile>,
    wrapping: Wrapping,
    v2: Option<ovpn_control::TlsCryptV2Server>,
    tokens: Option<Arc<Tokens>>,
}

impl Keys {
    fn read(config: &Config) -> Result<Self, Fatal> {
        let (tls, crl) = materials::tls_server(config, &Keyring::default())?;
        Ok(Self {
            tls,
            revocations: crl,
            wrapping: materials::wrapping(
                &config.tls,
                config.tls.tls_auth.as_ref(),
                config.tls.tls_crypt.as_ref(),
                None,
            )?,
            v2: materials::tls_crypt_v2_server(&config.tls)?,
            tokens: tokens(config)?.map(Arc::new),
        })
    }
}

/// What is written now and then.
struct Files {
    status: Option<Rewritten>,
    pool: Option<Rewritten>,
}

impl Files {
    fn open(config: &Config) -> Self {
        let open = |option: &str, path: &str| match Rewritten::open(path) {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::warn!("--{option} {path}: {error}");
                None
            }
        };
        let persist = config.server.pool_persist.as_ref().filter(|persist| persist.interval.is_some());
        Self {
            status: config.process.status.as_ref().and_then(|status| open("status", &status.path)),
            pool: persist.and_then(|persist| open("ifconfig-pool-persist", &persist.file)),
        }
    }

    fn write_status(&mut self, shared: &Shared) {
        if let Some(file) = &mut self.status {
            write(file, &shared.status().render(status_version(shared), local_time));
        }
    }

    fn save_pool(&mut self, shared: &Shared) {
        let text = shared.registry().pool.as_ref().map(AddressPool::save);
        if let (Some(file), Some(text)) = (&mut self.pool, text) {
            write(file, &text);
        }
    }
}

fn write(file: &mut Rewritten, text: &str) {
    if let Err(error) = file.write(text) {
        tracing::warn!("{}: {error}", file.path());
    }
}

/// The device, with what is set up around it.
struct Opened {
    device: Device,
    events: mpsc::UnboundedReceiver<dco::Event>,
    nat: Option<Nat>,
}

/// Serves until a signal comes.
async fn serve(
    setup: &Setup,
    signals: &mut Signals,
    keys: &mut Keys,
    files: &mut Files,
    opened: &mut Option<Opened>,
) -> Result<Signal, Fatal> {
    let config = setup.config.clone();
    let management = setup.management.clone();
    let pool = pool(&config)?;
    let Opened { device, events: plane_events, .. } = match opened {
        Some(opened) => opened,
        place => {
            interface::tell(management.as_ref(), &config, TunnelState::AssignIp, "");
            let device = Device::open(&config, setup.environment()).await?;
            let events = port::events(&**device.data_plane())
                .map_err(|error| Fatal::new("the data plane's events", error))?;
            let name = &device.data_plane().device().name;
            let nat = if config.server.nat { Some(Nat::set(&config, name)?) } else { None };
            place.insert(Opened { device, events, nat })
        }
    };
    let data_plane = Arc::clone(device.data_plane());

    let params = |link| {
        let session = params::session(
            &config,
            link,
            keys.wrapping.clone(),
            config.connections.first().map_or(DEFAULT_MAX_PACKET, |entry| entry.max_packet_size),
            data_plane.capabilities(),
        );
        Arc::new(server_params(&config, session, keys.tls.clone(), keys.v2.clone()))
    };
    let params = [Link::UdpV4, Link::UdpV6, Link::TcpV4, Link::TcpV6].map(params).to_vec();
    let connect_freq = config.server.connect_freq.map(RateLimit::new);
    let registry = Registry::new(config.server.max_clients, connect_freq, pool);
    let shared = Arc::new(Shared {
        environment: device.environment.clone(),
        data_plane,
        tokens: keys.tokens.clone(),
        server_side: server_side(&config),
        params,
        tls: keys.tls.clone(),
        management,
        judges: interface::Judges::default(),
        registry: Mutex::new(registry),
        routes: Mutex::new(Rtnetlink::open().map_err(|error| Fatal::new("rtnetlink", error))?),
        config,
    });
    let config = &shared.config;

    let mut services = JoinSet::new();
    let mut secret = [0; 32];
    SystemRandom.fill(&mut secret);
    for local in &config.locals {
        let rate = config.server.connect_freq_initial;
        let rate = InitialRate { count: rate.count, period: rate.per };
        let Some(params) = shared.params.first() else { break };
        let endpoint = Endpoint::new(params, rate, &secret);
        match listener::bind(&shared, local).await? {
            Listener::Udp(port, transport) => {
                services.spawn(listener::serve_udp(Arc::clone(&shared), port, transport, endpoint));
            }
            Listener::Tcp(listener) => {
                services.spawn(listener::serve_tcp(Arc::clone(&shared), listener, endpoint));
            }
        }
    }
    privileges::give_up(config)?;
    if let Some(management) = &shared.management {
        interface::serve(management, &shared);
        management.up_down("UP", &shared.environment);
    }
    interface::tell(shared.management.as_ref(), config, TunnelState::Connected, "SUCCESS");
    serve_status(&shared);
    tracing::info!("Initialization Sequence Completed");
    sd_notify::ready();
    sd_notify::status("Initialization Sequence Completed");

    let mut status_timer = timer(config.process.status.as_ref().map(|status| status.interval));
    let mut persist_timer = timer(config.server.pool_persist.as_ref().and_then(|persist| persist.interval));
    let mut look_timer = timer(keys.revocations.is_some().then_some(LOOK));
    files.write_status(&shared);
    let signal = loop {
        tokio::select! {
            signal = signals.next() => {
                let signal = signal.remapped(config.process.remap_usr1.map(|to| match to {
                    RemapUsr1::Hup => Kind::Hup,
                    RemapUsr1::Term => Kind::Term,
                }));
                if signal.kind != Kind::Usr2 {
                    break signal;
                }
                log_status(&shared);
            }
            event = plane_events.recv() => match event {
                Some(dco::Event::DataPlaneGone) | None => {
                    return Err(Fatal("the data plane is gone: its process or device was removed".to_owned()));
                }
                Some(event) => pass_on(&shared, event),
            },
            _ = tick(&mut status_timer) => files.write_status(&shared),
            _ = tick(&mut persist_timer) => files.save_pool(&shared),
            _ = tick(&mut look_timer) => {
                if keys.revocations.as_mut().is_some_and(CrlFile::refresh) {
                    for (_, client) in shared.registry().clients() {
                        let _ = client.orders().send(Order::CheckCertificate);
                    }
                }
            }
        }
    };
    services.shutdown().await;
    farewell(&shared).await;
    files.save_pool(&shared);
    files.write_status(&shared);
    if let Some(management) = &shared.management {
        management.up_down("DOWN", &shared.environment);
    }
    Ok(signal)
}

/// `max-packet-size` where nothing else is said.
const DEFAULT_MAX_PACKET: u16 = 1250;

fn server_params(
    config: &Config,
    session: ovpn_control::SessionParams,
    tls: TlsServer,
    v2: Option<ovpn_control::TlsCryptV2Server>,
) -> ServerParams {
    let mut session = session;
    if v2.is_some() && matches!(session.wrapping, Wrapping::TlsCryptV2(_)) {
        session.wrapping = Wrapping::None;
    }
    ServerParams {
        session,
        tls,
        tls_crypt_v2: v2,
        force_tls_ekm: config.tls.force_key_material_export,
        single_session: false,
        compress_migrate: config.data.compress_migrate,
    }
}

/// With the key of `auth-gen-token-secret`, or a fresh one.
fn tokens(config: &Config) -> Result<Option<Tokens>, Fatal> {
    let Some(options) = &config.server.auth_gen_token else { return Ok(None) };
    let key = match &config.server.auth_gen_token_secret {
        Some(material) => {
            let text = materials::read("auth-gen-token-secret", material)?;
            TokenKey::from_pem(&String::from_utf8_lossy(&text))
                .map_err(|error| Fatal::new("--auth-gen-token-secret", error))?
        }
        None => {
            let mut bytes = Secret::<128>::zeroed();
            SystemRandom.fill(bytes.expose_mut());
            TokenKey::new(&bytes)
        }
    };
    Ok(Some(Tokens::new(options, key, config.timers.reneg)))
}

fn pool(config: &Config) -> Result<Option<AddressPool>, Fatal> {
    let server = &config.server;
    let fixed = server.pool_persist.as_ref().is_some_and(|persist| persist.interval.is_none());
    let pool = AddressPool::new(server.pool, server.pool_ipv6, server.duplicate_cn, fixed);
    let mut pool = pool.map_err(|error| Fatal(error.to_string()))?;
    if let (Some(pool), Some(persist)) = (&mut pool, &server.pool_persist) {
        match std::fs::read_to_string(&persist.file) {
            Ok(text) => {
                for problem in pool.load(&text) {
                    tracing::warn!("ifconfig-pool-persist {}: {problem}", persist.file);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("ifconfig-pool-persist {}: {error}", persist.file),
        }
    }
    Ok(pool)
}

fn server_side(config: &Config) -> ServerSide {
    let device = match config.device.ifconfig {
        Some(Ifconfig::Subnet { prefix, .. }) => Some(prefix),
        _ => None,
    };
    let prefix = config.server.pool.and_then(|pool| pool.prefix).or(device).unwrap_or(24);
    let netmask =
        Ipv4Net::new(Ipv4Addr::UNSPECIFIED, prefix).map_or(Ipv4Addr::BROADCAST, |net| net.netmask());
    ServerSide {
        netmask,
        v6: config.device.ifconfig_ipv6.map(|ifconfig| ifconfig.local),
        constraint: config.server.push_constraint.or(config.server.network),
    }
}

type Timer = Option<tokio::time::Interval>;

fn timer(period: Option<Duration>) -> Timer {
    period.filter(|period| !period.is_zero()).map(|period| interval_at(Instant::now() + period, period))
}

async fn tick(timer: &mut Timer) {
    match timer {
        Some(timer) => {
            timer.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Tells a client's task what the data plane said about its peer.
fn pass_on(shared: &Shared, event: dco::Event) {
    let registry = shared.registry();
    let peer = match &event {
        dco::Event::PeerDeleted { peer, .. }
        | dco::Event::KeySwap { peer, .. }
        | dco::Event::PeerFloat { peer, .. }
        | dco::Event::PeerExit { peer } => *peer,
        dco::Event::Lost | dco::Event::DataPlaneGone => {
            if event == dco::Event::Lost {
                remove_strangers(shared, &registry);
            }
            for (_, client) in registry.clients() {
                let _ = client.orders().send(Order::Plane(event.clone()));
            }
            return;
        }
    };
    if let Some(client) = registry.peer(peer) {
        let _ = client.orders().send(Order::Plane(event));
    }
}

/// Lets `ovpn status` and the metrics look.
fn serve_status(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    board().peers(move || {
        let Some(shared) = weak.upgrade() else { return Vec::new() };
        let registry = shared.registry();
        let facts = registry.clients().map(|(_, client)| PeerFacts {
            id: Some(client.peer),
            name: client.facts.common_name.clone(),
            username: client.facts.username.clone(),
            address: Some(client.remote),
            vpn_addresses: client.facts.addresses.as_ref().map_or_else(Vec::new, Addresses::list),
            since: u64::try_from(client.since).ok(),
        });
        facts.collect()
    });
    board().state("CONNECTED");
}

/// After lost events: peers of the data plane that are no client's here go.
fn remove_strangers(shared: &Shared, registry: &Registry) {
    match shared.data_plane.peer_dump() {
        Ok(peers) => {
            for peer in peers.into_iter().filter(|peer| registry.peer(peer.id).is_none()) {
                tracing::info!("peer {} of the data plane is no client here: removed", peer.id);
                let _ = shared.data_plane.peer_del(peer.id);
            }
        }
        Err(error) => tracing::warn!("the data plane's peers cannot be read: {error}"),
    }
}

fn status_version(shared: &Shared) -> StatusVersion {
    let process = &shared.config.process;
    let number = process.status.as_ref().map_or(process.status_version, |status| status.version);
    StatusVersion::from_number(number).unwrap_or(StatusVersion::V1)
}

fn log_status(shared: &Shared) {
    for line in shared.status().render(status_version(shared), local_time).lines() {
        tracing::info!("{line}");
    }
}

/// Tells clients where that is configured (stock does so before restarts, too), ends them all, and waits for their
/// scripts.
async fn farewell(shared: &Shared) {
    let orders: Vec<mpsc::UnboundedSender<Order>> =
        shared.registry().clients().map(|(_, client)| client.orders()).collect();
    if let Some(notify) = shared.config.timers.explicit_exit_notify.filter(|notify| *notify > 0)
        && !orders.is_empty()
    {
        for orders in &orders {
            let _ = orders.send(Order::Restart { advance: notify == 2 });
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for orders in &orders {
        let _ = orders.send(Order::Close("the server goes away"));
    }
    let all_gone = async {
        for orders in &orders {
            orders.closed().await;
        }
    };
    if tokio::time::timeout(FAREWELL, all_gone).await.is_err() {
        tracing::warn!("not every client's scripts ended within {} s", FAREWELL.as_secs());
    }
}
