//! From the configuration to the control plane's parameters.

use std::net::SocketAddr;

use ovpn_config::Config;
use ovpn_config::model::{self, KeyDirection, PullFilterAction};
use ovpn_control::{
    Cipher, ClientParams, Features, Link, LocalOptions, PullAction, PullFilter, SessionParams, Timing,
    TlsClient, Wrapping,
};
use ovpn_dco::Capabilities;

/// The control plane's view of a transport.
pub fn link(remote: SocketAddr, tcp: bool) -> Link {
    match (tcp, remote.ip().to_canonical().is_ipv4()) {
        (false, true) => Link::UdpV4,
        (false, false) => Link::UdpV6,
        (true, true) => Link::TcpV4,
        (true, false) => Link::TcpV6,
    }
}

/// What all roles share. `max_packet_size` is that of the connection entry.
pub fn session(
    config: &Config,
    link: Link,
    wrapping: Wrapping,
    max_packet_size: u16,
    capabilities: &Capabilities,
) -> SessionParams {
    let cipher = |cipher: model::Cipher| match cipher {
        model::Cipher::Aes128Gcm => Cipher::Aes128Gcm,
        model::Cipher::Aes192Gcm => Cipher::Aes192Gcm,
        model::Cipher::Aes256Gcm => Cipher::Aes256Gcm,
        model::Cipher::ChaCha20Poly1305 => Cipher::ChaCha20Poly1305,
    };
    let timers = &config.timers;
    let (tls_auth, keydir) = match &wrapping {
        Wrapping::TlsAuth { .. } => (true, config.tls.tls_auth.as_ref().map(|(_, direction)| *direction)),
        _ => (false, None),
    };
    let mut params = SessionParams::new(link, wrapping);
    params.replay_window = (config.data.replay_window.packets, config.data.replay_window.time.as_secs());
    params.timing = Timing {
        hand_window: timers.hand_window,
        tran_window: timers.tran_window,
        tls_timeout: timers.tls_timeout,
        reneg: timers.reneg,
        reneg_min: timers.reneg_min,
        ..Timing::default()
    };
    params.max_packet_size = max_packet_size;
    params.data_ciphers = config.data.ciphers.iter().copied().map(cipher).collect();
    params.data_ciphers_fallback = config.data.cipher_fallback.map(cipher);
    params.features =
        Features { epoch: capabilities.epoch, data_v1: capabilities.data_v1, ..Features::default() };
    params.options = LocalOptions {
        tun_mtu: config.device.mtu,
        keydir: keydir.and_then(|direction| match direction {
            KeyDirection::Bidirectional => None,
            KeyDirection::Normal => Some(0),
            KeyDirection::Inverse => Some(1),
        }),
        // Only named where it can be negotiated, as OpenVPN does since 2.6.
        cipher: config.data.cipher.clone().filter(|name| {
            model::Cipher::from_name(name).is_some_and(|cipher| config.data.ciphers.contains(&cipher))
        }),
        auth: config.tls.auth_digest.clone(),
        tls_auth,
        // A server with `compress migrate` goes by this.
        comp_lzo: config.data.compression.is_some(),
        ..LocalOptions::default()
    };
    params
}

/// What a client that frames says it understands: all framings; what it wants is none of the compression.
fn framings(config: &Config) -> impl Iterator<Item = (String, String)> {
    let names = ["IV_LZO_STUB", "IV_COMP_STUB", "IV_COMP_STUBv2"];
    let names = names.into_iter().filter(|_| config.data.compression.is_some());
    names.map(|name| (name.to_owned(), "1".to_owned()))
}

/// A pulling client's parameters.
pub fn client(config: &Config, session: SessionParams, tls: TlsClient, tun_mtu_max: u16) -> ClientParams {
    ClientParams {
        session,
        tls,
        version: crate::COMPATIBLE.to_owned(),
        peer_info: framings(config).chain(config.scripts.peer_info.iter().cloned()).collect(),
        tun_mtu_max,
        pull_filters: config
            .routing
            .pull_filters
            .iter()
            .map(|filter| PullFilter {
                action: match filter.action {
                    PullFilterAction::Accept => PullAction::Accept,
                    PullFilterAction::Ignore => PullAction::Ignore,
                    PullFilterAction::Reject => PullAction::Reject,
                },
                prefix: filter.text.clone(),
            })
            .collect(),
    }
}
