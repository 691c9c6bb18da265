//! A folder that goes away with its guard.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A fresh folder, readable only by its owner, removed with everything in it when dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes a folder whose name starts with `ovpn-<pid>-<label>`.
    ///
    /// # Errors
    /// When the system's folder for temporary files is not writable.
    pub fn new(label: &str) -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ovpn-{}-{label}-{number}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one file into it and returns the file's path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A folder that is already gone is what we want; any other failure leaves a file in /tmp, no more.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_away_with_its_files() {
        let dir = TempDir::new("t").unwrap();
        let file = dir.write("a", "b").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "b");
        let path = dir.path().to_owned();
        drop(dir);
        assert!(!path.exists());
    }
}
