//! What network cards do in hardware, done on slices: checksums, cutting super-packets, merging segments.
//!
//! ```text
//!   inside → outside:  TUN super-packet ─▶ gso_split ─▶ segment, segment, segment …
//!   outside → inside:  segment, segment, segment … ─▶ gro_coalesce ─▶ TUN super-packet
//! ```
//!
//! Pure: slices in, slices out; no IO, no allocation per packet.

pub mod checksum;
pub mod gro_coalesce;
pub mod gso_split;

#[cfg(test)]
mod packets;
