//! What a running tunnel tells about itself: `ovpn status`, and metrics for Prometheus.
//!
//! ```text
//!   modes ── state, addresses, peers ─▶ Board ◀── keys, counters ── Observed (around the data plane)
//!                                         │ snapshot
//!                      ┌──────────────────┴─────────────────┐
//!              /run/ovpn/NAME.sock                    metrics ADDR:PORT
//!              one JSON document                      text for Prometheus
//!                      │
//!          ovpn status [--json | --watch]
//! ```
//!
//! A process runs one tunnel, so there is one board. Writing to it is a matter of moments; nothing waits for a reader.

mod board;
mod command;
mod metrics;
mod observed;
mod report;
mod service;
mod snapshot;
mod watch;

pub(crate) use board::{PeerFacts, board, unix_now};
#[cfg(test)]
pub(crate) use command::HELP;
pub(crate) use command::run;
pub(crate) use observed::Observed;
pub(crate) use service::start;
pub(crate) use snapshot::Plane as PlaneReport;
