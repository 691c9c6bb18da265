//! What a run of any mode starts from.

use std::sync::Arc;
use std::time::SystemTime;

use ovpn_config::{Config, features_wanted};
use ovpn_dco::{DataPlane, ErrorKind, Mode};
use ovpn_engine::{Engine, EngineConfig};
use ovpn_kernel::Kernel;

use crate::environment::Environment;
use crate::management::Handle;
use crate::outcome::Fatal;
use crate::planner::{self, Choice, Plan};
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

/// An open data plane, and why it is this one.
pub(crate) struct Opened {
    /// The data plane.
    pub(crate) data_plane: Arc<dyn DataPlane>,
    /// The decision.
    pub(crate) plan: Plan,
}

/// Opens the data plane for a mode and says in one line which it is, and why. `refusal` is what the kernel's driver
/// refused before in this process.
///
/// # Errors
/// A sentence about what the system denied.
pub(crate) fn open_data_plane(config: &Config, mode: Mode, refusal: Option<&str>) -> Result<Opened, Fatal> {
    let name = config.device.name.as_deref().unwrap_or("tun");
    let wanted = features_wanted(config);
    let mut machine = planner::look(config.device.name.as_deref());
    machine.refusal = refusal.map(str::to_owned);
    let mut plan = planner::plan(&wanted, &machine);
    let mut kernel = None;
    if let Choice::Kernel(api) = plan.choice {
        match Kernel::open_with(api, name, mode) {
            Ok(driver) => kernel = Some(driver),
            Err(error) => {
                machine.refusal = Some(format!("device {name} cannot be opened: {error}"));
                plan = planner::plan(&wanted, &machine);
            }
        }
    }
    let data_plane: Arc<dyn DataPlane> = match (kernel, plan.choice) {
        (Some(kernel), _) => Arc::new(kernel),
        (None, Choice::Nobody) => return Err(Fatal(format!("data-plane kernel: {}", plan.why()))),
        (None, _) => open_engine(name, mode)?,
    };
    let (capabilities, device) = (data_plane.capabilities(), &data_plane.device().name);
    tracing::info!("Data plane: {} {}: {}", capabilities.driver, capabilities.version, plan.why());
    for note in &plan.notes {
        tracing::warn!("{note}");
    }
    tracing::info!("TUN/TAP device {device} opened");
    let board = status::board();
    let report = status::PlaneReport {
        driver: capabilities.driver.to_string(),
        version: capabilities.version.clone(),
        device: device.clone(),
        reasons: plan.reasons.iter().map(|reason| reason.text.clone()).collect(),
    };
    let observed = Arc::new(Observed::new(data_plane, board.completed(), board.rekeys()));
    board.data_plane(report, Arc::downgrade(&observed));
    Ok(Opened { data_plane: observed, plan })
}

fn open_engine(name: &str, mode: Mode) -> Result<Arc<dyn DataPlane>, Fatal> {
    let engine = Engine::open(EngineConfig::new(name, mode)).map_err(|error| {
        let tun = std::path::Path::new("/dev/net/tun");
        let hint = if !tun.exists() {
            "there is no /dev/net/tun: load the module with `modprobe tun`, or pass the device into the container"
        } else if matches!(error.kind(), ErrorKind::NotPermitted) || std::fs::File::open(tun).is_err() {
            "a device needs root (the capability CAP_NET_ADMIN): start it with sudo"
        } else {
            "another program may have this device: see `ip link`, and `dev` in the configuration"
        };
        Fatal(format!("{error}; {hint}"))
    })?;
    Ok(Arc::new(engine))
}
