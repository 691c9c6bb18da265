//! Our server against stock clients: what its options, its management interface and its signals do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod listeners;
mod management;
mod options;
mod privileges;
mod restart;
mod revocation;
mod rig;
mod stock;
