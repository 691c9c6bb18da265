//! The reliability layer of one key: numbered messages in order over a lossy link.
//!
//! ```text
//!  send window       oldest unacked … newest   ≤ 6          0 is the reset
//!  receive window    next … next+11                          ids modulo 2^32
//!  acks              ≤ 4 ride on a message, ≤ 8 in an ACK_V1; old ones are repeated to fill up
//! ```
//!
//! A message goes out at once, again after the initial timeout, then after twice as long, up to 16 s; where the peer is known to
//! be near, the first pause is four round trips. Three acks for
//! later messages, and the peer's first sign of life ([`Sender::burst`]), bring it forward.
//!
//! Source: OpenVPN wire protocol, "Reliability layer".

mod acks;
mod receiver;
mod sender;

pub use acks::{ACKS_ON_MESSAGE, AckQueue};
pub use receiver::{Arrival, RECEIVE_WINDOW, Receiver};
pub use sender::{Outgoing, SEND_WINDOW, Sender};
