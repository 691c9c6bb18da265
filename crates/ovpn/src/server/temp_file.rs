//! Files that scripts read and write: made for one run, readable by us alone, gone afterwards.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ovpn_control::{Random as _, SystemRandom};

/// The most that is read of what a script wrote, bytes.
const MAX_READ: u64 = 256 * 1024;

/// A file that lives as long as this value.
#[derive(Debug)]
pub(crate) struct TempFile {
    path: PathBuf,
}

impl TempFile {
    /// Makes `openvpn_PREFIX_RANDOM.tmp` in `directory` (`tmp-dir`; `None`: the system's) with this content, mode 0600.
    ///
    /// # Errors
    /// When the directory does not take it.
    pub(crate) fn create(directory: Option<&str>, prefix: &str, content: &[u8]) -> io::Result<Self> {
        let directory = directory.map_or_else(std::env::temp_dir, PathBuf::from);
        let mut random = [0; 16];
        SystemRandom.fill(&mut random);
        let name = format!("openvpn_{prefix}_{:032x}.tmp", u128::from_be_bytes(random));
        let path = directory.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let file_and_name = Self { path };
        file.write_all(content)?;
        Ok(file_and_name)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds now; nothing where it cannot be read.
    pub(crate) fn read(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let read = fs::File::open(&self.path).and_then(|file| file.take(MAX_READ).read_to_end(&mut content));
        if let Err(error) = read {
            tracing::warn!("{}: {error}", self.path.display());
        }
        content
    }

    /// What it holds now, as text without white space around it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.read()).trim().to_owned()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{} could not be removed: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_ours_and_gone_afterwards() {
        let file = TempFile::create(None, "test", b" 1\n").unwrap();
        let path = file.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!((file.read(), file.text()), (b" 1\n".to_vec(), "1".to_owned()));
        drop(file);
        assert!(!path.exists());
        assert!(TempFile::create(Some("/nowhere/at/all"), "test", b"").is_err());
    }
}
