//! A device over its life: opened, configured (a client's by what the server pushed), kept or taken down.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ovpn_config::Config;
use ovpn_config::model::DnsUpdown;
use ovpn_dco::{DataPlane, Event, Mode};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::environment::Environment;
use crate::outcome::Fatal;
use crate::planner::{Choice, Plan};
use crate::routes::{self, Situation};
use crate::script::Script;
use crate::setup::{self, Opened};
use crate::tunnel::Tunnel;
use crate::{port, script_environment as variables};

/// The device and what is in force on it.
pub(crate) struct Plane {
    data_plane: Arc<dyn DataPlane>,
    plan: Plan,
    refusal: Option<String>,
    tunnel: Tunnel,
    pub(crate) events: UnboundedReceiver<Event>,
    up: Option<Up>,
}

/// A configured tunnel.
struct Up {
    /// The configuration with the server's options applied.
    config: Config,
    /// The options that, when they change, make the tunnel anew.
    signature: Vec<String>,
    environment: Environment,
    situation: Situation,
    routed: bool,
}

impl Plane {
    /// Opens the device. `refusal` is what the kernel's driver refused before.
    ///
    /// # Errors
    /// What the system denied.
    pub(crate) fn open(config: &Config, mode: Mode, refusal: Option<&str>) -> Result<Self, Fatal> {
        let Opened { data_plane, plan } = setup::open_data_plane(config, mode, refusal)?;
        let tunnel = Tunnel::new(&*data_plane).map_err(|error| Fatal::new("rtnetlink", error))?;
        let events =
            port::events(&*data_plane).map_err(|error| Fatal::new("the data plane's events", error))?;
        Ok(Self { data_plane, plan, refusal: None, tunnel, events, up: None })
    }

    /// The data plane.
    pub(crate) fn data_plane(&self) -> &Arc<dyn DataPlane> {
        &self.data_plane
    }

    /// The kernel's driver refused something that this connection needs: the next one is the engine's. False where the
    /// engine carries this already, or somebody insisted on the kernel.
    pub(crate) fn fall_back(&mut self, refusal: &str) -> bool {
        let may = matches!(self.plan.choice, Choice::Kernel(_)) && !self.plan.by_name;
        if may {
            tracing::warn!("the kernel's driver refused: {refusal}; trying again with the engine");
            self.refusal = Some(refusal.to_owned());
        }
        may
    }

    /// What the kernel's driver refused: this data plane is to be closed, and the next one opened with that.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refusal.clone()
    }

    /// Configures the device as `config` says, unless that is in force already. `options` are those of a client's
    /// server, `peer` is its address and common name.
    ///
    /// # Errors
    /// What the system denied, or an `up` script that failed.
    pub(crate) async fn bring_up(
        &mut self,
        config: &Config,
        options: &[String],
        base: &Environment,
        peer: Option<(SocketAddr, &str)>,
    ) -> Result<(), Fatal> {
        let signature = signature(options);
        let context = if let Some(up) = &mut self.up {
            if up.signature == signature {
                tracing::info!("Preserving previous TUN/TAP instance: {}", self.tunnel.name());
                if config.scripts.up_restart {
                    let environment = up.environment.clone();
                    let name = self.tunnel.name().to_owned();
                    run_up(config, &environment, &name, "restart").await?;
                }
                return Ok(());
            }
            tracing::info!(
                "NOTE: Pulled options changed on restart, will need to close and reopen TUN/TAP device."
            );
            self.take_down(config, "restart", "ping-restart", false).await;
            "restart"
        } else {
            "init"
        };
        let name = self.tunnel.name().to_owned();
        let situation = self
            .tunnel
            .situation(config, peer.map(|(remote, _)| remote))
            .await
            .map_err(|error| Fatal::new("the routing table cannot be read", error))?;
        self.tunnel
            .configure(config)
            .map_err(|error| Fatal(format!("{name} cannot be configured: {error}")))?;
        let mut environment = base.clone();
        variables::add_device(&mut environment, config, &name, context);
        if let Some((remote, common_name)) = peer {
            variables::add_peer(&mut environment, remote, common_name);
        }
        variables::add_routes(&mut environment, &situation);
        variables::add_dns(&mut environment, config);
        for (key, value) in &config.scripts.environment {
            environment.set(key, value);
        }
        self.up = Some(Up {
            config: config.clone(),
            signature,
            environment: environment.clone(),
            situation,
            routed: false,
        });
        run_up(config, &environment, &name, context).await?;
        self.dns_up(config, &environment).await;
        Ok(())
    }

    async fn dns_up(&mut self, config: &Config, environment: &Environment) {
        match &config.routing.dns_updown {
            DnsUpdown::Disable => {}
            DnsUpdown::Auto if config.scripts.up.is_some() => {}
            DnsUpdown::Auto | DnsUpdown::Force => {
                if let Err(error) = self.tunnel.apply_dns(config).await {
                    tracing::warn!("DNS settings could not be applied: {error}");
                }
            }
            DnsUpdown::Command(command) => {
                let script = Script { what: "dns-up", command, arguments: Vec::new(), environment };
                if let Err(error) = script.run(config.scripts.security).await {
                    tracing::warn!("{error}");
                }
            }
        }
    }

    /// Puts the routes in and runs `route-up`; false where something could not be routed.
    pub(crate) async fn add_routes(&mut self) -> bool {
        let Some(up) = &mut self.up else { return false };
        if up.routed {
            return true;
        }
        up.routed = true;
        let mut complete = true;
        if !up.config.routing.noexec {
            complete = self.tunnel.add_routes(&up.config, &routes::plan(&up.situation));
        }
        if let Some(command) = &up.config.scripts.route_up {
            let script =
                Script { what: "route-up", command, arguments: Vec::new(), environment: &up.environment };
            if let Err(error) = script.run(up.config.scripts.security).await {
                tracing::warn!("{error}");
            }
        }
        complete
    }

    /// While routes of the tunnel are in force: keeps `server` reachable outside of it.
    pub(crate) fn keep_way_to(&mut self, server: IpAddr) {
        if let Some(up) = &self.up
            && up.routed
        {
            self.tunnel.keep_way_to(server, &up.situation);
        }
    }

    /// Takes everything back and closes the device.
    pub(crate) async fn close(mut self, config: &Config, context: &str, signal: &str) {
        self.take_down(config, context, signal, true).await;
    }

    async fn take_down(&mut self, base: &Config, context: &str, signal: &str, close: bool) {
        let Some(mut up) = self.up.take() else { return };
        let config = &up.config;
        let name = self.tunnel.name().to_owned();
        up.environment.set("signal", signal);
        up.environment.set("script_context", context);
        match &config.routing.dns_updown {
            DnsUpdown::Command(command) => {
                let script =
                    Script { what: "dns-down", command, arguments: Vec::new(), environment: &up.environment };
                if let Err(error) = script.run(config.scripts.security).await {
                    tracing::warn!("{error}");
                }
            }
            _ => self.tunnel.undo_dns().await,
        }
        let arguments = variables::device_arguments(config, &name, context);
        if let Some(command) = &config.scripts.route_pre_down {
            let script = Script {
                what: "route-pre-down",
                command,
                arguments: arguments.clone(),
                environment: &up.environment,
            };
            if let Err(error) = script.run(config.scripts.security).await {
                tracing::warn!("{error}");
            }
        }
        self.tunnel.remove_routes();
        let down = async {
            if let Some(command) = &base.scripts.down {
                let script = Script { what: "down", command, arguments, environment: &up.environment };
                if let Err(error) = script.run(config.scripts.security).await {
                    tracing::warn!("{error}");
                }
            }
        };
        if config.scripts.down_pre {
            down.await;
            self.tunnel.unconfigure();
        } else {
            self.tunnel.unconfigure();
            down.await;
        }
        if close {
            tracing::info!("Closing TUN/TAP interface");
        }
    }
}

async fn run_up(config: &Config, environment: &Environment, name: &str, context: &str) -> Result<(), Fatal> {
    let Some(command) = &config.scripts.up else { return Ok(()) };
    let arguments = variables::device_arguments(config, name, context);
    let mut environment = environment.clone();
    environment.set("script_context", context);
    let script = Script { what: "up", command, arguments, environment: &environment };
    script.run(config.scripts.security).await.map_err(|error| Fatal(error.to_string()))
}

/// The options that matter for whether a kept tunnel still fits.
fn signature(options: &[String]) -> Vec<String> {
    const IGNORED: [&str; 10] = [
        "peer-id",
        "auth-token",
        "auth-token-user",
        "protocol-flags",
        "key-derivation",
        "explicit-exit-notify",
        "ping",
        "ping-restart",
        "ping-exit",
        "cipher",
    ];
    let matters = |option: &&String| {
        let name = option.split_whitespace().next().unwrap_or_default();
        !IGNORED.contains(&name)
    };
    options.iter().filter(matters).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_peer_id_keeps_the_tunnel_and_a_new_address_does_not() {
        let options = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
        let first = options("ifconfig 10.8.0.2 255.255.255.0,peer-id 0,cipher AES-256-GCM,ping 5");
        let second = options("ifconfig 10.8.0.2 255.255.255.0,peer-id 3,cipher AES-128-GCM,ping 10");
        let third = options("ifconfig 10.8.0.3 255.255.255.0,peer-id 0");
        assert_eq!(signature(&first), signature(&second));
        assert_ne!(signature(&first), signature(&third));
    }
}
