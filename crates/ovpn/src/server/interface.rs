//! The management interface of a server: what programs ask about clients, and what they decide.
//!
//! ```text
//!   login ─▶ Judges::ask ─▶ >CLIENT:CONNECT,cid,kid … ENV ─▶ program
//!   login ◀── Verdict ◀── client-auth | client-deny | client-pending-auth cid kid
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ovpn_config::model::{ClientOptions, Ifconfig};
use ovpn_config::{Config, NoFiles, load_client_options};
use tokio::sync::mpsc;

use super::registry::Order;
use super::routing_table::ClientId;
use super::shared::{Shared, local_time};
use super::status::StatusVersion;
use crate::environment::Environment;
use crate::management::{Answer, Command, Handle, TunnelState};

/// What a program decided about a login.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Let it in, with these options.
    Accept(Box<ClientOptions>),
    /// Refuse it: for the log, and for the client.
    Deny {
        /// For the log.
        log: String,
        /// For the client; may be empty.
        reason: String,
    },
    /// It goes on out of band.
    Pending {
        /// For so many seconds.
        timeout: u32,
        /// What the client's user is shown (`WEB_AUTH:…`, `CR_TEXT:…`).
        extra: String,
    },
}

/// Logins that wait for a program.
#[derive(Debug, Default)]
pub(crate) struct Judges {
    cases: Mutex<HashMap<ClientId, Case>>,
}

#[derive(Debug)]
struct Case {
    /// Counts the logins of one client, from 1.
    key: u64,
    verdicts: mpsc::UnboundedSender<Verdict>,
}

/// A login that waits; forgotten when this is dropped.
pub(crate) struct Waiting<'a> {
    judges: &'a Judges,
    client: ClientId,
    key: u64,
    /// What was decided; several times where the login is first pending.
    pub(crate) verdicts: mpsc::UnboundedReceiver<Verdict>,
}

impl Judges {
    /// Opens a case; a former one of the same client is forgotten.
    pub(crate) fn open(&self, client: ClientId, key: u64) -> Waiting<'_> {
        let (sender, verdicts) = mpsc::unbounded_channel();
        self.cases().insert(client, Case { key, verdicts: sender });
        Waiting { judges: self, client, key, verdicts }
    }

    fn decide(&self, client: ClientId, key: u64, verdict: Verdict) -> bool {
        let cases = self.cases();
        let case = cases.get(&client).filter(|case| case.key == key);
        case.is_some_and(|case| case.verdicts.send(verdict).is_ok())
    }

    fn cases(&self) -> MutexGuard<'_, HashMap<ClientId, Case>> {
        self.cases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut cases = self.judges.cases();
        if cases.get(&self.client).is_some_and(|case| case.key == self.key) {
            cases.remove(&self.client);
        }
    }
}

/// A client's variables as a `>CLIENT:` group shows them: the number of clients first, then `more`, then all others.
pub(crate) fn variables(
    shared: &Shared,
    environment: &Environment,
    more: &[(&str, &str)],
) -> Vec<(String, String)> {
    let clients = shared.registry().clients().filter(|(_, client)| client.facts.addresses.is_some()).count();
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut variables = vec![("n_clients".to_owned(), clients.to_string())];
    variables.extend(more.iter().copied().map(own));
    let others = environment.iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    variables.extend(others.map(own));
    variables
}

/// What the interface may look at and do, from here on.
pub(crate) fn serve(management: &Handle, shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    let of = |weak: &Weak<Shared>| weak.upgrade();
    let at = Weak::clone(&weak);
    management.set_status(move |version| {
        let Some(shared) = of(&at) else { return Vec::new() };
        let number = u8::try_from(version).unwrap_or(1);
        let version = StatusVersion::from_number(number).unwrap_or(StatusVersion::V1);
        shared.status().render(version, local_time).lines().map(str::to_owned).collect()
    });
    let at = Weak::clone(&weak);
    management.set_totals(move || {
        let Some(shared) = of(&at) else { return (0, 0, 0) };
        let status = shared.status();
        let named = status.clients.iter().filter(|client| client.v4.is_some() || client.v6.is_some()).count();
        let received = status.clients.iter().map(|client| client.bytes_received).sum();
        let sent = status.clients.iter().map(|client| client.bytes_sent).sum();
        (named as u64, received, sent)
    });
    let at = Weak::clone(&weak);
    management.set_client_counts(move || {
        let Some(shared) = of(&at) else { return Vec::new() };
        let rows = shared.status().clients;
        rows.iter().map(|row| (row.client_id, row.bytes_received, row.bytes_sent)).collect()
    });
    management.set_commands(move |command| answer(&*of(&weak)?, command));
}

/// The tunnel's own addresses and the address it listens on, as states show them.
pub(crate) fn tell(management: Option<&Handle>, config: &Config, state: TunnelState, detail: &str) {
    let Some(management) = management else { return };
    let v4 = config.device.ifconfig.map(|ifconfig| match ifconfig {
        Ifconfig::Subnet { local, .. } | Ifconfig::PointToPoint { local, .. } => local,
    });
    let v6 = config.device.ifconfig_ipv6.map(|ifconfig| ifconfig.local.addr());
    let addresses = match state {
        TunnelState::AssignIp | TunnelState::AddRoutes | TunnelState::Connected => (v4, v6),
        _ => (None, None),
    };
    let local = config.locals.first().filter(|_| state == TunnelState::Connected);
    let local = local
        .and_then(|local| Some(SocketAddr::new(local.host.as_ref()?.parse().ok()?, local.port)))
        .filter(|local| !local.ip().is_unspecified());
    management.tell(state, detail, addresses, (None, local));
}

/// What a server answers; `None` for commands that are not only a server's.
fn answer(shared: &Shared, command: &Command) -> Option<Answer> {
    let done = |name: &str, done: bool| {
        Some(if done {
            Answer::Success(format!("{name} command succeeded"))
        } else {
            Answer::Error(format!("{name} command failed"))
        })
    };
    match command {
        Command::Kill(whom) => Some(kill(shared, whom)),
        Command::ClientAuth { cid, kid, options } => {
            let (options, diagnostics, sources) =
                load_client_options("client-auth", options.join("\n").as_bytes(), &NoFiles);
            for diagnostic in diagnostics {
                tracing::warn!("{}", diagnostic.one_line(&sources));
            }
            done("client-auth", shared.judges.decide(*cid, *kid, Verdict::Accept(Box::new(options))))
        }
        Command::ClientAuthNt { cid, kid } => {
            done("client-auth-nt", shared.judges.decide(*cid, *kid, Verdict::Accept(Box::default())))
        }
        Command::ClientDeny { cid, kid, reason, client_reason } => {
            let verdict =
                Verdict::Deny { log: reason.clone(), reason: client_reason.clone().unwrap_or_default() };
            done("client-deny", shared.judges.decide(*cid, *kid, verdict))
        }
        Command::ClientPendingAuth { cid, kid, extra, timeout } => {
            let verdict = Verdict::Pending { timeout: *timeout, extra: extra.clone() };
            let decided = shared.judges.decide(*cid, *kid, verdict);
            if decided {
                return done("client-pending-auth", true);
            }
            Some(Answer::Error(
                "client-pending-auth command failed. Extra parameter might be too long".to_owned(),
            ))
        }
        Command::ClientKill { cid, message } => {
            let message = message.clone().unwrap_or_else(|| "RESTART".to_owned());
            let registry = shared.registry();
            let client = registry.client(*cid);
            let told = client.is_some_and(|client| client.orders().send(Order::Leave(message)).is_ok());
            done("client-kill", told)
        }
        Command::PushUpdate { cid, options } => Some(push_update(shared, *cid, options)),
        _ => None,
    }
}

/// `push-update-broad`, `push-update-cid`: clients that do not know PUSH_UPDATE are left as they are.
fn push_update(shared: &Shared, only: Option<ClientId>, options: &str) -> Answer {
    let options: Vec<String> = options.split(',').map(|option| option.trim().to_owned()).collect();
    let name = if only.is_some() { "push-update-cid" } else { "push-update" };
    if options.iter().any(String::is_empty) {
        return Answer::Error(format!("{name} command failed: an option is empty"));
    }
    let registry = shared.registry();
    let wanted = registry.clients().filter(|(id, _)| only.is_none_or(|only| only == *id));
    let told = wanted.filter(|(_, client)| {
        client.facts.takes_updates && client.orders().send(Order::Update(options.clone())).is_ok()
    });
    match told.count() {
        0 => Answer::Errors(vec!["no client updated".to_owned(), "push-update command failed".to_owned()]),
        count => Answer::Successes(vec![
            format!("{count} client(s) updated"),
            "push-update command succeeded".to_owned(),
        ]),
    }
}

/// `kill CN`, `kill IP:PORT`, `kill PROTO:IP:PORT`.
fn kill(shared: &Shared, whom: &str) -> Answer {
    let registry = shared.registry();
    let (protocol, text) = match whom.split_once(':') {
        Some((protocol @ ("udp" | "tcp"), address)) => (Some(protocol), address),
        _ => (None, whom),
    };
    let address = text.parse::<SocketAddr>().ok();
    let mut killed = 0;
    for (_, client) in registry.clients() {
        let remote = SocketAddr::new(client.remote.ip().to_canonical(), client.remote.port());
        let hit = match address {
            Some(address) => remote == address && protocol.is_none_or(|p| (p == "tcp") == client.tcp),
            None => client.facts.common_name.as_deref() == Some(whom),
        };
        if hit {
            killed += 1;
            let _ = client.orders().send(Order::Close("killed by the management interface"));
        }
    }
    match (killed, address) {
        (0, Some(_)) => Answer::Error(format!("client at address {whom} not found")),
        (0, None) => Answer::Error(format!("common name '{whom}' not found")),
        (n, Some(_)) => Answer::Success(format!("{n} client(s) at address {whom} killed")),
        (n, None) => Answer::Success(format!("common name '{whom}' found, {n} client(s) killed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_login_that_waits_is_decided() {
        let judges = Judges::default();
        let mut first = judges.open(0, 1);
        assert!(!judges.decide(0, 2, Verdict::Accept(Box::default())), "another login");
        assert!(!judges.decide(1, 1, Verdict::Accept(Box::default())), "another client");
        let pending = Verdict::Pending { timeout: 9, extra: "WEB_AUTH::https://x/".to_owned() };
        assert!(judges.decide(0, 1, pending));
        assert!(matches!(first.verdicts.try_recv(), Ok(Verdict::Pending { timeout: 9, .. })));
        let second = judges.open(0, 2);
        drop(first);
        assert!(judges.decide(0, 2, Verdict::Accept(Box::default())), "the newer case stays");
        drop(second);
        assert!(!judges.decide(0, 2, Verdict::Accept(Box::default())));
    }
}
