//! Options that make or print something and exit: `--genkey`, `--show-ciphers` and their kin, in stock's words.
//!
//! ```text
//! ovpn --genkey tls-crypt FILE                                      2048 random bits
//! ovpn --genkey tls-crypt-v2-server FILE
//! ovpn --tls-crypt-v2 SERVERKEY --genkey tls-crypt-v2-client FILE [METADATA]
//! ovpn --genkey auth-token FILE
//! ```

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use ovpn_config::model::{Cipher, Material};
use ovpn_config::{Class, Loaded, load_command_line};
use ovpn_crypto::auth_token::TokenKey;
use ovpn_crypto::tls_crypt_v2::{Metadata, ServerKey};
use zeroize::Zeroizing;

use crate::config_files::Files;
use crate::pki::{self, Sentence};

/// Does what such an option asks for; `None` where the command line has none of them.
pub(crate) fn dispatch(words: &[String]) -> Option<ExitCode> {
    let mine = |word: &String| word == "--genkey" || (word.starts_with("--show-") && word.len() > 7);
    if !words.iter().any(mine) {
        return None;
    }
    let loaded = load_command_line(words, &Files);
    // What a tunnel would lack is no matter here; `--genkey --secret FILE` is the form of 2.4.
    let wrong = loaded.diagnostics.iter().find(|d| d.class == Class::Error);
    let done = match (wrong, loaded.standalone.first()) {
        (Some(wrong), _) => Err(wrong.one_line(&loaded.sources)),
        (None, Some((option, args))) => perform(option, args, &loaded, words),
        (None, None) => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("ovpn: {sentence}");
            ExitCode::FAILURE
        }
    })
}

fn perform(option: &str, args: &[String], loaded: &Loaded, words: &[String]) -> Result<(), Sentence> {
    match option {
        "genkey" => {
            let (kind, file, rest) = match args {
                [] => ("secret", old_secret_file(words), None),
                [kind] => (kind.as_str(), old_secret_file(words), None),
                [kind, file, rest @ ..] => (kind.as_str(), Some(file.as_str()), rest.first()),
            };
            let text = key(kind, rest.map(String::as_str), loaded)?;
            match file {
                Some(file) => crate::atomic_file::write(Path::new(file), text.as_bytes(), 0o600)
                    .map_err(|error| format!("{file} cannot be written: {error}")),
                None => print(&text),
            }
        }
        "show-ciphers" => {
            let names = Cipher::DEFAULT.iter().chain([&Cipher::Aes192Gcm]).map(|c| c.name());
            print(&list("Ciphers of the data channel, most wanted first:", names))
        }
        "show-digests" => {
            let names = ["SHA1", "SHA224", "SHA256", "SHA384", "SHA512", "MD5"];
            print(&list("Digests for `auth` with `tls-auth`:", names.into_iter()))
        }
        "show-tls" => {
            let suites = [
                "TLS_AES_256_GCM_SHA384",
                "TLS_AES_128_GCM_SHA256",
                "TLS_CHACHA20_POLY1305_SHA256",
                "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
                "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
                "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256",
                "TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384",
                "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",
                "TLS-ECDHE-RSA-WITH-CHACHA20-POLY1305-SHA256",
            ];
            print(&list("Cipher suites of the control channel (TLS 1.3, then TLS 1.2):", suites.into_iter()))
        }
        "show-groups" | "show-curves" => {
            let groups = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"];
            print(&list("Groups of the key exchange, most wanted first:", groups.into_iter()))
        }
        "show-engines" => print("There are no crypto engines: everything is built in.\n"),
        "show-gateway" => {
            Err("`--show-gateway` is not supported: `ip route show default` shows the default gateway, \
                               `ip route get ADDRESS` the way to an address"
                .to_owned())
        }
        other => Err(format!("`--{other}` is not supported on this system")),
    }
}

fn list<'a>(title: &str, names: impl Iterator<Item = &'a str>) -> String {
    names.fold(format!("{title}\n\n"), |text, name| text + name + "\n")
}

fn print(text: &str) -> Result<(), Sentence> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("cannot write: {error}"))
}

/// The file of `--secret FILE`, which stock up to 2.4 wanted beside `--genkey`.
fn old_secret_file(words: &[String]) -> Option<&str> {
    let at = words.iter().position(|w| w == "--secret")?;
    words.get(at + 1).map(String::as_str)
}

fn key(kind: &str, metadata: Option<&str>, loaded: &Loaded) -> Result<Zeroizing<String>, Sentence> {
    Ok(Zeroizing::new(match kind {
        "secret" | "tls-auth" | "tls-crypt" => pki::new_static_key().to_text(),
        "tls-crypt-v2-server" => pki::control_server_key()?.to_pem(),
        "tls-crypt-v2-client" => {
            let server = server_key(loaded)?;
            let metadata = match metadata {
                None => Metadata::Timestamp(i64::try_from(pki::now()).unwrap_or(i64::MAX)),
                Some(text) => Metadata::User(
                    base64::engine::general_purpose::STANDARD
                        .decode(text)
                        .map_err(|_| format!("the metadata \"{text}\" is no base64 text"))?,
                ),
            };
            return pki::control_client_key(&server, &metadata);
        }
        "auth-token" => TokenKey::new(&pki::random_secret()).to_pem(),
        other => {
            return Err(format!(
                "\"{other}\" is no kind of key: take tls-auth, tls-crypt, tls-crypt-v2-server, tls-crypt-v2-client or auth-token"
            ));
        }
    }))
}

fn server_key(loaded: &Loaded) -> Result<ServerKey, Sentence> {
    let text = match &loaded.config.tls.tls_crypt_v2 {
        Some(Material::Inline(text)) => Zeroizing::new(text.clone()),
        Some(Material::Path(path)) => {
            Zeroizing::new(std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?)
        }
        None => {
            return Err(
                "name the server's key: --tls-crypt-v2 FILE --genkey tls-crypt-v2-client FILE".to_owned()
            );
        }
    };
    ServerKey::from_pem(&text).map_err(|error| format!("the server's key cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn make(text: &str) -> bool {
        format!("{:?}", dispatch(&words(text))) == format!("{:?}", Some(ExitCode::SUCCESS))
    }

    #[test]
    fn what_is_refused_says_what_to_do_instead() {
        let loaded = load_command_line(&words("--show-gateway"), &Files);
        let refused = perform("show-gateway", &[], &loaded, &[]).expect_err("refused");
        assert!(refused.contains("`ip route get ADDRESS`"), "{refused}");
    }

    #[test]
    fn keys_of_every_kind() {
        let dir = std::env::temp_dir().join(format!("ovpn-genkey-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("directory");
        let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("key");
        assert!(make(&format!("--genkey tls-crypt {}", at("a"))));
        assert!(make(&format!("--genkey --secret {}", at("old"))));
        for name in ["a", "old"] {
            ovpn_crypto::static_key::StaticKey::from_text(&read(name)).expect("static key");
        }
        assert_ne!(read("a"), read("old"));
        assert!(make(&format!("--genkey tls-crypt-v2-server {}", at("s"))));
        let server = ServerKey::from_pem(&read("s")).expect("server key");
        assert!(make(&format!(
            "--tls-crypt-v2 {} --genkey tls-crypt-v2-client {} aGVsbG8=",
            at("s"),
            at("c")
        )));
        let client = ovpn_crypto::tls_crypt_v2::ClientKey::from_pem(&read("c")).expect("client key");
        let (_, metadata) = server.unwrap(client.wkc()).expect("wrapped by this server");
        assert_eq!(metadata, Metadata::User(b"hello".to_vec()));
        assert!(!make(&format!("--genkey tls-crypt-v2-client {}", at("x"))));
        assert!(make(&format!("--genkey auth-token {}", at("t"))));
        TokenKey::from_pem(&read("t")).expect("token key");
        assert!(!make("--genkey nonsense /nonexistent/x"));
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn other_command_lines_are_not_taken() {
        assert!(dispatch(&words("--config x --verb 3")).is_none());
        assert!(dispatch(&words("check --show-")).is_none());
    }
}
