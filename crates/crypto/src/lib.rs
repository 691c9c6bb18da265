//! OpenVPN cryptography over aws-lc-rs, by the names OpenVPN uses.
//!
//! Randomness, time and packets are arguments: nothing here calls a clock or a random generator by itself.
#![forbid(unsafe_code)]

// Control channel.
pub mod auth_token;
pub mod control_replay;
pub mod control_wrap;
pub mod key2;
pub mod pem;
pub mod prf;
pub mod secret;
pub mod static_key;
pub mod tls_auth;
pub mod tls_crypt;
pub mod tls_crypt_v2;

// Data channel.
pub mod aead;
pub mod epoch;

// Proxies.
pub mod http_digest;
