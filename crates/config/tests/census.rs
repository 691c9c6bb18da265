//! Thousands of made-up files whose options are as frequent as in public ones: at least 97 % are accepted, and what is refused
//! is layer 2, a static key, or a forced cipher that is no AEAD one.
//!
//! The shares are those of a count over 227 public files (client 117, server 93); each option is drawn by itself.

use ovpn_config::{Class, NoFiles, load_text};

/// (share in per cent, lines); `|` separates equally likely forms.
type Shares = [(u32, &'static str)];

const CLIENT: &Shares = &[
    (100, "client"),
    (93, "dev tun|dev tun|dev tun0|dev tun1"),
    (6, "dev tap|dev tap0"),
    (85, "proto udp|proto udp|proto udp|proto tcp|proto tcp-client|proto udp4|proto tcp4-client"),
    (
        95,
        "remote vpn.example.org 1194|remote 192.0.2.1 443 tcp|remote vpn.example.org 1194 udp|remote vpn.example.org",
    ),
    (9, "remote b.example.org 1194\nremote c.example.org 443 tcp"),
    (78, "verb 3|verb 3|verb 4|verb 32"),
    (74, "persist-tun"),
    (75, "persist-key"),
    (50, "ca ca.crt|ca \"/etc/openvpn/ca.crt\""),
    (37, "<ca>\n# text\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n</ca>"),
    (68, "cert client.crt|<cert>\nA\n</cert>"),
    (67, "key client.key|<key>\nA\n</key>"),
    (41, "cipher AES-256-CBC|cipher AES-128-CBC|cipher AES-256-CBC"),
    (12, "cipher AES-256-GCM|cipher AES-128-GCM"),
    (14, "keepalive 10 60|keepalive 10 120"),
    (45, "auth SHA256|auth SHA512|auth SHA1"),
    (40, "comp-lzo|comp-lzo|comp-lzo yes|comp-lzo no|comp-lzo adaptive"),
    (40, "tls-auth ta.key 1|<tls-auth>\nK\n</tls-auth>|tls-auth [inline] 1\n<tls-auth>\nK\n</tls-auth>"),
    (76, "nobind"),
    (72, "resolv-retry infinite|resolv-retry 0"),
    (56, "remote-cert-tls server"),
    (18, "user nobody\ngroup nogroup|user nobody\ngroup nobody"),
    (28, "key-direction 1"),
    (30, "auth-user-pass|auth-user-pass|auth-user-pass secret.txt|<auth-user-pass>\na\nb\n</auth-user-pass>"),
    (7, "script-security 2"),
    (13, "tls-version-min 1.2|tls-version-min 1.0"),
    (23, "tls-client"),
    (12, "mute 20|mute 10"),
    (12, "reneg-sec 0|reneg-sec 86400"),
    (17, "auth-nocache"),
    (8, "tls-cipher DEFAULT:@SECLEVEL=0|tls-cipher TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256"),
    (10, "tun-mtu 1500|tun-mtu 1400"),
    (13, "verify-x509-name server name|verify-x509-name 'C=NL, CN=server' subject"),
    (8, "compress|compress lz4-v2|compress lzo"),
    (8, "mssfix 1450|mssfix|mssfix 1200"),
    (12, "pull"),
    (4, "route 10.0.0.0 255.0.0.0|route 192.168.1.0 255.255.255.0 vpn_gateway 10"),
    (4, "up /etc/openvpn/up.sh\ndown /etc/openvpn/down.sh"),
    (10, "redirect-gateway def1|redirect-gateway|redirect-gateway def1 bypass-dhcp"),
    (5, "sndbuf 0\nrcvbuf 0|sndbuf 393216\nrcvbuf 393216"),
    (3, "ncp-ciphers AES-256-GCM|ncp-ciphers AES-256-GCM:AES-256-CBC:AES-128-GCM"),
    (3, "data-ciphers AES-256-GCM:AES-128-GCM|data-ciphers AES-256-GCM:AES-256-CBC"),
    (1, "data-ciphers AES-256-CBC"),
    (8, "ignore-unknown-option block-outside-dns\nblock-outside-dns|setenv opt block-outside-dns # Windows"),
    (9, "mute-replay-warnings"),
    (9, "ns-cert-type server"),
    (8, "setenv CLIENT_CERT 0|setenv FORWARD_COMPATIBLE 1|setenv UV_ID x"),
    (4, "ping 10\nping-restart 60|ping 15\nping-exit 60"),
    (5, "remote-cert-eku \"TLS Web Server Authentication\""),
    (5, "tun-mtu-extra 32"),
    (3, "keysize 256"),
    (5, "auth-retry nointeract|auth-retry none"),
    (3, "route-delay 2|route-delay 2 30"),
    (3, "fast-io"),
    (4, "dhcp-option DNS 192.0.2.53|dhcp-option DOMAIN example.org"),
    (2, "data-ciphers-fallback AES-256-CBC"),
    (2, "float"),
    (2, "ping-timer-rem"),
    (2, "route-method exe"),
    (2, "remote-random"),
    (2, "replay-window 128"),
    (2, "passtos"),
    (2, "link-mtu 1500"),
    (2, "pkcs12 me.p12"),
    (2, "register-dns"),
    (2, "tls-remote server"),
    (
        1,
        "http-proxy-retry|tls-timeout 5|hand-window 120|connect-retry 5|tls-exit|mtu-test|tap-sleep 1|engine",
    ),
];

const SERVER: &Shares = &[
    (90, "dev tun|dev tun|dev tun0"),
    (7, "dev tap0|dev tap"),
    (96, "proto udp|proto udp|proto tcp|proto udp6|proto tcp-server"),
    (88, "server 10.8.0.0 255.255.255.0|server 10.8.0.0 255.255.0.0"),
    (88, "verb 3|verb 4|verb 6|verb 0"),
    (92, "persist-tun"),
    (88, "persist-key"),
    (96, "ca ca.crt"),
    (96, "cert server.crt\nkey server.key # secret|cert server.crt\nkey server.key"),
    (33, "cipher AES-256-CBC|cipher AES-128-CBC|cipher BF-CBC"),
    (15, "cipher AES-256-GCM"),
    (89, "keepalive 10 120|keepalive 10 60"),
    (42, "auth SHA256|auth SHA512"),
    (92, "port 1194|port 443"),
    (47, "comp-lzo|comp-lzo|comp-lzo yes|comp-lzo no"),
    (48, "tls-auth ta.key 0|tls-auth ta.key"),
    (95, "dh dh2048.pem|dh dh2048.pem|dh none|<dh>\nA\n</dh>"),
    (73, "status openvpn-status.log|status /run/s.log 10"),
    (6, "remote-cert-tls client"),
    (51, "user nobody\ngroup nogroup"),
    (
        71,
        "push \"redirect-gateway def1 bypass-dhcp\"\npush \"dhcp-option DNS 192.0.2.53\"|push \"route 192.168.1.0 255.255.255.0\"|push redirect-gateway def1",
    ),
    (61, "ifconfig-pool-persist ipp.txt|ifconfig-pool-persist ipp.txt 0"),
    (12, "key-direction 0"),
    (38, "topology subnet"),
    (1, "topology p2p"),
    (27, "script-security 2|script-security 3"),
    (28, "log openvpn.log"),
    (24, "explicit-exit-notify 1|explicit-exit-notify|explicit-exit-notify 0"),
    (29, "client-to-client"),
    (13, "tls-crypt tc.key"),
    (27, "max-clients 100"),
    (23, "duplicate-cn"),
    (22, "tls-server"),
    (20, "client-config-dir ccd"),
    (17, "crl-verify crl.pem"),
    (16, "local 192.0.2.1"),
    (8, "compress lz4-v2|compress|compress lzo"),
    (15, "server-ipv6 fd00:1::/64"),
    (6, "route 10.9.0.0 255.255.255.0"),
    (14, "mode server"),
    (1, "secret static.key"),
    (8, "ncp-ciphers AES-256-GCM|ncp-ciphers AES-256-GCM:AES-128-GCM:AES-128-CBC"),
    (9, "data-ciphers AES-256-GCM:AES-128-GCM|data-ciphers CHACHA20-POLY1305"),
    (2, "ncp-disable"),
    (13, "management localhost 7505|management /run/m.sock unix"),
    (
        12,
        "plugin /usr/lib/openvpn/openvpn-plugin-auth-pam.so login|plugin openvpn-auth-ldap.so \"ldap.conf\"",
    ),
    (12, "client-connect /etc/openvpn/c.sh\nclient-disconnect /etc/openvpn/d.sh"),
    (11, "username-as-common-name"),
    (10, "verify-client-cert none\nauth-user-pass-verify check.sh via-file"),
    (6, "client-cert-not-required\nauth-user-pass-verify check.sh via-env"),
    (6, "allow-compression yes|allow-compression no"),
    (6, "server-bridge 10.8.0.4 255.255.255.0 10.8.0.50 10.8.0.100"),
    (3, "fragment 1300"),
    (3, "port-share 127.0.0.1 8443"),
    (3, "learn-address /etc/openvpn/l.sh"),
    (2, "txqueuelen 1000|tcp-queue-limit 256|ecdh-curve prime256v1|tun-ipv6|auth-user-pass-optional"),
    (5, "status-version 2\nsuppress-timestamps"),
];

/// A small generator with a seed (Numerical Recipes' LCG, high bits).
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 33) * u64::from(n)) >> 31) as u32
    }
}

/// One file, with the oddities of syntax that real ones have.
fn file(draw: &mut Draw, shares: &Shares) -> String {
    let mut out = String::new();
    if draw.below(100) < 2 {
        out.push('\u{feff}');
    }
    let tabs = draw.below(100) < 3;
    let has_compress = draw.below(2) == 0;
    for (share, forms) in shares {
        // Both kinds of compression, or of control channel key, hardly ever stand in one file.
        let skipped = (forms.starts_with("compress") && has_compress && out.contains("comp-lzo"))
            || (forms.starts_with("tls-crypt") && out.contains("tls-auth"));
        if skipped || draw.below(100) >= *share {
            continue;
        }
        if forms.starts_with("fragment") && out.contains("tcp") {
            // It would be refused; nobody has both.
            continue;
        }
        let forms: Vec<&str> = forms.split('|').collect();
        let text = forms[draw.below(forms.len() as u32) as usize];
        if draw.below(100) < 2 && !text.contains('<') {
            out.push_str("--");
        }
        out.push_str(&if tabs && !text.contains(['<', '"']) {
            text.replace(' ', " \t ")
        } else {
            text.to_owned()
        });
        out.push_str(match draw.below(20) {
            0 if !text.ends_with('>') => "   # as told",
            1 => "  ",
            _ => "",
        });
        out.push_str(if draw.below(10) == 0 { "\n\n;commented out \"\n# länger\n" } else { "\n" });
    }
    if draw.below(100) < 17 {
        out.truncate(out.trim_end().len());
    }
    if draw.below(100) < 5 { out.replace('\n', "\r\n") } else { out }
}

#[test]
fn files_as_frequent_as_real_ones_are_accepted() {
    const EACH: u32 = 1500;
    let only = ["dev", "secret", "server-bridge", "data-ciphers", "ncp-disable"];
    let (mut draw, mut accepted, mut foreign, mut all) = (Draw(1), 0u32, 0u32, 0u32);
    let mut others: Vec<String> = Vec::new();
    for shares in [CLIENT, SERVER] {
        for _ in 0..EACH {
            let text = file(&mut draw, shares);
            let loaded = load_text("made.conf", text.as_bytes(), &NoFiles);
            all += 1;
            if !loaded.refused() {
                accepted += 1;
                continue;
            }
            let refusals = || loaded.diagnostics.iter().filter(|d| d.class.refuses());
            if refusals().all(|d| d.class == Class::Unsupported && only.contains(&d.option.as_str())) {
                assert!(refusals().all(|d| !d.help.is_empty()), "a refusal names what to do");
                foreign += 1;
            } else {
                others.extend(refusals().map(|d| d.one_line(&loaded.sources)));
            }
        }
    }
    others.sort();
    others.dedup_by(|a, b| a.split(": ").nth(1) == b.split(": ").nth(1));
    let rest = all - foreign;
    println!(
        "{all} files: {accepted} accepted, {foreign} refused for what is not done here, {} otherwise",
        rest - accepted
    );
    assert!(foreign > 100, "layer 2 is drawn: {foreign}");
    assert!(
        others.is_empty() && accepted * 100 >= rest * 97,
        "{accepted} of {rest} accepted; refused: {others:#?}"
    );
}
