//! A login from the client's message to the decision, scripts included.

use std::path::Path;
use std::sync::Arc;

use ovpn_control::{AuthId, AuthRequest};
use ovpn_crypto::auth_token::TokenSeries;
use ovpn_crypto::tls_crypt_v2::Metadata;
use tokio::sync::mpsc;

use super::client_options;
use super::login::{self, Candidate, Identity, Login, Rules, Shown};
use super::password_script::{Answer, PasswordCheck, Pending};
use super::shared::Shared;
use crate::environment::Environment;

/// The decision about one login.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Let it in.
    Accept(AuthId, Candidate),
    /// Refuse it.
    Reject {
        /// Which.
        id: AuthId,
        /// For the log.
        log: String,
        /// What the client is told after `AUTH_FAILED,`.
        reason: String,
    },
}

/// One login.
pub(crate) struct LoginTask {
    /// What all clients share.
    pub(crate) shared: Arc<Shared>,
    /// What the client sent.
    pub(crate) request: Box<AuthRequest>,
    /// Who it was at its first login.
    pub(crate) locked: Option<Identity>,
    /// Its token series, if it had one.
    pub(crate) series: Option<TokenSeries>,
    /// Variables of this client.
    pub(crate) environment: Environment,
    /// The files for the password script.
    pub(crate) check: Option<Arc<PasswordCheck>>,
    /// Where it is told that the login continues out of band.
    pub(crate) pending: mpsc::UnboundedSender<(AuthId, Pending)>,
    /// Unix seconds.
    pub(crate) now: i64,
}

impl LoginTask {
    /// Runs it to its decision.
    pub(crate) async fn run(mut self) -> Decision {
        let id = self.request.id;
        let reject = |log: String, reason: String| Decision::Reject { id, log, reason };
        if let Err(log) = self.verify_certificates().await {
            return reject(log, String::new());
        }
        let credentials = self.request.credentials.take();
        let chain = self.request.chain.as_ref();
        let hashes: Vec<[u8; 32]> =
            chain.map_or_else(Vec::new, |chain| chain.certificates.iter().map(|c| c.sha256).collect());
        let config = &self.shared.config;
        let shown = Shown {
            common_name: chain.map_or("", |chain| chain.common_name()),
            chain: &hashes,
            credentials: credentials.as_ref().map(|c| (c.username.as_str(), c.password.as_str())),
            too_long: self.request.too_long,
        };
        let rules = Rules {
            passwords: config.auth.verify.is_some(),
            optional: config.auth.optional,
            username_as_common_name: config.auth.username_as_common_name,
            tokens: self.shared.tokens.as_ref(),
        };
        let examined = login::examine(shown, rules, self.locked.as_ref(), self.series.as_ref(), self.now);
        let (candidate, ask) = match examined {
            Login::Accept(candidate) => (candidate, false),
            Login::Ask(candidate) => (candidate, true),
            Login::Reject { log, reason } => return reject(log, reason),
        };
        if let Some(log) = self.without_own_file(&candidate.identity.common_name) {
            return reject(log, String::new());
        }
        if !ask {
            return Decision::Accept(id, candidate);
        }
        let (Some(script), Some(check)) = (&config.auth.verify, &self.check) else {
            let log = "no way to verify user names: set auth-user-pass-verify";
            return reject(log.to_owned(), String::new());
        };
        let mut environment = self.environment.clone();
        environment.set("common_name", &candidate.identity.common_name);
        if let Some(token) = candidate.token {
            environment.set("session_state", token.state);
            if let Some(series) = token.series {
                environment.set("session_id", series.env_session_id());
            }
        }
        let (username, password) =
            credentials.as_ref().map_or(("", ""), |c| (c.username.as_str(), c.password.as_str()));
        let username = candidate.identity.username.as_deref().unwrap_or(username);
        let methods: Vec<String> = self.request.peer_info.sso_methods().map(str::to_owned).collect();
        let on_pending = |pending: Pending| {
            if methods.contains(&pending.method) {
                let _ = self.pending.send((id, pending));
            } else {
                tracing::warn!("the client does not know the login method '{}' (IV_SSO)", pending.method);
            }
        };
        let answer = check
            .run(
                script,
                self.shared.runner(),
                (username, password),
                environment,
                config.timers.hand_window,
                on_pending,
            )
            .await;
        match answer {
            Answer::Accept => Decision::Accept(id, candidate),
            Answer::Reject { reason } => {
                let name = names_or_nobody(&candidate);
                reject(format!("authentication of {name} failed: auth-user-pass-verify refused"), reason)
            }
        }
    }

    /// Scripts that look at certificates and client keys.
    async fn verify_certificates(&self) -> Result<(), String> {
        let tls = &self.shared.config.tls;
        if let (Some(command), Some(metadata)) =
            (&tls.tls_crypt_v2_verify, &self.request.wrapped_key_metadata)
        {
            let kind = metadata.kind().unwrap_or_default();
            let bytes = match metadata {
                Metadata::None => Vec::new(),
                other => [&[kind], other.content().as_slice()].concat(),
            };
            let runner = self.shared.runner();
            if !runner.tls_crypt_v2_verify(command, &bytes, self.environment.clone()).await {
                return Err("tls-crypt-v2-verify refused the client's key".to_owned());
            }
        }
        let Some(chain) = &self.request.chain else { return Ok(()) };
        for (depth, certificate) in chain.certificates.iter().enumerate().rev() {
            if let Some(command) = &tls.verify_command {
                let subject = &certificate.subject;
                let runner = self.shared.runner();
                if !runner.tls_verify(command, depth, subject, &self.environment).await {
                    return Err(format!("VERIFY SCRIPT ERROR: depth={depth}, {subject}"));
                }
                tracing::info!("VERIFY SCRIPT OK: depth={depth}, {subject}");
            }
            tracing::info!("VERIFY OK: depth={depth}, {}", certificate.subject);
        }
        Ok(())
    }

    /// `ccd-exclusive`: why the client may not come in.
    fn without_own_file(&self, common_name: &str) -> Option<String> {
        let server = &self.shared.config.server;
        let directory = server.client_config_dir.as_deref().filter(|_| server.ccd_exclusive)?;
        let file = client_options::exclusive_file(directory, common_name);
        let exists = file.as_deref().is_some_and(Path::is_file);
        (!exists).then(|| format!("ccd-exclusive: {directory} has no file for '{common_name}'"))
    }
}

fn names_or_nobody(candidate: &Candidate) -> String {
    match &candidate.identity.username {
        Some(name) => format!("user '{name}'"),
        None => format!("'{}'", candidate.identity.common_name),
    }
}
