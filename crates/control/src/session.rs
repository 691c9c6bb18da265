//! One peer: its associations, its keys, and what is said between the two sides.
//!
//! ```text
//!  Client   reset ─▶ TLS ─▶ key-method 2 ─▶ PUSH_REQUEST ─▶ PUSH_REPLY ─▶ key installed
//!  Server   (cookie) ─▶ TLS ─▶ key-method 2 ─▶ AuthRequest · accept ─▶ PushRequest · reply ─▶ key installed
//!  P2p      reset both ways ─▶ TLS ─▶ key-method 2 ─▶ both compute ─▶ key installed
//!  then     soft resets now and then; text messages; EXIT
//! ```
//!
//! A peer that starts anew on the same address gets a second association beside the active one; it takes over when
//! its login is accepted (server) or its key is active (p2p), and until then the active one is untouched.
//!
//! After any call: drain [`Session::poll_event`], then [`Session::poll_transmit`], then ask
//! [`Session::poll_timeout`]. After [`Event::Failed`] send what there still is, then drop the session.

mod dialogue;
mod keys;
mod local;
mod messages;
mod server;
mod steps;
mod timers;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ovpn_crypto::control_replay::ReplayCounter;
use ovpn_crypto::key2::TlsRole;
use ovpn_crypto::tls_crypt_v2::ClientKey;
use ovpn_wire::control_packet::{ControlBody, ControlHeader, SessionId};
use ovpn_wire::opcode::{KeyId, Opcode};

pub use self::server::{PendingAuth, Push, Reject};

use self::dialogue::Dialogue;
use self::keys::DataKeys;
use self::local::Own;
use crate::association::{Association, OpenedPacket};
use crate::exchange::Exchange;
use crate::params::{P2pTls, Params, SessionParams};
use crate::reliable::Arrival;
use crate::tls::Tls;
use crate::wrap::Wrapping;
use crate::{
    Accepted, ClientParams, Credentials, DropReason, Event, Failure, FailureKind, Farewell, Negotiated, Now,
    P2pParams, Random, ServerParams,
};

/// The control channel with one peer.
pub struct Session {
    own: Own,
    role: TlsRole,
    active: Dialogue,
    initial: Option<Dialogue>,
    keys: DataKeys,
    events: VecDeque<Event>,
    packets: VecDeque<Vec<u8>>,
    next_auth: u64,
    /// The session ends then.
    linger: Option<(Instant, Failure)>,
    /// New associations are refused: the session is going away.
    leaving: bool,
    over: bool,
    /// Waits for the peer's first packet before saying anything.
    silent: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("role", &self.role).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Session {
    /// A client that connects: its first packet is ready.
    ///
    /// # Errors
    /// A TLS configuration or wrapping key that cannot be used.
    pub fn client(
        params: Arc<ClientParams>,
        credentials: Option<Credentials>,
        random: Box<dyn Random + Send>,
        now: Now,
    ) -> Result<Self, Failure> {
        let own = Own::new(Params::Client(params), credentials, random);
        Self::start(own, TlsRole::Client, now, true)
    }

    /// A point-to-point peer. With `initiate` its first packet is ready; without it waits for the peer's, as a
    /// `tls-server` without `remote` does.
    ///
    /// # Errors
    /// A TLS configuration or wrapping key that cannot be used.
    pub fn p2p(
        params: Arc<P2pParams>,
        credentials: Option<Credentials>,
        initiate: bool,
        random: Box<dyn Random + Send>,
        now: Now,
    ) -> Result<Self, Failure> {
        let role = match params.tls {
            P2pTls::Client(_) => TlsRole::Client,
            P2pTls::Server(_) => TlsRole::Server,
        };
        // Without the peer's own key there is nothing to wrap a packet with.
        let initiate = initiate && params.tls_crypt_v2.is_none();
        let own = Own::new(Params::P2p(params), credentials, random);
        Self::start(own, role, now, initiate)
    }

    /// A server's side of a client that the [`Endpoint`](crate::Endpoint) accepted; the packet it was accepted by
    /// is processed at once.
    ///
    /// # Errors
    /// A TLS configuration that cannot be used.
    pub fn server(
        params: Arc<ServerParams>,
        accepted: Accepted,
        random: Box<dyn Random + Send>,
        now: Now,
    ) -> Result<Self, Failure> {
        let timeout = params.session.timing.tls_timeout;
        let tls = params.tls.start(now.unix).map_err(|error| Failure::new(FailureKind::Tls, error.0))?;
        let mut own = Own::new(Params::Server(Arc::clone(&params)), None, random);
        let local = accepted.local.unwrap_or_else(|| own.session_id());
        let (exchange, counter) = match accepted.local {
            // The resets are exchanged; ours was wrapped with replay id 1.
            Some(_) => (Exchange::opened(tls, timeout, now.instant), 1),
            None => (reset(Opcode::HardResetServerV2, TlsRole::Server, Vec::new(), tls, timeout, now), 0),
        };
        let mut association = Association::new(
            &params.session,
            TlsRole::Server,
            local,
            accepted.key,
            ReplayCounter::starting_after(counter),
            None,
            exchange,
        );
        association.remote = Some(accepted.remote);
        association.metadata = accepted.metadata;
        let mut session = Self::with(own, TlsRole::Server, Dialogue::new(association));
        // A packet that was good enough for the endpoint may still be a replay to nobody.
        if let Err(reason) = session.handle_packet(now, &accepted.packet) {
            tracing::debug!(%reason, "first packet of an accepted client dropped");
        }
        Ok(session)
    }

    fn start(mut own: Own, role: TlsRole, now: Now, initiate: bool) -> Result<Self, Failure> {
        let association = new_association(&mut own, role, None, now)?;
        let mut session = Self::with(own, role, Dialogue::new(association));
        session.silent = !initiate;
        session.pump(now);
        Ok(session)
    }

    fn with(own: Own, role: TlsRole, active: Dialogue) -> Self {
        Self {
            own,
            role,
            active,
            initial: None,
            keys: DataKeys::default(),
            events: VecDeque::new(),
            packets: VecDeque::new(),
            next_auth: 0,
            linger: None,
            leaving: false,
            over: false,
            silent: false,
        }
    }

    /// Takes a control packet from the peer's address.
    ///
    /// # Errors
    /// Why it was dropped; the session is untouched then.
    pub fn handle_packet(&mut self, now: Now, packet: &[u8]) -> Result<(), DropReason> {
        if self.over {
            return Err(DropReason::Closed);
        }
        let (header, _) = ControlHeader::parse(packet).map_err(|error| match error {
            ovpn_wire::control_packet::ControlPacketError::Opcode => DropReason::Opcode,
            _ => DropReason::Malformed,
        })?;
        let result = self.route(now, header, packet);
        match &result {
            Ok(()) => self.pump(now),
            Err(reason) => tracing::debug!(opcode = %header.opcode, %reason, "control packet dropped"),
        }
        result
    }

    fn route(&mut self, now: Now, header: ControlHeader, packet: &[u8]) -> Result<(), DropReason> {
        let from = Some(header.session_id);
        if self.active.association.remote == from {
            return receive(&mut self.active, &mut self.own, now, header, strip_wrapped_key(header, packet)?);
        }
        if let Some(initial) = self.initial.as_mut().filter(|initial| initial.association.remote == from) {
            return receive(initial, &mut self.own, now, header, strip_wrapped_key(header, packet)?);
        }
        if !header.opcode.is_hard_reset() {
            return Err(DropReason::UnknownSession);
        }
        self.check_reset(header)?;
        if self.active.association.remote.is_none() {
            return self.bind(now, header, packet);
        }
        self.restart(now, header, packet)
    }

    /// Whether a hard reset may open anything here.
    fn check_reset(&self, header: ControlHeader) -> Result<(), DropReason> {
        let from_server = header.opcode == Opcode::HardResetServerV2;
        let fits = match self.role {
            TlsRole::Client => from_server,
            TlsRole::Server => !from_server,
        };
        if fits && !header.key_id.is_renegotiation() { Ok(()) } else { Err(DropReason::ResetRefused) }
    }

    /// The first packet of the peer we have been calling, or waiting for.
    fn bind(&mut self, now: Now, header: ControlHeader, packet: &[u8]) -> Result<(), DropReason> {
        let must_echo = matches!(self.own.params, Params::Client(_));
        let mut packet = packet;
        if self.silent {
            // Time counts from here.
            let (key, metadata, bare) = self.own.unwrap_key(header, packet)?;
            let mut association = new_association(&mut self.own, self.role, Some(key), now)
                .map_err(|_| DropReason::ResetRefused)?;
            association.metadata = metadata;
            self.active = Dialogue::new(association);
            packet = bare;
        }
        let dialogue = &mut self.active;
        let opened = dialogue.association.open(header.key_id, packet, now)?;
        let body = dialogue.association.read(&opened)?;
        if must_echo && body.acks.is_none() {
            return Err(DropReason::ForeignAcks);
        }
        dialogue.association.remote = Some(header.session_id);
        take(dialogue, now, header, &body)?;
        dialogue.association.exchange.burst(now.instant);
        self.silent = false;
        Ok(())
    }

    /// A peer that starts anew on the same address.
    fn restart(&mut self, now: Now, header: ControlHeader, packet: &[u8]) -> Result<(), DropReason> {
        let refused = match &self.own.params {
            Params::Client(_) => true,
            Params::Server(params) => params.single_session,
            Params::P2p(params) => params.single_session,
        };
        if refused || self.leaving {
            return Err(DropReason::ResetRefused);
        }
        let (key, metadata, packet) = self.own.unwrap_key(header, packet)?;
        let opened = key.open(packet).map_err(crate::association::drop_reason)?;
        let opened = OpenedPacket { header: opened.header, body: opened.body };
        let mut association = new_association(&mut self.own, self.role, Some(key), now)
            .map_err(|_| DropReason::ResetRefused)?;
        association.metadata = metadata;
        association.remote = Some(header.session_id);
        // Once more through the association's own window, so that this packet cannot come twice.
        let _ = association.open(header.key_id, packet, now);
        let body = association.read(&opened)?;
        let mut dialogue = Dialogue::new(association);
        dialogue.restarted = true;
        take(&mut dialogue, now, header, &body)?;
        tracing::info!(session = %header.session_id, "the peer starts anew on the same address");
        self.initial = Some(dialogue);
        Ok(())
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        if !self.over && !self.silent {
            self.tick(now);
            self.pump(now);
        }
    }

    /// The next packet to send to the peer's address.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Starts a renegotiation now: data limits reached, packet ids running out, or wanted by someone. Without an
    /// established session, or while a renegotiation is under way, nothing happens.
    pub fn renegotiate(&mut self, now: Now) {
        if !self.over && self.start_renegotiation(now) {
            self.pump(now);
        }
    }

    /// Sends a text message (`RESTART`, `HALT`, `INFO,…`, `CR_RESPONSE,…`) as soon as the session can.
    pub fn send_message(&mut self, now: Now, text: &str) {
        self.speaker().association.say(text);
        self.pump(now);
    }

    /// Says EXIT to a peer that understands it on the control channel. Keep the session for as long as the message may
    /// need to be repeated, then [`close`](Self::close) it. The answer tells where the exit is to be announced:
    /// a peer in the midst of a renegotiation may hear the control channel too late.
    pub fn exit(&mut self, now: Now) -> Farewell {
        let Some(negotiated) = self.active.negotiated else { return Farewell::default() };
        let control = negotiated.cc_exit;
        let data = !(control && self.active.association.exchange.is_active());
        if control {
            self.active.association.say("EXIT");
            self.leaving = true;
            self.pump(now);
        }
        Farewell { control, data }
    }

    /// Ends the session from this side; what TLS has to say is ready to be sent.
    pub fn close(&mut self, now: Now) {
        if !self.over {
            let limits = self.active.association.limits;
            self.active.association.exchange.give_up(now, limits, true);
            self.active.association.transmit(now, &mut self.packets);
            self.over = true;
        }
    }

    /// Gives a client other credentials, or an answer to a challenge, for the next renegotiation.
    pub fn set_credentials(&mut self, credentials: Option<Credentials>) {
        self.own.credentials = credentials;
    }

    /// What was agreed on, once the session is established.
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.active.negotiated
    }

    /// Everything sent so far was acknowledged.
    pub fn is_quiet(&self) -> bool {
        self.active.association.is_quiet() && self.packets.is_empty()
    }

    /// The association that the login is about, or that is active.
    fn speaker(&mut self) -> &mut Dialogue {
        match &mut self.initial {
            Some(initial) if initial.remote.is_some() => initial,
            _ => &mut self.active,
        }
    }

    /// Goes as far as possible with everything, and wraps what is to be sent.
    fn pump(&mut self, now: Now) {
        if self.over || self.silent {
            return;
        }
        // What one step causes (a text message, a new key) may be the next one's beginning.
        while self.step_active(now) | self.step_initial(now) | self.answer_next(now) {
            if self.over {
                return;
            }
        }
        self.keys.tick(now.instant, &mut self.events);
        self.active.association.transmit(now, &mut self.packets);
        if let Some(initial) = &mut self.initial {
            initial.association.transmit(now, &mut self.packets);
        }
    }

    /// Ends the session with a reason; an alert may still be on its way out.
    fn fail(&mut self, now: Now, failure: Failure) {
        if self.over {
            return;
        }
        let limits = self.active.association.limits;
        self.active.association.exchange.give_up(now, limits, false);
        self.active.association.transmit(now, &mut self.packets);
        self.over = true;
        tracing::debug!(kind = ?failure.kind, reason = %failure.sentence, "session failed");
        self.events.push_back(Event::Failed(failure));
    }
}

/// Opens a packet of a known association and gives it to the key it belongs to.
fn receive(
    dialogue: &mut Dialogue,
    own: &mut Own,
    now: Now,
    header: ControlHeader,
    packet: &[u8],
) -> Result<(), DropReason> {
    let opened = dialogue.association.open(header.key_id, packet, now)?;
    let body = dialogue.association.read(&opened)?;
    dialogue.last_heard = Some(now.instant);
    let current = dialogue.association.exchange.key_id;
    if header.opcode == Opcode::SoftResetV1 && header.key_id == current.next() {
        if !dialogue.can_renegotiate() {
            // It would not ask before it had everything of the current key.
            dialogue.next_asked |= dialogue.association.exchange.peer_has_all();
            return if dialogue.next_asked { Ok(()) } else { Err(DropReason::UnknownKey) };
        }
        dialogue.renegotiate(own, now).map_err(|_| DropReason::UnknownKey)?;
    }
    take(dialogue, now, header, &body)
}

/// Gives the acks and the message of a packet to the exchange.
fn take(
    dialogue: &mut Dialogue,
    now: Now,
    header: ControlHeader,
    body: &ControlBody<'_>,
) -> Result<(), DropReason> {
    let exchange = dialogue.association.exchange_of(header.key_id).ok_or(DropReason::UnknownKey)?;
    if let Some(acks) = &body.acks {
        exchange.acknowledged(acks.ids.as_slice(), now.instant);
    }
    if let Some(message) = &body.message
        && exchange.receive(message.id, header.opcode, message.payload) == Arrival::BeyondWindow
    {
        return Err(DropReason::BeyondWindow);
    }
    Ok(())
}

/// A packet without the wrapped client key behind it; the session has the key already.
fn strip_wrapped_key(header: ControlHeader, packet: &[u8]) -> Result<&[u8], DropReason> {
    if !header.opcode.carries_wrapped_key() {
        return Ok(packet);
    }
    ovpn_crypto::tls_crypt_v2::split_wrapped_key(packet)
        .map(|(packet, _)| packet)
        .map_err(|_| DropReason::BadClientKey)
}

fn reset(
    opcode: Opcode,
    role: TlsRole,
    payload: Vec<u8>,
    tls: Tls,
    timeout: std::time::Duration,
    now: Now,
) -> Exchange {
    Exchange::open(KeyId::FIRST, role, opcode, payload, tls, timeout, now.instant)
}

/// An association that starts with our own hard reset.
fn new_association(
    own: &mut Own,
    role: TlsRole,
    key: Option<ovpn_crypto::control_wrap::WrapKey>,
    now: Now,
) -> Result<Association, Failure> {
    let local: SessionId = own.session_id();
    let tls = own.params.start_tls(now)?;
    let params: &SessionParams = own.params.session();
    let wrapped: Option<Arc<ClientKey>> = match (&params.wrapping, role) {
        (Wrapping::TlsCryptV2(key), TlsRole::Client) => Some(Arc::clone(key)),
        _ => None,
    };
    let opcode = match role {
        TlsRole::Server => Opcode::HardResetServerV2,
        TlsRole::Client if wrapped.is_some() => Opcode::HardResetClientV3,
        TlsRole::Client => Opcode::HardResetClientV2,
    };
    // A tls-crypt-v2 client says by its first replay id that it can send its wrapped key again.
    let counter = if wrapped.is_some() { ReplayCounter::EARLY_NEGOTIATION } else { 0 };
    let key = match key.or_else(|| params.wrapping.key(role)) {
        Some(key) => key,
        None => {
            return Err(Failure::new(
                FailureKind::Protocol,
                "the cryptographic library refuses the tls-auth or tls-crypt key",
            ));
        }
    };
    let exchange = reset(opcode, role, Vec::new(), tls, params.timing.tls_timeout, now);
    Ok(Association::new(params, role, local, key, ReplayCounter::starting_after(counter), wrapped, exchange))
}
