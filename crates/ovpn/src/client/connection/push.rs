//! The server's options: applied when they come, and when they change.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use ovpn_config::model::{Config, Ifconfig, MssFix, Pushed};
use ovpn_control::{DataFormat, Negotiated, PushReply};
use ovpn_dco::{PeerConfig, PeerUpdate, VpnAddrs};
use ovpn_join::data_plane::{self, framing, peer_id, peer_update};
use ovpn_join::mss::{Outside, piece};

use super::super::push_update;
use super::{Connection, End, Ends};
use crate::counters;
use crate::management::TunnelState;
use crate::outcome::Fatal;
use crate::status::{PeerFacts, board, unix_now};
use crate::{privileges, sd_notify};

impl Connection<'_> {
    pub(super) async fn on_push_reply(&mut self, reply: PushReply) -> Result<Option<End>, Fatal> {
        log_received("PUSH_REPLY", &reply.options);
        let pushed = match self.apply(reply.options.clone()) {
            Ok(pushed) => pushed,
            Err(end) => return Ok(Some(end)),
        };
        if let Some(management) = &self.client.management {
            for text in &self.config.scripts.echo {
                management.echo(text);
            }
        }
        if let Some(token) = pushed.auth_token {
            self.client.login.set_token(pushed.auth_token_user, token.0.clone(), self.credentials.as_ref());
            self.session.set_credentials(self.client.login.next(&self.client.config)?);
        }
        let negotiated = reply.negotiated;
        self.format = negotiated.format;
        log_negotiated(&self.config, &negotiated);
        self.tell_addresses(TunnelState::AssignIp, "", None);
        let base = self.client.environment.clone();
        let (config, common_name) = (self.config.clone(), self.common_name.clone());
        let outside = self.ends.outside;
        self.plane()?.bring_up(&config, &reply.options, &base, Some((outside, &common_name))).await?;
        self.framing = framing(pushed.compression.unwrap_or(self.config.data.compression));
        let outside = self.outside();
        let fragment = self.config.data.fragment.map(|option| piece(option, outside));
        let id = peer_id(&negotiated);
        let peer = PeerConfig {
            id,
            tx_id: None,
            transport: self.transport,
            remote: (!self.ends.tcp).then_some(self.ends.wire),
            local: None,
            vpn: VpnAddrs::default(),
            framing: self.framing,
            fragment,
        };
        let update = self.peer_update();
        let plane = self.plane()?;
        if let Err(error) =
            plane.data_plane().peer_new(&peer).and_then(|()| plane.data_plane().peer_set(id, &update))
        {
            tracing::error!("the data plane does not take the server as a peer: {error}");
            let engine_next = plane.fall_back(&error.to_string());
            let end = End::retry("init_instance");
            return Ok(Some(if engine_next { end.stay() } else { end }));
        }
        self.peer = Some(id);
        let management = self.client.management.clone();
        counters::offer(management.as_ref(), self.plane()?.data_plane(), id);
        Ok(None)
    }

    /// Keepalive and MSS, as configured and pushed.
    fn peer_update(&self) -> PeerUpdate {
        let mssfix = self.client.entry(self.entry).map_or(MssFix::Default, |entry| entry.options.mssfix);
        let mut update = peer_update(&self.config.timers, mssfix, self.config.device.mtu, self.outside());
        update.mss = update.mss.map(|mss| mss.saturating_sub(self.ends.overhead));
        update
    }

    fn outside(&self) -> Outside {
        let Ends { outside, tcp, .. } = self.ends;
        data_plane::outside(outside, tcp, self.format, self.framing, self.config.data.fragment)
    }

    /// Puts the server's options over the configuration. `Err`: a filter rejects one of them.
    fn apply(&mut self, options: Vec<String>) -> Result<Pushed, End> {
        let applied = self.client.config.apply_pushed(&options);
        for diagnostic in &applied.diagnostics {
            tracing::warn!("{}", diagnostic.one_line(&applied.sources));
        }
        if let Some(rejected) = applied.rejected {
            tracing::warn!("Pushed option rejected by filter: '{rejected}'. Restarting.");
            return Err(End::retry("process-push-msg-failed"));
        }
        self.config = applied.config;
        self.config.data.fragment = self.client.entry(self.entry).and_then(|entry| entry.options.fragment);
        if applied.pushed.tun_mtu.is_none() {
            self.config.device.mtu =
                self.client.entry(self.entry).map_or(self.config.device.mtu, |entry| entry.options.tun_mtu);
        }
        self.options = options;
        Ok(applied.pushed)
    }

    /// Tells the management interface a state with the tunnel's addresses.
    pub(super) fn tell_addresses(&self, state: TunnelState, detail: &str, remote: Option<SocketAddr>) {
        let v4 = self.config.device.ifconfig.map(|ifconfig| match ifconfig {
            Ifconfig::Subnet { local, .. } | Ifconfig::PointToPoint { local, .. } => local,
        });
        let v6 = self.config.device.ifconfig_ipv6.map(|ifconfig| ifconfig.local.addr());
        board().state(state.name());
        if state == TunnelState::Connected {
            let facts = PeerFacts {
                id: self.peer,
                name: Some(self.common_name.clone()),
                username: None,
                address: Some(self.ends.server),
                vpn_addresses: v4.map(Into::into).into_iter().chain(v6.map(Into::into)).collect(),
                since: Some(unix_now()),
            };
            board().peers(move || vec![facts.clone()]);
        }
        if let Some(management) = &self.client.management {
            management.state(state, detail, (v4, v6), remote);
        }
    }

    /// The server changes options: the edited list is applied as a whole, without ending the connection.
    pub(super) async fn on_push_update(&mut self, update: &[String]) -> Result<Option<End>, Fatal> {
        log_received("PUSH_UPDATE", update);
        let options = match push_update::edit(&self.options, update) {
            Ok(options) => options,
            Err(option) => {
                tracing::warn!("PUSH_UPDATE: this option cannot be changed while connected: {option}");
                return Ok(Some(End::retry("Offending option received from server").stay()));
            }
        };
        if let Err(end) = self.apply(options) {
            return Ok(Some(end));
        }
        let base = self.client.environment.clone();
        let (config, options) = (self.config.clone(), self.options.clone());
        let (outside, common_name) = (self.ends.outside, self.common_name.clone());
        self.plane()?.bring_up(&config, &options, &base, Some((outside, &common_name))).await?;
        self.plane()?.add_routes().await;
        if let Some(peer) = self.peer {
            // The MSS goes with the MTU.
            let update = PeerUpdate { mss: self.peer_update().mss, ..PeerUpdate::default() };
            if let Err(error) = self.plane()?.data_plane().peer_set(peer, &update) {
                tracing::warn!("the data plane does not take the new MSS: {error}");
            }
        }
        tracing::info!("PUSH_UPDATE applied");
        Ok(None)
    }

    /// Routes, and the line that everyone waits for.
    pub(super) async fn finish(&mut self) -> Result<(), Fatal> {
        self.client.tell(TunnelState::AddRoutes, "", None);
        let complete = self.plane()?.add_routes().await;
        self.completed = true;
        let stats = self.stats();
        self.counters.begin(&self.config, &stats);
        self.tell_addresses(
            TunnelState::Connected,
            if complete { "SUCCESS" } else { "ROUTE_ERROR" },
            Some(self.ends.server),
        );
        privileges::give_up(&self.client.config)?;
        let line = if complete {
            "Initialization Sequence Completed"
        } else {
            "Initialization Sequence Completed With Errors"
        };
        tracing::info!("{line}");
        sd_notify::status(line);
        Ok(())
    }
}

fn log_received(kind: &str, options: &[String]) {
    let shown: Vec<Cow<'_, str>> = options.iter().map(|option| masked(option)).collect();
    tracing::info!("PUSH: Received control message: '{kind},{}'", shown.join(","));
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
}
