//! `auth-user-pass-verify`: a script decides about a user name and password, now or later.
//!
//! Exit code 0 accepts, 2 defers, anything else refuses. Three files go with it: `auth_control_file` (1 or 0, when
//! deferred), `auth_pending_file` (how a login continues out of band) and `auth_failed_reason_file`.
//! Source: OpenVPN server behaviour, "auth-user-pass-verify".

use std::io;
use std::time::{Duration, Instant};

use ovpn_config::model::{Command, ScriptSecurity, VerifyMethod, VerifyScript};

use super::client_scripts::Runner;
use super::temp_file::TempFile;
use crate::environment::Environment;
use crate::script::Script;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Accepted.
    Accept,
    /// Refused; the client is told the reason after `AUTH_FAILED,`, where there is one.
    Reject {
        /// May be empty.
        reason: String,
    },
}

/// A login that continues out of band: what `auth_pending_file` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    /// How long the client should wait.
    pub(crate) timeout: Duration,
    /// The way, e.g. `webauth`: the client's IV_SSO must list it.
    pub(crate) method: String,
    /// What INFO_PRE tells the client.
    pub(crate) extra: String,
}

/// The files of one login.
#[derive(Debug)]
pub(crate) struct PasswordCheck {
    control: TempFile,
    pending: TempFile,
    reason: TempFile,
}

impl PasswordCheck {
    /// Makes the files in `tmp-dir`.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(crate) fn new(tmp_dir: Option<&str>) -> io::Result<Self> {
        Ok(Self {
            control: TempFile::create(tmp_dir, "acf", b"")?,
            pending: TempFile::create(tmp_dir, "apf", b"")?,
            reason: TempFile::create(tmp_dir, "afr", b"")?,
        })
    }

    /// Names the files in a script's environment.
    pub(crate) fn announce(&self, environment: &mut Environment) {
        environment.set("auth_control_file", self.control.path().display());
        environment.set("auth_pending_file", self.pending.path().display());
        environment.set("auth_failed_reason_file", self.reason.path().display());
    }

    /// Runs the script and waits for its decision, at most `limit` or what `auth_pending_file` asks for. `on_pending` is
    /// called once, when the login turns out to continue out of band.
    pub(crate) async fn run(
        &self,
        script: &VerifyScript,
        Runner { security, tmp_dir }: Runner<'_>,
        (username, password): (&str, &str),
        mut environment: Environment,
        limit: Duration,
        on_pending: impl FnMut(Pending),
    ) -> Answer {
        let started = Instant::now();
        self.announce(&mut environment);
        environment.set("username", username);
        let mut arguments = Vec::new();
        let mut credentials = None;
        match script.method {
            VerifyMethod::ViaEnv => {
                if security < ScriptSecurity::Passwords {
                    tracing::warn!(
                        "auth-user-pass-verify via-env puts passwords into the environment: set script-security 3, \
                         or use via-file"
                    );
                    return self.refusal();
                }
                environment.set("password", password);
            }
            VerifyMethod::ViaFile => {
                // One line each: a line break inside would be read as the end.
                let line = |text: &str| text.replace(|c: char| c.is_control(), "_");
                let content = format!("{}\n{}\n", line(username), line(password));
                match TempFile::create(tmp_dir, "up", content.as_bytes()) {
                    Ok(file) => {
                        arguments.push(file.path().display().to_string());
                        credentials = Some(file);
                    }
                    Err(error) => {
                        tracing::error!("no file for user name and password: {error}");
                        return self.refusal();
                    }
                }
            }
        }
        let what = "user-pass-verify";
        let run = Script { what, command: &script.command, arguments, environment: &environment };
        let result = run.run(security).await;
        drop(credentials);
        match result {
            Ok(()) => Answer::Accept,
            Err(error) if error.exit_code() == Some(2) => self.deferred(started, limit, on_pending).await,
            Err(error) => {
                tracing::warn!("{error}");
                self.refusal()
            }
        }
    }

    /// Waits for the decision of a deferred login.
    async fn deferred(
        &self,
        started: Instant,
        mut limit: Duration,
        mut on_pending: impl FnMut(Pending),
    ) -> Answer {
        let mut told = false;
        let mut pause = Duration::from_millis(50);
        loop {
            match self.control.read().first() {
                Some(b'1') => return Answer::Accept,
                Some(b'0') => return self.refusal(),
                _ => {}
            }
            if !told && let Some(pending) = parse_pending(&self.pending.text()) {
                told = true;
                limit = pending.timeout;
                on_pending(pending);
            }
            if started.elapsed() >= limit {
                tracing::warn!("deferred authentication not decided within {} s", limit.as_secs());
                return self.refusal();
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    fn refusal(&self) -> Answer {
        // One line, as it travels in a text message.
        let reason = self.reason.text().lines().next().unwrap_or_default().to_owned();
        Answer::Reject { reason }
    }

    /// `client-crresponse`: hands a client's answer to a challenge to the script. Its exit code 0 decides nothing yet: the
    /// decision comes in `auth_control_file`; any other refuses.
    pub(crate) async fn challenge_response(
        &self,
        command: &Command,
        Runner { security, tmp_dir }: Runner<'_>,
        response: &str,
        mut environment: Environment,
    ) -> bool {
        self.announce(&mut environment);
        let file = match TempFile::create(tmp_dir, "crr", response.as_bytes()) {
            Ok(file) => file,
            Err(error) => {
                tracing::error!("no file for the challenge response: {error}");
                return false;
            }
        };
        let arguments = vec![file.path().display().to_string()];
        let what = "client-crresponse";
        match (Script { what, command, arguments, environment: &environment }).run(security).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("{error}");
                false
            }
        }
    }
}

/// Three lines: timeout in seconds, method, extra.
fn parse_pending(text: &str) -> Option<Pending> {
    let mut lines = text.lines().map(str::trim);
    let timeout = Duration::from_secs(lines.next()?.parse().ok()?);
    let (method, extra) = (lines.next()?.to_owned(), lines.next()?.to_owned());
    Some(Pending { timeout, method, extra })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: Runner<'_> = Runner { security: ScriptSecurity::Passwords, tmp_dir: None };

    async fn run(shell: &str, method: VerifyMethod, limit: Duration) -> (Answer, Vec<Pending>) {
        let argv = ["/bin/sh", "-c", shell, "x"].map(str::to_owned).to_vec();
        let script = VerifyScript { command: Command { argv, span: Default::default() }, method };
        let check = PasswordCheck::new(None).unwrap();
        let mut seen = Vec::new();
        let answer = check
            .run(&script, RUNNER, ("alice", "won der\nland"), Environment::default(), limit, |pending| {
                seen.push(pending);
            })
            .await;
        (answer, seen)
    }

    fn rejected(reason: &str) -> Answer {
        Answer::Reject { reason: reason.to_owned() }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn exit_codes_decide() {
        let via_env = r#"test "$username:$password:$script_type" = "alice:won der_land:user-pass-verify""#;
        assert_eq!(run(via_env, VerifyMethod::ViaEnv, MINUTE).await.0, Answer::Accept);
        let via_file =
            r#"test -z "$password" && test "$(head -1 $1)" = alice && test "$(tail -1 $1)" = "won der_land""#;
        assert_eq!(run(via_file, VerifyMethod::ViaFile, MINUTE).await.0, Answer::Accept);
        assert_eq!(run("exit 1", VerifyMethod::ViaFile, MINUTE).await.0, rejected(""));
        let reason = "echo TEMP:closed >$auth_failed_reason_file; exit 1";
        assert_eq!(run(reason, VerifyMethod::ViaFile, MINUTE).await.0, rejected("TEMP:closed"));
    }

    #[tokio::test]
    async fn a_decision_may_come_later() {
        let later = "(sleep 0.2; printf 1 >$auth_control_file) >/dev/null & exit 2";
        assert_eq!(run(later, VerifyMethod::ViaEnv, MINUTE).await.0, Answer::Accept);
        let refused = "echo no >$auth_failed_reason_file; printf 0 >$auth_control_file; exit 2";
        assert_eq!(run(refused, VerifyMethod::ViaEnv, MINUTE).await.0, rejected("no"));
        assert_eq!(run("exit 2", VerifyMethod::ViaEnv, Duration::ZERO).await.0, rejected(""));
    }

    #[tokio::test]
    async fn a_login_may_continue_out_of_band() {
        let pending = "printf '0\\nwebauth\\nWEB_AUTH::https://x/\\n' >$auth_pending_file; exit 2";
        let (answer, seen) = run(pending, VerifyMethod::ViaEnv, MINUTE).await;
        let expected = Pending {
            timeout: Duration::ZERO,
            method: "webauth".to_owned(),
            extra: "WEB_AUTH::https://x/".to_owned(),
        };
        assert_eq!((answer, seen), (rejected(""), vec![expected]));
        assert_eq!(parse_pending("300\nwebauth"), None);
    }

    #[tokio::test]
    async fn challenge_responses_reach_their_script() {
        let shell = r#"test "$(cat $1)" = SGVsbG8= && printf 1 >$auth_control_file"#;
        let argv = ["/bin/sh", "-c", shell, "x"].map(str::to_owned).to_vec();
        let command = Command { argv, span: Default::default() };
        let check = PasswordCheck::new(None).unwrap();
        let run = |response| check.challenge_response(&command, RUNNER, response, Environment::default());
        assert!(!run("other").await);
        assert!(run("SGVsbG8=").await);
        assert_eq!(check.control.text(), "1");
    }
}
