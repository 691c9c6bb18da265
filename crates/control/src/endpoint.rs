//! The stateless front of a UDP server: a flood of first packets costs no memory.
//!
//! ```text
//!  client                                         endpoint
//!  hard reset                         ─▶   answered, nothing kept: our session id is a keyed hash of the
//!                                     ◀─   time slot, the client's address and its session id
//!  control packet with ack of our id  ─▶   the hash fits: Accepted, the proof a server Session is made of
//! ```
//!
//! A tls-crypt-v2 client that can send its wrapped key again is asked to; an older one needs state at once, which
//! `force-cookie` refuses. TCP servers have a connection as proof and keep state from the first packet on.
//!
//! Source: OpenVPN wire protocol, "Stateless UDP server", "tls-crypt-v2 with cookies".

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use ovpn_crypto::control_replay::ReplayId;
use ovpn_crypto::control_wrap::{Opened, WrapKey};
use ovpn_crypto::key2::TlsRole;
use ovpn_crypto::tls_crypt_v2::Metadata;
use ovpn_wire::control_packet::{
    AckList, Acks, ControlBody, ControlHeader, EarlyNegotiation, Message, SessionId,
};
use ovpn_wire::opcode::{KeyId, Opcode};

use crate::association::drop_reason;
use crate::wrap::{TlsCryptV2Server, Wrapping};
use crate::{DropReason, Now, ServerParams};

/// Proof that a client answered from its address (or has a TCP connection) with packets that were properly wrapped.
/// Only the endpoint makes it; [`Session::server`](crate::Session::server) takes it.
#[derive(Debug)]
pub struct Accepted {
    /// Our session id, if it was given out already.
    pub(crate) local: Option<SessionId>,
    pub(crate) remote: SessionId,
    pub(crate) key: WrapKey,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) packet: Vec<u8>,
}

impl Accepted {
    /// tls-crypt-v2: what the server once wrote into the client's key, for `tls-crypt-v2-verify`.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// The client's session id.
    pub fn client_session_id(&self) -> SessionId {
        self.remote
    }
}

/// What to do with a packet from an unknown address.
#[derive(Debug)]
pub enum Answer {
    /// Send this back; nothing was kept.
    Reply(Vec<u8>),
    /// Make a session of it.
    Accepted(Box<Accepted>),
}

/// `connect-freq-initial`: how many first packets are answered in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitialRate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub period: Duration,
}

impl Default for InitialRate {
    /// 100 in 10 seconds.
    fn default() -> Self {
        Self { count: 100, period: Duration::from_secs(10) }
    }
}

/// The front of a server's sockets. Several may share one secret, e.g. one per thread.
pub struct Endpoint {
    wrap: Option<WrapKey>,
    v2: Option<TlsCryptV2Server>,
    cookie: hmac::Key,
    slot_seconds: u64,
    rate: InitialRate,
    period_start: Option<Instant>,
    answered: u32,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("rate", &self.rate).finish_non_exhaustive()
    }
}

/// Old time slots whose cookies are still good.
const OLD_SLOTS: u64 = 2;

impl Endpoint {
    /// An endpoint for clients of `params`. `secret` is random and kept for the life of the process.
    pub fn new(params: &Arc<ServerParams>, rate: InitialRate, secret: &[u8; 32]) -> Self {
        let session = &params.session;
        // With tls-crypt-v2, unwrapped clients are not taken beside.
        let bare = matches!(session.wrapping, Wrapping::None) && params.tls_crypt_v2.is_some();
        Self {
            wrap: if bare { None } else { session.wrapping.key(TlsRole::Server) },
            v2: params.tls_crypt_v2.clone(),
            cookie: hmac::Key::new(hmac::HMAC_SHA256, secret),
            slot_seconds: session.timing.hand_window.as_secs().div_ceil(2).max(1),
            rate,
            period_start: None,
            answered: 0,
        }
    }

    /// Looks at a UDP packet from an address without a session.
    ///
    /// # Errors
    /// Why it is dropped without a trace.
    pub fn handle_packet(&mut self, now: Now, from: SocketAddr, packet: &[u8]) -> Result<Answer, DropReason> {
        let unwrapped = self.unwrap(packet)?;
        let header = unwrapped.opened.header;
        if header.opcode.is_hard_reset() {
            return self.handle_reset(now, from, packet, unwrapped);
        }
        let body =
            ControlBody::parse(header.opcode, &unwrapped.opened.body).map_err(|_| DropReason::Malformed)?;
        let acks = body.acks.ok_or(DropReason::BadCookie)?;
        let early = acks.ids.as_slice().iter().all(|id| *id <= 1) && body.message.is_none_or(|m| m.id <= 1);
        let slot = now.unix / self.slot_seconds;
        let known = (0..=OLD_SLOTS).any(|age| {
            self.session_id(slot.saturating_sub(age), from, header.session_id) == acks.remote_session_id
        });
        if !early || !known {
            return Err(DropReason::BadCookie);
        }
        self.answered = self.answered.saturating_sub(1);
        self.check_age(now, unwrapped.metadata.as_ref())?;
        Ok(Answer::Accepted(Box::new(Accepted {
            local: Some(acks.remote_session_id),
            remote: header.session_id,
            key: unwrapped.key,
            metadata: unwrapped.metadata,
            packet: packet.to_vec(),
        })))
    }

    /// Looks at the first packet of a TCP connection: it must be a client's hard reset.
    ///
    /// # Errors
    /// Why it is refused; close the connection.
    pub fn accept_stream(&self, now: Now, packet: &[u8]) -> Result<Accepted, DropReason> {
        let unwrapped = self.unwrap(packet)?;
        if !unwrapped.opened.header.opcode.is_hard_reset() {
            return Err(DropReason::UnknownSession);
        }
        self.check_age(now, unwrapped.metadata.as_ref())?;
        Ok(unwrapped.into_stateful(packet))
    }

    fn handle_reset(
        &mut self,
        now: Now,
        from: SocketAddr,
        packet: &[u8],
        unwrapped: Unwrapped,
    ) -> Result<Answer, DropReason> {
        let early = unwrapped.opened.replay.is_some_and(ReplayId::announces_early_negotiation);
        self.count(now)?;
        let mut payload = Vec::new();
        if unwrapped.metadata.is_some() {
            if !early {
                let force = self.v2.as_ref().is_some_and(|v2| v2.force_cookie);
                self.check_age(now, unwrapped.metadata.as_ref())?;
                return match force {
                    true => Err(DropReason::CookieRequired),
                    false => Ok(Answer::Accepted(Box::new(unwrapped.into_stateful(packet)))),
                };
            }
            payload = EarlyNegotiation { resend_wkc: true }.to_vec();
        }
        let client = unwrapped.opened.header.session_id;
        let session_id = self.session_id(now.unix / self.slot_seconds, from, client);
        let header = ControlHeader { opcode: Opcode::HardResetServerV2, key_id: KeyId::FIRST, session_id };
        let ids = AckList::from_iter([0]);
        let body = ControlBody {
            acks: Some(Acks { ids, remote_session_id: client }),
            message: Some(Message { id: 0, payload: &payload }),
        };
        let replay = ReplayId { id: 1, net_time: now.unix as u32 };
        match unwrapped.key.seal(header, replay, &body.to_vec()) {
            Ok(reply) => Ok(Answer::Reply(reply)),
            Err(_) => Err(DropReason::Unauthentic),
        }
    }

    fn unwrap(&self, packet: &[u8]) -> Result<Unwrapped, DropReason> {
        let (header, _) = ControlHeader::parse(packet).map_err(|error| match error {
            ovpn_wire::control_packet::ControlPacketError::Opcode => DropReason::Opcode,
            _ => DropReason::Malformed,
        })?;
        if header.key_id.is_renegotiation() {
            return Err(DropReason::UnknownSession);
        }
        match header.opcode {
            Opcode::HardResetClientV2 | Opcode::ControlV1 | Opcode::AckV1 => {
                let key = self.wrap.clone().ok_or(DropReason::Unauthentic)?;
                let opened = key.open(packet).map_err(drop_reason)?;
                Ok(Unwrapped { opened, key, metadata: None })
            }
            Opcode::HardResetClientV3 | Opcode::ControlWkcV1 => {
                let v2 = self.v2.as_ref().ok_or(DropReason::BadClientKey)?;
                let carried = v2.key.open_carrier(packet).map_err(drop_reason)?;
                let opened = carried.key.open(carried.packet).map_err(drop_reason)?;
                Ok(Unwrapped { opened, key: carried.key, metadata: Some(carried.metadata) })
            }
            _ => Err(DropReason::UnknownSession),
        }
    }

    /// Our session id for a client: never all zero.
    fn session_id(&self, slot: u64, from: SocketAddr, client: SessionId) -> SessionId {
        let mut context = hmac::Context::with_key(&self.cookie);
        context.update(&slot.to_be_bytes());
        match from.ip() {
            IpAddr::V4(ip) => {
                context.update(&[4]);
                context.update(&ip.octets());
            }
            IpAddr::V6(ip) => {
                context.update(&[6]);
                context.update(&ip.octets());
            }
        }
        context.update(&from.port().to_be_bytes());
        context.update(client.as_bytes());
        let tag = context.sign();
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        SessionId::new(bytes).unwrap_or(client)
    }

    fn count(&mut self, now: Now) -> Result<(), DropReason> {
        let fresh = self
            .period_start
            .is_none_or(|start| now.instant.saturating_duration_since(start) >= self.rate.period);
        if fresh {
            self.period_start = Some(now.instant);
            self.answered = 0;
        }
        if self.answered >= self.rate.count {
            return Err(DropReason::RateLimited);
        }
        self.answered += 1;
        Ok(())
    }

    fn check_age(&self, now: Now, metadata: Option<&Metadata>) -> Result<(), DropReason> {
        let (Some(metadata), Some(days)) = (metadata, self.v2.as_ref().and_then(|v2| v2.max_age_days)) else {
            return Ok(());
        };
        let oldest = i64::try_from(now.unix).unwrap_or(i64::MAX) - i64::from(days) * 86_400;
        match metadata {
            Metadata::Timestamp(made) if *made >= oldest => Ok(()),
            _ => Err(DropReason::ClientKeyTooOld),
        }
    }
}

/// A packet with everything that came to light when it was unwrapped.
struct Unwrapped {
    opened: Opened,
    key: WrapKey,
    metadata: Option<Metadata>,
}

impl Unwrapped {
    fn into_stateful(self, packet: &[u8]) -> Accepted {
        Accepted {
            local: None,
            remote: self.opened.header.session_id,
            key: self.key,
            metadata: self.metadata,
            packet: packet.to_vec(),
        }
    }
}
