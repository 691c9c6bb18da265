//! `ovpn init`: an authority, a server's certificate and keys, and a server configuration, in one folder.
//!
//! ```text
//! /etc/ovpn/server.conf       commented; stock OpenVPN 2.6 and 2.7 run it too
//!           client.conf       what every profile begins with
//!           pki/…             the authority
//!           clients/          one file per client, for fixed addresses and networks behind clients
//! ```

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ovpn_control::{Random as _, SystemRandom};
use zeroize::Zeroizing;

use crate::arguments::{self, Arguments, Wrong};
use crate::pki::{self, Authority, Index, Purpose, Sentence, Store};

/// Where everything lies if nobody says otherwise.
pub(crate) const DEFAULT_DIR: &str = "/etc/ovpn";

pub(crate) const HELP: &str = "Makes what a server needs: an authority, a certificate, keys, a configuration.

Usage: ovpn init --endpoint HOST[:PORT] [--tcp] [--network NET/BITS] [--dir DIR]
       ovpn init --endpoint HOST[:PORT] --import PKI [--dir DIR]

  --endpoint HOST[:PORT]  name or address under which clients reach this server;
                          port 1194 by default
  --tcp                   TCP instead of UDP
  --network NET/BITS      addresses inside the tunnel; 10.8.0.0/24 by default
  --import PKI            go on with the authority of easy-rsa in this folder
  --dir DIR               where to put it; /etc/ovpn by default
  --help                  this text

Exit code: 0 made, 1 failed, 2 wrong use.

Examples:
  ovpn init --endpoint vpn.example.org
  ovpn init --endpoint '[2001:db8::1]:443' --tcp --dir ./vpn
  ovpn init --endpoint vpn.example.org --import /etc/openvpn/easy-rsa/pki
";

/// What is to be made.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    host: String,
    port: u16,
    tcp: bool,
    network: ipnet::Ipv4Net,
    import: Option<PathBuf>,
    dir: PathBuf,
}

/// Runs the command with the words after `init`.
pub(crate) fn run(words: &[String]) -> ExitCode {
    arguments::run("init", HELP, words, parse, |wish| {
        let text = make(&wish, pki::now())?;
        // A reader that went away is no error of ours: all is made.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        Ok(())
    })
}

fn parse(mut words: Arguments<'_>) -> Result<Wish, Wrong> {
    const OPTIONS: [&str; 5] = ["--endpoint", "--tcp", "--network", "--import", "--dir"];
    let mut endpoint = None;
    let mut wish = Wish {
        host: String::new(),
        port: 1194,
        tcp: false,
        network: ipnet::Ipv4Net::new_assert([10, 8, 0, 0].into(), 24),
        import: None,
        dir: PathBuf::from(DEFAULT_DIR),
    };
    while let Some(word) = words.next(&OPTIONS)? {
        match word {
            "--endpoint" => endpoint = Some(words.value(word)?),
            "--tcp" => wish.tcp = true,
            "--network" => {
                let text = words.value(word)?;
                let net: ipnet::Ipv4Net = text
                    .parse()
                    .map_err(|_| Wrong(format!("\"{text}\" is no network such as 10.8.0.0/24")))?;
                if !(8..=29).contains(&net.prefix_len()) {
                    return Err(Wrong("--network wants a prefix between /8 and /29".to_owned()));
                }
                wish.network = net.trunc();
            }
            "--import" => wish.import = Some(PathBuf::from(words.value(word)?)),
            "--dir" => wish.dir = PathBuf::from(words.value(word)?),
            other => return Err(Wrong::too_many(other)),
        }
    }
    let missing = "say under which name clients reach this server: --endpoint HOST[:PORT]";
    let endpoint = endpoint.ok_or_else(|| Wrong(missing.to_owned()))?;
    (wish.host, wish.port) = split_endpoint(endpoint).map_err(Wrong)?;
    Ok(wish)
}

/// `HOST`, `HOST:PORT`, `ADDRESS`, `[ADDRESS]:PORT`.
fn split_endpoint(text: &str) -> Result<(String, u16), Sentence> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("\"{text}\" is no port")),
    };
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address.to_string(), 1194));
    }
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        let address: IpAddr = address.parse().map_err(|_| format!("\"{address}\" is no address"))?;
        return Ok((address.to_string(), rest.strip_prefix(':').map_or(Ok(1194), port)?));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, number)) => (host, port(number)?),
        None => (text, 1194),
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || host.len() > 253 || !host.chars().all(fine) {
        return Err(format!("\"{host}\" is no host name"));
    }
    Ok((host.to_owned(), port))
}

/// Makes it all; gives what to say. Either the whole folder is there afterwards, or none of it.
fn make(wish: &Wish, now: u64) -> Result<String, Sentence> {
    let dir = &wish.dir;
    let taken = |path: &Path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if taken(dir) {
        return Err(format!(
            "{} is not empty: nothing was changed; take another folder with --dir, or add clients with `ovpn profile add`",
            dir.display()
        ));
    }
    let mut name = dir.file_name().ok_or("--dir wants the name of a folder")?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let staging = dir.with_file_name(name);
    let made = fill(wish, &staging, now).and_then(|()| {
        std::fs::rename(&staging, dir).map_err(|e| format!("{} cannot be made: {e}", dir.display()))
    });
    if let Err(sentence) = made {
        // Only what was made here, under a name of this process.
        let _ = std::fs::remove_dir_all(&staging);
        let sentence = sentence.replace(&*staging.to_string_lossy(), &dir.to_string_lossy());
        let rights = "; run it as root, or name a folder of your own with --dir";
        return Err(if sentence.contains("Permission denied") { sentence + rights } else { sentence });
    }
    let shown = dir.display();
    let (file, at) = if dir == Path::new(DEFAULT_DIR) {
        (String::new(), String::new())
    } else {
        (format!(" {shown}/server.conf"), format!(" --dir {shown}"))
    };
    let mut text = format!(
        "Made a server for {}:{} in {shown}.\n\n\
         \x20 serve                          ovpn server{file}\n\
         \x20 serve, and forward to outside  ovpn server{file} --nat\n\
         \x20 a profile for a client         ovpn profile add NAME{at} > NAME.ovpn\n",
        wish.host, wish.port,
    );
    if wish.import.is_some() {
        let _ = write!(
            text,
            "\nThe authority, its clients and its revocations were taken over; its folder is as it was. The key that hides the\n\
             handshake is new: `ovpn profile renew NAME{at} > NAME.ovpn` makes a client's new profile.\n"
        );
    }
    Ok(text)
}

fn fill(wish: &Wish, staging: &Path, now: u64) -> Result<(), Sentence> {
    let store = Store::create(staging)?;
    let clients = store.path("clients");
    std::fs::create_dir(&clients).map_err(|e| format!("{} cannot be made: {e}", clients.display()))?;
    let (authority, index) = match &wish.import {
        Some(pki) => import(&store, pki)?,
        None => {
            let (authority, key) = Authority::make(&format!("VPN authority of {}", wish.host), now)?;
            store.write_private("pki/private/ca.key", &key)?;
            store.write_public("pki/ca.crt", authority.certificate())?;
            (authority, Index::default())
        }
    };
    store.write_public("pki/index.txt", &index.to_text())?;
    // A name of its own for the server: profiles check it, so that no client can pose as the server.
    let name = server_name(&index);
    let server = authority.issue(&name, Purpose::Server, now, pki::LONG_DAYS)?;
    store.write_private("pki/private/server.key", &server.key)?;
    store.write_public("pki/server.crt", &server.certificate)?;
    store.record(&server)?;
    store.write_private("pki/tls-crypt-v2.key", &pki::control_server_key()?.to_pem())?;
    store.write_public("pki/crl.pem", &authority.revocation_list(&store.index()?, now)?)?;
    store.write_public("client.conf", &client_conf(wish, &name))?;
    let dir = std::path::absolute(&wish.dir).map_err(|e| e.to_string())?;
    store.write_public("server.conf", &server_conf(wish, &dir, ula()))
}

fn server_name(index: &Index) -> String {
    let free = |name: &String| index.entries.iter().all(|e| e.name != *name);
    (1..)
        .map(|n| if n == 1 { "server".to_owned() } else { format!("server-{n}") })
        .find(free)
        .unwrap_or_default()
}

/// Takes over what easy-rsa made: authority, index, revocations.
fn import(store: &Store, pki: &Path) -> Result<(Authority, Index), Sentence> {
    let read = |name: &str| {
        let path = pki.join(name);
        std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let certificate = read("ca.crt")?;
    let key = Zeroizing::new(read("private/ca.key")?);
    let key = if key.contains("ENCRYPTED") { decrypted(&key, &pki.join("private/ca.key"))? } else { key };
    let authority = Authority::open(&certificate, &key)?;
    let index = Index::parse(&read("index.txt")?)?;
    store.write_private("pki/private/ca.key", &key)?;
    store.write_public("pki/ca.crt", &certificate)?;
    Ok((authority, index))
}

/// An authority's key that easy-rsa keeps under a password, which is asked for. Here it lies open, for its owner only.
fn decrypted(pem: &str, path: &Path) -> Result<Zeroizing<String>, Sentence> {
    let question = format!("Password of {}:", path.display());
    let key = crate::private_key::from_pem(pem.as_bytes(), || {
        crate::prompt::ask(&question, false).map(Zeroizing::new)
    })
    .map_err(|sentence| format!("{}: {sentence}", path.display()))?;
    pkcs8::der::pem::encode_string("PRIVATE KEY", pkcs8::der::pem::LineEnding::LF, key.secret_der())
        .map(Zeroizing::new)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// A random local IPv6 network (RFC 4193).
fn ula() -> std::net::Ipv6Addr {
    let mut bytes = [0; 16];
    SystemRandom.fill(&mut bytes[1..8]);
    bytes[0] = 0xfd;
    bytes[6..8].fill(0);
    bytes.into()
}

fn client_conf(wish: &Wish, server: &str) -> String {
    let proto = if wish.tcp { "tcp" } else { "udp" };
    let mut text = format!(
        "# What every profile begins with. `ovpn profile add` puts certificates and keys behind it.\nclient\ndev tun\nremote {} {} {proto}\n\
         nobind\nresolv-retry infinite\npersist-key\npersist-tun\nremote-cert-tls server\nverify-x509-name {server} name\n\
         data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305\nauth-nocache\nverb 3\n",
        wish.host, wish.port
    );
    if !wish.tcp {
        text.push_str("explicit-exit-notify 1\n");
    }
    text
}

fn server_conf(wish: &Wish, dir: &Path, ula: std::net::Ipv6Addr) -> String {
    let path = |name: &str| ovpn_config::lexer::quote(&dir.join(name).to_string_lossy());
    let mut out = String::new();
    let mut line = |text: &str| {
        let _ = writeln!(out, "{text}");
    };
    line("# A server for ovpn; stock OpenVPN 2.6 and 2.7 run it too.\n");
    line("# Where clients come to.");
    line(&format!("port {}", wish.port));
    line(if wish.tcp { "proto tcp" } else { "proto udp" });
    line("\n# The tunnel: its device and its addresses. The first address is the server's.");
    line("dev tun\ntopology subnet");
    line(&format!("server {} {}", wish.network.network(), wish.network.netmask()));
    line(&format!("server-ipv6 {ula}/64"));
    line("\n# Who may come: certificates of this authority that are not revoked.");
    line(&format!("ca {}", path("pki/ca.crt")));
    line(&format!("cert {}", path("pki/server.crt")));
    line(&format!("key {}", path("pki/private/server.key")));
    line(&format!("crl-verify {}", path("pki/crl.pem")));
    line("remote-cert-tls client\ndh none\ntls-version-min 1.2");
    line("\n# Every client has a key of its own that hides and protects the handshake.");
    line(&format!("tls-crypt-v2 {}", path("pki/tls-crypt-v2.key")));
    line("\n# Data is encrypted by the first of these that the client knows.");
    line("data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305");
    line("\n# Notice silent clients, and tell them of a restart.");
    line("keepalive 10 60");
    if !wish.tcp {
        line("explicit-exit-notify 1");
    }
    line(
        "\n# One file per client, named as the client: fixed addresses (`ifconfig-push`), networks behind it (`iroute`).",
    );
    line(&format!("client-config-dir {}", path("clients")));
    line(
        "\n# What clients may reach besides this host. To send all their traffic here, start with `ovpn server --nat` and use:",
    );
    line("#push \"redirect-gateway def1 ipv6\"");
    line("#push \"dhcp-option DNS 9.9.9.9\"");
    line("#push \"route 192.168.0.0 255.255.255.0\"");
    line("\npersist-key\npersist-tun\nverb 3");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn parsed(text: &str) -> Result<Wish, Wrong> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse(Arguments::new(&words))
    }

    #[test]
    fn endpoints() {
        for (text, host, port) in [
            ("vpn.example.org", "vpn.example.org", 1194),
            ("vpn.example.org:443", "vpn.example.org", 443),
            ("192.0.2.1", "192.0.2.1", 1194),
            ("192.0.2.1:5000", "192.0.2.1", 5000),
            ("2001:db8::1", "2001:db8::1", 1194),
            ("[2001:db8::1]:443", "2001:db8::1", 443),
        ] {
            assert_eq!(split_endpoint(text), Ok((host.to_owned(), port)));
        }
        for bad in ["", "a b", "host:0", "host:x", "[x]:1", "ho\"st", "x\nverb 9"] {
            assert!(split_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_words() {
        let wish = parsed("--endpoint h:1 --tcp --network 10.1.2.3/16 --dir d").expect("fine");
        assert_eq!((wish.host.as_str(), wish.port, wish.tcp), ("h", 1, true));
        assert_eq!(wish.network.to_string(), "10.1.0.0/16");
        for bad in [
            "",
            "--endpoint",
            "--endpoint h --frob",
            "--endpoint h --network x",
            "--endpoint h --network 10.0.0.0/30",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_or_nothing() {
        let root = std::env::temp_dir().join(format!("ovpn-init-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("directory");
        let dir = root.join("vpn");
        let wish = parsed(&format!("--endpoint vpn.example.org --dir {}", dir.display())).expect("fine");
        make(&wish, pki::now()).expect("made");
        let mode = |name: &str| std::fs::metadata(dir.join(name)).expect(name).permissions().mode() & 0o777;
        for secret in ["pki/private/ca.key", "pki/private/server.key", "pki/tls-crypt-v2.key"] {
            assert_eq!(mode(secret), 0o600, "{secret}");
        }
        assert_eq!(mode("pki/private"), 0o700);
        let loaded =
            ovpn_config::load_file(&dir.join("server.conf").to_string_lossy(), &crate::config_files::Files);
        let said: Vec<_> = loaded.diagnostics.iter().map(|d| d.one_line(&loaded.sources)).collect();
        assert!(said.is_empty(), "{said:#?}");
        assert_eq!(loaded.config.server.pool.map(|p| p.start.to_string()).as_deref(), Some("10.8.0.2"));
        let before = std::fs::read(dir.join("pki/ca.crt")).expect("there");
        assert!(make(&wish, pki::now()).expect_err("taken").contains("not empty"));
        assert_eq!(std::fs::read(dir.join("pki/ca.crt")).expect("there"), before);
        let elsewhere = parsed("--endpoint h --dir /proc/ovpn-cannot-be-here").expect("fine");
        assert!(make(&elsewhere, pki::now()).is_err());
        assert_eq!(std::fs::read_dir(&root).expect("list").count(), 1, "no staging folder is left");
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
