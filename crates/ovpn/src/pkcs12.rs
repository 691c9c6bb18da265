//! PKCS#12 files: certificate, key and CA certificates in one, encrypted as a whole.

use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What a file held.
pub(crate) struct Bundle {
    /// The own certificate, then what may lie between it and a CA, as DER.
    pub(crate) chain: Vec<Vec<u8>>,
    /// The private key.
    pub(crate) key: PrivateKeyDer<'static>,
    /// Certificates other than the own one: whom to trust where no `ca` is given.
    pub(crate) authorities: Vec<Vec<u8>>,
}

/// Why a file was not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Pkcs12Error {
    /// The password does not fit.
    #[error("the password of the PKCS#12 file is wrong")]
    Password,
    /// Anything else, with what to do.
    #[error("{0}")]
    Other(String),
}

/// Reads a file.
///
/// # Errors
/// A wrong password, or a sentence about what the file lacks.
pub(crate) fn open(der: &[u8], password: &str) -> Result<Bundle, Pkcs12Error> {
    let other = |text: &str| Pkcs12Error::Other(text.to_owned());
    let archive = Pkcs12Archive::from_pkcs12(der, password).map_err(|error| match error {
        Error::MacError(_) | Error::UnpadError | Error::Pkcs5Error(_) => Pkcs12Error::Password,
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => other(
            "the PKCS#12 file is encrypted in a way that is not supported: write it anew with `openssl pkcs12 -export`",
        ),
        error => Pkcs12Error::Other(format!("not a readable PKCS#12 file ({error})")),
    })?;
    let key = archive.keys.first().ok_or_else(|| other("the PKCS#12 file holds no private key"))?;
    let own = archive
        .certs
        .iter()
        .position(|bag| {
            bag.local_key_id.is_some() && bag.local_key_id == key.local_key_id.as_ref().map(|id| id.0.clone())
        })
        .unwrap_or(0);
    let mut rest: Vec<_> = archive.certs.iter().map(|bag| &bag.cert).collect();
    if rest.is_empty() {
        return Err(other("the PKCS#12 file holds no certificate"));
    }
    let own = rest.remove(own);
    let between = rest.iter().filter(|cert| cert.subject() != cert.issuer());
    let chain = std::iter::once(&own).chain(between).map(|cert| cert.as_der().to_vec()).collect();
    Ok(Bundle {
        chain,
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.key.as_der().to_vec())),
        authorities: rest.iter().map(|cert| cert.as_der().to_vec()).collect(),
    })
}
