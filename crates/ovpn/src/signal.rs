//! Signals, from the system and from inside: what is to happen next with a connection or the process.
//!
//! Stock's priorities hold when several wait: INT, TERM, HUP, USR1, USR2.

use std::borrow::Cow;
use std::fmt;
use std::io;

use tokio::signal::unix;
use tokio::sync::mpsc;

/// The five signals OpenVPN knows, least urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Print statistics.
    Usr2,
    /// Restart the connection; configuration and, where asked for, keys and device stay.
    Usr1,
    /// Restart everything; the configuration is read again.
    Hup,
    /// Exit.
    Term,
    /// Exit.
    Int,
}

impl Kind {
    /// The name as the log has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Usr2 => "SIGUSR2",
            Self::Usr1 => "SIGUSR1",
            Self::Hup => "SIGHUP",
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
        }
    }

    /// Ends the process.
    pub(crate) const fn is_exit(self) -> bool {
        matches!(self, Self::Term | Self::Int)
    }
}

/// A signal with its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signal {
    /// Which.
    pub(crate) kind: Kind,
    /// `None`: the system sent it. Otherwise the reason, e.g. `ping-restart`.
    pub(crate) soft: Option<Cow<'static, str>>,
}

impl Signal {
    /// A signal that the system sent.
    pub(crate) const fn hard(kind: Kind) -> Self {
        Self { kind, soft: None }
    }

    /// A signal of our own.
    pub(crate) const fn soft(kind: Kind, reason: &'static str) -> Self {
        Self { kind, soft: Some(Cow::Borrowed(reason)) }
    }

    /// The word that scripts (`signal`) and the management interface's states get.
    pub(crate) fn word(&self) -> String {
        match &self.soft {
            Some(reason) => reason.to_string(),
            None => self.kind.name().to_ascii_lowercase(),
        }
    }

    /// Applies `remap-usr1`.
    #[must_use]
    pub(crate) fn remapped(self, usr1: Option<Kind>) -> Self {
        match (self.kind, usr1) {
            (Kind::Usr1, Some(kind)) => Self { kind, ..self },
            _ => self,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, reason) = match &self.soft {
            Some(reason) => ("soft", reason.as_ref()),
            None => ("hard", ""),
        };
        let what = if self.kind.is_exit() { "exiting" } else { "restarting" };
        write!(f, "{}[{source},{reason}] received, process {what}", self.kind.name())
    }
}

/// The system's signals, most urgent first.
pub(crate) struct Signals {
    int: unix::Signal,
    term: unix::Signal,
    hup: unix::Signal,
    usr1: unix::Signal,
    usr2: unix::Signal,
    thrown: mpsc::UnboundedReceiver<Signal>,
    thrower: mpsc::UnboundedSender<Signal>,
}

impl Signals {
    /// Takes over the five signals.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub(crate) fn new() -> io::Result<Self> {
        let (thrower, thrown) = mpsc::unbounded_channel();
        Ok(Self {
            thrown,
            thrower,
            int: unix::signal(unix::SignalKind::interrupt())?,
            term: unix::signal(unix::SignalKind::terminate())?,
            hup: unix::signal(unix::SignalKind::hangup())?,
            usr1: unix::signal(unix::SignalKind::user_defined1())?,
            usr2: unix::signal(unix::SignalKind::user_defined2())?,
        })
    }

    /// Takes signals from inside the process (the management interface).
    pub(crate) fn thrower(&self) -> mpsc::UnboundedSender<Signal> {
        self.thrower.clone()
    }

    /// The next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        let kind = tokio::select! {
            biased;
            _ = self.int.recv() => Kind::Int,
            _ = self.term.recv() => Kind::Term,
            _ = self.hup.recv() => Kind::Hup,
            _ = self.usr1.recv() => Kind::Usr1,
            _ = self.usr2.recv() => Kind::Usr2,
            Some(signal) = self.thrown.recv() => return signal,
        };
        Signal::hard(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_form_is_stock() {
        assert_eq!(
            Signal::soft(Kind::Usr1, "ping-restart").to_string(),
            "SIGUSR1[soft,ping-restart] received, process restarting"
        );
        assert_eq!(Signal::hard(Kind::Term).to_string(), "SIGTERM[hard,] received, process exiting");
    }

    #[test]
    fn remapping_touches_only_usr1() {
        assert_eq!(Signal::hard(Kind::Usr1).remapped(Some(Kind::Hup)).kind, Kind::Hup);
        assert_eq!(Signal::hard(Kind::Term).remapped(Some(Kind::Hup)).kind, Kind::Term);
        assert_eq!(Signal::hard(Kind::Usr1).remapped(None).kind, Kind::Usr1);
        assert!(Kind::Int > Kind::Term && Kind::Term > Kind::Hup && Kind::Hup > Kind::Usr1);
    }
}
