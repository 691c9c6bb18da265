//! A private key that is elsewhere: whoever holds it makes the signatures of the handshake.

use std::fmt;
use std::sync::Arc;

use ::aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

use crate::CertificateFacts;

/// Who makes signatures with a key that this process does not have. May block: it is called in the middle of a
/// handshake.
pub trait ExternalSigner: fmt::Debug + Send + Sync {
    /// The signature over what is asked for.
    ///
    /// # Errors
    /// A sentence about why there is none.
    fn sign(&self, request: &SignRequest) -> Result<Vec<u8>, String>;
}

/// Padding of an RSA signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// RSASSA-PKCS1-v1_5 (TLS 1.2 only).
    Pkcs1,
    /// RSASSA-PSS with a salt as long as the digest.
    Pss,
}

/// A signature that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRequest {
    /// What is signed: the digest; for Ed25519 the message itself.
    pub data: Vec<u8>,
    /// `SHA256`, `SHA384` or `SHA512`; `None` for Ed25519.
    pub hash: Option<&'static str>,
    /// Padding for RSA; `None` for other keys.
    pub padding: Option<Padding>,
}

impl SignRequest {
    /// The digest inside the structure that PKCS#1 v1.5 signs (RFC 8017, section 9.2): for signers that only pad.
    #[must_use]
    pub fn digest_info(&self) -> Vec<u8> {
        // AlgorithmIdentifiers of RFC 8017, appendix B.1, around the digest.
        let prefix: &[u8] = match self.hash {
            Some("SHA384") => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
            Some("SHA512") => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
            _ => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
        };
        [prefix, &self.data].concat()
    }
}

/// A certificate's key, as rustls sees it.
#[derive(Debug)]
pub(super) struct ExternalKey {
    signer: Arc<dyn ExternalSigner>,
    algorithm: SignatureAlgorithm,
    schemes: Vec<SignatureScheme>,
}

impl ExternalKey {
    pub(super) fn new(
        leaf: &CertificateDer<'_>,
        signer: Arc<dyn ExternalSigner>,
        paddings: &[Padding],
    ) -> Result<Self, String> {
        use SignatureScheme as S;
        let facts = CertificateFacts::parse(leaf)
            .ok_or("the certificate of the external key cannot be read: it must be X.509 version 3")?;
        let (algorithm, schemes) = match facts.key_kind() {
            Some("RSA") => {
                let mut schemes = Vec::new();
                if paddings.contains(&Padding::Pss) {
                    schemes.extend([S::RSA_PSS_SHA256, S::RSA_PSS_SHA384, S::RSA_PSS_SHA512]);
                }
                if paddings.contains(&Padding::Pkcs1) {
                    schemes.extend([S::RSA_PKCS1_SHA256, S::RSA_PKCS1_SHA384, S::RSA_PKCS1_SHA512]);
                }
                (SignatureAlgorithm::RSA, schemes)
            }
            Some("P-256") => (SignatureAlgorithm::ECDSA, vec![S::ECDSA_NISTP256_SHA256]),
            Some("P-384") => (SignatureAlgorithm::ECDSA, vec![S::ECDSA_NISTP384_SHA384]),
            Some("P-521") => (SignatureAlgorithm::ECDSA, vec![S::ECDSA_NISTP521_SHA512]),
            Some("Ed25519") => (SignatureAlgorithm::ED25519, vec![S::ED25519]),
            _ => return Err("the external key must be RSA, ECDSA P-256, P-384, P-521 or Ed25519".to_owned()),
        };
        Ok(Self { signer, algorithm, schemes })
    }

    /// Whether TLS 1.3 can use it: PKCS#1 v1.5 has no place there.
    pub(super) fn fits_tls13(&self) -> bool {
        self.algorithm != SignatureAlgorithm::RSA || self.schemes.contains(&SignatureScheme::RSA_PSS_SHA256)
    }
}

impl SigningKey for ExternalKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = self.schemes.iter().copied().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(ExternalSignature { signer: Arc::clone(&self.signer), scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

#[derive(Debug)]
struct ExternalSignature {
    signer: Arc<dyn ExternalSigner>,
    scheme: SignatureScheme,
}

impl Signer for ExternalSignature {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        use SignatureScheme as S;
        let (hash, padding) = match self.scheme {
            S::RSA_PSS_SHA256 => (Some("SHA256"), Some(Padding::Pss)),
            S::RSA_PSS_SHA384 => (Some("SHA384"), Some(Padding::Pss)),
            S::RSA_PSS_SHA512 => (Some("SHA512"), Some(Padding::Pss)),
            S::RSA_PKCS1_SHA256 => (Some("SHA256"), Some(Padding::Pkcs1)),
            S::RSA_PKCS1_SHA384 => (Some("SHA384"), Some(Padding::Pkcs1)),
            S::RSA_PKCS1_SHA512 => (Some("SHA512"), Some(Padding::Pkcs1)),
            S::ECDSA_NISTP256_SHA256 => (Some("SHA256"), None),
            S::ECDSA_NISTP384_SHA384 => (Some("SHA384"), None),
            S::ECDSA_NISTP521_SHA512 => (Some("SHA512"), None),
            _ => (None, None),
        };
        let data = match hash {
            Some("SHA256") => digest::digest(&digest::SHA256, message).as_ref().to_vec(),
            Some("SHA384") => digest::digest(&digest::SHA384, message).as_ref().to_vec(),
            Some(_) => digest::digest(&digest::SHA512, message).as_ref().to_vec(),
            None => message.to_vec(),
        };
        self.signer.sign(&SignRequest { data, hash, padding }).map_err(Error::General)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_info_is_der_around_the_digest() {
        for (hash, length) in [("SHA256", 32), ("SHA384", 48), ("SHA512", 64)] {
            let request =
                SignRequest { data: vec![7; length], hash: Some(hash), padding: Some(Padding::Pkcs1) };
            let info = request.digest_info();
            assert_eq!(usize::from(info[1]), info.len() - 2);
            assert_eq!(usize::from(info[info.len() - length - 1]), length);
        }
    }
}
