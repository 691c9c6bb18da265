//! What a refused netlink request says.

use std::fmt;
use std::io;

/// Result of a netlink request.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused or failed request: its errno, what was asked, and the kernel's sentence where it gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    errno: i32,
    request: String,
    text: String,
    missing: Option<u16>,
}

impl Error {
    /// An error with the kernel's sentence (may be empty).
    pub fn new(errno: i32, text: impl Into<String>) -> Self {
        Self { errno, request: String::new(), text: text.into(), missing: None }
    }

    /// Names the attribute that the kernel missed.
    #[must_use]
    pub fn with_missing(mut self, attribute: Option<u16>) -> Self {
        self.missing = attribute;
        self
    }

    /// Says what was being done, for people.
    #[must_use]
    pub fn during(mut self, request: impl Into<String>) -> Self {
        self.request = request.into();
        self
    }

    /// The errno, positive.
    pub const fn errno(&self) -> i32 {
        self.errno
    }

    /// The kernel's sentence; empty where it gave none.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The attribute number that the kernel says is missing.
    pub const fn missing(&self) -> Option<u16> {
        self.missing
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.request.is_empty() {
            write!(f, "{}: ", self.request)?;
        }
        if !self.text.is_empty() {
            write!(f, "{}: ", self.text)?;
        } else if let Some(missing) = self.missing {
            write!(f, "attribute {missing} is missing: ")?;
        }
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::new(errno, ""),
            None => Self::new(5, error.to_string()),
        }
    }
}

#[cfg(target_os = "linux")]
impl From<rustix::io::Errno> for Error {
    fn from(error: rustix::io::Errno) -> Self {
        Self::new(error.raw_os_error(), "")
    }
}

impl From<Error> for io::Error {
    /// Keeps the errno where there is no sentence to lose.
    fn from(error: Error) -> Self {
        if error.request.is_empty() && error.text.is_empty() && error.missing.is_none() {
            return Self::from_raw_os_error(error.errno);
        }
        Self::new(Self::from_raw_os_error(error.errno).kind(), error)
    }
}

impl From<super::message::Malformed> for Error {
    fn from(malformed: super::message::Malformed) -> Self {
        Self::new(74, malformed.to_string()) // EBADMSG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_request_sentence_and_errno() {
        let error = Error::new(22, "Nexthop has invalid gateway").during("add route 10.0.0.0/8");
        assert_eq!(
            error.to_string(),
            "add route 10.0.0.0/8: Nexthop has invalid gateway: Invalid argument (os error 22)"
        );
        let error = Error::new(22, "").with_missing(Some(6));
        assert_eq!(error.to_string(), "attribute 6 is missing: Invalid argument (os error 22)");
    }

    #[test]
    fn io_error_keeps_errno_or_sentence() {
        assert_eq!(io::Error::from(Error::new(2, "")).raw_os_error(), Some(2));
        assert!(io::Error::from(Error::new(2, "no such thing")).to_string().contains("no such thing"));
    }
}
