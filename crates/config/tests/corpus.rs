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
    assert!(all >= 85, "{all} files");
    assert!(refused.is_empty(), "{refused:#?}");
}

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
    assert_eq!(not_ready, ["plugin-ldap.conf", "plugin-pam.conf", "plugin-unknown.conf"]);
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
            let only =
                ["dev", "dev-type", "server-bridge", "secret", "data-ciphers", "ncp-disable", "fragment"];
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
