//! Names that clients bring along, made harmless: in logs, environments and paths.
//!
//! Source: OpenVPN server behaviour, "Names".

use std::path::{Path, PathBuf};

use ovpn_control::PeerChain;

/// The most characters of a common name.
const MAX_COMMON_NAME: usize = 64;

/// A name with every unprintable character replaced by `_`.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '_' } else { c }).collect()
}

/// A user name that becomes a common name; `None` if it is too long for one.
pub(crate) fn as_common_name(username: &str) -> Option<String> {
    (username.chars().count() <= MAX_COMMON_NAME).then(|| printable(username))
}

/// The common name that a certificate gives its owner: the fields of `x509-username-field` (the last of equal ones),
/// joined by `_`; without any, `CN`.
///
/// # Errors
/// The sentence for the log where a field is missing.
pub(crate) fn of_certificate(chain: &PeerChain, fields: &[String]) -> Result<String, String> {
    let Some(leaf) = chain.leaf() else { return Ok(String::new()) };
    if fields.is_empty() || fields == ["CN"] {
        return Ok(printable(&leaf.common_name));
    }
    let mut names = Vec::with_capacity(fields.len());
    for field in fields {
        let value = match field.as_str() {
            "ext:subjectAltName" => leaf.subject_emails.last().cloned(),
            "ext:issuerAltName" => leaf.issuer_emails.last().cloned(),
            "serialNumber" => {
                let digits: String = leaf.serial.iter().map(|byte| format!("{byte:02X}")).collect();
                Some(format!("0x{digits}"))
            }
            name => {
                leaf.attributes.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone())
            }
        };
        let short = |value: String| value.chars().take(MAX_COMMON_NAME).collect::<String>();
        let missing = || format!("VERIFY ERROR: the certificate ({}) has no field {field}", leaf.subject);
        names.push(short(value.ok_or_else(missing)?));
    }
    Ok(printable(&names.join("_")))
}

/// The file of a name in a directory: path separators in the name become `_`. `None` for names that are no file name
/// (`.`, `..`, nothing).
pub(crate) fn file_in(directory: &str, name: &str) -> Option<PathBuf> {
    let safe = printable(name).replace('/', "_");
    (!matches!(safe.as_str(), "" | "." | "..")).then(|| Path::new(directory).join(safe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        let file = |name| file_in("/ccd", name).map(|path| path.display().to_string());
        assert_eq!(file("al ice"), Some("/ccd/al ice".to_owned()));
        assert_eq!(file("../../etc/passwd"), Some("/ccd/.._.._etc_passwd".to_owned()));
        assert_eq!(file("/etc/passwd"), Some("/ccd/_etc_passwd".to_owned()));
        assert_eq!(file("a\nb"), Some("/ccd/a_b".to_owned()));
        assert_eq!([file(""), file("."), file("..")], [None, None, None]);
    }

    #[test]
    fn long_user_names_are_no_common_names() {
        assert_eq!(as_common_name(&"é".repeat(64)).map(|name| name.chars().count()), Some(64));
        assert_eq!(as_common_name(&"x".repeat(65)), None);
    }
}
