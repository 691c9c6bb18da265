//! From the configuration's files to what the control plane works with: keys, certificates, rules.
//!
//! Everything is read once, at the start, so that it is at hand after privileges are gone. Each error names the option
//! and its file.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ovpn_config::Config;
use ovpn_config::model::{
    CertProfile, Connection, CrlSource, KeyDirection, Material, RemoteCertEku, Tls, TlsCryptV2Cookie,
    TlsVersion as ConfigVersion, VerifyClientCert as ConfigVerify, X509NameMatch,
};
use ovpn_control::{
    CertProfile as Profile, Crls, NameRule, PeerRules, RevokedSerials, TlsClient, TlsCryptV2Server,
    TlsOptions, TlsServer, TlsVersion, VerifyClientCert, Wrapping, certificates_from_pem, crls_from_pem,
};
use ovpn_crypto::static_key::StaticKey;
use ovpn_crypto::tls_auth::AuthDigest;
use ovpn_crypto::tls_crypt_v2::{ClientKey, ServerKey};
use zeroize::Zeroizing;

use crate::identity::{self, Keyring, Own, Trouble};
use crate::outcome::Fatal;
use crate::privileges;

/// The bytes of a file or an inline block. Wiped when dropped.
///
/// # Errors
/// Names the option and the file.
pub(crate) fn read(option: &str, material: &Material) -> Result<Zeroizing<Vec<u8>>, Fatal> {
    match material {
        Material::Inline(text) => Ok(Zeroizing::new(text.clone().into_bytes())),
        Material::Path(path) => std::fs::read(path).map(Zeroizing::new).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "look at the path; it is relative to the working directory",
                std::io::ErrorKind::PermissionDenied => "start as root, or as the file's owner",
                _ => "look at the file",
            };
            Fatal(format!("--{option} fails with '{path}': {error}; {hint}"))
        }),
    }
}

fn read_text(option: &str, material: &Material) -> Result<Zeroizing<String>, Fatal> {
    let bytes = read(option, material)?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// What to call a material in messages.
fn name_of(material: &Material) -> &str {
    match material {
        Material::Inline(_) => "[inline]",
        Material::Path(path) => path,
    }
}

/// The wrapping of control packets for one connection entry (or a server).
///
/// # Errors
/// When a key file cannot be read or is none.
pub(crate) fn wrapping(
    tls: &Tls,
    tls_auth: Option<&(Material, KeyDirection)>,
    tls_crypt: Option<&Material>,
    tls_crypt_v2: Option<&Material>,
) -> Result<Wrapping, Fatal> {
    if let Some(material) = tls_crypt_v2 {
        let text = read_text("tls-crypt-v2", material)?;
        let key = ClientKey::from_pem(&text).map_err(|error| bad("tls-crypt-v2", material, error))?;
        return Ok(Wrapping::TlsCryptV2(Arc::new(key)));
    }
    if let Some(material) = tls_crypt {
        return Ok(Wrapping::TlsCrypt(static_key("tls-crypt", material)?));
    }
    if let Some((material, direction)) = tls_auth {
        use ovpn_crypto::static_key::KeyDirection as D;
        let direction = match direction {
            KeyDirection::Bidirectional => D::Bidirectional,
            KeyDirection::Normal => D::Normal,
            KeyDirection::Inverse => D::Inverse,
        };
        let digest = AuthDigest::from_name(&tls.auth_digest)
            .ok_or_else(|| Fatal(format!("--auth {}: this digest is not supported", tls.auth_digest)))?;
        return Ok(Wrapping::TlsAuth { key: static_key("tls-auth", material)?, direction, digest });
    }
    Ok(Wrapping::None)
}

/// The wrapping of one connection entry.
///
/// # Errors
/// As [`wrapping`].
pub(crate) fn wrapping_of(config: &Config, entry: &Connection) -> Result<Wrapping, Fatal> {
    wrapping(&config.tls, entry.tls_auth.as_ref(), entry.tls_crypt.as_ref(), entry.tls_crypt_v2.as_ref())
}

/// A server's tls-crypt-v2 key, where it has one.
///
/// # Errors
/// When the file cannot be read or is no such key.
pub(crate) fn tls_crypt_v2_server(tls: &Tls) -> Result<Option<TlsCryptV2Server>, Fatal> {
    let Some(material) = &tls.tls_crypt_v2 else { return Ok(None) };
    let text = read_text("tls-crypt-v2", material)?;
    let key = ServerKey::from_pem(&text).map_err(|error| bad("tls-crypt-v2", material, error))?;
    let days = |age: Duration| u32::try_from(age.as_secs() / 86_400).unwrap_or(u32::MAX);
    Ok(Some(TlsCryptV2Server {
        key: Arc::new(key),
        force_cookie: tls.tls_crypt_v2_cookie == TlsCryptV2Cookie::ForceCookie,
        max_age_days: tls.tls_crypt_v2_max_age.map(days),
    }))
}

fn static_key(option: &str, material: &Material) -> Result<StaticKey, Fatal> {
    let text = read_text(option, material)?;
    StaticKey::from_text(&text).map_err(|error| bad(option, material, error))
}

/// An option's material that cannot be used.
pub(crate) fn bad(option: &str, material: &Material, error: impl std::fmt::Display) -> Fatal {
    Fatal(format!("--{option} {}: {error}", name_of(material)))
}

/// TLS as a client, and the revocation lists it re-reads.
///
/// # Errors
/// A sentence about the file or option that cannot be used.
pub(crate) fn tls_client(
    config: &Config,
    keyring: &Keyring,
) -> Result<(TlsClient, Option<CrlFile>), Trouble> {
    let own = if config.tls.no_client_cert { None } else { identity::load(config, keyring)? };
    let (identity, authorities) = own.map_or((None, Vec::new()), |own| (Some(own.identity), own.authorities));
    let (rules, crl) = peer_rules(config, authorities, Peer::Server)?;
    let tls = TlsClient::new(identity, rules, &tls_options(&config.tls))
        .map_err(|error| Fatal(error.to_string()))?;
    warn_ignored(tls.ignored_names());
    Ok((tls, crl))
}

/// TLS as a server, and the revocation lists it re-reads.
///
/// # Errors
/// A sentence about the file or option that cannot be used.
pub(crate) fn tls_server(
    config: &Config,
    keyring: &Keyring,
) -> Result<(TlsServer, Option<CrlFile>), Trouble> {
    let Own { identity, authorities } = identity::load(config, keyring)?.ok_or_else(|| {
        Fatal("a TLS server needs a certificate and its key: give cert and key (or pkcs12)".to_owned())
    })?;
    let (rules, crl) = peer_rules(config, authorities, Peer::Client)?;
    let verify = match config.server.verify_client_cert {
        ConfigVerify::None => VerifyClientCert::None,
        ConfigVerify::Optional => VerifyClientCert::Optional,
        ConfigVerify::Require => VerifyClientCert::Require,
    };
    let tls = TlsServer::new(identity, rules, verify, &tls_options(&config.tls))
        .map_err(|error| Fatal(error.to_string()))?;
    warn_ignored(tls.ignored_names());
    Ok((tls, crl))
}

fn warn_ignored(names: &[String]) {
    if !names.is_empty() {
        tracing::warn!(
            "these TLS cipher suites or groups are not supported and are left out: {}",
            names.join(" ")
        );
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Client,
    Server,
}

fn tls_options(tls: &Tls) -> TlsOptions {
    let version = |version: ConfigVersion| match version {
        ConfigVersion::V1_0 | ConfigVersion::V1_1 | ConfigVersion::V1_2 => TlsVersion::V12,
        ConfigVersion::V1_3 => TlsVersion::V13,
    };
    TlsOptions {
        min_version: version(tls.version_min),
        max_version: tls.version_max.map_or(TlsVersion::V13, version),
        cipher_suites: tls.cipher_list.iter().chain(&tls.cipher_suites).cloned().collect(),
        groups: tls.groups.clone(),
    }
}

/// `authorities` came with the own certificate; they count where no `ca` is given.
fn peer_rules(
    config: &Config,
    authorities: Vec<Vec<u8>>,
    peer: Peer,
) -> Result<(PeerRules, Option<CrlFile>), Fatal> {
    let tls = &config.tls;
    let mut ca = Vec::new();
    if let Some(material) = &tls.ca {
        ca.extend(certificates_from_pem(&read("ca", material)?).map_err(|error| bad("ca", material, error))?);
        if ca.is_empty() {
            return Err(bad("ca", material, "no certificate in PEM form"));
        }
    }
    if let Some(dir) = &tls.ca_path {
        let entries = std::fs::read_dir(dir).map_err(|error| Fatal(format!("--capath {dir}: {error}")))?;
        for entry in entries.flatten() {
            if let Ok(pem) = std::fs::read(entry.path()) {
                for der in certificates_from_pem(&pem).unwrap_or_default() {
                    if !ca.contains(&der) {
                        ca.push(der);
                    }
                }
            }
        }
    }
    if tls.ca.is_none() && tls.ca_path.is_none() {
        ca = authorities;
    }
    let crl = match &tls.crl {
        Some(CrlSource::File(material)) => Some(CrlFile::open(config, material)?),
        Some(CrlSource::Directory(path)) => Some(CrlFile::open_directory(config, path)?),
        None => None,
    };
    let own_purpose = match peer {
        Peer::Server => RemoteCertEku::Server,
        Peer::Client => RemoteCertEku::Client,
    };
    // `remote-cert-tls` is both: a key usage extension and the purpose of the peer's role.
    let remote_cert_tls = tls.remote_cert_ku_required && tls.remote_cert_eku.as_ref() == Some(&own_purpose);
    let remote_cert_eku = match &tls.remote_cert_eku {
        None => None,
        Some(_) if remote_cert_tls => None,
        Some(RemoteCertEku::Server) => Some("1.3.6.1.5.5.7.3.1".to_owned()),
        Some(RemoteCertEku::Client) => Some("1.3.6.1.5.5.7.3.2".to_owned()),
        Some(RemoteCertEku::Other(text)) => Some(eku_oid(text)),
    };
    let remote_cert_ku = if !tls.remote_cert_ku.is_empty() {
        Some(tls.remote_cert_ku.clone())
    } else if tls.remote_cert_ku_required && !remote_cert_tls {
        Some(Vec::new())
    } else {
        None
    };
    let name = tls.verify_x509.as_ref().map(|rule| match rule.matching {
        X509NameMatch::Subject => NameRule::Subject(rule.name.clone()),
        X509NameMatch::Name => NameRule::Name(rule.name.clone()),
        X509NameMatch::NamePrefix => NameRule::NamePrefix(rule.name.clone()),
    });
    let rules = PeerRules {
        ca,
        crls: crl.as_ref().and_then(|crl| match &crl.revoked {
            Revoked::Lists(lists) => Some(lists.clone()),
            Revoked::Serials(_) => None,
        }),
        revoked_serials: crl.as_ref().and_then(|crl| match &crl.revoked {
            Revoked::Lists(_) => None,
            Revoked::Serials(serials) => Some(serials.clone()),
        }),
        fingerprints: tls.peer_fingerprints.clone(),
        issuer_hashes: tls.verify_hash.iter().map(|hash| hash.to_vec()).collect(),
        remote_cert_tls,
        remote_cert_eku,
        remote_cert_ku,
        name,
        profile: match tls.cert_profile {
            CertProfile::Insecure => Profile::Insecure,
            CertProfile::Legacy => Profile::Legacy,
            CertProfile::Preferred => Profile::Preferred,
            CertProfile::SuiteB => Profile::SuiteB,
        },
    };
    Ok((rules, crl))
}

/// The dotted number of an extended key usage by OpenSSL's long name; numbers stay as they are.
fn eku_oid(text: &str) -> String {
    match text {
        "TLS Web Server Authentication" => "1.3.6.1.5.5.7.3.1",
        "TLS Web Client Authentication" => "1.3.6.1.5.5.7.3.2",
        "Code Signing" => "1.3.6.1.5.5.7.3.3",
        "E-mail Protection" => "1.3.6.1.5.5.7.3.4",
        "IPSec End System" => "1.3.6.1.5.5.7.3.5",
        "IPSec Tunnel" => "1.3.6.1.5.5.7.3.6",
        "IPSec User" => "1.3.6.1.5.5.7.3.7",
        "Time Stamping" => "1.3.6.1.5.5.7.3.8",
        number => number,
    }
    .to_owned()
}

/// Revocation lists that are read again when their file or folder changes.
#[derive(Debug)]
pub(crate) struct CrlFile {
    path: Option<String>,
    seen: Option<Stamp>,
    revoked: Revoked,
}

#[derive(Debug)]
enum Revoked {
    /// `crl-verify FILE`.
    Lists(Crls),
    /// `crl-verify DIR dir`: a file per serial number.
    Serials(RevokedSerials),
}

impl CrlFile {
    fn open(config: &Config, material: &Material) -> Result<Self, Fatal> {
        let here = match material {
            // It is read again from inside the `chroot` directory.
            Material::Path(path) => Material::Path(privileges::seen_from_here(config, path)),
            inline => inline.clone(),
        };
        let der =
            crls_from_pem(&read("crl-verify", &here)?).map_err(|error| bad("crl-verify", material, error))?;
        let lists = Crls::new(&der).map_err(|error| bad("crl-verify", material, error))?;
        let path = match material {
            Material::Path(path) => Some(path.clone()),
            Material::Inline(_) => None,
        };
        let seen = path.as_deref().and_then(|path| stamp(&privileges::seen_from_here(config, path)));
        Ok(Self { path, seen, revoked: Revoked::Lists(lists) })
    }

    fn open_directory(config: &Config, path: &str) -> Result<Self, Fatal> {
        let serials = RevokedSerials::default();
        let here = privileges::seen_from_here(config, path);
        let seen = stamp(&here);
        serials.replace(names_in(&here).map_err(|error| Fatal(format!("--crl-verify {path}: {error}")))?);
        Ok(Self { path: Some(path.to_owned()), seen, revoked: Revoked::Serials(serials) })
    }

    /// Reads again what changed since it was read last; whether a new list is in force. What cannot be read leaves the
    /// former one.
    pub(crate) fn refresh(&mut self) -> bool {
        let Some(path) = &self.path else { return false };
        let now = stamp(path);
        if now.is_none() || now == self.seen {
            return false;
        }
        // Told once, however long it lasts.
        self.seen = now;
        let outcome = match &self.revoked {
            Revoked::Lists(lists) => std::fs::read(path)
                .map_err(|error| error.to_string())
                .and_then(|pem| crls_from_pem(&pem).map_err(|error| error.to_string()))
                .and_then(|der| lists.replace(&der)),
            Revoked::Serials(serials) => {
                names_in(path).map(|names| serials.replace(names)).map_err(|error| error.to_string())
            }
        };
        match outcome {
            Ok(()) => {
                tracing::info!("CRL: loaded {path} again");
                true
            }
            Err(error) => {
                tracing::warn!("CRL: cannot read {path}: {error}; the former list stays in force");
                false
            }
        }
    }
}

fn names_in(path: &str) -> std::io::Result<HashSet<String>> {
    std::fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Changes whenever the content may have.
type Stamp = (SystemTime, u64, u64);

fn stamp(path: &str) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}
