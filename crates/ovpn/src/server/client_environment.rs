//! The environment of scripts that concern one client.
//!
//! Source: OpenVPN server behaviour, "Environment variables on the server".

use std::net::SocketAddr;

use ovpn_control::{CertificateFacts, PeerChain};

use super::addresses::Assignment;
use crate::environment::Environment;

/// Where the client comes from, before and after it is authenticated.
pub(crate) fn set_remote(environment: &mut Environment, remote: SocketAddr, trusted: bool) {
    environment.set_address("untrusted", remote);
    if trusted {
        environment.set_address("trusted", remote);
    }
}

/// `tls_id_N`, `tls_serial_N`, `tls_serial_hex_N`, `tls_digest_N`, `tls_digest_sha256_N` and `X509_N_FIELD` of each
/// certificate; N is its depth.
pub(crate) fn set_chain(environment: &mut Environment, chain: &PeerChain) {
    for (depth, certificate) in chain.certificates.iter().enumerate() {
        set_certificate(environment, depth, certificate);
    }
}

fn set_certificate(environment: &mut Environment, depth: usize, certificate: &CertificateFacts) {
    environment.set(format!("tls_id_{depth}"), &certificate.subject);
    environment.set(format!("tls_serial_{depth}"), decimal(&certificate.serial));
    environment.set(format!("tls_serial_hex_{depth}"), colon_hex(&certificate.serial));
    environment.set(format!("tls_digest_{depth}"), colon_hex(&certificate.sha1));
    environment.set(format!("tls_digest_sha256_{depth}"), colon_hex(&certificate.sha256));
    for (index, (field, value)) in certificate.attributes.iter().enumerate() {
        let same = certificate.attributes[..index].iter().filter(|(other, _)| other == field).count();
        let suffix = if same == 0 { String::new() } else { format!("_{same}") };
        environment.set(format!("X509_{depth}_{field}{suffix}"), value);
    }
}

/// `ifconfig_pool_…`: the client's addresses.
pub(crate) fn set_addresses(environment: &mut Environment, assignment: &Assignment) {
    if let Some(pushed) = assignment.pushed_v4 {
        environment.set_ip("ifconfig_pool_remote_ip", assignment.v4);
        environment.set("ifconfig_pool_netmask", pushed.mask_or_remote);
    }
    if let Some(pushed) = assignment.pushed_v6 {
        environment.set_ip("ifconfig_pool_remote_ip6", assignment.v6);
        environment.set_ip("ifconfig_pool_local_ip6", Some(pushed.remote));
        environment.set("ifconfig_pool_ip6_netbits", pushed.address.prefix_len());
    }
}

/// When the client came: `ascii` as `YYYY-MM-DD HH:MM:SS`, `unix` in seconds.
pub(crate) fn set_time(environment: &mut Environment, ascii: &str, unix: i64) {
    environment.set("time_ascii", ascii);
    environment.set("time_unix", unix);
}

/// What it moved and how long it was there, for `client-disconnect`.
pub(crate) fn set_totals(environment: &mut Environment, received: u64, sent: u64, seconds: u64) {
    environment.set("bytes_received", received);
    environment.set("bytes_sent", sent);
    environment.set("time_duration", seconds);
}

/// `01:ab:…`
fn colon_hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}

/// A big-endian number of any length in decimal.
fn decimal(bytes: &[u8]) -> String {
    let mut digits = vec![0u8];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let value = u32::from(*digit) * 256 + carry;
            *digit = (value % 10) as u8;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> CertificateFacts {
        let attribute = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        CertificateFacts {
            subject: "C=KG, OU=a, OU=b, CN=Test".to_owned(),
            issuer: String::new(),
            common_name: "Test".to_owned(),
            attributes: vec![attribute("OU", "a"), attribute("OU", "b"), attribute("CN", "Test")],
            subject_emails: Vec::new(),
            issuer_emails: Vec::new(),
            serial: vec![0x01, 0x00, 0xff],
            sha256: [0xab; 32],
            sha1: [0x12; 20],
            key_usage: None,
            extended_key_usage: None,
            validity: (0, 0),
            der: Vec::new(),
        }
    }

    #[test]
    fn certificates() {
        let mut environment = Environment::default();
        set_chain(&mut environment, &PeerChain { certificates: vec![certificate()] });
        let get = |name| environment.get(name);
        assert_eq!(get("tls_id_0"), Some("C=KG, OU=a, OU=b, CN=Test"));
        assert_eq!(get("tls_serial_0"), Some("65791"));
        assert_eq!(get("tls_serial_hex_0"), Some("01:00:ff"));
        assert_eq!(get("tls_digest_0").map(str::len), Some(59));
        assert!(get("tls_digest_sha256_0").is_some_and(|digest| digest.starts_with("ab:ab:")));
        assert_eq!(
            (get("X509_0_OU"), get("X509_0_OU_1"), get("X509_0_CN")),
            (Some("a"), Some("b"), Some("Test"))
        );
    }

    #[test]
    fn long_serial_numbers() {
        assert_eq!(decimal(&[]), "0");
        assert_eq!(decimal(&[0xff; 16]), u128::MAX.to_string());
        assert_eq!(decimal(&[1, 0, 0, 0, 0, 0, 0, 0, 0]), "18446744073709551616");
    }
}
