//! Waiting for descriptors: many of them (epoll, level-triggered), or a few busy ones (poll).
//!
//! A descriptor in an epoll set calls back for everything that arrives, also while nobody waits; with thousands of
//! datagrams a wake-up that costs. [`wait_any`] leaves nothing behind: it is for the few that are always busy.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Readable.
    Read,
    /// Readable or writable.
    ReadWrite,
    /// Writable.
    Write,
}

/// A descriptor that is ready. Errors and hang-ups show as readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The token given when it was added.
    pub token: u64,
    /// Reading does not block.
    pub readable: bool,
    /// Writing does not block.
    pub writable: bool,
}

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

/// At most this many descriptors are reported by one wait.
pub const MAX_READY: usize = 64;

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Adds a descriptor; it leaves the set when its last copy is closed, or with [`Poller::remove`].
    ///
    /// # Errors
    /// What the kernel said, e.g. for one that is there already.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Changes what a descriptor is waited for.
    ///
    /// # Errors
    /// What the kernel said, e.g. for one that is not there.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Takes a descriptor out.
    ///
    /// # Errors
    /// What the kernel said, e.g. for one that is not there.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits until something is ready or `timeout` has passed (`None`: for ever), and puts it into `ready`. A signal
    /// ends the wait with nothing ready.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout.map(timespec);
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; MAX_READY];
        let (events, _) = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok(some) => some,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let readable = epoll::EventFlags::IN
            | epoll::EventFlags::ERR
            | epoll::EventFlags::HUP
            | epoll::EventFlags::RDHUP;
        ready.extend(events.iter().map(|&epoll::Event { flags, data }| Ready {
            token: data.u64(),
            readable: flags.intersects(readable),
            writable: flags.contains(epoll::EventFlags::OUT),
        }));
        Ok(())
    }
}

/// The most descriptors [`wait_any`] takes.
pub const MAX_ANY: usize = 16;

/// Waits until one of the first 16 `fds` is readable (or has failed) or `timeout` has passed (`None`: for ever). Bit `n`
/// of the result stands for `fds[n]`. A signal ends the wait with nothing ready.
///
/// # Errors
/// What the kernel said.
pub fn wait_any(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<u32> {
    let Some(first) = fds.first() else { return Ok(0) };
    let mut polled = [const { None }; MAX_ANY];
    for (slot, fd) in polled.iter_mut().zip(fds) {
        *slot = Some(PollFd::new(fd, PollFlags::IN));
    }
    let mut polled = polled.map(|slot| slot.unwrap_or_else(|| PollFd::new(first, PollFlags::empty())));
    let used = polled.get_mut(..fds.len().min(MAX_ANY)).unwrap_or_default();
    let timeout = timeout.map(timespec);
    match poll(used, timeout.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(0),
        Err(e) => return Err(e.into()),
    }
    let ready = |(n, fd): (usize, &PollFd<'_>)| u32::from(!fd.revents().is_empty()) << n;
    Ok(used.iter().enumerate().map(ready).sum())
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// Waits until `fd` takes data, or `timeout` has passed; whether it does.
pub fn wait_writable(fd: impl AsFd, timeout: Duration) -> bool {
    matches!(poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&timespec(timeout))), Ok(1))
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Read => epoll::EventFlags::IN,
            Self::Write => epoll::EventFlags::OUT,
            Self::ReadWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wake::Wake;

    #[test]
    fn it_tells_which_is_ready() {
        let poller = Poller::new().unwrap();
        let (a, b) = (Wake::new().unwrap(), Wake::new().unwrap());
        poller.add(&a, 1, Interest::Read).unwrap();
        poller.add(&b, 2, Interest::Read).unwrap();
        assert!(poller.add(&b, 2, Interest::Read).is_err());
        let mut ready = Vec::new();
        poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert_eq!(ready, []);
        b.set();
        poller.wait(&mut ready, None).unwrap();
        assert_eq!(ready, [Ready { token: 2, readable: true, writable: false }]);
        poller.modify(&b, 3, Interest::ReadWrite).unwrap();
        poller.wait(&mut ready, None).unwrap();
        assert_eq!(ready, [Ready { token: 3, readable: true, writable: true }]);
        // The set is readable itself.
        assert_eq!(wait_any(&[a.as_fd(), poller.as_fd(), b.as_fd()], None).unwrap(), 0b110);
        poller.remove(&b).unwrap();
        assert_eq!(wait_any(&[a.as_fd(), poller.as_fd()], Some(Duration::from_millis(1))).unwrap(), 0);
        assert_eq!(wait_any(&[], None).unwrap(), 0);
        assert!(wait_writable(&b, Duration::ZERO));
        poller.wait(&mut ready, Some(Duration::from_millis(1))).unwrap();
        assert_eq!(ready, []);
    }
}
