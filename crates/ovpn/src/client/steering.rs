//! What a program at the management interface steers: the choice of a remote or a proxy, answers to questions,
//! `auth-retry`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovpn_config::model::{AuthRetry, HttpProxy, HttpProxyAuth, Protocol, SocksProxy};
use tokio::sync::{Notify, mpsc};

use super::connection::End;
use super::remotes::Advance;
use super::{Client, Entry, next_but_usr2};
use crate::management::{Answer, Command, Handle, ProxyChoice, RemoteChoice};
use crate::signal::Signals;

/// The client's end.
pub(super) struct Steering {
    shared: Arc<Shared>,
    /// Answers for the server, base64 (`cr-response`).
    pub(super) responses: mpsc::UnboundedReceiver<String>,
}

struct Shared {
    remote: Question<RemoteChoice>,
    proxy: Question<ProxyChoice>,
    retry: Mutex<AuthRetry>,
    entries: Vec<String>,
}

/// Something that a program chooses.
struct Question<T> {
    state: Mutex<Choice<T>>,
    chosen: Notify,
}

enum Choice<T> {
    NotAsked,
    /// Not every answer may do.
    Asked(fn(&T) -> bool),
    Made(T),
}

impl<T: Clone> Question<T> {
    fn new() -> Self {
        Self { state: Mutex::new(Choice::NotAsked), chosen: Notify::new() }
    }

    /// The answer to the command of that name.
    fn make(&self, name: &str, choice: &T) -> Answer {
        let mut state = lock(&self.state);
        match *state {
            Choice::Asked(may) if may(choice) => {
                *state = Choice::Made(choice.clone());
                self.chosen.notify_one();
                Answer::Success(format!("{name} command succeeded"))
            }
            Choice::Asked(_) => Answer::Error(format!("{name} command failed")),
            _ => Answer::Error(format!("The '{name}' command is not supported by the current daemon mode")),
        }
    }

    /// Asks, and waits for the choice.
    async fn ask(
        &self,
        management: &Handle,
        line: String,
        may: fn(&T) -> bool,
        signals: &mut Signals,
    ) -> Result<T, End> {
        *lock(&self.state) = Choice::Asked(may);
        management.pend(Some(line));
        let result = loop {
            tokio::select! {
                () = self.chosen.notified() => {}
                signal = next_but_usr2(signals) => break Err(End::from_signal(signal)),
            }
            let state = &mut *lock(&self.state);
            match std::mem::replace(state, Choice::NotAsked) {
                Choice::Made(choice) => break Ok(choice),
                other => *state = other,
            }
        };
        *lock(&self.state) = Choice::NotAsked;
        management.pend(None);
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Steering {
    pub(super) fn new(management: Option<&Handle>, retry: AuthRetry, entries: &[Entry]) -> Self {
        let (respond, responses) = mpsc::unbounded_channel();
        let entries = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                let remote = &entry.options.remote;
                format!("{index},{},{},{},enabled", remote.host, remote.port, word(entry))
            })
            .collect();
        let shared = Arc::new(Shared {
            remote: Question::new(),
            proxy: Question::new(),
            retry: Mutex::new(retry),
            entries,
        });
        if let Some(management) = management {
            let shared = Arc::clone(&shared);
            management.set_commands(move |command| shared.answer(command, &respond));
        }
        Self { shared, responses }
    }

    /// `auth-retry`, as it stands now.
    pub(super) fn retry(&self) -> AuthRetry {
        *lock(&self.shared.retry)
    }
}

impl Shared {
    fn answer(&self, command: &Command, respond: &mpsc::UnboundedSender<String>) -> Option<Answer> {
        let success = |text: &str| Some(Answer::Success(text.to_owned()));
        match command {
            Command::Remote(choice) => Some(self.remote.make("remote", choice)),
            Command::Proxy(choice) => Some(self.proxy.make("proxy", choice)),
            Command::CrResponse(text) => {
                let _ = respond.send(text.clone());
                success("command succeeded")
            }
            Command::AuthRetry(None) => Some(Answer::Success(format!(
                "auth-retry={}",
                match *lock(&self.retry) {
                    AuthRetry::None => "none",
                    AuthRetry::NoInteract => "nointeract",
                    AuthRetry::Interact => "interact",
                }
            ))),
            Command::AuthRetry(Some(word)) => {
                *lock(&self.retry) = match word.as_str() {
                    "none" => AuthRetry::None,
                    "nointeract" => AuthRetry::NoInteract,
                    "interact" => AuthRetry::Interact,
                    _ => return Some(Answer::Error("unknown auth-retry type".to_owned())),
                };
                success("auth-retry parameter changed")
            }
            Command::RemoteEntryCount => Some(Answer::Lines(vec![self.entries.len().to_string()])),
            Command::RemoteEntryGet { from, to } => {
                let from = from.unwrap_or(0);
                let to = to.unwrap_or(self.entries.len()).min(self.entries.len());
                match self.entries.get(from..to) {
                    Some(lines) => Some(Answer::Lines(lines.to_vec())),
                    None => Some(Answer::Error("there is no such entry".to_owned())),
                }
            }
            _ => None,
        }
    }
}

/// The protocol as `>REMOTE:` names it.
fn word(entry: &Entry) -> &'static str {
    match entry.options.remote.protocol {
        Protocol::Udp => "udp",
        Protocol::TcpClient | Protocol::TcpServer => "tcp-client",
    }
}

impl Client {
    /// `management-query-remote`: a program accepts, replaces or skips the entry.
    pub(super) async fn choose(&mut self, index: usize, signals: &mut Signals) -> Result<(), End> {
        let Some(management) = self.management.clone() else { return Ok(()) };
        let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
        let remote = &mut entry.options.remote;
        let (host, port) = (remote.host.clone(), remote.port);
        let shared = Arc::clone(&self.steering.shared);
        let line = format!(">REMOTE:{host},{port},{}", word(entry));
        let choice = shared.remote.ask(&management, line, |_| true, signals).await?;
        match choice {
            RemoteChoice::Accept => Ok(()),
            RemoteChoice::Replace { host, port } => {
                let remote = &mut entry.options.remote;
                remote.host = host;
                remote.port = port.parse().unwrap_or(remote.port);
                entry.addresses.clear();
                Ok(())
            }
            RemoteChoice::Skip(count) => {
                for _ in 1..count.min(1000) {
                    self.remotes.advance(Advance::Remote, 0);
                }
                Err(End { advance: Advance::Remote, pause: false, ..End::retry("init_instance") })
            }
        }
    }

    /// `management-query-proxy`: a program names the proxy for this attempt.
    pub(super) async fn choose_proxy(&mut self, index: usize, signals: &mut Signals) -> Result<(), End> {
        let Some(management) = self.management.clone() else { return Ok(()) };
        let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
        let tcp = entry.options.remote.protocol.is_tcp();
        let word = if tcp { "TCP" } else { "UDP" };
        let line = format!(">PROXY:{},{word},{}", index + 1, entry.options.remote.host);
        let may: fn(&ProxyChoice) -> bool =
            if tcp { |_| true } else { |choice| !matches!(choice, ProxyChoice::Http { .. }) };
        let shared = Arc::clone(&self.steering.shared);
        let choice = shared.proxy.ask(&management, line, may, signals).await?;
        let (http, socks) = entry.proxies.clone();
        let (http, socks) = match choice {
            ProxyChoice::Configured => (http, socks),
            ProxyChoice::Http { host, port, clear_text } => {
                let auth = if clear_text { HttpProxyAuth::Auto } else { HttpProxyAuth::AutoNoClearText };
                let plain = HttpProxy {
                    host: String::new(),
                    port,
                    auth,
                    credentials: None,
                    version: "1.0".to_owned(),
                    agent: None,
                    headers: Vec::new(),
                };
                (Some(HttpProxy { host, port, auth, ..http.unwrap_or(plain) }), None)
            }
            ProxyChoice::Socks { host, port } => {
                let credentials = socks.and_then(|socks| socks.credentials);
                (None, Some(SocksProxy { host, port, credentials }))
            }
        };
        // Another proxy is another first hop.
        entry.addresses.clear();
        entry.options.http_proxy = http;
        entry.options.socks_proxy = socks;
        Ok(())
    }
}
