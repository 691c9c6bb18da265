//! OpenVPN's control plane, sans-IO: bytes, time and randomness go in; bytes, events and deadlines come out.
//!
//! ```text
//!                         ┌───────────────────────── Session (one peer) ─────────────────────────┐
//!  packet ──▶ Endpoint ──▶│ Association (a pair of session ids)   × active, initial              │──▶ packets
//!             (server,    │   wrapping: none · tls-auth · tls-crypt · tls-crypt-v2 · dynamic     │──▶ events
//!              UDP only:  │   KeyExchange (one key id)            × primary, retiring            │──▶ deadline
//!              cookies)   │     reliable messages ▸ TLS ▸ key-method 2 ▸ text messages           │
//!                         └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The caller owns sockets, clocks, files, scripts and the data plane. It feeds packets and time, and after each call
//! drains, in this order, [`Session::poll_event`] (so that a key is installed before the peer can use it),
//! [`Session::poll_transmit`], and [`Session::poll_timeout`].
//!
//! | file | what it is |
//! |---|---|
//! | `endpoint` | the stateless front of a UDP server: cookies instead of state |
//! | `session` | one peer: which association and key a packet belongs to, renegotiation, data-key slots |
//! | `association` | one pair of session ids and its wrapping |
//! | `exchange` | one key: reliability, TLS, key-method 2, in states that name their successors |
//! | `reliable` | windows, acknowledgements, retransmission |
//! | `tls` | the one place that knows rustls |
//! | `verify`, `profile` | whether the peer's certificate is accepted |
//! | `certificate` | what a certificate says, in OpenVPN's notation |
//! | `calendar` | what this machine's clock says about a time in a certificate, in words |
//! | `negotiation` | ciphers and protocol flags, in all three roles |
#![forbid(unsafe_code)]

mod association;
mod calendar;
mod certificate;
mod cipher;
mod endpoint;
mod event;
mod exchange;
mod failure;
mod negotiation;
mod params;
mod profile;
mod random;
mod session;
mod time;
mod tls;
mod verify;
mod wrap;

pub mod reliable;

pub use certificate::{CertificateFacts, PeerChain};
pub use cipher::{Cipher, UnknownCipher};
pub use endpoint::{Accepted, Answer, Endpoint, InitialRate};
pub use event::{
    AuthCause, AuthId, AuthRequest, DataFormat, DataKey, DataKeyDirection, Event, Farewell, KeySlot,
    Negotiated, PushReply, TlsFacts,
};
pub use failure::{DropReason, Failure, FailureKind};
pub use params::{
    ClientParams, Credentials, Features, Link, LocalOptions, P2pParams, P2pTls, PullAction, PullFilter,
    ServerParams, SessionParams, Timing,
};
pub use profile::CertProfile;
pub use random::{Random, SystemRandom};
pub use session::{PendingAuth, Push, Reject, Session};
pub use time::Now;
pub use tls::{
    ExternalSigner, Identity, Padding, SignRequest, TlsClient, TlsConfigError, TlsOptions, TlsServer,
    TlsVersion, VerifyClientCert, certificates_from_pem, crls_from_pem,
};
pub use verify::{Crls, NameRule, PeerRules, RevokedSerials};
pub use wrap::{TlsCryptV2Server, Wrapping};
