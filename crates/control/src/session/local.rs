//! This side: parameters, credentials, randomness, and what it says about itself.

use base64::Engine;
use ovpn_crypto::control_wrap::WrapKey;
use ovpn_crypto::key2::TlsRole;
use ovpn_crypto::tls_crypt_v2::Metadata;
use ovpn_wire::control_packet::{ControlHeader, SessionId};
use ovpn_wire::key_method::{OptionsString, options_item};
use ovpn_wire::peer_info::PeerInfo;

use crate::exchange::{Hello, Local, RemoteHello};
use crate::negotiation;
use crate::params::{Link, LocalOptions, P2pTls, Params, SessionParams};
use crate::tls::Tls;
use crate::wrap::{TlsCryptV2Server, Wrapping};
use crate::{Cipher, Credentials, DropReason, Failure, FailureKind, Now, Random};

/// This side.
pub(super) struct Own {
    pub(super) params: Params,
    pub(super) credentials: Option<Credentials>,
    /// The server's token, which stands in for the password from then on.
    pub(super) token: Option<Credentials>,
    pub(super) random: Box<dyn Random + Send>,
}

impl Own {
    pub(super) fn new(
        params: Params,
        credentials: Option<Credentials>,
        random: Box<dyn Random + Send>,
    ) -> Self {
        Self { params, credentials, token: None, random }
    }

    /// A fresh session id.
    pub(super) fn session_id(&mut self) -> SessionId {
        loop {
            let mut bytes = [0; 8];
            self.random.fill(&mut bytes);
            if let Some(id) = SessionId::new(bytes) {
                return id;
            }
        }
    }

    /// A number evenly from `0.0..1.0`.
    pub(super) fn fraction(&mut self) -> f64 {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }

    /// The wrapping key of a peer's first packet, the packet without what follows it, and the metadata.
    #[allow(clippy::type_complexity)]
    pub(super) fn unwrap_key<'a>(
        &self,
        header: ControlHeader,
        packet: &'a [u8],
    ) -> Result<(WrapKey, Option<Metadata>, &'a [u8]), DropReason> {
        let role = match &self.params {
            Params::Client(_) => TlsRole::Client,
            Params::Server(_) => TlsRole::Server,
            Params::P2p(params) => match params.tls {
                P2pTls::Client(_) => TlsRole::Client,
                P2pTls::Server(_) => TlsRole::Server,
            },
        };
        if header.opcode.carries_wrapped_key() {
            let Some(v2) = self.params.tls_crypt_v2() else { return Err(DropReason::BadClientKey) };
            let carried = v2.key.open_carrier(packet).map_err(crate::association::drop_reason)?;
            return Ok((carried.key, Some(carried.metadata), carried.packet));
        }
        if self.params.tls_crypt_v2().is_some() && matches!(self.params.session().wrapping, Wrapping::None) {
            return Err(DropReason::BadClientKey);
        }
        let key = self.params.session().wrapping.key(role).ok_or(DropReason::Unauthentic)?;
        Ok((key, None, packet))
    }

    /// Takes a token out of pushed options.
    pub(super) fn take_token(&mut self, options: &[String]) -> Option<Credentials> {
        let value = |name: &str| {
            options
                .iter()
                .rev()
                .find_map(|option| option.strip_prefix(name)?.strip_prefix(' '))
                .map(str::trim)
        };
        let token = value("auth-token")?;
        let username = value("auth-token-user")
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .or_else(|| self.credentials.as_ref().map(|credentials| credentials.username.clone()))
            .unwrap_or_default();
        let token = Credentials { username, password: token.to_owned() };
        self.token = Some(token.clone());
        Some(token)
    }
}

impl Local for Own {
    fn hello(&mut self, remote: Option<&RemoteHello>) -> Result<Hello, Failure> {
        let session = self.params.session();
        let (peer_info, is_server) = match &self.params {
            Params::Client(params) => {
                let mut info = PeerInfo::new()
                    .with("IV_VER", &params.version)
                    .with("IV_PLAT", platform())
                    .with("IV_TCPNL", 1)
                    .with("IV_MTU", params.tun_mtu_max);
                if [Cipher::Aes128Gcm, Cipher::Aes256Gcm]
                    .iter()
                    .all(|cipher| session.data_ciphers.contains(cipher))
                {
                    info = info.with("IV_NCP", 2);
                }
                info = info
                    .with("IV_CIPHERS", Cipher::format_list(&session.data_ciphers))
                    .with("IV_PROTO", negotiation::client_proto(&session.features));
                (extended(info, &params.peer_info), false)
            }
            Params::P2p(params) => {
                let info = PeerInfo::new()
                    .with("IV_CIPHERS", Cipher::format_list(&session.data_ciphers))
                    .with("IV_PROTO", negotiation::p2p_proto(&session.features));
                (extended(info, &params.peer_info), matches!(params.tls, P2pTls::Server(_)))
            }
            Params::Server(_) => (PeerInfo::new(), true),
        };
        let comp_lzo = session.options.comp_lzo
            || remote.is_some_and(|client| compression_to_push(&self.params, client).is_some());
        let credentials = match self.params {
            Params::Server(_) => None,
            _ => self.token.clone().or_else(|| self.credentials.clone()),
        };
        Ok(Hello {
            options: options_string(&session.options, session.link, is_server, comp_lzo),
            credentials,
            peer_info: peer_info.to_string(),
        })
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.random.fill(bytes);
    }
}

impl Params {
    pub(super) fn session(&self) -> &SessionParams {
        match self {
            Self::Client(params) => &params.session,
            Self::Server(params) => &params.session,
            Self::P2p(params) => &params.session,
        }
    }

    /// The key that peers' keys are wrapped with.
    pub(super) fn tls_crypt_v2(&self) -> Option<&TlsCryptV2Server> {
        match self {
            Self::Client(_) => None,
            Self::Server(params) => params.tls_crypt_v2.as_ref(),
            Self::P2p(params) => params.tls_crypt_v2.as_ref(),
        }
    }

    /// Whether clients are served.
    pub(super) const fn is_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// A TLS session for a new key.
    pub(super) fn start_tls(&self, now: Now) -> Result<Tls, Failure> {
        let started = match self {
            Self::Client(params) => params.tls.start(now.unix),
            Self::Server(params) => params.tls.start(now.unix),
            Self::P2p(params) => match &params.tls {
                P2pTls::Client(tls) => tls.start(now.unix),
                P2pTls::Server(tls) => tls.start(now.unix),
            },
        };
        started.map_err(|error| Failure::new(FailureKind::Tls, error.0))
    }
}

/// `compress migrate`: what to push to a client whose options string says that it frames.
pub(super) fn compression_to_push(params: &Params, client: &RemoteHello) -> Option<&'static str> {
    let Params::Server(params) = params else { return None };
    if !params.compress_migrate || options_item(&client.options, "comp-lzo").is_none() {
        return None;
    }
    match client.peer_info.get("IV_COMP_STUBv2") {
        Some("1") => Some("compress stub-v2"),
        _ => Some("comp-lzo no"),
    }
}

fn extended(info: PeerInfo, more: &[(String, String)]) -> PeerInfo {
    more.iter().fold(info, |info, (name, value)| info.with(name, value))
}

const fn platform() -> &'static str {
    if cfg!(target_os = "windows") {
        "win"
    } else if cfg!(target_os = "macos") {
        "mac"
    } else if cfg!(target_os = "freebsd") {
        "freebsd"
    } else {
        "linux"
    }
}

fn options_string(options: &LocalOptions, link: Link, is_server: bool, comp_lzo: bool) -> String {
    let proto = match (link, is_server) {
        (Link::UdpV4, _) => "UDPv4",
        (Link::UdpV6, _) => "UDPv6",
        (Link::TcpV4, true) => "TCPv4_SERVER",
        (Link::TcpV4, false) => "TCPv4_CLIENT",
        (Link::TcpV6, true) => "TCPv6_SERVER",
        (Link::TcpV6, false) => "TCPv6_CLIENT",
    };
    OptionsString {
        link_mtu: u32::from(options.tun_mtu)
            + if link.is_tcp() { 43 } else { 41 }
            + if options.fragment { 4 } else { 0 },
        tun_mtu: u32::from(options.tun_mtu),
        proto,
        ifconfig: options.ifconfig.as_ref().map(|(remote, local)| (remote.as_str(), local.as_str())),
        comp_lzo,
        fragment: options.fragment,
        key_direction: options.keydir,
        cipher: options.cipher.as_deref(),
        auth: &options.auth,
        key_size: options
            .cipher
            .as_deref()
            .and_then(|name| name.parse::<Cipher>().ok())
            .map_or(128, |cipher| cipher.key_len() as u32 * 8),
        tls_auth: options.tls_auth,
        tls_server: is_server,
    }
    .to_string()
}
