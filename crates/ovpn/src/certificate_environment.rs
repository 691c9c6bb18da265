//! What scripts are told of the peer's certificates.
//!
//! Source: OpenVPN server behaviour, "Environment variables on the server"; OpenVPN manual, "x509-track".

use ovpn_config::model::X509Track;
use ovpn_control::{CertificateFacts, PeerChain};

use crate::environment::Environment;

/// `tls_id_N`, `tls_serial_N`, `tls_serial_hex_N`, `tls_digest_N`, `tls_digest_sha256_N` and `X509_N_FIELD` of each
/// certificate; N is its depth. `tracked`: which fields (`x509-track`), all of the subject where there are none.
pub(crate) fn set_chain(environment: &mut Environment, chain: &PeerChain, tracked: &[X509Track]) {
    for (depth, certificate) in chain.certificates.iter().enumerate() {
        set_certificate(environment, depth, certificate);
        if tracked.is_empty() {
            set_subject(environment, depth, certificate);
        }
        for track in tracked.iter().filter(|track| depth == 0 || track.chain) {
            set_tracked(environment, depth, certificate, &track.name);
        }
    }
}

fn set_certificate(environment: &mut Environment, depth: usize, certificate: &CertificateFacts) {
    environment.set(format!("tls_id_{depth}"), &certificate.subject);
    environment.set(format!("tls_serial_{depth}"), certificate.serial_decimal());
    environment.set(format!("tls_serial_hex_{depth}"), certificate.serial_hex());
    environment.set(format!("tls_digest_{depth}"), certificate.fingerprint_sha1());
    environment.set(format!("tls_digest_sha256_{depth}"), certificate.fingerprint());
}

fn set_subject(environment: &mut Environment, depth: usize, certificate: &CertificateFacts) {
    for (index, (field, value)) in certificate.attributes.iter().enumerate() {
        let same = certificate.attributes[..index].iter().filter(|(other, _)| other == field).count();
        let suffix = if same == 0 { String::new() } else { format!("_{same}") };
        environment.set(format!("X509_{depth}_{field}{suffix}"), value);
    }
}

/// One field under the name that the configuration gives it: a digest, or the first such attribute of the subject.
fn set_tracked(environment: &mut Environment, depth: usize, certificate: &CertificateFacts, name: &str) {
    let attribute =
        || certificate.attributes.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
    let value = match name {
        "SHA1" => Some(certificate.fingerprint_sha1()),
        "SHA256" => Some(certificate.fingerprint()),
        _ => attribute(),
    };
    if let Some(value) = value {
        environment.set(format!("X509_{depth}_{name}"), value);
    }
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
        set_chain(&mut environment, &PeerChain { certificates: vec![certificate()] }, &[]);
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
    fn only_what_is_tracked() {
        let mut environment = Environment::default();
        let track = |name: &str, chain| X509Track { name: name.to_owned(), chain };
        let tracked = [track("CN", true), track("OU", false), track("SHA1", false), track("L", true)];
        let chain = PeerChain { certificates: vec![certificate(), certificate()] };
        set_chain(&mut environment, &chain, &tracked);
        let fields: Vec<&str> =
            environment.iter().map(|(name, _)| name).filter(|n| n.starts_with("X509")).collect();
        assert_eq!(fields, ["X509_0_CN", "X509_0_OU", "X509_0_SHA1", "X509_1_CN"]);
        assert_eq!(environment.get("X509_0_OU"), Some("a"));
        assert!(environment.get("tls_id_1").is_some(), "names and numbers are always told");
    }
}
