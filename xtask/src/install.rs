//! `cargo xtask install [PREFIX]`: the program, the names it is also called by, and its service units.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

use crate::run::{cargo, root, run};

/// Builds a release and installs it below `prefix`.
pub(crate) fn install(prefix: &str) -> Result<()> {
    run(cargo().args(["build", "--release", "--package", "ovpn"]))?;
    let prefix = Path::new(prefix);
    let (sbin, units) = (prefix.join("sbin"), prefix.join("lib/systemd/system"));
    for dir in [&sbin, &units] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let program = sbin.join("ovpn");
    // A running program cannot be written over, but it can be replaced.
    let new = sbin.join(".ovpn.new");
    fs::copy(root().join("target/release/ovpn"), &new)
        .with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, &program)?;
    let link = sbin.join("ovpn-cli");
    let _ = fs::remove_file(&link);
    symlink("ovpn", &link)?;
    let from = root().join("dist/systemd");
    for unit in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
        let unit = unit?;
        let text = fs::read_to_string(unit.path())?.replace("@PREFIX@", &prefix.display().to_string());
        fs::write(units.join(unit.file_name()), text)?;
    }
    println!("installed {} and the units in {}", program.display(), units.display());
    Ok(())
}
