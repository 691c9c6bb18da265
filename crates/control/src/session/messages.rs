//! Text messages: each command and what follows.

use std::time::Duration;

use ovpn_wire::message::{Message, commands};

use super::Session;
use super::dialogue::Pull;
use super::steps::Which;
use crate::params::{Params, PullAction};
use crate::{Event, Failure, FailureKind, Now, PushReply, negotiation};

impl Session {
    /// A record of text messages.
    pub(super) fn text_received(&mut self, which: Which, record: &[u8], now: Now) -> Result<(), Failure> {
        for command in commands(record) {
            match command {
                Ok(text) => self.command(which, Message::parse(text), now)?,
                Err(error) => tracing::warn!(%error, "text message dropped"),
            }
        }
        Ok(())
    }

    fn command(&mut self, which: Which, message: Message, now: Now) -> Result<(), Failure> {
        match (&self.own.params, message) {
            (_, Message::Exit) => self.events.push_back(Event::Exit),
            (Params::Server(_), Message::PushRequest) => {
                self.dialogue(which).push.requested = true;
                self.repeat_push_reply(which, now);
                return self.server_progress(now);
            }
            (Params::Server(_), Message::CrResponse(text)) => self.events.push_back(Event::CrResponse(text)),
            (Params::Client(_), Message::PushReply(options)) => return self.push_reply(&options, now),
            (Params::Client(_), Message::PushUpdate(options)) => return self.push_update(&options),
            (Params::Client(_), Message::AuthFailed(failure)) => {
                self.own.token = None;
                self.leaving = true;
                self.events.push_back(Event::AuthFailed(failure));
            }
            (Params::Client(_), Message::AuthPending { timeout, keywords }) => {
                self.auth_pending_received(timeout, keywords, now);
            }
            (Params::Client(_), Message::InfoPre(text)) => {
                self.events.push_back(Event::Info { pre: true, text })
            }
            (Params::Client(_), Message::Info(text)) => {
                self.events.push_back(Event::Info { pre: false, text })
            }
            (Params::Client(_), Message::Restart(restart)) => self.events.push_back(Event::Restart(restart)),
            (Params::Client(_), Message::Halt(text)) => self.events.push_back(Event::Halt(text)),
            (_, other) => tracing::info!(message = ?other, "text message ignored"),
        }
        Ok(())
    }

    fn auth_pending_received(&mut self, timeout: Option<u64>, keywords: String, now: Now) {
        let timing = &self.own.params.session().timing;
        let most = timing.reneg.map_or(timing.hand_window, |life| (life / 2).max(timing.hand_window));
        let timeout = timeout.map_or(timing.hand_window, |seconds| Duration::from_secs(seconds).min(most));
        let start = self.active.active_since.unwrap_or(now.instant);
        if let Some(Pull { deadline, .. }) = &mut self.active.pull {
            *deadline = (*deadline).max(start + timeout);
        }
        self.events.push_back(Event::AuthPending { timeout, keywords });
    }

    fn push_reply(&mut self, options: &str, now: Now) -> Result<(), Failure> {
        let complete = self.active.reply.add(options);
        let options = match complete {
            Ok(Some(options)) => options,
            Ok(None) => return Ok(()),
            Err(error) => return Err(Failure::new(FailureKind::PushedOption, error.to_string())),
        };
        let options = self.filter(options)?;
        let token = self.own.take_token(&options);
        if self.active.negotiated.is_some() {
            // Later replies only renew the token.
            self.events.extend(token.map(Event::AuthToken));
            return Ok(());
        }
        if self.active.pull.take().is_none() {
            return Ok(());
        }
        let server_options = self.active.remote.as_ref().map_or("", |remote| &remote.options);
        let negotiated = negotiation::client(self.own.params.session(), &options, server_options)?;
        self.events.push_back(Event::PushReply(PushReply { options, negotiated }));
        let _ = now;
        self.establish(negotiated)
    }

    /// Applies `pull-filter` rules.
    fn filter(&self, options: Vec<String>) -> Result<Vec<String>, Failure> {
        let Params::Client(params) = &self.own.params else { return Ok(options) };
        let mut kept = Vec::with_capacity(options.len());
        for option in options {
            let rule = params.pull_filters.iter().find(|filter| option.starts_with(&filter.prefix));
            match rule.map_or(PullAction::Accept, |filter| filter.action) {
                PullAction::Accept => kept.push(option),
                PullAction::Ignore => tracing::debug!(%option, "pushed option ignored by pull-filter"),
                PullAction::Reject => {
                    return Err(Failure::new(
                        FailureKind::PushedOption,
                        format!("the server pushed {option:?}, which `pull-filter reject` refuses"),
                    ));
                }
            }
        }
        Ok(kept)
    }

    fn push_update(&mut self, options: &str) -> Result<(), Failure> {
        match self.active.update.add(options) {
            Ok(Some(options)) => {
                let options = self.filter(options)?;
                self.events.push_back(Event::PushUpdate(options));
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(Failure::new(FailureKind::PushedOption, error.to_string())),
        }
    }
}
