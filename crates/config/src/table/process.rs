//! Process, logging, privileges.

use super::{Contexts, Dco, OptionSpec, Roles, Tier, option};

/// Process, logging, privileges.
#[rustfmt::skip]
pub(super) const OPTIONS: &[OptionSpec] = &[
    option("daemon", "[NAME]", (0, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Run in the background"),
    option("syslog", "[NAME]", (0, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Log to the system log"),
    option("log", "FILE", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Log to this file, emptied first"),
    option("log-append", "FILE", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Log to this file, appended to"),
    option("log-to", "stdout|stderr|journald", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Where log lines go if not to a file or the system log (ovpn only)"),
    option("log-format", "human|json", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Log lines for people, or one JSON object a line (ovpn only)"),
    option("verb", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "How much to log, 0 to 11").also(Contexts::PUSHED),
    option("mute", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "At most this many equal lines in a row").also(Contexts::PUSHED),
    option("suppress-timestamps", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T2, "No time before log lines"),
    option("machine-readable-output", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T2, "Log lines for programs"),
    option("errors-to-stderr", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T3, "Fatal errors go to standard error").also(Contexts::PUSHED),
    option("status", "FILE [SECONDS]", (1, 2), Roles::ANY, Contexts::FILE, Tier::T1, "Write a status file, every so many seconds"),
    option("status-version", "1|2|3", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Format of the status file"),
    option("status-socket", "PATH|none", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Where `ovpn status` asks; /run/ovpn/NAME.sock if not given (ovpn only)"),
    option("metrics", "ADDR:PORT|unix:PATH", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Serve Prometheus metrics on a loopback address or a Unix socket (ovpn only)"),
    option("writepid", "FILE", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Write the process id to this file"),
    option("user", "NAME", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "User to become after start"),
    option("group", "NAME", (1, 1), Roles::ANY, Contexts::FILE, Tier::T1, "Group to become after start"),
    option("chroot", "DIR", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Directory to lock into after start"),
    option("setcon", "CTX", (1, 1), Roles::ANY, Contexts::FILE, Tier::T4, "SELinux context to enter").dco(Dco::NoEffect).instead("set it in the service's unit"),
    option("cd", "DIR", (1, 1), Roles::ANY, Contexts::FILE, Tier::T2, "Working directory"),
    option("nice", "N", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Change of the scheduling priority"),
    option("mlock", "", (0, 0), Roles::ANY, Contexts::FILE, Tier::T3, "Keep all memory out of swap"),
    option("remap-usr1", "SIGHUP|SIGTERM", (1, 1), Roles::ANY, Contexts::FILE, Tier::T3, "Treat SIGUSR1 as another signal"),
    option("gremlin", "MASK", (1, 1), Roles::ANY, Contexts::FILE, Tier::T4, "Stock's fault injection").dco(Dco::Refused).instead("remove it"),
    option("memstats", "FILE", (1, 1), Roles::ANY, Contexts::FILE, Tier::T4, "Live statistics in a file").dco(Dco::NoEffect).removed("2.7").instead("use `ovpn status`"),
];
