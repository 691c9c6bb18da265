//! Data keys: how they are made, and which slot of the data plane holds which.
//!
//! ```text
//!  first key                   ─▶ primary
//!  renegotiated key            ─▶ secondary: decrypts at once
//!  its age passes the pause    ─▶ slots exchanged: encrypts; the old key still decrypts
//!  the old key's time is over  ─▶ secondary emptied
//! ```
//!
//! The pause is min(hand-window, reneg/2) from the renegotiation's start: by then the peer surely has the key.
//!
//! Source: OpenVPN, "Key life cycle in the control plane", "Slicing key2".

use std::collections::VecDeque;
use std::time::Instant;

use ovpn_crypto::key2::{DATA_KEYS_LABEL, DirectionKeys, Key2, TlsRole};
use ovpn_crypto::prf;
use ovpn_crypto::secret::Secret;
use ovpn_wire::control_packet::SessionId;
use ovpn_wire::opcode::KeyId;

use crate::exchange::Exchange;
use crate::{DataFormat, DataKey, DataKeyDirection, Event, Failure, FailureKind, KeySlot, Negotiated};

/// Makes the data key of an exchange whose key-method messages are both there.
pub(super) fn derive(
    exchange: &Exchange,
    role: TlsRole,
    negotiated: &Negotiated,
    local: SessionId,
    remote: SessionId,
) -> Result<DataKey, Failure> {
    let Some((tls, sources)) = exchange.keys() else {
        return Err(Failure::new(
            FailureKind::Protocol,
            "data keys are wanted before the key exchange is done",
        ));
    };
    let key2 = if negotiated.tls_ekm {
        let mut block = Secret::<256>::zeroed();
        tls.export(DATA_KEYS_LABEL, block.expose_mut())
            .map_err(|error| Failure::new(FailureKind::Tls, error.0))?;
        Key2::new(block)
    } else {
        let (client, server) = match role {
            TlsRole::Client => (local, remote),
            TlsRole::Server => (remote, local),
        };
        prf::expand(&sources.pre_master, &sources.client, &sources.server, client, server)
    };
    let direction = |keys: DirectionKeys<'_>| match negotiated.format {
        DataFormat::Epoch => {
            DataKeyDirection { cipher_key: keys.epoch_key().expose().to_vec(), nonce_tail: [0; 8] }
        }
        DataFormat::V1 | DataFormat::V2 => DataKeyDirection {
            cipher_key: keys.cipher_key(negotiated.cipher.key_len()).unwrap_or_default().to_vec(),
            nonce_tail: keys.nonce_tail(),
        },
    };
    Ok(DataKey {
        key_id: exchange.key_id,
        cipher: negotiated.cipher,
        format: negotiated.format,
        encrypt: direction(key2.send(role)),
        decrypt: direction(key2.receive(role)),
    })
}

/// What the data plane holds.
#[derive(Debug, Default)]
pub(super) struct DataKeys {
    primary: Option<KeyId>,
    secondary: Option<KeyId>,
    /// The secondary key is the newer one and encrypts from then on.
    use_at: Option<Instant>,
    /// The secondary key is the older one and is forgotten then.
    drop_at: Option<Instant>,
}

impl DataKeys {
    /// The first key of an association: whatever was there belongs to nobody any more.
    pub(super) fn install_first(&mut self, key: DataKey, events: &mut VecDeque<Event>) {
        if self.secondary.take().is_some() {
            events.push_back(Event::DropKey { slot: KeySlot::Secondary });
        }
        *self = Self { primary: Some(key.key_id), ..Self::default() };
        events.push_back(Event::InstallKey { slot: KeySlot::Primary, key });
    }

    /// The key of a renegotiation: it encrypts from `use_at` on, the old one decrypts until `drop_old_at`.
    pub(super) fn install_next(
        &mut self,
        key: DataKey,
        use_at: Instant,
        drop_old_at: Instant,
        events: &mut VecDeque<Event>,
    ) {
        if self.primary.is_none() {
            return self.install_first(key, events);
        }
        self.use_pending(events);
        self.secondary = Some(key.key_id);
        self.use_at = Some(use_at.min(drop_old_at));
        self.drop_at = Some(drop_old_at);
        events.push_back(Event::InstallKey { slot: KeySlot::Secondary, key });
    }

    /// A newer key that waits to be used is used now: the peer surely has it.
    pub(super) fn use_pending(&mut self, events: &mut VecDeque<Event>) {
        if self.use_at.is_some() {
            self.exchange_slots(events);
        }
    }

    fn exchange_slots(&mut self, events: &mut VecDeque<Event>) {
        std::mem::swap(&mut self.primary, &mut self.secondary);
        self.use_at = None;
        if let Some(key_id) = self.primary {
            events.push_back(Event::UseKey { key_id });
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        if self.use_at.is_some_and(|at| at <= now) {
            self.exchange_slots(events);
        }
        if self.use_at.is_none() && self.drop_at.is_some_and(|at| at <= now) {
            self.drop_at = None;
            if self.secondary.take().is_some() {
                events.push_back(Event::DropKey { slot: KeySlot::Secondary });
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn deadline(&self) -> Option<(Instant, &'static str)> {
        match (self.use_at, self.drop_at) {
            (Some(at), _) => Some((at, "new key encrypts")),
            (None, Some(at)) => Some((at, "old key is forgotten")),
            (None, None) => None,
        }
    }

    /// Whether the data plane has a key.
    pub(super) fn any(&self) -> bool {
        self.primary.is_some()
    }
}
