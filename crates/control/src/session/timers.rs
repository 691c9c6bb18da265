//! Deadlines: what is due, and when something will be.

use std::time::Instant;

use super::Session;
use super::dialogue::{Dialogue, Login};
use super::steps::Which;
use crate::params::Params;
use crate::{Failure, FailureKind, Now};

impl Session {
    /// When [`handle_timeout`](Self::handle_timeout) has something to do, and what.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.over || self.silent {
            return None;
        }
        let hand_window = self.own.params.session().timing.hand_window;
        let mut soonest: Option<(Instant, &'static str)> = None;
        let mut consider = |deadline: Option<Instant>, what: &'static str| {
            if let Some(at) = deadline
                && soonest.is_none_or(|(other, _)| at < other)
            {
                soonest = Some((at, what));
            }
        };
        for dialogue in std::iter::once(&self.active).chain(&self.initial) {
            consider(dialogue.association.deadline(), "retransmission");
            consider(dialogue.handshake_deadline(hand_window), "hand-window");
            if let Login::Asked { deadline, .. } = dialogue.login {
                consider(Some(deadline), "login");
            }
        }
        if let Some(pull) = &self.active.pull {
            consider(Some(pull.next_request), "push request");
            consider(Some(pull.deadline), "push reply");
            consider(self.silence_deadline(), "silence");
        }
        consider(self.active.renegotiate_at, "renegotiation");
        consider(
            self.active.old_key_dies.filter(|_| self.active.association.exchange.is_failed()),
            "last key ends",
        );
        consider(self.linger.as_ref().map(|(at, _)| *at), "end of session");
        if let Some((at, what)) = self.keys.deadline() {
            consider(Some(at), what);
        }
        soonest
    }

    /// When a waiting client that hears nothing at all gives up.
    fn silence_deadline(&self) -> Option<Instant> {
        let hand_window = self.own.params.session().timing.hand_window;
        self.active.last_heard.map(|heard| heard + hand_window)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Now) {
        let timing = self.own.params.session().timing.clone();
        if self.linger.as_ref().is_some_and(|(at, _)| *at <= now.instant)
            && let Some((_, failure)) = self.linger.take()
        {
            return self.fail(now, failure);
        }
        let due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now.instant);
        let login_due = |dialogue: &Dialogue| matches!(dialogue.login, Login::Asked { deadline, .. } if deadline <= now.instant);
        if let Some(initial) = &self.initial {
            if due(initial.handshake_deadline(timing.hand_window)) {
                self.drop_initial(now);
            } else if login_due(initial) {
                self.login_expired(now, Which::Initial);
                self.drop_initial(now);
            }
        }
        if due(self.active.handshake_deadline(timing.hand_window)) {
            let seconds = timing.hand_window.as_secs();
            let association = &self.active.association;
            let advice = match (&self.own.params, association.remote, association.exchange.chain()) {
                (Params::Server(_), ..) => {
                    "the client may have gone, or refused our certificate; see its log"
                }
                (_, None, _) => {
                    "nothing came back at all: check address, port and firewall, and that both sides use the same \
                     tls-auth, tls-crypt or tls-crypt-v2 key"
                }
                (_, Some(_), None) => "the peer fell silent: check the network, and the peer's log",
                // Stock servers refuse without a word.
                (_, Some(_), Some(_)) => {
                    "the peer fell silent when it had seen our certificate, and may have refused it: its log says \
                     why; compare both machines' clocks"
                }
            };
            return self.key_failed(
                now,
                Failure::new(
                    FailureKind::HandWindow,
                    format!("TLS key negotiation failed to occur within {seconds} seconds ({advice})"),
                ),
            );
        }
        if login_due(&self.active) {
            self.login_expired(now, Which::Active);
        }
        if self.active.association.exchange.is_failed() && due(self.active.old_key_dies) {
            let failure =
                Failure::new(FailureKind::HandWindow, "the last data key has ended without a new one");
            return self.fail(now, failure);
        }
        self.tick_pull(now);
        if due(self.active.renegotiate_at) {
            self.active.renegotiate_at = None;
            self.start_renegotiation(now);
        }
        self.keys.tick(now.instant, &mut self.events);
    }

    /// A client asks for its configuration again and again, until it has it or gives up.
    fn tick_pull(&mut self, now: Now) {
        let Some(pull) = self.active.pull else { return };
        let silent = self.silence_deadline().is_some_and(|at| at <= now.instant);
        if pull.deadline <= now.instant || silent {
            let sentence = "the server let us in but sent no configuration (no PUSH_REPLY): its log says why; a slow \
                            login there needs `auth-user-pass-verify` to answer sooner";
            return self.fail(now, Failure::new(FailureKind::NoPushReply, sentence));
        }
        if pull.next_request <= now.instant {
            let interval = self.own.params.session().timing.push_request_interval;
            self.active.association.exchange.send_text("PUSH_REQUEST");
            if let Some(pull) = &mut self.active.pull {
                pull.next_request = now.instant + interval;
            }
        }
    }
}
