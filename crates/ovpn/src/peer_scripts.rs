//! Scripts about the one peer of a client or point-to-point peer: `tls-verify`, `ipchange`.

use std::net::SocketAddr;

use ovpn_config::Config;
use ovpn_control::PeerChain;

use crate::certificate_environment::set_chain;
use crate::environment::Environment;
use crate::script::Script;
use crate::script_environment;

/// `tls-verify DEPTH SUBJECT` for each certificate of the chain, the CA's first: whether all are accepted.
pub(crate) async fn tls_verify(
    config: &Config,
    environment: &Environment,
    chain: Option<&PeerChain>,
) -> bool {
    let Some(command) = &config.tls.verify_command else { return true };
    let certificates = chain.map_or(&[][..], |chain| &chain.certificates);
    let mut environment = environment.clone();
    if let Some(chain) = chain {
        set_chain(&mut environment, chain, &config.tls.x509_track);
    }
    let environment = &environment;
    for (depth, certificate) in certificates.iter().enumerate().rev() {
        let arguments = vec![depth.to_string(), certificate.subject.clone()];
        let script = Script { what: "tls-verify", command, arguments, environment };
        if let Err(error) = script.run(config.scripts.security).await {
            tracing::warn!("VERIFY SCRIPT ERROR: depth={depth}, {}: {error}", certificate.subject);
            return false;
        }
        tracing::info!("VERIFY SCRIPT OK: depth={depth}, {}", certificate.subject);
    }
    true
}

/// `ipchange ADDRESS PORT`.
pub(crate) async fn ipchange(
    config: &Config,
    environment: &Environment,
    remote: SocketAddr,
    common_name: &str,
) {
    let Some(command) = &config.scripts.ipchange else { return };
    let mut environment = environment.clone();
    script_environment::add_peer(&mut environment, remote, common_name);
    let ip = remote.ip().to_canonical().to_string();
    let arguments = vec![ip, remote.port().to_string()];
    let script = Script { what: "ipchange", command, arguments, environment: &environment };
    if let Err(error) = script.run(config.scripts.security).await {
        tracing::warn!("{error}");
    }
}
