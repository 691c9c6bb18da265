//! The stock OpenVPN releases that the interoperability tests talk to, each in a folder of its own:
//! `VERSION/run` starts it with its own libraries.
//!
//! The folder is `$OVPN_STOCK_DIR`, else `~/.cache/ovpn-rs/stock`. Packages come from the Debian mirror that the
//! machine's own apt uses; nothing of the system changes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{has, output, run};

/// A release: its version as tests name it, the suite it comes from, and the package to ask for.
struct Release {
    version: &'static str,
    suite: &'static str,
    package: &'static str,
    backports: bool,
}

const RELEASES: &[Release] = &[
    Release { version: "2.5.1", suite: "bullseye", package: "openvpn", backports: false },
    Release { version: "2.6.14", suite: "bookworm", package: "openvpn", backports: false },
    Release { version: "2.7.8", suite: "trixie", package: "openvpn/trixie-backports", backports: true },
];

/// Where the releases are kept.
pub(crate) fn dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("OVPN_STOCK_DIR") {
        return dir.into();
    }
    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache/ovpn-rs/stock")
}

/// Fetches what is missing and returns the folder.
pub(crate) fn fetch() -> Result<PathBuf> {
    let dir = dir();
    for release in RELEASES {
        let home = dir.join(release.version);
        if starts(&home, release.version) {
            continue;
        }
        println!("fetching OpenVPN {}", release.version);
        extract(&home, release)
            .with_context(|| format!("OpenVPN {} could not be fetched", release.version))?;
        if !starts(&home, release.version) {
            bail!(
                "{} does not start, or is another version than {}",
                home.join("run").display(),
                release.version
            );
        }
    }
    Ok(dir)
}

/// Whether the release is there and says it is the version we want.
fn starts(home: &Path, version: &str) -> bool {
    Command::new(home.join("run"))
        .arg("--version")
        .output()
        .is_ok_and(|out| String::from_utf8_lossy(&out.stdout).starts_with(&format!("OpenVPN {version} ")))
}

fn extract(home: &Path, release: &Release) -> Result<()> {
    if !has("mmdebstrap") {
        bail!("mmdebstrap is missing; install the Debian package of that name");
    }
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    fs::create_dir_all(home.parent().unwrap_or(home))?;
    let mirror = mirror()?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--aptopt=Acquire::Check-Valid-Until \"false\"", "--variant=extract"]);
    command.arg(format!("--include={}", release.package)).arg(release.suite).arg(home);
    command.arg(format!("deb {mirror} {} main", release.suite));
    if release.backports {
        command.arg(format!("deb {mirror} {}-backports main", release.suite));
    }
    run(&mut command)?;
    // Its C library is not this system's: start it by its own loader.
    let script = home.join("run");
    fs::write(
        &script,
        "#!/bin/sh\n\
         r=$(dirname \"$0\")\n\
         for ld in \"$r\"/lib/*-linux-gnu*/ld-*.so* \"$r\"/usr/lib/*-linux-gnu*/ld-*.so*; do [ -f \"$ld\" ] && break; done\n\
         libs=$(echo \"$r\"/lib/*-linux-gnu* \"$r\"/usr/lib/*-linux-gnu* | tr ' ' :)\n\
         exec \"$ld\" --library-path \"$libs\" \"$r/usr/sbin/openvpn\" \"$@\"\n",
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The mirror that the machine's own apt uses.
fn mirror() -> Result<String> {
    let listed = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
        "Component: main",
    ]))?;
    listed
        .lines()
        .find(|uri| !uri.contains("security"))
        .map(str::to_owned)
        .context("apt knows no Debian mirror; run apt-get update first")
}
