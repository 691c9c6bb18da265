//! One program's connection: what it said, what it subscribed to, what it still owes.

use ovpn_config::lexer;

use super::command::{Command, Hold, RemoteChoice, Subscribe, help};
use super::history::{History, LogFlag, Tunnel};
use super::{DaemonMode, VERSION};

/// Longest line a program may send, bytes.
pub(crate) const MAX_LINE: usize = 1024;

/// What outlives a connection.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) mode: DaemonMode,
    /// First line of `--version`.
    pub(crate) title: String,
    pub(crate) pid: u32,
    /// Password that a program must give first.
    pub(crate) password: Option<String>,
    /// `management-hold`: wait for `hold release` before each attempt.
    pub(crate) hold: bool,
    /// The question that waits for an answer, repeated to whoever connects.
    pub(crate) pending: Option<String>,
    states: History,
    logs: History,
    echoes: History,
}

impl Shared {
    /// `log_cache`: number of log lines to keep (`management-log-cache`).
    pub(crate) const fn new(mode: DaemonMode, title: String, pid: u32, log_cache: usize) -> Self {
        Self {
            mode,
            title,
            pid,
            password: None,
            hold: false,
            pending: None,
            states: History::new(100),
            logs: History::new(log_cache),
            echoes: History::new(100),
        }
    }
}

/// What comes out of a conversation, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A line to the program; CRLF is added.
    Line(String),
    /// Text to the program without a line end (the password prompt).
    Prompt(&'static str),
    /// A request to the daemon, which answers with [`Conversation::answer`] before anything else is said.
    Ask(Request),
    /// Close the connection.
    Close,
}

/// What only the daemon can do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Signal(String),
    HoldRelease,
    Username { kind: String, value: String },
    Password { kind: String, value: String },
    ForgetPasswords,
    Status(u32),
    AuthRetry(Option<String>),
    Verb(Option<u32>),
    Mute(Option<u32>),
    LoadStats,
    NClients,
    Kill(String),
    ClientAuth { cid: u64, kid: u64, options: Vec<String> },
    ClientDeny { cid: u64, kid: u64, reason: String, client_reason: Option<String> },
    ClientPendingAuth { cid: u64, kid: u64, extra: String, timeout: u32 },
    ClientKill { cid: u64, message: Option<String> },
    CrResponse(String),
    Remote(RemoteChoice),
    RemoteEntryCount,
    RemoteEntryGet { from: Option<usize>, to: Option<usize> },
    NeedOk { name: String, confirmed: bool },
    NeedStr { name: String, value: String },
}

/// The daemon's answer to a [`Request`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `SUCCESS: text`
    Success(String),
    /// `ERROR: text`
    Error(String),
    /// Lines, then END.
    Lines(Vec<String>),
}

/// One program's connection.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    authenticated: bool,
    wrong_passwords: u8,
    state_realtime: bool,
    log_realtime: bool,
    echo_realtime: bool,
    /// Seconds between byte counts, 0 for none.
    pub(crate) bytecount: u32,
    /// How much of a client's environment to leave out.
    pub(crate) env_filter: u32,
    /// A `client-auth` whose option lines are still coming.
    collecting: Option<(u64, u64, Vec<String>)>,
}

impl Conversation {
    /// A program has connected.
    pub(crate) fn open(shared: &Shared) -> (Self, Vec<Output>) {
        let mut this = Self { authenticated: shared.password.is_none(), ..Self::default() };
        let greeting =
            if this.authenticated { this.greet(shared) } else { vec![Output::Prompt("ENTER PASSWORD:")] };
        (this, greeting)
    }

    fn greet(&mut self, shared: &Shared) -> Vec<Output> {
        self.authenticated = true;
        let hello =
            format!(">INFO:OpenVPN Management Interface Version {VERSION} -- type 'help' for more info");
        std::iter::once(hello).chain(shared.pending.clone()).map(Output::Line).collect()
    }

    /// The program sent a line (without its line end).
    pub(crate) fn line(&mut self, shared: &mut Shared, line: &str) -> Vec<Output> {
        if !self.authenticated {
            return self.check_password(shared, line);
        }
        if let Some((cid, kid, mut options)) = self.collecting.take() {
            if line.trim() == "END" {
                return vec![Output::Ask(Request::ClientAuth { cid, kid, options })];
            }
            if options.len() < 256 {
                options.push(line.to_owned());
            }
            self.collecting = Some((cid, kid, options));
            return Vec::new();
        }
        let words = match lexer::tokens(line) {
            Ok(tokens) if tokens.is_empty() => return Vec::new(),
            Ok(tokens) => tokens.into_iter().map(|token| token.text).collect::<Vec<_>>(),
            Err(error) => return vec![Output::Line(format!("ERROR: {error}"))],
        };
        match Command::parse(&words, shared.mode) {
            Ok(command) => self.execute(shared, command),
            Err(error) => vec![Output::Line(format!("ERROR: {error}"))],
        }
    }

    fn check_password(&mut self, shared: &Shared, line: &str) -> Vec<Output> {
        if shared.password.as_deref() == Some(line) {
            let mut out = vec![Output::Line("SUCCESS: password is correct".into())];
            out.extend(self.greet(shared));
            return out;
        }
        self.wrong_passwords += 1;
        let error = Output::Line("ERROR: bad password".into());
        let next = if self.wrong_passwords < 3 { Output::Prompt("ENTER PASSWORD:") } else { Output::Close };
        vec![error, next]
    }

    fn execute(&mut self, shared: &mut Shared, command: Command) -> Vec<Output> {
        let success = |text: &str| vec![Output::Line(format!("SUCCESS: {text}"))];
        let ask = |request| vec![Output::Ask(request)];
        match command {
            Command::Help => block(
                ["Management Interface for ".to_owned() + &shared.title, "Commands:".into()]
                    .into_iter()
                    .chain(help().map(str::to_owned)),
            ),
            Command::Version(None) => block([
                format!("OpenVPN Version: {}", shared.title),
                format!("Management Version: {VERSION}"),
            ]),
            Command::Version(Some(n)) if n < 4 => Vec::new(),
            Command::Version(Some(n)) => success(&format!("Management client version set to {n}")),
            Command::Exit => vec![Output::Close],
            Command::Pid => success(&format!("pid={}", shared.pid)),
            Command::State(what) => subscribe("state", what, &mut self.state_realtime, &shared.states),
            Command::Log(what) => subscribe("log", what, &mut self.log_realtime, &shared.logs),
            Command::Echo(what) => subscribe("echo", what, &mut self.echo_realtime, &shared.echoes),
            Command::Bytecount(seconds) => {
                self.bytecount = seconds;
                success("bytecount interval changed")
            }
            Command::Hold(None) => success(&format!("hold={}", u8::from(shared.hold))),
            Command::Hold(Some(Hold::On)) => {
                shared.hold = true;
                success("hold flag set to ON")
            }
            Command::Hold(Some(Hold::Off)) => {
                shared.hold = false;
                success("hold flag set to OFF")
            }
            Command::Hold(Some(Hold::Release)) => ask(Request::HoldRelease),
            Command::EnvFilter(level) => {
                self.env_filter = level;
                success(&format!("env_filter_level={level}"))
            }
            Command::ClientAuth { cid, kid } => {
                self.collecting = Some((cid, kid, Vec::new()));
                Vec::new()
            }
            Command::ClientAuthNt { cid, kid } => ask(Request::ClientAuth { cid, kid, options: Vec::new() }),
            Command::Test(n) => block((0..n).map(|i| format!("[{i}] this is a test line"))),
            Command::Signal(name) => ask(Request::Signal(name)),
            Command::Username { kind, value } => ask(Request::Username { kind, value }),
            Command::Password { kind, value } => ask(Request::Password { kind, value }),
            Command::ForgetPasswords => ask(Request::ForgetPasswords),
            Command::Status(version) => ask(Request::Status(version)),
            Command::AuthRetry(how) => ask(Request::AuthRetry(how)),
            Command::Verb(n) => ask(Request::Verb(n)),
            Command::Mute(n) => ask(Request::Mute(n)),
            Command::LoadStats => ask(Request::LoadStats),
            Command::NClients => ask(Request::NClients),
            Command::Kill(whom) => ask(Request::Kill(whom)),
            Command::ClientDeny { cid, kid, reason, client_reason } => {
                ask(Request::ClientDeny { cid, kid, reason, client_reason })
            }
            Command::ClientPendingAuth { cid, kid, extra, timeout } => {
                ask(Request::ClientPendingAuth { cid, kid, extra, timeout })
            }
            Command::ClientKill { cid, message } => ask(Request::ClientKill { cid, message }),
            Command::CrResponse(response) => ask(Request::CrResponse(response)),
            Command::Remote(choice) => ask(Request::Remote(choice)),
            Command::RemoteEntryCount => ask(Request::RemoteEntryCount),
            Command::RemoteEntryGet { from, to } => ask(Request::RemoteEntryGet { from, to }),
            Command::NeedOk { name, confirmed } => ask(Request::NeedOk { name, confirmed }),
            Command::NeedStr { name, value } => ask(Request::NeedStr { name, value }),
        }
    }

    /// The daemon has answered.
    pub(crate) fn answer(&self, answer: Answer) -> Vec<Output> {
        match answer {
            Answer::Success(text) => vec![Output::Line(format!("SUCCESS: {text}"))],
            Answer::Error(text) => vec![Output::Line(format!("ERROR: {text}"))],
            Answer::Lines(lines) => block(lines),
        }
    }

    /// The real-time line for a state that [`Shared::state`] recorded, where this program wants it.
    pub(crate) fn state(&self, line: &str) -> Option<Output> {
        (self.authenticated && self.state_realtime).then(|| Output::Line(format!(">STATE:{line}")))
    }

    /// Likewise for log lines.
    pub(crate) fn log(&self, line: &str) -> Option<Output> {
        (self.authenticated && self.log_realtime).then(|| Output::Line(format!(">LOG:{line}")))
    }

    /// Likewise for echoes.
    pub(crate) fn echo(&self, line: &str) -> Option<Output> {
        (self.authenticated && self.echo_realtime).then(|| Output::Line(format!(">ECHO:{line}")))
    }

    /// A notice that every authenticated program sees (`>HOLD:…`, `>PASSWORD:…`, `>CLIENT:…`).
    pub(crate) fn notice(&self, line: &str) -> Option<Output> {
        self.authenticated.then(|| Output::Line(line.to_owned()))
    }
}

impl Shared {
    /// Records a state; the line goes to [`Conversation::state`].
    pub(crate) fn state(&mut self, tunnel: &Tunnel) -> String {
        let line = tunnel.to_string();
        self.states.push(line.clone());
        line
    }

    /// Records a log line.
    pub(crate) fn log(&mut self, time: u64, flag: LogFlag, text: &str) -> String {
        let line = format!("{time},{},{}", flag.letter(), one_line(text));
        self.logs.push(line.clone());
        line
    }

    /// Records an echo.
    pub(crate) fn echo(&mut self, time: u64, text: &str) -> String {
        let line = format!("{time},{}", one_line(text));
        self.echoes.push(line.clone());
        line
    }
}

/// Text that came from elsewhere must not start a line of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '_' } else { c }).collect()
}

fn block(lines: impl IntoIterator<Item = String>) -> Vec<Output> {
    lines.into_iter().chain(["END".to_owned()]).map(Output::Line).collect()
}

fn subscribe(name: &str, what: Subscribe, realtime: &mut bool, history: &History) -> Vec<Output> {
    let mut out = Vec::new();
    if let Some(on) = what.realtime {
        *realtime = on;
        let state = if on { "ON" } else { "OFF" };
        out.push(Output::Line(format!("SUCCESS: real-time {name} notification set to {state}")));
    }
    if let Some(n) = what.show {
        out.extend(block(history.last(n).map(str::to_owned)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::history::TunnelState;
    use super::*;

    fn shared(mode: DaemonMode) -> Shared {
        Shared::new(mode, "OpenVPN test".into(), 1773, 250)
    }

    fn lines(out: &[Output]) -> Vec<&str> {
        out.iter()
            .map(|out| match out {
                Output::Line(line) => line.as_str(),
                Output::Prompt(text) => text,
                other => panic!("no line: {other:?}"),
            })
            .collect()
    }

    // The dialogue recorded with OpenVPN 2.6.14.
    #[test]
    fn recorded_dialogue() {
        let mut shared = shared(DaemonMode::Client);
        shared.hold = true;
        shared.pending = Some(">HOLD:Waiting for hold release:0".into());
        shared.state(&Tunnel {
            time: 1_795_307_172,
            state: TunnelState::Connecting,
            detail: String::new(),
            tunnel_v4: None,
            remote: None,
            local: None,
            tunnel_v6: None,
        });
        let (mut program, hello) = Conversation::open(&shared);
        assert_eq!(
            lines(&hello),
            [
                ">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info",
                ">HOLD:Waiting for hold release:0"
            ]
        );
        let mut say = |line: &str| program.line(&mut shared, line);
        assert_eq!(
            lines(&say("state on all")),
            ["SUCCESS: real-time state notification set to ON", "1795307172,CONNECTING,,,,,,", "END"]
        );
        assert_eq!(lines(&say("log off")), ["SUCCESS: real-time log notification set to OFF"]);
        assert_eq!(lines(&say("bytecount 1")), ["SUCCESS: bytecount interval changed"]);
        assert_eq!(lines(&say("hold")), ["SUCCESS: hold=1"]);
        assert_eq!(lines(&say("pid")), ["SUCCESS: pid=1773"]);
        assert_eq!(lines(&say("foo bar")), ["ERROR: unknown command, enter 'help' for more options"]);
        assert_eq!(say("hold release"), [Output::Ask(Request::HoldRelease)]);
        assert_eq!(
            say(r#"password "Auth" "pa\"ss\\word""#),
            [Output::Ask(Request::Password { kind: "Auth".into(), value: r#"pa"ss\word"#.into() })]
        );
    }

    #[test]
    fn option_lines_of_client_auth_are_collected_until_end() {
        let mut shared = shared(DaemonMode::Server);
        let (mut program, _) = Conversation::open(&shared);
        assert_eq!(program.line(&mut shared, "client-auth 0 1"), []);
        assert_eq!(program.line(&mut shared, "push \"echo via-mgmt\""), []);
        let request = Request::ClientAuth { cid: 0, kid: 1, options: vec!["push \"echo via-mgmt\"".into()] };
        assert_eq!(program.line(&mut shared, "END"), [Output::Ask(request)]);
    }

    #[test]
    fn three_wrong_passwords_close_and_nothing_is_said_before_the_right_one() {
        let mut shared = shared(DaemonMode::Client);
        shared.password = Some("secret".into());
        let (mut program, hello) = Conversation::open(&shared);
        assert_eq!(hello, [Output::Prompt("ENTER PASSWORD:")]);
        assert_eq!(program.notice(">INFO:x"), None);
        assert_eq!(program.line(&mut shared, "pid")[1], Output::Prompt("ENTER PASSWORD:"));
        assert_eq!(program.line(&mut shared, "pid")[1], Output::Prompt("ENTER PASSWORD:"));
        let (mut second, _) = Conversation::open(&shared);
        assert_eq!(lines(&second.line(&mut shared, "secret"))[0], "SUCCESS: password is correct");
        assert_eq!(program.line(&mut shared, "pid")[1], Output::Close);
    }

    #[test]
    fn foreign_text_cannot_start_a_line() {
        let mut shared = shared(DaemonMode::Client);
        assert_eq!(shared.log(1, LogFlag::Warning, "a\r\n>PASSWORD:x"), "1,W,a__>PASSWORD:x");
    }
}
