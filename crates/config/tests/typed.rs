//! Whole texts become typed configurations: stock's order rules, defaults and helpers.

#![allow(clippy::expect_used)]

use std::net::Ipv4Addr;
use std::time::Duration;

use ovpn_config::model::*;
use ovpn_config::{Class, Config, Feature, Loaded, NoFiles, features_wanted, load_client_options, load_text};

fn load(text: &str) -> Loaded {
    load_text("t.conf", text.as_bytes(), &NoFiles)
}

fn good(text: &str) -> Config {
    let loaded = load(text);
    let bad: Vec<_> = loaded.obstacles().map(|d| d.one_line(&loaded.sources)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    loaded.config
}

fn classes(loaded: &Loaded) -> Vec<(Class, &str)> {
    loaded.diagnostics.iter().map(|d| (d.class, d.option.as_str())).collect()
}

const KEYS: &str = "ca ca.crt\ncert me.crt\nkey me.key\n";

#[test]
fn a_plain_client() {
    let c = good(&format!(
        "client\ndev tun\nproto udp\nremote a.example 1195\nremote b.example 443 tcp4\nresolv-retry infinite\nnobind\n{KEYS}remote-cert-tls server\n\
         <tls-auth>\nK\n</tls-auth>\nkey-direction 1\nverb 3\nverb 4\n"
    ));
    assert_eq!(c.role, Role::Client);
    assert!(c.pull && c.transport.nobind);
    assert_eq!(c.connections.len(), 2);
    let (a, b) = (&c.connections[0], &c.connections[1]);
    assert_eq!(
        (a.remote.host.as_str(), a.remote.port, a.remote.protocol),
        ("a.example", 1195, Protocol::Udp)
    );
    assert_eq!((b.remote.port, b.remote.protocol, b.remote.family), (443, Protocol::TcpClient, Family::V4));
    assert_eq!(a.local_port, None);
    assert_eq!(c.tls.tls_auth, Some((Material::Inline("K\n".into()), KeyDirection::Inverse)));
    assert_eq!(a.tls_auth, c.tls.tls_auth);
    assert_eq!(c.tls.remote_cert_eku, Some(RemoteCertEku::Server));
    assert_eq!(c.process.verb, 4, "the last one counts");
    assert_eq!(c.data.ciphers, Cipher::DEFAULT);
    assert_eq!(c.where_given("verb").map(|s| s.line), Some(17));
}

#[test]
fn a_plain_server() {
    let c = good(&format!(
        "port 1196\nproto udp\ndev tun\n{KEYS}dh none\nserver 10.8.0.0 255.255.255.0\nserver-ipv6 fd00:1::/64\n\
         push \"redirect-gateway def1\"\nkeepalive 10 60\nifconfig-pool-persist ipp.txt\nstatus s.log 10\nstatus-version 2\ntcp-nodelay\n"
    ));
    assert_eq!(c.role, Role::Server);
    assert_eq!(c.device.topology, Topology::Subnet);
    assert_eq!(c.device.ifconfig, Some(Ifconfig::Subnet { local: Ipv4Addr::new(10, 8, 0, 1), prefix: 24 }));
    let pool = c.server.pool.expect("pool");
    assert_eq!((pool.start, pool.end), (Ipv4Addr::new(10, 8, 0, 2), Ipv4Addr::new(10, 8, 0, 254)));
    assert_eq!(c.server.pool_ipv6.expect("pool").base.to_string(), "fd00:1::1000/64");
    assert_eq!(
        c.device.ifconfig_ipv6.map(|i| (i.local.to_string(), i.remote.to_string())),
        Some(("fd00:1::1/64".into(), "fd00:1::2".into()))
    );
    let push: Vec<_> = c.server.push.iter().map(|p| p.text.as_str()).collect();
    assert_eq!(
        push,
        [
            "redirect-gateway def1",
            "tun-ipv6",
            "route-gateway 10.8.0.1",
            "topology subnet",
            "ping 10",
            "ping-restart 60",
            "socket-flags TCP_NODELAY"
        ]
    );
    assert_eq!(c.timers.ping, Some(Duration::from_secs(10)));
    assert_eq!(c.timers.ping_restart, Some(Duration::from_secs(120)));
    assert_eq!(c.locals, [Local { port: 1196, span: c.where_given("port"), ..Local::default() }]);
    assert_eq!(c.process.status.map(|s| (s.interval, s.version)), Some((Duration::from_secs(10), 2)));
}

#[test]
fn a_server_on_several_sockets() {
    let c = good(&format!(
        "server 10.9.0.0 255.255.0.0\n{KEYS}local 192.0.2.1 1194 udp\nlocal * 443 tcp\nlocal 2001:db8::1\nport 1200\n"
    ));
    let got: Vec<_> = c.locals.iter().map(|l| (l.host.as_deref(), l.port, l.protocol)).collect();
    assert_eq!(
        got,
        [
            (Some("192.0.2.1"), 1194, Protocol::Udp),
            (None, 443, Protocol::TcpServer),
            (Some("2001:db8::1"), 1200, Protocol::Udp)
        ]
    );
    let wanted: Vec<_> = features_wanted(&c).into_iter().map(|w| w.feature).collect();
    assert!(wanted.contains(&Feature::SeveralSockets(3)) && wanted.contains(&Feature::TcpServer));
}

#[test]
fn connection_blocks_start_from_what_was_seen() {
    let loaded = load(&format!(
        "client\n{KEYS}remote-cert-tls server\nremote ignored 1\ntun-mtu 1400\n<connection>\nremote a 1\n</connection>\n\
         <connection>\nremote b 2 tcp\ntun-mtu 1300\nconnect-timeout 7\n</connection>\ntun-mtu 1200\n"
    ));
    let got: Vec<_> = loaded
        .config
        .connections
        .iter()
        .map(|c| (c.remote.host.as_str(), c.tun_mtu, c.connect_timeout.as_secs()))
        .collect();
    assert_eq!(got, [("a", 1400, 120), ("b", 1300, 7)]);
    assert!(classes(&loaded).contains(&(Class::Ignored, "tun-mtu")));
}

#[test]
fn p2p_over_tcp() {
    let c = good(&format!(
        "dev tun7\ntls-server\nifconfig 10.0.0.1 10.0.0.2\nproto tcp-server\n{KEYS}cipher AES-256-GCM\nkeepalive 5 20\n"
    ));
    assert_eq!(c.role, Role::Peer(TlsRole::Server));
    assert_eq!(c.device.name.as_deref(), Some("tun7"));
    assert_eq!(
        c.device.ifconfig,
        Some(Ifconfig::PointToPoint {
            local: Ipv4Addr::new(10, 0, 0, 1),
            remote: Ipv4Addr::new(10, 0, 0, 2)
        })
    );
    assert_eq!(c.locals[0].protocol, Protocol::TcpServer);
    assert_eq!(c.data.cipher_fallback, Some(Cipher::Aes256Gcm));
    assert_eq!(c.timers.ping_restart, Some(Duration::from_secs(20)));
    assert!(c.server.push.is_empty());
}

#[test]
fn old_servers_written_by_hand_become_one_subnet() {
    let c = good(&format!(
        "mode server\ntls-server\ndev tun\n{KEYS}ifconfig 10.8.0.1 10.8.0.2\nifconfig-pool 10.8.0.4 10.8.0.251\nroute 10.8.0.0 255.255.255.0\n"
    ));
    assert_eq!(c.device.ifconfig, Some(Ifconfig::Subnet { local: Ipv4Addr::new(10, 8, 0, 1), prefix: 24 }));
    let push: Vec<_> = c.server.push.iter().map(|p| p.text.as_str()).collect();
    assert_eq!(push, ["topology subnet", "route-gateway 10.8.0.1"]);
}

#[test]
fn compression_and_cbc_come_up_with_one_line_each() {
    let loaded =
        load(&format!("client\nremote a\n{KEYS}remote-cert-tls server\ncomp-lzo\ncipher AES-256-CBC\n"));
    assert!(loaded.ready());
    assert_eq!(classes(&loaded), [(Class::Deprecated, "comp-lzo"), (Class::Deprecated, "cipher")]);
    assert_eq!(loaded.config.data.compression, Some(Compression::CompLzo));
    assert_eq!(loaded.config.data.ciphers, Cipher::DEFAULT);
    assert_eq!(loaded.config.data.cipher.as_deref(), Some("AES-256-CBC"));
}

#[test]
fn ciphers() {
    let with = |lines: &str| load(&format!("client\nremote a\n{KEYS}remote-cert-tls server\n{lines}\n"));
    let names = |l: &Loaded| l.config.data.ciphers.iter().map(|c| c.name()).collect::<Vec<_>>().join(":");
    assert_eq!(
        names(&with("data-ciphers AES-256-CBC:aes-128-gcm:?FOO:DEFAULT")),
        "AES-128-GCM:AES-256-GCM:CHACHA20-POLY1305"
    );
    let forced = with("data-ciphers AES-256-CBC");
    assert_eq!(classes(&forced), [(Class::Unsupported, "data-ciphers")]);
    assert!(forced.diagnostics[0].help.contains("AES-256-GCM"));
    assert!(with("ncp-disable\ncipher BF-CBC").refused());
    let disabled = with("ncp-disable\ncipher AES-128-GCM");
    assert!(disabled.ready());
    assert_eq!(names(&disabled), "AES-128-GCM");
    assert!(with("data-ciphers AES-256-FOO").refused());
    assert!(with("data-ciphers-fallback AES-256-CBC").ready());
}

#[test]
fn what_is_refused_names_its_replacement() {
    for (text, word) in [
        ("dev tap\nclient\nremote a\nca x", "dev tun"),
        ("dev corp\ndev-type tap", "dev tun"),
        ("dev tun\nsecret k.key\nifconfig 10.0.0.1 10.0.0.2", "peer-fingerprint"),
        ("server-bridge", "server NETWORK MASK"),
        ("client\nscramble xormask abc", "tls-crypt"),
    ] {
        let loaded = load(text);
        let d = loaded.diagnostics.iter().find(|d| d.class == Class::Unsupported).expect(text);
        assert!(d.help.contains(word), "{text}: {}", d.help);
    }
}

#[test]
fn deprecated_names_keep_their_meaning() {
    let loaded =
        load("client\nremote a\nca x\nauth-user-pass\nns-cert-type server\ntls-remote vpn.example\n");
    assert!(loaded.ready());
    assert_eq!(loaded.config.tls.remote_cert_eku, Some(RemoteCertEku::Server));
    assert_eq!(loaded.config.tls.verify_x509.as_ref().map(|v| v.matching), Some(X509NameMatch::Name));
    let loaded = load(&format!("server 10.0.0.0 255.255.255.0\n{KEYS}client-cert-not-required\n"));
    assert_eq!(loaded.config.server.verify_client_cert, VerifyClientCert::None);
    assert!(!loaded.ready(), "nobody judges the clients");
    assert!(!loaded.refused());
}

#[test]
fn missing_things_are_told() {
    let loaded = load("client\ndev tun\n");
    assert_eq!(
        classes(&loaded),
        [(Class::Incomplete, "remote"), (Class::Incomplete, "ca"), (Class::Incomplete, "cert")]
    );
    assert!(!loaded.refused() && !loaded.ready());
    assert!(
        classes(&load(&format!("client\nremote a\n{KEYS}"))).contains(&(Class::Insecure, "remote-cert-tls"))
    );
    assert!(load("server 10.8.0.1 255.255.255.0").refused());
    assert!(load("client\nserver 10.8.0.0 255.255.255.0").refused());
}

#[test]
fn old_inline_words() {
    let c = good(&format!(
        "client\nremote a\nremote-cert-tls server\n{KEYS}ca [inline]\ntls-auth [inline] 1\n<ca>\nA\n</ca>\n<tls-auth>\nK\n</tls-auth>\n"
    ));
    assert_eq!(c.tls.ca, Some(Material::Inline("A\n".into())));
    assert_eq!(c.tls.tls_auth, Some((Material::Inline("K\n".into()), KeyDirection::Inverse)));
}

#[test]
fn pushed_options() {
    let c = good(&format!(
        "client\nremote a\n{KEYS}remote-cert-tls server\npull-filter ignore \"route 10.\"\npull-filter accept route\ndns server 1 address 192.0.2.1\n"
    ));
    let got = c.apply_pushed(&[
        "route 10.1.0.0 255.255.0.0",
        "route 172.16.0.0 255.240.0.0",
        "route-gateway 10.8.0.1",
        "topology subnet",
        "ifconfig 10.8.0.2 255.255.255.0",
        "peer-id 3",
        "cipher AES-256-GCM",
        "protocol-flags cc-exit tls-ekm dyn-tls-crypt",
        "ping 10",
        "ping-restart 60",
        "tun-mtu 1400",
        "dns server 1 address 192.0.2.53:5353",
        "dns search-domains example.org",
        "auth-token SESS_ID_AT_x",
        "auth-token-user YWxpY2U=",
        "comp-lzo no",
        "up /bin/false",
        "frobnicate 1",
    ]);
    assert_eq!(got.filtered, ["route 10.1.0.0 255.255.0.0"]);
    assert_eq!(got.config.routing.routes.len(), 1);
    assert_eq!(
        got.config.device.ifconfig,
        Some(Ifconfig::Subnet { local: Ipv4Addr::new(10, 8, 0, 2), prefix: 24 })
    );
    let p = &got.pushed;
    assert_eq!((p.peer_id, p.cipher), (Some(3), Some(Cipher::Aes256Gcm)));
    assert!(p.cc_exit && p.tls_ekm && p.dyn_tls_crypt && !p.aead_epoch);
    assert_eq!(p.auth_token_user.as_deref(), Some("alice"));
    assert_eq!(p.compression, Some(Some(Compression::CompLzo)));
    assert_eq!(got.config.timers.ping_restart, Some(Duration::from_secs(60)));
    assert_eq!(got.config.device.mtu, 1400);
    assert_eq!(got.config.routing.dns.servers.len(), 1);
    assert_eq!(got.config.routing.dns.servers[0].addresses[0].to_string(), "192.0.2.53:5353");
    let said: Vec<_> = got.diagnostics.iter().map(|d| d.option.as_str()).collect();
    assert_eq!(said, ["up", "frobnicate"], "the server sets no scripts; what is unknown is left out");
    assert!(got.config.scripts.up.is_none());
    let reject = good(&format!("client\nremote a\n{KEYS}remote-cert-tls server\npull-filter reject ping\n"));
    assert_eq!(reject.apply_pushed(&["  ping 10"]).rejected.as_deref(), Some("ping 10"));
    let nopull = good(&format!("client\nremote a\n{KEYS}remote-cert-tls server\nroute-nopull\n"));
    let got = nopull.apply_pushed(&["route 10.0.0.0 255.0.0.0", "ping 5", "dhcp-option DNS 192.0.2.1"]);
    assert_eq!(got.filtered.len(), 2);
    assert!(got.config.routing.routes.is_empty() && got.config.timers.ping.is_some());
}

#[test]
fn client_files() {
    let text = "ifconfig-push 10.8.0.9 255.255.255.0\niroute 192.168.7.0 255.255.255.0\niroute-ipv6 fd07::/48\n\
                push \"route 10.7.0.0 255.255.0.0\"\npush-remove redirect-gateway\nping 7\nverb 3\n";
    let (o, said, _) = load_client_options("ccd/a", text.as_bytes(), &NoFiles);
    assert_eq!(o.ifconfig_push.map(|p| p.local), Some(Ipv4Addr::new(10, 8, 0, 9)));
    assert_eq!(o.iroutes[0].to_string(), "192.168.7.0/24");
    assert_eq!(o.iroutes_ipv6[0].to_string(), "fd07::/48");
    assert_eq!(o.push[0].text, "route 10.7.0.0 255.255.0.0");
    assert_eq!(o.push_remove, ["redirect-gateway"]);
    assert_eq!(o.timers.and_then(|t| t.ping), Some(Duration::from_secs(7)));
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].option, "verb");
}

#[test]
fn features_have_reasons() {
    let loaded = load(&format!(
        "client\nremote a 1 tcp\n{KEYS}remote-cert-tls server\nfragment 1300\ncompress\nhttp-proxy p 8080\n"
    ));
    let wanted = features_wanted(&loaded.config);
    let place = |want: fn(&Feature) -> bool| {
        let found = wanted.iter().find(|w| want(&w.feature)).expect("wanted");
        (found.option, found.span.map(|s| s.line))
    };
    assert_eq!(place(|f| matches!(f, Feature::Fragment(_))), ("fragment", Some(7)));
    assert_eq!(place(|f| matches!(f, Feature::CompressionFraming(Compression::Stub))), ("compress", Some(8)));
    assert_eq!(place(|f| matches!(f, Feature::HttpProxy)), ("http-proxy", Some(9)));
    assert_eq!(place(|f| matches!(f, Feature::TcpClient)), ("remote", Some(2)));
}

#[test]
fn the_recorded_configurations_are_accepted() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/protocol/transcripts");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).expect("transcripts beside the checkout") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|e| e == "conf") {
            let loaded =
                load_text(&path.display().to_string(), &std::fs::read(&path).expect("file"), &NoFiles);
            let bad: Vec<_> = loaded.obstacles().map(|d| d.one_line(&loaded.sources)).collect();
            assert!(bad.is_empty(), "{bad:#?}");
            seen += 1;
        }
    }
    assert!(seen >= 8, "{seen} files");
}

#[test]
fn a_server_names_no_hosts_unless_allowed() {
    let client = |more: &str| good(&format!("client\nremote a\n{KEYS}remote-cert-tls server\n{more}"));
    let pushed =
        ["route host.example 255.255.255.255", "route-gateway gw.example", "route 10.0.0.0 255.0.0.0"];
    let got = client("").apply_pushed(&pushed);
    assert_eq!(got.config.routing.routes.len(), 1);
    assert!(got.config.routing.gateway.is_none());
    assert_eq!(got.diagnostics.len(), 2);
    assert!(got.diagnostics[0].help.contains("allow-pull-fqdn"));
    let got = client("allow-pull-fqdn\n").apply_pushed(&pushed);
    assert_eq!((got.config.routing.routes.len(), got.diagnostics.len()), (2, 0));
    assert!(client("route host.example\n").routing.routes.len() == 1, "the file may name hosts");
}

#[test]
fn compression_that_is_not_allowed() {
    let with = |lines: &str| load(&format!("client\nremote a\n{KEYS}remote-cert-tls server\n{lines}\n"));
    let both = with("allow-compression no\ncomp-lzo");
    assert!(both.ready() && classes(&both).contains(&(Class::Insecure, "allow-compression")));
    for fine in ["allow-compression no\ncomp-lzo no", "compress\nallow-compression no"] {
        assert!(!classes(&with(fine)).contains(&(Class::Insecure, "allow-compression")), "{fine}");
    }
    let client = with("allow-compression no").config;
    let got = client.apply_pushed(&["compress lz4-v2"]);
    assert_eq!((got.pushed.compression, got.diagnostics.len()), (None, 1));
    assert_eq!(client.apply_pushed(&["comp-lzo no"]).pushed.compression, Some(Some(Compression::CompLzo)));
    let open = with("").config.apply_pushed(&["compress lz4-v2"]);
    assert_eq!(open.pushed.compression, Some(Some(Compression::Lz4V2)));
}

#[test]
fn fragment_is_for_udp_and_sets_the_default_of_mssfix() {
    let with = |more: &str| load(&format!("client\n{KEYS}remote-cert-tls server\n{more}\n"));
    let entry = |more: &str| {
        let loaded = with(more);
        assert!(loaded.ready(), "{:?}", classes(&loaded));
        let entry = &loaded.config.connections[0];
        (entry.fragment, entry.mssfix)
    };
    let fragment = |size, mtu| Some(Fragment { size, mtu });
    assert_eq!(entry("remote a\nfragment 1300"), (fragment(1300, false), MssFix::Mtu(1300)));
    assert_eq!(entry("remote a\nfragment 1300 mtu\nmssfix"), (fragment(1300, true), MssFix::Mtu(1300)));
    assert_eq!(entry("remote a\nfragment 1300\nmssfix 1200"), (fragment(1300, false), MssFix::Payload(1200)));
    assert_eq!(entry("remote a\nfragment 0"), (None, MssFix::Default));
    let block = "<connection>\nremote a\nfragment 1300\n</connection>";
    assert_eq!(entry(block), (fragment(1300, false), MssFix::Mtu(1300)));

    for tcp in [
        "remote a 1 tcp\nfragment 1300",
        "remote a\nremote b 1 tcp\nfragment 1300",
        "<connection>\nremote a 1 tcp\nfragment 1300\n</connection>",
    ] {
        assert!(classes(&with(tcp)).contains(&(Class::Error, "fragment")), "{tcp}");
    }
    let apart =
        "<connection>\nremote a\nfragment 1300\n</connection>\n<connection>\nremote a 1 tcp\n</connection>";
    assert!(with(apart).ready());
    assert!(classes(&with("remote a\nfragment 67")).contains(&(Class::Error, "fragment")));
    let server = format!("server 10.8.0.0 255.255.255.0\ndev tun\n{KEYS}dh none\nproto tcp\nfragment 1300\n");
    assert!(classes(&load(&server)).contains(&(Class::Error, "fragment")));
}
