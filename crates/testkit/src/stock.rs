//! Stock OpenVPN, the judge of what we send.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::{Netns, Running, run};

const SYSTEM: &str = "/usr/sbin/openvpn";

/// Where the releases are: `$OVPN_STOCK_DIR`, else `~/.cache/ovpn-rs/stock`.
fn folder() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/ovpn-rs/stock"));
    std::env::var_os("OVPN_STOCK_DIR").map(PathBuf::from).or_else(home)
}

/// An OpenVPN program that is not ours.
#[derive(Debug, Clone)]
pub struct StockOpenvpn {
    /// The program.
    pub path: PathBuf,
    /// Its version, e.g. `2.6.14`.
    pub version: String,
}

impl StockOpenvpn {
    /// Every release that `cargo xtask stock` fetched, oldest first; without any, the system's own.
    pub fn all() -> Vec<Self> {
        let entries = folder().and_then(|folder| std::fs::read_dir(folder).ok());
        let releases = entries.into_iter().flatten().flatten().map(|entry| entry.path().join("run"));
        let mut found: Vec<_> = releases.filter_map(Self::at).collect();
        if found.is_empty() {
            found.extend(Self::at(SYSTEM.into()));
        }
        found.sort_by(|a, b| a.version.cmp(&b.version));
        found
    }

    /// The release of that version.
    ///
    /// # Errors
    /// When it was not fetched.
    pub fn release(version: &str) -> anyhow::Result<Self> {
        folder()
            .and_then(|folder| Self::at(folder.join(version).join("run")))
            .filter(|stock| stock.version == version)
            .ok_or_else(|| anyhow::anyhow!("stock OpenVPN {version} is not there: run cargo xtask stock"))
    }

    /// The system's own, or the first there is.
    ///
    /// # Errors
    /// When there is none.
    pub fn any() -> anyhow::Result<Self> {
        Self::at(SYSTEM.into())
            .or_else(|| Self::all().into_iter().next())
            .ok_or_else(|| anyhow::anyhow!("no stock OpenVPN (apt install openvpn)"))
    }

    /// The program at `path`, if it is there and says its version.
    pub fn at(path: PathBuf) -> Option<Self> {
        if !path.exists() {
            return None;
        }
        let output = run(Command::new(&path).arg("--version"), Duration::from_secs(10)).ok()?;
        let version = output.stdout.split_whitespace().nth(1)?.to_owned();
        Some(Self { path, version })
    }

    /// A command for this program inside a namespace; it runs in `dir`.
    pub fn command(&self, ns: &Netns, dir: &std::path::Path) -> Command {
        let mut command = ns.command(&self.path);
        command.current_dir(dir);
        command
    }

    /// Starts it inside a namespace with the given arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, ns: &Netns, dir: &std::path::Path, args: &[&str]) -> anyhow::Result<Running> {
        Running::start(self.command(ns, dir).args(args))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_is_there() {
        let stock = StockOpenvpn::any().unwrap();
        assert!(stock.version.starts_with("2."), "{stock:?}");
    }
}
