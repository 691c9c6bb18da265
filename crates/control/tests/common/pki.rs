//! A throwaway PKI, made once per test process.

use std::sync::OnceLock;

use ovpn_control::{
    ClientParams, Identity, Link, PeerRules, ServerParams, SessionParams, TlsClient, TlsOptions, TlsServer,
    VerifyClientCert, Wrapping,
};
use ovpn_crypto::secret::Secret;
use ovpn_crypto::static_key::StaticKey;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

pub struct Issued {
    pub der: Vec<u8>,
    pub pem: String,
    pub key_pem: String,
}

impl Issued {
    fn new(certificate: &Certificate, key: &KeyPair) -> Self {
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    pub fn identity(&self) -> Identity {
        Identity::from_pem(self.pem.as_bytes(), self.key_pem.as_bytes()).unwrap()
    }
}

pub struct Pki {
    pub ca: Vec<u8>,
    pub other_ca: Vec<u8>,
    pub server: Issued,
    pub client: Issued,
    pub second_client: Issued,
    pub other_client: Issued,
    pub expired_server: Issued,
    pub future_client: Issued,
    pub self_signed: Issued,
    /// Revokes `client`.
    pub crl: Vec<u8>,
    /// Revokes nobody.
    pub empty_crl: Vec<u8>,
}

const YEARS: (i32, i32) = (2024, 2040);

fn name(common: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Throwaway");
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_before = date_time_ymd(YEARS.0, 1, 1);
    params.not_after = date_time_ymd(YEARS.1, 1, 1);
    params
}

fn authority(common: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = name(common);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(
    ca: &CertifiedIssuer<'static, KeyPair>,
    common: &str,
    purpose: ExtendedKeyUsagePurpose,
    serial: u64,
    years: (i32, i32),
) -> Issued {
    let mut params = name(common);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.serial_number = Some(SerialNumber::from(serial));
    let key = KeyPair::generate().unwrap();
    Issued::new(&params.signed_by(&key, ca).unwrap(), &key)
}

fn crl(ca: &CertifiedIssuer<'static, KeyPair>, serials: &[u64]) -> Vec<u8> {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2040, 1, 1),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: serials
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: date_time_ymd(2024, 2, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).unwrap().der().to_vec()
}

pub fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let ca = authority("Throwaway CA");
        let other = authority("Another CA");
        let key = KeyPair::generate().unwrap();
        let self_signed = name("alone").self_signed(&key).unwrap();
        Pki {
            ca: ca.der().to_vec(),
            other_ca: other.der().to_vec(),
            server: issue(&ca, "server", ServerAuth, 1, YEARS),
            client: issue(&ca, "client", ClientAuth, 2, YEARS),
            second_client: issue(&ca, "second client", ClientAuth, 6, YEARS),
            other_client: issue(&other, "stranger", ClientAuth, 3, YEARS),
            expired_server: issue(&ca, "old server", ServerAuth, 4, (2020, 2021)),
            future_client: issue(&ca, "young client", ClientAuth, 5, (2030, 2040)),
            self_signed: Issued::new(&self_signed, &key),
            crl: crl(&ca, &[2]),
            empty_crl: crl(&ca, &[]),
        }
    })
}

pub fn second_client() -> &'static Issued {
    &pki().second_client
}

pub fn static_key(fill: u8) -> StaticKey {
    let mut bytes = Secret::zeroed();
    for (index, byte) in bytes.expose_mut().iter_mut().enumerate() {
        *byte = (index as u8).wrapping_mul(31) ^ fill;
    }
    StaticKey::new(bytes)
}

pub fn rules() -> PeerRules {
    PeerRules { ca: vec![pki().ca.clone()], remote_cert_tls: true, ..PeerRules::default() }
}

pub fn session(wrapping: Wrapping) -> SessionParams {
    SessionParams::new(Link::UdpV4, wrapping)
}

pub fn client(wrapping: Wrapping) -> ClientParams {
    client_with(session(wrapping), Some(pki().client.identity()), rules(), &TlsOptions::default())
}

pub fn client_with(
    session: SessionParams,
    identity: Option<Identity>,
    rules: PeerRules,
    options: &TlsOptions,
) -> ClientParams {
    ClientParams {
        session,
        tls: TlsClient::new(identity, rules, options).unwrap(),
        version: "0.1.0".into(),
        peer_info: Vec::new(),
        tun_mtu_max: 1600,
        pull_filters: Vec::new(),
    }
}

pub fn server(wrapping: Wrapping) -> ServerParams {
    server_with(
        session(wrapping),
        pki().server.identity(),
        rules(),
        VerifyClientCert::Require,
        &TlsOptions::default(),
    )
}

pub fn server_with(
    session: SessionParams,
    identity: Identity,
    rules: PeerRules,
    client_cert: VerifyClientCert,
    options: &TlsOptions,
) -> ServerParams {
    ServerParams {
        session,
        tls: TlsServer::new(identity, rules, client_cert, options).unwrap(),
        tls_crypt_v2: None,
        force_tls_ekm: false,
        single_session: false,
        compress_migrate: false,
    }
}
