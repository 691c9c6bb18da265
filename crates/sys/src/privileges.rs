//! Giving up root: user, group and capabilities of **every** thread.
//!
//! ```text
//!   give_up ──▶ a real-time signal to each thread ──▶ in its handler: groups, group, user, capabilities
//!        ◀── count of those that are done; again, until no thread is new
//! ```
//!
//! The system knows these rights per thread. The C library's `setuid` brings all threads into line, but nothing does
//! so for capabilities, which a process that goes on configuring a network must keep. So each thread is interrupted
//! once and does all of it by itself. Source: capabilities(7), signal-safety(7), nptl(7).

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// A user of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
}

/// What to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target {
    /// This user; with it every capability goes but those that are kept.
    pub uid: Option<u32>,
    /// This group alone.
    pub gid: Option<u32>,
    /// Keep the right to bind ports below 1024, beside the right to configure the network, which is kept always.
    pub low_ports: bool,
    /// Keep the right to lock memory, after [`lock_memory`]: memory that is needed later is locked, too.
    pub locked_memory: bool,
}

/// Looks a user up.
///
/// # Errors
/// `NotFound`, or what the system's database said.
pub fn user(name: &str) -> io::Result<User> {
    let name = CString::new(name)?;
    let mut entry = MaybeUninit::<libc::passwd>::zeroed();
    let mut found = std::ptr::null_mut();
    let mut text = vec![0; 64 * 1024];
    // SAFETY: all pointers are to live memory of the sizes given; `name` ends with a NUL.
    let status = unsafe {
        libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), text.as_mut_ptr(), text.len(), &raw mut found)
    };
    if found.is_null() {
        return Err(not_found(status));
    }
    // SAFETY: it was zeroed, which is a valid value, and then filled.
    let entry = unsafe { entry.assume_init() };
    Ok(User { uid: entry.pw_uid, gid: entry.pw_gid })
}

/// Looks a group up.
///
/// # Errors
/// As [`user`].
pub fn group(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    let mut entry = MaybeUninit::<libc::group>::zeroed();
    let mut found = std::ptr::null_mut();
    let mut text = vec![0; 256 * 1024];
    // SAFETY: all pointers are to live memory of the sizes given; `name` ends with a NUL.
    let status = unsafe {
        libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), text.as_mut_ptr(), text.len(), &raw mut found)
    };
    if found.is_null() {
        return Err(not_found(status));
    }
    // SAFETY: it was zeroed, which is a valid value, and then filled.
    let entry = unsafe { entry.assume_init() };
    Ok(entry.gr_gid)
}

fn not_found(status: i32) -> io::Error {
    match status {
        0 => io::Error::new(io::ErrorKind::NotFound, "no such name"),
        error => io::Error::from_raw_os_error(error),
    }
}

/// Whether this process could configure a network now, and set other rights: root, or the capabilities by themselves.
pub fn may_configure_network() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

/// Locks the process into a directory, for all threads.
///
/// # Errors
/// What the system said.
pub fn lock_into(directory: &str) -> io::Result<()> {
    rustix::process::chroot(directory)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Keeps all memory of the process, now and later, out of the swap space. The limit on such memory is lifted first,
/// where that is allowed.
///
/// # Errors
/// What the system said.
pub fn lock_memory() -> io::Result<()> {
    let all = Rlimit { current: None, maximum: None };
    // Without the right to it the limit stays as it is, and the call below tells whether it is enough.
    let _ = rustix::process::setrlimit(Resource::Memlock, all);
    // SAFETY: the call takes flags only.
    let status = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the number of descriptors that may be open to what the system allows this process; returns it.
pub fn raise_open_files() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => limit.current.unwrap_or(u64::MAX),
    }
}

/// The list of this process' threads; open it before [`lock_into`], which may hide it.
#[derive(Debug)]
pub struct Threads(OwnedFd);

impl Threads {
    /// Opens the list.
    ///
    /// # Errors
    /// Without /proc.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/proc/self/task", flags, Mode::empty())?))
    }

    fn ids(&self) -> io::Result<Vec<libc::pid_t>> {
        let mut dir = rustix::fs::Dir::read_from(&self.0)?;
        dir.rewind();
        let mut ids = Vec::new();
        while let Some(entry) = dir.read() {
            if let Some(id) = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok()) {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}

const UNSET: u32 = u32::MAX;

/// What the handler does; written while no signal is under way.
static UID: AtomicU32 = AtomicU32::new(UNSET);
static GID: AtomicU32 = AtomicU32::new(UNSET);
static KEPT: AtomicU64 = AtomicU64::new(0);
static RUNNING: AtomicBool = AtomicBool::new(false);
static DONE: AtomicU32 = AtomicU32::new(0);
static ERROR: AtomicI32 = AtomicI32::new(0);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long a thread may take to be interrupted.
const PATIENCE: Duration = Duration::from_secs(5);

/// Changes every thread of this process. There is no way back.
///
/// # Errors
/// What the system said; the process is then in no state to go on.
pub fn give_up(target: &Target, threads: &Threads) -> io::Result<()> {
    let _one = ONE_AT_A_TIME.lock();
    let mut kept = CapabilitySet::NET_ADMIN;
    kept.set(CapabilitySet::NET_BIND_SERVICE, target.low_ports);
    kept.set(CapabilitySet::IPC_LOCK, target.locked_memory);
    // Nobody can keep what they do not have.
    kept &= rustix::thread::capabilities(None)?.permitted;
    UID.store(target.uid.unwrap_or(UNSET), Ordering::SeqCst);
    GID.store(target.gid.unwrap_or(UNSET), Ordering::SeqCst);
    KEPT.store(kept.bits(), Ordering::SeqCst);
    ERROR.store(0, Ordering::SeqCst);
    RUNNING.store(true, Ordering::SeqCst);
    let signal = libc::SIGRTMIN() + 7;
    let former = install(signal)?;
    let outcome = interrupt_all(signal, threads);
    RUNNING.store(false, Ordering::SeqCst);
    restore(signal, &former)?;
    outcome
}

fn interrupt_all(signal: libc::c_int, threads: &Threads) -> io::Result<()> {
    let mut done = Vec::new();
    loop {
        let new: Vec<_> = threads.ids()?.into_iter().filter(|id| !done.contains(id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for id in new {
            interrupt(signal, id)?;
            match ERROR.load(Ordering::SeqCst) {
                0 => done.push(id),
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        }
    }
}

fn interrupt(signal: libc::c_int, id: libc::pid_t) -> io::Result<()> {
    let before = DONE.load(Ordering::SeqCst);
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: the call takes numbers only; the signal's handler is installed.
    let status = unsafe { libc::syscall(libc::SYS_tgkill, process, id, signal) };
    if status != 0 {
        let error = io::Error::last_os_error();
        // The thread has ended meanwhile.
        return if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) };
    }
    let start = Instant::now();
    while DONE.load(Ordering::SeqCst) == before {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("thread {id} does not react")));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}

fn install(signal: libc::c_int) -> io::Result<libc::sigaction> {
    // SAFETY: all zero is a valid `sigaction`: the default action, nothing blocked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: all zero is a valid `sigaction`, which the next call fills.
    let mut former: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both point to live values; the handler does only what a handler may.
    let status = unsafe { libc::sigaction(signal, &raw const action, &raw mut former) };
    if status == 0 { Ok(former) } else { Err(io::Error::last_os_error()) }
}

fn restore(signal: libc::c_int, former: &libc::sigaction) -> io::Result<()> {
    // SAFETY: it points to a live value that the system gave; the other may be null.
    let status = unsafe { libc::sigaction(signal, std::ptr::from_ref(former), std::ptr::null_mut()) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs in the thread that is to change: system calls and atomics only, no memory is allocated.
extern "C" fn on_signal(_signal: libc::c_int) {
    if !RUNNING.load(Ordering::SeqCst) {
        return;
    }
    if let Err(error) = change_this_thread() {
        ERROR.store(error.raw_os_error(), Ordering::SeqCst);
    }
    DONE.fetch_add(1, Ordering::SeqCst);
}

fn change_this_thread() -> rustix::io::Result<()> {
    let number = |place: &AtomicU32| Some(place.load(Ordering::SeqCst)).filter(|number| *number != UNSET);
    let (uid, gid) = (number(&UID), number(&GID));
    // A thread that was started by one that has changed is as it should be.
    if uid.is_some_and(|uid| uid != 0 && rustix::process::geteuid().as_raw() == uid) && !has_more_rights() {
        return Ok(());
    }
    if let Some(gid) = gid.map(Gid::from_raw) {
        rustix::thread::set_thread_groups(&[gid])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    } else if uid.is_some() {
        rustix::thread::set_thread_groups(&[])?;
    }
    let Some(uid) = uid.map(Uid::from_raw) else { return Ok(()) };
    rustix::thread::set_keep_capabilities(true)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let kept = CapabilitySet::from_bits_retain(KEPT.load(Ordering::SeqCst));
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::set_keep_capabilities(false)
}

/// Whether this thread has any right beyond those that are kept.
fn has_more_rights() -> bool {
    let kept = CapabilitySet::from_bits_retain(KEPT.load(Ordering::SeqCst));
    rustix::thread::capabilities(None).is_ok_and(|sets| !kept.contains(sets.permitted))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use super::*;

    #[test]
    fn names_are_looked_up() {
        assert_eq!(user("root").unwrap(), User { uid: 0, gid: 0 });
        assert_eq!(group("root").unwrap(), 0);
        assert_eq!(user("nobody-has-this-name").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(group("nobody-has-this-name").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(user("a\0b").is_err());
    }

    /// Runs a test of this file that spoils its process in a process of its own.
    fn alone(name: &str) {
        let program = std::env::current_exe().unwrap();
        let name = format!("privileges::tests::{name}");
        let output =
            Command::new(program).args(["--exact", &name, "--ignored", "--nocapture"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
    }

    #[test]
    fn every_thread_gives_up_root() {
        alone("as_nobody");
    }

    #[test]
    fn memory_stays_locked_without_root() {
        alone("locked_memory");
    }

    #[test]
    fn a_directory_can_become_the_root() {
        alone("in_a_directory");
    }

    fn become_nobody(threads: &Threads, locked_memory: bool) {
        let nobody = user("nobody").unwrap();
        let target = Target { uid: Some(nobody.uid), gid: Some(nobody.gid), low_ports: false, locked_memory };
        give_up(&target, threads).unwrap();
        // Once more changes nothing, and is no error.
        give_up(&target, threads).unwrap();
    }

    fn rights() -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for thread in std::fs::read_dir("/proc/self/task").unwrap() {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let lines = status.lines().filter(|line| {
                ["Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapInh:"]
                    .iter()
                    .any(|name| line.starts_with(name))
            });
            all.insert(lines.map(str::trim_end).collect::<Vec<_>>().join("\n"));
        }
        all
    }

    #[test]
    #[ignore = "changes its process: `every_thread_gives_up_root` runs it alone"]
    fn as_nobody() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let _ = wait.lock().unwrap().recv();
                });
            }
            become_nobody(&Threads::open().unwrap(), false);
            let rights = rights();
            let nobody = user("nobody").unwrap();
            let expected = format!(
                "Uid:\t{0}\t{0}\t{0}\t{0}\nGid:\t{1}\t{1}\t{1}\t{1}\nGroups:\t{1}\nCapInh:\t0000000000000000\n\
                 CapPrm:\t0000000000001000\nCapEff:\t0000000000001000",
                nobody.uid, nobody.gid
            );
            assert_eq!(rights, BTreeSet::from([expected]));
            assert!(may_configure_network());
            // A thread that is made now has no more.
            scope.spawn(|| assert!(std::fs::read("/etc/shadow").is_err())).join().unwrap();
            drop(release);
        });
    }

    #[test]
    #[ignore = "changes its process: `memory_stays_locked_without_root` runs it alone"]
    fn locked_memory() {
        lock_memory().unwrap();
        become_nobody(&Threads::open().unwrap(), true);
        // A new thread's stack is locked, too, and still allowed.
        std::thread::spawn(|| drop(vec![1_u8; 32 << 20])).join().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim().to_owned();
        assert_ne!(locked, "0 kB");
        assert!(raise_open_files() >= 256);
    }

    #[test]
    #[ignore = "changes its process: `a_directory_can_become_the_root` runs it alone"]
    fn in_a_directory() {
        let directory = std::env::temp_dir().join(format!("ovpn-chroot-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("here"), "").unwrap();
        let threads = Threads::open().unwrap();
        lock_into(directory.to_str().unwrap()).unwrap();
        let seen: Vec<_> = std::fs::read_dir("/").unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(seen, ["here"]);
        std::fs::remove_file("/here").unwrap();
        give_up(&Target { gid: Some(65534), ..Target::default() }, &threads).unwrap();
        let _ = std::fs::remove_dir(directory);
    }
}
