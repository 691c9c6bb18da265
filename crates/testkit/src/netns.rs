//! Network namespaces of a test's own.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Output, run};

const SHORT: Duration = Duration::from_secs(10);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A fresh network namespace with `lo` up. Dropping it kills what still runs inside and removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace named `ovpn-<pid>-<number>-<label>`.
    ///
    /// # Errors
    /// Without the right to make namespaces (root).
    pub fn new(label: &str) -> anyhow::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ovpn-{}-{number}-{label}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]), SHORT)?
            .success()
            .context("cannot make a network namespace (root is needed)")?;
        let this = Self { name };
        this.ip("link set lo up")?;
        // IPv6 addresses are usable at once, not after duplicate address detection.
        this.run("sysctl", &["-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0"])?;
        Ok(this)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a program inside to its end and returns its standard output.
    ///
    /// # Errors
    /// When it fails or takes longer than 10 s.
    pub fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        self.try_run(program, args, SHORT)?
            .success()
            .with_context(|| format!("{program} {} in {}", args.join(" "), self.name))
    }

    /// Runs a program inside to its end, at most for `limit`, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started or takes too long.
    pub fn try_run(&self, program: &str, args: &[&str], limit: Duration) -> anyhow::Result<Output> {
        run(self.command(program).args(args), limit)
    }

    /// Gives programs that are started inside from now on an `/etc/resolv.conf` of their own; its path outside.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn resolv_conf(&self, content: &str) -> anyhow::Result<PathBuf> {
        let folder = self.own_etc();
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("resolv.conf");
        std::fs::write(&path, content)?;
        Ok(path)
    }

    /// What `ip netns exec` puts over `/etc`.
    fn own_etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    /// Runs `ip` inside; `arguments` are split at white space.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, arguments: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        run(Command::new("ip").args(["-n", &self.name]).args(&words), SHORT)?
            .success()
            .with_context(|| format!("ip {arguments} in {}", self.name))
    }

    /// Calls `f` on a new thread inside the namespace: sockets and devices it makes, and threads it starts, belong
    /// there.
    ///
    /// # Errors
    /// When the namespace cannot be entered or `f` panics.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let handle = File::open(format!("/run/netns/{}", self.name))?;
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))?;
                    anyhow::Ok(f())
                })
                .join()
                .map_err(|_| anyhow::anyhow!("panicked inside {}", self.name))?
        })
    }

    /// The processes inside.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn pids(&self) -> anyhow::Result<Vec<i32>> {
        let text = run(Command::new("ip").args(["netns", "pids", &self.name]), SHORT)?.success()?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// User and system time of the processes inside so far, in steps of 10 ms (proc(5), `/proc/pid/stat`).
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let ticks = |pid: &i32| -> Option<u64> {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name before may hold anything; user and system time are the 12th and 13th field after it.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        };
        Ok(Duration::from_millis(self.pids()?.iter().filter_map(ticks).sum::<u64>() * 10))
    }

    /// Kills everything inside and waits until it is gone. A test's own threads inside (see [`enter`](Self::enter))
    /// are spared.
    fn kill_all(&self) {
        let end = Instant::now() + Duration::from_secs(5);
        let own = rustix::process::getpid();
        while Instant::now() < end {
            let Ok(pids) = self.pids() else { return };
            let others: Vec<_> = pids
                .into_iter()
                .filter_map(rustix::process::Pid::from_raw)
                .filter(|pid| *pid != own)
                .collect();
            if others.is_empty() {
                return;
            }
            for pid in others {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.kill_all();
        // Nothing to be done when it fails: the name is unique, so nobody else is hurt.
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]), SHORT);
        // Mostly there is none.
        let _ = std::fs::remove_dir_all(self.own_etc());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Running;

    #[test]
    fn it_is_separate_and_goes_away() {
        let ns = Netns::new("t").unwrap();
        let name = ns.name().to_owned();
        assert!(ns.ip("-o link show").unwrap().lines().count() == 1);
        let inside = ns.enter(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        assert_ne!(inside, std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        let mut sleeper = Running::start(ns.command("sleep").arg("60")).unwrap();
        // It enters the namespace by itself; before that nobody finds it there.
        crate::wait_for("the program inside", Duration::from_secs(10), || {
            ns.pids().is_ok_and(|pids| !pids.is_empty()).then_some(())
        })
        .unwrap();
        drop(ns);
        assert!(!Path::new("/run/netns").join(name).exists());
        assert!(!sleeper.wait(Duration::from_secs(10)).unwrap().success());
    }
}
