//! TLS and the protection of the control channel.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroize as _;

use super::scripts::Command;

/// Something a file holds: written inline, or named by path. Its `Debug` never shows the content, which is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// The text of an inline block.
    Inline(String),
    /// A path, relative to the working directory (`cd` counts).
    Path(String),
}

impl Drop for Material {
    fn drop(&mut self) {
        if let Self::Inline(text) = self {
            text.zeroize();
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(text) => write!(f, "Inline({} bytes)", text.len()),
            Self::Path(path) => write!(f, "Path({path:?})"),
        }
    }
}

/// `key-direction`, or the second argument of `tls-auth`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyDirection {
    /// Both ends use the same key both ways.
    #[default]
    Bidirectional,
    /// 0, by custom the server.
    Normal,
    /// 1, by custom the client.
    Inverse,
}

/// A TLS version that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.0 (never spoken; 1.2 is the floor).
    V1_0,
    /// TLS 1.1 (never spoken; 1.2 is the floor).
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// `tls-cert-profile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertProfile {
    /// Everything.
    Insecure,
    /// SHA-1 allowed.
    #[default]
    Legacy,
    /// SHA-2, RSA 2048.
    Preferred,
    /// ECDSA P-256, P-384.
    SuiteB,
}

/// `crl-verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrlSource {
    /// A PEM file with one or more lists, or an inline one.
    File(Material),
    /// A directory with a file per revoked serial number (decimal).
    Directory(String),
}

/// How `verify-x509-name` compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum X509NameMatch {
    /// The whole subject string.
    #[default]
    Subject,
    /// The common name.
    Name,
    /// The start of the common name.
    NamePrefix,
}

/// `verify-x509-name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyX509 {
    /// What is expected.
    pub name: String,
    /// How it is compared.
    pub matching: X509NameMatch,
}

/// `x509-track [+]ATTR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509Track {
    /// Short name of an attribute of the subject, or `SHA1` or `SHA256` for a digest.
    pub name: String,
    /// Of every certificate of the chain, not only the peer's.
    pub chain: bool,
}

/// What the peer's extended key usage must contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteCertEku {
    /// "TLS Web Server Authentication" (1.3.6.1.5.5.7.3.1).
    Server,
    /// "TLS Web Client Authentication" (1.3.6.1.5.5.7.3.2).
    Client,
    /// A dotted OID or a long name.
    Other(String),
}

/// Which handshakes a server with tls-crypt-v2 takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsCryptV2Cookie {
    /// Also clients that cannot answer the cookie (2.5).
    #[default]
    AllowNonCookie,
    /// Only clients that resend the key with the cookie (2.6).
    ForceCookie,
}

/// TLS, certificates, and the wrapping of the control channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Trusted authorities, PEM.
    pub ca: Option<Material>,
    /// Directory of trusted authorities.
    pub ca_path: Option<String>,
    /// Own certificate, PEM, perhaps followed by its chain.
    pub cert: Option<Material>,
    /// Own private key, PEM, perhaps encrypted.
    pub key: Option<Material>,
    /// More certificates of the own chain, PEM.
    pub extra_certs: Option<Material>,
    /// Certificate, key and authorities in one file (an inline one is base64).
    pub pkcs12: Option<Material>,
    /// Groups, in order of preference, as written.
    pub groups: Vec<String>,
    /// Lowest version.
    pub version_min: TlsVersion,
    /// Highest version.
    pub version_max: Option<TlsVersion>,
    /// Cipher suites up to TLS 1.2, OpenSSL or IANA names.
    pub cipher_list: Vec<String>,
    /// Cipher suites of TLS 1.3.
    pub cipher_suites: Vec<String>,
    /// Which algorithms certificates may use.
    pub cert_profile: CertProfile,
    /// `tls-auth`: key and direction (`key-direction` applied).
    pub tls_auth: Option<(Material, KeyDirection)>,
    /// `tls-crypt` key.
    pub tls_crypt: Option<Material>,
    /// `tls-crypt-v2`: server key on a server, wrapped client key on a client.
    pub tls_crypt_v2: Option<Material>,
    /// Which handshakes a tls-crypt-v2 server takes.
    pub tls_crypt_v2_cookie: TlsCryptV2Cookie,
    /// Command that judges the metadata of a client's tls-crypt-v2 key.
    pub tls_crypt_v2_verify: Option<Command>,
    /// Oldest accepted tls-crypt-v2 client key.
    pub tls_crypt_v2_max_age: Option<Duration>,
    /// Digest of tls-auth, in upper case (`SHA1` by default).
    pub auth_digest: String,
    /// Extended key usage the peer must have.
    pub remote_cert_eku: Option<RemoteCertEku>,
    /// A key usage extension must exist (`remote-cert-tls`, `remote-cert-ku`).
    pub remote_cert_ku_required: bool,
    /// The bits of at least one mask must all be set (`remote-cert-ku HEX…`).
    pub remote_cert_ku: Vec<u16>,
    /// Expected name of the peer.
    pub verify_x509: Option<VerifyX509>,
    /// SHA-256 fingerprints of acceptable issuers (`verify-hash`).
    pub verify_hash: Vec<[u8; 32]>,
    /// SHA-256 fingerprints of acceptable peers.
    pub peer_fingerprints: Vec<[u8; 32]>,
    /// Revocation lists.
    pub crl: Option<CrlSource>,
    /// Command called for every certificate.
    pub verify_command: Option<Command>,
    /// Directory into which the peer's certificates are written for scripts.
    pub export_cert_dir: Option<String>,
    /// Fields that make the common name (default `CN`).
    pub x509_username_fields: Vec<String>,
    /// Attributes of certificates to tell scripts; empty: all of the subject.
    pub x509_track: Vec<X509Track>,
    /// Password of the private key: `Some(None)` asks, `Some(Some(file))` reads.
    pub askpass: Option<Option<String>>,
    /// `setenv CLIENT_CERT 0`: connect without certificate.
    pub no_client_cert: bool,
    /// Tell the server more about this host.
    pub push_peer_info: bool,
    /// Refuse peers that cannot use the TLS exporter for data keys.
    pub force_key_material_export: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            ca: None,
            ca_path: None,
            cert: None,
            key: None,
            extra_certs: None,
            pkcs12: None,
            groups: Vec::new(),
            version_min: TlsVersion::V1_2,
            version_max: None,
            cipher_list: Vec::new(),
            cipher_suites: Vec::new(),
            cert_profile: CertProfile::Legacy,
            tls_auth: None,
            tls_crypt: None,
            tls_crypt_v2: None,
            tls_crypt_v2_cookie: TlsCryptV2Cookie::AllowNonCookie,
            tls_crypt_v2_verify: None,
            tls_crypt_v2_max_age: None,
            auth_digest: "SHA1".to_owned(),
            remote_cert_eku: None,
            remote_cert_ku_required: false,
            remote_cert_ku: Vec::new(),
            verify_x509: None,
            verify_hash: Vec::new(),
            peer_fingerprints: Vec::new(),
            crl: None,
            verify_command: None,
            export_cert_dir: None,
            x509_username_fields: vec!["CN".to_owned()],
            x509_track: Vec::new(),
            askpass: None,
            no_client_cert: false,
            push_peer_info: false,
            force_key_material_export: false,
        }
    }
}
