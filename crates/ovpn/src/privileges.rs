//! `user`, `group`, `chroot`, `mlock`: what the process gives up once everything that needs root is done.
//!
//! The right to configure the network stays (`CAP_NET_ADMIN`), so that routes, devices and the kernel's driver go on
//! working; scripts get nothing of it. With a port below 1024 the right to bind such ports stays, too, for restarts.
//! Source: OpenVPN manual, "user", "group", "chroot"; stock 2.6 with libcap-ng.

use std::sync::atomic::{AtomicBool, Ordering};

use ovpn_config::Config;
use ovpn_config::model::Role;
use ovpn_sys::privileges::{self as system, Target, Threads};

use crate::outcome::Fatal;

/// Set once the process has given up what it was told to: there is no second time.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Whether the process is locked into its `chroot` directory by now.
static LOCKED_IN: AtomicBool = AtomicBool::new(false);

/// A path that is meant to be seen from inside the `chroot` directory, as it is seen now.
pub(crate) fn seen_from_here(config: &Config, path: &str) -> String {
    match &config.process.chroot {
        Some(chroot) if !LOCKED_IN.load(Ordering::Relaxed) => format!("{chroot}/{path}"),
        _ => path.to_owned(),
    }
}

/// `mlock`.
///
/// # Errors
/// A sentence where the system refuses it.
pub(crate) fn lock_memory(config: &Config) -> Result<(), Fatal> {
    if !config.process.mlock {
        return Ok(());
    }
    system::lock_memory().map_err(|error| {
        Fatal(format!(
            "--mlock: {error}; raise the limit (LimitMEMLOCK=infinity in the unit) or leave mlock out"
        ))
    })?;
    tracing::info!("mlockall call succeeded");
    Ok(())
}

/// Whether the process gives up root, or something of it, once the tunnel is up.
pub(crate) const fn gives_up(config: &Config) -> bool {
    let process = &config.process;
    process.user.is_some() || process.group.is_some() || process.chroot.is_some()
}

/// Follows `chroot`, `group` and `user`; does nothing the second time.
///
/// # Errors
/// A name that is unknown, or what the system denied: the process must end then.
pub(crate) fn give_up(config: &Config) -> Result<(), Fatal> {
    let process = &config.process;
    if !gives_up(config) || GIVEN_UP.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    // Names and threads are looked up while their files can be seen.
    let user = process
        .user
        .as_deref()
        .map(|name| system::user(name).map_err(|error| Fatal(format!("--user {name}: {error}"))))
        .transpose()?;
    let gid = process
        .group
        .as_deref()
        .map(|name| system::group(name).map_err(|error| Fatal(format!("--group {name}: {error}"))))
        .transpose()?;
    let threads = Threads::open().map_err(|error| Fatal::new("the list of threads", error))?;
    if let Some(directory) = &process.chroot {
        system::lock_into(directory).map_err(|error| Fatal(format!("--chroot {directory}: {error}")))?;
        LOCKED_IN.store(true, Ordering::Relaxed);
        tracing::info!("chroot to '{directory}' and cd to '/' succeeded");
    }
    let listens = config.role == Role::Server || !config.locals.is_empty();
    let target = Target {
        uid: user.map(|user| user.uid),
        gid,
        low_ports: listens && config.locals.iter().any(|local| (1..1024).contains(&local.port)),
        locked_memory: process.mlock,
    };
    if target.uid.is_none() && target.gid.is_none() {
        return Ok(());
    }
    system::give_up(&target, &threads).map_err(|error| {
        Fatal(format!(
            "--user {}, --group {}: {error}; only root may change them",
            process.user.as_deref().unwrap_or("(as before)"),
            process.group.as_deref().unwrap_or("(as before)"),
        ))
    })?;
    if let Some(group) = &process.group {
        tracing::info!("GID set to {group}");
    }
    if let Some(user) = &process.user {
        tracing::info!("UID set to {user}");
        if system::may_configure_network() {
            tracing::info!("Capabilities retained: CAP_NET_ADMIN");
        } else {
            tracing::warn!(
                "CAP_NET_ADMIN was not there to be retained: routes, addresses and keys of the kernel's driver can no \
                 longer be changed"
            );
        }
    }
    Ok(())
}
