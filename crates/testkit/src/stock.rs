//! Stock OpenVPN, the judge of what we send.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::{Netns, Running, run};

/// An OpenVPN program that is not ours.
#[derive(Debug, Clone)]
pub struct StockOpenvpn {
    /// The program.
    pub path: PathBuf,
    /// Its version, e.g. `2.6.14`.
    pub version: String,
}

impl StockOpenvpn {
    /// Every stock OpenVPN of this machine, oldest first: the system's, and those below
    /// `$OVPN_STOCK` (default `~/.cache/tunnel-bench`), in folders named `openvpn-*` with a program `run`.
    pub fn all() -> Vec<Self> {
        let mut paths = vec![PathBuf::from("/usr/sbin/openvpn")];
        let cache = std::env::var_os("OVPN_STOCK")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/tunnel-bench")));
        if let Some(entries) = cache.and_then(|cache| std::fs::read_dir(cache).ok()) {
            let folders = entries.flatten().map(|entry| entry.path());
            let named = |path: &PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("openvpn-"))
            };
            paths.extend(folders.filter(named).map(|path| path.join("run")));
        }
        let mut found: Vec<_> = paths.into_iter().filter_map(Self::at).collect();
        found.sort_by(|a, b| a.version.cmp(&b.version));
        found
    }

    /// The system's own, or the first there is.
    ///
    /// # Errors
    /// When there is none.
    pub fn any() -> anyhow::Result<Self> {
        Self::all()
            .into_iter()
            .next()
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
