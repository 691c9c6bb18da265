//! What a run of any mode starts from.

use std::sync::Arc;
use std::time::SystemTime;

use ovpn_config::{Config, features_wanted};
use ovpn_dco::{DataPlane, Driver, Mode};
use ovpn_engine::{Engine, EngineConfig};
use ovpn_kernel::Kernel;

use crate::environment::Environment;
use crate::management::Handle;
use crate::outcome::Fatal;
use crate::planner::{self, Choice};
use crate::script_environment;
use crate::status::{self, Observed};

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
    let machine = planner::look(config.device.name.as_deref());
    let plan = planner::plan(&features_wanted(config), &machine)
        .map_err(|reasons| Fatal(format!("data-plane kernel: {}", reasons.join("; "))))?;
    let plane = match plan.choice {
        Choice::Engine => open_engine(name, mode)?,
        Choice::Kernel(api) => match Kernel::open_with(api, name, mode) {
            Ok(kernel) => Arc::new(kernel),
            Err(error) if plan.by_name => {
                return Err(Fatal(format!("data-plane kernel: cannot open device {name}: {error}")));
            }
            Err(error) => {
                tracing::warn!(
                    "the kernel's driver refuses device {name}: {error}; going on with the engine"
                );
                open_engine(name, mode)?
            }
        },
    };
    let capabilities = plane.capabilities();
    let reason = plan.reasons.first().map_or("", String::as_str);
    tracing::info!("Data plane: {} {}: {reason}", capabilities.driver, capabilities.version);
    if matches!(capabilities.driver, Driver::Kernel | Driver::KernelV2) {
        for note in &plan.notes {
            tracing::warn!("{note}");
        }
    }
    tracing::info!("TUN/TAP device {} opened", plane.device().name);
    let board = status::board();
    let report = status::PlaneReport {
        driver: capabilities.driver.to_string(),
        version: capabilities.version.clone(),
        device: plane.device().name.clone(),
        reasons: plan.reasons.clone(),
    };
    let observed = Arc::new(Observed::new(plane, board.completed(), board.rekeys()));
    board.data_plane(report, Arc::downgrade(&observed));
    Ok(observed)
}

fn open_engine(name: &str, mode: Mode) -> Result<Arc<dyn DataPlane>, Fatal> {
    let engine = Engine::open(EngineConfig::new(name, mode)).map_err(|error| {
        Fatal(format!(
            "cannot open TUN device {name}: {error}; it needs /dev/net/tun and the capability CAP_NET_ADMIN (root)"
        ))
    })?;
    Ok(Arc::new(engine))
}
