//! This side's certificate and private key: files, a PKCS#12 file, or a key that is elsewhere.
//!
//! A password is taken from `askpass FILE` or from a person. The management interface asks persons ahead of time
//! ([`unlocked`]), as that takes its time; the terminal is asked on the spot.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ovpn_config::Config;
use ovpn_config::model::Material;
use ovpn_control::{ExternalSigner, Identity, Padding, certificates_from_pem};
use zeroize::Zeroizing;

use crate::external_key;
use crate::management::Handle;
use crate::materials::{bad, read};
use crate::outcome::{Fatal, Outcome};
use crate::pkcs12::{self, Bundle, Pkcs12Error};
use crate::private_key;
use crate::signal::Signals;

/// What persons and programs contributed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Keyring {
    /// The password of the private key, where it was asked already.
    pub(crate) password: Option<Zeroizing<String>>,
    /// `management-external-key`: who signs, and with which paddings.
    pub(crate) signer: Option<(Arc<dyn ExternalSigner>, Vec<Padding>)>,
    /// `management-external-cert`: the certificate as PEM text.
    pub(crate) certificate: Option<String>,
}

/// A certificate with its key, and whom else it makes trusted.
pub(crate) struct Own {
    pub(crate) identity: Identity,
    /// CA certificates that came along (PKCS#12), as DER.
    pub(crate) authorities: Vec<Vec<u8>>,
}

/// Why there is no identity.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The password does not fit: ask again.
    Password(Fatal),
    /// Nothing that asking again would mend.
    Fatal(Fatal),
}

impl From<Fatal> for Trouble {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

impl From<Trouble> for Fatal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Password(fatal) | Trouble::Fatal(fatal) => fatal,
        }
    }
}

/// Whether a password is needed that no file gives.
///
/// # Errors
/// When a file cannot be read.
fn locked(config: &Config) -> Result<bool, Fatal> {
    let tls = &config.tls;
    if matches!(tls.askpass, Some(Some(_))) || tls.no_client_cert {
        return Ok(false);
    }
    match (&tls.pkcs12, &tls.key) {
        (Some(material), _) => {
            Ok(matches!(pkcs12::open(&pkcs12_bytes(material)?, ""), Err(Pkcs12Error::Password)))
        }
        (None, Some(key)) => Ok(private_key::is_encrypted(&read("key", key)?)),
        (None, None) => Ok(false),
    }
}

/// Makes what needs the private key, asking for its password through the management interface where that is
/// configured, again as long as it is wrong. `Err`: a signal ends it.
///
/// # Errors
/// What asking again would not mend.
pub(crate) async fn unlocked<T>(
    config: &Config,
    management: Option<&Handle>,
    signals: &mut Signals,
    make: impl Fn(&Keyring) -> Result<T, Trouble>,
) -> Result<Result<T, Outcome>, Fatal> {
    const KIND: &str = "Private Key";
    let keyring = match (&config.management.external_cert, management) {
        (Some(hint), Some(management)) if config.tls.cert.is_none() => {
            let certificate = tokio::select! {
                certificate = external_key::certificate(management, hint) => certificate,
                outcome = ending(signals) => return Ok(Err(outcome)),
            };
            Keyring { certificate: Some(certificate), ..Keyring::default() }
        }
        _ => Keyring::default(),
    };
    let keyring = Keyring { signer: external_key::signer(config, management), ..keyring };
    let asked = management.filter(|management| management.asks_passwords());
    let Some(management) = asked.filter(|_| locked(config).unwrap_or(false)) else {
        return Ok(Ok(make(&keyring)?));
    };
    loop {
        let password = tokio::select! {
            password = management.ask_password(KIND) => password,
            outcome = ending(signals) => return Ok(Err(outcome)),
        };
        let keyring = Keyring { password: Some(Zeroizing::new(password)), ..keyring.clone() };
        match make(&keyring) {
            Err(Trouble::Password(fatal)) => {
                tracing::warn!("{fatal}");
                management.notice(format!(">PASSWORD:Verification Failed: '{KIND}'"));
            }
            other => return Ok(Ok(other?)),
        }
    }
}

/// Waits for a signal that ends or reloads.
async fn ending(signals: &mut Signals) -> Outcome {
    loop {
        let signal = signals.next().await;
        if let Some(outcome) = Outcome::of(&signal) {
            tracing::info!("{signal}");
            return outcome;
        }
    }
}

/// The configured identity; `None` where there is none.
///
/// # Errors
/// A sentence about the option or file that cannot be used.
pub(crate) fn load(config: &Config, keyring: &Keyring) -> Result<Option<Own>, Trouble> {
    let tls = &config.tls;
    if let Some(material) = &tls.pkcs12 {
        return from_pkcs12(config, material, keyring).map(Some);
    }
    let chain = match (&tls.cert, &keyring.certificate) {
        (Some(cert), _) => Some((read("cert", cert)?, cert)),
        (None, Some(pem)) => Some((Zeroizing::new(pem.clone().into_bytes()), &ASKED)),
        (None, None) => None,
    };
    let both = || Fatal("cert and key belong together: only one of them is given".to_owned());
    let Some((mut pem, cert)) = chain else {
        return if tls.key.is_some() { Err(both().into()) } else { Ok(None) };
    };
    if let Some(extra) = &tls.extra_certs {
        pem.push(b'\n');
        pem.extend_from_slice(&read("extra-certs", extra)?);
    }
    let chain = certificates_from_pem(&pem).map_err(|error| bad("cert", cert, error))?;
    let fatal = |error: ovpn_control::TlsConfigError| Fatal(error.to_string());
    let identity = match (&keyring.signer, &tls.key) {
        (Some((signer, paddings)), _) => {
            Identity::external(chain, Arc::clone(signer), paddings).map_err(fatal)?
        }
        (None, None) => return Err(both().into()),
        (None, Some(key)) => {
            let pem = read("key", key)?;
            let password = || password(config, keyring);
            let der = private_key::from_pem(&pem, password).map_err(|error| match error {
                private_key::KeyError::Password(text) => Trouble::Password(bad("key", key, text)),
                private_key::KeyError::Other(text) => Trouble::Fatal(bad("key", key, text)),
            })?;
            Identity::from_der(chain, der).map_err(fatal)?
        }
    };
    Ok(Some(Own { identity, authorities: Vec::new() }))
}

/// What messages call a certificate that a program gave.
const ASKED: Material = Material::Inline(String::new());

fn from_pkcs12(config: &Config, material: &Material, keyring: &Keyring) -> Result<Own, Trouble> {
    let bytes = pkcs12_bytes(material)?;
    // Many have no password.
    let bundle = match pkcs12::open(&bytes, "") {
        Err(Pkcs12Error::Password) => {
            let password = password(config, keyring).map_err(|error| bad("pkcs12", material, error))?;
            pkcs12::open(&bytes, &password)
        }
        other => other,
    };
    let Bundle { mut chain, key, authorities } = bundle.map_err(|error| match error {
        Pkcs12Error::Password => Trouble::Password(bad("pkcs12", material, error)),
        Pkcs12Error::Other(text) => Trouble::Fatal(bad("pkcs12", material, text)),
    })?;
    if let Some(extra) = &config.tls.extra_certs {
        let pem = read("extra-certs", extra)?;
        chain.extend(certificates_from_pem(&pem).map_err(|error| bad("extra-certs", extra, error))?);
    }
    let identity =
        Identity::from_der(chain, key).map_err(|error| Fatal(bad("pkcs12", material, error).to_string()))?;
    Ok(Own { identity, authorities })
}

/// A file as it is, a block as base64.
fn pkcs12_bytes(material: &Material) -> Result<Zeroizing<Vec<u8>>, Fatal> {
    let bytes = read("pkcs12", material)?;
    match material {
        Material::Path(_) => Ok(bytes),
        Material::Inline(text) => {
            let text: String = text.split_whitespace().collect();
            STANDARD
                .decode(text)
                .map(Zeroizing::new)
                .map_err(|error| bad("pkcs12", material, format!("not base64 ({error})")))
        }
    }
}

/// The password of the private key: what was asked already, `askpass FILE`, the terminal.
fn password(config: &Config, keyring: &Keyring) -> Result<Zeroizing<String>, String> {
    if let Some(password) = &keyring.password {
        return Ok(password.clone());
    }
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
