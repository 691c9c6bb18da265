//! Waiting for many descriptors at once (epoll, level-triggered).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
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
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
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

/// Waits until `fd` takes data, or `timeout` has passed; whether it does.
pub fn wait_writable(fd: impl AsFd, timeout: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    matches!(poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&timeout)), Ok(1))
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
        poller.remove(&b).unwrap();
        poller.wait(&mut ready, Some(Duration::from_millis(1))).unwrap();
        assert_eq!(ready, []);
    }
}
