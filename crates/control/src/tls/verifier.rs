//! One session's view of the peer's certificate: rustls asks, our rules answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::{Shared, VerifyClientCert};
use crate::PeerChain;
use crate::verify::{PeerIs, Refusal, RefusalKind};

/// One session's view: the shared rules, its clock, and what it found.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    shared: Arc<Shared>,
    pub(super) peer: PeerIs,
    signatures: WebPkiSupportedAlgorithms,
    pub(super) unix: AtomicU64,
    found: Mutex<Option<Result<PeerChain, Refusal>>>,
}

impl PeerVerifier {
    pub(super) fn new(shared: &Arc<Shared>, peer: PeerIs, unix: u64) -> Arc<Self> {
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

    pub(super) fn found(&self) -> Option<Result<PeerChain, Refusal>> {
        self.found.lock().ok().and_then(|found| found.clone())
    }
}

impl TimeProvider for PeerVerifier {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.unix.load(Ordering::Relaxed))))
    }
}

/// The part of rustls' two verifier traits that is the same in both: signatures of the handshake.
macro_rules! signature_checks {
    () => {
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
    };
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

    signature_checks!();
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

    signature_checks!();
}
