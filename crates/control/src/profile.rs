//! `tls-cert-profile`: which signatures under certificates are accepted.
//!
//! | profile | chain |
//! |---|---|
//! | `legacy` (default), `preferred` | SHA-2, RSA of 2048 bits and more, ECDSA, Ed25519 |
//! | `suiteb` | ECDSA P-256 and P-384 with SHA-256 and SHA-384 |
//! | `insecure` | also SHA-1, and RSA of 1024 bits |
//!
//! Our floor is that of current OpenSSL at the level that `legacy` selects, where SHA-1 is refused, too. Keys that sign
//! the handshake itself are never below `legacy`.

use aws_lc_rs::signature::{self, RsaParameters, UnparsedPublicKey};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use webpki::aws_lc_rs as algorithms;

/// `tls-cert-profile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertProfile {
    /// Also SHA-1 and RSA of 1024 bits.
    Insecure,
    /// SHA-2 and RSA of 2048 bits.
    #[default]
    Legacy,
    /// As [`Legacy`](Self::Legacy).
    Preferred,
    /// ECDSA P-256 and P-384 only.
    SuiteB,
}

impl CertProfile {
    pub(crate) fn algorithms(self) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
        match self {
            Self::Insecure => INSECURE,
            Self::Legacy | Self::Preferred => webpki::ALL_VERIFICATION_ALGS,
            Self::SuiteB => SUITE_B,
        }
    }
}

static SUITE_B: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
];

/// The weak ones stand first: the first that fits by its names decides.
static INSECURE: &[&dyn SignatureVerificationAlgorithm] = &[
    &Weak {
        parameters: &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        // sha1WithRSAEncryption (RFC 3279, section 2.2.1), with NULL parameters.
        algorithm: AlgorithmIdentifier::from_slice(&[
            0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05, 0x05, 0x00,
        ]),
    },
    &Weak {
        parameters: &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        algorithm: alg_id::RSA_PKCS1_SHA256,
    },
    &Weak {
        parameters: &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        algorithm: alg_id::RSA_PKCS1_SHA512,
    },
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ECDSA_P521_SHA256,
    algorithms::ECDSA_P521_SHA384,
    algorithms::ECDSA_P521_SHA512,
    algorithms::ED25519,
];

/// An RSA signature that only `insecure` accepts.
#[derive(Debug)]
struct Weak {
    parameters: &'static RsaParameters,
    algorithm: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for Weak {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(self.parameters, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm
    }
}
