//! TLS, certificates and the control channel's keys.

use super::Builder;
use super::arguments::{Bad, Opt};
use crate::diagnostic::Class;
use crate::model::{
    CertProfile, CrlSource, KeyDirection, Material, RemoteCertEku, Tls, TlsCryptV2Cookie, TlsVersion,
    VerifyX509, X509NameMatch, X509Track,
};
use std::time::Duration;

const VERSIONS: [(&str, TlsVersion); 4] = [
    ("1.0", TlsVersion::V1_0),
    ("1.1", TlsVersion::V1_1),
    ("1.2", TlsVersion::V1_2),
    ("1.3", TlsVersion::V1_3),
];

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let t = &mut b.config.tls;
    match o.name() {
        "ca" => set(&mut t.ca, o)?,
        "cert" => set(&mut t.cert, o)?,
        "key" => set(&mut t.key, o)?,
        "extra-certs" => set(&mut t.extra_certs, o)?,
        "pkcs12" => set(&mut t.pkcs12, o)?,
        "capath" => t.ca_path = Some(o.text(0)?),
        // Only ECDHE is spoken.
        "dh" => {}
        "ecdh-curve" => {
            o.say(Class::Ignored, "`ecdh-curve` has no effect", "name the groups with `tls-groups`");
        }
        "tls-groups" => t.groups = list(&o.text(0)?),
        "tls-version-min" => {
            let version = o.word(0, &VERSIONS)?;
            if o.count() > 1 {
                o.word(1, &[("or-highest", ())])?;
            }
            if version < TlsVersion::V1_2 {
                o.say(
                    Class::Insecure,
                    "TLS below 1.2 is never spoken; the lowest version is 1.2",
                    "write `tls-version-min 1.2`",
                );
            }
            t.version_min = version.max(TlsVersion::V1_2);
        }
        "tls-version-max" => {
            let version = o.word(0, &VERSIONS)?;
            if version < TlsVersion::V1_2 {
                let message = "`tls-version-max` below 1.2 leaves no TLS version";
                return Err(o.bad(0, message, "write 1.2 or 1.3, or remove the line"));
            }
            t.version_max = Some(version);
        }
        "tls-cipher" => t.cipher_list = list(&o.text(0)?),
        "tls-ciphersuites" => t.cipher_suites = list(&o.text(0)?),
        "tls-cert-profile" => {
            t.cert_profile = o.word(
                0,
                &[
                    ("insecure", CertProfile::Insecure),
                    ("legacy", CertProfile::Legacy),
                    ("preferred", CertProfile::Preferred),
                    ("suiteb", CertProfile::SuiteB),
                ],
            )?;
            if t.cert_profile == CertProfile::Insecure {
                o.say(
                    Class::Insecure,
                    "`tls-cert-profile insecure` lets broken signatures pass",
                    "use `preferred`",
                );
            }
        }
        "tls-auth" => {
            set(&mut b.entry.tls_auth, o)?;
            if o.count() > 1 {
                b.entry.key_direction = direction(o, 1)?;
            }
        }
        "tls-crypt" => set(&mut b.entry.tls_crypt, o)?,
        "tls-crypt-v2" => {
            set(&mut b.entry.tls_crypt_v2, o)?;
            if o.count() > 1 {
                t.tls_crypt_v2_cookie = o.word(
                    1,
                    &[
                        ("force-cookie", TlsCryptV2Cookie::ForceCookie),
                        ("allow-noncookie", TlsCryptV2Cookie::AllowNonCookie),
                    ],
                )?;
            }
        }
        "tls-crypt-v2-verify" => t.tls_crypt_v2_verify = o.command(0)?,
        "tls-crypt-v2-max-age" => {
            t.tls_crypt_v2_max_age = Some(Duration::from_secs(o.number(0, 1..=36_500u64)? * 86_400));
        }
        "key-direction" => b.entry.key_direction = direction(o, 0)?,
        "auth" => {
            t.auth_digest = o.text(0)?.to_ascii_uppercase();
            match t.auth_digest.as_str() {
                "MD5" | "MD4" | "RSA-MD5" => {
                    o.say(Class::Insecure, "MD5 is a weak digest", "write `auth SHA256` on both sides");
                }
                _ => {}
            }
        }
        "remote-cert-tls" => {
            let words = [("server", RemoteCertEku::Server), ("client", RemoteCertEku::Client)];
            let at = o.word(0, &[("server", 0), ("client", 1)])?;
            t.remote_cert_eku = words.into_iter().nth(at).map(|(_, eku)| eku);
            t.remote_cert_ku_required = true;
        }
        "remote-cert-eku" => t.remote_cert_eku = Some(eku(o.text(0)?)),
        "remote-cert-ku" => {
            t.remote_cert_ku_required = true;
            let mut masks = Vec::new();
            for (at, arg) in o.args().iter().enumerate() {
                let hex = arg.text.trim_start_matches("0x");
                let Ok(mask) = u16::from_str_radix(hex, 16) else {
                    return Err(o.bad(
                        at,
                        "`remote-cert-ku` wants hexadecimal numbers",
                        "write for example `a0 88`",
                    ));
                };
                masks.push(mask);
            }
            t.remote_cert_ku = masks;
        }
        "ns-cert-type" => {
            let server = o.word(0, &[("server", true), ("client", false)])?;
            let (eku, word) =
                if server { (RemoteCertEku::Server, "server") } else { (RemoteCertEku::Client, "client") };
            t.remote_cert_eku.get_or_insert(eku);
            o.say(
                Class::Deprecated,
                format!("`ns-cert-type {word}` acts as `remote-cert-tls {word}`"),
                format!("write `remote-cert-tls {word}`"),
            );
        }
        "verify-x509-name" => {
            let name = o.text(0)?;
            let matching = if o.count() > 1 {
                o.word(
                    1,
                    &[
                        ("subject", X509NameMatch::Subject),
                        ("name", X509NameMatch::Name),
                        ("name-prefix", X509NameMatch::NamePrefix),
                    ],
                )?
            } else {
                X509NameMatch::Subject
            };
            t.verify_x509 = Some(VerifyX509 { name, matching });
        }
        "tls-remote" => {
            let name = o.text(0)?;
            let help = format!("write `verify-x509-name {} name`", crate::lexer::quote(&name));
            let matching = if name.contains('=') { X509NameMatch::Subject } else { X509NameMatch::Name };
            t.verify_x509 = Some(VerifyX509 { name, matching });
            o.say(Class::Deprecated, "`tls-remote` acts as `verify-x509-name`", help);
        }
        "verify-hash" => {
            if let Some(algorithm) = o.get(1).filter(|a| !a.eq_ignore_ascii_case("SHA256")) {
                let text =
                    format!("`verify-hash` with {} is not supported", super::arguments::short(algorithm));
                o.say(Class::Unsupported, text, "give the SHA-256 fingerprint");
                return Ok(true);
            }
            t.verify_hash = fingerprints(o)?;
        }
        "peer-fingerprint" => {
            let more = fingerprints(o)?;
            t.peer_fingerprints.extend(more);
        }
        "crl-verify" => {
            if o.count() > 1 {
                o.word(1, &[("dir", ())])?;
                t.crl = Some(CrlSource::Directory(o.text(0)?));
            } else if let Some(material) = o.material(0)? {
                t.crl = Some(CrlSource::File(material));
            }
        }
        "tls-verify" => t.verify_command = o.command(0)?,
        "tls-export-cert" => t.export_cert_dir = Some(o.text(0)?),
        "x509-username-field" => {
            t.x509_username_fields = o.args().iter().map(|a| upper_unless_ext(&a.text)).collect();
        }
        "x509-track" => track(t, o)?,
        "askpass" => t.askpass = Some(o.get(0).map(str::to_owned)),
        "push-peer-info" => t.push_peer_info = true,
        "force-tls-key-material-export" => t.force_key_material_export = true,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Attributes of the subject are known by their short names; of the rest, only digests are told.
fn track(t: &mut Tls, o: &mut Opt<'_>) -> Result<(), Bad> {
    let wanted = o.text(0)?;
    let (chain, name) = match wanted.strip_prefix('+') {
        Some(name) => (true, name),
        None => (false, wanted.as_str()),
    };
    const EXTENSIONS: [&str; 6] = [
        "subjectAltName",
        "issuerAltName",
        "keyUsage",
        "extendedKeyUsage",
        "basicConstraints",
        "certificatePolicies",
    ];
    if EXTENSIONS.contains(&name) {
        let text =
            format!("`x509-track {name}` has no effect: extensions of certificates are not told to scripts");
        o.say(Class::Ignored, text, "`tls-export-cert DIR` gives scripts the whole certificate");
        return Ok(());
    }
    t.x509_track.push(X509Track { name: name.to_owned(), chain });
    Ok(())
}

fn set(slot: &mut Option<Material>, o: &mut Opt<'_>) -> Result<(), Bad> {
    if let Some(material) = o.material(0)? {
        *slot = Some(material);
    }
    Ok(())
}

fn direction(o: &mut Opt<'_>, at: usize) -> Result<KeyDirection, Bad> {
    o.word(
        at,
        &[
            ("0", KeyDirection::Normal),
            ("1", KeyDirection::Inverse),
            ("bidirectional", KeyDirection::Bidirectional),
        ],
    )
}

fn list(text: &str) -> Vec<String> {
    text.split([':', ',']).map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

fn eku(text: String) -> RemoteCertEku {
    match text.as_str() {
        "TLS Web Server Authentication" | "1.3.6.1.5.5.7.3.1" => RemoteCertEku::Server,
        "TLS Web Client Authentication" | "1.3.6.1.5.5.7.3.2" => RemoteCertEku::Client,
        _ => RemoteCertEku::Other(text),
    }
}

/// Attribute names are upper case, except `ext:…` and `serialNumber`.
fn upper_unless_ext(field: &str) -> String {
    if field.starts_with("ext:") || field.chars().any(|c| c.is_ascii_uppercase()) {
        field.to_owned()
    } else {
        field.to_ascii_uppercase()
    }
}

/// Hexadecimal SHA-256 fingerprints with colons, one a line in an inline block.
fn fingerprints(o: &mut Opt<'_>) -> Result<Vec<[u8; 32]>, Bad> {
    let text = o.text(0)?;
    let mut out = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', ';'])) {
        let word = line.split_whitespace().next().unwrap_or_default();
        let bytes: Option<Vec<u8>> = word.split(':').map(hex_byte).collect();
        match bytes.and_then(|b| <[u8; 32]>::try_from(b).ok()) {
            Some(fingerprint) => out.push(fingerprint),
            None => {
                let message = format!(
                    "`{}` wants a SHA-256 fingerprint: 32 bytes in hexadecimal with colons",
                    o.name()
                );
                return Err(o.bad(
                    0,
                    message,
                    "`openssl x509 -fingerprint -sha256 -noout -in FILE` shows it",
                ));
            }
        }
    }
    Ok(out)
}

fn hex_byte(text: &str) -> Option<u8> {
    (text.len() == 2).then(|| u8::from_str_radix(text, 16).ok()).flatten()
}
