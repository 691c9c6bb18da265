//! Where engines that are processes of their own are found.
//!
//! ```text
//!   /run/ovpn/<inode of the network namespace>/<interface>.sock
//! ```
//!
//! A file system is seen from several network namespaces, an interface name is not: hence the namespace in the path.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

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

/// Makes the folder of a socket, accessible to its owner only.
///
/// # Errors
/// Without the right to do so.
pub(crate) fn make_dir(socket: &Path) -> io::Result<()> {
    std::fs::create_dir_all(RUN_DIR)?;
    match socket.parent().map(|dir| std::fs::DirBuilder::new().mode(0o700).create(dir)) {
        Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The control sockets of a folder.
pub(crate) fn sockets(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX)).collect()
}

/// Removes a socket, and its folder where it was the last.
pub(crate) fn remove(socket: &Path) {
    // Somebody else may have removed them; a folder in use stays.
    let _ = std::fs::remove_file(socket);
    let _ = socket.parent().map(std::fs::remove_dir);
}
