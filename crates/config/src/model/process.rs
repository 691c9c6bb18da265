//! Logging, privileges, daemon.

use std::net::SocketAddr;
use std::time::Duration;

/// Where log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// Standard output, as stock.
    #[default]
    Stdout,
    /// Standard error (`errors-to-stderr` sends only fatal ones there in stock).
    Stderr,
    /// A file, emptied at start.
    File(String),
    /// A file, appended to.
    Append(String),
    /// The system log, under this name.
    Syslog(Option<String>),
    /// systemd's journal, in its own protocol.
    Journald,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// As stock's, for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// `status-socket`: where the running tunnel tells what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StatusSocket {
    /// `/run/ovpn/NAME.sock`, after the configuration's name, where that folder can be written to.
    #[default]
    Default,
    /// This path.
    Path(String),
    /// Nowhere.
    Off,
}

/// `metrics`: where counters are served for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// A loopback address and port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(String),
}

/// `daemon`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Name in the system log.
    pub name: Option<String>,
}

/// `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusFile {
    /// Path.
    pub path: String,
    /// How often it is written.
    pub interval: Duration,
    /// Format, 1 to 3.
    pub version: u8,
}

/// `remap-usr1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemapUsr1 {
    /// Read everything anew.
    Hup,
    /// Exit.
    Term,
}

/// Logging, privileges, daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Go to the background.
    pub daemon: Option<Daemon>,
    /// Where log lines go.
    pub log: Log,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Verbosity, 0 to 11 (1 by default).
    pub verb: u8,
    /// At most this many equal lines in a row; 0: no limit.
    pub mute: u32,
    /// No time before log lines.
    pub suppress_timestamps: bool,
    /// Seconds and microseconds, flags, then text.
    pub machine_readable_output: bool,
    /// Fatal errors go to standard error.
    pub errors_to_stderr: bool,
    /// Status file.
    pub status: Option<StatusFile>,
    /// Format of the status text also where no file is written, 1 to 3.
    pub status_version: u8,
    /// Where the running tunnel tells what it does.
    pub status_socket: StatusSocket,
    /// Where counters are served.
    pub metrics: Option<MetricsAddress>,
    /// File to hold the process id.
    pub pid_file: Option<String>,
    /// User to become after start.
    pub user: Option<String>,
    /// Group to become after start.
    pub group: Option<String>,
    /// Directory to lock into after start.
    pub chroot: Option<String>,
    /// Working directory.
    pub directory: Option<String>,
    /// Scheduling priority change.
    pub nice: Option<i32>,
    /// Lock memory.
    pub mlock: bool,
    /// What SIGUSR1 becomes.
    pub remap_usr1: Option<RemapUsr1>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            daemon: None,
            log: Log::Stdout,
            log_format: LogFormat::Human,
            verb: 1,
            mute: 0,
            suppress_timestamps: false,
            machine_readable_output: false,
            errors_to_stderr: false,
            status: None,
            status_version: 1,
            status_socket: StatusSocket::Default,
            metrics: None,
            pid_file: None,
            user: None,
            group: None,
            chroot: None,
            directory: None,
            nice: None,
            mlock: false,
            remap_usr1: None,
        }
    }
}
