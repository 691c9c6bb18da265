//! PEM-like files of OpenVPN: a label, base64, no headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::secret::SecretVec;

/// Why a key file could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PemError {
    /// The BEGIN line of this label is missing.
    #[error("no line \"-----BEGIN {label}-----\"")]
    NoBegin {
        /// The label.
        label: &'static str,
    },
    /// The END line of this label is missing.
    #[error("no line \"-----END {label}-----\"")]
    NoEnd {
        /// The label.
        label: &'static str,
    },
    /// What stands between is not base64.
    #[error("the key is not valid base64")]
    Base64,
}

pub(crate) fn decode(label: &'static str, text: &str) -> Result<SecretVec, PemError> {
    let begin = format!("-----BEGIN {label}-----");
    let (_, rest) = text.split_once(&begin).ok_or(PemError::NoBegin { label })?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or(PemError::NoEnd { label })?;
    let digits: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let digits = zeroize::Zeroizing::new(digits);
    STANDARD.decode(digits.as_bytes()).map(SecretVec::new).map_err(|_| PemError::Base64)
}

pub(crate) fn encode(label: &str, bytes: &[u8]) -> String {
    let digits = zeroize::Zeroizing::new(STANDARD.encode(bytes));
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = digits.as_str();
    while let Some((line, after)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
