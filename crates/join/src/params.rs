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
        fragment: config.data.fragment.is_some(),
        ..LocalOptions::default()
    };
    params
}

/// What a client tells its server beside what the control plane says of its own abilities. Variables of the user go along
/// with `push-peer-info`, as `host` does; before that only a graphical program's name and what it can do.
fn peer_info(config: &Config, host: Vec<(String, String)>) -> Vec<(String, String)> {
    // A client that frames says it understands all framings; what it wants is none of the compression.
    let framings = ["IV_LZO_STUB", "IV_COMP_STUB", "IV_COMP_STUBv2"].into_iter();
    let framings = framings.filter(|_| config.data.compression.is_some());
    let mut out: Vec<_> = framings.map(|name| (name.to_owned(), "1".to_owned())).collect();
    out.extend(host);
    for (name, value) in &config.scripts.peer_info {
        if config.tls.push_peer_info || matches!(name.as_str(), "IV_GUI_VER" | "IV_SSO") {
            out.retain(|(earlier, _)| earlier != name);
            out.push((name.clone(), value.clone()));
        }
    }
    out
}

/// A pulling client's parameters. `host`: what is told of this machine (`push-peer-info`), names and values.
pub fn client(
    config: &Config,
    session: SessionParams,
    tls: TlsClient,
    tun_mtu_max: u16,
    host: Vec<(String, String)>,
) -> ClientParams {
    ClientParams {
        session,
        tls,
        version: crate::COMPATIBLE.to_owned(),
        peer_info: peer_info(config, host),
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

#[cfg(test)]
mod tests {
    use super::*;
    use ovpn_config::{NoFiles, load_text};

    fn names(text: &str) -> Vec<String> {
        let loaded = load_text("t", text.as_bytes(), &NoFiles);
        let host = vec![("IV_PLAT_VER".to_owned(), "6.1".to_owned())];
        let host = if loaded.config.tls.push_peer_info { host } else { Vec::new() };
        peer_info(&loaded.config, host).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn little_is_told_unless_asked() {
        let set = "client\nsetenv UV_ID 7\nsetenv IV_GUI_VER Test\nsetenv IV_SSO webauth\n";
        assert_eq!(names(set), ["IV_GUI_VER", "IV_SSO"]);
        assert_eq!(
            names(&format!("{set}push-peer-info\n")),
            ["IV_PLAT_VER", "UV_ID", "IV_GUI_VER", "IV_SSO"]
        );
        assert_eq!(names("client\nsetenv PUSH_PEER_INFO\nsetenv UV_A 1\n"), ["IV_PLAT_VER", "UV_A"]);
        assert_eq!(names("client\ncomp-lzo\n"), ["IV_LZO_STUB", "IV_COMP_STUB", "IV_COMP_STUBv2"]);
        assert_eq!(names("client\npush-peer-info\nsetenv IV_PLAT_VER mine\n"), ["IV_PLAT_VER"]);
    }
}
