//! Private keys in PEM form, decrypted where they are encrypted.

use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// Why there is no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// The password does not fit.
    #[error("{0}")]
    Password(String),
    /// A sentence about what the file lacks and how to get it.
    #[error("{0}")]
    Other(String),
}

impl From<String> for KeyError {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

impl From<&str> for KeyError {
    fn from(text: &str) -> Self {
        Self::Other(text.to_owned())
    }
}

/// Whether a password is needed.
pub(crate) fn is_encrypted(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem).contains(BEGIN)
}

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// The first private key of a PEM text. `password` is asked only if the key is encrypted.
///
/// # Errors
/// A wrong password, or a sentence about what the file lacks and how to get it.
pub(crate) fn from_pem(
    pem: &[u8],
    password: impl FnOnce() -> Result<Zeroizing<String>, String>,
) -> Result<PrivateKeyDer<'static>, KeyError> {
    let text = String::from_utf8_lossy(pem);
    if text.contains(BEGIN) {
        return decrypt(&text, &password()?);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err("this old form of an encrypted key is not supported: convert it once with \
                    `openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out KEY.new`"
            .into());
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "no private key in PEM form".into())
}

fn decrypt(text: &str, password: &str) -> Result<PrivateKeyDer<'static>, KeyError> {
    let start = text.find(BEGIN).ok_or("no encrypted key")?;
    let end = text.get(start..).and_then(|rest| rest.find(END)).ok_or("the encrypted key is cut off")?;
    let block = text.get(start..start + end + END.len()).ok_or("the encrypted key is cut off")?;
    let (_, der) =
        pkcs8::der::pem::decode_vec(block.as_bytes()).map_err(|error| format!("not valid PEM ({error})"))?;
    // PBES1 does not even parse.
    let info = EncryptedPrivateKeyInfoRef::try_from(der.as_slice())
        .ok()
        .filter(|info| info.encryption_algorithm.pbes2().is_some());
    let info = info.ok_or(
        "the key is encrypted in an old way: convert it once with \
         `openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out KEY.new`",
    )?;
    let key = info.decrypt(password).map_err(|_| {
        KeyError::Password("the private key cannot be decrypted: the password is wrong".to_owned())
    })?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec())))
}
