//! Files that are there whole or not at all.
//!
//! The content goes into a new file beside the target, reaches the disk, and only then takes the target's name; what is
//! interrupted leaves the old file as it was.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes `content` to `path` with these permissions, replacing what is there.
///
/// # Errors
/// What creating, writing or renaming meets; nothing is left behind then.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = directory.join(format!(".{name}.{}.tmp", std::process::id()));
    let result = fill(&temporary, content, mode).and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
        return result;
    }
    // The name itself must survive a loss of power too.
    File::open(directory)?.sync_all()
}

fn fill(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // A file of this name can only be what an earlier process of this number left.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_file_is_replaced_whole() {
        let dir = std::env::temp_dir().join(format!("ovpn-atomic-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("directory");
        let path = dir.join("key");
        write(&path, b"one", 0o600).expect("written");
        write(&path, b"two", 0o600).expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&dir).expect("list").count(), 1, "nothing is left beside it");
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn a_failure_leaves_nothing() {
        assert!(write(Path::new("/nonexistent-directory/x"), b"x", 0o600).is_err());
        let dir = std::env::temp_dir().join(format!("ovpn-atomic-failure-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("taken/by-a-folder")).expect("directory");
        assert!(write(&dir.join("taken"), b"x", 0o600).is_err(), "a folder is not replaced by a file");
        assert_eq!(std::fs::read_dir(&dir).expect("list").count(), 1, "nothing is left beside it");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
