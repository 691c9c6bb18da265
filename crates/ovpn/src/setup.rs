//! What a run of any mode starts from.

use std::sync::Arc;
use std::time::SystemTime;

use ovpn_config::Config;
use ovpn_dco::{DataPlane, Mode};
use ovpn_engine::{Engine, EngineConfig};

use crate::environment::Environment;
use crate::management::Handle;
use crate::outcome::Fatal;
use crate::script_environment;

/// The configuration and when and from where it came.
pub(crate) struct Setup {
    /// The configuration.
    pub(crate) config: Config,
    /// The file named first on the command line.
    pub(crate) file: Option<String>,
    /// When the process started.
    pub(crate) started: SystemTime,
    /// The management interface, where there is one.
    pub(crate) management: Option<Handle>,
}

impl Setup {
    /// The variables that every script gets.
    pub(crate) fn environment(&self) -> Environment {
        script_environment::of_process(&self.config, self.file.as_deref(), self.started)
    }
}

/// Opens the data plane for a mode and says in one line which it is, and why.
///
/// # Errors
/// A sentence about what the system denied.
pub(crate) fn open_data_plane(config: &Config, mode: Mode) -> Result<Arc<dyn DataPlane>, Fatal> {
    let name = config.device.name.as_deref().unwrap_or("tun");
    let engine = Engine::open(EngineConfig::new(name, mode)).map_err(|error| {
        Fatal(format!(
            "cannot open TUN device {name}: {error}; it needs /dev/net/tun and the capability CAP_NET_ADMIN (root)"
        ))
    })?;
    let plane: Arc<dyn DataPlane> = Arc::new(engine);
    tracing::info!("Data plane: {} {}", plane.capabilities().driver, plane.capabilities().version);
    tracing::info!("TUN/TAP device {} opened", plane.device().name);
    Ok(plane)
}
