//! The running server: sockets, one task for each client, and the table that they share.
//!
//! ```text
//!   UDP port ──▶ by address ─┬─▶ client task (session, timers, scripts) ──▶ data plane
//!                            └─▶ endpoint: cookie ──▶ new client task
//!   TCP accept ─────────────────▶ client task with a port of its own
//!   data plane's events ──▶ by peer id ──▶ client task
//! ```
//!
//! A client's task waits for its own scripts only; what clients share is taken for moments, never over a wait.
