//! A throwaway certificate authority: P-256, valid for a day around now, never written anywhere by itself.

use std::path::PathBuf;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::TempDir;

/// What a certificate is for: its extended key usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// TLS server authentication.
    Server,
    /// TLS client authentication.
    Client,
}

/// A certificate with its key, PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Certificate.
    pub cert: String,
    /// Private key, PKCS#8.
    pub key: String,
}

/// A certificate authority.
pub struct Pki {
    ca: Issuer<'static, KeyPair>,
    ca_cert: String,
}

impl Pki {
    /// Makes a new authority.
    ///
    /// # Errors
    /// Only when the random source fails.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        name(&mut params, "ovpn test CA");
        let key = KeyPair::generate()?;
        let ca_cert = params.self_signed(&key)?.pem();
        Ok(Self { ca: Issuer::new(params, key), ca_cert })
    }

    /// The authority's certificate, PEM.
    pub fn ca_cert(&self) -> &str {
        &self.ca_cert
    }

    /// Issues a certificate with that common name.
    ///
    /// # Errors
    /// When the name fits no certificate.
    pub fn issue(&self, common_name: &str, role: Role) -> anyhow::Result<Identity> {
        self.issue_for(common_name, role, 2020, 2049)
    }

    /// As [`issue`](Self::issue), valid from the beginning of one year to the end of another.
    ///
    /// # Errors
    /// When the name fits no certificate.
    pub fn issue_for(&self, common_name: &str, role: Role, from: i32, to: i32) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::default();
        name(&mut params, common_name);
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 12, 31);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match role {
            Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(common_name).into());
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.ca).context("cannot sign")?;
        Ok(Identity { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// A revocation list of the certificates issued for these common names, PEM; it is valid for some decades.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn revocation_list(&self, common_names: &[&str]) -> anyhow::Result<String> {
        let revoked = |name: &&str| rcgen::RevokedCertParams {
            serial_number: serial(name).into(),
            revocation_time: rcgen::date_time_ymd(2020, 1, 2),
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2049, 12, 31),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: common_names.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.ca)?.pem()?)
    }

    /// Writes `ca.crt` and, for each (name, role), `<name>.crt` and `<name>.key` into a folder.
    ///
    /// # Errors
    /// When a certificate cannot be issued or written.
    pub fn write(&self, dir: &TempDir, identities: &[(&str, Role)]) -> anyhow::Result<PathBuf> {
        dir.write("ca.crt", self.ca_cert())?;
        for (name, role) in identities {
            let identity = self.issue(name, *role)?;
            dir.write(&format!("{name}.crt"), identity.cert)?;
            dir.write(&format!("{name}.key"), identity.key)?;
        }
        Ok(dir.path().to_owned())
    }
}

/// The serial number of the certificate for a common name.
pub fn serial(common_name: &str) -> u64 {
    // FNV-1a; any number that differs from name to name will do.
    common_name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        >> 2
}

fn name(params: &mut CertificateParams, common_name: &str) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // rcgen's own dates span centuries, which some peers cannot hold in their time type.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn openssl_verifies_what_it_issues() {
        let dir = TempDir::new("pki").unwrap();
        let path =
            Pki::new().unwrap().write(&dir, &[("server", Role::Server), ("client", Role::Client)]).unwrap();
        for (name, purpose) in [("server", "sslserver"), ("client", "sslclient")] {
            let mut command = Command::new("openssl");
            command.current_dir(&path).args(["verify", "-purpose", purpose, "-CAfile", "ca.crt"]);
            let text = crate::run(command.arg(format!("{name}.crt")), Duration::from_secs(10)).unwrap();
            assert!(text.success().unwrap().contains("OK"));
        }
    }
}
