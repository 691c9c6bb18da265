//! A multi-client server: who may come in, what each client gets, and what the world is told about it.
//!
//! ```text
//!  packet ─▶ admission ─▶ (session: TLS) ─▶ login ─▶ password_script / tokens
//!                                             │ accepted
//!                                             ▼
//!            pool ─▶ client_options ─▶ client_scripts (client-connect) ─▶ addresses ─▶ routing_table ─▶ push_list
//! ```
//!
//! Everything but the run loop and the scripts is a plain value: input in, decision out.
//! Source: OpenVPN server behaviour.

pub(crate) mod addresses;
pub(crate) mod admission;
pub(crate) mod client_environment;
pub(crate) mod client_options;
pub(crate) mod client_scripts;
pub(crate) mod login;
pub(crate) mod names;
pub(crate) mod password_script;
pub(crate) mod pool;
pub(crate) mod push_list;
pub(crate) mod routing_table;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod temp_file;
pub(crate) mod tokens;
