//! Who carries the data: the engine or the kernel, as `OVPN_DRIVER` says.

use ovpn_dco::{DataPlane, Error, ErrorKind, Mode, Result};

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
            Self::Kernel => Err(unsupported()),
        }
    }

    /// Deletes a device.
    ///
    /// # Errors
    /// What the driver said.
    pub(crate) fn delete(self, iface: &str) -> Result<()> {
        match self {
            Self::Engine => RemoteEngine::connect(iface)?.delete(),
            Self::Kernel => Err(unsupported()),
        }
    }

    /// Opens a device.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchDevice`] where there is none of that name.
    pub(crate) fn open(self, iface: &str) -> Result<Box<dyn DataPlane>> {
        match self {
            Self::Engine => Ok(Box::new(RemoteEngine::connect(iface)?)),
            Self::Kernel => Err(unsupported()),
        }
    }
}

fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported, "the kernel driver is not part of this program yet")
}
