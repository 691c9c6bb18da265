//! Who carries the data: the engine or the kernel, as `OVPN_DRIVER` says.

use ovpn_dco::{DataPlane, Mode, Result};

use super::Failure;
use super::grammar::GrammarError;
use crate::engine_process::{self, RemoteEngine};

/// A data plane by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Our engine, one process for each device.
    Engine,
    /// The kernel's `ovpn` module.
    Kernel,
}

impl Driver {
    /// Reads `OVPN_DRIVER`.
    ///
    /// # Errors
    /// When it holds another word.
    pub(crate) fn from_environment() -> std::result::Result<Self, Failure> {
        match std::env::var("OVPN_DRIVER").as_deref() {
            Err(_) | Ok("engine" | "") => Ok(Self::Engine),
            Ok("kernel") => Ok(Self::Kernel),
            Ok(other) => Err(GrammarError::Value {
                place: "OVPN_DRIVER",
                given: other.into(),
                wanted: "engine or kernel",
            }
            .into()),
        }
    }

    /// Makes a device.
    ///
    /// # Errors
    /// What the driver said.
    pub(crate) fn create(self, iface: &str, mode: Mode) -> Result<()> {
        match self {
            Self::Engine => engine_process::start(iface, mode),
            Self::Kernel => ovpn_kernel::device_new(iface, mode),
        }
    }

    /// Deletes a device.
    ///
    /// # Errors
    /// What the driver said.
    pub(crate) fn delete(self, iface: &str) -> Result<()> {
        match self {
            Self::Engine => RemoteEngine::connect(iface)?.delete(),
            Self::Kernel => ovpn_kernel::device_del(iface),
        }
    }

    /// Opens a device.
    ///
    /// # Errors
    /// `NoSuchDevice` where there is none of that name.
    pub(crate) fn open(self, iface: &str) -> Result<Box<dyn DataPlane>> {
        match self {
            Self::Engine => Ok(Box::new(RemoteEngine::connect(iface)?)),
            Self::Kernel => Ok(Box::new(ovpn_kernel::Kernel::join(iface)?)),
        }
    }
}
