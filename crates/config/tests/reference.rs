//! The option table against the reference beside the checkout, row by row; and no setting that nobody reads.

#![allow(clippy::expect_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ovpn_config::table::{self, Contexts, Dco, OptionSpec, Tier};
use ovpn_config::{Class, Diagnostic, NoFiles, load_command_line, load_text};

struct Row {
    name: String,
    args: String,
    roles: String,
    inline: bool,
    push: String,
    dco: String,
    tier: Tier,
    notes: String,
}

/// The rows of the reference's table.
fn rows() -> Vec<Row> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/protocol/config-options.md");
    let text = std::fs::read_to_string(path).expect("the reference beside the checkout");
    let cells = |line: &str| -> Vec<String> {
        let line = line.replace("\\|", "\u{1}");
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
    };
    let row = |line: &str| {
        let [name, args, roles, inline, push, dco, tier, notes] = cells(line).try_into().ok()?;
        let name = name.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        let tier = match tier.as_str() {
            "1" => Tier::T1,
            "2" => Tier::T2,
            "3" => Tier::T3,
            "4" => Tier::T4,
            _ => return None,
        };
        Some(Row { name, args, roles, inline: inline == "Y" || inline == "Y (file)", push, dco, tier, notes })
    };
    text.lines().filter(|line| line.starts_with("| `")).filter_map(row).collect()
}

fn known(row: &Row) -> &'static OptionSpec {
    table::lookup(&row.name).unwrap_or_else(|| panic!("`{}` is not known", row.name))
}

#[test]
fn every_option_of_the_reference_is_known_with_its_tier() {
    let rows = rows();
    assert!(rows.len() >= 323, "{} rows", rows.len());
    let mut wrong = String::new();
    for row in &rows {
        let spec = known(row);
        if spec.tier != row.tier {
            let _ = writeln!(wrong, "{}: {:?}, not {:?}", row.name, spec.tier, row.tier);
        }
        if spec.inline != row.inline {
            let _ = writeln!(wrong, "{}: inline {}", row.name, spec.inline);
        }
        // What a server must not set, whoever else lets it.
        let pushed = row.push.starts_with('Y') && row.name != "bind-dev";
        if spec.contexts.contains(Contexts::PUSHED) != pushed && row.name != "push-continuation" {
            let _ = writeln!(wrong, "{}: pushed {}", row.name, !pushed);
        }
        if row.push.contains("ccd") && !spec.contexts.contains(Contexts::CLIENT) {
            let _ = writeln!(wrong, "{}: not in the options of one client", row.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_must_work_is_not_said_to_be_without_effect() {
    for row in rows().iter().filter(|row| row.tier <= Tier::T2) {
        let spec = known(row);
        // `i`: accepted without effect by stock, too.
        let idle = row.dco.starts_with('i') || row.dco.starts_with("rejected");
        assert_ne!(spec.dco, Dco::Refused, "{}", row.name);
        assert!(spec.dco != Dco::NoEffect || idle, "{} has no effect ({})", row.name, row.notes);
    }
}

/// What a file or a command line says about one option, given with plausible arguments where it belongs.
fn said(row: &Row) -> Vec<Diagnostic> {
    let spec = known(row);
    let line = format!("{} {}", row.name, sample(row, spec));
    if spec.contexts == Contexts::CMDLINE {
        let words: Vec<String> = format!("--{line}").split_whitespace().map(str::to_owned).collect();
        return load_command_line(&words, &NoFiles).diagnostics;
    }
    let side = if row.roles.contains('S') && !row.roles.contains('C') {
        "server 10.8.0.0 255.255.255.0\nca ca\ncert cert\nkey key\n"
    } else {
        "client\nremote a\nca ca\nauth-user-pass\nremote-cert-tls server\n"
    };
    load_text("t", format!("{side}{line}\n").as_bytes(), &NoFiles).diagnostics
}

fn sample(row: &Row, spec: &OptionSpec) -> String {
    match row.name.as_str() {
        "lladdr" => "00:11:22:33:44:55".to_owned(),
        "client-nat" => "snat 10.0.0.0 255.0.0.0 10.1.0.0".to_owned(),
        "http-proxy-override" => "proxy 8080".to_owned(),
        "keying-material-exporter" => "label 32".to_owned(),
        "replay-persist" | "secret" | "memstats" => "file".to_owned(),
        "ecdh-curve" => "prime256v1".to_owned(),
        "tls-remote" => "name".to_owned(),
        _ => {
            let number = row.args.starts_with(['N', 'R']) && !row.args.starts_with("NAME");
            let first = row.args.split([' ', '|', '[', ']', '\\']).find(|word| !word.is_empty());
            let word = match first {
                _ if number => "100",
                Some(word) if word.starts_with(|c: char| c.is_ascii_lowercase()) => word,
                _ => "1",
            };
            vec![word; spec.arity.0.into()].join(" ")
        }
    }
}

#[test]
fn what_is_obsolete_is_refused_or_warned_about() {
    // Stock's silent no-ops, which half of the world's files carry.
    const QUIET: [&str; 2] = ["tun-mtu-extra", "comp-noadapt"];
    let mut wrong = String::new();
    for row in rows().iter().filter(|row| row.tier == Tier::T4) {
        let about: Vec<_> = said(row).into_iter().filter(|d| d.option == row.name).collect();
        let spec = known(row);
        // What prints something and exits is no setting; `parameter` is `echo`.
        let works = spec.contexts == Contexts::CMDLINE || row.name == "parameter";
        if about.is_empty() && !works && !QUIET.contains(&row.name.as_str()) {
            let _ = writeln!(wrong, "{}: nothing is said", row.name);
        }
        for d in &about {
            if d.class == Class::Error {
                let _ = writeln!(wrong, "{}: {} ({})", row.name, d.message, sample(row, spec));
            }
            let windows = d.message.contains("Windows");
            if d.help.is_empty() && !windows {
                let _ = writeln!(wrong, "{}: \"{}\" names no replacement", row.name, d.message);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Rust files below a folder.
fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn is_read(text: &str, field: &str) -> bool {
    let dotted = format!(".{field}");
    text.match_indices(&dotted).any(|(at, found)| {
        let rest = text.get(at + found.len()..).unwrap_or_default();
        !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && !rest.starts_with(" = ")
    }) || text
        .lines()
        .any(|line| line.contains(&format!("{{ {field}")) || line.contains(&format!(", {field},")))
}

#[test]
fn every_setting_is_read_by_somebody() {
    // Read while the configuration is put together, or when what a server pushes is applied.
    const HERE: [&str; 13] = [
        "size",
        "given",
        "pull",
        "compat_mode",
        "allow_compression",
        "network_ipv6",
        "mtu_given",
        "mtu_max",
        "nopull",
        "allow_pull_fqdn",
        "nobind",
        "priority",
        "continuation",
    ];
    // The control plane reads these from the server's message itself.
    const CONTROL: [&str; 1] = ["aead_epoch"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for user in ["../ovpn/src", "../join/src"] {
        sources(&root.join(user), &mut files);
    }
    files.push(root.join("src/features.rs"));
    let users: String = files.iter().map(|path| std::fs::read_to_string(path).expect("source")).collect();
    let (mut models, mut fields, mut unread) = (Vec::new(), 0, Vec::new());
    sources(&root.join("src/model"), &mut models);
    for path in &models {
        for line in std::fs::read_to_string(path).expect("source").lines() {
            let Some((field, _)) = line.strip_prefix("    pub ").and_then(|rest| rest.split_once(": "))
            else {
                continue;
            };
            if !field.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
                continue;
            }
            fields += 1;
            if !HERE.contains(&field) && !CONTROL.contains(&field) && !is_read(&users, field) {
                unread.push(format!("{}: {field}", path.file_name().expect("name").display()));
            }
        }
    }
    assert!(fields > 200, "{fields} fields");
    assert!(unread.is_empty(), "options without effect: {unread:#?}");
}
