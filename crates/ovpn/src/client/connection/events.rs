//! What the session and the data plane tell, and what follows from it.

use std::sync::Arc;
use std::time::Instant;

use ovpn_control::{Event, Failure, FailureKind, Now};
use ovpn_dco::{self as dco, DelReason};
use ovpn_join::data_plane::{lacks_a_key, on_key_event};
use ovpn_wire::message::Restart;

use super::{Connection, End};
use crate::management::TunnelState;
use crate::outcome::Fatal;
use crate::peer_scripts;
use crate::sockets;

impl Connection<'_> {
    pub(super) fn on_data_plane_event(&mut self, event: dco::Event) -> Result<Option<End>, Fatal> {
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
                let Some(peer) = self.peer else { return Ok(None) };
                let data_plane = Arc::clone(self.plane()?.data_plane());
                if data_plane.peer_get(peer).is_err() {
                    self.peer = None;
                    return Ok(Some(End::retry("ping-restart").stay()));
                }
                if self.completed && lacks_a_key(&*data_plane, peer) {
                    tracing::info!("the data plane has no key to send with any more");
                    self.session.renegotiate(Now::system());
                }
                Ok(None)
            }
            dco::Event::DataPlaneGone => {
                self.peer = None;
                Err(Fatal("the data plane is gone: its process or device was removed".to_owned()))
            }
            _ => Ok(None),
        }
    }

    pub(super) async fn on_event(&mut self, event: Event) -> Result<Option<End>, Fatal> {
        match event {
            Event::PeerConnected { chain, tls, remote_options, .. } => {
                let base = &self.client.environment;
                if !peer_scripts::tls_verify(&self.config, base, chain.as_ref()).await {
                    tracing::info!("TLS Error: TLS handshake failed");
                    return Ok(Some(End::retry("tls-error")));
                }
                if let Some(chain) = &chain {
                    for (depth, certificate) in chain.certificates.iter().enumerate().rev() {
                        tracing::info!("VERIFY OK: depth={depth}, {}", certificate.subject);
                    }
                    self.common_name = chain.common_name().to_owned();
                }
                tracing::info!("Control Channel: {tls}");
                tracing::debug!("server's options: {remote_options}");
                tracing::info!(
                    "[{}] Peer Connection Initiated with {}",
                    self.common_name,
                    sockets::shown(self.ends.server)
                );
                peer_scripts::ipchange(&self.config, base, self.ends.server, &self.common_name).await;
                self.client.tell(TunnelState::GetConfig, "", None);
            }
            Event::KeyRenewed { tls } => tracing::info!("Control Channel: {tls}"),
            Event::PushReply(reply) => return self.on_push_reply(reply).await,
            Event::AuthToken(credentials) => {
                self.client.login.set_token(
                    Some(credentials.username.clone()).filter(|name| !name.is_empty()),
                    credentials.password.clone(),
                    self.credentials.as_ref(),
                );
                self.session.set_credentials(self.client.login.next(&self.client.config)?);
            }
            Event::InstallKey { .. } | Event::UseKey { .. } | Event::DropKey { .. } => {
                if let Some(peer) = self.peer
                    && let Some(result) = on_key_event(&**self.plane()?.data_plane(), peer, &event)
                {
                    return self.key_problem(result);
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

    /// What a change of keys came to.
    pub(super) fn key_problem(&mut self, result: dco::Result<()>) -> Result<Option<End>, Fatal> {
        match result {
            Ok(()) => Ok(None),
            Err(error) if self.plane()?.fall_back(&error.to_string()) => {
                Ok(Some(End::retry("init_instance").stay()))
            }
            Err(error) => Err(Fatal::new("the data plane does not take the key", error)),
        }
    }

    pub(super) fn on_failure(&mut self, failure: &Failure) -> End {
        let reason = match failure.kind {
            FailureKind::NoPushReply => "no-push-reply",
            FailureKind::PushedOption => "process-push-msg-failed",
            FailureKind::RemoteExit => "remote-exit",
            FailureKind::Auth => "auth-failure",
            FailureKind::Closed => "init_instance",
            FailureKind::HandWindow
            | FailureKind::Tls
            | FailureKind::Protocol
            | FailureKind::Negotiation
            | FailureKind::NoPeerId => "tls-error",
        };
        match failure.kind {
            FailureKind::HandWindow | FailureKind::Tls => {
                tracing::warn!("TLS Error: {failure}");
                tracing::info!("TLS Error: TLS handshake failed");
            }
            _ => tracing::warn!("{failure}"),
        }
        let engine_next = failure.kind == FailureKind::NoPeerId
            && self.plane().is_ok_and(|plane| plane.fall_back(&failure.sentence));
        End::retry(reason).stay_if(self.completed || engine_next)
    }
}
