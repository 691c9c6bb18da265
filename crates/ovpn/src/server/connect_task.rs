//! From an accepted login to a client's configuration: its files, scripts and addresses.

use std::sync::Arc;

use ipnet::IpNet;
use ovpn_config::model::ClientOptions;
use ovpn_config::{NoFiles, load_client_options};

use super::addresses::{self, Assignment};
use super::client_environment;
use super::client_options::{config_files, merge};
use super::push_list;
use super::registry::Order;
use super::routing_table::{Claim, ClientId, show};
use super::shared::{Shared, unix_now};
use crate::environment::Environment;

/// A client that may have its tunnel.
#[derive(Debug)]
pub(crate) struct Configured {
    /// Its options, all sources merged.
    pub(crate) options: ClientOptions,
    /// Its addresses.
    pub(crate) assignment: Assignment,
    /// What it is told.
    pub(crate) push: Vec<String>,
    /// Networks behind it that it may use.
    pub(crate) iroutes: Vec<IpNet>,
    /// Its variables, addresses included.
    pub(crate) environment: Environment,
}

/// What is needed for it.
pub(crate) struct ConnectTask {
    /// What all clients share.
    pub(crate) shared: Arc<Shared>,
    /// Whose.
    pub(crate) id: ClientId,
    /// Its common name.
    pub(crate) common_name: String,
    /// `CN/ip:port`, for the log.
    pub(crate) tag: String,
    /// What the management interface gave it.
    pub(crate) granted: Option<ClientOptions>,
    /// Its variables.
    pub(crate) environment: Environment,
}

impl ConnectTask {
    /// Runs it; `None`: the client is refused, and the reason is logged.
    pub(crate) async fn run(mut self) -> Option<Configured> {
        let shared = Arc::clone(&self.shared);
        let config = &shared.config;
        if !config.server.duplicate_cn {
            self.replace_namesakes().await;
        }
        let mut options = self.file_options().unwrap_or_default();
        if options.disable {
            tracing::warn!("MULTI: client has been rejected due to 'disable' directive");
            return None;
        }
        let pool = shared.registry().lease(self.id, &self.common_name);
        if pool.is_none() && shared.registry().pool.is_some() {
            tracing::warn!(
                "MULTI: no free --ifconfig-pool addresses are available: this client gets none; enlarge the network \
                 of `server`, or `ifconfig-pool`"
            );
        }
        let mut assignment = addresses::assign(pool, &options, shared.server_side);
        client_environment::set_addresses(&mut self.environment, &assignment);
        if let Some(command) = &config.server.client_connect {
            let written = shared.runner().client_connect(command, self.environment.clone()).await?;
            options = merge(options, written);
            assignment = addresses::assign(pool, &options, shared.server_side);
            client_environment::set_addresses(&mut self.environment, &assignment);
            if options.disable {
                tracing::warn!("MULTI: client-connect disabled the client");
                self.disconnect().await;
                return None;
            }
        }
        if let Some(granted) = self.granted.take() {
            options = merge(options, granted);
            assignment = addresses::assign(pool, &options, shared.server_side);
            client_environment::set_addresses(&mut self.environment, &assignment);
            if options.disable {
                tracing::warn!("MULTI: client has been rejected due to 'disable' directive");
                self.disconnect().await;
                return None;
            }
        }
        for warning in &assignment.warnings {
            tracing::warn!("MULTI: {warning}");
        }
        if !assignment.uses_pool {
            shared.registry().return_lease(self.id);
        }
        let iroutes = self.learn(&options, &mut assignment).await;
        let push =
            push_list::build(&config.server.push, &options, assignment.pushed_v4, assignment.pushed_v6);
        Some(Configured { options, assignment, push, iroutes, environment: self.environment })
    }

    /// Closes older clients of the same name and waits until they are gone.
    async fn replace_namesakes(&self) {
        let older = self.shared.registry().namesakes(self.id);
        for orders in older {
            tracing::info!(
                "MULTI: new connection by client '{}' will cause previous active sessions by this client to be \
                 dropped. Remember to use the --duplicate-cn option if you want multiple clients using the same \
                 certificate or username to concurrently connect.",
                self.common_name
            );
            let _ = orders.send(Order::Close("replaced by a newer connection of the same client"));
            orders.closed().await;
        }
    }

    /// The client's file, or the one for all.
    fn file_options(&self) -> Option<ClientOptions> {
        let directory = self.shared.config.server.client_config_dir.as_deref()?;
        for path in config_files(directory, &self.common_name) {
            let name = path.display().to_string();
            match std::fs::read(&path) {
                Ok(text) => {
                    tracing::info!("OPTIONS IMPORT: reading client specific options from: {name}");
                    let (options, diagnostics, sources) = load_client_options(&name, &text, &NoFiles);
                    for diagnostic in diagnostics {
                        tracing::warn!("{}", diagnostic.one_line(&sources));
                    }
                    return Some(options);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!("{name}: {error}"),
            }
        }
        None
    }

    /// Enters the client's addresses and networks, where `learn-address` allows it; returns its networks.
    async fn learn(&self, options: &ClientOptions, assignment: &mut Assignment) -> Vec<IpNet> {
        let limit = options.max_routes.unwrap_or(self.shared.config.server.max_routes_per_client);
        if let Some(v4) = assignment.v4
            && !self.learn_one(IpNet::from(std::net::IpAddr::V4(v4)), limit, true).await
        {
            assignment.v4 = None;
        }
        if let Some(v6) = assignment.v6
            && !self.learn_one(IpNet::from(std::net::IpAddr::V6(v6)), limit, true).await
        {
            assignment.v6 = None;
        }
        let mut iroutes = Vec::new();
        let v4 = options.iroutes.iter().copied().map(IpNet::V4);
        let v6 = options.iroutes_ipv6.iter().copied().map(IpNet::V6);
        for net in v4.chain(v6).collect::<Vec<_>>() {
            if self.learn_one(net, limit, false).await {
                tracing::info!("MULTI: internal route {} -> {}", show(net), self.tag);
                iroutes.push(net);
            }
        }
        iroutes
    }

    async fn learn_one(&self, net: IpNet, limit: u32, primary: bool) -> bool {
        let known = self.shared.registry().networks.rows().any(|(row, _)| row == net);
        if let Some(command) = &self.shared.config.server.learn_address {
            let runner = self.shared.runner();
            if !runner.learn_address(command, net, &self.common_name, known, &self.environment).await {
                tracing::warn!("MULTI: learn-address refused {}", show(net));
                return false;
            }
        }
        match self.shared.registry().claim(self.id, net, limit, unix_now()) {
            Claim::TooMany => {
                tracing::warn!("MULTI: max-routes-per-client ({limit}) reached at {}", show(net));
                false
            }
            Claim::New | Claim::Held | Claim::TakenFrom(_) => {
                tracing::info!("MULTI: Learn: {} -> {}", show(net), self.tag);
                self.tell_programs(net, primary);
                true
            }
        }
    }

    /// `>CLIENT:ADDRESS`.
    fn tell_programs(&self, net: IpNet, primary: bool) {
        let judge = self.shared.management.as_ref().filter(|management| management.judges_clients());
        let Some(management) = judge else { return };
        let shown = match net {
            IpNet::V4(net) if net.prefix_len() < 32 => format!("{}/{}", net.addr(), net.netmask()),
            other => show(other),
        };
        management.client_event(format!("ADDRESS,{},{shown},{}", self.id, u8::from(primary)), None);
    }

    /// `client-disconnect` after a `client-connect` whose client was refused after all.
    async fn disconnect(&self) {
        if let Some(command) = &self.shared.config.server.client_disconnect {
            self.shared.runner().client_disconnect(command, &self.environment).await;
        }
    }
}
