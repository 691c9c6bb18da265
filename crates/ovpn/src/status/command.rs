//! `ovpn status`: asks running tunnels and shows what they tell.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::service::RUN_DIR;
use super::snapshot::{SCHEMA, Snapshot};
use super::{report, watch};
use crate::arguments::{self, Arguments, Wrong};

pub(crate) const HELP: &str = "Shows what a running tunnel does.

Usage: ovpn status [NAME | PATH] [--json | --watch] [--interval SECONDS]

  NAME                the tunnel: its configuration file's name without ending;
                      all that run if left out
  PATH                its status socket, where `status-socket` put it elsewhere
                      than /run/ovpn
  --json              for programs: one object, described in docs/operations.md
  --watch             full screen: rates, handshakes, drops and peers as they
                      change; q quits
  --interval SECONDS  time between two looks of --watch; 1 by default
  --help              this text

Exit code: 0 shown, 1 no such tunnel runs or it cannot be asked, 2 wrong use.

Examples:
  ovpn status
  ovpn status office --watch
  ovpn status server --json | jq '.peers[].name'
";

/// Most that a tunnel tells, bytes.
const MOST: u64 = 256 << 20;

#[derive(Debug, PartialEq, Eq)]
struct Wish {
    whom: Option<String>,
    json: bool,
    watch: bool,
    interval: Duration,
}

/// Runs the command with the words after `status`.
pub(crate) fn run(words: &[String]) -> ExitCode {
    arguments::run("status", HELP, words, parse, |wish| perform(&wish))
}

fn parse(mut words: Arguments<'_>) -> Result<Wish, Wrong> {
    let mut wish = Wish { whom: None, json: false, watch: false, interval: Duration::from_secs(1) };
    while let Some(word) = words.next(&["--json", "--watch", "--interval"])? {
        match word {
            "--json" => wish.json = true,
            "--watch" => wish.watch = true,
            "--interval" => {
                let text = words.value(word)?;
                let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
                wish.interval = seconds
                    .map(Duration::from_secs_f64)
                    .ok_or_else(|| Wrong(format!("\"{text}\" is no number of seconds from 0.1 to 3600")))?;
            }
            name if wish.whom.is_none() => wish.whom = Some(name.to_owned()),
            other => return Err(Wrong::too_many(other)),
        }
    }
    if wish.json && wish.watch {
        return Err(Wrong("--json and --watch exclude each other".to_owned()));
    }
    Ok(wish)
}

fn perform(wish: &Wish) -> Result<(), String> {
    let sockets = match &wish.whom {
        Some(whom) => vec![socket_of(whom)],
        None => running(),
    };
    let [first, others @ ..] = sockets.as_slice() else {
        return Err(format!(
            "no tunnel runs here (none has a socket in {RUN_DIR}): start one, or name the socket that `status-socket` made"
        ));
    };
    if !others.is_empty() && (wish.json || wish.watch) {
        let names: Vec<String> = sockets.iter().map(|path| shown_name(path)).collect();
        return Err(format!("several tunnels run: name one of {}", names.join(", ")));
    }
    let out = std::io::stdout();
    if wish.watch {
        return watch::run(wish.interval, || ask(first));
    }
    if wish.json {
        let text = ask_text(first)?;
        return out.lock().write_all(text.as_bytes()).map_err(|error| format!("cannot write: {error}"));
    }
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let width = if out.is_terminal() { watch::size().0 } else { usize::MAX };
    let mut failed = None;
    let mut text = String::new();
    for path in &sockets {
        match ask(path) {
            Ok(snapshot) => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&report::report(&snapshot, width, colour));
            }
            Err(sentence) => failed = Some(sentence),
        }
    }
    // A pager that was closed early is no error.
    let _ = out.lock().write_all(text.as_bytes());
    failed.map_or(Ok(()), Err)
}

/// A name or a path.
fn socket_of(whom: &str) -> PathBuf {
    if whom.contains('/') { PathBuf::from(whom) } else { Path::new(RUN_DIR).join(format!("{whom}.sock")) }
}

fn shown_name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Sockets that somebody listens to, in the order of their names.
fn running() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(RUN_DIR) else { return Vec::new() };
    let is_socket = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "sock")
            && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    let refused = |path: &PathBuf| {
        UnixStream::connect(path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_socket).filter(|path| !refused(path)).collect();
    found.sort();
    found
}

fn ask(path: &Path) -> Result<Snapshot, String> {
    let text = ask_text(path)?;
    serde_json::from_str(&text).map_err(|error| {
        format!(
            "{} tells something else than {SCHEMA} ({error}): are both programs of one version?",
            path.display()
        )
    })
}

fn ask_text(path: &Path) -> Result<String, String> {
    use std::io::ErrorKind;
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            let names: Vec<String> = running().iter().map(|path| shown_name(path)).collect();
            let there = if names.is_empty() {
                "none runs".to_owned()
            } else {
                format!("there is {}", names.join(", "))
            };
            format!("no tunnel \"{}\" runs here; {there}", shown_name(path))
        }
        ErrorKind::PermissionDenied => {
            format!("{} is for its owner only: run this as root or as the tunnel's user", path.display())
        }
        _ => format!("{}: {error}", path.display()),
    })?;
    let failed = |error: std::io::Error| format!("{} does not answer: {error}", path.display());
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(failed)?;
    let mut text = String::new();
    stream.take(MOST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Wish, Wrong> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse(Arguments::new(&words))
    }

    #[test]
    fn the_words() {
        let wish = parsed("office --watch --interval 0.5").unwrap();
        assert_eq!(
            (wish.whom.as_deref(), wish.watch, wish.interval.as_millis()),
            (Some("office"), true, 500)
        );
        for bad in ["--json --watch", "a b", "--interval 0", "--frob"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        assert_eq!(parsed("--jsn").unwrap_err().0, "\"--jsn\" is not known here; did you mean --json?");
        assert_eq!(socket_of("office"), Path::new("/run/ovpn/office.sock"));
        assert_eq!(socket_of("./x.sock"), Path::new("./x.sock"));
    }
}
