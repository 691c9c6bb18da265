//! Our client (and point-to-point peer) where the way or the login is not plain: proxies, keys, questions, leaks. Stock
//! OpenVPN is at the other end. Root is needed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ends;
mod external_key;
mod keys;
mod leaks;
mod proxy;
mod resolver;
mod scene;
mod steering;
mod stock;
