//! Network namespaces: which one a thread or socket is in, and doing something in another.
//!
//! A namespace belongs to a thread. What is done elsewhere is done by a thread made for it, so that no other thread
//! ever changes its place.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

const SIOCGSKNS: libc::Ioctl = 0x894C;

/// The namespace of the calling thread.
///
/// # Errors
/// What the system says.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// The namespace of a socket.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN in it.
pub fn of_socket(socket: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open for the call, and this request takes no argument.
    let fd = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCGSKNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that this is a descriptor new to us that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether two descriptors are of one namespace.
///
/// # Errors
/// What the system says.
pub fn same(one: impl AsFd, other: impl AsFd) -> io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok(one.st_dev == other.st_dev && one.st_ino == other.st_ino)
}

/// Runs `task` in another namespace.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN.
///
/// # Panics
/// With the panic of `task`.
pub fn within<T: Send>(namespace: impl AsFd, task: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = namespace.as_fd();
    on_thread(move || {
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(task())
    })
}

/// Runs `task` in a new, empty namespace, which ends with the last of its users.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN.
///
/// # Panics
/// With the panic of `task`.
pub fn in_new<T: Send>(task: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(move || {
        // SAFETY: only the network namespace of this thread changes, on which no memory safety rests.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        Ok(task())
    })
}

fn on_thread<T: Send>(task: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| match scope.spawn(task).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_and_a_socket_stays() {
        let home = current().unwrap();
        let (there, socket) =
            in_new(|| (current().unwrap(), std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap())).unwrap();
        assert!(!same(&home, &there).unwrap());
        assert!(same(&home, current().unwrap()).unwrap());
        assert!(same(&there, of_socket(&socket).unwrap()).unwrap());
        assert!(within(&there, || same(&there, current().unwrap()).unwrap()).unwrap());
        assert!(of_socket(&home).is_err(), "a file is no socket");
    }
}
