//! What a certificate says, in OpenVPN's notation.
//!
//! Names follow OpenSSL's short names in certificate order (`C=KG, ST=NA, O=X, CN=Test`), with characters that a log
//! or a script could stumble over replaced by `_`.

use std::fmt;

use aws_lc_rs::digest;
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509Name};

/// A verified chain: the peer's certificate first, then its issuers up to the trusted one (only the peer's own where
/// it was accepted by fingerprint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChain {
    /// At least one certificate; the index is the depth that scripts see.
    pub certificates: Vec<CertificateFacts>,
}

impl PeerChain {
    /// The peer's own certificate.
    pub fn leaf(&self) -> Option<&CertificateFacts> {
        self.certificates.first()
    }

    /// The common name of the peer's certificate; empty where it has none.
    pub fn common_name(&self) -> &str {
        self.leaf().map_or("", |leaf| &leaf.common_name)
    }
}

/// One certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The subject: `C=KG, ST=NA, O=X, CN=Test`.
    pub subject: String,
    /// The issuer, in the same notation.
    pub issuer: String,
    /// The last `CN` of the subject, at most 64 characters; empty where there is none.
    pub common_name: String,
    /// Every attribute of the subject in order: short name and value.
    pub attributes: Vec<(String, String)>,
    /// `rfc822Name`s among the subject's alternative names.
    pub subject_emails: Vec<String>,
    /// `rfc822Name`s among the issuer's alternative names.
    pub issuer_emails: Vec<String>,
    /// The serial number, big-endian.
    pub serial: Vec<u8>,
    /// SHA-256 of the DER form: its fingerprint.
    pub sha256: [u8; 32],
    /// SHA-1 of the DER form, for scripts that still ask for it.
    pub sha1: [u8; 20],
    /// The key usage bits as OpenSSL counts them (`digitalSignature` = 0x80 … `decipherOnly` = 0x8000); `None` without
    /// the extension.
    pub key_usage: Option<u16>,
    /// The extended key usages as dotted numbers; `None` without the extension.
    pub extended_key_usage: Option<Vec<String>>,
    /// Validity as seconds since 1970: from, to.
    pub validity: (i64, i64),
    /// The certificate itself.
    pub der: Vec<u8>,
}

impl fmt::Debug for CertificateFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateFacts({})", self.subject)
    }
}

impl CertificateFacts {
    /// The certificate in PEM form.
    pub fn pem(&self) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// Reads a certificate; `None` if it is none.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let attributes = attributes(certificate.subject());
        let common_name = attributes
            .iter()
            .rev()
            .find(|(name, _)| name == "CN")
            .map(|(_, value)| value.chars().take(64).collect())
            .unwrap_or_default();
        let mut facts = Self {
            subject: one_line(certificate.subject()),
            issuer: one_line(certificate.issuer()),
            common_name,
            attributes,
            subject_emails: Vec::new(),
            issuer_emails: Vec::new(),
            serial: certificate.raw_serial().to_vec(),
            sha256: hash(&digest::SHA256, der),
            sha1: hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, der),
            key_usage: None,
            extended_key_usage: None,
            validity: (
                certificate.validity().not_before.timestamp(),
                certificate.validity().not_after.timestamp(),
            ),
            der: der.to_vec(),
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::KeyUsage(usage) => facts.key_usage = Some(openssl_key_usage(usage.flags)),
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    facts.extended_key_usage = Some(key_purposes(usage));
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    facts.subject_emails = emails(&names.general_names);
                }
                ParsedExtension::IssuerAlternativeName(names) => {
                    facts.issuer_emails = emails(&names.general_names);
                }
                _ => {}
            }
        }
        Some(facts)
    }

    /// The name by `x509-username-field`: `CN`, another attribute, `serialNumber`, `ext:subjectAltName` or
    /// `ext:issuerAltName`; several are joined by `_`. `None` if one is missing.
    pub fn username(&self, fields: &[String]) -> Option<String> {
        let mut parts = Vec::with_capacity(fields.len());
        for field in fields {
            let value = match field.strip_prefix("ext:") {
                Some("subjectAltName") => self.subject_emails.last()?,
                Some("issuerAltName") => self.issuer_emails.last()?,
                Some(_) => return None,
                None => {
                    let wanted = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(field);
                    &self.attributes.iter().rev().find(wanted)?.1
                }
            };
            parts.push(value.chars().take(64).collect::<String>());
        }
        Some(parts.join("_"))
    }

    /// What kind of key it is about: `RSA`, `P-256`, `P-384`, `P-521`, `Ed25519`; `None` for others.
    pub fn key_kind(&self) -> Option<&'static str> {
        let (_, certificate) = X509Certificate::from_der(&self.der).ok()?;
        let algorithm = &certificate.public_key().algorithm;
        let curve = || {
            algorithm
                .parameters
                .as_ref()
                .and_then(|parameters| parameters.as_oid().ok())
                .map(|oid| oid.to_id_string())
        };
        match algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => Some("RSA"),
            "1.3.101.112" => Some("Ed25519"),
            "1.2.840.10045.2.1" => match curve()?.as_str() {
                "1.2.840.10045.3.1.7" => Some("P-256"),
                "1.3.132.0.34" => Some("P-384"),
                "1.3.132.0.35" => Some("P-521"),
                _ => None,
            },
            _ => None,
        }
    }

    /// The serial number in decimal, as `tls_serial_N` and `crl-verify … dir` want it.
    pub fn serial_decimal(&self) -> String {
        let mut digits = vec![0u8];
        for &byte in &self.serial {
            let mut carry = u32::from(byte);
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

    /// The serial number in hexadecimal with colons, as `tls_serial_hex_N`.
    pub fn serial_hex(&self) -> String {
        colons(&self.serial)
    }

    /// The SHA-1 fingerprint in hexadecimal with colons, as `tls_digest_N`.
    pub fn fingerprint_sha1(&self) -> String {
        colons(&self.sha1)
    }

    /// The SHA-256 fingerprint in hexadecimal with colons, as `tls_digest_sha256_N`.
    pub fn fingerprint(&self) -> String {
        colons(&self.sha256)
    }
}

/// Replaces what a log or script could stumble over: control characters anywhere, and `-` in front.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .enumerate()
        .map(|(place, c)| if c.is_control() || (place == 0 && c == '-') { '_' } else { c })
        .collect()
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn hash<const N: usize>(algorithm: &'static digest::Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let value = digest::digest(algorithm, bytes);
    for (to, from) in out.iter_mut().zip(value.as_ref()) {
        *to = *from;
    }
    out
}

fn attributes(name: &X509Name<'_>) -> Vec<(String, String)> {
    name.iter_attributes()
        .map(|attribute| (short_name(attribute.attr_type()), value(attribute.attr_value())))
        .collect()
}

fn one_line(name: &X509Name<'_>) -> String {
    let rdns = name.iter_rdn().map(|rdn| {
        rdn.iter()
            .map(|attribute| {
                format!("{}={}", short_name(attribute.attr_type()), value(attribute.attr_value()))
            })
            .collect::<Vec<_>>()
            .join(" + ")
    });
    clean(&rdns.collect::<Vec<_>>().join(", "))
}

fn value(any: &x509_parser::der_parser::asn1_rs::Any<'_>) -> String {
    // BMPString and T61String are read as what they are; anything else as UTF-8 with replacements.
    let text = match any.as_bmpstring() {
        Ok(text) => text.string(),
        Err(_) => String::from_utf8_lossy(any.data).into_owned(),
    };
    clean(&text)
}

/// OpenSSL's short name of a subject attribute; the dotted number where it has none.
fn short_name(oid: &Oid<'_>) -> String {
    let dotted = oid.to_id_string();
    let known = [
        ("2.5.4.3", "CN"),
        ("2.5.4.4", "SN"),
        ("2.5.4.5", "serialNumber"),
        ("2.5.4.6", "C"),
        ("2.5.4.7", "L"),
        ("2.5.4.8", "ST"),
        ("2.5.4.9", "street"),
        ("2.5.4.10", "O"),
        ("2.5.4.11", "OU"),
        ("2.5.4.12", "title"),
        ("2.5.4.13", "description"),
        ("2.5.4.15", "businessCategory"),
        ("2.5.4.17", "postalCode"),
        ("2.5.4.41", "name"),
        ("2.5.4.42", "GN"),
        ("2.5.4.43", "initials"),
        ("2.5.4.44", "generationQualifier"),
        ("2.5.4.45", "x500UniqueIdentifier"),
        ("2.5.4.46", "dnQualifier"),
        ("2.5.4.65", "pseudonym"),
        ("2.5.4.97", "organizationIdentifier"),
        ("0.9.2342.19200300.100.1.1", "UID"),
        ("0.9.2342.19200300.100.1.25", "DC"),
        ("1.2.840.113549.1.9.1", "emailAddress"),
        ("1.2.840.113549.1.9.2", "unstructuredName"),
    ];
    known
        .iter()
        .find(|(number, _)| *number == dotted)
        .map_or(dotted.clone(), |(_, short)| (*short).to_owned())
}

/// x509-parser counts bit 0 as `digitalSignature`; OpenSSL keeps the first octet's bits in reading order.
fn openssl_key_usage(flags: u16) -> u16 {
    let first = (flags as u8).reverse_bits();
    let decipher_only = (flags >> 8) & 1;
    u16::from(first) | decipher_only << 15
}

fn key_purposes(usage: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> Vec<String> {
    let named = [
        (usage.any, "2.5.29.37.0"),
        (usage.server_auth, SERVER_AUTH),
        (usage.client_auth, CLIENT_AUTH),
        (usage.code_signing, "1.3.6.1.5.5.7.3.3"),
        (usage.email_protection, "1.3.6.1.5.5.7.3.4"),
        (usage.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (usage.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
    ];
    let mut purposes: Vec<String> =
        named.iter().filter(|(set, _)| *set).map(|(_, oid)| (*oid).to_owned()).collect();
    purposes.extend(usage.other.iter().map(Oid::to_id_string));
    purposes
}

/// "TLS Web Server Authentication".
pub(crate) const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
/// "TLS Web Client Authentication".
pub(crate) const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";

fn emails(names: &[GeneralName<'_>]) -> Vec<String> {
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::RFC822Name(email) => Some(clean(email)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, KeyUsagePurpose, SerialNumber};

    use super::*;

    fn certificate() -> CertificateFacts {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "KG");
        params.distinguished_name.push(DnType::OrganizationName, "-O\n");
        params.distinguished_name.push(DnType::CommonName, "Test \u{fc}");
        params.serial_number = Some(SerialNumber::from(vec![0x01, 0x00, 0xff]));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        CertificateFacts::parse(certificate.der()).unwrap()
    }

    #[test]
    fn facts() {
        let facts = certificate();
        assert_eq!(facts.subject, "C=KG, O=_O_, CN=Test \u{fc}");
        assert_eq!(facts.common_name, "Test \u{fc}");
        assert_eq!(facts.serial_decimal(), "65791");
        assert_eq!(facts.serial_hex(), "01:00:ff");
        assert_eq!(facts.key_usage, Some(0x88));
        assert_eq!(facts.extended_key_usage, Some(vec![SERVER_AUTH.to_owned()]));
        assert_eq!(facts.username(&["CN".into(), "C".into()]).as_deref(), Some("Test \u{fc}_KG"));
        assert_eq!(facts.username(&["OU".into()]), None);
    }

    #[test]
    fn long_serial_numbers() {
        let decimal =
            |serial: &[u8]| CertificateFacts { serial: serial.to_vec(), ..certificate() }.serial_decimal();
        assert_eq!(decimal(&[]), "0");
        assert_eq!(decimal(&[0xff; 16]), u128::MAX.to_string());
        assert_eq!(decimal(&[1, 0, 0, 0, 0, 0, 0, 0, 0]), "18446744073709551616");
    }

    #[test]
    fn rubbish_is_no_certificate() {
        assert!(CertificateFacts::parse(b"").is_none());
        assert!(CertificateFacts::parse(&[0x30, 0x82, 0xff, 0xff, 0x30]).is_none());
    }
}
