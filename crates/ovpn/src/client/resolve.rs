//! Names to addresses: ahead of time for all entries, or one when its turn comes.

use std::net::SocketAddr;
use std::time::Duration;

use ovpn_config::model::Family;

use super::connection::End;
use super::{Client, Entry, next_but_usr2, random_u64, way};
use crate::outcome::Fatal;
use crate::signal::Signals;
use crate::sockets;

/// How long names are resolved at the start.
const PATIENCE: Duration = Duration::from_secs(30);

impl Entry {
    /// The name to resolve, its port and family.
    fn wanted(&self, random: bool) -> (String, u16, Family) {
        let (host, port, family) = way::first_hop(&self.options);
        let host = if random && host == self.options.remote.host {
            format!("{:012x}.{host}", random_u64() & 0xffff_ffff_ffff)
        } else {
            host.to_owned()
        };
        (host, port, family)
    }
}

impl Client {
    /// Resolves every entry's name, and the proxies' (`preresolve`, `block-leaks`). What cannot be resolved is tried
    /// again when its turn comes.
    ///
    /// # Errors
    /// When `block-leaks` cannot be kept.
    pub(super) async fn resolve_all(&mut self) -> Result<(), Fatal> {
        let random = self.config.transport.remote_random_hostname;
        for entry in &mut self.entries {
            let (host, port, family) = entry.wanted(random);
            let lookup = tokio::time::timeout(PATIENCE, sockets::resolve(&host, port, family)).await;
            match lookup {
                Ok(Ok(addresses)) => entry.addresses = addresses,
                Ok(Err(error)) => tracing::warn!("RESOLVE: Cannot preresolve {host}:{port}: {error}"),
                Err(_) => tracing::warn!("RESOLVE: Cannot preresolve {host}:{port}: no answer"),
            }
            if let Some(proxy) = &entry.options.socks_proxy
                && let Ok(found) = sockets::resolve(&proxy.host, proxy.port, Family::Any).await
                && let Some(address) = found.first()
            {
                self.proxies.insert(proxy.host.clone(), *address);
            }
        }
        let addresses = self.entries.iter().flat_map(|entry| entry.addresses.iter());
        let addresses: Vec<SocketAddr> = addresses.chain(self.proxies.values()).copied().collect();
        if let Some(guard) = &mut self.guard {
            for address in &addresses {
                guard.pass(address.ip())?;
            }
            if !addresses.is_empty() {
                guard.end_dns()?;
            }
        }
        Ok(())
    }

    /// The address to try, resolving the entry's name where needed. Failures are tried again every 5 seconds for as
    /// long as `resolv-retry` says.
    pub(super) async fn resolve(
        &mut self,
        entry_index: usize,
        address_index: usize,
        signals: &mut Signals,
    ) -> Result<SocketAddr, End> {
        // What was resolved at the start stays: with a guard in force there is no DNS outside of the tunnel.
        let ahead =
            self.config.transport.preresolve || self.guard.as_ref().is_some_and(|guard| !guard.resolves());
        let Some(entry) = self.entries.get_mut(entry_index) else { return Err(End::retry("init_instance")) };
        let known = entry.addresses.get(address_index).copied();
        if let Some(known) = known
            && (address_index > 0 || self.config.transport.persist_remote_ip || ahead)
        {
            return Ok(known);
        }
        let (host, port, family) = entry.wanted(self.config.transport.remote_random_hostname);
        let started = tokio::time::Instant::now();
        loop {
            let lookup = sockets::resolve(&host, port, family);
            let found = tokio::select! {
                found = lookup => found,
                signal = next_but_usr2(signals) => return Err(End::from_signal(signal)),
            };
            match found {
                Ok(addresses) => {
                    let address = addresses.get(address_index).or(addresses.first()).copied();
                    entry.addresses = addresses;
                    return address.ok_or_else(|| End::retry("init_instance"));
                }
                Err(error) => {
                    tracing::warn!("RESOLVE: Cannot resolve host address: {host}:{port} ({error})");
                    let limit = self.config.transport.resolve_retry;
                    if limit.is_some_and(|limit| started.elapsed() >= limit) {
                        return Err(End::retry("init_instance"));
                    }
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(5)) => {}
                        signal = next_but_usr2(signals) => return Err(End::from_signal(signal)),
                    }
                }
            }
        }
    }
}
