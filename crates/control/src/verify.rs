//! Whether the peer's certificate is one we accept.
//!
//! OpenVPN checks no host names. A certificate is accepted by its chain to our CA, by its fingerprint, or by both; then
//! the configured rules about purpose, key usage and subject apply to it.
//!
//! Source: RFC 5280; OpenVPN manual, "TLS Mode Options".

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use crate::calendar;
use crate::certificate::{CLIENT_AUTH, CertificateFacts, PeerChain, SERVER_AUTH};
use crate::profile::CertProfile;

/// The most certificates a peer may send.
const MAX_CHAIN: usize = 16;

/// Which certificates of the peer are accepted.
#[derive(Debug, Clone, Default)]
pub struct PeerRules {
    /// `ca`: DER certificates that chains may end at. May be empty where `fingerprints` are given.
    pub ca: Vec<Vec<u8>>,
    /// `crl-verify FILE`: revocation lists, exchangeable at any time; see [`Crls`].
    pub crls: Option<Crls>,
    /// `peer-fingerprint`: SHA-256 of acceptable peer certificates; empty accepts any.
    pub fingerprints: Vec<[u8; 32]>,
    /// `verify-hash`: acceptable digests of the issuing certificate (SHA-256 or SHA-1, by length); empty accepts any.
    pub issuer_hashes: Vec<Vec<u8>>,
    /// `remote-cert-tls`: require a key-usage extension and the extended key usage of the peer's role.
    pub remote_cert_tls: bool,
    /// `remote-cert-eku`: an extended key usage the certificate must list, as a dotted number.
    pub remote_cert_eku: Option<String>,
    /// `remote-cert-ku`: `Some(empty)` requires the extension; otherwise all bits of at least one mask must be set.
    pub remote_cert_ku: Option<Vec<u16>>,
    /// `verify-x509-name`.
    pub name: Option<NameRule>,
    /// `tls-cert-profile`.
    pub profile: CertProfile,
    /// `crl-verify DIR dir`: serial numbers of revoked certificates, exchangeable at any time.
    pub revoked_serials: Option<RevokedSerials>,
}

/// Revoked serial numbers, decimal; exchangeable while sessions run.
#[derive(Debug, Clone, Default)]
pub struct RevokedSerials(Arc<RwLock<HashSet<String>>>);

impl RevokedSerials {
    /// Exchanges the whole set.
    pub fn replace(&self, serials: HashSet<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = serials;
    }

    fn contains(&self, certificate: &CertificateFacts) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&certificate.serial_decimal())
    }
}

/// `verify-x509-name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameRule {
    /// The whole subject is this.
    Subject(String),
    /// The common name is this.
    Name(String),
    /// The common name starts with this.
    NamePrefix(String),
}

/// Revocation lists that can be exchanged while sessions run; new negotiations use the new ones.
#[derive(Clone)]
pub struct Crls(Arc<RwLock<Arc<Vec<CertRevocationList<'static>>>>>);

impl fmt::Debug for Crls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crls({})", self.current().len())
    }
}

impl Crls {
    /// Reads DER lists.
    ///
    /// # Errors
    /// A sentence about the list that cannot be used.
    pub fn new(lists: &[Vec<u8>]) -> Result<Self, String> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(Self::parse(lists)?)))))
    }

    /// Exchanges all lists.
    ///
    /// # Errors
    /// As [`new`](Self::new); the former lists then stay.
    pub fn replace(&self, lists: &[Vec<u8>]) -> Result<(), String> {
        let parsed = Arc::new(Self::parse(lists)?);
        match self.0.write() {
            Ok(mut current) => *current = parsed,
            Err(poisoned) => *poisoned.into_inner() = parsed,
        }
        Ok(())
    }

    fn parse(lists: &[Vec<u8>]) -> Result<Vec<CertRevocationList<'static>>, String> {
        lists
            .iter()
            .map(|der| match OwnedCertRevocationList::from_der(der) {
                Ok(list) => Ok(CertRevocationList::Owned(list)),
                Err(webpki::Error::UnsupportedCrlVersion) => {
                    Err("the revocation list is of version 1: make it anew as version 2 (openssl ca -gencrl with \
                         a crl_extensions section)"
                        .to_owned())
                }
                Err(error) => Err(format!("the revocation list cannot be read ({error:?}): make it anew")),
            })
            .collect()
    }

    fn current(&self) -> Arc<Vec<CertRevocationList<'static>>> {
        match self.0.read() {
            Ok(current) => Arc::clone(&current),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }
}

/// Which side of TLS the peer is; names the purpose its certificate must allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerIs {
    Client,
    Server,
}

impl PeerIs {
    const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    const fn purpose(self) -> &'static str {
        match self {
            Self::Client => CLIENT_AUTH,
            Self::Server => SERVER_AUTH,
        }
    }
}

/// Why a certificate was refused, as the TLS alert tells the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    BadEncoding,
    Expired,
    Revoked,
    UnknownCa,
    BadSignature,
    Purpose,
    Policy,
}

/// A refused certificate, with the sentence for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    pub(crate) sentence: String,
}

/// [`PeerRules`], made ready for use.
#[derive(Debug)]
pub(crate) struct Verifier {
    rules: PeerRules,
    peer: PeerIs,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Verifier {
    pub(crate) fn new(rules: PeerRules, peer: PeerIs) -> Result<Self, String> {
        let mut anchors = Vec::with_capacity(rules.ca.len());
        for der in &rules.ca {
            let der = CertificateDer::from(der.as_slice());
            let anchor = webpki::anchor_from_trusted_cert(&der)
                .map_err(|error| format!("a certificate in `ca` cannot be used ({error:?}): replace it"))?;
            anchors.push(anchor.to_owned());
        }
        if anchors.is_empty() && rules.fingerprints.is_empty() {
            return Err("neither `ca` nor `peer-fingerprint` says whom to trust: give one of them".to_owned());
        }
        Ok(Self { rules, peer, anchors })
    }

    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerChain, Refusal> {
        let who = self.peer.word();
        let refuse = |kind, sentence: String| Refusal { kind, sentence };
        let facts = CertificateFacts::parse(leaf).ok_or_else(|| {
            refuse(
                RefusalKind::BadEncoding,
                format!("the {who}'s certificate cannot be read: it needs a new one"),
            )
        })?;
        let subject = facts.subject.clone();
        if intermediates.len() >= MAX_CHAIN {
            return Err(refuse(
                RefusalKind::Policy,
                format!("the {who} ({subject}) sent more than {MAX_CHAIN} certificates"),
            ));
        }
        let mut certificates = vec![facts];
        if !self.anchors.is_empty() {
            let issuers = self.verify_chain(leaf, intermediates, now, &subject)?;
            certificates.extend(issuers);
        }
        let chain = PeerChain { certificates };
        self.check_rules(&chain, &subject)?;
        Ok(chain)
    }

    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        subject: &str,
    ) -> Result<Vec<CertificateFacts>, Refusal> {
        let refused = |error| self.explain(&error, subject);
        let certificate = EndEntityCert::try_from(leaf).map_err(refused)?;
        let usage = match self.peer {
            PeerIs::Client => KeyUsage::client_auth(),
            PeerIs::Server => KeyUsage::server_auth(),
        };
        let lists = self.rules.crls.as_ref().map(Crls::current);
        let borrowed: Vec<&CertRevocationList<'_>> = lists.iter().flat_map(|lists| lists.iter()).collect();
        let revocation = match &lists {
            None => None,
            Some(_) => match RevocationOptionsBuilder::new(&borrowed) {
                Ok(builder) => Some(
                    builder
                        .with_depth(RevocationCheckDepth::Chain)
                        .with_status_policy(UnknownStatusPolicy::Deny)
                        .with_expiration_policy(ExpirationPolicy::Enforce)
                        .build(),
                ),
                Err(_) => return Err(self.explain(&webpki::Error::UnknownRevocationStatus, subject)),
            },
        };
        let path = certificate
            .verify_for_usage(
                self.rules.profile.algorithms(),
                &self.anchors,
                intermediates,
                now,
                usage,
                revocation,
                None,
            )
            .map_err(refused)?;
        let mut issuers: Vec<CertificateFacts> = path
            .intermediate_certificates()
            .filter_map(|certificate| CertificateFacts::parse(&certificate.der()))
            .collect();
        let anchor = path.anchor();
        let trusted = self.anchors.iter().position(|known| {
            known.subject == anchor.subject && known.subject_public_key_info == anchor.subject_public_key_info
        });
        issuers.extend(
            trusted.and_then(|place| self.rules.ca.get(place)).and_then(|der| CertificateFacts::parse(der)),
        );
        Ok(issuers)
    }

    fn check_rules(&self, chain: &PeerChain, subject: &str) -> Result<(), Refusal> {
        let who = self.peer.word();
        let Some(leaf) = chain.leaf() else {
            return Err(Refusal {
                kind: RefusalKind::BadEncoding,
                sentence: format!("the {who} sent no certificate"),
            });
        };
        let refuse = |kind, sentence| Err(Refusal { kind, sentence });
        let rules = &self.rules;
        if let Some(revoked) = &rules.revoked_serials
            && let Some(found) = chain.certificates.iter().find(|certificate| revoked.contains(certificate))
        {
            return refuse(
                RefusalKind::Revoked,
                format!(
                    "the {who}'s certificate ({}) is revoked: its serial number {} stands in the folder of \
                     `crl-verify`",
                    found.subject,
                    found.serial_decimal()
                ),
            );
        }
        if !rules.fingerprints.is_empty() && !rules.fingerprints.contains(&leaf.sha256) {
            return refuse(
                RefusalKind::Policy,
                format!(
                    "the {who}'s certificate ({subject}) has the fingerprint {}, which `peer-fingerprint` does not \
                     list: add it there if this is your peer",
                    leaf.fingerprint()
                ),
            );
        }
        if !rules.issuer_hashes.is_empty() {
            let issuer = chain.certificates.get(1).map(|issuer| issuer.der.as_slice()).unwrap_or_default();
            let matches = rules.issuer_hashes.iter().any(|wanted| match wanted.len() {
                20 => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, issuer).as_ref() == wanted,
                _ => digest::digest(&digest::SHA256, issuer).as_ref() == wanted,
            });
            if !matches {
                return refuse(
                    RefusalKind::Policy,
                    format!(
                        "the issuer of the {who}'s certificate ({subject}) is not the one that `verify-hash` names"
                    ),
                );
            }
        }
        let lists_purpose = |oid: &str| {
            leaf.extended_key_usage.as_ref().is_some_and(|listed| listed.iter().any(|listed| listed == oid))
        };
        if rules.remote_cert_tls {
            if leaf.key_usage.is_none() {
                return refuse(
                    RefusalKind::Purpose,
                    format!(
                        "the {who}'s certificate ({subject}) has no key usage, which `remote-cert-tls {who}` demands: \
                         issue it anew as a {who} certificate"
                    ),
                );
            }
            if !lists_purpose(self.peer.purpose()) {
                return Err(self.wrong_purpose(subject));
            }
        }
        if let Some(oid) = &rules.remote_cert_eku
            && !lists_purpose(oid)
        {
            return refuse(
                RefusalKind::Purpose,
                format!(
                    "the {who}'s certificate ({subject}) does not list the extended key usage {oid} that \
                         `remote-cert-eku` demands"
                ),
            );
        }
        if let Some(masks) = &rules.remote_cert_ku {
            let fits = match leaf.key_usage {
                None => false,
                Some(_) if masks.is_empty() => true,
                Some(bits) => masks.iter().any(|mask| bits & mask == *mask),
            };
            if !fits {
                return refuse(
                    RefusalKind::Purpose,
                    format!(
                        "the {who}'s certificate ({subject}) has not the key usage that `remote-cert-ku` demands"
                    ),
                );
            }
        }
        let (fits, wanted) = match &rules.name {
            None => (true, String::new()),
            Some(NameRule::Subject(name)) => (leaf.subject == *name, format!("subject {name}")),
            Some(NameRule::Name(name)) => (leaf.common_name == *name, format!("common name {name}")),
            Some(NameRule::NamePrefix(name)) => {
                (leaf.common_name.starts_with(name.as_str()), format!("common name starting with {name}"))
            }
        };
        if !fits {
            return refuse(
                RefusalKind::Policy,
                format!("the {who}'s certificate is for {subject}, but `verify-x509-name` demands {wanted}"),
            );
        }
        Ok(())
    }

    fn wrong_purpose(&self, subject: &str) -> Refusal {
        let who = self.peer.word();
        Refusal {
            kind: RefusalKind::Purpose,
            sentence: format!(
                "the {who}'s certificate ({subject}) is not made for a {who} (its extended key usage lacks {}): \
                 issue it anew as a {who} certificate",
                self.peer.purpose()
            ),
        }
    }

    fn explain(&self, error: &webpki::Error, subject: &str) -> Refusal {
        use webpki::Error as E;
        let who = self.peer.word();
        let (kind, sentence) = match error {
            E::CertExpired { time, not_after } => (
                RefusalKind::Expired,
                format!(
                    "the {who}'s certificate ({subject}) or one of its issuers {}",
                    calendar::expired(not_after.as_secs(), time.as_secs())
                ),
            ),
            E::CertNotValidYet { time, not_before } => (
                RefusalKind::Expired,
                format!(
                    "the {who}'s certificate ({subject}) or one of its issuers {}",
                    calendar::not_valid_yet(not_before.as_secs(), time.as_secs())
                ),
            ),
            E::CertRevoked => (
                RefusalKind::Revoked,
                format!("the {who}'s certificate ({subject}) is revoked by `crl-verify`: it needs a new one"),
            ),
            E::CrlExpired { time, next_update } => (
                RefusalKind::Expired,
                format!(
                    "the revocation list of `crl-verify` for the {who}'s certificate ({subject}) {}",
                    calendar::expired(next_update.as_secs(), time.as_secs())
                ),
            ),
            E::UnknownRevocationStatus => (
                RefusalKind::UnknownCa,
                format!(
                    "`crl-verify` has no list by an issuer of the {who}'s certificate ({subject}): add one for \
                         each CA of the chain"
                ),
            ),
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => return self.wrong_purpose(subject),
            E::CaUsedAsEndEntity => (
                RefusalKind::Purpose,
                format!(
                    "the {who}'s certificate ({subject}) is a CA certificate: issue it a certificate of its own"
                ),
            ),
            E::UnknownIssuer | E::InvalidSignatureForPublicKey => (
                RefusalKind::UnknownCa,
                format!(
                    "the {who}'s certificate ({subject}) was not issued by our CA: both sides need certificates \
                         of the same CA, and `ca` must hold it"
                ),
            ),
            E::UnsupportedCertVersion => (
                RefusalKind::BadEncoding,
                format!(
                    "the {who}'s certificate ({subject}) is of X.509 version 1: issue it anew as version 3"
                ),
            ),
            E::UnsupportedCriticalExtension => (
                RefusalKind::BadEncoding,
                format!(
                    "the {who}'s certificate ({subject}) has a critical extension that is not supported \
                         (nsCertType?): issue it anew without"
                ),
            ),
            E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | E::SignatureAlgorithmMismatch => (
                RefusalKind::BadSignature,
                format!(
                    "the {who}'s certificate ({subject}) or an issuer is signed in a way that {} forbids (SHA-1, RSA \
                         below 2048 bits?): issue it anew with SHA-256{}",
                    match self.rules.profile {
                        CertProfile::SuiteB => "`tls-cert-profile suiteb`",
                        _ => "`tls-cert-profile legacy`, the default,",
                    },
                    match self.rules.profile {
                        CertProfile::Insecure => "",
                        CertProfile::SuiteB => ", with a key on P-256 or P-384",
                        _ => ", or until then allow it with `tls-cert-profile insecure`",
                    }
                ),
            ),
            other => (
                RefusalKind::BadEncoding,
                format!("the {who}'s certificate ({subject}) was refused ({other:?})"),
            ),
        };
        Refusal { kind, sentence }
    }
}
