//! What does not fit together, is missing, or is weak.

use super::Builder;
use crate::diagnostic::{Class, Diagnostic};
use crate::model::{
    AllowCompression, Config, ManagementAddress, Role, ScriptSecurity, TlsRole, VerifyClientCert,
    VerifyMethod,
};

impl Builder {
    pub(super) fn validate(&mut self) {
        let mut out = Vec::new();
        let c = &self.config;
        if !self.flags.secret {
            role(c, self.flags.tls_client || self.flags.tls_server, &mut out);
            credentials(c, self.flags.plugin, &mut out);
            server_check(c, &mut out);
        }
        control_keys(c, &mut out);
        scripts(c, &mut out);
        exclusive(c, &mut out);
        fragment(c, &mut out);
        if let (Some((option, span)), AllowCompression::No) = (self.compresses, c.data.allow_compression) {
            let text = format!(
                "`allow-compression no` does not fit `{option}`: what a peer compresses is expanded all the same"
            );
            out.push(
                Diagnostic::new(Class::Insecure, "allow-compression", Some(span), text)
                    .help(format!("remove `{option}` on both sides; OpenVPN refuses the two together")),
            );
        }
        if self.config.role == Role::Server {
            server(c, &mut out);
        }
        self.diagnostics.extend(out);
    }
}

/// Pieces are datagrams; TCP cuts what it carries by itself.
fn fragment(c: &Config, out: &mut Vec<Diagnostic>) {
    let over_tcp = c.connections.iter().find(|e| e.fragment.is_some() && e.remote.protocol.is_tcp());
    let listens = c.data.fragment.is_some() && c.locals.iter().any(|l| l.protocol.is_tcp());
    if over_tcp.is_some() || c.role == Role::Server && listens {
        let at = c.where_given("fragment").or(over_tcp.map(|entry| entry.span));
        let text = "`fragment` does not go with TCP, which cuts what it carries by itself";
        out.push(
            Diagnostic::new(Class::Error, "fragment", at, text)
                .help("add `proto udp`, or remove `fragment` on both sides"),
        );
    }
}

fn missing(option: &str, message: &str, help: &str) -> Diagnostic {
    Diagnostic::new(Class::Incomplete, option, None, message).help(help)
}

fn role(c: &Config, tls_side: bool, out: &mut Vec<Diagnostic>) {
    match c.role {
        Role::Client if c.connections.is_empty() && !c.management.query_remote => out.push(missing(
            "remote",
            "no `remote` says where to connect to",
            "add `remote HOST PORT`",
        )),
        Role::Peer(_) if !tls_side => out.push(missing(
            "tls-client",
            "this is neither a client's, nor a server's, nor a peer's configuration",
            "add `client` to connect to a server, `server NETWORK MASK` to serve, or `tls-client` on one peer and `tls-server` on the other",
        )),
        Role::Peer(TlsRole::Client) if c.connections.is_empty() => out.push(missing(
            "remote",
            "no `remote` says where the other peer is",
            "add `remote HOST PORT`",
        )),
        _ => {}
    }
}

fn credentials(c: &Config, plugin: bool, out: &mut Vec<Diagnostic>) {
    let t = &c.tls;
    let external = c.management.external_key.is_some();
    let own = (t.cert.is_some() || c.management.external_cert.is_some()) && (t.key.is_some() || external)
        || t.pkcs12.is_some()
        || c.is_given("pkcs11-id")
        || c.is_given("cryptoapicert");
    let trust =
        t.ca.is_some() || t.ca_path.is_some() || t.pkcs12.is_some() || !t.peer_fingerprints.is_empty();
    if !trust {
        out.push(missing(
            "ca",
            "nothing says whom to trust",
            "add `ca FILE`, or `peer-fingerprint SHA256` for a single peer",
        ));
    }
    let half = t.cert.is_some() && t.key.is_none() && !external && t.pkcs12.is_none();
    match c.role {
        _ if half => out.push(missing("key", "there is a `cert` but no `key`", "add `key FILE`")),
        Role::Client if !own && c.auth.user_pass.is_none() => out.push(missing(
            "cert",
            "nothing proves to the server who this client is",
            "add `cert FILE` and `key FILE`, or `auth-user-pass`",
        )),
        Role::Client | Role::Peer(TlsRole::Client) if !own => {}
        Role::Server | Role::Peer(_) if !own => {
            out.push(missing("cert", "this side has no certificate", "add `cert FILE` and `key FILE`"));
        }
        _ => {}
    }
    let optional = c.server.verify_client_cert != VerifyClientCert::Require;
    let judged = c.auth.verify.is_some() || c.management.client_auth || plugin;
    if c.role == Role::Server && optional && !judged {
        let at = c.where_given("verify-client-cert").or_else(|| c.where_given("client-cert-not-required"));
        out.push(
            Diagnostic::new(
                Class::Incomplete,
                "verify-client-cert",
                at,
                "clients need no certificate, and nothing judges their password: everyone could connect",
            )
            .help("add `auth-user-pass-verify CMD via-file`, or remove the line"),
        );
    }
}

/// Without a check of its purpose, any certificate of the same authority can pose as the server.
fn server_check(c: &Config, out: &mut Vec<Diagnostic>) {
    let t = &c.tls;
    let checked = t.remote_cert_eku.is_some()
        || t.verify_x509.is_some()
        || t.remote_cert_ku_required
        || t.verify_command.is_some()
        || !t.peer_fingerprints.is_empty()
        || !t.verify_hash.is_empty();
    if c.role == Role::Client && !checked && !c.connections.is_empty() {
        out.push(
            Diagnostic::new(
                Class::Insecure,
                "remote-cert-tls",
                None,
                "the server's certificate is not checked for its purpose: another client could pose as the server",
            )
            .help("add `remote-cert-tls server`"),
        );
    }
}

fn control_keys(c: &Config, out: &mut Vec<Diagnostic>) {
    let t = &c.tls;
    let kinds = [
        ("tls-auth", t.tls_auth.is_some() || c.connections.iter().any(|e| e.tls_auth.is_some())),
        ("tls-crypt", t.tls_crypt.is_some() || c.connections.iter().any(|e| e.tls_crypt.is_some())),
        ("tls-crypt-v2", t.tls_crypt_v2.is_some() || c.connections.iter().any(|e| e.tls_crypt_v2.is_some())),
    ];
    let set: Vec<&str> = kinds.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let per_entry =
        |n: fn(&crate::model::Connection) -> usize| c.connections.iter().map(n).max().unwrap_or(0);
    let most = per_entry(|e| {
        usize::from(e.tls_auth.is_some())
            + usize::from(e.tls_crypt.is_some())
            + usize::from(e.tls_crypt_v2.is_some())
    });
    if let (Some(last), true) =
        (set.last(), most > 1 || (c.role != Role::Server && c.connections.is_empty() && set.len() > 1))
    {
        let text = format!("{} exclude each other", set.join(" and "));
        out.push(
            Diagnostic::new(Class::Error, last, c.where_given(last), text)
                .help("keep the one that the server has"),
        );
    }
    let digest = t.auth_digest.as_str();
    let known = matches!(digest, "SHA1" | "SHA" | "SHA224" | "SHA256" | "SHA384" | "SHA512" | "MD5")
        || matches!(
            digest,
            "RSA-SHA1" | "RSA-SHA256" | "RSA-SHA512" | "RSA-SHA384" | "RSA-SHA224" | "RSA-MD5"
        )
        || matches!(
            digest,
            "SHA-1" | "SHA-256" | "SHA-384" | "SHA-512" | "SHA2-256" | "SHA2-384" | "SHA2-512"
        );
    if !known && c.is_given("auth") {
        let at = c.where_given("auth");
        let text = format!("`auth {}` names no digest", super::arguments::short(digest));
        out.push(if kinds.iter().any(|(name, on)| *name == "tls-auth" && *on) {
            Diagnostic::new(Class::Error, "auth", at, text)
                .help("write SHA1, SHA256, SHA384 or SHA512, as the other side")
        } else {
            Diagnostic::new(Class::Ignored, "auth", at, format!("{text}; nothing needs one here"))
                .help("remove the line")
        });
    }
}

fn scripts(c: &Config, out: &mut Vec<Diagnostic>) {
    let s = &c.scripts;
    let commands = [
        ("up", s.up.is_some()),
        ("down", s.down.is_some()),
        ("route-up", s.route_up.is_some()),
        ("route-pre-down", s.route_pre_down.is_some()),
        ("ipchange", s.ipchange.is_some()),
        ("tls-verify", c.tls.verify_command.is_some()),
        ("tls-crypt-v2-verify", c.tls.tls_crypt_v2_verify.is_some()),
        ("auth-user-pass-verify", c.auth.verify.is_some()),
        ("client-connect", c.server.client_connect.is_some()),
        ("client-disconnect", c.server.client_disconnect.is_some()),
        ("learn-address", c.server.learn_address.is_some()),
    ];
    if s.security < ScriptSecurity::Scripts
        && let Some((name, _)) = commands.iter().find(|(_, on)| *on)
    {
        out.push(
            Diagnostic::new(
                Class::Advice,
                name,
                c.where_given(name),
                format!("`{name}` is not run without `script-security 2`"),
            )
            .help("add `script-security 2`"),
        );
    }
    let by_env = c.auth.verify.as_ref().is_some_and(|v| v.method == VerifyMethod::ViaEnv);
    if by_env && s.security < ScriptSecurity::Passwords {
        let at = c.where_given("auth-user-pass-verify");
        out.push(
            Diagnostic::new(
                Class::Advice,
                "auth-user-pass-verify",
                at,
                "`via-env` gets no password without `script-security 3`",
            )
            .help("use `via-file`, or add `script-security 3`"),
        );
    }
}

fn exclusive(c: &Config, out: &mut Vec<Diagnostic>) {
    for entry in &c.connections {
        if entry.http_proxy.is_some() && !entry.remote.protocol.is_tcp() {
            let text = "an HTTP proxy carries TCP only, and this remote is UDP";
            out.push(
                Diagnostic::new(Class::Error, "http-proxy", Some(entry.span), text)
                    .help("add `proto tcp`, or remove `http-proxy`"),
            );
            break;
        }
        if entry.http_proxy.is_some() && entry.socks_proxy.is_some() {
            let text = "an HTTP and a SOCKS proxy exclude each other";
            out.push(
                Diagnostic::new(Class::Error, "socks-proxy", c.where_given("socks-proxy"), text)
                    .help("keep one of them"),
            );
            break;
        }
    }
    if c.management.address.is_none() {
        let needs = [
            "management-hold",
            "management-client",
            "management-query-passwords",
            "management-query-proxy",
            "management-client-auth",
            "management-external-key",
            "management-external-cert",
        ];
        if let Some(name) = needs.iter().find(|n| c.is_given(n)) {
            let text = format!("`{name}` needs `management`");
            out.push(
                Diagnostic::new(Class::Incomplete, name, c.where_given(name), text)
                    .help("add `management PATH unix`"),
            );
        }
    }
    let drops = ["user", "group", "chroot"].into_iter().find(|name| c.is_given(name));
    if let (true, Some(name)) = (c.routing.block_leaks, drops) {
        let text = format!(
            "`block-leaks` and `{name}` exclude each other: opening the way again needs root to the end"
        );
        out.push(
            Diagnostic::new(Class::Error, name, c.where_given(name), text)
                .help("remove `user`, `group` and `chroot`, or `block-leaks`"),
        );
    }
    let tcp = |p: crate::model::Protocol| p.is_tcp();
    let all_tcp = if c.connections.is_empty() {
        c.locals.iter().all(|l| tcp(l.protocol))
    } else {
        c.connections.iter().all(|e| tcp(e.remote.protocol))
    };
    if all_tcp && c.timers.explicit_exit_notify.is_some() {
        let at = c.where_given("explicit-exit-notify");
        out.push(Diagnostic::new(
            Class::Ignored,
            "explicit-exit-notify",
            at,
            "`explicit-exit-notify` has no effect over TCP: closing the connection tells the peer",
        ));
    }
    if matches!(&c.management.address, Some(ManagementAddress::Unix(path)) if path.is_empty()) {
        let at = c.where_given("management");
        out.push(
            Diagnostic::new(Class::Error, "management", at, "`management` names no socket")
                .help("write `management PATH unix`"),
        );
    }
}

fn server(c: &Config, out: &mut Vec<Diagnostic>) {
    if c.device.ifconfig.is_none() && c.device.ifconfig_ipv6.is_none() {
        out.push(missing(
            "server",
            "no network is given for the tunnel",
            "add `server 10.8.0.0 255.255.255.0`",
        ));
    }
    if c.server.ccd_exclusive && c.server.client_config_dir.is_none() {
        let at = c.where_given("ccd-exclusive");
        out.push(
            Diagnostic::new(Class::Error, "ccd-exclusive", at, "`ccd-exclusive` needs `client-config-dir`")
                .help("add `client-config-dir DIR`"),
        );
    }
    if c.server.port_share.is_some() && !c.locals.iter().any(|l| l.protocol.is_tcp()) {
        let at = c.where_given("port-share");
        out.push(
            Diagnostic::new(Class::Ignored, "port-share", at, "`port-share` has no effect over UDP")
                .help("add `proto tcp`"),
        );
    }
    if c.server.client_to_client {
        let at = c.where_given("client-to-client");
        out.push(Diagnostic::new(
            Class::Advice,
            "client-to-client",
            at,
            "packets between clients pass through this host's own routing, where its firewall sees them",
        ));
    }
    if c.is_given("remote") {
        let at = c.where_given("remote");
        out.push(
            Diagnostic::new(
                Class::Ignored,
                "remote",
                at,
                "a server connects to nobody: `remote` has no effect",
            )
            .help("remove it"),
        );
    }
}
