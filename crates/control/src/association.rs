//! One pair of session ids: its wrapping, and the key that is being negotiated or was negotiated last.
//!
//! Packets of the first key are wrapped as configured; those of renegotiations with the dynamic key, once that was
//! agreed. A tls-crypt-v2 client appends its wrapped key where the opcode says so.
//!
//! The key before the current one listens and answers until the current one is active: our last acknowledgements of it
//! may be lost, and a peer that misses them neither leaves it nor hears of the next one.
//!
//! ```text
//!  we:    … key 1 active ── soft reset, key 2 ────────── ack, key 1 ── soft reset, key 2, again ──▶
//!  peer:  … ack lost ────── (not yet) ── repeats key 1 ─────────────── takes it ────────────────▶
//! ```
//!
//! Over a byte stream nothing is lost, and what comes late is too late: a stock peer ends the connection at a packet
//! of a key that it has left. So a former key only listens there; what is said with it is said again with the next one.

use std::sync::Arc;
use std::time::Instant;

use ovpn_crypto::control_replay::{ReplayCounter, ReplayWindow};
use ovpn_crypto::control_wrap::{ControlWrap, DYNAMIC_TLS_CRYPT_LABEL, UnwrapError, WrapKey};
use ovpn_crypto::key2::TlsRole;
use ovpn_crypto::secret::Secret;
use ovpn_crypto::tls_crypt_v2::{ClientKey, Metadata};
use ovpn_wire::control_packet::{Acks, ControlBody, ControlHeader, Message, SessionId};
use ovpn_wire::opcode::KeyId;

use crate::exchange::{Exchange, Limits, Local, Step};
use crate::params::SessionParams;
use crate::reliable::ACKS_ON_MESSAGE;
use crate::{DropReason, Now};

/// The longest body before the payload of a message that carries acks.
const MESSAGE_HEAD: usize = 1 + 4 * ACKS_ON_MESSAGE + 8 + 4;

/// A pair of session ids.
pub(crate) struct Association {
    pub(crate) local: SessionId,
    pub(crate) remote: Option<SessionId>,
    role: TlsRole,
    wraps: Wraps,
    replay_window: (u32, u64),
    wrapped_key: Option<Arc<ClientKey>>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) limits: Limits,
    pub(crate) exchange: Exchange,
    /// The key before, as long as the peer may still be at it.
    former: Option<Exchange>,
    /// Packets travel in a byte stream.
    stream: bool,
}

/// The wrapping of the first key and that of all others.
struct Wraps {
    first: ControlWrap,
    dynamic: Option<ControlWrap>,
}

impl Wraps {
    fn of(&mut self, key_id: KeyId) -> &mut ControlWrap {
        match &mut self.dynamic {
            Some(dynamic) if key_id.is_renegotiation() => dynamic,
            _ => &mut self.first,
        }
    }
}

/// How a packet of an association opened.
pub(crate) struct OpenedPacket {
    pub(crate) header: ControlHeader,
    pub(crate) body: Vec<u8>,
}

impl Association {
    /// With the peer's session id still unknown.
    pub(crate) fn new(
        params: &SessionParams,
        role: TlsRole,
        local: SessionId,
        key: WrapKey,
        counter: ReplayCounter,
        wrapped_key: Option<Arc<ClientKey>>,
        exchange: Exchange,
    ) -> Self {
        let (width, seconds) = params.replay_window;
        let wrap = ControlWrap::new(key).with_counter(counter).with_window(ReplayWindow::new(width, seconds));
        // Room for the dynamic key's wrapping too, which may be the larger one.
        let overhead = wrap.overhead().max(if params.features.dyn_tls_crypt { 40 } else { 0 });
        let packet = usize::from(params.max_packet_size).saturating_sub(params.link.overhead());
        let payload = packet.saturating_sub(ControlHeader::LEN + overhead + MESSAGE_HEAD).max(64);
        let wkc = wrapped_key.as_ref().map_or(0, |key| key.wkc().len());
        // A well-known server of others drops unwrapped packets with more acks.
        let few_acks = matches!(wrap.key(), WrapKey::None) && role == TlsRole::Client;
        let limits = Limits {
            payload,
            payload_with_wkc: payload.saturating_sub(wkc).max(16),
            acks: if few_acks { 4 } else { 8 },
        };
        Self {
            local,
            remote: None,
            role,
            wraps: Wraps { first: wrap, dynamic: None },
            replay_window: params.replay_window,
            wrapped_key,
            metadata: None,
            limits,
            exchange: exchange.over_stream(params.link.is_tcp()),
            former: None,
            stream: params.link.is_tcp(),
        }
    }

    /// This side's TLS role.
    pub(crate) fn role(&self) -> TlsRole {
        self.role
    }

    /// Agrees on the dynamic key for renegotiations, from the first TLS session's exporter.
    pub(crate) fn set_dynamic_key(&mut self, exported: &Secret<256>) -> bool {
        let Some(key) = self.wraps.first.key().dynamic(exported, self.role) else { return false };
        let (width, seconds) = self.replay_window;
        self.wraps.dynamic = Some(ControlWrap::new(key).with_window(ReplayWindow::new(width, seconds)));
        true
    }

    /// Whether renegotiations have their key.
    pub(crate) fn has_dynamic_key(&self) -> bool {
        self.wraps.dynamic.is_some()
    }

    /// Peers that make keys with the exporter take any number of acks.
    pub(crate) fn lift_ack_limit(&mut self) {
        self.limits.acks = 8;
    }

    /// Goes on to the next key; the one before stays until the next one is active.
    pub(crate) fn renew(&mut self, next: Exchange) {
        let next = next.after(&self.exchange).over_stream(self.stream);
        self.former = Some(std::mem::replace(&mut self.exchange, next));
    }

    /// The exchange that a packet of this key belongs to.
    pub(crate) fn exchange_of(&mut self, key_id: KeyId) -> Option<&mut Exchange> {
        if self.exchange.key_id == key_id {
            return Some(&mut self.exchange);
        }
        self.former.as_mut().filter(|former| former.key_id == key_id)
    }

    /// Says something with the key that the peer listens to.
    pub(crate) fn say(&mut self, text: &str) {
        match &mut self.former {
            Some(former) if !self.exchange.is_peer_open() => former.send_text(text),
            _ => self.exchange.send_text(text),
        }
    }

    /// Goes as far as possible; what the former key still hears comes first.
    pub(crate) fn advance(&mut self, now: Now, local: &mut dyn Local, steps: &mut Vec<Step>) {
        if let Some(former) = &mut self.former {
            former.advance(now, self.limits, local, steps);
            steps.retain(|step| matches!(step, Step::Text(_)));
        }
        self.exchange.advance(now, self.limits, local, steps);
        if self.former.is_none() {
            return;
        }
        if self.exchange.is_peer_open()
            && let Some(former) = &mut self.former
        {
            self.exchange.say_again(former);
        }
        if self.exchange.is_active() || self.exchange.is_failed() {
            self.former = None;
        }
        // What was said again goes out with an active key at once.
        self.exchange.advance(now, self.limits, local, steps);
    }

    /// Everything said was acknowledged.
    pub(crate) fn is_quiet(&self) -> bool {
        self.exchange.is_quiet() && self.former.as_ref().is_none_or(Exchange::is_quiet)
    }

    /// Unwraps a packet: authentic and not seen before.
    pub(crate) fn open(
        &mut self,
        key_id: KeyId,
        packet: &[u8],
        now: Now,
    ) -> Result<OpenedPacket, DropReason> {
        let opened = self.wraps.of(key_id).unwrap(packet, now.unix).map_err(drop_reason)?;
        Ok(OpenedPacket { header: opened.header, body: opened.body })
    }

    /// Reads the body and checks whose acks it carries.
    pub(crate) fn read<'a>(&self, opened: &'a OpenedPacket) -> Result<ControlBody<'a>, DropReason> {
        let body =
            ControlBody::parse(opened.header.opcode, &opened.body).map_err(|_| DropReason::Malformed)?;
        match &body.acks {
            Some(acks) if acks.remote_session_id != self.local => Err(DropReason::ForeignAcks),
            _ => Ok(body),
        }
    }

    /// Wraps every packet that is due.
    pub(crate) fn transmit(&mut self, now: Now, out: &mut impl Extend<Vec<u8>>) {
        let mut body = Vec::new();
        let limits = self.limits;
        if let Some(former) = self.former.as_mut().filter(|_| self.stream) {
            while former.next_packet(now.instant, limits).is_some() {}
        }
        for exchange in self.former.iter_mut().chain([&mut self.exchange]) {
            let key_id = exchange.key_id;
            while let Some(packet) = exchange.next_packet(now.instant, limits) {
                let acks = match self.remote {
                    Some(remote) if !packet.acks.is_empty() => {
                        Some(Acks { ids: packet.acks, remote_session_id: remote })
                    }
                    _ => None,
                };
                let message = packet.message.map(|(id, payload)| Message { id, payload });
                body.clear();
                ControlBody { acks, message }.emit(&mut body);
                let opcode = packet.opcode;
                let header = ControlHeader { opcode, key_id, session_id: self.local };
                match self.wraps.of(key_id).wrap(header, &body, now.unix) {
                    Ok(mut packet) => {
                        if let Some(key) = self.wrapped_key.as_ref().filter(|_| opcode.carries_wrapped_key())
                        {
                            packet.extend_from_slice(key.wkc());
                        }
                        tracing::trace!(%opcode, %key_id, bytes = packet.len(), "control packet out");
                        out.extend([packet]);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "control packet not sent");
                        return;
                    }
                }
            }
        }
    }

    /// When [`transmit`](Self::transmit) has something again by itself.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let former = self.former.as_ref().and_then(Exchange::deadline);
        former.into_iter().chain(self.exchange.deadline()).min()
    }

    /// The exporter's label of the dynamic key.
    pub(crate) const DYNAMIC_LABEL: &'static str = DYNAMIC_TLS_CRYPT_LABEL;
}

/// The reason for a packet that did not unwrap.
pub(crate) fn drop_reason(error: UnwrapError) -> DropReason {
    match error {
        UnwrapError::Truncated => DropReason::Malformed,
        UnwrapError::Header(_) => DropReason::Opcode,
        UnwrapError::Authentication => DropReason::Unauthentic,
        UnwrapError::Replay(_) => DropReason::Replayed,
        UnwrapError::WrappedKey | UnwrapError::NoWrappedKey => DropReason::BadClientKey,
    }
}
