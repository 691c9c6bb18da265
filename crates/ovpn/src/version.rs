//! `--version`: the first line has the shape that scripts and network managers parse.
//!
//! NetworkManager and others read `OpenVPN MAJOR.MINOR.PATCH` at its start: the release whose options and behaviour we
//! follow. What we are stands right behind it.

use std::fmt::Write as _;

/// The OpenVPN release whose behaviour is followed; also announced as `IV_VER`.
pub(crate) const COMPATIBLE: &str = "2.7.0";

/// The one-line title: `--version`, the log's first line, the management interface.
pub(crate) fn title() -> String {
    format!(
        "OpenVPN {COMPATIBLE} compatible ovpn-rs {} {}-{} [SSL (rustls)] [AEAD] [DCO]",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS,
    )
}

/// The second line.
pub(crate) fn libraries() -> &'static str {
    "library versions: rustls (aws-lc)"
}

/// The whole answer to `--version`.
pub(crate) fn text() -> String {
    let mut text = title();
    let _ = writeln!(text);
    let _ = writeln!(text, "{}", libraries());
    let _ = writeln!(
        text,
        "ovpn-rs is no part of the OpenVPN project; it is compatible with OpenVPN {COMPATIBLE}."
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsers_find_the_number() {
        let text = text();
        let mut words = text.split(' ');
        assert_eq!(words.next(), Some("OpenVPN"));
        let numbers: Vec<u32> = words.next().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 3);
        assert!(text.lines().next().unwrap().contains("ovpn-rs"));
        assert!(text.lines().nth(1).unwrap().starts_with("library versions: "));
    }
}
