//! TLS inside the control channel: the one file that knows rustls.
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

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ClientConnection, ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, CertificateError, Connection, DigitallySignedStruct, DistinguishedName, Error,
    ProtocolVersion, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::event::TlsFacts;
use crate::verify::{PeerIs, PeerRules, Refusal, RefusalKind, Verifier};
use crate::{CertificateFacts, PeerChain};

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
            _ => Ok(Self { key: Arc::new(key) }),
        }
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
        let wanted = options.min_version..=options.max_version;
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

/// One session's view: the shared rules, its clock, and what it found.
#[derive(Debug)]
struct PeerVerifier {
    shared: Arc<Shared>,
    peer: PeerIs,
    signatures: WebPkiSupportedAlgorithms,
    unix: AtomicU64,
    found: Mutex<Option<Result<PeerChain, Refusal>>>,
}

impl PeerVerifier {
    fn new(shared: &Arc<Shared>, peer: PeerIs, unix: u64) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            peer,
            signatures: shared.provider.signature_verification_algorithms,
            unix: AtomicU64::new(unix),
            found: Mutex::new(None),
        })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let Some(verifier) = &self.shared.verifier else {
            return Err(Error::General("a certificate that was not asked for".into()));
        };
        let found = verifier.verify(leaf, rest, now);
        let result = match &found {
            Ok(_) => Ok(()),
            Err(refusal) => Err(Error::InvalidCertificate(match refusal.kind {
                RefusalKind::BadEncoding => CertificateError::BadEncoding,
                RefusalKind::Expired => CertificateError::Expired,
                RefusalKind::Revoked => CertificateError::Revoked,
                RefusalKind::UnknownCa => CertificateError::UnknownIssuer,
                RefusalKind::BadSignature => CertificateError::BadSignature,
                RefusalKind::Purpose => CertificateError::InvalidPurpose,
                RefusalKind::Policy => CertificateError::ApplicationVerificationFailure,
            })),
        };
        if let Ok(mut place) = self.found.lock() {
            *place = Some(found);
        }
        result
    }

    fn found(&self) -> Option<Result<PeerChain, Refusal>> {
        self.found.lock().ok().and_then(|found| found.clone())
    }
}

impl TimeProvider for PeerVerifier {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.unix.load(Ordering::Relaxed))))
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, rest, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.signatures)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.signatures)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.shared.client_cert == VerifyClientCert::Require
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, rest, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.signatures)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.signatures)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_schemes()
    }
}

/// Why TLS failed, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFailure(pub(crate) String);

impl TlsFailure {
    fn setup(error: Error) -> Self {
        Self(format!("TLS could not be started ({error})"))
    }
}

/// The longest TLS record: header, 2^14 bytes and the most that ciphers add (RFC 5246).
const MAX_RECORD: usize = 5 + 16_384 + 2048;

/// One TLS session.
pub(crate) struct Tls {
    /// Boxed, so that states of a key are cheap to hand on.
    connection: Box<Connection>,
    peer: Arc<PeerVerifier>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("handshaking", &self.connection.is_handshaking()).finish_non_exhaustive()
    }
}

impl Tls {
    fn new(mut connection: Connection, peer: Arc<PeerVerifier>) -> Self {
        connection.set_buffer_limit(None);
        Self { connection: Box::new(connection), peer, incoming: Vec::new(), outgoing: Vec::new() }
    }

    /// Takes the next bytes of the stream, and returns the plaintext of each complete record that held one.
    pub(crate) fn receive(&mut self, unix: u64, bytes: &[u8]) -> Result<Vec<Zeroizing<Vec<u8>>>, TlsFailure> {
        self.peer.unix.store(unix, Ordering::Relaxed);
        self.incoming.extend_from_slice(bytes);
        let mut plaintexts = Vec::new();
        let mut used = 0;
        let result = loop {
            let rest = self.incoming.get(used..).unwrap_or_default();
            let Some(&[.., high, low]) = rest.first_chunk::<5>() else { break Ok(()) };
            let end = 5 + usize::from(u16::from_be_bytes([high, low]));
            if end > MAX_RECORD {
                break Err(TlsFailure("what the peer sent is not TLS".into()));
            }
            let Some(record) = rest.get(..end) else { break Ok(()) };
            match Self::record(&mut self.connection, record) {
                Ok(Some(plaintext)) => plaintexts.push(plaintext),
                Ok(None) => {}
                Err(error) => break Err(TlsFailure(self.explain(&error))),
            }
            used += end;
        };
        self.incoming.drain(..used.min(self.incoming.len()));
        self.collect();
        result.map(|()| plaintexts)
    }

    fn record(connection: &mut Connection, mut record: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        use std::io::Read;
        while !record.is_empty() {
            match connection.read_tls(&mut record) {
                Ok(0) | Err(_) => return Err(Error::General("the TLS session is closed".into())),
                Ok(_) => {}
            }
            let state = connection.process_new_packets()?;
            let length = state.plaintext_bytes_to_read();
            if length > 0 {
                let mut plaintext = Zeroizing::new(vec![0; length]);
                return match connection.reader().read_exact(&mut plaintext) {
                    Ok(()) => Ok(Some(plaintext)),
                    Err(error) => Err(Error::General(error.to_string())),
                };
            }
        }
        Ok(None)
    }

    /// Moves what TLS wants to send into the stream.
    fn collect(&mut self) {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut self.outgoing).is_err() {
                break;
            }
        }
    }

    /// Starts the handshake of a client.
    pub(crate) fn begin(&mut self) {
        self.collect();
    }

    /// Whether the handshake is done, as far as this side knows.
    pub(crate) fn is_established(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Writes one message as one record.
    pub(crate) fn send(&mut self, message: &[u8]) {
        use std::io::Write;
        // Cannot fail: the buffer has no limit and is memory.
        let written = self.connection.writer().write_all(message);
        debug_assert!(written.is_ok());
        self.collect();
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self) {
        self.connection.send_close_notify();
        self.collect();
    }

    /// Whether bytes of the stream wait to be sent.
    pub(crate) fn has_output(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Takes up to `limit` bytes of the stream.
    pub(crate) fn take_output(&mut self, limit: usize) -> Vec<u8> {
        let length = limit.min(self.outgoing.len());
        self.outgoing.drain(..length).collect()
    }

    /// Exports keying material without context.
    pub(crate) fn export(&self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure> {
        match self.connection.export_keying_material(out, label.as_bytes(), None) {
            Ok(_) => Ok(()),
            Err(error) => Err(TlsFailure(format!("TLS gives no keying material ({error})"))),
        }
    }

    /// The verified chain of the peer.
    pub(crate) fn chain(&self) -> Option<PeerChain> {
        self.peer.found().and_then(Result::ok)
    }

    /// Facts for the log.
    pub(crate) fn facts(&self) -> TlsFacts {
        let name = |version| match version {
            ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
            ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
            other => format!("{other:?}"),
        };
        TlsFacts {
            version: self.connection.protocol_version().map(name).unwrap_or_default(),
            suite: self
                .connection
                .negotiated_cipher_suite()
                .map(|suite| format!("{:?}", suite.suite()))
                .unwrap_or_default(),
            group: self
                .connection
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name()))
                .unwrap_or_default(),
        }
    }

    fn explain(&self, error: &Error) -> String {
        let (peer, our) = match self.peer.peer {
            PeerIs::Client => ("client", "server"),
            PeerIs::Server => ("server", "client"),
        };
        match error {
            Error::InvalidCertificate(reason) => match self.peer.found() {
                Some(Err(refusal)) => refusal.sentence,
                _ => format!("the {peer}'s certificate was refused ({reason})"),
            },
            Error::NoCertificatesPresented => format!(
                "the {peer} sent no certificate: give it `cert` and `key`, or allow clients without by \
                 `verify-client-cert none`"
            ),
            Error::AlertReceived(alert) => explain_alert(*alert, peer, our),
            Error::PeerIncompatible(reason) => format!(
                "the {peer} has no TLS version, cipher suite or group in common with us ({reason:?}): it must speak \
                 TLS 1.2 with ECDHE and AES-GCM, or TLS 1.3; see `tls-version-min` and `tls-cipher` on both sides"
            ),
            Error::DecryptError => {
                format!(
                    "a TLS record of the {peer} could not be decrypted: try again, or check the path for tampering"
                )
            }
            other => format!("TLS with the {peer} failed ({other})"),
        }
    }
}

fn explain_alert(alert: AlertDescription, peer: &str, our: &str) -> String {
    use AlertDescription as A;
    match alert {
        A::UnknownCA => format!(
            "the {peer} does not know the CA of our certificate: both sides need certificates of the same CA"
        ),
        A::CertificateExpired => {
            format!(
                "the {peer} says that our certificate has expired or is not valid yet: renew it, and check both clocks"
            )
        }
        A::CertificateRevoked => format!("the {peer} says that our certificate is revoked: get a new one"),
        A::CertificateRequired => {
            format!("the {peer} demands a certificate and we have none: set `cert` and `key`")
        }
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateUnknown
        | A::AccessDenied
        | A::DecryptError => {
            format!(
                "the {peer} refused our certificate ({alert:?}): it must be a {our} certificate that the {peer}'s \
                 rules accept; its log says which"
            )
        }
        A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity => format!(
            "the {peer} found no TLS version or cipher suite in common with us ({alert:?}): see `tls-version-min` and \
             `tls-cipher` on both sides"
        ),
        other => format!("the {peer} broke off the TLS handshake ({other:?}): its log says why"),
    }
}
