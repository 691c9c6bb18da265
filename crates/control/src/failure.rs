//! Why a session ended, and why a packet was dropped.

use std::fmt;

/// The end of a session: what happened, and what to do about it, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind, for the caller's next step.
    pub kind: FailureKind,
    /// The sentence for the log.
    pub sentence: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// Nothing, or not enough, came back within the hand window (stock: "TLS key negotiation failed to occur").
    HandWindow,
    /// The TLS handshake failed on either side: certificate, version, cipher suites.
    Tls,
    /// The peer broke the protocol inside TLS.
    Protocol,
    /// A client got no push reply in time.
    NoPushReply,
    /// No common cipher or feature.
    Negotiation,
    /// The peer gives no peer id, and the data plane cannot do without.
    NoPeerId,
    /// A pushed option was rejected by a filter, or cannot be met.
    PushedOption,
    /// Credentials were refused (server side: the client was told and went away).
    Auth,
    /// The peer said goodbye.
    RemoteExit,
    /// This side ended it.
    Closed,
}

/// Why a control packet was dropped. Each has its counter, its log line and its line in the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// Too short, or its fields do not add up.
    Malformed,
    /// A first byte that is not of the control channel.
    Opcode,
    /// The wrapping's tag is wrong: another key, or tampering.
    Unauthentic,
    /// The wrapping's packet id was seen before, or is too old.
    Replayed,
    /// Its acks name another session than ours.
    ForeignAcks,
    /// No association with this session id, and not a packet that starts one.
    UnknownSession,
    /// A key id that is not being negotiated.
    UnknownKey,
    /// A message id beyond the receive window.
    BeyondWindow,
    /// A hard reset where a new association is refused (single-session, going away, wrong role).
    ResetRefused,
    /// A cookie that this server did not give to this address, or that is too old.
    BadCookie,
    /// More new clients per second than `connect-freq-initial` allows.
    RateLimited,
    /// A tls-crypt-v2 client key that this server did not make.
    BadClientKey,
    /// A tls-crypt-v2 client key older than `tls-crypt-v2-max-age` allows, or without a date.
    ClientKeyTooOld,
    /// A tls-crypt-v2 client without early negotiation where `force-cookie` demands it.
    CookieRequired,
    /// The session is over.
    Closed,
}

impl DropReason {
    /// All reasons, for counters and documentation.
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Opcode,
        Self::Unauthentic,
        Self::Replayed,
        Self::ForeignAcks,
        Self::UnknownSession,
        Self::UnknownKey,
        Self::BeyondWindow,
        Self::ResetRefused,
        Self::BadCookie,
        Self::RateLimited,
        Self::BadClientKey,
        Self::ClientKeyTooOld,
        Self::CookieRequired,
        Self::Closed,
    ];

    /// The name of its counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Opcode => "opcode",
            Self::Unauthentic => "unauthentic",
            Self::Replayed => "replayed",
            Self::ForeignAcks => "foreign-acks",
            Self::UnknownSession => "unknown-session",
            Self::UnknownKey => "unknown-key",
            Self::BeyondWindow => "beyond-window",
            Self::ResetRefused => "reset-refused",
            Self::BadCookie => "bad-cookie",
            Self::RateLimited => "rate-limited",
            Self::BadClientKey => "bad-client-key",
            Self::ClientKeyTooOld => "client-key-too-old",
            Self::CookieRequired => "cookie-required",
            Self::Closed => "closed",
        }
    }

    /// The log line: what happened and what to do.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Malformed => "control packet too short or with fields that do not add up",
            Self::Opcode => "packet with an opcode that is not of the control channel",
            Self::Unauthentic => {
                "control packet failed authentication: check that both sides use the same tls-auth, tls-crypt or \
                 tls-crypt-v2 key (and key-direction)"
            }
            Self::Replayed => {
                "control packet with a packet id already seen or too old (a replay, or a duplicate on the path)"
            }
            Self::ForeignAcks => "control packet that acknowledges another session",
            Self::UnknownSession => "control packet of a session that is not known here",
            Self::UnknownKey => "control packet with a key id that is not being negotiated",
            Self::BeyondWindow => "control message beyond the receive window",
            Self::ResetRefused => "new session on the same address refused",
            Self::BadCookie => {
                "third handshake packet without a valid cookie: its address changed, or it comes too late"
            }
            Self::RateLimited => "too many new clients at once (connect-freq-initial)",
            Self::BadClientKey => {
                "tls-crypt-v2 client key that was not made with this server's key: make the client a new key with \
                 this server's tls-crypt-v2 key"
            }
            Self::ClientKeyTooOld => {
                "tls-crypt-v2 client key older than tls-crypt-v2-max-age allows by this machine's clock: make the \
                 client a new one, or set the clock"
            }
            Self::CookieRequired => "tls-crypt-v2 client too old for cookies, which force-cookie demands",
            Self::Closed => "packet for a session that is over",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}
