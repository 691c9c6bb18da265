//! From the configuration's files to what the control plane works with: keys, certificates, rules.
//!
//! Everything is read once, at the start, so that it is at hand after privileges are gone. Each error names the option
//! and its file.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ovpn_config::Config;
use ovpn_config::model::{
    Connection, CrlSource, KeyDirection, Material, RemoteCertEku, Tls, TlsCryptV2Cookie,
    TlsVersion as ConfigVersion, VerifyClientCert as ConfigVerify, X509NameMatch,
};
use ovpn_control::{
    Crls, Identity, NameRule, PeerRules, TlsClient, TlsCryptV2Server, TlsOptions, TlsServer, TlsVersion,
    VerifyClientCert, Wrapping, certificates_from_pem, crls_from_pem,
};
use ovpn_crypto::static_key::StaticKey;
use ovpn_crypto::tls_auth::AuthDigest;
use ovpn_crypto::tls_crypt_v2::{ClientKey, ServerKey};
use zeroize::Zeroizing;

use crate::outcome::Fatal;

/// The bytes of a file or an inline block. Wiped when dropped.
///
/// # Errors
/// Names the option and the file.
pub(crate) fn read(option: &str, material: &Material) -> Result<Zeroizing<Vec<u8>>, Fatal> {
    match material {
        Material::Inline(text) => Ok(Zeroizing::new(text.clone().into_bytes())),
        Material::Path(path) => std::fs::read(path)
            .map(Zeroizing::new)
            .map_err(|error| Fatal(format!("--{option} fails with '{path}': {error}"))),
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

fn bad(option: &str, material: &Material, error: impl std::fmt::Display) -> Fatal {
    Fatal(format!("--{option} {}: {error}", name_of(material)))
}

/// TLS as a client.
///
/// # Errors
/// A sentence about the file or option that cannot be used.
pub(crate) fn tls_client(config: &Config) -> Result<TlsClient, Fatal> {
    let identity = if config.tls.no_client_cert { None } else { identity(config)? };
    let (rules, _) = peer_rules(&config.tls, Peer::Server)?;
    let tls = TlsClient::new(identity, rules, &tls_options(&config.tls))
        .map_err(|error| Fatal(error.to_string()))?;
    warn_ignored(tls.ignored_names());
    Ok(tls)
}

/// TLS as a server, and the revocation lists it re-reads.
///
/// # Errors
/// A sentence about the file or option that cannot be used.
pub(crate) fn tls_server(config: &Config) -> Result<(TlsServer, Option<CrlFile>), Fatal> {
    let identity = identity(config)?.ok_or_else(|| {
        Fatal("a TLS server needs a certificate and its key: give cert and key (or pkcs12)".to_owned())
    })?;
    let (rules, crl) = peer_rules(&config.tls, Peer::Client)?;
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

fn identity(config: &Config) -> Result<Option<Identity>, Fatal> {
    let tls = &config.tls;
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        if tls.cert.is_some() || tls.key.is_some() {
            return Err(Fatal("cert and key belong together: only one of them is given".to_owned()));
        }
        if tls.pkcs12.is_some() {
            return Err(Fatal(
                "pkcs12 files are not read yet: convert it with `openssl pkcs12 -in FILE -nodes -out FILE.pem` and \
                 name FILE.pem as ca, cert and key"
                    .to_owned(),
            ));
        }
        return Ok(None);
    };
    let mut chain = read("cert", cert)?;
    if let Some(extra) = &tls.extra_certs {
        chain.push(b'\n');
        chain.extend_from_slice(&read("extra-certs", extra)?);
    }
    let key_pem = read("key", key)?;
    let chain = certificates_from_pem(&chain).map_err(|error| bad("cert", cert, error))?;
    let key_der = crate::private_key::from_pem(&key_pem, || crate::private_key::password(config))
        .map_err(|error| bad("key", key, error))?;
    Identity::from_der(chain, key_der).map(Some).map_err(|error| Fatal(error.to_string()))
}

fn peer_rules(tls: &Tls, peer: Peer) -> Result<(PeerRules, Option<CrlFile>), Fatal> {
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
    let crl = match &tls.crl {
        Some(CrlSource::File(material)) => Some(CrlFile::open(material)?),
        _ => None,
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
        crls: crl.as_ref().map(|crl| crl.lists.clone()),
        fingerprints: tls.peer_fingerprints.clone(),
        issuer_hashes: tls.verify_hash.iter().map(|hash| hash.to_vec()).collect(),
        remote_cert_tls,
        remote_cert_eku,
        remote_cert_ku,
        name,
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

/// A revocation list that is read again when its file changes.
#[derive(Debug)]
pub(crate) struct CrlFile {
    path: Option<String>,
    seen: Option<(SystemTime, u64)>,
    lists: Crls,
}

impl CrlFile {
    fn open(material: &Material) -> Result<Self, Fatal> {
        let der = crls_from_pem(&read("crl-verify", material)?)
            .map_err(|error| bad("crl-verify", material, error))?;
        let lists = Crls::new(&der).map_err(|error| bad("crl-verify", material, error))?;
        let path = match material {
            Material::Path(path) => Some(path.clone()),
            Material::Inline(_) => None,
        };
        let seen = path.as_deref().and_then(stamp);
        Ok(Self { path, seen, lists })
    }

    /// Reads the file again if it changed since it was read last. A file that cannot be read leaves the former list
    /// in force.
    pub(crate) fn refresh(&mut self) {
        let Some(path) = &self.path else { return };
        let now = stamp(path);
        if now.is_none() || now == self.seen {
            return;
        }
        let outcome = std::fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|pem| crls_from_pem(&pem).map_err(|error| error.to_string()))
            .and_then(|der| self.lists.replace(&der));
        match outcome {
            Ok(()) => {
                tracing::info!("CRL: loaded {path} again");
                self.seen = now;
            }
            Err(error) => tracing::warn!("CRL: cannot read {path}: {error}; the former list stays in force"),
        }
    }
}

fn stamp(path: &str) -> Option<(SystemTime, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
