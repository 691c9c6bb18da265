//! `--version`: the first line has the shape that scripts and network managers parse.
//!
//! NetworkManager and others read `OpenVPN MAJOR.MINOR.PATCH` at its start: the release whose options and behaviour we
//! follow. What we are stands right behind it.

use std::fmt::Write as _;

use ovpn_kernel::Probe;

pub(crate) use ovpn_join::COMPATIBLE;

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
        "data plane engine: ovpn-rs {}, in userspace, always there",
        env!("CARGO_PKG_VERSION")
    );
    let found = ovpn_kernel::probe();
    let _ = writeln!(text, "data plane kernel: {}", kernel(&found));
    let _ = writeln!(text, "crypto: AWS-LC; {}", processor());
    let _ = writeln!(
        text,
        "ovpn-rs is no part of the OpenVPN project; it is compatible with OpenVPN {COMPATIBLE}."
    );
    text
}

/// The kernel's driver, or why there is none.
fn kernel(found: &ovpn_kernel::Availability) -> String {
    match (&found.ovpn, &found.dco_v2) {
        (Probe::Available(driver), _) | (_, Probe::Available(driver)) => driver.version.clone(),
        (Probe::Unavailable(why), _) => format!("not to be had: {why}"),
    }
}

/// What the processor has for the data channel's ciphers.
fn processor() -> String {
    let mut found: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("AES-NI", std::arch::is_x86_feature_detected!("aes")),
        ("VAES", std::arch::is_x86_feature_detected!("vaes")),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
    ] {
        if there {
            found.push(name);
        }
    }
    #[cfg(target_arch = "aarch64")]
    for (name, there) in [
        ("AES", std::arch::is_aarch64_feature_detected!("aes")),
        ("NEON", std::arch::is_aarch64_feature_detected!("neon")),
    ] {
        if there {
            found.push(name);
        }
    }
    if found.is_empty() {
        "no instructions for AES on this processor: CHACHA20-POLY1305 is the faster cipher here".to_owned()
    } else {
        format!("this processor has {}", found.join(", "))
    }
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
        for part in ["\ndata plane engine: ", "\ndata plane kernel: ", "\ncrypto: "] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
