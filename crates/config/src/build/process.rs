//! Logging, privileges, daemon.

use std::time::Duration;

use super::Builder;
use super::arguments::{Bad, Opt};
use crate::diagnostic::Class;
use crate::model::{Daemon, Log, RemapUsr1, StatusFile};

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let p = &mut b.config.process;
    let name = || o.get(0).filter(|n| !n.is_empty()).map(str::to_owned);
    match o.name() {
        "daemon" => {
            let name = name();
            // An explicit log file stays, wherever it stands.
            if !matches!(p.log, Log::File(_) | Log::Append(_)) {
                p.log = Log::Syslog(name.clone());
            }
            p.daemon = Some(Daemon { name });
        }
        "syslog" => p.log = Log::Syslog(name()),
        "log" => p.log = Log::File(o.text(0)?),
        "log-append" => p.log = Log::Append(o.text(0)?),
        // Above 11 nothing more is said; real files have 32.
        "verb" => p.verb = o.number(0, 0..=255)?.min(11),
        "mute" => p.mute = o.number(0, 0..=u32::MAX)?,
        "suppress-timestamps" => p.suppress_timestamps = true,
        "machine-readable-output" => p.machine_readable_output = true,
        "errors-to-stderr" => p.errors_to_stderr = true,
        "status" => {
            let interval = if o.count() > 1 { o.seconds(1, 0)? } else { Duration::from_secs(60) };
            p.status = Some(StatusFile { path: o.text(0)?, interval, version: p.status_version });
        }
        "status-version" => {
            p.status_version = o.number(0, 1..=3)?;
            if let Some(status) = &mut p.status {
                status.version = p.status_version;
            }
        }
        "writepid" => p.pid_file = Some(o.text(0)?),
        "user" => p.user = Some(o.text(0)?),
        "group" => p.group = Some(o.text(0)?),
        "chroot" => p.chroot = Some(o.text(0)?),
        "cd" => {
            let directory = o.text(0)?;
            p.directory = Some(match &p.directory {
                Some(before) if !directory.starts_with('/') => format!("{before}/{directory}"),
                _ => directory,
            });
        }
        "nice" => p.nice = Some(o.number(0, -20..=19)?),
        "mlock" => p.mlock = true,
        "remap-usr1" => {
            p.remap_usr1 = Some(o.word(0, &[("SIGHUP", RemapUsr1::Hup), ("SIGTERM", RemapUsr1::Term)])?)
        }
        "setcon" => {
            o.say(Class::Ignored, "`setcon` has no effect", "set the SELinux context in the service's unit")
        }
        _ => return Ok(false),
    }
    Ok(true)
}
