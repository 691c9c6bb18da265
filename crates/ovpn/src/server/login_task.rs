//! A login from the client's message to the decision, scripts included.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ovpn_config::model::ClientOptions;
use ovpn_control::{AuthId, AuthRequest, CertificateFacts};
use ovpn_crypto::auth_token::TokenSeries;
use ovpn_crypto::tls_crypt_v2::Metadata;
use tokio::sync::mpsc;

use super::client_options;
use super::interface::{self, Verdict};
use super::login::{self, Candidate, Identity, Login, Rules, Shown};
use super::names;
use super::password_script::{Answer, PasswordCheck, Pending};
use super::routing_table::ClientId;
use super::shared::Shared;
use super::temp_file::TempFile;
use crate::environment::Environment;
use crate::management::Handle;

/// The decision about one login.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Let it in; the management interface may have given it options.
    Accept(AuthId, Candidate, Option<Box<ClientOptions>>),
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
    /// The client's number.
    pub(crate) client: ClientId,
    /// Which login of it this is, from 1.
    pub(crate) key: u64,
    /// What the client sent.
    pub(crate) request: Box<AuthRequest>,
    /// It has its configuration already.
    pub(crate) established: bool,
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
        let fields = &config.tls.x509_username_fields;
        let common_name = match chain.map(|chain| names::of_certificate(chain, fields)) {
            Some(Err(log)) => return reject(log, String::new()),
            Some(Ok(name)) => name,
            None => String::new(),
        };
        let shown = Shown {
            common_name: &common_name,
            chain: &hashes,
            credentials: credentials.as_ref().map(|c| (c.username.as_str(), c.password.as_str())),
            too_long: self.request.too_long,
        };
        let rules = Rules {
            passwords: config.auth.verify.is_some() || self.judge().is_some(),
            optional: config.auth.optional,
            username_as_common_name: config.auth.username_as_common_name,
            tokens: self.shared.tokens.as_deref(),
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
            return Decision::Accept(id, candidate, None);
        }
        if config.auth.verify.is_none() && self.judge().is_none() {
            let log = "no way to verify user names: set auth-user-pass-verify";
            return reject(log.to_owned(), String::new());
        }
        self.environment.set("common_name", &candidate.identity.common_name);
        if let Some(token) = candidate.token {
            self.environment.set("session_state", token.state);
            if let Some(series) = token.series {
                self.environment.set("session_id", series.env_session_id());
            }
        }
        let (username, password) =
            credentials.as_ref().map_or(("", ""), |c| (c.username.as_str(), c.password.as_str()));
        let username = candidate.identity.username.as_deref().unwrap_or(username);
        // Both may have a say; the first no is one.
        let decided =
            tokio::try_join!(self.ask_script(username, password), self.ask_management(username, password),);
        match decided {
            Ok(((), options)) => Decision::Accept(id, candidate, options),
            Err((who, reason)) => {
                let name = names_or_nobody(&candidate);
                reject(format!("authentication of {name} failed: {who}"), reason)
            }
        }
    }

    /// The management interface, where it decides.
    fn judge(&self) -> Option<&Handle> {
        self.shared.management.as_ref().filter(|management| management.judges_clients())
    }

    /// `auth-user-pass-verify`. `Err`: who refused, and what the client is told.
    async fn ask_script(&self, username: &str, password: &str) -> Result<(), (String, String)> {
        let config = &self.shared.config;
        let (Some(script), Some(check)) = (&config.auth.verify, &self.check) else {
            return match config.auth.verify {
                None => Ok(()),
                Some(_) => Err(("no files for auth-user-pass-verify".to_owned(), String::new())),
            };
        };
        let answer = check
            .run(
                script,
                self.shared.runner(),
                (username, password),
                self.environment.clone(),
                config.timers.hand_window,
                |pending| self.is_pending(pending),
            )
            .await;
        match answer {
            Answer::Accept => Ok(()),
            Answer::Reject { reason } => Err(("auth-user-pass-verify refused".to_owned(), reason)),
        }
    }

    /// A login goes on out of band, where the client knows how.
    fn is_pending(&self, pending: Pending) {
        let knows = self.request.peer_info.sso_methods().any(|method| method == pending.method);
        // The management interface names no method.
        if knows || pending.method.is_empty() {
            let _ = self.pending.send((self.request.id, pending));
        } else {
            tracing::warn!("the client does not know the login method '{}' (IV_SSO)", pending.method);
        }
    }

    /// `management-client-auth`. As [`ask_script`](Self::ask_script); with the client's options.
    async fn ask_management(
        &self,
        username: &str,
        password: &str,
    ) -> Result<Option<Box<ClientOptions>>, (String, String)> {
        let Some(management) = self.judge() else { return Ok(None) };
        let mut waiting = self.shared.judges.open(self.client, self.key);
        let what = if self.established { "REAUTH" } else { "CONNECT" };
        let credentials = [("username", username), ("password", password)];
        let shown = interface::variables(&self.shared, &self.environment, &credentials);
        management.client_event(format!("{what},{},{}", self.client, self.key), Some(shown));
        loop {
            match waiting.verdicts.recv().await {
                Some(Verdict::Accept(options)) => return Ok(Some(options)),
                Some(Verdict::Deny { log, reason }) => return Err((format!("denied ({log})"), reason)),
                Some(Verdict::Pending { timeout, extra }) => {
                    let timeout = Duration::from_secs(timeout.into());
                    self.is_pending(Pending { timeout, method: String::new(), extra });
                }
                None => return Err(("the login was superseded".to_owned(), String::new())),
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
                let mut environment = self.environment.clone();
                // The file lives as long as the script runs.
                let exported = self.export(certificate)?;
                if let Some(file) = &exported {
                    environment.set("peer_cert", file.path().display());
                }
                if !runner.tls_verify(command, depth, subject, &environment).await {
                    return Err(format!("VERIFY SCRIPT ERROR: depth={depth}, {subject}"));
                }
                tracing::info!("VERIFY SCRIPT OK: depth={depth}, {subject}");
            }
            tracing::info!("VERIFY OK: depth={depth}, {}", certificate.subject);
        }
        Ok(())
    }

    /// `tls-export-cert`.
    fn export(&self, certificate: &CertificateFacts) -> Result<Option<TempFile>, String> {
        let Some(directory) = &self.shared.config.tls.export_cert_dir else { return Ok(None) };
        TempFile::create(Some(directory), "pcf", certificate.pem().as_bytes())
            .map(Some)
            .map_err(|error| format!("tls-export-cert {directory}: {error}"))
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
