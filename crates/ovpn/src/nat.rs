//! `nat`: clients' traffic goes on under this host's address, while the server runs and no longer.
//!
//! ```text
//! table inet ovpn-tun0          masquerades what comes from the tunnel's networks and leaves by another device
//! net.ipv4.ip_forward=1         net.ipv6.conf.all.forwarding=1 (only where the tunnel has IPv6 addresses)
//! ```
//!
//! Everything set is taken back at the end: the table is the server's own, and a setting of the kernel gets its former
//! value where it still has the one given here. No other table is touched: a firewall that drops forwarded packets has
//! to let the tunnel's device through by itself.

use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use ovpn_config::Config;
use ovpn_config::model::Ifconfig;

use crate::nft;
use crate::outcome::Fatal;

/// What was set; dropping it takes it back.
pub(crate) struct Nat {
    table: String,
    settings: Vec<Setting>,
}

/// A setting of the kernel that was changed.
struct Setting {
    path: PathBuf,
    before: String,
    ours: &'static str,
}

impl Nat {
    /// Forwards and translates for the tunnel at `device`.
    ///
    /// # Errors
    /// A sentence about what the system denied; nothing stays set then.
    pub(crate) fn set(config: &Config, device: &str) -> Result<Self, Fatal> {
        let v4 = match config.device.ifconfig {
            Some(Ifconfig::Subnet { local, prefix }) => {
                Ipv4Net::new(local, prefix).ok().map(|net| net.trunc())
            }
            _ => config.server.network,
        };
        let v6 = config.device.ifconfig_ipv6.map(|ifconfig| ifconfig.local.trunc());
        let table = format!("ovpn-{device}");
        nft::apply("nat", &ruleset(&table, device, v4, v6))?;
        let mut nat = Self { table, settings: Vec::new() };
        if v4.is_some() {
            nat.setting(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")?;
        }
        if v6.is_some() {
            nat.keep_router_advertisements()?;
            nat.setting(Path::new("/proc/sys/net/ipv6/conf/all/forwarding"), "1")?;
        }
        tracing::info!(
            "NAT: clients' traffic goes on under this host's address (nftables table inet {})",
            nat.table
        );
        Ok(nat)
    }

    /// A host that forwards IPv6 ignores router advertisements unless `accept_ra` is 2, and would lose its own way out.
    fn keep_router_advertisements(&mut self) -> Result<(), Fatal> {
        let Ok(entries) = std::fs::read_dir("/proc/sys/net/ipv6/conf") else { return Ok(()) };
        for entry in entries.flatten() {
            let path = entry.path().join("accept_ra");
            if std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
                self.setting(&path, "2")?;
            }
        }
        Ok(())
    }

    fn setting(&mut self, path: &Path, value: &'static str) -> Result<(), Fatal> {
        let failed = |error: std::io::Error| {
            Fatal(format!("--nat: {} cannot be set to {value}: {error}; it needs root", path.display()))
        };
        let before = std::fs::read_to_string(path).map_err(failed)?.trim().to_owned();
        if before == value {
            return Ok(());
        }
        std::fs::write(path, value).map_err(failed)?;
        self.settings.push(Setting { path: path.to_owned(), before, ours: value });
        Ok(())
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        // Last set, first taken back: forwarding goes before what it made necessary.
        for setting in self.settings.iter().rev() {
            let now = std::fs::read_to_string(&setting.path).unwrap_or_default();
            if now.trim() == setting.ours
                && let Err(error) = std::fs::write(&setting.path, &setting.before)
            {
                tracing::warn!(
                    "{} cannot be set back to {}: {error}",
                    setting.path.display(),
                    setting.before
                );
            }
        }
        if let Err(error) = nft::apply("nat", &format!("delete table inet {}\n", self.table)) {
            tracing::warn!("{error}; remove it with `nft delete table inet {}`", self.table);
        }
    }
}

/// The table, in the place of one that an earlier process may have left.
fn ruleset(table: &str, device: &str, v4: Option<Ipv4Net>, v6: Option<Ipv6Net>) -> String {
    let mut rules = String::new();
    if let Some(net) = v4 {
        rules.push_str(&format!("    ip saddr {net} oifname != \"{device}\" masquerade\n"));
    }
    if let Some(net) = v6 {
        rules.push_str(&format!("    ip6 saddr {net} oifname != \"{device}\" masquerade\n"));
    }
    format!(
        "table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n  chain postrouting {{\n    \
         type nat hook postrouting priority srcnat; policy accept;\n{rules}  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_from_the_tunnel_is_translated() {
        let text = ruleset("ovpn-tun0", "tun0", "10.8.0.0/24".parse().ok(), "fd00::/64".parse().ok());
        assert!(text.contains("    ip saddr 10.8.0.0/24 oifname != \"tun0\" masquerade\n"), "{text}");
        assert!(text.contains("    ip6 saddr fd00::/64 oifname != \"tun0\" masquerade\n"), "{text}");
        assert!(!ruleset("t", "tun0", None, "fd00::/64".parse().ok()).contains("ip saddr"));
    }
}
