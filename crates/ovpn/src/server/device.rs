//! The server's device: opened, configured, its routes and scripts; taken back at the end.

use std::sync::Arc;

use ovpn_config::Config;
use ovpn_config::model::Command;
use ovpn_dco::{DataPlane, Mode};

use crate::environment::Environment;
use crate::outcome::Fatal;
use crate::routes;
use crate::script::Script;
use crate::script_environment as variables;
use crate::setup::{self, Opened};
use crate::tunnel::Tunnel;

/// The device and what is in force on it.
pub(crate) struct Device {
    data_plane: Arc<dyn DataPlane>,
    tunnel: Tunnel,
    /// Variables of the device, for every script from here on.
    pub(crate) environment: Environment,
}

impl Device {
    /// Opens and configures the device and runs `up` and `route-up`.
    ///
    /// # Errors
    /// What the system denied, or an `up` script that failed.
    pub(crate) async fn open(config: &Config, base: Environment) -> Result<Self, Fatal> {
        let Opened { data_plane, .. } = setup::open_data_plane(config, Mode::MultiPeer, None)?;
        let mut tunnel = Tunnel::new(&*data_plane).map_err(|error| Fatal::new("rtnetlink", error))?;
        let name = tunnel.name().to_owned();
        tunnel.configure(config).map_err(|error| Fatal(format!("{name} cannot be configured: {error}")))?;
        let mut environment = base;
        variables::add_device(&mut environment, config, &name, "init");
        let situation = tunnel
            .situation(config, None)
            .await
            .map_err(|error| Fatal::new("the routing table cannot be read", error))?;
        variables::add_routes(&mut environment, &situation);
        let mut device = Self { data_plane, tunnel, environment };
        if let Some(command) = &config.scripts.up {
            let arguments = variables::device_arguments(config, &name, "init");
            let script = Script { what: "up", command, arguments, environment: &device.environment };
            script.run(config.scripts.security).await.map_err(|error| Fatal(error.to_string()))?;
        }
        if !config.routing.noexec {
            device.tunnel.add_routes(config, &routes::plan(&situation));
        }
        device.run("route-up", config.scripts.route_up.as_ref(), Vec::new(), config).await;
        Ok(device)
    }

    /// The data plane.
    pub(crate) fn data_plane(&self) -> &Arc<dyn DataPlane> {
        &self.data_plane
    }

    /// Takes routes and addresses back and runs `route-pre-down` and `down`.
    pub(crate) async fn close(mut self, config: &Config, signal: &str) {
        self.environment.set("signal", signal);
        let arguments = variables::device_arguments(config, self.tunnel.name(), "init");
        let scripts = &config.scripts;
        self.run("route-pre-down", scripts.route_pre_down.as_ref(), arguments.clone(), config).await;
        self.tunnel.remove_routes();
        if scripts.down_pre {
            self.run("down", scripts.down.as_ref(), arguments, config).await;
            self.tunnel.unconfigure();
        } else {
            self.tunnel.unconfigure();
            self.run("down", scripts.down.as_ref(), arguments, config).await;
        }
        tracing::info!("Closing TUN/TAP interface");
    }

    async fn run(
        &self,
        what: &'static str,
        command: Option<&Command>,
        arguments: Vec<String>,
        config: &Config,
    ) {
        let Some(command) = command else { return };
        let script = Script { what, command, arguments, environment: &self.environment };
        if let Err(error) = script.run(config.scripts.security).await {
            tracing::warn!("{error}");
        }
    }
}
