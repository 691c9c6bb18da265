//! The management interface's socket, and what it may do to the running daemon.
//!
//! ```text
//!   listener ─▶ one program at a time ─▶ Conversation ─▶ Request ─▶ Handle: signals, hold, passwords, status
//!   daemon ─▶ Handle::state, log lines, notices ─▶ the program, where it subscribed
//! ```

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ovpn_config::Config;
use ovpn_config::model::{ManagementAddress, Role};
use ovpn_control::Credentials;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, broadcast, mpsc};

use super::conversation::MAX_LINE;
use super::{Answer, Conversation, DaemonMode, LogFlag, Output, Request, Shared, Tunnel, TunnelState};
use crate::outcome::Fatal;
use crate::signal::{Kind, Signal};
use crate::{logging, version};

/// The daemon's end of the interface. Cheap to copy.
#[derive(Clone)]
pub(crate) struct Handle {
    inner: Arc<Inner>,
}

type StatusText = Box<dyn Fn(u32) -> Vec<String> + Send + Sync>;
type Totals = Box<dyn Fn() -> (u64, u64, u64) + Send + Sync>;
type Kill = Box<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

struct Inner {
    shared: Mutex<Shared>,
    news: broadcast::Sender<News>,
    signals: mpsc::UnboundedSender<Signal>,
    released: Notify,
    entered: Mutex<Entered>,
    entered_changed: Notify,
    status: Mutex<Option<StatusText>>,
    totals: Mutex<Option<Totals>>,
    kill: Mutex<Option<Kill>>,
    query_passwords: bool,
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Opens the interface as configured; `None` where there is none. `signals` takes what programs throw.
///
/// # Errors
/// When the address or the password file cannot be used.
pub(crate) async fn start(
    config: &Config,
    signals: mpsc::UnboundedSender<Signal>,
) -> Result<Option<Handle>, Fatal> {
    let options = &config.management;
    let Some(address) = &options.address else { return Ok(None) };
    let mode = if config.role == Role::Server { DaemonMode::Server } else { DaemonMode::Client };
    let cache = usize::try_from(options.log_cache).unwrap_or(250);
    let mut shared = Shared::new(mode, version::title(), std::process::id(), cache);
    shared.hold = options.hold;
    shared.password = match &options.password_file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Fatal(format!("--management password file {file}: {error}")))?;
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        None => None,
    };
    let handle = Handle {
        inner: Arc::new(Inner {
            shared: Mutex::new(shared),
            news: broadcast::channel(1024).0,
            signals,
            released: Notify::new(),
            entered: Mutex::default(),
            entered_changed: Notify::new(),
            status: Mutex::new(None),
            totals: Mutex::new(None),
            kill: Mutex::new(None),
            query_passwords: options.query_passwords,
        }),
    };
    handle.follow_log();
    let fatal = |error: io::Error| Fatal(format!("MANAGEMENT: cannot use {address:?}: {error}"));
    match (address, options.client) {
        (ManagementAddress::Tcp(host, port), false) => {
            let listener = TcpListener::bind((host.as_str(), *port)).await.map_err(fatal)?;
            tracing::info!("MANAGEMENT: TCP Socket listening on {host}:{port}");
            let handle = handle.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    handle.converse(stream).await;
                }
            });
        }
        (ManagementAddress::Unix(path), false) => {
            // A socket that a former process left behind is in the way.
            let _ = std::fs::remove_file(path);
            let listener = UnixListener::bind(path).map_err(fatal)?;
            tracing::info!("MANAGEMENT: unix domain socket listening on {path}");
            let handle = handle.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    handle.converse(stream).await;
                }
            });
        }
        (ManagementAddress::Tcp(host, port), true) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(fatal)?;
            let handle = handle.clone();
            tokio::spawn(async move { handle.called(stream).await });
        }
        (ManagementAddress::Unix(path), true) => {
            let stream = UnixStream::connect(path).await.map_err(fatal)?;
            let handle = handle.clone();
            tokio::spawn(async move { handle.called(stream).await });
        }
        (ManagementAddress::Tunnel(_), _) => {
            return Err(Fatal(
                "management on the tunnel's own address is not supported: name an address".to_owned(),
            ));
        }
    }
    Ok(Some(handle))
}

impl Handle {
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
        let tunnel = Tunnel {
            time: unix_now(),
            state,
            detail: detail.to_owned(),
            tunnel_v4: tunnel.0,
            remote,
            local: None,
            tunnel_v6: tunnel.1,
        };
        let line = lock(&self.inner.shared).state(&tunnel);
        let _ = self.inner.news.send(News::State(line));
    }

    /// A line that starts with `>` for whoever is connected.
    pub(crate) fn notice(&self, line: String) {
        let _ = self.inner.news.send(News::Notice(line));
    }

    /// A pushed or configured `echo`.
    pub(crate) fn echo(&self, text: &str) {
        let line = lock(&self.inner.shared).echo(unix_now(), text);
        let _ = self.inner.news.send(News::Echo(line));
    }

    /// Whether passwords are asked here (`management-query-passwords`).
    pub(crate) fn asks_passwords(&self) -> bool {
        self.inner.query_passwords
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

    /// What `kill` does.
    pub(crate) fn set_kill(&self, kill: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static) {
        *lock(&self.inner.kill) = Some(Box::new(kill));
    }

    /// `management-client`: losing the program ends the daemon.
    async fn called(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.converse(stream).await;
        let _ = self.inner.signals.send(Signal::soft(Kind::Term, "management-exit"));
    }

    /// Talks with one program until it goes.
    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        tracing::info!("MANAGEMENT: Client connected");
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut news = self.inner.news.subscribe();
        let (mut conversation, greeting) = Conversation::open(&lock(&self.inner.shared));
        if !self.put(&mut writer, &conversation, greeting).await {
            return;
        }
        let mut input = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            let bytecount = conversation.bytecount;
            let counting = async {
                if bytecount == 0 {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_secs(bytecount.into())).await;
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
                    let output = match item {
                        Ok(News::State(line)) => conversation.state(&line),
                        Ok(News::Log(line)) => conversation.log(&line),
                        Ok(News::Echo(line)) => conversation.echo(&line),
                        Ok(News::Notice(line)) => conversation.notice(&line),
                        // A program that reads too slowly misses lines.
                        Err(broadcast::error::RecvError::Lagged(_)) => None,
                        Err(broadcast::error::RecvError::Closed) => break,
                    };
                    if let Some(output) = output && !self.put(&mut writer, &conversation, vec![output]).await {
                        return;
                    }
                }
                () = counting => {
                    let totals = lock(&self.inner.totals).as_ref().map(|totals| totals());
                    if let Some((_, received, sent)) = totals {
                        let line = format!(">BYTECOUNT:{received},{sent}");
                        if let Some(output) = conversation.notice(&line)
                            && !self.put(&mut writer, &conversation, vec![output]).await
                        {
                            return;
                        }
                    }
                }
            }
        }
        tracing::info!("MANAGEMENT: Client disconnected");
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

    fn answer(&self, request: Request) -> Answer {
        let success = |text: &str| Answer::Success(text.to_owned());
        match request {
            Request::Signal(name) => {
                let kind = match name.as_str() {
                    "SIGHUP" => Kind::Hup,
                    "SIGTERM" => Kind::Term,
                    "SIGUSR1" => Kind::Usr1,
                    "SIGUSR2" => Kind::Usr2,
                    _ => return Answer::Error(format!("signal '{name}' is not a known signal type")),
                };
                let _ = self.inner.signals.send(Signal::hard(kind));
                Answer::Success(format!("signal {name} thrown"))
            }
            Request::HoldRelease => {
                // Kept for the next hold if none waits now.
                self.inner.released.notify_one();
                success("hold release succeeded")
            }
            Request::Username { kind, value } => {
                self.enter(&kind, "username", |entered| entered.username = Some(value))
            }
            Request::Password { kind, value } => {
                self.enter(&kind, "password", |entered| entered.password = Some(value))
            }
            Request::ForgetPasswords => {
                *lock(&self.inner.entered) = Entered::default();
                success("Passwords were forgotten")
            }
            Request::Status(version) => match lock(&self.inner.status).as_ref() {
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
            Request::Verb(None) => Answer::Success(format!("verb={}", logging::verb())),
            Request::Verb(Some(verb)) => match u8::try_from(verb) {
                Ok(verb) if verb <= 11 => {
                    logging::set_verb(verb);
                    success("verb level changed")
                }
                _ => Answer::Error("verb level is out of range".to_owned()),
            },
            Request::Mute(Some(lines)) => {
                logging::set_mute(lines);
                success("mute level changed")
            }
            Request::Mute(None) => Answer::Success(format!("mute={}", logging::mute())),
            Request::LoadStats => {
                let (clients, received, sent) =
                    lock(&self.inner.totals).as_ref().map(|totals| totals()).unwrap_or_default();
                Answer::Success(format!("nclients={clients},bytesin={received},bytesout={sent}"))
            }
            Request::NClients => {
                let clients = lock(&self.inner.totals).as_ref().map_or(0, |totals| totals().0);
                Answer::Success(format!("nclients={clients}"))
            }
            Request::Kill(whom) => match lock(&self.inner.kill).as_ref().map(|kill| kill(&whom)) {
                Some(Ok(text)) => Answer::Success(text),
                Some(Err(text)) => Answer::Error(text),
                None => {
                    Answer::Error("The 'kill' command is not supported by the current daemon mode".to_owned())
                }
            },
            other => {
                tracing::debug!("management request not supported: {other:?}");
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
