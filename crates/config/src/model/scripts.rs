//! Commands and the environment they get.

use crate::source::Span;

/// A command line, split by the configuration language's own rules; run without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Where it stands.
    pub span: Span,
}

/// `script-security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScriptSecurity {
    /// Nothing is run.
    Nothing,
    /// Only the system's own tools.
    #[default]
    BuiltIn,
    /// Scripts too.
    Scripts,
    /// Scripts too, and passwords may be put into their environment.
    Passwords,
}

/// Commands and the environment they get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scripts {
    /// What may be run.
    pub security: ScriptSecurity,
    /// After the device is up.
    pub up: Option<Command>,
    /// After the device is down.
    pub down: Option<Command>,
    /// Run `down` before the device is closed.
    pub down_pre: bool,
    /// Run `up` only once the peer is connected.
    pub up_delay: bool,
    /// Run both on restarts as well.
    pub up_restart: bool,
    /// After routes are set.
    pub route_up: Option<Command>,
    /// Before routes are removed.
    pub route_pre_down: Option<Command>,
    /// When the peer's address is known or changes.
    pub ipchange: Option<Command>,
    /// `setenv`, and `setenv-safe` with its prefix, in order.
    pub environment: Vec<(String, String)>,
    /// `setenv UV_*`/`IV_*`: told to the server, in order.
    pub peer_info: Vec<(String, String)>,
    /// `echo` texts, in order.
    pub echo: Vec<String>,
}
