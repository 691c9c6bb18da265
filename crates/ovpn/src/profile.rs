//! `ovpn profile`: profiles for clients, one file each, and their end.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use ovpn_crypto::tls_crypt_v2::Metadata;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::arguments::{self, Arguments, Wrong};
use crate::init::DEFAULT_DIR;
use crate::pki::{self, Issued, Purpose, Sentence, State, Store};

pub(crate) const HELP: &str = "Makes, lists and ends profiles for clients.

Usage: ovpn profile add NAME [--password] [--days N] [--output FILE | --qr]
       ovpn profile renew NAME [--password] [--days N] [--output FILE | --qr]
       ovpn profile revoke NAME
       ovpn profile list [--json]

  --password     encrypt the private key with a password, which is asked for
  --days N       days until the certificate expires; 825 by default
  --output FILE  write the profile to this file, readable by its owner only,
                 instead of standard output
  --qr           show the profile as a code in the terminal, for a phone's
                 camera; takes a large window
  --json         for programs
  --dir DIR      with each: what `ovpn init` made; /etc/ovpn by default
  --help         this text

A profile holds everything a client needs, its private key included: hand it
over as you would a password. The key is kept nowhere else. `renew` makes a new
profile; the old one works until it expires or `revoke` ends all of that name,
which a running server heeds at once.

Exit code: 0 done, 1 failed, 2 wrong use.

Examples:
  ovpn profile add alice > alice.ovpn
  ovpn profile add phone --days 90 --password --output phone.ovpn
  ovpn profile revoke alice
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Add,
    Renew,
    Revoke,
    List,
}

#[derive(Debug)]
struct Wish {
    action: Action,
    name: String,
    password: bool,
    days: u64,
    output: Option<PathBuf>,
    qr: bool,
    json: bool,
    dir: PathBuf,
}

/// Runs the command with the words after `profile`.
pub(crate) fn run(words: &[String]) -> ExitCode {
    arguments::run("profile", HELP, words, parse, |wish| perform(&wish))
}

fn parse(mut words: Arguments<'_>) -> Result<Wish, Wrong> {
    const ACTIONS: [(&str, Action); 4] =
        [("add", Action::Add), ("renew", Action::Renew), ("revoke", Action::Revoke), ("list", Action::List)];
    let names = ACTIONS.map(|(name, _)| name);
    let word =
        words.next(&[])?.ok_or_else(|| Wrong("say what to do: add, list, revoke or renew".to_owned()))?;
    let action = ACTIONS.iter().find(|(name, _)| *name == word).map(|(_, action)| *action);
    let action = action.ok_or_else(|| Wrong(arguments::unknown(word, &names)))?;
    let options: &[&str] = match action {
        Action::Add | Action::Renew => &["--password", "--days", "--output", "--qr", "--dir"],
        Action::Revoke => &["--dir"],
        Action::List => &["--json", "--dir"],
    };
    let mut wish = Wish {
        action,
        name: String::new(),
        password: false,
        days: pki::CLIENT_DAYS,
        output: None,
        qr: false,
        json: false,
        dir: PathBuf::from(DEFAULT_DIR),
    };
    while let Some(word) = words.next(options)? {
        match word {
            "--password" => wish.password = true,
            "--json" => wish.json = true,
            "--qr" => wish.qr = true,
            "--output" => wish.output = Some(PathBuf::from(words.value(word)?)),
            "--dir" => wish.dir = PathBuf::from(words.value(word)?),
            "--days" => {
                let text = words.value(word)?;
                let days = text.parse().ok().filter(|days| (1..=36_500).contains(days));
                wish.days =
                    days.ok_or_else(|| Wrong(format!("\"{text}\" is no count of days from 1 to 36500")))?;
            }
            name if wish.name.is_empty() && action != Action::List => name.clone_into(&mut wish.name),
            other => return Err(Wrong::too_many(other)),
        }
    }
    if action != Action::List {
        if wish.name.is_empty() {
            return Err(Wrong("name the client".to_owned()));
        }
        pki::check_name(&wish.name).map_err(Wrong)?;
    }
    if wish.qr && wish.output.is_some() {
        return Err(Wrong("--qr and --output exclude each other".to_owned()));
    }
    Ok(wish)
}

fn perform(wish: &Wish) -> Result<(), Sentence> {
    let now = pki::now();
    match wish.action {
        Action::List => {
            let index = Store::open(&wish.dir)?.index()?;
            let rows = rows(&index, now);
            let text = if wish.json { json(&rows) } else { table(&rows) };
            std::io::stdout()
                .write_all(text.as_bytes())
                .map_err(|e| format!("the list cannot be written: {e}"))
        }
        Action::Revoke => {
            let store = Store::open(&wish.dir)?;
            if !store.index()?.entries.iter().any(|e| e.name == wish.name) {
                return Err(format!("there is no \"{}\"; `ovpn profile list` shows who there is", wish.name));
            }
            let count = store.revoke(&wish.name, now)?;
            eprintln!(
                "Revoked \"{}\" ({count} certificate{}); the running server reads the new list by itself.",
                wish.name,
                if count == 1 { "" } else { "s" }
            );
            Ok(())
        }
        Action::Add | Action::Renew => {
            // Asked before anything is locked or made.
            let password = if wish.password { Some(new_password()?) } else { None };
            let store = Store::open(&wish.dir)?;
            let index = store.index()?;
            let valid = index
                .entries
                .iter()
                .any(|e| e.name == wish.name && e.state == State::Valid && e.expires > now);
            let known = index.entries.iter().any(|e| e.name == wish.name);
            if wish.action == Action::Add && valid {
                return Err(format!(
                    "there is a \"{0}\" already: take another name, or make a new profile with `ovpn profile renew {0}`",
                    wish.name
                ));
            }
            if wish.action == Action::Renew && !known {
                return Err(format!(
                    "there is no \"{0}\"; make a profile with `ovpn profile add {0}`",
                    wish.name
                ));
            }
            let issued = store.authority()?.issue(&wish.name, Purpose::Client, now, wish.days)?;
            let mut text = profile(&store, &issued, password.as_deref().map(String::as_str), now)?;
            if wish.qr {
                text = code(&text)?;
            }
            store.record(&issued)?;
            hand_over(wish, &text)
        }
    }
}

/// The whole profile as text.
fn profile(
    store: &Store,
    issued: &Issued,
    password: Option<&str>,
    now: u64,
) -> Result<Zeroizing<String>, Sentence> {
    let key = match password {
        Some(password) => pki::encrypt_key(&issued.key, password)?,
        None => Zeroizing::new(issued.key.to_string()),
    };
    let time = i64::try_from(now).unwrap_or(i64::MAX);
    let control = pki::control_client_key(&store.control_key()?, &Metadata::Timestamp(time))?;
    let begin = store.read("client.conf")?;
    let authority = store.read("pki/ca.crt")?;
    let mut text = Zeroizing::new(String::with_capacity(8192));
    let _ = writeln!(text, "# Profile of {}.", issued.entry.name);
    text.push_str(begin.trim_end());
    text.push('\n');
    for (tag, content) in [
        ("ca", &authority),
        ("cert", &Zeroizing::new(issued.certificate.clone())),
        ("key", &key),
        ("tls-crypt-v2", &control),
    ] {
        let _ = write!(text, "<{tag}>\n{}\n</{tag}>\n", content.trim_end());
    }
    Ok(text)
}

/// The profile as a code of half blocks, without the lines that only people read.
fn code(text: &str) -> Result<Zeroizing<String>, Sentence> {
    let lean: Zeroizing<String> = Zeroizing::new(
        text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).flat_map(|l| [l, "\n"]).collect(),
    );
    let code =
        qrcode::QrCode::with_error_correction_level(lean.as_bytes(), qrcode::EcLevel::L).map_err(|_| {
            format!(
                "the profile has {} bytes, and a code holds 2953: use --output FILE instead of --qr",
                lean.len()
            )
        })?;
    let mut shown = code.render::<qrcode::render::unicode::Dense1x2>().build();
    shown.push('\n');
    Ok(Zeroizing::new(shown))
}

fn hand_over(wish: &Wish, text: &str) -> Result<(), Sentence> {
    let lost = |error: std::io::Error| {
        format!(
            "the profile cannot be written: {error}; make another with `ovpn profile renew {}`",
            wish.name
        )
    };
    match &wish.output {
        Some(path) => {
            crate::atomic_file::write(path, text.as_bytes(), 0o600).map_err(lost)?;
            eprintln!("Wrote {}.", path.display());
            Ok(())
        }
        None => {
            let mut out = std::io::stdout();
            if out.is_terminal() && !wish.qr {
                eprintln!(
                    "(this is the profile, private key included; `> {}.ovpn` puts it into a file)",
                    wish.name
                );
            }
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(lost)
        }
    }
}

fn new_password() -> Result<Zeroizing<String>, Sentence> {
    let first = Zeroizing::new(crate::prompt::ask("Password for the private key:", false)?);
    if first.chars().count() < 4 {
        return Err("a password has at least 4 characters".to_owned());
    }
    let second = Zeroizing::new(crate::prompt::ask("The same again:", false)?);
    if *first != *second {
        return Err("the two passwords differ; nothing was made".to_owned());
    }
    Ok(first)
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: String,
    state: &'static str,
    expires: String,
    days_left: u64,
    serial: String,
}

fn rows(index: &pki::Index, now: u64) -> Vec<Row> {
    index
        .entries
        .iter()
        .map(|entry| Row {
            name: entry.name.clone(),
            state: match entry.state {
                State::Revoked(_) => "revoked",
                State::Valid if entry.expires <= now => "expired",
                State::Valid => "valid",
            },
            expires: pki::day(entry.expires),
            days_left: entry.expires.saturating_sub(now).div_ceil(86_400),
            serial: entry.serial.iter().map(|b| format!("{b:02x}")).collect(),
        })
        .collect()
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0).max(4);
    let mut out = format!("{:width$}  {:7}  {:10}  {:>9}  SERIAL\n", "NAME", "STATE", "EXPIRES", "DAYS LEFT");
    for row in rows {
        let _ = writeln!(
            out,
            "{:width$}  {:7}  {:10}  {:>9}  {}",
            row.name, row.state, row.expires, row.days_left, row.serial
        );
    }
    out
}

fn json(rows: &[Row]) -> String {
    serde_json::to_string_pretty(rows).map(|text| text + "\n").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn act(dir: &std::path::Path, text: &str) -> Result<(), Sentence> {
        let words = words(&format!("{text} --dir {}", dir.display()));
        perform(&parse(Arguments::new(&words)).map_err(|wrong| wrong.0)?)
    }

    #[test]
    fn the_life_of_a_profile() {
        let root = std::env::temp_dir().join(format!("ovpn-profile-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("directory");
        let dir = root.join("vpn");
        let args = words(&format!("--endpoint vpn.example.org:443 --dir {}", dir.display()));
        assert_eq!(format!("{:?}", crate::init::run(&args)), format!("{:?}", ExitCode::SUCCESS));
        let out = root.join("alice.ovpn");
        act(&dir, &format!("add alice --days 30 --output {}", out.display())).expect("made");
        let text = std::fs::read_to_string(&out).expect("profile");
        let loaded = ovpn_config::load_text("alice.ovpn", text.as_bytes(), &ovpn_config::NoFiles);
        let said: Vec<_> = loaded.diagnostics.iter().map(|d| d.one_line(&loaded.sources)).collect();
        assert!(said.is_empty(), "{said:#?}");
        assert_eq!(loaded.config.connections[0].remote.port, 443);
        assert!(act(&dir, "add alice --output /dev/null").expect_err("taken").contains("already"));
        assert!(act(&dir, "renew bob").expect_err("nobody").contains("no \"bob\""));
        let again = root.join("again.ovpn");
        act(&dir, &format!("renew alice --output {}", again.display())).expect("made");
        let crl = |dir: &std::path::Path| {
            let text = std::fs::read(dir.join("pki/crl.pem")).expect("list");
            let (_, pem) = x509_parser::pem::parse_x509_pem(&text).expect("PEM");
            let (_, list) = x509_parser::parse_x509_crl(&pem.contents).expect("list");
            list.iter_revoked_certificates().count()
        };
        assert_eq!(crl(&dir), 0);
        act(&dir, "revoke alice").expect("revoked");
        assert_eq!(crl(&dir), 2, "both certificates of that name");
        assert!(act(&dir, "revoke carol").is_err());
        let index = Store::open(&dir).expect("open").index().expect("index");
        let states: Vec<_> = rows(&index, pki::now()).iter().map(|r| (r.name.clone(), r.state)).collect();
        let want = [("server", "valid"), ("alice", "revoked"), ("alice", "revoked")];
        assert_eq!(states, want.map(|(n, s)| (n.to_owned(), s)));
        act(&dir, &format!("add alice --output {}", again.display())).expect("the name is free again");
        std::fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    fn a_profile_fits_into_a_code() {
        let dir = std::env::temp_dir().join(format!("ovpn-code-{}", std::process::id()));
        let args =
            words(&format!("--endpoint vpn-with-a-rather-long-name.example.org:443 --dir {}", dir.display()));
        assert_eq!(format!("{:?}", crate::init::run(&args)), format!("{:?}", ExitCode::SUCCESS));
        {
            let store = Store::open(&dir).expect("open");
            let issued = store.authority().expect("authority").issue(
                "a.name@example.org",
                Purpose::Client,
                pki::now(),
                9,
            );
            let text = profile(&store, &issued.expect("certificate"), None, pki::now()).expect("profile");
            let shown = code(&text).expect("fits");
            let rows: Vec<_> = shown.lines().collect();
            assert!(rows.len() > 80 && rows.iter().all(|row| row.chars().count() == rows[0].chars().count()));
            assert!(code(&"x".repeat(3000)).expect_err("too long").contains("--output"));
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn wrong_words() {
        for bad in [
            "",
            "frob",
            "add",
            "add a b",
            "add ../x",
            "add a --days 0",
            "add a --days x",
            "list x",
            "add a --frob",
            "add a --json",
            "revoke a --days 3",
            "add a --qr --output x",
        ] {
            assert!(parse(Arguments::new(&words(bad))).is_err(), "{bad}");
        }
    }
}
