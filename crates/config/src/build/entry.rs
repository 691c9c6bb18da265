//! Options of connections: those that may stand in `<connection>`, and the socket's.

use std::time::Duration;

use super::Builder;
use super::arguments::{Bad, Opt};
use crate::diagnostic::Class;
use crate::model::{
    Connection, Family, Fragment, HttpProxy, HttpProxyAuth, KeyDirection, Local, Material, MssFix,
    MtuDiscovery, Protocol, Remote, SocksProxy,
};
use crate::source::Span;

/// A protocol as written: plain `tcp` gets its side from the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProtoWord {
    Udp,
    Tcp,
    TcpClient,
    TcpServer,
}

impl ProtoWord {
    pub(super) const fn resolve(self, listening: bool) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            Self::TcpClient => Protocol::TcpClient,
            Self::TcpServer => Protocol::TcpServer,
            Self::Tcp if listening => Protocol::TcpServer,
            Self::Tcp => Protocol::TcpClient,
        }
    }
}

/// A `remote` line.
#[derive(Clone, Debug)]
pub(super) struct RemoteLine {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) proto: Option<(ProtoWord, Family)>,
    pub(super) span: Span,
}

/// A `local` line.
#[derive(Clone, Debug)]
pub(super) struct LocalLine {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) proto: Option<(ProtoWord, Family)>,
    pub(super) span: Span,
}

/// The connection options seen so far.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) remote: Option<RemoteLine>,
    pub(super) proto: (ProtoWord, Family),
    pub(super) local_host: Option<String>,
    pub(super) lport: Option<u16>,
    pub(super) rport: Option<u16>,
    pub(super) bind: bool,
    pub(super) bind_ipv6_only: bool,
    pub(super) nobind: bool,
    pub(super) float: bool,
    pub(super) retry: Duration,
    pub(super) retry_max: Duration,
    pub(super) timeout: Duration,
    pub(super) http_proxy: Option<HttpProxy>,
    pub(super) socks_proxy: Option<SocksProxy>,
    pub(super) exit_notify: Option<u32>,
    pub(super) tun_mtu: Option<u16>,
    pub(super) tun_mtu_max: u16,
    pub(super) max_packet_size: u16,
    pub(super) mssfix: MssFix,
    pub(super) fragment: Option<Fragment>,
    pub(super) mtu_discovery: Option<MtuDiscovery>,
    pub(super) key_direction: KeyDirection,
    pub(super) tls_auth: Option<Material>,
    pub(super) tls_crypt: Option<Material>,
    pub(super) tls_crypt_v2: Option<Material>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            remote: None,
            proto: (ProtoWord::Udp, Family::Any),
            local_host: None,
            lport: None,
            rport: None,
            bind: false,
            bind_ipv6_only: false,
            nobind: false,
            float: false,
            retry: Duration::from_secs(1),
            retry_max: Duration::from_secs(300),
            timeout: Duration::from_secs(120),
            http_proxy: None,
            socks_proxy: None,
            exit_notify: None,
            tun_mtu: None,
            tun_mtu_max: 1600,
            max_packet_size: 1250,
            mssfix: MssFix::Default,
            fragment: None,
            mtu_discovery: None,
            key_direction: KeyDirection::Bidirectional,
            tls_auth: None,
            tls_crypt: None,
            tls_crypt_v2: None,
        }
    }
}

impl Entry {
    pub(super) fn with_remote(mut self, remote: RemoteLine) -> Self {
        self.remote = Some(remote);
        self
    }

    /// `mssfix` without a size goes by `fragment`, so that segments need no cutting; all headers count, as in stock.
    pub(super) fn mssfix(&self) -> MssFix {
        match (self.mssfix, self.fragment) {
            (MssFix::Default, Some(fragment)) => MssFix::Mtu(fragment.size),
            (given, _) => given,
        }
    }

    /// The finished entry for one remote.
    pub(super) fn connection(&self, remote: &RemoteLine, nobind: bool) -> Connection {
        let (word, family) = remote.proto.unwrap_or(self.proto);
        let bind = !nobind && !self.nobind;
        Connection {
            remote: Remote {
                host: remote.host.clone(),
                port: remote.port.or(self.rport).unwrap_or(1194),
                protocol: word.resolve(false),
                family,
            },
            local_host: self.local_host.clone().filter(|_| bind),
            local_port: bind.then(|| self.lport.unwrap_or(1194)),
            bind,
            bind_ipv6_only: self.bind_ipv6_only,
            float: self.float,
            connect_timeout: self.timeout,
            retry_pause: self.retry,
            retry_pause_max: self.retry_max,
            http_proxy: self.http_proxy.clone(),
            socks_proxy: self.socks_proxy.clone(),
            explicit_exit_notify: self.exit_notify.filter(|n| *n > 0),
            tun_mtu: self.tun_mtu.unwrap_or(1500),
            tun_mtu_max: self.tun_mtu_max,
            max_packet_size: self.max_packet_size,
            mssfix: self.mssfix(),
            fragment: self.fragment,
            mtu_discovery: self.mtu_discovery,
            tls_auth: self.tls_auth.clone().map(|key| (key, self.key_direction)),
            tls_crypt: self.tls_crypt.clone(),
            tls_crypt_v2: self.tls_crypt_v2.clone(),
            span: remote.span,
        }
    }
}

impl LocalLine {
    pub(super) fn local(&self, entry: &Entry, listening: bool) -> Local {
        let (word, family) = self.proto.unwrap_or(entry.proto);
        Local {
            host: self.host.clone(),
            port: self.port.or(entry.lport).unwrap_or(1194),
            protocol: word.resolve(listening),
            family,
            span: Some(self.span),
        }
    }
}

pub(super) fn apply(b: &mut Builder, o: &mut Opt<'_>) -> Result<bool, Bad> {
    let e = &mut b.entry;
    let t = &mut b.config.transport;
    match o.name() {
        "remote" => {
            let host = o.text(0)?;
            if host.is_empty() {
                return Err(o.bad(
                    0,
                    "`remote` wants the name or address of the server",
                    "write `remote HOST PORT`",
                ));
            }
            let port = if o.count() > 1 { Some(o.port(1)?) } else { None };
            let proto = if o.count() > 2 { Some(proto(o, 2)?) } else { None };
            b.remotes.push(RemoteLine { host, port, proto, span: o.span() });
        }
        "proto" => e.proto = proto(o, 0)?,
        "port" => {
            let port = o.port(0)?;
            e.lport = Some(port);
            e.rport = Some(port);
        }
        "lport" => e.lport = Some(o.port(0)?),
        "rport" => e.rport = Some(o.port(0)?),
        "local" => {
            let host = o.text(0)?;
            let host = Some(host).filter(|h| h != "*");
            let port = if o.count() > 1 { Some(o.port(1)?) } else { None };
            let proto = if o.count() > 2 { Some(proto(o, 2)?) } else { None };
            e.local_host.clone_from(&host);
            if port.is_some() {
                e.lport = port;
            }
            e.bind = true;
            if !b.in_block {
                b.locals.push(LocalLine { host, port, proto, span: o.span() });
            }
        }
        "bind" => {
            if o.count() > 0 {
                o.word(0, &[("ipv6only", ())])?;
                e.bind_ipv6_only = true;
                t.bind_ipv6_only = true;
            }
            e.bind = true;
            e.nobind = false;
        }
        "nobind" => {
            e.nobind = true;
            if !b.in_block {
                t.nobind = true;
            }
        }
        "bind-dev" => t.bind_device = Some(o.text(0)?),
        "float" => e.float = true,
        "connect-retry" => {
            e.retry = o.seconds(0, 1)?;
            if o.count() > 1 {
                e.retry_max = o.seconds(1, 1)?;
            }
            e.retry_max = e.retry_max.max(e.retry);
        }
        "connect-retry-max" => t.connect_retry_max = Some(o.number(0, 0..=u32::MAX)?).filter(|n| *n > 0),
        "connect-timeout" | "server-poll-timeout" => e.timeout = o.seconds(0, 1)?,
        "http-proxy" => {
            let (host, port) = (o.text(0)?, o.port(1)?);
            let mut proxy = HttpProxy {
                host,
                port,
                auth: HttpProxyAuth::None,
                credentials: b.proxy_user_pass.clone(),
                version: "1.0".to_owned(),
                agent: None,
                headers: Vec::new(),
            };
            match o.get(2) {
                None | Some("none") => {}
                Some("auto") => proxy.auth = HttpProxyAuth::Auto,
                Some("auto-nct") => proxy.auth = HttpProxyAuth::AutoNoClearText,
                Some(_) => {
                    proxy.credentials = match o.get(2) {
                        Some("stdin") => None,
                        _ => o.material(2)?,
                    };
                    proxy.auth = HttpProxyAuth::Basic;
                }
            }
            if o.count() > 3 {
                proxy.auth = o.word(
                    3,
                    &[
                        ("none", HttpProxyAuth::None),
                        ("basic", HttpProxyAuth::Basic),
                        ("digest", HttpProxyAuth::Digest),
                        ("ntlm2", HttpProxyAuth::Ntlm2),
                        ("ntlm", HttpProxyAuth::Ntlm2),
                    ],
                )?;
                if proxy.auth == HttpProxyAuth::Ntlm2 {
                    o.say(
                        Class::Unsupported,
                        "NTLM at a proxy is not supported",
                        "use basic or digest authentication",
                    );
                }
            } else if proxy.auth == HttpProxyAuth::None && proxy.credentials.is_some() {
                proxy.auth = HttpProxyAuth::Basic;
            }
            e.http_proxy = Some(proxy);
        }
        "http-proxy-user-pass" => {
            let credentials = o.material(0)?;
            b.proxy_user_pass.clone_from(&credentials);
            if let Some(proxy) = &mut e.http_proxy {
                proxy.credentials = credentials;
                if proxy.auth == HttpProxyAuth::None {
                    proxy.auth = HttpProxyAuth::Basic;
                }
            }
        }
        "http-proxy-option" => {
            let Some(proxy) = &mut e.http_proxy else {
                return Err(o.bad(0, "`http-proxy-option` stands before `http-proxy`", "put it after it"));
            };
            let words = [("VERSION", 0), ("AGENT", 1), ("CUSTOM-HEADER", 2), ("EXT1", 2), ("EXT2", 2)];
            match o.word(0, &words)? {
                0 => proxy.version = o.text(1)?,
                1 => proxy.agent = Some(o.text(1)?),
                _ => proxy.headers.push((o.text(1)?, o.get(2).unwrap_or_default().to_owned())),
            }
        }
        "socks-proxy" => {
            let host = o.text(0)?;
            let port = if o.count() > 1 { o.port(1)? } else { 1080 };
            let credentials = if o.count() > 2 { o.material(2)? } else { None };
            e.socks_proxy = Some(SocksProxy { host, port, credentials });
        }
        "explicit-exit-notify" => {
            let count = if o.count() > 0 { o.number(0, 0..=1000)? } else { 1 };
            e.exit_notify = Some(count);
            b.config.timers.explicit_exit_notify = Some(count).filter(|n| *n > 0);
        }
        "remote-random" => t.remote_random = true,
        "remote-random-hostname" => t.remote_random_hostname = true,
        "proto-force" => t.force_tcp = Some(o.word(0, &[("tcp", true), ("udp", false)])?),
        "multihome" => t.multihome = true,
        "resolv-retry" => {
            t.resolve_retry = if o.is(0, "infinite") { None } else { Some(o.seconds(0, 0)?) };
        }
        "preresolve" => t.preresolve = true,
        "socket-flags" => {
            for arg in o.args() {
                if arg.text != "TCP_NODELAY" {
                    let text = format!("the socket flag {} is not known", arg.text);
                    o.say(Class::Ignored, text, "only TCP_NODELAY exists");
                }
            }
        }
        "tcp-nodelay" => b.tcp_nodelay = Some(o.span()),
        "mark" => t.mark = Some(o.number(0, 0..=u32::MAX)?),
        "rcvbuf" => t.rcvbuf = buffer(o)?,
        "sndbuf" => t.sndbuf = buffer(o)?,
        "mtu-disc" => {
            let words = [("no", Some(MtuDiscovery::No)), ("maybe", None), ("yes", Some(MtuDiscovery::Yes))];
            e.mtu_discovery = o.word(0, &words)?;
            if !b.in_block {
                t.mtu_discovery = e.mtu_discovery;
            }
        }
        "persist-remote-ip" => t.persist_remote_ip = true,
        "persist-local-ip" => t.persist_local_ip = true,
        "block-leaks" => b.config.routing.block_leaks = true,
        "passtos" => {
            o.say(Class::Ignored, "`passtos` has no effect on an offloaded data channel", "remove it")
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn buffer(o: &mut Opt<'_>) -> Result<Option<u32>, Bad> {
    Ok(Some(o.number(0, 0..=u32::MAX)?).filter(|n| *n > 0))
}

fn proto(o: &mut Opt<'_>, at: usize) -> Result<(ProtoWord, Family), Bad> {
    let word = o.text(at)?.to_ascii_lowercase();
    let (kind, side) = word.split_once('-').unwrap_or((word.as_str(), ""));
    let (kind, family) = match kind.strip_suffix(['4', '6']) {
        Some(kind) => (kind, if word.contains('4') { Family::V4 } else { Family::V6 }),
        None => (kind, Family::Any),
    };
    let proto = match (kind, side) {
        ("udp", "") => ProtoWord::Udp,
        ("tcp", "") => ProtoWord::Tcp,
        ("tcp", "client") => ProtoWord::TcpClient,
        ("tcp", "server") => ProtoWord::TcpServer,
        _ => {
            let message = format!("\"{}\" is no protocol", super::arguments::short(&word));
            return Err(o.bad(
                at,
                message,
                "write udp, tcp, udp4, udp6, tcp4, tcp6, tcp-client or tcp-server",
            ));
        }
    };
    Ok((proto, family))
}
