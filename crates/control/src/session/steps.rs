//! What follows when a key gets further: logins, negotiation, data keys.

use std::sync::Arc;
use std::time::Duration;

use ovpn_crypto::key2::P2P_PEER_ID_LABEL;
use ovpn_wire::opcode::Opcode;
use ovpn_wire::peer_info::IvProto;

use super::dialogue::{Dialogue, Login, Pull};
use super::{Session, keys};
use crate::exchange::{RemoteHello, Step};
use crate::params::Params;
use crate::{AuthCause, AuthId, AuthRequest, Event, Failure, FailureKind, Negotiated, Now, negotiation};

/// Which of the two dialogues a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Active,
    Initial,
}

impl Session {
    /// Whether anything happened.
    pub(super) fn step_active(&mut self, now: Now) -> bool {
        let steps = advance(&mut self.active, &mut self.own, now);
        let any = !steps.is_empty();
        for step in steps {
            if self.over {
                return any;
            }
            if let Err(failure) = self.take_step(Which::Active, step, now) {
                self.key_failed(now, failure);
            }
        }
        any
    }

    /// Whether anything happened.
    pub(super) fn step_initial(&mut self, now: Now) -> bool {
        let Some(initial) = &mut self.initial else { return false };
        let steps = advance(initial, &mut self.own, now);
        let any = !steps.is_empty();
        for step in steps {
            if let Err(failure) = self.take_step(Which::Initial, step, now) {
                tracing::info!(reason = %failure.sentence, "new session on the same address failed; the old one stays");
                self.drop_initial(now);
            }
        }
        any
    }

    pub(super) fn drop_initial(&mut self, now: Now) {
        if let Some(mut initial) = self.initial.take() {
            let limits = initial.association.limits;
            initial.association.exchange.give_up(now, limits, false);
            initial.association.transmit(now, &mut self.packets);
        }
    }

    pub(super) fn dialogue(&mut self, which: Which) -> &mut Dialogue {
        match (which, &mut self.initial) {
            (Which::Initial, Some(initial)) => initial,
            _ => &mut self.active,
        }
    }

    fn take_step(&mut self, which: Which, step: Step, now: Now) -> Result<(), Failure> {
        // The initial dialogue may have been promoted by the step before.
        let which = if self.initial.is_some() { which } else { Which::Active };
        match step {
            Step::PeerOpened => {
                // Whoever renegotiates again has the key of the last renegotiation installed.
                if which == Which::Active && self.active.association.exchange.key_id.is_renegotiation() {
                    self.keys.use_pending(&mut self.events);
                }
                Ok(())
            }
            Step::RemoteHello(hello) => self.hello_received(which, *hello),
            Step::Active => self.key_active(which, now),
            Step::Text(record) => self.text_received(which, &record, now),
            Step::Failed(failure) => Err(failure),
        }
    }

    /// The peer's key-method 2 is here: its certificate is verified, its login is not.
    fn hello_received(&mut self, which: Which, hello: RemoteHello) -> Result<(), Failure> {
        let is_server = matches!(self.own.params, Params::Server(_));
        let hand_window = self.own.params.session().timing.hand_window;
        let id = AuthId(self.next_auth);
        let dialogue = self.dialogue(which);
        let exchange = &dialogue.association.exchange;
        let created = exchange.created;
        let first = !exchange.key_id.is_renegotiation();
        let chain = exchange.chain();
        let tls = exchange.tls_facts();
        let fingerprints: Option<Vec<[u8; 32]>> =
            chain.as_ref().map(|chain| chain.certificates.iter().map(|facts| facts.sha256).collect());
        if first {
            dialogue.locked_chain = fingerprints;
        } else if dialogue.locked_chain != fingerprints {
            return Err(Failure::new(
                FailureKind::Tls,
                "the peer showed another certificate than at first: it must connect anew to change it",
            ));
        }
        if is_server {
            let request = AuthRequest {
                id,
                cause: match (first, dialogue.restarted) {
                    (true, false) => AuthCause::Connect,
                    (true, true) => AuthCause::Reconnect,
                    (false, _) => AuthCause::Renegotiate,
                },
                credentials: hello.credentials.clone(),
                too_long: hello.too_long,
                chain,
                peer_info: hello.peer_info.clone(),
                remote_options: hello.options.clone(),
                tls,
                wrapped_key_metadata: dialogue.association.metadata.clone(),
            };
            dialogue.login = Login::Asked { id, deadline: created + hand_window };
            if first {
                dialogue.remote = Some(hello);
            }
            self.next_auth += 1;
            self.events.push_back(Event::AuthRequest(Box::new(request)));
        } else if first {
            dialogue.remote = Some(hello);
            self.expect_dynamic_key(which)?;
        }
        Ok(())
    }

    /// A point-to-point peer knows all that it agrees on before its own last packets are acknowledged, and the peer's
    /// first soft reset, which stands for those acknowledgements, is wrapped with the dynamic key.
    fn expect_dynamic_key(&mut self, which: Which) -> Result<(), Failure> {
        match self.p2p_negotiated(which)? {
            Some(negotiated) if negotiated.dyn_tls_crypt => self.dialogue(which).use_dynamic_key(),
            _ => Ok(()),
        }
    }

    /// Everything of the key exchange was acknowledged.
    fn key_active(&mut self, which: Which, now: Now) -> Result<(), Failure> {
        let timing = self.own.params.session().timing.clone();
        let life = self.key_life();
        let dialogue = self.dialogue(which);
        dialogue.renegotiate_at = life.map(|life| now.instant + life);
        let exchange = &dialogue.association.exchange;
        if exchange.key_id.is_renegotiation() {
            let renewed = Event::KeyRenewed { tls: exchange.tls_facts() };
            self.events.push_back(renewed);
            return match self.own.params {
                Params::Server(_) => self.server_progress(now),
                Params::Client(_) | Params::P2p(_) => self.install_renegotiated(now),
            };
        }
        dialogue.active_since = Some(now.instant);
        if let Some(remote) = &dialogue.remote {
            let connected = Event::PeerConnected {
                chain: exchange.chain(),
                tls: exchange.tls_facts(),
                remote_options: remote.options.clone(),
                peer_info: remote.peer_info.clone(),
            };
            self.events.push_back(connected);
        }
        match self.own.params {
            Params::Client(_) => {
                self.active.pull =
                    Some(Pull { next_request: now.instant, deadline: now.instant + timing.hand_window });
                self.tick(now);
                Ok(())
            }
            Params::Server(_) => self.server_progress(now),
            Params::P2p(_) => self.p2p_active(which, now),
        }
    }

    /// How long the next key lives, from when it is active; stock clients use the whole time, servers a little less.
    fn key_life(&mut self) -> Option<Duration> {
        let timing = &self.own.params.session().timing;
        let max = timing.reneg?;
        let min = match (&self.own.params, timing.reneg_min) {
            (_, Some(min)) => min.min(max),
            (Params::Server(_), None) => max.mul_f64(0.9),
            (_, None) => max,
        };
        Some(max - (max - min).mul_f64(self.own.fraction()))
    }

    fn p2p_active(&mut self, which: Which, now: Now) -> Result<(), Failure> {
        if which == Which::Initial {
            self.promote(now);
        }
        match self.p2p_negotiated(Which::Active)? {
            Some(negotiated) => self.establish(negotiated),
            None => Ok(()),
        }
    }

    /// What point-to-point peers agree on; `None` in other roles.
    fn p2p_negotiated(&mut self, which: Which) -> Result<Option<Negotiated>, Failure> {
        let role = self.role;
        let Params::P2p(params) = &self.own.params else { return Ok(None) };
        let params = Arc::clone(params);
        let dialogue = self.dialogue(which);
        let Some(remote) = &dialogue.remote else { return Ok(None) };
        let mut exported = [0; 3];
        if remote.peer_info.iv_proto().contains(IvProto::TLS_KEY_EXPORT) {
            dialogue.export(P2P_PEER_ID_LABEL, &mut exported)?;
        }
        negotiation::p2p(&params.session, role, remote, exported).map(Some)
    }

    /// The initial dialogue takes the place of the active one.
    pub(super) fn promote(&mut self, now: Now) {
        let Some(initial) = self.initial.take() else { return };
        let mut former = std::mem::replace(&mut self.active, initial);
        former.association.transmit(now, &mut self.packets);
        tracing::info!("the new session on the same address takes over");
    }

    /// The first key goes to the data plane; dynamic tls-crypt comes into force.
    pub(super) fn establish(&mut self, negotiated: Negotiated) -> Result<(), Failure> {
        let dialogue = &mut self.active;
        if negotiated.dyn_tls_crypt {
            dialogue.use_dynamic_key()?;
        }
        if negotiated.tls_ekm {
            dialogue.association.lift_ack_limit();
        }
        let key = self.derive(&negotiated)?;
        self.active.negotiated = Some(negotiated);
        self.active.key_installed = true;
        self.keys.install_first(key, &mut self.events);
        self.events.push_back(Event::Established(negotiated));
        Ok(())
    }

    fn derive(&self, negotiated: &Negotiated) -> Result<crate::DataKey, Failure> {
        let association = &self.active.association;
        let Some(remote) = association.remote else {
            return Err(Failure::new(FailureKind::Protocol, "data keys without a peer"));
        };
        keys::derive(&association.exchange, self.role, negotiated, association.local, remote)
    }

    /// The key of a renegotiation goes to the data plane.
    pub(super) fn install_renegotiated(&mut self, now: Now) -> Result<(), Failure> {
        let Some(negotiated) = self.active.negotiated else { return Ok(()) };
        if self.active.key_installed {
            return Ok(());
        }
        let key = self.derive(&negotiated)?;
        let timing = &self.own.params.session().timing;
        let half_life = timing.reneg.map_or(Duration::MAX, |life| life / 2);
        let use_at = self.active.association.exchange.created + timing.hand_window.min(half_life);
        let drop_at = self.active.old_key_dies.unwrap_or(now.instant);
        self.keys.install_next(key, use_at, drop_at, &mut self.events);
        self.active.key_installed = true;
        Ok(())
    }

    /// Takes up the peer's wish for the next key, once the current one is done; whether it was.
    pub(super) fn answer_next(&mut self, now: Now) -> bool {
        if !self.active.next_asked || !self.start_renegotiation(now) {
            return false;
        }
        self.active.association.exchange.receive(0, Opcode::SoftResetV1, &[]);
        true
    }

    pub(super) fn start_renegotiation(&mut self, now: Now) -> bool {
        if self.leaving || !self.active.can_renegotiate() {
            return false;
        }
        match self.active.renegotiate(&mut self.own, now) {
            Ok(()) => true,
            Err(failure) => {
                self.key_failed(now, failure);
                false
            }
        }
    }

    /// The active association's key failed. Fatal, unless an older data key still lives: then a new association is
    /// tried while data flows on.
    pub(super) fn key_failed(&mut self, now: Now, failure: Failure) {
        let old_key_lives = self.active.old_key_dies.is_some_and(|at| at > now.instant) && self.keys.any();
        if !old_key_lives || self.leaving || self.linger.is_some() {
            return self.fail(now, failure);
        }
        tracing::warn!(reason = %failure.sentence, "renegotiation failed; data goes on with the old key");
        let limits = self.active.association.limits;
        self.active.association.exchange.give_up(now, limits, false);
        self.active.association.transmit(now, &mut self.packets);
        if self.own.params.is_server() {
            // The client comes back with a hard reset; the initial slot takes it.
            return;
        }
        let dies = self.active.old_key_dies;
        match super::new_association(&mut self.own, self.role, None, now) {
            Ok(association) => {
                self.active = Dialogue::new(association);
                self.active.old_key_dies = dies;
            }
            Err(failure) => self.fail(now, failure),
        }
    }
}

fn advance(dialogue: &mut Dialogue, own: &mut super::Own, now: Now) -> Vec<Step> {
    let mut steps = Vec::new();
    dialogue.association.advance(now, own, &mut steps);
    steps
}
