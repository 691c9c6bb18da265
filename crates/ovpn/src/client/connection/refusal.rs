//! A refused login: give up, try again, or answer a question first.

use std::time::Duration;

use ovpn_wire::message::AuthFailed;

use super::super::login::{Challenge, Refused};
use super::{Connection, End};
use crate::management::Handle;

impl Connection<'_> {
    pub(super) fn on_auth_failed(&mut self, failed: AuthFailed) -> End {
        let retry = self.client.steering.retry();
        match failed {
            AuthFailed::Refused(reason) | AuthFailed::Session(reason) => {
                let suffix = if reason.is_empty() { String::new() } else { format!(",{reason}") };
                tracing::info!("AUTH: Received control message: AUTH_FAILED{suffix}");
                self.notice_refusal(&reason);
                match self.client.login.refused(retry) {
                    Refused::Token => End::retry("auth-failure (auth-token)").stay(),
                    Refused::GiveUp => {
                        if !reason.is_empty() {
                            tracing::error!("the server refused the login: {reason}");
                        } else {
                            tracing::error!(
                                "the server refused the login: check username and password (auth-user-pass)"
                            );
                        }
                        End::exit("auth-failure")
                    }
                    Refused::Again => End::retry("auth-failure").stay(),
                }
            }
            AuthFailed::Temporary { backoff, advance, reason } => {
                tracing::info!("AUTH: Received control message: AUTH_FAILED,TEMP:{reason}");
                let end = End::retry("auth-temp-failure (server temporary reject)");
                End {
                    backoff: Duration::from_secs(backoff.unwrap_or(0).into()),
                    advance: advance.into(),
                    ..end
                }
            }
            AuthFailed::Challenge { flags, state, username, text } => {
                tracing::info!("AUTH: Received control message: AUTH_FAILED,CRV1:{flags}:…:{text}");
                if self.client.management.as_ref().is_some_and(Handle::asks_passwords) {
                    // The program shows the question and enters the answer as the next password.
                    self.notice_refusal(&format!("CRV1:{flags}:{state}:{username}:{text}"));
                    self.client.login.forget_entered();
                    return End::retry("auth-failure").stay();
                }
                if retry != ovpn_config::model::AuthRetry::Interact {
                    tracing::error!(
                        "the server asks a question: \"{text}\"; auth-retry interact is needed to answer"
                    );
                    return End::exit("auth-failure");
                }
                self.client.login.challenged(Challenge {
                    state,
                    username,
                    text,
                    echo: flags.contains('E'),
                    required: flags.contains('R'),
                });
                End::retry("auth-failure").stay()
            }
        }
    }

    pub(super) fn notice_refusal(&self, reason: &str) {
        if let Some(management) = &self.client.management {
            let text = if reason.is_empty() { String::new() } else { format!(" ['{reason}']") };
            management.notice(format!(">PASSWORD:Verification Failed: 'Auth'{text}"));
        }
    }
}
