//! Who a client is: its logins, its names, its session tokens.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ovpn_control::{AuthCause, AuthRequest, Now, Reject, SystemRandom};
use ovpn_crypto::auth_token::TokenSeries;
use ovpn_wire::message::{AuthFailed, Message};
use tracing::Instrument as _;

use super::super::login::{Candidate, Identity};
use super::super::login_task::{Decision, LoginTask};
use super::super::password_script::PasswordCheck;
use super::super::shared::{local_time, unix_now};
use super::super::{client_environment as variables, interface, names};
use super::{ClientTask, Done, peer_span};
use crate::certificate_environment::set_chain;
use crate::management::Handle;
use crate::sockets;

impl ClientTask {
    pub(super) fn on_auth_request(&mut self, request: Box<AuthRequest>) {
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

    pub(super) fn on_decision(&mut self, decision: Decision) {
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
    pub(super) fn identified(&mut self, identity: Identity) {
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

    pub(super) fn rename(&mut self) {
        self.span = peer_span(&self.tag());
    }

    /// `CN/ip:port`.
    pub(super) fn tag(&self) -> String {
        let remote = SocketAddr::new(self.base.remote.ip().to_canonical(), self.base.remote.port());
        match &self.identity {
            Some(identity) => format!("{}/{remote}", identity.common_name),
            None => remote.to_string(),
        }
    }

    pub(super) fn on_challenge_response(&mut self, response: String) {
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

    /// The common name, or nothing.
    pub(super) fn name(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.common_name)
    }

    pub(super) fn username(&self) -> &str {
        self.identity.as_ref().and_then(|identity| identity.username.as_deref()).unwrap_or_default()
    }

    /// Tokens outlive renegotiations that are rarer than they last.
    pub(super) fn schedule_token(&mut self) {
        let renewal = self.base.shared.tokens.as_ref().map(|tokens| tokens.renewal());
        let reneg = self.base.shared.config.timers.reneg;
        self.limits.next_token = renewal
            .filter(|renewal| !renewal.is_zero() && reneg.is_none_or(|reneg| *renewal < reneg))
            .map(|renewal| Instant::now() + renewal);
    }

    pub(super) fn renew_token(&mut self) {
        let shared = Arc::clone(&self.base.shared);
        if let (Some(tokens), Some(series)) = (&shared.tokens, &self.series) {
            let token = tokens.issue(series, self.username(), unix_now());
            self.session.send_message(Now::system(), &format!("PUSH_REPLY,auth-token {token}"));
        }
        self.schedule_token();
    }
}

fn new_series() -> TokenSeries {
    use ovpn_control::Random as _;
    let mut session_id = [0; 12];
    SystemRandom.fill(&mut session_id);
    TokenSeries { session_id, initial_time: unix_now() }
}
