//! The log: stock OpenVPN's line format, so that whatever reads its log can read ours.
//!
//! ```text
//! 2026-11-22 00:25:03 us=41234 client1/192.0.2.2:59167 Peer Connection Initiated with …
//! └ default ────────┘ └ verb≥4┘ └ span "peer" ───────┘ └ message
//! ```
//!
//! `suppress-timestamps` and syslog leave the first two parts out; `machine-readable-output` replaces them by
//! `SECONDS.MICROSECONDS FLAGS`; `log-format json` makes each line an object. Messages go to standard output or error,
//! to the file of `log`/`log-append`, to syslog, or to systemd's journal. A standard output that leads to the journal
//! gets each line's priority before it (`<4>…`) and no time stamps: the journal has its own.
//! A line that cannot be written is lost: logging never stops a tunnel.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ovpn_sys::local_time::LocalTime;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

mod journal;

static LOGGER: OnceLock<Arc<Logger>> = OnceLock::new();
static VERB: AtomicU8 = AtomicU8::new(1);
static MUTE: AtomicU32 = AtomicU32::new(0);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Target {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// systemd's journal, in its own protocol, under this program name.
    Journal(String),
    /// A file, emptied first unless `append`.
    File {
        /// Its path.
        path: std::path::PathBuf,
        /// Keep what is there (`log-append`).
        append: bool,
    },
    /// The system log, under this program name.
    Syslog(String),
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Style {
    /// No time stamp (`suppress-timestamps`).
    pub(crate) suppress_timestamps: bool,
    /// `SECONDS.MICROSECONDS FLAGS ` instead of the time stamp.
    pub(crate) machine_readable: bool,
    /// One JSON object a line (`log-format json`).
    pub(crate) json: bool,
    /// Errors on standard error where the rest goes to standard output (`errors-to-stderr`).
    pub(crate) errors_to_stderr: bool,
}

/// One line that was logged, for readers inside the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// When, seconds since 1970.
    pub(crate) time: u64,
    /// Its level.
    pub(crate) level: Level,
    /// The text with its peer prefix, without time stamp.
    pub(crate) text: String,
}

/// Starts logging to standard output. Called once, before anything is logged.
pub(crate) fn start() {
    let logger = Arc::new(Logger {
        output: Mutex::new(Output {
            sink: Sink::Stdout { journal: journal::is_reader_of(io::stdout()) },
            style: Style::default(),
            muted: Muted::default(),
        }),
        listeners: Mutex::new(Vec::new()),
    });
    if LOGGER.set(logger.clone()).is_ok() {
        let _ = tracing::subscriber::set_global_default(
            tracing_subscriber::registry().with(StockLayer { logger }),
        );
    }
}

/// Redirects the log.
///
/// # Errors
/// When the file cannot be opened or there is no system log.
pub(crate) fn set_output(target: &Target, style: Style) -> io::Result<()> {
    let sink = match target {
        Target::Stdout => Sink::Stdout { journal: journal::is_reader_of(io::stdout()) },
        Target::Stderr => Sink::Stderr { journal: journal::is_reader_of(io::stderr()) },
        Target::Journal(name) => Sink::Journal { socket: journal::connect()?, name: name.clone() },
        Target::File { path, append } => Sink::File(open_log(path, *append)?),
        Target::Syslog(name) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect("/dev/log")?;
            socket.set_nonblocking(true)?;
            Sink::Syslog { socket, name: name.clone() }
        }
    };
    if let Some(logger) = LOGGER.get() {
        let mut output = lock(&logger.output);
        output.sink = sink;
        output.style = style;
    }
    Ok(())
}

/// Sets `verb` (0–11) from now on.
pub(crate) fn set_verb(verb: u8) {
    VERB.store(verb, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// The current `verb`.
pub(crate) fn verb() -> u8 {
    VERB.load(Ordering::Relaxed)
}

/// Sets `mute`: at most this many lines in a row from one place of the program; 0 means no limit.
pub(crate) fn set_mute(lines: u32) {
    MUTE.store(lines, Ordering::Relaxed);
}

/// The current `mute`; 0 means no limit.
pub(crate) fn mute() -> u32 {
    MUTE.load(Ordering::Relaxed)
}

/// Calls `listener` with every line from now on, until it returns `false`. It must neither block nor log.
pub(crate) fn listen(listener: impl FnMut(&Line) -> bool + Send + 'static) {
    if let Some(logger) = LOGGER.get() {
        lock(&logger.listeners).push(Box::new(listener));
    }
}

type Listener = Box<dyn FnMut(&Line) -> bool + Send>;

struct Logger {
    output: Mutex<Output>,
    listeners: Mutex<Vec<Listener>>,
}

struct Output {
    sink: Sink,
    style: Style,
    muted: Muted,
}

enum Sink {
    Stdout { journal: bool },
    Stderr { journal: bool },
    Journal { socket: UnixDatagram, name: String },
    File(File),
    Syslog { socket: UnixDatagram, name: String },
}

/// What `mute` has seen.
#[derive(Default)]
struct Muted {
    place: Option<tracing::callsite::Identifier>,
    in_a_row: u32,
}

impl Muted {
    /// True where the line is to be written; `note` receives the sentence about lines left out.
    fn admit(&mut self, place: tracing::callsite::Identifier, limit: u32, note: &mut Option<String>) -> bool {
        if self.place.as_ref() == Some(&place) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            let suppressed = self.in_a_row.saturating_sub(limit);
            if limit > 0 && suppressed > 0 {
                *note = Some(format!(
                    "{suppressed} variation(s) on previous {limit} message(s) suppressed by --mute"
                ));
            }
            self.place = Some(place);
            self.in_a_row = 1;
        }
        limit == 0 || self.in_a_row <= limit
    }
}

fn open_log(path: &Path, append: bool) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).append(append).truncate(!append).open(path)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most detailed level that a `verb` shows: 0 only errors, 1–3 what a user sees, 4–6 decisions, 7 and up packets.
const fn level_of_verb(verb: u8) -> LevelFilter {
    match verb {
        0 => LevelFilter::ERROR,
        1..=3 => LevelFilter::INFO,
        4..=6 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

struct StockLayer {
    logger: Arc<Logger>,
}

/// The prefix that a span named `peer` gives to the lines inside it.
struct Prefix(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for StockLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_span() || *metadata.level() <= level_of_verb(verb()) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(level_of_verb(verb()))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && span.name() == "peer"
        {
            let mut text = Text::default();
            attributes.record(&mut text);
            span.extensions_mut().replace(Prefix(text.message));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && span.name() == "peer"
        {
            let mut text = Text::default();
            values.record(&mut text);
            span.extensions_mut().replace(Prefix(text.message));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut peer = String::new();
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(Prefix(prefix)) = span.extensions().get::<Prefix>()
                    && !prefix.is_empty()
                {
                    let _ = write!(peer, "{prefix} ");
                }
            }
        }
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        self.logger.write(SystemTime::now(), *metadata.level(), metadata.callsite(), &peer, text.finish());
    }
}

impl Logger {
    /// `peer` is the prefix of a peer's lines, with a blank behind it.
    fn write(
        &self,
        now: SystemTime,
        level: Level,
        place: tracing::callsite::Identifier,
        peer: &str,
        message: String,
    ) {
        let time = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        {
            let mut output = lock(&self.output);
            let mut note = None;
            let admitted = output.muted.admit(place, MUTE.load(Ordering::Relaxed), &mut note);
            if let Some(note) = note {
                output.put(now, Level::INFO, "", &note);
            }
            if admitted {
                output.put(now, level, peer, &message);
            }
        }
        let line = Line { time, level, text: format!("{peer}{message}") };
        lock(&self.listeners).retain_mut(|listener| listener(&line));
    }
}

impl Output {
    fn put(&mut self, now: SystemTime, level: Level, peer: &str, message: &str) {
        let style = match self.sink {
            Sink::Syslog { .. } | Sink::Journal { .. } => {
                Style { suppress_timestamps: true, machine_readable: false, ..self.style }
            }
            Sink::Stdout { journal: true } | Sink::Stderr { journal: true } => {
                Style { suppress_timestamps: true, ..self.style }
            }
            _ => self.style,
        };
        let line = if style.json {
            render_json(now, level, peer, message)
        } else {
            render(now, level, &format!("{peer}{message}"), style, verb())
        };
        let severity = severity(level);
        match &mut self.sink {
            Sink::Stdout { journal: false } if style.errors_to_stderr && level == Level::ERROR => {
                let _ = io::stderr().lock().write_all(line.as_bytes());
            }
            Sink::Stdout { journal } => {
                let mut out = io::stdout().lock();
                let _ =
                    if *journal { write!(out, "<{severity}>{line}") } else { out.write_all(line.as_bytes()) };
                let _ = out.flush();
            }
            Sink::Stderr { journal } => {
                // One write for each line: others may write there as well.
                let line = if *journal { format!("<{severity}>{line}") } else { line };
                let _ = io::stderr().lock().write_all(line.as_bytes());
            }
            Sink::File(file) => {
                let _ = file.write_all(line.as_bytes());
            }
            Sink::Syslog { socket, name } => {
                // Facility "daemon" (3), severity after RFC 5424.
                let packet =
                    format!("<{}>{name}[{}]: {}", (3 << 3) | severity, std::process::id(), line.trim_end());
                let _ = socket.send(packet.as_bytes());
            }
            Sink::Journal { socket, name } => {
                let _ = socket.send(&journal::entry(name, severity, peer.trim_end(), line.trim_end()));
            }
        }
    }
}

/// Severity after RFC 5424.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 5,
        _ => 7,
    }
}

/// `{"time":"2026-11-22T00:25:03.041234Z","level":"info","peer":"client1/192.0.2.2:59167","message":"…"}`
fn render_json(now: SystemTime, level: Level, peer: &str, message: &str) -> String {
    #[derive(Serialize)]
    struct JsonLine<'a> {
        time: String,
        level: String,
        #[serde(skip_serializing_if = "str::is_empty")]
        peer: &'a str,
        message: &'a str,
    }
    let line = JsonLine {
        time: utc(now),
        level: level.as_str().to_ascii_lowercase(),
        peer: peer.trim_end(),
        message,
    };
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

/// RFC 3339 with microseconds, in UTC.
fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (day, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = crate::pki::date(day);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

fn render(now: SystemTime, level: Level, text: &str, style: Style, verb: u8) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = String::with_capacity(text.len() + 40);
    if style.machine_readable {
        let flags = match level {
            Level::ERROR => 0x20,
            Level::WARN => 0x40,
            Level::INFO => 0x01,
            _ => 0x80,
        };
        let _ = write!(line, "{}.{:06} {flags:x} ", since.as_secs(), since.subsec_micros());
    } else if !style.suppress_timestamps {
        let _ = write!(line, "{} ", LocalTime::from_system(now));
        if verb >= 4 {
            let _ = write!(line, "us={} ", since.subsec_micros());
        }
    }
    // A peer must not be able to forge lines, whatever text of its own is logged.
    line.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
    line.push('\n');
    line
}

/// Collects an event's message and appends its fields as `name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(mut self) -> String {
        if !self.fields.is_empty() {
            let _ = write!(self.message, " [{}]", self.fields.trim_end());
        }
        self.message
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "message" | "name") {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, "{}={value:?} ", field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if matches!(field.name(), "message" | "name") {
            self.message.push_str(value);
        } else {
            let _ = write!(self.fields, "{}={value} ", field.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at() -> SystemTime {
        UNIX_EPOCH + Duration::new(1_795_307_103, 41_234_000)
    }

    #[test]
    fn lines_have_the_stock_shape() {
        let style = Style::default();
        let line = render(at(), Level::INFO, "Initialization Sequence Completed", style, 3);
        assert_eq!(line.len(), 20 + "Initialization Sequence Completed\n".len());
        assert_eq!(&line[4..5], "-");
        assert!(line.ends_with(" Initialization Sequence Completed\n"));
        let line = render(at(), Level::INFO, "x", style, 4);
        assert!(line.ends_with(" us=41234 x\n"), "{line}");
        let style = Style { suppress_timestamps: true, ..style };
        assert_eq!(render(at(), Level::INFO, "x", style, 4), "x\n");
        let style = Style { machine_readable: true, ..style };
        assert_eq!(render(at(), Level::WARN, "x", style, 1), "1795307103.041234 40 x\n");
    }

    #[test]
    fn a_line_of_json_is_one_object() {
        let line = render_json(at(), Level::WARN, "al\"ice/192.0.2.2:5 ", "a\nb");
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2026-11-22T00:25:03.041234Z");
        assert_eq!((&value["level"], &value["message"]), (&"warn".into(), &"a\nb".into()));
        assert_eq!(value["peer"], "al\"ice/192.0.2.2:5");
        assert!(render_json(at(), Level::INFO, "", "x").contains("\"level\":\"info\""));
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        let style = Style { suppress_timestamps: true, ..Style::default() };
        assert_eq!(render(at(), Level::INFO, "a\nb\u{1b}[0m", style, 1), "a b [0m\n");
    }

    #[test]
    fn verb_maps_to_levels() {
        assert_eq!(level_of_verb(0), LevelFilter::ERROR);
        assert_eq!(level_of_verb(3), LevelFilter::INFO);
        assert_eq!(level_of_verb(4), LevelFilter::DEBUG);
        assert_eq!(level_of_verb(11), LevelFilter::TRACE);
    }

    #[test]
    fn log_truncates_and_log_append_does_not() {
        let dir = std::env::temp_dir().join(format!("ovpn-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log");
        for (append, expected) in [(false, "a"), (true, "ab"), (false, "c")] {
            let text = expected.chars().last().unwrap().to_string();
            open_log(&path, append).unwrap().write_all(text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
