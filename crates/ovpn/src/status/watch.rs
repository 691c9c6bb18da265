//! `ovpn status --watch`: the whole screen, drawn anew at every look. Plain escape sequences, nothing else.
//!
//! ```text
//! office: server, connected for 2 h …
//! in    812.3 Mbit/s ▁▂▃▅▇█▇▅▃▂
//! out    12.1 Mbit/s ▁▁▁▂▁▁▁▁▁▁
//! …
//! ```

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::signal::unix::{SignalKind, signal};

use super::report::{self, Paint, bits, fit};
use super::snapshot::{Peer, Snapshot};

/// Looks that are remembered: more than any window is wide.
const MOST_LOOKS: usize = 512;

/// Width and height of the terminal that standard output is.
pub(super) fn size() -> (usize, usize) {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// Shows what `ask` tells, again and again, until q is pressed or a signal ends it.
pub(super) fn run(interval: Duration, ask: impl Fn() -> Result<Snapshot, String>) -> Result<(), String> {
    if !std::io::stdout().is_terminal() {
        return Err("--watch wants a terminal; for programs there is --json".to_owned());
    }
    let colour = std::env::var_os("NO_COLOR").is_none();
    let mut history = History::default();
    // What is wrong at the start is told as an error; later it is shown, and asking goes on.
    history.add(ask()?);
    let mut problem = None;
    let ended = ending_signal().map_err(|error| format!("--watch cannot wait for signals: {error}"))?;
    let screen = Screen::enter(ended);
    loop {
        let (width, height) = size();
        let text = draw(&history, problem.as_deref(), width, height, Paint(colour));
        let mut out = std::io::stdout().lock();
        // Home, the lines each with the rest of their line erased, then everything below erased.
        let shown = out.write_all(format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\r\n")).as_bytes());
        if shown.and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        drop(out);
        if screen.quits_within(interval) {
            return Ok(());
        }
        match ask() {
            Ok(snapshot) => {
                problem = None;
                history.add(snapshot);
            }
            Err(sentence) => problem = Some(sentence),
        }
    }
}

/// The alternate screen in raw mode; dropping it brings the terminal back as it was.
struct Screen {
    before: Option<Termios>,
    /// Its other end closes with a signal that ends the program.
    ended: UnixStream,
}

/// A stream that ends when the program is told to end. A thread waits, and goes with the program.
fn ending_signal() -> std::io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let (mut term, mut hup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = hup.recv() => {}
            }
        });
        drop(theirs);
    })?;
    Ok(ours)
}

impl Screen {
    fn enter(ended: UnixStream) -> Self {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
            raw.special_codes[SpecialCodeIndex::VMIN] = 0;
            raw.special_codes[SpecialCodeIndex::VTIME] = 0;
            let _ = tcsetattr(&stdin, OptionalActions::Flush, &raw);
        }
        print!("\x1b[?1049h\x1b[?25l\x1b[2J");
        Self { before, ended }
    }

    /// Waits; true where q, Escape or Ctrl-C was pressed meanwhile, or the program is to end.
    fn quits_within(&self, time: Duration) -> bool {
        let stdin = std::io::stdin();
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&self.ended, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
            // Without a terminal there are no keys.
            let awaited = if self.before.is_some() { 2 } else { 1 };
            match poll(fds.get_mut(..awaited).unwrap_or_default(), timeout.as_ref()) {
                // A resized window interrupts: draw at once.
                Ok(0) | Err(_) => return false,
                Ok(_) if fds.first().is_some_and(|ended| !ended.revents().is_empty()) => return true,
                Ok(_) => {
                    let mut keys = [0; 16];
                    let count = stdin.lock().read(&mut keys).unwrap_or(0);
                    let keys = keys.get(..count).unwrap_or_default();
                    if count == 0 || matches!(keys, [b'q' | b'Q' | 3 | 4, ..] | [27]) {
                        return true;
                    }
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        print!("\x1b[?25h\x1b[?1049l");
        let _ = std::io::stdout().flush();
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct History {
    last: Option<Snapshot>,
    /// Received and sent bits, handshakes, dropped packets; each a second.
    rates: [VecDeque<f64>; 4],
    /// Received and sent bits a second of each peer of `last`.
    peers: Vec<(f64, f64)>,
}

impl History {
    /// Adds a look.
    pub(super) fn add(&mut self, next: Snapshot) {
        self.peers = vec![(0.0, 0.0); next.peers.len()];
        // Another process, or another device, counts from the start.
        if let Some(last) = self.last.as_ref().filter(|last| last.pid == next.pid && next.time > last.time) {
            let seconds = next.time - last.time;
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let drops = |s: &Snapshot| s.drops.iter().map(|drop| drop.packets).sum::<u64>();
            let handshakes = |s: &Snapshot| s.handshakes.completed + s.handshakes.rekeys;
            let rates = [
                8.0 * rate(next.traffic.rx_bytes, last.traffic.rx_bytes),
                8.0 * rate(next.traffic.tx_bytes, last.traffic.tx_bytes),
                rate(handshakes(&next), handshakes(last)),
                rate(drops(&next), drops(last)),
            ];
            for (series, rate) in self.rates.iter_mut().zip(rates) {
                series.push_back(rate);
                if series.len() > MOST_LOOKS {
                    series.pop_front();
                }
            }
            let same =
                |a: &Peer, b: &Peer| a.peer_id.is_some() && (a.peer_id, &a.name) == (b.peer_id, &b.name);
            for (peer, rates) in next.peers.iter().zip(&mut self.peers) {
                if let Some(before) = last.peers.iter().find(|before| same(before, peer)) {
                    let (now, before) = (&peer.traffic, &before.traffic);
                    *rates = (
                        8.0 * rate(now.rx_bytes, before.rx_bytes),
                        8.0 * rate(now.tx_bytes, before.tx_bytes),
                    );
                }
            }
        }
        self.last = Some(next);
    }
}

/// The last `width` values as bars, the highest of them as a full one.
fn sparkline(values: &VecDeque<f64>, width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = values.iter().skip(values.len().saturating_sub(width));
    let most = shown.clone().copied().fold(0.0, f64::max);
    shown
        .map(|value| {
            let step = if most > 0.0 { (value / most * 7.0).round() as usize } else { 0 };
            BARS.get(step).copied().unwrap_or('█')
        })
        .collect()
}

/// The screen as lines, none wider than `width` and not more than `height`.
fn draw(history: &History, problem: Option<&str>, width: usize, height: usize, paint: Paint) -> String {
    let Some(snapshot) = &history.last else { return String::new() };
    let mut lines: Vec<String> = Vec::new();
    // Colours have no width: what may be too long is cut before it is painted.
    let head = report::headline(snapshot, Paint(false));
    lines.push(if head.chars().count() > width {
        paint.bold(&fit(&head, width))
    } else {
        report::headline(snapshot, paint)
    });
    lines.push(paint.dim(&fit(&report::data_plane(snapshot), width)));
    lines.push(String::new());
    let per_second = |rate: f64| if rate < 10.0 { format!("{rate:.1}/s") } else { format!("{rate:.0}/s") };
    let last = |series: &VecDeque<f64>| series.back().copied().unwrap_or(0.0);
    let [received, sent, handshakes, drops] = &history.rates;
    for (name, now, series) in [
        ("in", bits(last(received)), received),
        ("out", bits(last(sent)), sent),
        ("handshakes", per_second(last(handshakes)), handshakes),
        ("drops", per_second(last(drops)), drops),
    ] {
        let label = format!("{name:<10} {now:>13} ");
        let bars = sparkline(series, width.saturating_sub(label.chars().count()));
        let bars = if name == "drops" { paint.bad(&bars) } else { paint.good(&bars) };
        lines.push(format!("{}{bars}", fit(&label, width)));
    }
    lines.push(String::new());
    lines.push(fit(&format!("handshakes  {}", report::handshakes(snapshot)), width));
    lines.push(fit(&format!("dropped     {}", report::drops(snapshot)), width));
    lines.push(String::new());
    let foot = match problem {
        Some(problem) => paint.bad(&fit(problem, width)),
        None => paint.dim(&fit("q quits", width)),
    };
    let room = height.saturating_sub(lines.len() + 2);
    if !snapshot.peers.is_empty() {
        let table = report::table(&snapshot.peers, snapshot.time, width, paint, &history.peers);
        let rows: Vec<&str> = table.lines().collect();
        let hidden = rows.len().saturating_sub(room);
        lines.extend(
            rows.iter().take(room.saturating_sub(usize::from(hidden > 0))).map(|row| (*row).to_owned()),
        );
        if hidden > 0 {
            lines.push(paint.dim(&fit(&format!("… and {} more peers", hidden + 1), width)));
        }
    }
    lines.truncate(height.saturating_sub(1));
    let mut out = String::new();
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
    out.push_str(&foot);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::sample;

    fn watched() -> History {
        let mut history = History::default();
        let mut snapshot = sample();
        history.add(snapshot.clone());
        for step in [1u64, 2, 4, 8] {
            snapshot.time += 1.0;
            snapshot.traffic.rx_bytes += step * 125_000;
            snapshot.peers[0].traffic.rx_bytes += step * 125_000;
            snapshot.handshakes.rekeys += 1;
            history.add(snapshot.clone());
        }
        history
    }

    #[test]
    fn rates_and_bars() {
        let history = watched();
        let text = draw(&history, None, 80, 24, Paint(false));
        assert!(text.contains("in            8.0 Mbit/s ▂▃▅█\n"), "{text}");
        assert!(text.contains("out              0 bit/s ▁▁▁▁\n"), "{text}");
        assert!(text.contains("handshakes         1.0/s ████\n"), "{text}");
        assert!(text.contains("8.0 Mbit/s  "), "the peer's own rate: {text}");
        assert!(text.ends_with("\nq quits"), "{text}");
        let text = draw(&history, Some("no tunnel \"office\" runs here"), 80, 24, Paint(false));
        assert!(text.ends_with("runs here"), "{text}");
    }

    #[test]
    fn it_fits_into_any_window() {
        let mut history = watched();
        let mut many = sample();
        many.peers = vec![many.peers[0].clone(); 100];
        many.time += 60.0;
        history.add(many);
        for (width, height) in [(80, 24), (120, 40), (40, 12), (20, 5)] {
            let text = draw(&history, None, width, height, Paint(false));
            assert!(text.lines().count() <= height, "{width}×{height}:\n{text}");
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}×{height}:\n{text}");
        }
        let text = draw(&history, None, 120, 24, Paint(false));
        assert!(text.contains("… and 9"), "{text}");
    }

    #[test]
    fn a_restarted_tunnel_counts_from_the_start() {
        let mut history = watched();
        let mut other = sample();
        (other.pid, other.time) = (1, other.time + 100.0);
        history.add(other);
        assert_eq!(history.rates[0].len(), 4, "no rate between two processes");
    }
}
