//! The authority's folder.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ovpn_crypto::tls_crypt_v2::ServerKey;
use zeroize::Zeroizing;

use super::{Authority, Index, Issued, Sentence, State};
use crate::atomic_file;

/// Only the owner may read.
const PRIVATE: u32 = 0o600;
/// Everyone may read: an unprivileged server has to, after it gave its rights up.
const PUBLIC: u32 = 0o644;

/// A folder with an authority in it, locked against other commands while this lives.
pub(crate) struct Store {
    root: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens and locks a folder.
    pub(crate) fn open(root: &Path) -> Result<Self, Sentence> {
        let lock = match File::open(root.join("pki")) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(format!(
                    "there is no authority in {}: make one with `ovpn init --endpoint HOST --dir {}`",
                    root.display(),
                    root.display()
                ));
            }
            Err(error) => return Err(format!("{}: {error}", root.join("pki").display())),
        };
        lock.lock().map_err(|error| format!("{} cannot be locked: {error}", root.display()))?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// Makes the folders of an empty one, then opens it.
    pub(crate) fn create(root: &Path) -> Result<Self, Sentence> {
        for dir in ["", "pki", "pki/private", "pki/issued"] {
            let path = root.join(dir);
            DirBuilder::new()
                .recursive(true)
                .mode(if dir == "pki/private" { 0o700 } else { 0o755 })
                .create(&path)
                .map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
        }
        Self::open(root)
    }

    /// Path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Reads a text; it may be secret.
    pub(crate) fn read(&self, name: &str) -> Result<Zeroizing<String>, Sentence> {
        let path = self.path(name);
        std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                format!("{} is for its owner only: run this as root or as its owner", path.display())
            }
            _ => format!("{}: {error}", path.display()),
        })
    }

    /// Writes a text that only the owner may read.
    pub(crate) fn write_private(&self, name: &str, text: &str) -> Result<(), Sentence> {
        self.write(name, text, PRIVATE)
    }

    /// Writes a text that everyone may read.
    pub(crate) fn write_public(&self, name: &str, text: &str) -> Result<(), Sentence> {
        self.write(name, text, PUBLIC)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<(), Sentence> {
        let path = self.path(name);
        atomic_file::write(&path, text.as_bytes(), mode).map_err(|error| {
            format!("{} cannot be written: {error}; what was there is unchanged", path.display())
        })
    }

    /// The authority.
    pub(crate) fn authority(&self) -> Result<Authority, Sentence> {
        Authority::open(&self.read("pki/ca.crt")?, &self.read("pki/private/ca.key")?)
    }

    /// What was issued.
    pub(crate) fn index(&self) -> Result<Index, Sentence> {
        Index::parse(&self.read("pki/index.txt")?)
    }

    /// The key that wraps clients' control channel keys.
    pub(crate) fn control_key(&self) -> Result<ServerKey, Sentence> {
        let path = self.path("pki/tls-crypt-v2.key");
        ServerKey::from_pem(&self.read("pki/tls-crypt-v2.key")?)
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Records a certificate. Its key is for the caller to hand on.
    pub(crate) fn record(&self, issued: &Issued) -> Result<(), Sentence> {
        let mut index = self.index()?;
        index.entries.push(issued.entry.clone());
        // The index first: a certificate that is not in it could not be revoked.
        self.write_public("pki/index.txt", &index.to_text())?;
        self.write_public(&format!("pki/issued/{}.crt", issued.entry.name), &issued.certificate)
    }

    /// Revokes every certificate of a name that still counts; gives how many.
    pub(crate) fn revoke(&self, name: &str, now: u64) -> Result<usize, Sentence> {
        let mut index = self.index()?;
        let mut count = 0;
        for entry in index.entries.iter_mut().filter(|e| e.name == name && e.state == State::Valid) {
            entry.state = State::Revoked(now);
            count += 1;
        }
        // Also where nothing changed: an interrupted command may have left an older list.
        let list = self.authority()?.revocation_list(&index, now)?;
        self.write_public("pki/index.txt", &index.to_text())?;
        self.write_public("pki/crl.pem", &list)?;
        Ok(count)
    }
}
