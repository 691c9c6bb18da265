//! TLS inside the control channel: the one place that knows rustls.
//!
//! ```text
//!  messages in order ─▶ records ─▶ rustls ─▶ one plaintext per record (key-method 2, text messages)
//!  one write each    ─▶ rustls ─▶ byte stream, cut to fit packets
//! ```
//!
//! Every key gets a fresh TLS session: no resumption, no tickets, no SNI, no ALPN. Certificates are checked without
//! names, by [`Verifier`]. Each session has its own view of the wall clock, set with every call, and keeps what its
//! verifier found, so that the configuration itself is shared and never written.
//!
//! Source: OpenVPN wire protocol, "TLS inside"; RFC 8446, RFC 5246, RFC 5705.

mod external;
mod session;
mod verifier;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{ClientConfig, ClientConnection, ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{Error, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::verify::{PeerIs, PeerRules, RefusalKind, Verifier};
use crate::{CertificateFacts, PeerChain};

pub use external::{ExternalSigner, Padding, SignRequest};
pub(crate) use session::{Tls, TlsFailure};
use verifier::PeerVerifier;

/// TLS protocol versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V12,
    /// TLS 1.3 (RFC 8446).
    V13,
}

/// `tls-version-min`, `tls-cipher` and their kin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// `tls-version-min`.
    pub min_version: TlsVersion,
    /// `tls-version-max`.
    pub max_version: TlsVersion,
    /// `tls-cipher` and `tls-ciphersuites` names, OpenSSL's or IANA's; empty takes the default.
    pub cipher_suites: Vec<String>,
    /// `tls-groups` names; empty takes the default.
    pub groups: Vec<String>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            min_version: TlsVersion::V12,
            max_version: TlsVersion::V13,
            cipher_suites: Vec::new(),
            groups: Vec::new(),
        }
    }
}

/// A TLS configuration that cannot work, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsConfigError(String);

/// This side's certificate chain and private key.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    /// False for keys that cannot sign in TLS 1.3.
    fits_tls13: bool,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.facts().map_or_else(|| "?".to_owned(), |facts| facts.subject))
    }
}

impl Identity {
    /// From DER: the chain with the own certificate first (`cert`, then `extra-certs`), and the key as PKCS#8, PKCS#1
    /// or SEC1.
    ///
    /// # Errors
    /// A sentence about what does not fit.
    pub fn from_der(chain: Vec<Vec<u8>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsConfigError> {
        if chain.is_empty() {
            return Err(TlsConfigError("`cert` holds no certificate".into()));
        }
        let chain: Vec<CertificateDer<'static>> = chain.into_iter().map(CertificateDer::from).collect();
        let key = aws_lc_rs::sign::any_supported_type(&Zeroizing::new(key)).map_err(|error| {
            TlsConfigError(format!(
                "`key` cannot be used ({error}): supported are RSA (2048 bits and more), ECDSA P-256, P-384, P-521 \
                 and Ed25519 keys"
            ))
        })?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Err(Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                Err(TlsConfigError("`key` does not belong to the certificate in `cert`".into()))
            }
            Err(Error::InvalidCertificate(error)) => Err(TlsConfigError(format!(
                "the certificate in `cert` cannot be used ({error:?}): issue it anew as X.509 version 3"
            ))),
            _ => Ok(Self { key: Arc::new(key), fits_tls13: true }),
        }
    }

    /// With a key that is elsewhere (`management-external-key`): `signer` makes the signatures. `paddings` are those it
    /// can do, where the key is RSA.
    ///
    /// # Errors
    /// A sentence about what does not fit.
    pub fn external(
        chain: Vec<Vec<u8>>,
        signer: Arc<dyn ExternalSigner>,
        paddings: &[Padding],
    ) -> Result<Self, TlsConfigError> {
        let chain: Vec<CertificateDer<'static>> = chain.into_iter().map(CertificateDer::from).collect();
        let leaf = chain.first().ok_or_else(|| TlsConfigError("`cert` holds no certificate".into()))?;
        let key = external::ExternalKey::new(leaf, signer, paddings).map_err(TlsConfigError)?;
        let fits_tls13 = key.fits_tls13();
        Ok(Self { key: Arc::new(CertifiedKey::new(chain, Arc::new(key))), fits_tls13 })
    }

    /// From PEM text: every certificate of `cert` in order, and the first key of `key`.
    ///
    /// # Errors
    /// A sentence about what does not fit.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, TlsConfigError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            TlsConfigError(
                "`key` holds no private key in PEM form (an encrypted one must be decrypted first)".into(),
            )
        })?;
        Self::from_der(certificates_from_pem(cert)?, key)
    }

    /// What the own certificate says.
    pub fn facts(&self) -> Option<CertificateFacts> {
        CertificateFacts::parse(self.key.cert.first()?)
    }
}

/// Every certificate of a PEM text, as DER.
///
/// # Errors
/// When a block cannot be read.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, TlsConfigError> {
    CertificateDer::pem_slice_iter(pem)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| TlsConfigError(format!("certificate file cannot be read ({error})")))
}

/// Every revocation list of a PEM text, as DER.
///
/// # Errors
/// When a block cannot be read.
pub fn crls_from_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, TlsConfigError> {
    rustls_pki_types::CertificateRevocationListDer::pem_slice_iter(pem)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| TlsConfigError(format!("revocation list cannot be read ({error})")))
}

/// `verify-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyClientCert {
    /// A client without a valid certificate is refused.
    #[default]
    Require,
    /// A certificate is checked if there is one.
    Optional,
    /// None is asked for.
    None,
}

/// TLS as a client; shared by all its sessions.
#[derive(Debug, Clone)]
pub struct TlsClient(Arc<Shared>);

impl TlsClient {
    /// A client with this certificate, if any, for servers that `rules` accept.
    ///
    /// # Errors
    /// A sentence about what cannot work.
    pub fn new(
        identity: Option<Identity>,
        rules: PeerRules,
        options: &TlsOptions,
    ) -> Result<Self, TlsConfigError> {
        let verifier = Verifier::new(rules, PeerIs::Server).map_err(TlsConfigError)?;
        Ok(Self(Arc::new(Shared::new(identity, Some(verifier), VerifyClientCert::None, options)?)))
    }

    /// Configured names that are not supported and therefore left out.
    pub fn ignored_names(&self) -> &[String] {
        &self.0.ignored
    }

    pub(crate) fn start(&self, unix: u64) -> Result<Tls, TlsFailure> {
        let peer = PeerVerifier::new(&self.0, PeerIs::Server, unix);
        let mut config = ClientConfig::builder_with_details(Arc::clone(&self.0.provider), peer.clone())
            .with_protocol_versions(&self.0.versions)
            .map_err(TlsFailure::setup)?
            .dangerous()
            .with_custom_certificate_verifier(peer.clone())
            .with_client_cert_resolver(Arc::new(OwnCertificate(self.0.identity.clone())));
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        // No names anywhere: an address that is never sent.
        let nobody = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let connection = ClientConnection::new(Arc::new(config), nobody).map_err(TlsFailure::setup)?;
        Ok(Tls::new(connection.into(), peer))
    }
}

/// TLS as a server; shared by all its sessions.
#[derive(Debug, Clone)]
pub struct TlsServer(Arc<Shared>);

impl TlsServer {
    /// A server with this certificate, for clients that `rules` accept.
    ///
    /// # Errors
    /// A sentence about what cannot work.
    pub fn new(
        identity: Identity,
        rules: PeerRules,
        client_cert: VerifyClientCert,
        options: &TlsOptions,
    ) -> Result<Self, TlsConfigError> {
        let verifier = match client_cert {
            VerifyClientCert::None => None,
            _ => Some(Verifier::new(rules, PeerIs::Client).map_err(TlsConfigError)?),
        };
        Ok(Self(Arc::new(Shared::new(Some(identity), verifier, client_cert, options)?)))
    }

    /// Configured names that are not supported and therefore left out.
    pub fn ignored_names(&self) -> &[String] {
        &self.0.ignored
    }

    /// Looks at a chain that was accepted once again, with the revocation lists as they are now: the sentence for the
    /// log if one of its certificates has been revoked since. `unix` in seconds since 1970.
    pub fn revoked_since(&self, chain: &PeerChain, unix: u64) -> Option<String> {
        let der = |facts: &CertificateFacts| CertificateDer::from(facts.der.clone());
        let (leaf, rest) = chain.certificates.split_first()?;
        let rest: Vec<_> = rest.iter().map(der).collect();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix));
        let refusal = self.0.verifier.as_ref()?.verify(&der(leaf), &rest, now).err()?;
        (refusal.kind == RefusalKind::Revoked).then_some(refusal.sentence)
    }

    pub(crate) fn start(&self, unix: u64) -> Result<Tls, TlsFailure> {
        let peer = PeerVerifier::new(&self.0, PeerIs::Client, unix);
        let builder = ServerConfig::builder_with_details(Arc::clone(&self.0.provider), peer.clone())
            .with_protocol_versions(&self.0.versions)
            .map_err(TlsFailure::setup)?;
        let builder = match self.0.client_cert {
            VerifyClientCert::None => builder.with_no_client_auth(),
            _ => builder.with_client_cert_verifier(peer.clone()),
        };
        let mut config = builder.with_cert_resolver(Arc::new(OwnCertificate(self.0.identity.clone())));
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        let connection = ServerConnection::new(Arc::new(config)).map_err(TlsFailure::setup)?;
        Ok(Tls::new(connection.into(), peer))
    }
}

struct Shared {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    identity: Option<Identity>,
    verifier: Option<Verifier>,
    client_cert: VerifyClientCert,
    ignored: Vec<String>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}", self.identity, self.verifier)
    }
}

impl Shared {
    fn new(
        identity: Option<Identity>,
        verifier: Option<Verifier>,
        client_cert: VerifyClientCert,
        options: &TlsOptions,
    ) -> Result<Self, TlsConfigError> {
        let mut provider = aws_lc_rs::default_provider();
        // Post-quantum first, where the peer has it (draft-ietf-tls-ecdhe-mlkem).
        provider.kx_groups.sort_by_key(|group| group.name() != rustls::NamedGroup::X25519MLKEM768);
        let mut ignored = Vec::new();
        if !options.cipher_suites.is_empty() {
            provider.cipher_suites =
                select(&options.cipher_suites, &provider.cipher_suites, &mut ignored, |suite| {
                    format!("{:?}", suite.suite())
                });
        }
        if !options.groups.is_empty() {
            let groups = aws_lc_rs::ALL_KX_GROUPS;
            provider.kx_groups =
                select(&options.groups, groups, &mut ignored, |group| format!("{:?}", group.name()));
        }
        let tls13 = identity.as_ref().is_none_or(|identity| identity.fits_tls13);
        let wanted = options.min_version..=if tls13 { options.max_version } else { TlsVersion::V12 };
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        for (version, supported) in
            [(TlsVersion::V13, &rustls::version::TLS13), (TlsVersion::V12, &rustls::version::TLS12)]
        {
            let has_suite =
                provider.cipher_suites.iter().any(|suite| suite.version().version == supported.version);
            if wanted.contains(&version) && has_suite {
                versions.push(supported);
            }
        }
        if versions.is_empty() || provider.kx_groups.is_empty() {
            return Err(TlsConfigError(
                "`tls-version-min`, `tls-version-max`, `tls-cipher`, `tls-ciphersuites` and `tls-groups` together \
                 leave nothing to offer: remove one of them"
                    .into(),
            ));
        }
        Ok(Self { provider: Arc::new(provider), versions, identity, verifier, client_cert, ignored })
    }
}

/// Picks by name, in the order of `names`; OpenSSL's and IANA's spellings are alike once reduced.
fn select<T: Copy>(
    names: &[String],
    all: &[T],
    ignored: &mut Vec<String>,
    name_of: impl Fn(&T) -> String,
) -> Vec<T> {
    let reduce = |name: &str| -> String {
        let upper = name.to_ascii_uppercase().replace('-', "_");
        let upper = upper.trim_start_matches("TLS13_").trim_start_matches("TLS_");
        let upper = match upper {
            "P_256" | "PRIME256V1" => "SECP256R1",
            "P_384" => "SECP384R1",
            "P_521" => "SECP521R1",
            other => other,
        };
        upper
            .replace("WITH_", "")
            .replace("AES_", "AES")
            .replace("_POLY1305_SHA256", "_POLY1305")
            .replace('_', "")
    };
    let mut picked = Vec::new();
    for name in names {
        match all.iter().find(|candidate| reduce(&name_of(candidate)) == reduce(name)) {
            Some(found) => picked.push(*found),
            None => ignored.push(name.clone()),
        }
    }
    picked
}

/// This side's certificate, whatever the peer hints at.
#[derive(Debug)]
struct OwnCertificate(Option<Identity>);

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.as_ref().map(|identity| Arc::clone(&identity.key))
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.as_ref().map(|identity| Arc::clone(&identity.key))
    }
}
