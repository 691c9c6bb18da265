//! What a program at the management interface steers: the choice of a remote, answers to questions, `auth-retry`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ovpn_config::model::{AuthRetry, Protocol};
use tokio::sync::{Notify, mpsc};

use super::connection::End;
use super::remotes::Advance;
use super::{Client, Entry, next_but_usr2};
use crate::management::{Answer, Command, Handle, RemoteChoice};
use crate::signal::Signals;

/// The client's end.
pub(super) struct Steering {
    shared: Arc<Shared>,
    /// Answers for the server, base64 (`cr-response`).
    pub(super) responses: mpsc::UnboundedReceiver<String>,
}

struct Shared {
    choice: Mutex<Choice>,
    chosen: Notify,
    retry: Mutex<AuthRetry>,
    entries: Vec<String>,
}

enum Choice {
    NotAsked,
    Asked,
    Made(RemoteChoice),
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
            choice: Mutex::new(Choice::NotAsked),
            chosen: Notify::new(),
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
            Command::Remote(choice) => {
                let mut place = lock(&self.choice);
                if !matches!(*place, Choice::Asked) {
                    let text = "The 'remote' command is not supported by the current daemon mode";
                    return Some(Answer::Error(text.to_owned()));
                }
                *place = Choice::Made(choice.clone());
                self.chosen.notify_one();
                success("remote command succeeded")
            }
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
        *lock(&shared.choice) = Choice::Asked;
        management.pend(Some(format!(">REMOTE:{host},{port},{}", word(entry))));
        let choice = loop {
            tokio::select! {
                () = shared.chosen.notified() => {}
                signal = next_but_usr2(signals) => {
                    *lock(&shared.choice) = Choice::NotAsked;
                    management.pend(None);
                    return Err(End::from_signal(signal));
                }
            }
            if let Choice::Made(choice) = std::mem::replace(&mut *lock(&shared.choice), Choice::NotAsked) {
                break choice;
            }
        };
        management.pend(None);
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
}
