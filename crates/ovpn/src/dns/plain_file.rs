//! `/etc/resolv.conf`: other content while the tunnel is up, and what was there before once it is down.
//!
//! The file is opened while that is allowed and stays open, so that a process that gave up root, or went into a `chroot`,
//! still gives it back.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file that was opened last, for a next tunnel of the same process.
static KEPT: Mutex<Option<(PathBuf, Arc<File>)>> = Mutex::new(None);

/// A file with our content in it.
#[derive(Debug)]
pub(super) struct PlainFile {
    path: PathBuf,
    file: Arc<File>,
    /// `None`: there was no file.
    before: Option<Vec<u8>>,
    ours: Vec<u8>,
}

impl PlainFile {
    /// Replaces the content of a file, or makes it.
    ///
    /// # Errors
    /// What the system said; nothing is then changed.
    pub(super) fn replace(path: &Path, ours: Vec<u8>) -> io::Result<Self> {
        let existed = path.exists();
        let file = open(path)?;
        let before = (existed || file.metadata()?.len() > 0).then(|| read(&file)).transpose()?;
        let this = Self { path: path.to_owned(), file, before, ours };
        write(&this.file, &this.ours)?;
        Ok(this)
    }

    /// Gives the former content back; `false` where somebody else has changed the file meanwhile, whose content stays.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn restore(self) -> io::Result<bool> {
        if !is_in_place(&self.path, &self.file) || read(&self.file)? != self.ours {
            return Ok(false);
        }
        match &self.before {
            Some(before) => write(&self.file, before)?,
            // Without the right to remove it, an empty one says the same.
            None => std::fs::remove_file(&self.path).or_else(|_| write(&self.file, b""))?,
        }
        Ok(true)
    }
}

fn open(path: &Path) -> io::Result<Arc<File>> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o644).open(path);
    match (options, &*kept) {
        (Ok(file), _) => {
            let file = Arc::new(file);
            *kept = Some((path.to_owned(), Arc::clone(&file)));
            Ok(file)
        }
        (Err(_), Some((known, file))) if known == path && is_in_place(path, file) => Ok(Arc::clone(file)),
        (Err(error), _) => Err(error),
    }
}

/// Whether the path leads to this file, as far as that can be seen (from inside a `chroot` it cannot).
fn is_in_place(path: &Path, file: &File) -> bool {
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(ours)) => same(&there, &ours),
        (Err(_), Ok(ours)) => ours.nlink() > 0,
        _ => false,
    }
}

fn read(mut file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn write(mut file: &File, content: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ovpn-resolv-{name}-{}", std::process::id()))
    }

    #[test]
    fn the_file_comes_back_as_it_was_unless_someone_else_wrote_it() {
        let file = path("back");
        std::fs::write(&file, "nameserver 192.0.2.53\n# longer than ours\n").unwrap();
        let before = std::fs::read(&file).unwrap();
        let replaced = || PlainFile::replace(&file, b"ours".to_vec()).unwrap();
        let plain = replaced();
        assert_eq!(std::fs::read(&file).unwrap(), b"ours");
        assert!(plain.restore().unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), before);
        let plain = replaced();
        std::fs::write(&file, "theirs").unwrap();
        assert!(!plain.restore().unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), b"theirs");
        let plain = replaced();
        let other = path("other");
        std::fs::write(&other, "ours").unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert!(!plain.restore().unwrap(), "another file of the same content stands there");
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_file_that_was_not_there_goes_again() {
        let file = path("new");
        let plain = PlainFile::replace(&file, b"ours".to_vec()).unwrap();
        assert!(plain.restore().unwrap());
        assert!(!file.exists());
    }
}
