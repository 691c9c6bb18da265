//! Noticing that files appear in a folder (inotify).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Watches one folder, which it makes, for its owner only, where it is missing; also again, when somebody removes it.
#[derive(Debug)]
pub struct DirWatch {
    fd: OwnedFd,
    path: PathBuf,
}

impl DirWatch {
    /// Begins to watch: read the folder after this, and nothing is missed.
    ///
    /// # Errors
    /// When the folder cannot be made or watched.
    pub fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let this = Self { fd, path: path.into() };
        this.watch()?;
        Ok(this)
    }

    /// Forgets what happened so far: read the folder after this, and nothing is missed.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn clear(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.watch()
    }

    fn watch(&self) -> io::Result<()> {
        if let Some(above) = self.path.parent() {
            std::fs::create_dir_all(above)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let what = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&self.fd, &self.path, what)?;
        Ok(())
    }
}

/// Readable when something has happened since [`DirWatch::clear`].
impl AsFd for DirWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Interest, Poller};
    use std::time::Duration;

    #[test]
    fn appearing_files_are_noticed_also_after_the_folder_was_removed() {
        let dir = std::env::temp_dir().join(format!("ovpn-dir-watch-{}", std::process::id()));
        let watch = DirWatch::new(&dir).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&watch, 1, Interest::Read).unwrap();
        let mut ready = Vec::new();
        let mut happened = || {
            poller.wait(&mut ready, Some(Duration::from_millis(50))).unwrap();
            watch.clear().unwrap();
            !ready.is_empty()
        };
        assert!(!happened());
        std::fs::write(dir.join("a"), "").unwrap();
        assert!(happened());
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(happened());
        assert!(dir.is_dir());
        std::fs::write(dir.join("b"), "").unwrap();
        assert!(happened());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
