//! Logging, privileges, daemon.

use std::net::SocketAddr;
use std::time::Duration;

use super::Builder;
use super::arguments::{Bad, Opt};
use crate::diagnostic::Class;
use crate::model::{Daemon, Log, LogFormat, MetricsAddress, RemapUsr1, StatusFile, StatusSocket};

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
        "log-to" => {
            p.log = match o.word(0, &[("stdout", 0), ("stderr", 1), ("journald", 2)])? {
                0 => Log::Stdout,
                1 => Log::Stderr,
                _ => Log::Journald,
            };
        }
        "log-format" => {
            p.log_format = o.word(0, &[("human", LogFormat::Human), ("json", LogFormat::Json)])?;
        }
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
        "status-socket" => {
            p.status_socket = match o.text(0)? {
                word if word == "none" => StatusSocket::Off,
                path => StatusSocket::Path(path),
            };
        }
        "metrics" => p.metrics = Some(metrics(o)?),
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

/// A loopback address or a Unix socket: what is told there is for this machine only.
fn metrics(o: &mut Opt<'_>) -> Result<MetricsAddress, Bad> {
    let text = o.text(0)?;
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(MetricsAddress::Unix(path.to_owned()));
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        o.bad(
            0,
            format!("\"{}\" is no address for metrics", super::arguments::short(&text)),
            "write 127.0.0.1:9176, [::1]:9176 or unix:/run/ovpn/metrics.sock",
        )
    })?;
    if !address.ip().is_loopback() {
        return Err(o.bad(
            0,
            format!("metrics are served to this machine only, and {address} is reachable from others"),
            "take a loopback address such as 127.0.0.1:9176, and let a proxy with access control publish it",
        ));
    }
    Ok(MetricsAddress::Tcp(address))
}
