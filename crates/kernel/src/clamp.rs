//! Clamping of the MSS beside a driver that has none of its own: by nf_tables, for the whole device.

use std::sync::{Mutex, PoisonError};

use ovpn_dco::{Device, Mode};
use ovpn_sys::netlink::nftables::MssClamp;

/// The rules of one device.
#[derive(Debug)]
pub(crate) struct Clamp {
    rules: MssClamp,
    mode: Mode,
    /// What is in force; 0 for nothing.
    mss: Mutex<u16>,
}

impl Clamp {
    /// `None` where the kernel has no nf_tables: the device's MTU must then keep segments small.
    pub(crate) fn new(device: &Device) -> Option<Self> {
        match MssClamp::new(&device.name, device.ifindex) {
            Ok(rules) => Some(Self { rules, mode: device.mode, mss: Mutex::new(0) }),
            Err(error) => {
                tracing::info!(device = device.name, %error, "the MSS cannot be clamped by nf_tables");
                None
            }
        }
    }

    /// What one peer wants. A device of many peers clamps to what the narrowest of them wanted.
    pub(crate) fn set(&self, mss: u16) {
        let mut now = self.mss.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = match self.mode {
            Mode::P2p => mss,
            Mode::MultiPeer if mss == 0 => return,
            Mode::MultiPeer if *now == 0 => mss,
            Mode::MultiPeer => mss.min(*now),
        };
        if wanted == *now {
            return;
        }
        match self.rules.set(wanted) {
            Ok(()) => *now = wanted,
            Err(error) => {
                tracing::warn!(mss = wanted, %error, "the MSS is not clamped: large packets fragment")
            }
        }
    }
}
