//! How a connection ended, and where to turn next.

use std::time::Duration;

use super::super::remotes::Advance;
use crate::signal::{Kind, Signal};

/// How a connection ended, and where to turn next.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) signal: Signal,
    pub(crate) advance: Advance,
    /// What the server asked for at least.
    pub(crate) backoff: Duration,
    /// Pause before the next attempt.
    pub(crate) pause: bool,
    /// The connection had completed its initialisation.
    pub(crate) completed: bool,
}

impl End {
    /// Try the next address after a pause.
    pub(crate) fn retry(reason: &'static str) -> Self {
        Self::from_signal(Signal::soft(Kind::Usr1, reason))
    }

    /// What a signal asks for.
    pub(crate) fn from_signal(signal: Signal) -> Self {
        Self { signal, advance: Advance::Address, backoff: Duration::ZERO, pause: true, completed: false }
    }

    pub(super) fn exit(reason: &'static str) -> Self {
        Self::from_signal(Signal::soft(Kind::Term, reason))
    }

    pub(super) fn stay(self) -> Self {
        Self { advance: Advance::Stay, ..self }
    }

    pub(super) fn stay_if(self, stay: bool) -> Self {
        if stay { self.stay() } else { self }
    }
}
