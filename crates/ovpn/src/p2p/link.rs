//! One connection between two equal peers, from its first packet to its end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ovpn_config::Config;
use ovpn_config::model::{Fragment, Ifconfig, MssFix};
use ovpn_control::{DataFormat, Event, FailureKind, Now, Session};
use ovpn_dco::{self as dco, DelReason, PeerConfig, PeerId, PeerStats, TransportId, VpnAddrs};
use ovpn_join::data_plane::{framing, on_key_event, outside, peer_id, peer_update};
use ovpn_join::mss::piece;

use crate::counters::{self, Counters};
use crate::environment::Environment;
use crate::key_budget::KeyBudget;
use crate::leaving::Leaving;
use crate::management::{Handle, TunnelState};
use crate::outcome::Fatal;
use crate::plane::Plane;
use crate::port::Port;
use crate::signal::{Kind, Signal, Signals};
use crate::status::{PeerFacts, board, unix_now};
use crate::{peer_scripts, privileges, sd_notify, sockets};

/// Tells `ovpn status` and the management interface where the connection stands.
pub(super) fn tell(
    management: Option<&Handle>,
    state: TunnelState,
    detail: &str,
    remote: Option<SocketAddr>,
) {
    board().state(state.name());
    if let Some(management) = management {
        management.state(state, detail, (None, None), remote);
    }
}

/// A running connection.
pub(super) struct Link<'a> {
    pub(super) config: &'a Config,
    pub(super) environment: &'a Environment,
    pub(super) management: Option<&'a Handle>,
    pub(super) plane: &'a mut Plane,
    pub(super) session: Session,
    pub(super) port: Port,
    pub(super) transport: TransportId,
    pub(super) tcp: bool,
    /// `None` until the first peer has proved itself.
    pub(super) remote: Option<SocketAddr>,
    pub(super) float: bool,
    pub(super) mssfix: MssFix,
    pub(super) fragment: Option<Fragment>,
    pub(super) peer: Option<PeerId>,
    pub(super) common_name: String,
    pub(super) completed: bool,
    pub(super) leaving: Option<Leaving>,
    pub(super) counters: Counters,
    /// `reneg-bytes`, `reneg-pkts`.
    pub(super) budget: Option<KeyBudget>,
    pub(super) started: Instant,
    /// Routes go in then (`route-delay`).
    pub(super) routes_at: Option<Instant>,
}

impl Link<'_> {
    pub(super) async fn run(mut self, signals: &mut Signals) -> Result<(Signal, bool), Fatal> {
        let result = self.serve(signals).await;
        self.session.close(Now::system());
        self.flush();
        if let Some(peer) = self.peer {
            // It may be gone already.
            let _ = self.plane.data_plane().peer_del(peer);
        }
        let mut signal = result?;
        // Whatever ends the connection while an exit is under way, the exit it is.
        if let Some(leaving) = self.leaving.take()
            && !signal.kind.is_exit()
        {
            signal = leaving.into_signal();
        }
        Ok((signal, self.completed))
    }

    /// Asks for a new key where `reneg-bytes` or `reneg-pkts` say so.
    fn check_budget(&mut self, now: Instant) {
        let Some(budget) = &mut self.budget else { return };
        let stats = || self.plane.data_plane().peer_get(self.peer?).ok().map(|info| info.stats);
        if budget.is_spent(now, stats) {
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
            if let Some(signal) = self.tick().await? {
                return Ok(signal);
            }
            let deadline = [
                self.session.poll_timeout().map(|(at, _)| at),
                self.leaving.as_ref().map(Leaving::deadline),
                self.counters.deadline(),
                self.session_ends(),
                self.routes_at,
                self.budget.as_ref().map(KeyBudget::next),
            ];
            let far = Instant::now() + Duration::from_secs(3600);
            let deadline = deadline.into_iter().flatten().min().unwrap_or(far);
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
                () = tokio::time::sleep_until(deadline.into()) => self.session.handle_timeout(Now::system()),
                event = self.plane.events.recv() => {
                    if let Some(signal) = self.on_data_plane(event.unwrap_or(dco::Event::DataPlaneGone))? {
                        return Ok(signal);
                    }
                }
                signal = signals.next() => {
                    if signal.kind == Kind::Usr2 {
                        self.counters.log(&self.stats());
                        continue;
                    }
                    if signal.kind.is_exit() && self.leaving.is_some() {
                        continue;
                    }
                    let notify = self.config.timers.explicit_exit_notify;
                    if let Some(count) = notify.filter(|&count| count > 0 && !self.tcp)
                        && signal.kind.is_exit()
                    {
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

    /// `session-timeout`.
    fn session_ends(&self) -> Option<Instant> {
        self.config.timers.session_timeout.map(|timeout| self.started + timeout)
    }

    /// Does what is due.
    async fn tick(&mut self) -> Result<Option<Signal>, Fatal> {
        let now = Instant::now();
        if let Some(leaving) = &mut self.leaving
            && let Some(signal) = leaving.is_over(&self.session, self.plane.data_plane().as_ref(), self.peer)
        {
            return Ok(Some(signal));
        }
        self.check_budget(now);
        if self.session_ends().is_some_and(|at| at <= now) {
            tracing::info!("Session timeout, exiting");
            return Ok(Some(Signal::soft(Kind::Term, "session-timeout")));
        }
        if self.routes_at.is_some_and(|at| at <= now) {
            self.routes_at = None;
            self.finish().await?;
        }
        let plane = Some(&**self.plane.data_plane()).zip(self.peer);
        let stats = || plane.and_then(|(plane, peer)| plane.peer_get(peer).ok()).map(|info| info.stats);
        if self.counters.tick(now, self.config, || stats().unwrap_or_default()) {
            tracing::info!("Inactivity timeout (--inactive), exiting");
            return Ok(Some(Signal::soft(Kind::Term, "inactive")));
        }
        Ok(None)
    }

    /// The data plane's counters.
    fn stats(&self) -> PeerStats {
        let info = self.peer.and_then(|peer| self.plane.data_plane().peer_get(peer).ok());
        info.map(|info| info.stats).unwrap_or_default()
    }

    /// Routes, and the line that everyone waits for.
    async fn finish(&mut self) -> Result<(), Fatal> {
        tell(self.management, TunnelState::AddRoutes, "", None);
        let complete = self.plane.add_routes().await;
        let stats = self.stats();
        self.counters.begin(self.config, &stats);
        self.tell_status(if complete { "SUCCESS" } else { "ROUTE_ERROR" });
        privileges::give_up(self.config)?;
        let line = if complete {
            "Initialization Sequence Completed"
        } else {
            "Initialization Sequence Completed With Errors"
        };
        tracing::info!("{line}");
        sd_notify::status(line);
        Ok(())
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
                tell(self.management, TunnelState::Auth, "", None);
                if !peer_scripts::tls_verify(self.config, self.environment, chain.as_ref()).await {
                    tracing::info!("TLS Error: TLS handshake failed");
                    return Ok(Some(Signal::soft(Kind::Usr1, "tls-error")));
                }
                if let Some(chain) = &chain {
                    for (depth, certificate) in chain.certificates.iter().enumerate().rev() {
                        tracing::info!("VERIFY OK: depth={depth}, {}", certificate.subject);
                    }
                    self.common_name = chain.common_name().to_owned();
                }
                tracing::info!("Control Channel: {tls}");
                let remote = self.remote.map(sockets::shown).unwrap_or_default();
                tracing::info!("[{}] Peer Connection Initiated with {remote}", self.common_name);
                if let Some(remote) = self.remote {
                    peer_scripts::ipchange(self.config, self.environment, remote, &self.common_name).await;
                }
            }
            Event::InstallKey { .. } | Event::UseKey { .. } | Event::DropKey { .. } => {
                if matches!(event, Event::InstallKey { .. })
                    && let Some(signal) = self.ensure_peer()
                {
                    return Ok(Some(signal));
                }
                if let Some(peer) = self.peer
                    && let Some(result) = on_key_event(&**self.plane.data_plane(), peer, &event)
                {
                    return self.key_result(result);
                }
            }
            Event::KeyRenewed { tls } => tracing::info!("Control Channel: {tls}"),
            Event::Established(negotiated) => {
                let id = self.peer.map_or_else(|| "none".to_owned(), |id| id.to_string());
                tracing::info!("Data Channel: cipher '{}', peer-id: {id}", negotiated.cipher.name());
                if !self.completed {
                    self.completed = true;
                    if self.config.scripts.up_delay {
                        let peer = self.remote.map(|remote| (remote, self.common_name.as_str()));
                        self.plane.bring_up(self.config, &[], self.environment, peer).await?;
                    }
                    match self.config.routing.delay {
                        Some(delay) if !delay.is_zero() => self.routes_at = Some(Instant::now() + delay),
                        _ => self.finish().await?,
                    }
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
    fn tell_status(&self, detail: &str) {
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
        let state = TunnelState::Connected;
        board().state(state.name());
        if let Some(management) = self.management {
            let v4 = device.ifconfig.map(|ifconfig| match ifconfig {
                Ifconfig::Subnet { local, .. } | Ifconfig::PointToPoint { local, .. } => local,
            });
            let v6 = device.ifconfig_ipv6.map(|ifconfig| ifconfig.local.addr());
            management.state(state, detail, (v4, v6), self.remote);
        }
    }

    fn key_result(&mut self, result: dco::Result<()>) -> Result<Option<Signal>, Fatal> {
        match result {
            Ok(()) => Ok(None),
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
        let framing = framing(self.config.data.compression);
        let outside = outside(remote, self.tcp, negotiated.format, framing, self.fragment);
        let peer = PeerConfig {
            id,
            tx_id: None,
            transport: self.transport,
            remote: (!self.tcp).then_some(remote),
            local: None,
            vpn: VpnAddrs::default(),
            framing,
            fragment: self.fragment.map(|option| piece(option, outside)),
        };
        let update = peer_update(&self.config.timers, self.mssfix, self.config.device.mtu, outside);
        debug_assert!(negotiated.format != DataFormat::V1 || negotiated.peer_id.is_none());
        let plane = self.plane.data_plane();
        match plane.peer_new(&peer).and_then(|()| plane.peer_set(id, &update)) {
            Ok(()) => {
                self.peer = Some(id);
                counters::offer(self.management, self.plane.data_plane(), id);
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
