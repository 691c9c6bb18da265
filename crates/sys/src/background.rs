//! Going into the background: the caller's process ends with a status, its copy stays.
//!
//! ```text
//!   shell ── process ── split ──▶ waits for the report ──▶ exits with its status
//!                         └────▶ works … report(status) ──▶ goes on, without terminal
//! ```
//!
//! The copy is made first, while there is one thread only; it does the work, so that threads and sockets that the
//! work needs are made where they will stay. Until it has reported it dies with its parent.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;

use rustix::process::{Pid, Signal, WaitOptions};

/// Which of the two this process is.
#[derive(Debug)]
pub enum Split {
    /// The one that was started: call [`Waiting::status`] and exit with it.
    Waiting(Waiting),
    /// The copy: do the work, then call [`Background::report`].
    Background(Background),
}

/// The process that waits for the report.
#[derive(Debug)]
pub struct Waiting {
    report: PipeReader,
    child: Pid,
}

/// The process that stays.
#[derive(Debug)]
pub struct Background {
    report: PipeWriter,
}

/// Copies this process.
///
/// # Errors
/// `Unsupported` when it has more than one thread; otherwise what the system said.
pub fn split() -> io::Result<Split> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "a process with threads cannot be copied"));
    }
    let (reader, writer) = io::pipe()?;
    // SAFETY: this is the only thread, so nothing in the copy is held by a thread that does not exist there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            Ok(Split::Background(Background { report: writer }))
        }
        child => {
            drop(writer);
            let child = Pid::from_raw(child).ok_or(io::ErrorKind::Other)?;
            Ok(Split::Waiting(Waiting { report: reader, child }))
        }
    }
}

/// Names this process, as `ps` and `killall` see it (at most 15 bytes).
pub fn set_name(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        // It fails for no name that we give.
        let _ = rustix::thread::set_name(&name);
    }
}

impl Waiting {
    /// Waits for the report: its status; or, when the copy ended without one, how it ended (128 + signal).
    pub fn status(mut self) -> u8 {
        let mut status = [0];
        if self.report.read_exact(&mut status).is_ok() {
            return status[0];
        }
        let ended = rustix::process::waitpid(Some(self.child), WaitOptions::empty());
        match ended {
            Ok(Some((_, status))) => status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
                .and_then(|status| u8::try_from(status).ok())
                .unwrap_or(255),
            _ => 255,
        }
    }
}

impl Background {
    /// Says that the work is done, leaves session and terminal, and goes on alone.
    ///
    /// # Errors
    /// When the waiting process is gone.
    pub fn report(mut self, status: u8) -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(None)?;
        // It fails only for the leader of a session, which a copy is not.
        let _ = rustix::process::setsid();
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        for standard in 0..=2 {
            // SAFETY: dup2 on the three standard descriptors, which nothing in the program owns.
            if unsafe { libc::dup2(null.as_raw_fd(), standard) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        self.report.write_all(&[status])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_forbid_it() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert_eq!(split().unwrap_err().kind(), io::ErrorKind::Unsupported);
        release.send(()).unwrap();
        thread.join().unwrap().unwrap();
    }
}
