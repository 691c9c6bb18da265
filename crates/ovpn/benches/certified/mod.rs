//! What the benchmarks' clients go by: the certificate `client1` of a site, and its authority.

use std::sync::Arc;
use std::time::Duration;

use ovpn_control::{
    ClientParams, Identity, PeerRules, TlsClient, TlsOptions, Wrapping, certificates_from_pem,
};
use ovpn_testkit::Site;

/// `limit`: how long a handshake may take.
pub(crate) fn params(site: &Site, wrapping: Wrapping, limit: Duration) -> Arc<ClientParams> {
    let rules = PeerRules {
        ca: certificates_from_pem(site.read("ca.crt").as_bytes()).unwrap(),
        remote_cert_tls: true,
        ..PeerRules::default()
    };
    let identity =
        Identity::from_pem(site.read("client1.crt").as_bytes(), site.read("client1.key").as_bytes()).unwrap();
    let tls = TlsClient::new(Some(identity), rules, &TlsOptions::default()).unwrap();
    crate::crowd::params(tls, wrapping, limit)
}
