//! The management interface: a line protocol through which programs watch and steer a running tunnel.
//!
//! ```text
//!   program ── "hold release\n" ──▶ Conversation ── Command::Hold ──▶ daemon
//!   program ◀── "SUCCESS: …\r\n" ── Conversation ◀── Answer / Notice ─────── daemon
//! ```
//!
//! A [`Conversation`] is pure: lines and notices in, lines and requests out. What outlives a connection (state, log
//! and echo history, the hold flag) is in [`Shared`]. Sockets live in the modes' run loops.

mod block;
mod command;
mod conversation;
mod history;
mod listen;
mod service;

pub(crate) use block::{Block, Question};
pub(crate) use command::{Command, Hold, ProxyChoice, RemoteChoice};
pub(crate) use conversation::{Answer, ClientEvent, Conversation, Output, Shared};
pub(crate) use history::{LogFlag, Tunnel, TunnelState};
pub(crate) use listen::{remove_socket, start};
pub(crate) use service::Handle;

/// The version of the interface that we speak.
pub(crate) const VERSION: u32 = 5;

/// Which commands make sense: some are for clients, some for servers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DaemonMode {
    /// Client or point-to-point peer.
    Client,
    /// Multi-client server.
    Server,
}
