//! What programs at the management interface may do to the running daemon, and what they hear of it.
//!
//! ```text
//!   listener ─▶ one program at a time ─▶ Conversation ─▶ Command ─▶ Handle: signals, hold, passwords, status
//!   daemon ─▶ Handle::state, log lines, notices ─▶ the program, where it subscribed
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ovpn_control::Credentials;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, broadcast, mpsc};

use super::block::Waiting;
use super::conversation::MAX_LINE;
use super::{
    Answer, ClientEvent, Command, Conversation, Hold, LogFlag, Output, Question, Shared, Tunnel, TunnelState,
};
use crate::environment::Environment;
use crate::logging;
use crate::signal::{Kind, Signal};

/// The daemon's end of the interface. Cheap to copy.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(super) inner: Arc<Inner>,
}

type StatusText = Box<dyn Fn(u32) -> Vec<String> + Send + Sync>;
type Totals = Box<dyn Fn() -> (u64, u64, u64) + Send + Sync>;
type ClientCounts = Box<dyn Fn() -> Vec<(u64, u64, u64)> + Send + Sync>;
type Commands = Box<dyn Fn(&Command) -> Option<Answer> + Send + Sync>;

pub(super) struct Inner {
    pub(super) shared: Mutex<Shared>,
    news: broadcast::Sender<News>,
    signals: mpsc::UnboundedSender<Signal>,
    released: Notify,
    entered: Mutex<Entered>,
    entered_changed: Notify,
    status: Mutex<Option<StatusText>>,
    totals: Mutex<Option<Totals>>,
    client_counts: Mutex<Option<ClientCounts>>,
    commands: Mutex<Option<Commands>>,
    pub(super) waiting: Waiting,
    habits: Habits,
}

/// What the configuration says about programs that come and go.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Habits {
    /// `management-query-passwords`.
    pub(super) query_passwords: bool,
    /// `management-signal`: a program that leaves is SIGUSR1.
    pub(super) signal: bool,
    /// `management-forget-disconnect`: a program that leaves takes its passwords along.
    pub(super) forget: bool,
    /// `management-up-down`.
    pub(super) up_down: bool,
    /// `management-client-auth`.
    pub(super) client_auth: bool,
}

/// What a program has typed in for the question that waits.
#[derive(Default)]
struct Entered {
    wanted: Option<&'static str>,
    username: Option<String>,
    password: Option<String>,
}

#[derive(Debug, Clone)]
enum News {
    State(String),
    Log(String),
    Echo(String),
    Notice(String),
    Question(Question),
    Client(Arc<ClientEvent>),
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Handle {
    /// An interface without a socket yet. `signals` takes what programs throw.
    pub(super) fn new(shared: Shared, habits: Habits, signals: mpsc::UnboundedSender<Signal>) -> Self {
        let handle = Self {
            inner: Arc::new(Inner {
                shared: Mutex::new(shared),
                news: broadcast::channel(1024).0,
                signals,
                released: Notify::new(),
                entered: Mutex::default(),
                entered_changed: Notify::new(),
                status: Mutex::new(None),
                totals: Mutex::new(None),
                client_counts: Mutex::new(None),
                commands: Mutex::new(None),
                waiting: Waiting::default(),
                habits,
            }),
        };
        handle.follow_log();
        handle
    }

    /// Lines of the log go to programs that want them.
    fn follow_log(&self) {
        let inner = Arc::downgrade(&self.inner);
        logging::listen(move |line| {
            let Some(inner) = inner.upgrade() else { return false };
            let flag = match line.level {
                tracing::Level::ERROR if line.text.starts_with("Exiting due to fatal") => LogFlag::Fatal,
                tracing::Level::ERROR => LogFlag::Nonfatal,
                tracing::Level::WARN => LogFlag::Warning,
                tracing::Level::INFO => LogFlag::Informational,
                _ => LogFlag::Debug,
            };
            let text = lock(&inner.shared).log(line.time, flag, &line.text);
            let _ = inner.news.send(News::Log(text));
            true
        });
    }

    /// The tunnel is in another state.
    pub(crate) fn state(
        &self,
        state: TunnelState,
        detail: &str,
        tunnel: (Option<Ipv4Addr>, Option<Ipv6Addr>),
        remote: Option<SocketAddr>,
    ) {
        self.tell(state, detail, tunnel, (remote, None));
    }

    /// As [`state`](Self::state), with the ends of the outside: remote and local.
    pub(crate) fn tell(
        &self,
        state: TunnelState,
        detail: &str,
        (tunnel_v4, tunnel_v6): (Option<Ipv4Addr>, Option<Ipv6Addr>),
        (remote, local): (Option<SocketAddr>, Option<SocketAddr>),
    ) {
        let detail = detail.to_owned();
        let tunnel = Tunnel { time: unix_now(), state, detail, tunnel_v4, remote, local, tunnel_v6 };
        let line = lock(&self.inner.shared).state(&tunnel);
        let _ = self.inner.news.send(News::State(line));
    }

    /// A line that starts with `>` for whoever is connected.
    pub(crate) fn notice(&self, line: String) {
        let _ = self.inner.news.send(News::Notice(line));
    }

    /// A question that is answered with several lines, for whoever is connected.
    pub(super) fn put_question(&self, question: Question) {
        // Whoever connects later has not told its version yet.
        lock(&self.inner.shared).pending = Some(question.line(1));
        let _ = self.inner.news.send(News::Question(question));
    }

    /// A pushed or configured `echo`.
    pub(crate) fn echo(&self, text: &str) {
        let line = lock(&self.inner.shared).echo(unix_now(), text);
        let _ = self.inner.news.send(News::Echo(line));
    }

    /// Whether passwords are asked here (`management-query-passwords`).
    pub(crate) fn asks_passwords(&self) -> bool {
        self.inner.habits.query_passwords
    }

    /// Whether programs decide about clients (`management-client-auth`).
    pub(crate) fn judges_clients(&self) -> bool {
        self.inner.habits.client_auth
    }

    /// Something happened to a client of the server; `head` is for example `CONNECT,0,1`.
    pub(crate) fn client_event(&self, head: String, variables: Option<Vec<(String, String)>>) {
        let _ = self.inner.news.send(News::Client(Arc::new(ClientEvent { head, variables })));
    }

    /// `management-up-down`: the tunnel went up or down.
    pub(crate) fn up_down(&self, what: &str, environment: &Environment) {
        if !self.inner.habits.up_down {
            return;
        }
        let mut lines = vec![format!(">UPDOWN:{what}")];
        lines.extend(environment.iter().map(|(name, value)| format!(">UPDOWN:ENV,{name}={value}")));
        lines.push(">UPDOWN:ENV,END".to_owned());
        // One item, so that nothing comes in between.
        self.notice(lines.join("\r\n"));
    }

    /// Whether attempts wait for a release now.
    pub(crate) fn holds(&self) -> bool {
        lock(&self.inner.shared).hold
    }

    /// `management-hold`: waits until a program releases the attempt. `pause` is the pause it stands for.
    pub(crate) async fn hold(&self, pause: Duration) {
        if !lock(&self.inner.shared).hold {
            return;
        }
        let line = format!(">HOLD:Waiting for hold release:{}", pause.as_secs());
        lock(&self.inner.shared).pending = Some(line.clone());
        self.notice(line);
        self.inner.released.notified().await;
        lock(&self.inner.shared).pending = None;
    }

    /// Asks for username and password of `kind` (`Auth`); `suffix` carries a static challenge.
    pub(crate) async fn ask(&self, kind: &'static str, suffix: &str) -> Credentials {
        *lock(&self.inner.entered) = Entered { wanted: Some(kind), ..Entered::default() };
        let line = format!(">PASSWORD:Need '{kind}' username/password{suffix}");
        lock(&self.inner.shared).pending = Some(line.clone());
        self.notice(line);
        loop {
            let changed = self.inner.entered_changed.notified();
            {
                let mut entered = lock(&self.inner.entered);
                if entered.username.is_some()
                    && let Some(password) = entered.password.take()
                {
                    let username = entered.username.take().unwrap_or_default();
                    *entered = Entered::default();
                    lock(&self.inner.shared).pending = None;
                    return Credentials { username, password };
                }
            }
            changed.await;
        }
    }

    /// A question that whoever connects hears, too, until it is taken back.
    pub(crate) fn pend(&self, question: Option<String>) {
        lock(&self.inner.shared).pending.clone_from(&question);
        if let Some(line) = question {
            self.notice(line);
        }
    }

    /// Asks for a password of `kind` (`Private Key`) that goes without a username.
    pub(crate) async fn ask_password(&self, kind: &'static str) -> String {
        *lock(&self.inner.entered) = Entered { wanted: Some(kind), ..Entered::default() };
        let line = format!(">PASSWORD:Need '{kind}' password");
        lock(&self.inner.shared).pending = Some(line.clone());
        self.notice(line);
        loop {
            let changed = self.inner.entered_changed.notified();
            {
                let mut entered = lock(&self.inner.entered);
                if let Some(password) = entered.password.take() {
                    *entered = Entered::default();
                    lock(&self.inner.shared).pending = None;
                    return password;
                }
            }
            changed.await;
        }
    }

    /// What `status` answers.
    pub(crate) fn set_status(&self, text: impl Fn(u32) -> Vec<String> + Send + Sync + 'static) {
        *lock(&self.inner.status) = Some(Box::new(text));
    }

    /// What `load-stats` answers: clients, bytes in, bytes out.
    pub(crate) fn set_totals(&self, totals: impl Fn() -> (u64, u64, u64) + Send + Sync + 'static) {
        *lock(&self.inner.totals) = Some(Box::new(totals));
    }

    /// `>BYTECOUNT_CLI:` of each client: its number, bytes in, bytes out.
    pub(crate) fn set_client_counts(
        &self,
        counts: impl Fn() -> Vec<(u64, u64, u64)> + Send + Sync + 'static,
    ) {
        *lock(&self.inner.client_counts) = Some(Box::new(counts));
    }

    /// What a mode does with commands that only it can follow; `None` for those it does not know.
    pub(crate) fn set_commands(&self, commands: impl Fn(&Command) -> Option<Answer> + Send + Sync + 'static) {
        *lock(&self.inner.commands) = Some(Box::new(commands));
    }

    /// `management-client`: losing the program ends the daemon.
    pub(super) async fn called(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.serve(stream).await;
        let _ = self.inner.signals.send(Signal::soft(Kind::Term, "management-exit"));
    }

    /// Serves one program, and does what is configured once it has gone.
    pub(super) async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.converse(stream).await;
        tracing::info!("MANAGEMENT: Client disconnected");
        if self.inner.habits.forget {
            *lock(&self.inner.entered) = Entered::default();
        }
        if self.inner.habits.signal {
            let _ = self.inner.signals.send(Signal::soft(Kind::Usr1, "management-disconnect"));
        }
    }

    /// Talks with one program until it goes.
    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut news = self.inner.news.subscribe();
        let (mut conversation, greeting) = Conversation::open(&lock(&self.inner.shared));
        if !self.put(&mut writer, &conversation, greeting).await {
            return;
        }
        let mut input = Vec::new();
        let mut chunk = [0; 1024];
        let mut bytecount = 0;
        let mut next_count = tokio::time::Instant::now();
        loop {
            if bytecount != conversation.bytecount {
                bytecount = conversation.bytecount;
                next_count = tokio::time::Instant::now() + Duration::from_secs(bytecount.into());
            }
            let counting = async {
                if bytecount == 0 {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep_until(next_count).await;
            };
            tokio::select! {
                read = reader.read(&mut chunk) => {
                    let count = match read {
                        Ok(count) if count > 0 => count,
                        _ => break,
                    };
                    input.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = input.drain(..=end).collect();
                        let line = String::from_utf8_lossy(&line);
                        let line = line.trim_end_matches(['\r', '\n']);
                        let output = conversation.line(&mut lock(&self.inner.shared), line);
                        if !self.put(&mut writer, &conversation, output).await {
                            return;
                        }
                    }
                    if input.len() > MAX_LINE {
                        input.clear();
                    }
                }
                item = news.recv() => {
                    let output: Vec<Output> = match item {
                        Ok(News::State(line)) => conversation.state(&line).into_iter().collect(),
                        Ok(News::Log(line)) => conversation.log(&line).into_iter().collect(),
                        Ok(News::Echo(line)) => conversation.echo(&line).into_iter().collect(),
                        Ok(News::Notice(line)) => conversation.notice(&line).into_iter().collect(),
                        Ok(News::Question(question)) => conversation.question(&question).into_iter().collect(),
                        Ok(News::Client(event)) => conversation.client(&event),
                        // A program that reads too slowly misses lines.
                        Err(broadcast::error::RecvError::Lagged(_)) => Vec::new(),
                        Err(broadcast::error::RecvError::Closed) => break,
                    };
                    if !output.is_empty() && !self.put(&mut writer, &conversation, output).await {
                        return;
                    }
                }
                () = counting => {
                    next_count = tokio::time::Instant::now() + Duration::from_secs(conversation.bytecount.into());
                    let lines = self.byte_counts().into_iter();
                    let output = lines.filter_map(|line| conversation.notice(&line)).collect();
                    if !self.put(&mut writer, &conversation, output).await {
                        return;
                    }
                }
            }
        }
    }

    /// The lines of `bytecount`.
    fn byte_counts(&self) -> Vec<String> {
        if let Some(counts) = lock(&self.inner.client_counts).as_ref() {
            let line = |(client, received, sent)| format!(">BYTECOUNT_CLI:{client},{received},{sent}");
            return counts().into_iter().map(line).collect();
        }
        let totals = lock(&self.inner.totals).as_ref().map(|totals| totals());
        totals.map(|(_, received, sent)| format!(">BYTECOUNT:{received},{sent}")).into_iter().collect()
    }

    /// Writes output and does what is asked; false once the program is gone.
    async fn put(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        conversation: &Conversation,
        output: Vec<Output>,
    ) -> bool {
        let mut queue: std::collections::VecDeque<Output> = output.into();
        while let Some(output) = queue.pop_front() {
            let text = match output {
                Output::Line(line) => format!("{line}\r\n"),
                Output::Prompt(text) => text.to_owned(),
                Output::Close => return false,
                Output::Ask(request) => {
                    for line in conversation.answer(self.answer(request)).into_iter().rev() {
                        queue.push_front(line);
                    }
                    continue;
                }
            };
            if writer.write_all(text.as_bytes()).await.is_err() {
                return false;
            }
        }
        writer.flush().await.is_ok()
    }

    fn answer(&self, command: Command) -> Answer {
        let success = |text: &str| Answer::Success(text.to_owned());
        let own = lock(&self.inner.commands).as_ref().and_then(|commands| commands(&command));
        if let Some(answer) = own {
            return answer;
        }
        match command {
            Command::Signal(name) => {
                let kind = match name.as_str() {
                    "SIGHUP" => Kind::Hup,
                    "SIGTERM" => Kind::Term,
                    "SIGUSR1" => Kind::Usr1,
                    "SIGUSR2" => Kind::Usr2,
                    _ => return Answer::Error(format!("signal '{name}' is not a known signal type")),
                };
                let held =
                    lock(&self.inner.shared).pending.as_ref().is_some_and(|line| line.starts_with(">HOLD"));
                if held && matches!(kind, Kind::Hup | Kind::Usr1) {
                    return Answer::Error(format!("signal '{name}' is currently ignored"));
                }
                let _ = self.inner.signals.send(Signal::hard(kind));
                Answer::Success(format!("signal {name} thrown"))
            }
            Command::Hold(Some(Hold::Release)) => {
                // Kept for the next hold if none waits now.
                self.inner.released.notify_one();
                success("hold release succeeded")
            }
            Command::Username { kind, value } => {
                self.enter(&kind, "username", |entered| entered.username = Some(value))
            }
            Command::Password { kind, value } => {
                self.enter(&kind, "password", |entered| entered.password = Some(value))
            }
            Command::ForgetPasswords => {
                *lock(&self.inner.entered) = Entered::default();
                success("Passwords were forgotten")
            }
            Command::Status(version) => match lock(&self.inner.status).as_ref() {
                Some(text) => {
                    // The text has its own END.
                    let mut lines = text(version);
                    if lines.last().is_some_and(|line| line == "END") {
                        lines.pop();
                    }
                    Answer::Lines(lines)
                }
                None => Answer::Lines(Vec::new()),
            },
            Command::Verb(None) => Answer::Success(format!("verb={}", logging::verb())),
            Command::Verb(Some(verb)) => match u8::try_from(verb) {
                Ok(verb) if verb <= 11 => {
                    logging::set_verb(verb);
                    success("verb level changed")
                }
                _ => Answer::Error("verb level is out of range".to_owned()),
            },
            Command::Mute(Some(lines)) => {
                logging::set_mute(lines);
                success("mute level changed")
            }
            Command::Mute(None) => Answer::Success(format!("mute={}", logging::mute())),
            Command::Block { name, block, lines } => self.inner.waiting.entered(name, block, lines),
            Command::LoadStats => {
                let (clients, received, sent) =
                    lock(&self.inner.totals).as_ref().map(|totals| totals()).unwrap_or_default();
                Answer::Success(format!("nclients={clients},bytesin={received},bytesout={sent}"))
            }
            Command::NClients => {
                let clients = lock(&self.inner.totals).as_ref().map_or(0, |totals| totals().0);
                Answer::Success(format!("nclients={clients}"))
            }
            other => {
                tracing::debug!("management command not supported: {other:?}");
                Answer::Error("this command is not supported by the current daemon mode".to_owned())
            }
        }
    }

    fn enter(&self, kind: &str, what: &str, put: impl FnOnce(&mut Entered)) -> Answer {
        let mut entered = lock(&self.inner.entered);
        match entered.wanted {
            None => Answer::Error(format!("no {what} is currently needed at this time")),
            Some(wanted) if wanted != kind => {
                Answer::Error(format!("{what} of type '{kind}' entered, but we need one of type '{wanted}'"))
            }
            Some(_) => {
                put(&mut entered);
                self.inner.entered_changed.notify_waiters();
                Answer::Success(format!("'{kind}' {what} entered, but not yet verified"))
            }
        }
    }
}
