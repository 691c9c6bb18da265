//! What a client is given: options, addresses, its place in the data plane.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ovpn_config::model::Compression;
use ovpn_control::{Cipher, Negotiated, Now, Push};
use ovpn_dco::{Framing, PeerConfig, VpnAddrs};
use ovpn_join::data_plane::{framing, outside, peer_update};
use ovpn_join::mss::piece;
use tracing::Instrument as _;

use super::super::client_options::timers;
use super::super::connect_task::{Configured, ConnectTask};
use super::super::interface;
use super::super::pool::Addresses;
use super::super::shared::unix_now;
use super::{ClientTask, Done, LINGER, LOOK};

impl ClientTask {
    pub(super) fn on_push_request(&mut self) {
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

    pub(super) fn on_configured(&mut self, configured: Option<Box<Configured>>) -> Option<String> {
        let Some(configured) = configured else {
            self.session.send_message(Now::system(), "AUTH_FAILED");
            self.limits.leave = Some((Instant::now() + LINGER, "the client was refused"));
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

    /// Sends the push reply and puts the client into the data plane.
    pub(super) fn push(&mut self, configured: Box<Configured>) -> Option<String> {
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

    pub(super) fn enter_data_plane(&mut self, negotiated: &Negotiated) -> Option<String> {
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
            let (framing, fragment) = (self.framing(configured), config.data.fragment);
            let outside = outside(self.base.remote, self.base.tcp, negotiated.format, framing, fragment);
            let peer = PeerConfig {
                id: self.base.peer,
                tx_id: None,
                transport: self.base.transport,
                remote: (!self.base.tcp).then_some(self.base.remote),
                local: self.base.local,
                vpn: VpnAddrs { v4: assignment.v4, v6: assignment.v6 },
                framing,
                fragment: fragment.map(|option| piece(option, outside)),
            };
            let update = peer_update(&timers, config.data.mssfix, config.device.mtu, outside);
            let id = self.base.peer;
            if let Err(error) = plane.peer_new(&peer).and_then(|()| plane.peer_set(id, &update)) {
                return Some(format!("the data plane does not take the client: {error}"));
            }
            self.in_data_plane = true;
            self.limits.next_look = Some(Instant::now() + LOOK);
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
    pub(super) fn framing(&self, configured: &Configured) -> Framing {
        let own = configured.options.compression.unwrap_or(self.base.shared.config.data.compression);
        framing(match self.session.migrated_compression() {
            Some("comp-lzo no") => Some(Compression::CompLzo),
            Some(_) => None,
            None => own,
        })
    }

    pub(super) fn leave_data_plane(&mut self) {
        self.look_at_counters();
        if std::mem::take(&mut self.in_data_plane) {
            // It may be gone already.
            let _ = self.base.shared.data_plane.peer_del(self.base.peer);
        }
    }

    /// Tells programs at the management interface that something happened to this client.
    pub(super) fn tell_programs(&self, what: &str, more: &[(&str, &str)]) {
        let shared = &self.base.shared;
        if let Some(management) = shared.management.as_ref().filter(|_| self.announced) {
            let variables = interface::variables(shared, &self.environment, more);
            management.client_event(format!("{what},{}", self.base.id), Some(variables));
        }
    }
}

fn known_cipher(name: &str) -> Option<Cipher> {
    Cipher::parse_list(name).first().copied()
}

/// An option as the log may show it.
fn without_secret(option: &str) -> &str {
    if option.starts_with("auth-token ") { "auth-token [redacted]" } else { option }
}
