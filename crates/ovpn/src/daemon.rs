//! Going to the background, without fork: the program starts itself again in a session of its own and leaves once
//! the new process says that it is set up.
//!
//! ```text
//!   shell ─▶ ovpn --daemon … ──starts──▶ ovpn --daemon … (stdin: a socket back, stdout: /dev/null)
//!                  │ waits                    │ reads files, opens the log, writes the pid file
//!                  ◀───────── one byte ───────┘
//!                  exit 0                     runs on
//! ```
//!
//! Under a service manager (`NOTIFY_SOCKET`) the process stays where it is.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};

/// Marks the second process.
const MARK: &str = "OVPN_BACKGROUND";

/// How this process stands.
pub(crate) enum Place {
    /// It goes on here.
    Here,
    /// A second process runs in the background; this one ends with the given code.
    Done(ExitCode),
}

/// Starts the background process, unless this is it or a service manager watches.
///
/// # Errors
/// When the program cannot be started again.
pub(crate) fn enter() -> io::Result<Place> {
    if std::env::var_os(MARK).is_some() {
        rustix::process::setsid()?;
        return Ok(Place::Here);
    }
    if crate::sd_notify::is_supervised() {
        return Ok(Place::Here);
    }
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    let mut byte = [0];
    if ours.read_exact(&mut byte).is_ok() {
        return Ok(Place::Done(ExitCode::SUCCESS));
    }
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(Place::Done(ExitCode::from(code)))
}

/// Lets the process that waits in the foreground go.
pub(crate) fn is_set_up() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    if let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() {
        let _ = UnixStream::from(socket).write_all(&[1]);
    }
}
