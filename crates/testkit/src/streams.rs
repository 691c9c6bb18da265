//! Many TCP streams at once, and what they carry.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ovpn_sys::poll::{Interest, Poller};
use rustix::net::sockopt;

use crate::Netns;

const BLOCK: usize = 128 << 10;
/// Slow starts are over.
const SETTLED: Duration = Duration::from_secs(1);
/// How long a connection may take.
const CONNECTED: Duration = Duration::from_secs(100);

/// TCP streams from any namespaces to one. Closing them loses what is under way.
#[derive(Debug)]
pub struct Streams {
    listener: TcpListener,
    given: Vec<TcpStream>,
    taken: Vec<TcpStream>,
}

/// What streams carried.
#[derive(Debug, Clone, Copy)]
pub struct Carried {
    /// What arrived, Mbit/s.
    pub megabits: f64,
    /// Processor time of whom it was asked for, seconds for each gigabyte.
    pub cost: f64,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} Mbit/s ({:.2} s/GB)", self.megabits, self.cost)
    }
}

impl Streams {
    /// None yet; they will end in `to`, at any of its IPv4 addresses.
    ///
    /// # Errors
    /// What the system said.
    pub fn to(to: &Netns) -> Result<Self> {
        let listener = to.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        Ok(Self { listener, given: Vec::new(), taken: Vec::new() })
    }

    /// Connects `count` more from `from` to `address`.
    ///
    /// # Errors
    /// When the address is not reached.
    pub fn add(&mut self, from: &Netns, address: Ipv4Addr, count: u32) -> Result<()> {
        let address = SocketAddr::new(IpAddr::V4(address), self.listener.local_addr()?.port());
        for _ in 0..count {
            let given = from.enter(|| TcpStream::connect_timeout(&address, CONNECTED))??;
            let taken = self.listener.accept()?.0;
            for stream in [&given, &taken] {
                stream.set_nonblocking(true)?;
                // Otherwise the kernel tries for minutes to get what is under way to a namespace that is gone, and is short
                // of memory for others' streams, whose windows it then makes small.
                sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
            }
            self.given.push(given);
            self.taken.push(taken);
        }
        Ok(())
    }

    /// Gives each as much as it takes, and counts for `time` what arrives, after a second in which they settle.
    /// `processor_time` tells what somebody has used so far. One thread gives and one takes: a thread for each stream would
    /// be what bounds them.
    ///
    /// # Errors
    /// When nothing arrives; what the system or `processor_time` said.
    pub fn carry(self, time: Duration, processor_time: impl Fn() -> Result<Duration>) -> Result<Carried> {
        let (over, came) = (AtomicBool::new(false), AtomicU64::new(0));
        let block = vec![7; BLOCK];
        let mut room = vec![0; BLOCK];
        std::thread::scope(|scope| {
            let gives = scope.spawn(|| {
                each_ready(&self.given, Interest::Write, &over, |mut stream| {
                    let _ = stream.write(&block);
                })
            });
            let takes = scope.spawn(|| {
                each_ready(&self.taken, Interest::Read, &over, |mut stream| {
                    let len = stream.read(&mut room).unwrap_or(0);
                    came.fetch_add(len as u64, Ordering::Relaxed);
                })
            });
            let measured = (|| {
                std::thread::sleep(SETTLED);
                let (before, used, start) = (came.load(Ordering::Relaxed), processor_time()?, Instant::now());
                std::thread::sleep(time);
                let bytes = came.load(Ordering::Relaxed) - before;
                let (took, used) = (start.elapsed(), processor_time()?.saturating_sub(used));
                ensure!(bytes > 0, "nothing arrived in {time:?}");
                let bytes = bytes as f64;
                let megabits = bytes * 8e-6 / took.as_secs_f64();
                Ok(Carried { megabits, cost: used.as_secs_f64() / bytes * 1e9 })
            })();
            over.store(true, Ordering::Relaxed);
            for thread in [gives, takes] {
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            }
            measured
        })
    }
}

/// Calls `work` for each stream that is ready, until it is over.
fn each_ready(
    streams: &[TcpStream],
    interest: Interest,
    over: &AtomicBool,
    mut work: impl FnMut(&TcpStream),
) -> Result<()> {
    let poller = Poller::new()?;
    for (place, stream) in streams.iter().enumerate() {
        poller.add(stream, place as u64, interest)?;
    }
    let mut ready = Vec::new();
    while !over.load(Ordering::Relaxed) {
        poller.wait(&mut ready, Some(Duration::from_millis(100)))?;
        for ready in &ready {
            work(streams.get(ready.token as usize).context("no such stream")?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pair;

    #[test]
    fn streams_carry_and_leave_nothing_behind() {
        let pair = Pair::new("streams").unwrap();
        let mut streams = Streams::to(&pair.left).unwrap();
        streams.add(&pair.right, [10, 10, 1, 1].into(), 3).unwrap();
        let used = std::cell::Cell::new(Duration::ZERO);
        let a_second_more = || Ok(used.replace(used.get() + Duration::from_secs(1)));
        let carried = streams.carry(Duration::from_millis(200), a_second_more).unwrap();
        // One second was used for what came in 0.2 s or a little more.
        let gigabytes_per_second = carried.megabits / 8e3;
        let took = 1.0 / (carried.cost * gigabytes_per_second);
        assert!((0.19..5.0).contains(&took), "{carried}");
        for ns in [&pair.left, &pair.right] {
            assert_eq!(ns.run("ss", &["-Htan"]).unwrap(), "", "a connection is left");
        }
    }

    #[test]
    fn nothing_is_an_error() {
        let pair = Pair::new("nothing").unwrap();
        let streams = Streams::to(&pair.left).unwrap();
        assert!(streams.carry(Duration::ZERO, || Ok(Duration::ZERO)).is_err());
    }
}
