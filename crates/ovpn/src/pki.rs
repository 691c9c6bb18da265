//! The authority that `ovpn init` makes: a folder in the layout of easy-rsa, so that either can take over from the other.
//!
//! ```text
//! pki/ca.crt  private/ca.key          the authority (EC P-256)
//!     issued/NAME.crt                 certificates; clients' keys are only in their profiles
//!     private/server.key              the server's key
//!     index.txt                       what was issued and revoked, in OpenSSL's format
//!     crl.pem                         revoked certificates, signed
//!     tls-crypt-v2.key                wraps each client's own control channel key
//! ```

mod index;
mod store;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ovpn_control::{Random as _, SystemRandom};
use ovpn_crypto::secret::Secret;
use ovpn_crypto::static_key::StaticKey;
use ovpn_crypto::tls_crypt_v2::{Metadata, ServerKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams,
    SerialNumber,
};
use zeroize::Zeroizing;

pub(crate) use index::{Entry, Index, State, date};
pub(crate) use store::Store;

/// A sentence about what went wrong, and what to do.
pub(crate) type Sentence = String;

const DAY: u64 = 86_400;
/// Clocks of clients may be behind.
const BACKDATE: u64 = DAY;
/// Days a revocation list is good for; it is made anew with every revocation, and servers refuse everyone after it expired.
const CRL_DAYS: u64 = 3650;
/// Days the authority and the server's certificate are good for.
pub(crate) const LONG_DAYS: u64 = 3650;
/// Days a client's certificate is good for.
pub(crate) const CLIENT_DAYS: u64 = 825;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Server,
    Client,
}

/// A new certificate and its key.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: Zeroizing<String>,
    pub(crate) entry: Entry,
}

/// The authority: its certificate and its key.
pub(crate) struct Authority {
    certificate: String,
    key_id: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

macro_rules! at {
    ($seconds:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs($seconds)
    };
}

/// `YYYY-MM-DD` of seconds since 1970.
pub(crate) fn day(seconds: u64) -> String {
    let (year, month, day) = date(seconds / DAY);
    format!("{year:04}-{month:02}-{day:02}")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom.fill(&mut bytes);
    bytes
}

/// A positive number of 16 bytes that nobody can guess.
fn serial() -> Vec<u8> {
    let mut bytes = random::<16>();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    bytes.to_vec()
}

fn sentence(error: rcgen::Error) -> Sentence {
    format!("a certificate cannot be made: {error}")
}

fn key_pair() -> Result<KeyPair, Sentence> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(sentence)
}

fn params(name: &str, now: u64, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial()));
    params.not_before = at!(now.saturating_sub(BACKDATE));
    params.not_after = at!(now + days * DAY);
    params
}

impl Authority {
    /// A new one: its certificate and private key in PEM form besides.
    pub(crate) fn make(name: &str, now: u64) -> Result<(Self, Zeroizing<String>), Sentence> {
        let key = key_pair()?;
        let mut params = params(name, now, LONG_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(sentence)?.pem();
        let text = Zeroizing::new(key.serialize_pem());
        Ok((Self::open(&certificate, &text)?, text))
    }

    /// From PEM texts.
    pub(crate) fn open(certificate: &str, key: &str) -> Result<Self, Sentence> {
        let wrong =
            |error: &dyn std::fmt::Display| format!("the authority's certificate cannot be read: {error}");
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).map_err(|e| wrong(&e))?;
        let parsed = pem.parse_x509().map_err(|e| wrong(&e))?;
        let key_id = parsed
            .iter_extensions()
            .find_map(|e| match e.parsed_extension() {
                x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
            .ok_or("the authority's certificate has no subject key identifier: make a new authority")?;
        let pair = KeyPair::from_pem(key).map_err(|error| {
            format!("the authority's key cannot be read ({error}); if it is encrypted, decrypt it first")
        })?;
        if pair.public_key_raw() != parsed.public_key().subject_public_key.data.as_ref() {
            return Err("the authority's key does not belong to its certificate".to_owned());
        }
        let issuer = Issuer::from_ca_cert_pem(certificate, pair).map_err(sentence)?;
        Ok(Self { certificate: certificate.to_owned(), key_id, issuer })
    }

    /// Its certificate, PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a key and signs its certificate.
    pub(crate) fn issue(
        &self,
        name: &str,
        purpose: Purpose,
        now: u64,
        days: u64,
    ) -> Result<Issued, Sentence> {
        let key = key_pair()?;
        let mut params = params(name, now, days);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let serial = params.serial_number.clone().map(|s| s.to_bytes()).unwrap_or_default();
        let certificate = params.signed_by(&key, &self.issuer).map_err(sentence)?.pem();
        let entry = Entry { name: name.to_owned(), serial, expires: now + days * DAY, state: State::Valid };
        Ok(Issued { certificate, key: Zeroizing::new(key.serialize_pem()), entry })
    }

    /// The signed list of what is revoked.
    pub(crate) fn revocation_list(&self, index: &Index, now: u64) -> Result<String, Sentence> {
        let revoked_certs = index
            .entries
            .iter()
            .filter_map(|entry| match entry.state {
                State::Revoked(when) => Some(RevokedCertParams {
                    serial_number: SerialNumber::from(entry.serial.clone()),
                    revocation_time: at!(when),
                    reason_code: None,
                    invalidity_date: None,
                }),
                State::Valid => None,
            })
            .collect();
        CertificateRevocationListParams {
            this_update: at!(now.saturating_sub(BACKDATE)),
            next_update: at!(now + CRL_DAYS * DAY),
            crl_number: SerialNumber::from(now),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::PreSpecified(self.key_id.clone()),
        }
        .signed_by(&self.issuer)
        .and_then(|list| list.pem())
        .map_err(sentence)
    }
}

/// A new tls-crypt-v2 server key.
pub(crate) fn control_server_key() -> Result<ServerKey, Sentence> {
    ServerKey::new(random_secret()).ok_or_else(|| "a tls-crypt-v2 key cannot be made".to_owned())
}

/// A new tls-crypt-v2 client key of its own, in PEM form, wrapped by the server's.
pub(crate) fn control_client_key(
    server: &ServerKey,
    metadata: &Metadata,
) -> Result<Zeroizing<String>, Sentence> {
    let key = server.wrap(new_static_key(), metadata).map_err(|error| error.to_string())?;
    Ok(Zeroizing::new(key.to_pem()))
}

/// Fresh random bytes as a secret.
pub(crate) fn random_secret<const N: usize>() -> Secret<N> {
    Secret::new(random())
}

/// 2048 random bits.
pub(crate) fn new_static_key() -> StaticKey {
    StaticKey::new(random_secret())
}

/// A private key in PEM form, encrypted by a password in a form that every OpenSSL since 1.0 reads.
pub(crate) fn encrypt_key(key: &str, password: &str) -> Result<Zeroizing<String>, Sentence> {
    encrypt_key_with(key, password, 600_000)
}

fn encrypt_key_with(key: &str, password: &str, iterations: u32) -> Result<Zeroizing<String>, Sentence> {
    use pkcs8::der::pem;
    let failed = |what: &dyn std::fmt::Display| format!("the key cannot be encrypted: {what}");
    let (_, der) = pem::decode_vec(key.as_bytes()).map_err(|e| failed(&e))?;
    let der = Zeroizing::new(der);
    let parameters = pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(
        iterations,
        &random::<16>(),
        random::<16>(),
    )
    .map_err(|e| failed(&e))?;
    let plain = pkcs8::PrivateKeyInfoRef::try_from(der.as_slice()).map_err(|e| failed(&e))?;
    let encrypted = plain.encrypt_with_params(parameters, password).map_err(|e| failed(&e))?;
    pem::encode_string("ENCRYPTED PRIVATE KEY", pem::LineEnding::LF, encrypted.as_bytes())
        .map(Zeroizing::new)
        .map_err(|e| failed(&e))
}

/// Whether a name can be a common name, a file's name and a word of a configuration at once.
pub(crate) fn check_name(name: &str) -> Result<(), Sentence> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fine) || name.starts_with(['.', '-']) {
        return Err(format!(
            "\"{name}\" cannot be a name: take 1 to 64 letters, digits, `.`, `_`, `-` or `@`, not starting with `.` or `-`"
        ));
    }
    if name == "DEFAULT" {
        return Err("\"DEFAULT\" cannot be a name: it means every client in `client-config-dir`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_chain_and_lists_name_them() {
        let now = 1_800_000_000;
        let (authority, key) = Authority::make("Test CA", now).expect("authority");
        assert!(key.contains("PRIVATE KEY"));
        let issued = authority.issue("alice", Purpose::Client, now, 30).expect("certificate");
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.certificate.as_bytes()).expect("PEM");
        let leaf = pem.parse_x509().expect("certificate");
        let (_, pem) = x509_parser::pem::parse_x509_pem(authority.certificate().as_bytes()).expect("PEM");
        let root = pem.parse_x509().expect("certificate");
        assert_eq!(leaf.issuer(), root.subject());
        assert_eq!(leaf.raw_serial(), issued.entry.serial);
        assert_eq!(leaf.validity().not_after.timestamp() as u64, now + 30 * DAY);
        let usage = leaf.extended_key_usage().expect("readable").expect("there");
        assert!(usage.value.client_auth && !usage.value.server_auth);
        let mut index = Index::default();
        index.entries.push(Entry { state: State::Revoked(now), ..issued.entry.clone() });
        let list = authority.revocation_list(&index, now + 5).expect("list");
        let (_, pem) = x509_parser::pem::parse_x509_pem(list.as_bytes()).expect("PEM");
        let (_, list) = x509_parser::parse_x509_crl(&pem.contents).expect("list");
        let revoked: Vec<_> = list.iter_revoked_certificates().map(|r| r.raw_serial().to_vec()).collect();
        assert_eq!(revoked, [issued.entry.serial]);
    }

    #[test]
    fn another_key_is_noticed() {
        let (authority, _) = Authority::make("A", 1_800_000_000).expect("authority");
        let (_, other) = Authority::make("B", 1_800_000_000).expect("authority");
        let error = Authority::open(authority.certificate(), &other).err().expect("refused");
        assert!(error.contains("does not belong"), "{error}");
    }

    #[test]
    fn names() {
        for good in ["alice", "a.b-c_d@example.org"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", "a/b", "../x", ".x", "-x", "a b", "a\nb", "DEFAULT", "é"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_encrypted_key_opens_with_its_password() {
        let key = key_pair().expect("key").serialize_pem();
        let encrypted = encrypt_key_with(&key, "correct horse", 2048).expect("encrypted");
        let open = |word: &str| {
            let word = word.to_owned();
            crate::private_key::from_pem(encrypted.as_bytes(), || Ok(Zeroizing::new(word)))
        };
        assert!(open("correct horse").is_ok());
        assert!(open("wrong").is_err());
    }
}
