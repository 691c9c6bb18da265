//! One program's connection: what it said, what it subscribed to, what it still owes.

use ovpn_config::lexer;

use super::command::{Command, Hold, Subscribe, help};
use super::history::{History, LogFlag, Tunnel};
use super::{DaemonMode, Question, VERSION};

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
    /// A command that only the daemon can follow; it answers with [`Conversation::answer`] before anything else is said.
    Ask(Command),
    /// Close the connection.
    Close,
}

/// The daemon's answer to a [`Command`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `SUCCESS: text`
    Success(String),
    /// `ERROR: text`
    Error(String),
    /// Several such lines.
    Successes(Vec<String>),
    /// Several such lines.
    Errors(Vec<String>),
    /// Lines, then END.
    Lines(Vec<String>),
}

/// Something that happened to a client of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientEvent {
    /// `CONNECT,0,1`
    pub(crate) head: String,
    /// What scripts would see, in order; `None` for events of one line.
    pub(crate) variables: Option<Vec<(String, String)>>,
}

/// Variables that even `env-filter 2` shows, as stock.
const SHORT: &[&str] = &[
    "username",
    "password",
    "X509_0_CN",
    "tls_serial_",
    "untrusted_ip",
    "ifconfig_local",
    "ifconfig_netmask",
    "daemon_start_time",
    "daemon_pid",
    "dev",
    "ifconfig_pool_remote_ip",
    "ifconfig_pool_netmask",
    "time_duration",
    "bytes_sent",
    "bytes_received",
];

fn is_short(name: &str) -> bool {
    SHORT.iter().any(|short| name == *short || (short.ends_with('_') && name.starts_with(short)))
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
    /// A command whose lines are still coming.
    collecting: Option<Command>,
    /// The version of the interface that the program speaks; as stock, an old one until it says so.
    version: u32,
}

impl Conversation {
    /// A program has connected.
    pub(crate) fn open(shared: &Shared) -> (Self, Vec<Output>) {
        let mut this = Self { authenticated: shared.password.is_none(), version: 1, ..Self::default() };
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
        if let Some(mut command) = self.collecting.take() {
            if line.trim() == "END" {
                return vec![Output::Ask(command)];
            }
            if let Command::ClientAuth { options: lines, .. } | Command::Block { lines, .. } = &mut command
                && lines.len() < 256
            {
                lines.push(line.to_owned());
            }
            self.collecting = Some(command);
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
            Command::Version(Some(n)) => {
                self.version = n;
                if n < 4 { Vec::new() } else { success(&format!("Management client version set to {n}")) }
            }
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
            Command::EnvFilter(level) => {
                self.env_filter = level;
                success(&format!("env_filter_level={level}"))
            }
            command @ (Command::ClientAuth { .. } | Command::Block { .. }) => {
                self.collecting = Some(command);
                Vec::new()
            }
            Command::Test(n) => block((0..n).map(|i| format!("[{i}] this is a test line"))),
            other => vec![Output::Ask(other)],
        }
    }

    /// The daemon has answered.
    pub(crate) fn answer(&self, answer: Answer) -> Vec<Output> {
        match answer {
            Answer::Success(text) => vec![Output::Line(format!("SUCCESS: {text}"))],
            Answer::Error(text) => vec![Output::Line(format!("ERROR: {text}"))],
            Answer::Successes(lines) => {
                lines.into_iter().map(|line| Output::Line(format!("SUCCESS: {line}"))).collect()
            }
            Answer::Errors(lines) => {
                lines.into_iter().map(|line| Output::Line(format!("ERROR: {line}"))).collect()
            }
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

    /// What happened to a client of the server: the lines of one `>CLIENT:` group, which nothing else may part.
    pub(crate) fn client(&self, event: &ClientEvent) -> Vec<Output> {
        if !self.authenticated {
            return Vec::new();
        }
        let wanted = |name: &str| match self.env_filter {
            0 => true,
            1 => name.starts_with("X509_") || is_short(name),
            _ => is_short(name),
        };
        let mut lines = vec![format!(">CLIENT:{}", event.head)];
        if let Some(variables) = &event.variables {
            let shown = variables.iter().filter(|(name, _)| name == "n_clients" || wanted(name));
            lines.extend(shown.map(|(name, value)| format!(">CLIENT:ENV,{name}={value}")));
            lines.push(">CLIENT:ENV,END".to_owned());
        }
        lines.into_iter().map(Output::Line).collect()
    }

    /// A question that is answered with several lines.
    pub(crate) fn question(&self, question: &Question) -> Option<Output> {
        self.authenticated.then(|| Output::Line(question.line(self.version)))
    }

    /// A notice that every authenticated program sees (`>HOLD:…`, `>PASSWORD:…`).
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
        assert_eq!(say("hold release"), [Output::Ask(Command::Hold(Some(Hold::Release)))]);
        assert_eq!(
            say(r#"password "Auth" "pa\"ss\\word""#),
            [Output::Ask(Command::Password { kind: "Auth".into(), value: r#"pa"ss\word"#.into() })]
        );
    }

    #[test]
    fn option_lines_of_client_auth_are_collected_until_end() {
        let mut shared = shared(DaemonMode::Server);
        let (mut program, _) = Conversation::open(&shared);
        assert_eq!(program.line(&mut shared, "client-auth 0 1"), []);
        assert_eq!(program.line(&mut shared, "push \"echo via-mgmt\""), []);
        let request = Command::ClientAuth { cid: 0, kid: 1, options: vec!["push \"echo via-mgmt\"".into()] };
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
