//! Programs: run one to its end within a time limit, or keep one running under a guard.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

/// What a finished program left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The output of a program that succeeded.
    ///
    /// # Errors
    /// When it failed; the error holds all that it printed.
    pub fn success(self) -> anyhow::Result<String> {
        anyhow::ensure!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

/// Runs a program to its end, at most for `limit`, and returns what it printed, whether it succeeded or not.
///
/// # Errors
/// When it cannot be started or the time is over (it is then killed).
pub fn run(command: &mut Command, limit: Duration) -> anyhow::Result<Output> {
    let shown = format!("{command:?}");
    let mut running = Running::start(command)?;
    let status = running.wait(limit).with_context(|| shown)?;
    Ok(Output { status, stdout: running.stdout(), stderr: running.stderr() })
}

/// A running program; killed and reaped when dropped. What it prints is collected.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: Collected,
    err: Collected,
}

impl Running {
    /// Starts a program with both outputs collected and nothing on its standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let out = Collected::from(child.stdout.take());
        let err = Collected::from(child.stderr.take());
        Ok(Self { child, out, err })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.out.text()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.err.text()
    }

    /// How it ended, `None` while it runs.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until either output contains `text`.
    ///
    /// # Errors
    /// When the time is over or the program ended without printing it; the error holds what it did print.
    pub fn wait_for_text(&mut self, text: &str, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        loop {
            let ended = self.ended()?;
            if ended.is_some() {
                self.out.finish();
                self.err.finish();
            }
            let (out, err) = (self.stdout(), self.stderr());
            if out.contains(text) || err.contains(text) {
                return Ok(());
            }
            if let Some(status) = ended {
                anyhow::bail!("ended ({status}) without {text:?}:\n{out}{err}");
            }
            anyhow::ensure!(Instant::now() < end, "no {text:?} within {limit:?}:\n{out}{err}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the time is over; the program is then killed.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.out.finish();
                self.err.finish();
                return Ok(status);
            }
            if Instant::now() >= end {
                self.kill();
                anyhow::bail!("still running after {limit:?}:\n{}{}", self.stdout(), self.stderr());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal by number, e.g. 15 for SIGTERM.
    ///
    /// # Errors
    /// When the program has ended already.
    pub fn signal(&self, signal: i32) -> anyhow::Result<()> {
        let signal = rustix::process::Signal::from_named_raw(signal).context("no such signal")?;
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal)?;
        Ok(())
    }

    /// Kills and reaps it at once.
    pub fn kill(&mut self) {
        // Both fail only when the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The text of one pipe, read by a thread of its own.
#[derive(Debug)]
struct Collected {
    text: Arc<Mutex<Vec<u8>>>,
    /// To look whether something is still to be read.
    pipe: Option<OwnedFd>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(pipe: Option<impl Read + AsFd + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let look = pipe.as_ref().and_then(|pipe| pipe.as_fd().try_clone_to_owned().ok());
        let reader = pipe.map(|mut pipe| {
            let text = Arc::clone(&text);
            std::thread::spawn(move || {
                let mut buf = [0u8; 4096];
                while let Ok(n) = pipe.read(&mut buf) {
                    if n == 0 {
                        break;
                    }
                    if let Ok(mut text) = text.lock() {
                        text.extend_from_slice(buf.get(..n).unwrap_or_default());
                    }
                }
            })
        });
        Self { text, pipe: look, reader }
    }

    fn text(&self) -> String {
        self.text.lock().map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// Waits until everything that was printed has been read. A program that left a child in the background with
    /// the pipe open would keep us forever: half a second without news is all it gets. On a busy machine our own
    /// reader may be late: what is in the pipe is waited for.
    fn finish(&mut self) {
        let last = Instant::now() + Duration::from_secs(30);
        let mut end = Instant::now() + Duration::from_millis(500);
        while let Some(reader) = &self.reader {
            let waits = |pipe: &OwnedFd| rustix::io::ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0);
            if self.pipe.as_ref().is_some_and(waits) {
                end = (Instant::now() + Duration::from_millis(500)).min(last);
            }
            if reader.is_finished() || Instant::now() >= end {
                self.reader = None;
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_status_come_back() {
        let done = run(&mut sh("echo a; echo b >&2; exit 3"), Duration::from_secs(5)).unwrap();
        assert_eq!((done.status.code(), &*done.stdout, &*done.stderr), (Some(3), "a\n", "b\n"));
        assert!(done.success().is_err());
    }

    #[test]
    fn time_is_limited() {
        let start = Instant::now();
        assert!(run(&mut sh("exec sleep 30"), Duration::from_millis(100)).is_err());
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_background_child_does_not_hold_us() {
        let done = run(&mut sh("sleep 20 & echo $!"), Duration::from_secs(10)).unwrap();
        let pid: i32 = done.stdout.trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn text_is_waited_for() {
        let mut running = Running::start(&mut sh("sleep 0.1; echo ready; exec sleep 20")).unwrap();
        running.wait_for_text("ready", Duration::from_secs(5)).unwrap();
        running.signal(15).unwrap();
        assert!(!running.wait(Duration::from_secs(5)).unwrap().success());
    }
}
