//! `ovpn check`: says what a configuration would do, and starts nothing.
//!
//! ```text
//! $ ovpn check office.ovpn
//! deprecated: office.ovpn:9:1: `comp-lzo`: its framing is spoken, but nothing sent is ever compressed
//!   |
//! 9 | comp-lzo
//!   | ^^^^^^^^
//!   = remove it on both sides; …
//!
//! office.ovpn: accepted, 1 remark
//!   role        client of vpn.example.org:1194/udp
//!   data plane  engine: `comp-lzo` wants compression framing, which the kernel's driver does not speak (office.ovpn:9:1)
//!   ciphers     AES-256-GCM, AES-128-GCM, CHACHA20-POLY1305
//!   control     tls-auth, TLS 1.2 or later
//! ```

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;

use ovpn_config::model::{Local, Protocol, Role, TlsRole, TlsVersion};
use ovpn_config::{Class, Config, Diagnostic, Loaded, features_wanted, load_command_line};
use ovpn_kernel::Availability;
use serde::Serialize;

use crate::check_files;
use crate::config_files::Files;
use crate::planner::{self, Machine};

pub(crate) const HELP: &str = "Says what a configuration would do, and starts nothing.

Usage: ovpn check FILE [--json]
       ovpn check --config FILE [--OPTION VALUE]... [--json]

  --json   for programs: one object, described in docs/check.md
  --help   this text

Exit code: 0 accepted, 1 refused, 2 wrong use.

Examples:
  ovpn check office.ovpn
  ovpn check --config server.conf --port 1195
  ovpn check --json office.ovpn | jq .data_plane
";

/// Runs the command with the words after `check`.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let mut json = false;
    let mut rest = Vec::new();
    for word in words {
        match word.as_str() {
            "--json" => json = true,
            "--help" | "-h" => return print(HELP, ExitCode::SUCCESS),
            _ => rest.push(word.as_str()),
        }
    }
    let Some(name) = name_of(&rest) else {
        eprintln!("ovpn check: {}", crate::arguments::with_help("name a configuration file", "check"));
        return ExitCode::from(2);
    };
    let mut loaded = load_command_line(&rest, &Files);
    let mut report = None;
    if let (true, [file]) = (loaded.refused() || has_no_side(&loaded), rest.as_slice())
        && let Some((of_client, read)) = Report::client_options(file)
    {
        loaded = read;
        report = Some(of_client);
    }
    let report = report.unwrap_or_else(|| {
        if !loaded.refused() {
            loaded.add(check_files::look(&loaded.config, crate::pki::now()));
        }
        let machine = planner::look(loaded.config.device.name.as_deref());
        Report::new(name, &loaded, &machine)
    });
    let code = if report.accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = if json { report.json() } else { report.text(&loaded, colour) };
    print(&text, code)
}

/// Prints; a reader that went away is no error of ours.
fn print(text: &str, code: ExitCode) -> ExitCode {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    code
}

/// Whether nothing says that this is a client's, a server's or a peer's configuration.
fn has_no_side(loaded: &Loaded) -> bool {
    loaded.diagnostics.iter().any(|d| d.class == Class::Incomplete && d.option == "tls-client")
}

/// What to call the configuration: the file, or the last `--config`.
fn name_of<'a>(words: &[&'a str]) -> Option<&'a str> {
    match words {
        [] => None,
        [only] if !only.starts_with("--") => Some(only),
        _ => words
            .windows(2)
            .filter_map(|w| match w {
                ["--config", file] => Some(*file),
                _ => None,
            })
            .next_back()
            .or(Some("[CMD-LINE]")),
    }
}

const CLIENT_OPTIONS: &str = "client options";

/// The whole answer; as JSON it is described in docs/check.md.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    file: String,
    accepted: bool,
    ready: bool,
    role: &'static str,
    remotes: Vec<String>,
    listen: Vec<String>,
    data_plane: Choice,
    ciphers: Vec<&'static str>,
    control: Vec<String>,
    diagnostics: Vec<Said>,
}

/// Which data plane, and why.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Choice {
    choice: &'static str,
    kernel_available: bool,
    reasons: Vec<Reason>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Reason {
    text: String,
    option: &'static str,
    file: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Said {
    class: &'static str,
    refuses: bool,
    option: String,
    file: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
    /// The line as written; inline blocks are left out.
    source: Option<String>,
    message: String,
    help: String,
}

impl Report {
    fn new(file: &str, loaded: &Loaded, machine: &Machine) -> Self {
        let c = &loaded.config;
        let data_plane = Choice::new(loaded, machine);
        Self {
            schema: "ovpn-check/1",
            file: file.to_owned(),
            accepted: !loaded.refused(),
            ready: loaded.ready(),
            role: match c.role {
                Role::Client => "client",
                Role::Server => "server",
                Role::Peer(TlsRole::Client) => "peer, TLS client",
                Role::Peer(TlsRole::Server) => "peer, TLS server",
            },
            remotes: c
                .connections
                .iter()
                .map(|e| endpoint(&e.remote.host, e.remote.port, e.remote.protocol))
                .collect(),
            listen: if c.connections.is_empty() { c.locals.iter().map(listen).collect() } else { Vec::new() },
            data_plane,
            ciphers: c.data.ciphers.iter().map(|c| c.name()).collect(),
            control: control(c),
            diagnostics: said(loaded),
        }
    }

    /// For a file of `client-config-dir`: one that holds options of a single client only.
    fn client_options(file: &str) -> Option<(Self, Loaded)> {
        let text = ovpn_config::Reader::read(&Files, file).ok()?;
        let (_, diagnostics, sources) = ovpn_config::load_client_options(file, &text, &Files);
        let has_options = String::from_utf8_lossy(&text)
            .lines()
            .any(|line| !matches!(line.trim_start().chars().next(), None | Some('#' | ';')));
        let loaded = Loaded { config: Config::default(), diagnostics, sources, standalone: Vec::new() };
        if loaded.refused() || !has_options {
            return None;
        }
        let report = Self {
            schema: "ovpn-check/1",
            file: file.to_owned(),
            accepted: true,
            ready: true,
            role: CLIENT_OPTIONS,
            remotes: Vec::new(),
            listen: Vec::new(),
            data_plane: Choice {
                choice: "none",
                kernel_available: kernel_available(&planner::look(None)),
                reasons: Vec::new(),
            },
            ciphers: Vec::new(),
            control: Vec::new(),
            diagnostics: said(&loaded),
        };
        Some((report, loaded))
    }

    fn json(&self) -> String {
        // A report has only string keys: it can always be written.
        serde_json::to_string_pretty(self)
            .map(|mut s| {
                s.push('\n');
                s
            })
            .unwrap_or_default()
    }

    fn text(&self, loaded: &Loaded, colour: bool) -> String {
        let mut out = String::new();
        for d in &loaded.diagnostics {
            let _ = writeln!(out, "{}\n", d.render(&loaded.sources, colour));
        }
        let bold = |text: &str| if colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        let of_client = self.role == CLIENT_OPTIONS;
        let verdict = match (self.accepted, self.ready) {
            (false, _) => "refused",
            _ if of_client => "accepted, as the options of one client of a server",
            (true, false) => "accepted, but something is missing before it can start",
            (true, true) => "accepted",
        };
        let _ = writeln!(out, "{}: {verdict}{}", bold(&self.file), remarks(&loaded.diagnostics));
        if !self.accepted || of_client {
            return out;
        }
        let row = |out: &mut String, name: &str, text: &str| {
            let _ = writeln!(out, "  {}  {text}", bold(&format!("{name:<10}")));
        };
        let with = match (self.role, self.remotes.as_slice(), self.listen.as_slice()) {
            (role, [], listen) => format!("{role} on {}", listen.join(", ")),
            ("client", remotes, _) => format!("client of {}", few(remotes)),
            (role, remotes, _) => format!("{role}, with {}", few(remotes)),
        };
        row(&mut out, "role", &with);
        let mut reasons = self.data_plane.reasons.iter().map(Reason::shown);
        row(
            &mut out,
            "data plane",
            &format!("{}: {}", self.data_plane.choice, reasons.next().unwrap_or_default()),
        );
        for reason in reasons {
            row(&mut out, "", &reason);
        }
        row(&mut out, "ciphers", &self.ciphers.join(", "));
        row(&mut out, "control", &self.control.join(", "));
        out
    }
}

fn said(loaded: &Loaded) -> Vec<Said> {
    let one = |d: &Diagnostic| {
        let place = d.span.map(|s| loaded.sources.place(s));
        Said {
            class: d.class.as_str(),
            refuses: d.class.refuses(),
            option: d.option.clone(),
            file: place.as_ref().map(|p| p.file.clone()),
            line: place.as_ref().map(|p| p.line),
            column: place.as_ref().map(|p| p.column),
            source: d.span.and_then(|s| loaded.sources.line(s)).map(|line| line.trim_end().to_owned()),
            message: d.message.clone(),
            help: d.help.clone(),
        }
    };
    loaded.diagnostics.iter().map(one).collect()
}

impl Choice {
    /// What the planner decides, as it will when the configuration is run on this machine.
    fn new(loaded: &Loaded, machine: &Machine) -> Self {
        let plan = planner::plan(&features_wanted(&loaded.config), machine);
        let choice = match plan.choice {
            planner::Choice::Kernel(_) => "kernel",
            planner::Choice::Engine => "engine",
            planner::Choice::Nobody => "none",
        };
        let reasons = plan.reasons.into_iter().map(|reason| Reason::new(loaded, reason)).collect();
        Self { choice, kernel_available: kernel_available(machine), reasons }
    }
}

fn kernel_available(machine: &Machine) -> bool {
    let Availability { ovpn, dco_v2 } = &machine.availability;
    ovpn.capabilities().or(dco_v2.capabilities()).is_some()
}

impl Reason {
    fn new(loaded: &Loaded, reason: planner::Reason) -> Self {
        let place = reason.wanted.as_ref().and_then(|wanted| wanted.span).map(|s| loaded.sources.place(s));
        Self {
            text: reason.text,
            option: reason.wanted.map_or("", |wanted| wanted.option),
            file: place.as_ref().map(|p| p.file.clone()),
            line: place.as_ref().map(|p| p.line),
            column: place.as_ref().map(|p| p.column),
        }
    }

    /// The text, and where in the configuration the reason stands.
    fn shown(&self) -> String {
        match (&self.file, self.line, self.column) {
            (Some(file), Some(line), Some(column)) => format!("{} ({file}:{line}:{column})", self.text),
            _ => self.text.clone(),
        }
    }
}

fn endpoint(host: &str, port: u16, protocol: Protocol) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("{host}:{port}/{}", if protocol.is_tcp() { "tcp" } else { "udp" })
}

fn listen(local: &Local) -> String {
    endpoint(local.host.as_deref().unwrap_or("*"), local.port, local.protocol)
}

fn few(list: &[String]) -> String {
    match list {
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a}, {b}, {c} and {} more", rest.len()),
        _ => list.join(", "),
    }
}

fn control(c: &Config) -> Vec<String> {
    let any = |f: fn(&ovpn_config::model::Connection) -> bool| c.connections.iter().any(f);
    let mut out = Vec::new();
    if c.tls.tls_auth.is_some() || any(|e| e.tls_auth.is_some()) {
        out.push("tls-auth".to_owned());
    }
    if c.tls.tls_crypt.is_some() || any(|e| e.tls_crypt.is_some()) {
        out.push("tls-crypt".to_owned());
    }
    if c.tls.tls_crypt_v2.is_some() || any(|e| e.tls_crypt_v2.is_some()) {
        out.push("tls-crypt-v2".to_owned());
    }
    if out.is_empty() {
        out.push("no key of its own".to_owned());
    }
    out.push(if c.tls.version_min == TlsVersion::V1_3 { "TLS 1.3" } else { "TLS 1.2 or later" }.to_owned());
    out
}

fn remarks(diagnostics: &[Diagnostic]) -> String {
    let all = [
        Class::Error,
        Class::Unsupported,
        Class::Incomplete,
        Class::Insecure,
        Class::Deprecated,
        Class::Ignored,
        Class::Advice,
    ];
    let mut out = String::new();
    for class in all {
        let count = diagnostics.iter().filter(|d| d.class == class).count();
        if count > 0 {
            let _ = write!(out, ", {count} {}", class.as_str());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::machines;
    use ovpn_config::{NoFiles, load_text};

    const CLIENT: &str = "client\ndev tun\nremote vpn.example.org 1194\nca ca.crt\ncert me.crt\nkey me.key\nremote-cert-tls server\n";

    fn load(text: &str) -> Loaded {
        load_text("office.ovpn", text.as_bytes(), &NoFiles)
    }

    #[test]
    fn the_kernel_carries_what_it_can() {
        let loaded = load(CLIENT);
        let with = Choice::new(&loaded, &machines::with(true, false));
        assert_eq!((with.choice, with.kernel_available), ("kernel", true));
        let without = Choice::new(&loaded, &machines::with(false, false));
        assert_eq!((without.choice, without.kernel_available), ("engine", false));
        assert!(without.reasons[0].text.contains("has no driver"));
        let strict = load(&format!("{CLIENT}data-plane kernel\n"));
        assert_eq!(Choice::new(&strict, &machines::with(false, false)).choice, "none");
    }

    #[test]
    fn the_reason_names_option_and_place() {
        let loaded = load(&format!("{CLIENT}comp-lzo\n"));
        let choice = Choice::new(&loaded, &machines::with(true, false));
        assert_eq!(choice.choice, "engine");
        assert_eq!(
            choice.reasons[0].text,
            "`comp-lzo` wants compression framing, which the kernel's driver does not speak"
        );
        assert!(choice.reasons[0].shown().ends_with(" does not speak (office.ovpn:8:1)"));
        assert_eq!((choice.reasons[0].option, choice.reasons[0].line), ("comp-lzo", Some(8)));
        let loaded = load(&format!("{CLIENT}data-plane engine\n"));
        assert!(Choice::new(&loaded, &machines::with(true, false)).reasons[0].text.contains("`data-plane`"));
    }

    #[test]
    fn the_text_says_it_all() {
        let loaded = load(&format!("{CLIENT}comp-lzo\n<tls-auth>\nx\n</tls-auth>\nkey-direction 1\n"));
        let text = Report::new("office.ovpn", &loaded, &machines::with(true, false)).text(&loaded, false);
        for part in [
            "deprecated: office.ovpn:8:1: `comp-lzo`",
            "\n8 | comp-lzo\n",
            "office.ovpn: accepted, 1 deprecated\n",
            "  role        client of vpn.example.org:1194/udp\n",
            "  data plane  engine: `comp-lzo`",
            "  ciphers     AES-256-GCM, AES-128-GCM, CHACHA20-POLY1305\n",
            "  control     tls-auth, TLS 1.2 or later\n",
        ] {
            assert!(text.contains(part), "{part}\nin\n{text}");
        }
        assert!(!text.contains('\x1b'));
        let refused = load("client\ndev tap\n");
        let text = Report::new("office.ovpn", &refused, &machines::with(true, false)).text(&refused, false);
        assert!(text.contains("office.ovpn: refused, 1 unsupported"), "{text}");
    }

    #[test]
    fn the_object_keeps_its_shape() {
        let loaded = load(&format!("{CLIENT}comp-lzo\nverb x\n"));
        let json: serde_json::Value =
            serde_json::from_str(&Report::new("office.ovpn", &loaded, &machines::with(false, false)).json())
                .expect("JSON");
        assert_eq!(json["schema"], "ovpn-check/1");
        assert_eq!((&json["accepted"], &json["ready"]), (&false.into(), &false.into()));
        assert_eq!(json["role"], "client");
        assert_eq!(json["remotes"][0], "vpn.example.org:1194/udp");
        assert_eq!(json["data_plane"]["choice"], "engine");
        assert_eq!(json["data_plane"]["reasons"][0]["line"], 8);
        let said = json["diagnostics"].as_array().expect("list");
        assert_eq!((&said[0]["class"], &said[0]["refuses"]), (&"deprecated".into(), &false.into()));
        assert_eq!(
            (&said[1]["class"], &said[1]["line"], &said[1]["column"]),
            (&"error".into(), &9.into(), &6.into())
        );
        assert_eq!(said[1]["source"], "verb x");
        for key in ["option", "file", "message", "help"] {
            assert!(said[1][key].is_string(), "{key}");
        }
    }

    #[test]
    fn one_clients_file() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/tests/corpus/client-config/");
        for name in ["branch-office", "fixed-address", "locked", "DEFAULT"] {
            assert_eq!(
                Report::client_options(&format!("{dir}{name}")).map(|(r, _)| r.role),
                Some("client options"),
                "{name}"
            );
        }
        assert!(Report::client_options(&format!("{dir}../refused/static-key.conf")).is_none());
    }

    #[test]
    fn names() {
        assert_eq!(name_of(&["a.conf"]), Some("a.conf"));
        assert_eq!(name_of(&["--config", "a", "--config", "b", "--verb", "3"]), Some("b"));
        assert_eq!(name_of(&["--client"]), Some("[CMD-LINE]"));
        assert_eq!(name_of(&[]), None);
    }
}
