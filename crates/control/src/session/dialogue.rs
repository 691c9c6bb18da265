//! One association and how far the conversation on it has come.

use std::time::{Duration, Instant};

use ovpn_crypto::secret::Secret;
use ovpn_wire::opcode::Opcode;
use ovpn_wire::push::PushAssembler;

use super::local::Own;
use crate::association::Association;
use crate::exchange::{Exchange, RemoteHello};
use crate::{AuthId, Failure, FailureKind, Negotiated, Now};

/// A conversation.
pub(super) struct Dialogue {
    pub(super) association: Association,
    /// The peer started anew beside an active association.
    pub(super) restarted: bool,
    /// What the peer said with its first key.
    pub(super) remote: Option<RemoteHello>,
    /// Certificates of the first key (fingerprints, leaf first): later keys must show the same.
    pub(super) locked_chain: Option<Vec<[u8; 32]>>,
    /// Server: where the login of the current key stands.
    pub(super) login: Login,
    pub(super) negotiated: Option<Negotiated>,
    /// When the first key became active.
    pub(super) active_since: Option<Instant>,
    /// Client: asking for the configuration.
    pub(super) pull: Option<Pull>,
    /// Server: giving it.
    pub(super) push: PushState,
    pub(super) reply: PushAssembler,
    pub(super) update: PushAssembler,
    /// The current key has given its data key to the data plane.
    pub(super) key_installed: bool,
    /// When the key before the current one ends.
    pub(super) old_key_dies: Option<Instant>,
    pub(super) renegotiate_at: Option<Instant>,
    /// The peer asks for the next key, and we were not yet done with this one.
    pub(super) next_asked: bool,
    pub(super) last_heard: Option<Instant>,
}

/// Where a login stands on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    /// The key is not that far yet, or needs none.
    Unasked,
    /// The owner is to decide until then.
    Asked { id: AuthId, deadline: Instant },
    /// Let in.
    Accepted,
    /// Refused.
    Rejected,
}

/// A client that waits for its configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull {
    pub(super) next_request: Instant,
    pub(super) deadline: Instant,
}

/// How far a server is with a client's configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct PushState {
    /// The client asked.
    pub(super) requested: bool,
    /// The owner was asked.
    pub(super) asked: bool,
    /// What was answered, and when.
    pub(super) answered: Option<(Instant, Vec<String>)>,
}

impl Dialogue {
    pub(super) fn new(association: Association) -> Self {
        Self {
            association,
            restarted: false,
            remote: None,
            locked_chain: None,
            login: Login::Unasked,
            negotiated: None,
            active_since: None,
            pull: None,
            push: PushState::default(),
            reply: PushAssembler::default(),
            update: PushAssembler::default(),
            key_installed: false,
            old_key_dies: None,
            renegotiate_at: None,
            next_asked: false,
            last_heard: None,
        }
    }

    /// A renegotiation may start: the current key is done and in use.
    pub(super) fn can_renegotiate(&self) -> bool {
        self.key_installed && self.association.exchange.active().is_some()
    }

    /// Replaces the key by a new one, which starts with a soft reset.
    pub(super) fn renegotiate(&mut self, own: &mut Own, now: Now) -> Result<(), Failure> {
        let tls = own.params.start_tls(now)?;
        let timing = &own.params.session().timing;
        let association = &mut self.association;
        let key_id = association.exchange.key_id.next();
        let role = association.role();
        let timeout = timing.tls_timeout;
        let reset = Opcode::SoftResetV1;
        association.renew(Exchange::open(key_id, role, reset, Vec::new(), tls, timeout, now.instant));
        self.next_asked = false;
        self.login = Login::Unasked;
        self.key_installed = false;
        self.old_key_dies = Some(now.instant + timing.tran_window);
        self.renegotiate_at = None;
        tracing::debug!(%key_id, "renegotiation");
        Ok(())
    }

    /// Dynamic tls-crypt comes into force; once and for all, as its packets are counted.
    pub(super) fn use_dynamic_key(&mut self) -> Result<(), Failure> {
        if self.association.has_dynamic_key() {
            return Ok(());
        }
        let mut exported = Secret::<256>::zeroed();
        self.export(Association::DYNAMIC_LABEL, exported.expose_mut())?;
        if !self.association.set_dynamic_key(&exported) {
            return Err(Failure::new(
                FailureKind::Protocol,
                "the cryptographic library refuses the dynamic tls-crypt key",
            ));
        }
        Ok(())
    }

    /// Keying material of the current key's TLS session.
    pub(super) fn export(&self, label: &str, out: &mut [u8]) -> Result<(), Failure> {
        match self.association.exchange.keys() {
            Some((tls, _)) => tls.export(label, out).map_err(|error| Failure::new(FailureKind::Tls, error.0)),
            None => Err(Failure::new(
                FailureKind::Protocol,
                "keying material is wanted before the key exchange is done",
            )),
        }
    }

    /// When the current key must be active.
    pub(super) fn handshake_deadline(&self, hand_window: Duration) -> Option<Instant> {
        let exchange = &self.association.exchange;
        let waiting = exchange.active().is_none() && !exchange.is_failed();
        waiting.then(|| exchange.created + hand_window)
    }
}
