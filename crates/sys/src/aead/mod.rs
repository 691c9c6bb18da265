//! The data channel's ciphers in the widest registers that the processor has; elsewhere the crypto room's library does
//! the work.
//!
//! ```text
//!   one packet:  aad │ plaintext ──one pass, nothing copied, nothing allocated──▶ ciphertext │ tag
//! ```
//!
//! Packets are short: what counts is not how fast a megabyte goes through, but what stands before and after the first
//! block. A constructor gives `None` where the processor lacks the instructions, so that a key in hand is the proof
//! that they are there. Secrets steer no branch and no index; lengths do.

pub mod aes_gcm;
pub mod chacha20_poly1305;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod text;
