//! Shapes of real files: everything comes up, except layer 2, static keys and forced old ciphers.
//!
//! The corpus is synthetic, made after counts of options and of oddities of syntax in public configuration files: half with
//! compression, a third with a CBC cipher only, most servers without `topology`, inline blocks, CRLF, byte order marks, blanks and
//! tabs, comments in Latin-1, missing last newlines.

#![allow(clippy::expect_used)]

use std::path::{Path, PathBuf};

use ovpn_config::{Class, Loaded, NoFiles, load_client_options, load_text};

fn files(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(kind);
    let mut out: Vec<_> = std::fs::read_dir(dir).expect("corpus").map(|e| e.expect("entry").path()).collect();
    out.sort();
    out
}

fn load(path: &Path) -> Loaded {
    let name = path.file_name().expect("name").to_string_lossy().into_owned();
    load_text(&name, &std::fs::read(path).expect("file"), &NoFiles)
}

fn said(loaded: &Loaded, wanted: fn(Class) -> bool) -> Vec<String> {
    loaded.diagnostics.iter().filter(|d| wanted(d.class)).map(|d| d.one_line(&loaded.sources)).collect()
}

#[test]
fn real_shapes_are_accepted() {
    let (mut all, mut refused) = (0, Vec::new());
    for kind in ["client", "server", "peer"] {
        for path in files(kind) {
            let loaded = load(&path);
            all += 1;
            refused.extend(said(&loaded, Class::refuses));
        }
    }
    for path in files("client-config") {
        let (_, diagnostics, _) = load_client_options("ccd", &std::fs::read(&path).expect("file"), &NoFiles);
        all += 1;
        refused.extend(diagnostics.iter().map(|d| format!("{}: {}", path.display(), d.message)));
    }
    assert!(all >= 111, "{all} files");
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Servers whose users are judged by a plugin: nothing starts until a script does it.
const PLUGINS: [&str; 5] = [
    "everything-rare.conf",
    "firewall-plugin.conf",
    "plugin-ldap.conf",
    "plugin-pam.conf",
    "plugin-unknown.conf",
];

#[test]
fn only_what_lacks_something_is_not_ready() {
    let mut not_ready: Vec<String> = Vec::new();
    for kind in ["client", "server", "peer"] {
        for path in files(kind) {
            if !load(&path).ready() {
                not_ready.push(path.file_name().expect("name").to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(not_ready, PLUGINS);
}

/// The same file as other editors and people write it.
fn rewritten(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let outside = |change: fn(&str) -> String| {
        let mut block = None;
        let mut out = String::new();
        for line in text.split('\n') {
            let word = line.split_whitespace().next().unwrap_or_default();
            let is_block = block.is_some();
            match &block {
                Some(end) if word.starts_with(end) => block = None,
                None if word.starts_with('<') && word.ends_with('>') => {
                    block = Some(format!("</{}", &word[1..]))
                }
                _ => {}
            }
            let plain = !is_block && !word.is_empty() && !word.starts_with(['<', '#', ';']);
            out.push_str(&if plain { change(line) } else { line.to_owned() });
            out.push('\n');
        }
        out.into_bytes()
    };
    let utf16 = |unit: fn(u16) -> [u8; 2]| {
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(unit).collect()
    };
    vec![
        ("CRLF", text.replace('\n', "\r\n").into_bytes()),
        ("byte order mark", format!("\u{feff}{text}").into_bytes()),
        ("UTF-16, little end first", utf16(u16::to_le_bytes)),
        ("UTF-16, big end first", utf16(u16::to_be_bytes)),
        ("no newline at the end", text.trim_end().as_bytes().to_vec()),
        ("indented", outside(|line| format!("\t  {line}"))),
        ("blanks behind", outside(|line| format!("{line} \t "))),
        ("dashes", outside(|line| format!("--{}", line.trim_start().trim_start_matches("--")))),
        ("comments behind", outside(|line| format!("{line} # as told \"by the provider"))),
        ("semicolons behind", outside(|line| format!("{line} ; it's so"))),
        ("Latin-1 above", [b"# gr\xfc\xdfe\n".as_slice(), text.as_bytes()].concat()),
    ]
}

#[test]
fn a_file_means_the_same_however_it_is_written() {
    let mut looked = 0;
    for kind in ["client", "server", "peer"] {
        for path in files(kind) {
            let bytes = std::fs::read(&path).expect("file");
            // What is written in another way already stays as it is.
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            let meaning = |loaded: &Loaded| {
                let mut config = loaded.config.clone();
                config.given.clear();
                config.locals.iter_mut().for_each(|local| local.span = None);
                let c = &config;
                let remotes: Vec<_> =
                    c.connections.iter().map(|e| (e.remote.clone(), e.tls_auth.clone())).collect();
                let push: Vec<_> = c.server.push.iter().map(|p| p.text.clone()).collect();
                (
                    remotes,
                    push,
                    c.locals.clone(),
                    c.tls.clone(),
                    c.auth.user_pass.clone(),
                    c.timers.clone(),
                    loaded.refused(),
                )
            };
            let plain = meaning(&load(&path));
            for (how, bytes) in rewritten(text) {
                let again = load_text("again", &bytes, &NoFiles);
                let (mut got, mut want) = (meaning(&again), plain.clone());
                // Commands carry their place.
                for tls in [&mut got.3, &mut want.3] {
                    tls.verify_command = None;
                }
                assert!(got == want, "{}: {how}: {:#?}", path.display(), said(&again, Class::refuses));
                looked += 1;
            }
        }
    }
    assert!(looked > 900, "{looked} ways");
}

#[test]
fn refused_files_name_the_replacement() {
    for path in files("refused") {
        let loaded = load(&path);
        let name = path.display();
        assert!(loaded.refused(), "{name}");
        for d in loaded.diagnostics.iter().filter(|d| d.class.refuses()) {
            assert_eq!(d.class, Class::Unsupported, "{name}: {}", d.message);
            assert!(!d.help.is_empty(), "{name}: {}", d.message);
            let only = ["dev", "dev-type", "server-bridge", "secret", "data-ciphers", "ncp-disable"];
            assert!(only.contains(&d.option.as_str()), "{name}: {}", d.option);
        }
    }
}

#[test]
fn every_message_can_be_shown() {
    for kind in ["client", "server", "peer", "refused"] {
        for path in files(kind) {
            let loaded = load(&path);
            for d in &loaded.diagnostics {
                let text = d.render(&loaded.sources, false);
                assert!(text.lines().all(|l| l.chars().count() <= 260), "{text}");
                assert!(!text.contains("MII"), "no content of keys: {text}");
                assert!(!d.message.ends_with('.') && !d.help.ends_with('.'), "{text}");
            }
        }
    }
}
