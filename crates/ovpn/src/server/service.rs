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
use ovpn_config::model::{Ifconfig, StatusFile};
use ovpn_control::{
    Endpoint, InitialRate, Link, Random as _, ServerParams, SystemRandom, TlsServer, Wrapping,
};
use ovpn_crypto::auth_token::TokenKey;
use ovpn_crypto::secret::Secret;
use ovpn_dco as dco;
use ovpn_sys::netlink::route::Rtnetlink;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use super::addresses::ServerSide;
use super::admission::RateLimit;
use super::device::Device;
use super::listener::{self, Listener};
use super::pool::{AddressPool, Addresses};
use super::registry::{Order, Registry};
use super::shared::{Shared, local_time};
use super::status::StatusVersion;
use super::tokens::Tokens;
use crate::identity::Keyring;
use crate::management::{Handle, TunnelState};
use crate::nat::Nat;
use crate::outcome::{Fatal, Outcome};
use crate::setup::Setup;
use crate::signal::{Kind, Signal, Signals};
use crate::status::{PeerFacts, board};
use crate::{materials, port, sd_notify, session_params};

/// How long clients' last words and scripts are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often files that may change (revocation lists) are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Runs the server until a signal ends or reloads it.
///
/// # Errors
/// What prevents it from serving.
pub(crate) async fn run(setup: &Setup, signals: &mut Signals) -> Result<Outcome, Fatal> {
    let config = setup.config.clone();
    let (tls, mut crl) = materials::tls_server(&config, &Keyring::default())?;
    let wrapping =
        materials::wrapping(&config.tls, config.tls.tls_auth.as_ref(), config.tls.tls_crypt.as_ref(), None)?;
    let v2 = materials::tls_crypt_v2_server(&config.tls)?;
    let tokens = tokens(&config)?;
    let pool = pool(&config)?;
    let device = Device::open(&config, setup.environment()).await?;
    let data_plane = Arc::clone(device.data_plane());
    let nat = if config.server.nat { Some(Nat::set(&config, &data_plane.device().name)?) } else { None };
    let mut plane_events =
        port::events(&*data_plane).map_err(|error| Fatal::new("the data plane's events", error))?;

    let params = |link| {
        let session = session_params::session(
            &config,
            link,
            wrapping.clone(),
            config.connections.first().map_or(DEFAULT_MAX_PACKET, |entry| entry.max_packet_size),
            data_plane.capabilities(),
        );
        Arc::new(server_params(&config, session, tls.clone(), v2.clone()))
    };
    let params = [Link::UdpV4, Link::UdpV6, Link::TcpV4, Link::TcpV6].map(params).to_vec();
    let connect_freq = config.server.connect_freq.map(RateLimit::new);
    let registry = Registry::new(config.server.max_clients, connect_freq, pool);
    let shared = Arc::new(Shared {
        environment: device.environment.clone(),
        data_plane,
        tokens,
        server_side: server_side(&config),
        params,
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
    if let Some(management) = &setup.management {
        serve_management(management, &shared);
    }
    serve_status(&shared);
    tracing::info!("Initialization Sequence Completed");
    sd_notify::ready();
    sd_notify::status("Initialization Sequence Completed");

    let status = config.process.status.clone();
    let mut status_timer = timer(status.as_ref().map(|status| status.interval));
    let persist = config.server.pool_persist.clone();
    let mut persist_timer = timer(persist.as_ref().and_then(|persist| persist.interval));
    let mut look_timer = timer(Some(LOOK));
    write_status(&shared, status.as_ref());
    let signal = loop {
        tokio::select! {
            signal = signals.next() => {
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
            _ = tick(&mut status_timer) => write_status(&shared, status.as_ref()),
            _ = tick(&mut persist_timer) => save_pool(&shared),
            _ = tick(&mut look_timer) => {
                if let Some(crl) = &mut crl {
                    crl.refresh();
                }
            }
        }
    };
    tracing::info!("{signal}");
    services.abort_all();
    farewell(&shared, &signal).await;
    save_pool(&shared);
    drop(nat);
    device.close(config, &signal.word()).await;
    match Outcome::of(&signal) {
        Some(outcome) => Ok(outcome),
        // A server's restart is a new start: all clients are gone.
        None => Ok(Outcome::Reload),
    }
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

/// The key of `auth-gen-token-secret`, or a fresh one.
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

/// Lets the management interface look and kill.
fn serve_management(management: &Handle, shared: &Arc<Shared>) {
    let config = &shared.config;
    let v4 = config.device.ifconfig.map(|ifconfig| match ifconfig {
        Ifconfig::Subnet { local, .. } | Ifconfig::PointToPoint { local, .. } => local,
    });
    let v6 = config.device.ifconfig_ipv6.map(|ifconfig| ifconfig.local.addr());
    management.state(TunnelState::Connected, "SUCCESS", (v4, v6), None);
    let weak = Arc::downgrade(shared);
    management.set_status(move |version| {
        let Some(shared) = weak.upgrade() else { return Vec::new() };
        let number = u8::try_from(version).unwrap_or(1);
        let version = StatusVersion::from_number(number).unwrap_or(StatusVersion::V1);
        shared.status().render(version, local_time).lines().map(str::to_owned).collect()
    });
    let weak = Arc::downgrade(shared);
    management.set_totals(move || {
        let Some(shared) = weak.upgrade() else { return (0, 0, 0) };
        let status = shared.status();
        let named = status.clients.iter().filter(|client| client.common_name.is_some()).count();
        let received = status.clients.iter().map(|client| client.bytes_received).sum();
        let sent = status.clients.iter().map(|client| client.bytes_sent).sum();
        (named as u64, received, sent)
    });
    let weak = Arc::downgrade(shared);
    management.set_kill(move |whom| {
        let Some(shared) = weak.upgrade() else { return Err("the server is ending".to_owned()) };
        let registry = shared.registry();
        let address =
            whom.rsplit_once("udp:").or(whom.rsplit_once("tcp:")).map_or(whom, |(_, address)| address);
        let address = address.parse::<std::net::SocketAddr>().ok();
        let mut killed = 0;
        for (_, client) in registry.clients() {
            let hit = match address {
                Some(address) => client.remote == address,
                None => client.facts.common_name.as_deref() == Some(whom),
            };
            if hit {
                killed += 1;
                let _ = client.orders().send(Order::Close("killed by the management interface"));
            }
        }
        match (killed, address) {
            (0, Some(_)) => Err(format!("client at address {whom} not found")),
            (0, None) => Err(format!("common name '{whom}' not found")),
            (n, Some(_)) => Ok(format!("{n} client(s) at address {whom} killed")),
            (n, None) => Ok(format!("common name '{whom}' found, {n} client(s) killed")),
        }
    });
}

fn status_version(shared: &Shared) -> StatusVersion {
    let process = &shared.config.process;
    let number = process.status.as_ref().map_or(process.status_version, |status| status.version);
    StatusVersion::from_number(number).unwrap_or(StatusVersion::V1)
}

fn write_status(shared: &Shared, file: Option<&StatusFile>) {
    let Some(file) = file else { return };
    let text = shared.status().render(status_version(shared), local_time);
    if let Err(error) = std::fs::write(&file.path, text) {
        tracing::warn!("status {}: {error}", file.path);
    }
}

fn log_status(shared: &Shared) {
    for line in shared.status().render(status_version(shared), local_time).lines() {
        tracing::info!("{line}");
    }
}

fn save_pool(shared: &Shared) {
    let Some(persist) = &shared.config.server.pool_persist else { return };
    if persist.interval.is_none() {
        return;
    }
    let text = shared.registry().pool.as_ref().map(AddressPool::save);
    if let Some(text) = text
        && let Err(error) = std::fs::write(&persist.file, text)
    {
        tracing::warn!("ifconfig-pool-persist {}: {error}", persist.file);
    }
}

/// Tells clients where that is configured, ends them all, and waits for their scripts.
async fn farewell(shared: &Shared, signal: &Signal) {
    let orders: Vec<mpsc::UnboundedSender<Order>> =
        shared.registry().clients().map(|(_, client)| client.orders()).collect();
    if let Some(notify) = shared.config.timers.explicit_exit_notify.filter(|notify| *notify > 0)
        && signal.kind.is_exit()
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
