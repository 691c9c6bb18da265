//! Where engines that are processes of their own are found.
//!
//! ```text
//!   /run/ovpn/<inode of the network namespace>/<interface>.sock
//! ```
//!
//! A file system is seen from several network namespaces, an interface name is not: hence the namespace in the path.
//! An engine takes its socket and its folder with it. One that was killed cannot: whoever meets its traces removes
//! them, and every engine that starts or ends looks for such traces. The folder above is locked meanwhile, so that
//! nothing goes that somebody is just making.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ovpn_sys::seqpacket::{Listener, Seqpacket};

const RUN_DIR: &str = "/run/ovpn";
const SUFFIX: &str = "sock";

/// The folder of the calling thread's network namespace.
///
/// # Errors
/// Without `/proc`.
pub(crate) fn namespace_dir() -> io::Result<PathBuf> {
    let inode = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(Path::new(RUN_DIR).join(inode.to_string()))
}

/// The control socket of the engine that serves an interface.
///
/// # Errors
/// Without `/proc`.
pub(crate) fn socket(iface: &str) -> io::Result<PathBuf> {
    Ok(namespace_dir()?.join(format!("{iface}.{SUFFIX}")))
}

/// Listens on `socket`, in its folder, which is made and accessible to its owner only.
///
/// # Errors
/// `AddrInUse` where an engine listens there already; without the right to make folders.
pub(crate) fn listen(socket: &Path) -> io::Result<Listener> {
    std::fs::create_dir_all(RUN_DIR)?;
    let _lock = lock(Path::new(RUN_DIR))?;
    sweep(Path::new(RUN_DIR));
    if let Some(dir) = socket.parent() {
        make_dir(dir)?;
    }
    Listener::bind(socket)
}

/// Removes a socket, and with it what others left.
pub(crate) fn remove(socket: &Path) {
    let _lock = lock(Path::new(RUN_DIR));
    // Somebody else may have removed it.
    let _ = std::fs::remove_file(socket);
    sweep(Path::new(RUN_DIR));
}

/// Removes what engines left that were killed.
pub(crate) fn clean() {
    let _lock = lock(Path::new(RUN_DIR));
    sweep(Path::new(RUN_DIR));
}

/// The control sockets of a folder.
pub(crate) fn sockets(dir: &Path) -> Vec<PathBuf> {
    entries(dir).filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX)).collect()
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Until it is dropped, nobody else makes or removes anything below `run_dir`.
fn lock(run_dir: &Path) -> io::Result<File> {
    let dir = File::open(run_dir)?;
    dir.lock()?;
    Ok(dir)
}

/// Removes sockets that nobody listens on, and folders that are empty then. A folder that somebody watches is made
/// again by who watches it.
fn sweep(run_dir: &Path) {
    for dir in entries(run_dir) {
        // Also those that never got their name: they were made under this lock.
        for file in entries(&dir) {
            let socket = file.symlink_metadata().is_ok_and(|about| about.file_type().is_socket());
            let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            if socket && Seqpacket::connect(&file).is_err_and(refused) {
                let _ = std::fs::remove_file(file);
            }
        }
        // It stays where it is not empty.
        let _ = std::fs::remove_dir(dir);
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_listens_on_goes_and_the_rest_stays() {
        let run = std::env::temp_dir().join(format!("ovpn-run-{}", std::process::id()));
        let [live, dead, empty, other] = ["1", "2", "3", "4"].map(|name| run.join(name));
        std::fs::create_dir(&run).unwrap();
        for dir in [&live, &dead, &empty, &other] {
            make_dir(dir).unwrap();
            make_dir(dir).unwrap();
            assert_eq!(std::fs::metadata(dir).unwrap().mode() & 0o777, 0o700);
        }
        let listener = Listener::bind(&live.join("tun0.sock")).unwrap();
        drop(Listener::bind(&live.join("tun1.sock")).unwrap());
        drop(Listener::bind(&dead.join("tun0.sock")).unwrap());
        std::fs::write(other.join("note"), "").unwrap();
        let locked = lock(&run).unwrap();
        assert!(File::open(&run).unwrap().try_lock().is_err());
        drop(locked);
        sweep(&run);
        assert_eq!(sockets(&live), [live.join("tun0.sock")]);
        assert!(other.join("note").exists(), "not a socket: not ours to remove");
        assert!(!dead.exists() && !empty.exists());
        drop(listener);
        std::fs::remove_file(other.join("note")).unwrap();
        sweep(&run);
        assert_eq!(entries(&run).count(), 0);
        std::fs::remove_dir(&run).unwrap();
    }
}
