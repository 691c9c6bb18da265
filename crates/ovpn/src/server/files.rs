//! Files that the server writes for as long as it runs: opened while it may, rewritten in place later.
//!
//! After root is given up their directories may be closed to us; the open file is not.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};

/// A file whose whole content is replaced now and then.
#[derive(Debug)]
pub(crate) struct Rewritten {
    path: String,
    file: File,
}

impl Rewritten {
    /// Opens it, or makes it (mode 0600 as stock); its content stays.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file =
            File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Replaces the content. Where somebody moved the file away, a new one is made in its place.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        if !self.is_in_place()
            && let Ok(again) = Self::open(&self.path)
        {
            *self = again;
        }
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)
    }

    fn is_in_place(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(ours)) => same(there, ours),
            _ => false,
        }
    }

    /// Its path as configured, for messages.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_replaced_also_after_the_file_was_moved() {
        let path = std::env::temp_dir().join(format!("ovpn-rewritten-{}", std::process::id()));
        let moved = path.with_extension("old");
        std::fs::write(&path, "former content, longer").unwrap();
        let mut file = Rewritten::open(path.to_str().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "former content, longer");
        file.write("one").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        std::fs::rename(&path, &moved).unwrap();
        file.write("two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&moved).unwrap();
    }
}
