//! Private keys in PEM form, decrypted where they are encrypted.

use ovpn_config::Config;
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// The first private key of a PEM text. `password` is asked only if the key is encrypted.
///
/// # Errors
/// A sentence about what the file lacks and how to get it.
pub(crate) fn from_pem(
    pem: &[u8],
    password: impl FnOnce() -> Result<Zeroizing<String>, String>,
) -> Result<PrivateKeyDer<'static>, String> {
    let text = String::from_utf8_lossy(pem);
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return decrypt(&text, &password()?);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err("this old form of an encrypted key is not supported: convert it once with \
                    `openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out KEY.new`"
            .to_owned());
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "no private key in PEM form".to_owned())
}

fn decrypt(text: &str, password: &str) -> Result<PrivateKeyDer<'static>, String> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let start = text.find(BEGIN).ok_or("no encrypted key")?;
    let end = text.get(start..).and_then(|rest| rest.find(END)).ok_or("the encrypted key is cut off")?;
    let block = text.get(start..start + end + END.len()).ok_or("the encrypted key is cut off")?;
    let (_, der) =
        pkcs8::der::pem::decode_vec(block.as_bytes()).map_err(|error| format!("not valid PEM ({error})"))?;
    let info = EncryptedPrivateKeyInfoRef::try_from(der.as_slice())
        .map_err(|error| format!("the encrypted key cannot be read ({error})"))?;
    let key = info.decrypt(password).map_err(|_| {
        "the private key cannot be decrypted: wrong password, or an old encryption (then convert it with \
         `openssl pkcs8 -topk8 -v2 aes-256-cbc`)"
            .to_owned()
    })?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec())))
}

/// The password of the private key: `askpass FILE`, else the terminal.
///
/// # Errors
/// A sentence about where it was sought.
pub(crate) fn password(config: &Config) -> Result<Zeroizing<String>, String> {
    match &config.tls.askpass {
        Some(Some(file)) => {
            let text = Zeroizing::new(
                std::fs::read_to_string(file).map_err(|error| format!("--askpass {file}: {error}"))?,
            );
            Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
        }
        _ => crate::prompt::ask("Enter Private Key Password:", false).map(Zeroizing::new),
    }
}
