//! One connection of a client, from its first packet to its end.
//!
//! ```text
//!   packets ─┐                     ┌─▶ packets
//!   time    ─┼─▶ Session ─▶ events ┼─▶ data plane: peer, keys
//!   signals ─┘                     └─▶ device: addresses, routes, DNS, scripts
//!   data plane's events: expired, key used up
//! ```

mod end;
mod events;
mod push;
mod refusal;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovpn_config::model::Config;
use ovpn_control::{Credentials, DataFormat, Now, Session, SystemRandom};
use ovpn_dco::{self as dco, Framing, PeerId, PeerStats, Transport, TransportId};
use ovpn_join::params;

use super::Client;
use super::way::Ends;
use crate::counters::Counters;
use crate::key_budget::KeyBudget;
use crate::leaving::Leaving;
use crate::management::TunnelState;
use crate::outcome::Fatal;
use crate::peer_info;
use crate::plane::Plane;
use crate::port::Port;
use crate::proxy::Relay;
use crate::signal::{Kind, Signal, Signals};
use crate::sockets;

pub(crate) use end::End;

/// A running connection.
pub(crate) struct Connection<'a> {
    client: &'a mut Client,
    entry: usize,
    ends: Ends,
    session: Session,
    port: Port,
    transport: TransportId,
    credentials: Option<Credentials>,
    peer: Option<PeerId>,
    format: DataFormat,
    framing: Framing,
    /// With the server's options applied.
    config: Config,
    /// What the server pushed, updates included.
    options: Vec<String>,
    common_name: String,
    heard: bool,
    completed: bool,
    started: Instant,
    /// Routes go in then (`route-delay`).
    routes_at: Option<Instant>,
    /// Exit notification under way.
    leaving: Option<Leaving>,
    counters: Counters,
    /// `reneg-bytes`, `reneg-pkts`.
    budget: Option<KeyBudget>,
}

impl<'a> Connection<'a> {
    /// Begins a connection over an open transport.
    ///
    /// # Errors
    /// A TLS configuration that cannot be used.
    pub(crate) fn new(
        client: &'a mut Client,
        entry: usize,
        ends: Ends,
        transport: Transport,
        credentials: Option<Credentials>,
    ) -> Result<Self, Fatal> {
        let port = Port::new(transport.port).map_err(|error| Fatal::new("the control port", error))?;
        let missing = || Fatal("the connection entry is gone".to_owned());
        let options = client.entry(entry).ok_or_else(missing)?;
        let plane = client.plane.as_ref().ok_or_else(missing)?;
        let mut config = client.config.clone();
        config.device.mtu = options.options.tun_mtu;
        config.data.fragment = options.options.fragment;
        let session = params::session(
            &config,
            params::link(ends.outside, ends.tcp),
            options.wrapping.clone(),
            options.options.max_packet_size,
            plane.data_plane().capabilities(),
        );
        let budget = KeyBudget::new(&client.config.timers, Instant::now());
        let params = params::client(
            &client.config,
            session,
            client.tls.clone(),
            options.options.tun_mtu_max,
            peer_info::of_host(&client.config),
        );
        let session =
            Session::client(Arc::new(params), credentials.clone(), Box::new(SystemRandom), Now::system())
                .map_err(|failure| Fatal(failure.to_string()))?;
        Ok(Self {
            config,
            client,
            entry,
            ends,
            session,
            port,
            transport: transport.id,
            credentials,
            peer: None,
            format: DataFormat::V2,
            framing: Framing::None,
            options: Vec::new(),
            common_name: String::new(),
            heard: false,
            completed: false,
            started: Instant::now(),
            routes_at: None,
            leaving: None,
            counters: Counters::default(),
            budget,
        })
    }

    /// Runs the connection to its end.
    ///
    /// # Errors
    /// What ends the whole process.
    pub(crate) async fn run(mut self, relay: Option<Relay>, signals: &mut Signals) -> Result<End, Fatal> {
        let end = self.serve(relay.as_ref(), signals).await;
        self.session.close(Now::system());
        self.flush();
        if let Some(peer) = self.peer.take()
            && let Ok(plane) = self.plane()
        {
            // It may be gone already.
            let _ = plane.data_plane().peer_del(peer);
        }
        let mut end = end?;
        // Whatever ends the connection while an exit is under way, the exit it is.
        if let Some(leaving) = self.leaving.take()
            && !end.signal.kind.is_exit()
        {
            end.signal = leaving.into_signal();
        }
        Ok(End { completed: self.completed, ..end })
    }

    async fn serve(&mut self, relay: Option<&Relay>, signals: &mut Signals) -> Result<End, Fatal> {
        let mut buf = vec![0; 4096];
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(end) = self.on_event(event).await? {
                    return Ok(end);
                }
            }
            self.flush();
            if let Some(end) = self.check_leaving() {
                return Ok(end);
            }
            let deadline = self.deadline();
            let sleep = tokio::time::sleep_until(deadline.into());
            let plane_event = async {
                match self.client.plane.as_mut() {
                    Some(plane) => plane.events.recv().await,
                    None => std::future::pending().await,
                }
            };
            let relay_ends = async {
                match relay {
                    Some(relay) => relay.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = relay_ends => {
                    tracing::info!("Connection reset, restarting [the SOCKS proxy ended the relay]");
                    return Ok(End::retry("connection-reset").stay_if(self.completed));
                }
                received = self.port.recv(&mut buf) => {
                    match received {
                        Ok(received) => {
                            let packet = buf.get(..received.len).unwrap_or_default();
                            self.counters.control.received += packet.len() as u64;
                            self.on_packet(packet, received.from);
                        }
                        Err(error) if self.ends.tcp => {
                            tracing::info!("Connection reset, restarting [{error}]");
                            return Ok(End::retry("connection-reset").stay_if(self.completed));
                        }
                        Err(error) => tracing::info!("read {}: {error}", sockets::protocol_word(self.ends.server, false)),
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
                Some(response) = self.client.steering.responses.recv() => {
                    self.session.send_message(Now::system(), &format!("CR_RESPONSE,{response}"));
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
            self.counters.control.sent += packet.len() as u64;
            if let Err(error) = self.port.send(&packet, self.ends.wire, None) {
                tracing::debug!("write {}: {error}", sockets::protocol_word(self.ends.server, self.ends.tcp));
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
        consider(self.counters.deadline());
        consider(self.leaving.as_ref().map(Leaving::deadline));
        consider(self.session_deadline());
        consider(self.budget.as_ref().map(KeyBudget::next));
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
        if !self.ends.tcp && !same_address(from, self.ends.wire) {
            tracing::debug!(
                "TCP/UDP: Incoming packet rejected from {}, expected peer address: {}",
                sockets::shown(from),
                sockets::shown(self.ends.server)
            );
            return;
        }
        if self.session.handle_packet(Now::system(), packet).is_ok() && !self.heard {
            self.heard = true;
            self.client.tell(TunnelState::Auth, "", None);
            tracing::info!(
                "TLS: Initial packet from {}, sid={}",
                sockets::shown(self.ends.server),
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
        if self.session_deadline().is_some_and(|at| at <= now) {
            tracing::info!("Session timeout, exiting");
            return Ok(Some(End::exit("session-timeout")));
        }
        if self.routes_at.is_some_and(|at| at <= now) {
            self.routes_at = None;
            self.finish().await?;
        }
        self.check_budget(now);
        let stats = reader(self.client.plane.as_ref(), self.peer);
        if self.counters.tick(now, &self.client.config, stats) {
            tracing::info!("Inactivity timeout (--inactive), exiting");
            return Ok(Some(End::exit("inactive")));
        }
        Ok(None)
    }

    /// Asks for a new key where `reneg-bytes` or `reneg-pkts` say so.
    fn check_budget(&mut self, now: Instant) {
        let (Some(budget), Some(plane)) = (&mut self.budget, &self.client.plane) else { return };
        let stats = || plane.data_plane().peer_get(self.peer?).ok().map(|info| info.stats);
        if budget.is_spent(now, stats) {
            self.session.renegotiate(Now::system());
        }
    }

    fn check_leaving(&mut self) -> Option<End> {
        let plane = self.client.plane.as_ref()?.data_plane().as_ref();
        self.leaving.as_mut()?.is_over(&self.session, plane, self.peer).map(End::from_signal)
    }

    /// The data plane's counters.
    fn stats(&self) -> PeerStats {
        reader(self.client.plane.as_ref(), self.peer)()
    }

    fn on_signal(&mut self, signal: Signal) -> Option<End> {
        if signal.kind == Kind::Usr2 {
            self.counters.log(&self.stats());
            return None;
        }
        if signal.kind.is_exit() {
            if self.leaving.is_some() {
                // An exit is under way; let the notification arrive.
                return None;
            }
            let notify = self
                .config
                .timers
                .explicit_exit_notify
                .or(self.client.entry(self.entry).and_then(|entry| entry.options.explicit_exit_notify))
                .filter(|&count| count > 0 && !self.ends.tcp);
            if let (Some(count), Some(plane)) = (notify, &self.client.plane) {
                let plane = plane.data_plane().as_ref();
                self.leaving = Leaving::begin(&mut self.session, plane, self.peer, count, &signal);
                if self.leaving.is_some() {
                    return None;
                }
            }
        }
        Some(End::from_signal(signal).stay_if(self.completed))
    }
}

/// Reads a peer's counters; zeros where there is none.
fn reader(plane: Option<&Plane>, peer: Option<PeerId>) -> impl Fn() -> PeerStats {
    move || {
        let info = plane.zip(peer).and_then(|(plane, peer)| plane.data_plane().peer_get(peer).ok());
        info.map(|info| info.stats).unwrap_or_default()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_shown_in_two_groups() {
        let packet = [0x40, 1, 2, 3, 4, 5, 6, 7, 8, 0];
        assert_eq!(session_id(&packet), "01020304 05060708");
        assert_eq!(session_id(&packet[..3]), " ");
    }
}
