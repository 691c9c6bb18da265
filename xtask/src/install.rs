//! `cargo xtask install [PREFIX]`: the program, the names it is also called by, its service units, manual page and
//! completions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output, root, run};

/// What is made from the option table: the words that print it, and where it goes.
const TEXTS: [(&[&str], &str); 4] = [
    (&["man"], "share/man/man8/ovpn.8"),
    (&["completions", "bash"], "share/bash-completion/completions/ovpn"),
    (&["completions", "zsh"], "share/zsh/site-functions/_ovpn"),
    (&["completions", "fish"], "share/fish/vendor_completions.d/ovpn.fish"),
];
const UNITS: &str = "lib/systemd/system";

/// Builds a release and installs it below `prefix`.
pub(crate) fn install(prefix: &str) -> Result<()> {
    run(cargo().args(["build", "--release", "--package", "ovpn"]))?;
    let prefix = std::path::absolute(prefix)?;
    put(&root().join("target/release/ovpn"), &prefix)?;
    println!(
        "installed {} and what belongs to it below {}",
        prefix.join("sbin/ovpn").display(),
        prefix.display()
    );
    Ok(())
}

/// Installs the debug build into a folder of the build's own and looks at the result: the program runs from there,
/// systemd takes the units, and they are confined.
pub(crate) fn check() -> Result<()> {
    run(cargo().args(["build", "--quiet", "--package", "ovpn"]))?;
    let prefix = root().join("target/install-check");
    if prefix.exists() {
        fs::remove_dir_all(&prefix)?;
    }
    put(&root().join("target/debug/ovpn"), &prefix)?;
    let version = output(Command::new(prefix.join("sbin/ovpn")).arg("--version"))?;
    if !version.starts_with("OpenVPN ") {
        bail!("the installed program says '{version}'");
    }
    for (_, path) in TEXTS {
        if fs::read_to_string(prefix.join(path))?.len() < 1000 {
            bail!("{path} is nearly empty");
        }
    }
    run(Command::new("bash").arg("-n").arg(prefix.join(TEXTS[1].1)))?;
    for unit in ["ovpn-client@.service", "ovpn-server@.service"] {
        let path = prefix.join(UNITS).join(unit);
        run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path))?;
        // 0 is the most confined, 100 not at all; more than this fails.
        let security = ["security", "--offline=true", "--threshold=45", "--no-pager"];
        let text = output(Command::new("systemd-analyze").args(security).arg(&path))?;
        println!("{unit}: {}", text.lines().last().unwrap_or_default().trim());
    }
    Ok(())
}

fn put(built: &Path, prefix: &Path) -> Result<()> {
    let (sbin, units) = (prefix.join("sbin"), prefix.join(UNITS));
    for dir in [&sbin, &units] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let program = sbin.join("ovpn");
    // A running program cannot be written over, but it can be replaced.
    let new = sbin.join(".ovpn.new");
    fs::copy(built, &new).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, &program)?;
    let link = sbin.join("ovpn-cli");
    let _ = fs::remove_file(&link);
    symlink("ovpn", &link)?;
    let from = root().join("dist/systemd");
    for unit in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
        let unit = unit?;
        let text = fs::read_to_string(unit.path())?.replace("@PREFIX@", &prefix.display().to_string());
        write(&units.join(unit.file_name()), &text)?;
    }
    for (words, path) in TEXTS {
        write(&prefix.join(path), &output(Command::new(&program).args(words))?)?;
    }
    Ok(())
}

fn write(path: &PathBuf, text: &str) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
