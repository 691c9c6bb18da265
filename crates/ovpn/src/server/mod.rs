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

mod addresses;
mod admission;
mod client_environment;
mod client_options;
mod client_scripts;
mod client_task;
mod connect_task;
mod device;
mod files;
mod interface;
mod listener;
mod login;
mod login_task;
mod names;
mod password_script;
mod pool;
mod port_share;
mod push_list;
mod registry;
mod routing_table;
mod service;
mod shared;
mod status;
mod temp_file;
mod tokens;

pub(crate) use service::run;
