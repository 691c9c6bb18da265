//! Errors: the condition by name, with the errno the kernel gives for it.

use std::fmt;
use std::io;

/// Result of a DCO operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// EINVAL: attributes contradict each other, miss their partner or do not fit the device's mode.
    InvalidArgument,
    /// ERANGE: a number is outside what its attribute allows.
    OutOfRange,
    /// ENODEV: no such device, or it is being removed.
    NoSuchDevice,
    /// EPERM: no CAP_NET_ADMIN.
    NotPermitted,
    /// ENOTSOCK: the descriptor is no socket, or one that cannot carry this peer.
    NotASocket,
    /// EADDRNOTAVAIL: a VPN address that cannot belong to one host.
    BadVpnAddress,
    /// EADDRINUSE: a VPN address of another peer.
    VpnAddressInUse,
    /// EEXIST: the peer id is taken.
    PeerExists,
    /// ENOENT: no such peer.
    NoSuchPeer,
    /// ENOENT: the key slot is empty.
    NoSuchKey,
    /// EINVAL: a key of the wrong length for its cipher, or of zero bytes only.
    BadKey,
    /// EINVAL: a cipher this driver does not take.
    UnsupportedCipher,
    /// EOPNOTSUPP: the driver cannot do this at all; its [`Capabilities`](crate::Capabilities) say so.
    Unsupported,
    /// ENOMEM: no memory.
    OutOfMemory,
    /// ECONNRESET: the data plane is gone.
    Gone,
    /// Anything else the system said; carries its errno.
    System(i32),
}

impl ErrorKind {
    /// The errno the kernel driver gives for this condition.
    pub const fn errno(self) -> i32 {
        match self {
            Self::InvalidArgument | Self::BadKey | Self::UnsupportedCipher => 22,
            Self::OutOfRange => 34,
            Self::NoSuchDevice => 19,
            Self::NotPermitted => 1,
            Self::NotASocket => 88,
            Self::BadVpnAddress => 99,
            Self::VpnAddressInUse => 98,
            Self::PeerExists => 17,
            Self::NoSuchPeer | Self::NoSuchKey => 2,
            Self::Unsupported => 95,
            Self::OutOfMemory => 12,
            Self::Gone => 104,
            Self::System(errno) => errno,
        }
    }
}

/// A failed operation: the condition, and one sentence of detail (the kernel's extended acknowledgement, where it
/// gave one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    detail: String,
}

impl Error {
    /// An error of `kind` with its detail.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// The condition.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno the kernel driver gives for it (positive).
    pub const fn errno(&self) -> i32 {
        self.kind.errno()
    }

    /// The detail, without the errno's own text.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let system = io::Error::from_raw_os_error(self.errno());
        if self.detail.is_empty() { write!(f, "{system}") } else { write!(f, "{}: {system}", self.detail) }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(1) => ErrorKind::NotPermitted,
            Some(12) => ErrorKind::OutOfMemory,
            Some(19) => ErrorKind::NoSuchDevice,
            Some(errno) => ErrorKind::System(errno),
            None => ErrorKind::System(5),
        };
        Self::new(kind, "")
    }
}
