//! What a server decides: logins and configurations.

use std::time::Duration;

use ovpn_wire::message::{AuthFailed, Message};
use ovpn_wire::peer_info::IvProto;
use ovpn_wire::push;

use super::Session;
use super::dialogue::{Dialogue, Login};
use super::local::compression_to_push;
use super::steps::Which;
use crate::params::Params;
use crate::{AuthId, Cipher, Event, Failure, FailureKind, Negotiated, Now, negotiation};

/// How long a refused client's session stays, so that it gets the message.
const LINGER: Duration = Duration::from_secs(5);

/// How long a client's repeated push requests stay unanswered after a reply.
const REPEAT_PUSH: Duration = Duration::from_secs(30);

/// A refused login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// What the client is told. A temporary failure is told only to clients that know it, to others as a refusal.
    pub failure: AuthFailed,
}

impl Reject {
    /// A refusal with a reason, or an empty one.
    pub fn with_reason(reason: impl Into<String>) -> Self {
        Self { failure: AuthFailed::Refused(reason.into()) }
    }
}

/// A login that goes on out of band.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingAuth {
    /// How long the server is willing to wait.
    pub timeout: Duration,
    /// What the client's user interface is shown, e.g. `WEB_AUTH::https://…`; sent as INFO_PRE.
    pub info: Option<String>,
}

/// A client's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Option lines in order, without what the session adds: `peer-id`, `cipher`, `protocol-flags`, `tun-mtu`.
    pub options: Vec<String>,
    /// The peer id for this client.
    pub peer_id: u32,
    /// The own tun MTU, pushed to clients that take one.
    pub tun_mtu: u16,
    /// `data-ciphers` for this client alone; `None` takes the configured list.
    pub data_ciphers: Option<Vec<Cipher>>,
}

impl Session {
    /// Server: lets a client in. A decision about a login that is no longer asked for does nothing.
    pub fn auth_accept(&mut self, now: Now, id: AuthId) {
        let Some(which) = self.asked(id) else { return };
        self.dialogue(which).login = Login::Accepted;
        if which == Which::Initial {
            self.promote(now);
        }
        if let Err(failure) = self.server_progress(now) {
            self.key_failed(now, failure);
        }
        self.pump(now);
    }

    /// Server: refuses a client. It is told, and the session ends five seconds later; a client that had only started
    /// anew beside an established session loses just the new one.
    pub fn auth_reject(&mut self, now: Now, id: AuthId, reject: &Reject) {
        let Some(which) = self.asked(id) else { return };
        let dialogue = self.dialogue(which);
        dialogue.login = Login::Rejected;
        tell_refused(dialogue, &reject.failure);
        if which == Which::Active {
            self.leaving = true;
            let failure = Failure::new(FailureKind::Auth, "the client's login was refused");
            self.linger = Some((now.instant + LINGER, failure));
        }
        self.pump(now);
    }

    /// Server: the login goes on out of band; decide later with [`auth_accept`](Self::auth_accept) or
    /// [`auth_reject`](Self::auth_reject).
    pub fn auth_pending(&mut self, now: Now, id: AuthId, pending: &PendingAuth) {
        let Some(which) = self.asked(id) else { return };
        let dialogue = self.dialogue(which);
        dialogue.login = Login::Asked { id, deadline: now.instant + pending.timeout };
        let knows_keywords = proto(dialogue).contains(IvProto::AUTH_PENDING_KEYWORDS);
        let timeout = pending.timeout.as_secs();
        let exchange = &mut dialogue.association.exchange;
        match knows_keywords {
            true => exchange.send_text(&format!("AUTH_PENDING,timeout {timeout}")),
            false => exchange.send_text("AUTH_PENDING"),
        }
        if let Some(info) = &pending.info {
            exchange.send_text(&format!("INFO_PRE,{info}"));
        }
        self.pump(now);
    }

    /// Server: gives an accepted client its configuration, after [`Event::PushRequest`]. Its key follows as
    /// [`Event::InstallKey`]; add the peer to the data plane before draining events on.
    ///
    /// # Errors
    /// Why nothing could be agreed on; the client is told and the session ends.
    pub fn send_push_reply(&mut self, now: Now, push: &Push) -> Result<Negotiated, Failure> {
        let result = self.push(now, push);
        if let Err(failure) = &result {
            tell_refused(&mut self.active, &AuthFailed::Refused(failure.sentence.clone()));
            self.leaving = true;
            self.linger = Some((now.instant + LINGER, failure.clone()));
        }
        self.pump(now);
        result
    }

    fn push(&mut self, now: Now, push: &Push) -> Result<Negotiated, Failure> {
        let Params::Server(params) = &self.own.params else {
            return Err(Failure::new(FailureKind::Protocol, "only servers push"));
        };
        let dialogue = &mut self.active;
        let Some(remote) = dialogue.remote.as_ref().filter(|_| dialogue.push.asked) else {
            return Err(Failure::new(FailureKind::Protocol, "the client is not ready for its configuration"));
        };
        let ciphers = push.data_ciphers.as_ref().unwrap_or(&params.session.data_ciphers);
        let choice = negotiation::server(
            &params.session,
            params.force_tls_ekm,
            ciphers,
            push.peer_id,
            push.tun_mtu,
            remote,
        )
        .map_err(|reason| Failure::new(FailureKind::Negotiation, reason))?;
        let options: Vec<&str> = push
            .options
            .iter()
            .chain(&choice.push)
            .map(String::as_str)
            .chain(compression_to_push(&self.own.params, remote))
            .collect();
        let texts = push::split("PUSH_REPLY", &options).map_err(|error| {
            Failure::new(FailureKind::PushedOption, format!("an option cannot be pushed ({error:?})"))
        })?;
        let again = dialogue.negotiated.is_some();
        for text in &texts {
            dialogue.association.exchange.send_text(text);
        }
        dialogue.push.answered = Some((now.instant, texts));
        if !again {
            self.establish(choice.negotiated)?;
        }
        Ok(choice.negotiated)
    }

    /// `compress migrate`: the framing that the session pushes to this client, which its data plane must then speak:
    /// `compress stub-v2` (on a tun device the same as none) or `comp-lzo no`.
    pub fn migrated_compression(&self) -> Option<&'static str> {
        self.active.remote.as_ref().and_then(|remote| compression_to_push(&self.own.params, remote))
    }

    /// Whether the client is established and knows PUSH_UPDATE.
    pub fn takes_push_updates(&self) -> bool {
        proto(&self.active).contains(IvProto::PUSH_UPDATE) && self.active.negotiated.is_some()
    }

    /// Sends options to an established client: `PUSH_UPDATE` where it knows that; whether it does.
    ///
    /// # Errors
    /// An option that no message can carry.
    pub fn send_push_update(&mut self, now: Now, options: &[String]) -> Result<bool, Failure> {
        if !self.takes_push_updates() {
            return Ok(false);
        }
        let texts = push::split("PUSH_UPDATE", options).map_err(|error| {
            Failure::new(FailureKind::PushedOption, format!("an option cannot be pushed ({error:?})"))
        })?;
        for text in &texts {
            self.active.association.say(text);
        }
        self.pump(now);
        Ok(true)
    }

    /// Which dialogue waits for this decision.
    fn asked(&self, wanted: AuthId) -> Option<Which> {
        let waits = |dialogue: &Dialogue| matches!(dialogue.login, Login::Asked { id, .. } if id == wanted);
        match &self.initial {
            _ if self.over => None,
            _ if waits(&self.active) => Some(Which::Active),
            Some(initial) if waits(initial) => Some(Which::Initial),
            _ => None,
        }
    }

    /// Asks for the configuration, or installs a renegotiated key, once both key and login are far enough.
    pub(super) fn server_progress(&mut self, now: Now) -> Result<(), Failure> {
        let dialogue = &mut self.active;
        if dialogue.login != Login::Accepted || dialogue.association.exchange.active().is_none() {
            return Ok(());
        }
        if dialogue.association.exchange.key_id.is_renegotiation() {
            return self.install_renegotiated(now);
        }
        let early = proto(dialogue).contains(IvProto::REQUEST_PUSH);
        if !dialogue.push.asked && (early || dialogue.push.requested) {
            dialogue.push.asked = true;
            self.events.push_back(Event::PushRequest);
        }
        Ok(())
    }

    /// A client that asks again after a while gets the same answer again.
    pub(super) fn repeat_push_reply(&mut self, which: Which, now: Now) {
        let dialogue = self.dialogue(which);
        if let Some((when, texts)) = &mut dialogue.push.answered
            && now.instant.saturating_duration_since(*when) >= REPEAT_PUSH
        {
            *when = now.instant;
            for text in texts.iter() {
                dialogue.association.exchange.send_text(text);
            }
        }
    }

    /// A login that nobody decided in time.
    pub(super) fn login_expired(&mut self, now: Now, which: Which) {
        let Login::Asked { id, .. } = self.dialogue(which).login else { return };
        self.auth_reject(now, id, &Reject::with_reason(""));
    }
}

fn proto(dialogue: &Dialogue) -> IvProto {
    dialogue.remote.as_ref().map_or(IvProto::NONE, |remote| remote.peer_info.iv_proto())
}

fn tell_refused(dialogue: &mut Dialogue, failure: &AuthFailed) {
    let told = match failure {
        AuthFailed::Temporary { reason, .. } if !proto(dialogue).contains(IvProto::AUTH_FAILED_TEMP) => {
            AuthFailed::Refused(reason.clone())
        }
        other => other.clone(),
    };
    dialogue.association.exchange.send_text(&Message::AuthFailed(told).to_string());
}
