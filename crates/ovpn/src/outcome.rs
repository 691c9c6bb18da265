//! How a run of a mode ended, and the exit codes that follow.

use crate::signal::{Kind, Signal};

/// The end of a mode's run.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Exit with this code.
    Exit(u8),
    /// Read the configuration again and start over.
    Reload,
}

impl Outcome {
    /// What a signal means for the whole process; `None` where it only restarts a connection.
    pub(crate) fn of(signal: &Signal) -> Option<Self> {
        match signal.kind {
            Kind::Int | Kind::Term => Some(Self::Exit(0)),
            Kind::Hup => Some(Self::Reload),
            Kind::Usr1 | Kind::Usr2 => None,
        }
    }
}

/// Something that ends the process with exit code 1: the sentence says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fatal(pub(crate) String);

impl Fatal {
    /// From any error, with what was being done.
    pub(crate) fn new(doing: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {error}"))
    }
}
