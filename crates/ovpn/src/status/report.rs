//! The snapshot as a person reads it: a few lines about the tunnel, a table of its peers.

use std::fmt::Write as _;
use std::time::Duration;

use super::snapshot::{Peer, Snapshot};

/// Colours for terminals; nothing elsewhere.
#[derive(Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("33", text)
    }
}

/// All of it, at most `width` columns wide.
pub(super) fn report(snapshot: &Snapshot, width: usize, colour: bool) -> String {
    let paint = Paint(colour);
    let mut out = String::new();
    let _ = writeln!(out, "{}", headline(snapshot, paint));
    let mut row = |name: &str, text: &str| {
        for (number, line) in wrap(text, width.saturating_sub(14)).iter().enumerate() {
            let name = if number == 0 { name } else { "" };
            let _ = writeln!(out, "  {}{line}", paint.dim(&format!("{name:<12}")));
        }
    };
    row("data plane", &data_plane(snapshot));
    row(
        "traffic",
        &format!("received {}, sent {}", bytes(snapshot.traffic.rx_bytes), bytes(snapshot.traffic.tx_bytes)),
    );
    row("handshakes", &handshakes(snapshot));
    row("dropped", &drops(snapshot));
    if !snapshot.peers.is_empty() {
        out.push('\n');
        out.push_str(&table(&snapshot.peers, snapshot.time, width, paint, &[]));
    }
    out
}

/// The tunnel in one line.
pub(super) fn headline(snapshot: &Snapshot, paint: Paint) -> String {
    let up = snapshot.state == "connected";
    let state = snapshot.state.replace('_', " ");
    let state = if up { paint.good(&state) } else { paint.bad(&state) };
    let since = age(snapshot.time - snapshot.state_since as f64);
    format!(
        "{}: {}, {state} for {since} {}",
        paint.bold(&clean(&snapshot.name)),
        snapshot.mode,
        paint.dim(&format!("(pid {}, ovpn-rs {})", snapshot.pid, clean(&snapshot.program))),
    )
}

/// What carries the data and why.
pub(super) fn data_plane(snapshot: &Snapshot) -> String {
    match &snapshot.data_plane {
        None => "none yet: the device is made once it is needed".to_owned(),
        Some(plane) => {
            let reason = plane.reasons.first().map_or(String::new(), |reason| format!(": {reason}"));
            clean(&format!("{} on {}{reason}", plane.driver, plane.device))
        }
    }
}

/// Counts of handshakes in words.
pub(super) fn handshakes(snapshot: &Snapshot) -> String {
    let h = &snapshot.handshakes;
    format!("{} begun, {} completed, {} failed; {} rekeys", h.started, h.completed, h.failed, h.rekeys)
}

/// Dropped packets by reason, most first.
pub(super) fn drops(snapshot: &Snapshot) -> String {
    let mut drops: Vec<_> = snapshot.drops.iter().filter(|drop| drop.packets > 0).collect();
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.packets));
    let total: u64 = drops.iter().map(|drop| drop.packets).sum();
    if total == 0 {
        return "nothing".to_owned();
    }
    let list: Vec<String> =
        drops.iter().map(|drop| format!("{} {}", clean(&drop.reason), drop.packets)).collect();
    format!("{total} packet{}: {}", if total == 1 { "" } else { "s" }, list.join(", "))
}

/// A column: its title, whether numbers stand in it, its cells.
struct Column {
    title: &'static str,
    right: bool,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.chain([self.title.len()]).max().unwrap_or(0)
    }
}

/// The peers. `rates`: received and sent bits a second of each peer, or nothing. Where the window is narrow the
/// columns that can be missed most easily go first.
pub(super) fn table(peers: &[Peer], now: f64, width: usize, paint: Paint, rates: &[(f64, f64)]) -> String {
    let column = |title, right, cell: &dyn Fn(usize, &Peer) -> String| Column {
        title,
        right,
        cells: peers.iter().enumerate().map(|(number, peer)| clean(&cell(number, peer))).collect(),
    };
    let rate = |number: usize| rates.get(number).copied().unwrap_or_default();
    let mut columns = vec![
        column("PEER", false, &|_, p| p.name.clone().unwrap_or_else(|| "–".to_owned())),
        column("USER", false, &|_, p| p.username.clone().unwrap_or_default()),
        column("ADDRESS", false, &|_, p| p.address.map(|a| a.to_string()).unwrap_or_default()),
        column("VPN ADDRESSES", false, &|_, p| {
            p.vpn_addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }),
        column("CIPHER", false, &|_, p| match (&p.cipher, p.data_format.as_deref()) {
            (Some(cipher), Some("epoch")) => format!("{cipher} epoch"),
            (Some(cipher), _) => cipher.clone(),
            (None, _) => "no key yet".to_owned(),
        }),
        column("VIA", false, &|_, p| p.data_plane.clone().unwrap_or_default()),
        column("RECEIVED", true, &|_, p| bytes(p.traffic.rx_bytes)),
        column("SENT", true, &|_, p| bytes(p.traffic.tx_bytes)),
        column("IN", true, &|n, _| bits(rate(n).0)),
        column("OUT", true, &|n, _| bits(rate(n).1)),
        column("KEY AGE", true, &|_, p| p.key_age.map(age).unwrap_or_default()),
        column("UP FOR", true, &|_, p| {
            p.connected_since.map(|since| age(now - since as f64)).unwrap_or_default()
        }),
    ];
    if rates.is_empty() {
        columns.retain(|column| !matches!(column.title, "IN" | "OUT"));
    }
    columns.retain(|column| column.title != "USER" || column.cells.iter().any(|cell| !cell.is_empty()));
    let total =
        |columns: &[Column]| columns.iter().map(|column| column.width() + 2).sum::<usize>().saturating_sub(2);
    let short_vpn = |columns: &mut Vec<Column>| {
        if let Some(column) = columns.iter_mut().find(|column| column.title == "VPN ADDRESSES") {
            column.title = "VPN";
            for (cell, peer) in column.cells.iter_mut().zip(peers) {
                let more = peer.vpn_addresses.len().saturating_sub(1);
                let first = peer.vpn_addresses.first().map(ToString::to_string).unwrap_or_default();
                *cell = if more > 0 { format!("{first} +{more}") } else { first };
            }
        }
    };
    for step in ["VIA", "UP FOR", "vpn", "USER", "CIPHER", "KEY AGE", "RECEIVED", "SENT"] {
        if total(&columns) <= width {
            break;
        }
        if step == "vpn" {
            short_vpn(&mut columns);
        } else {
            columns.retain(|column| column.title != step);
        }
    }
    let mut out = String::new();
    let mut line = |cell: &dyn Fn(&Column) -> String, title: bool| {
        let mut text = String::new();
        for (number, column) in columns.iter().enumerate() {
            let (cell, width) = (cell(column), column.width());
            let last = number + 1 == columns.len();
            if column.right {
                let _ = write!(text, "{cell:>width$}");
            } else if last {
                text.push_str(&cell);
            } else {
                let _ = write!(text, "{cell:<width$}");
            }
            if !last {
                text.push_str("  ");
            }
        }
        let text = fit(text.trim_end(), width);
        let _ = writeln!(out, "{}", if title { paint.dim(&text) } else { text });
    };
    line(&|column| column.title.to_owned(), true);
    for number in 0..peers.len() {
        line(&|column| column.cells.get(number).cloned().unwrap_or_default(), false);
    }
    out
}

/// At most `width` columns of a text, with `…` where some is left out.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Lines of at most `width` columns, broken between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Nothing that a peer chose may steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `1.5 MB`.
pub(super) fn bytes(count: u64) -> String {
    scaled(count as f64, "B")
}

/// `1.5 Mbit/s`.
pub(super) fn bits(rate: f64) -> String {
    scaled(rate, "bit/s")
}

fn scaled(value: f64, unit: &str) -> String {
    let mut value = value;
    for prefix in ["", "k", "M", "G", "T"] {
        if value < 999.95 || prefix == "T" {
            return if prefix.is_empty() {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {prefix}{unit}")
            };
        }
        value /= 1000.0;
    }
    String::new()
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn age(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let two = |big: u64, unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big} {unit}") } else { format!("{big} {unit} {small} {small_unit}") }
    };
    match whole {
        0..=59 => format!("{whole} s"),
        60..=3599 => two(whole / 60, "min", whole % 60, "s"),
        3600..=86_399 => two(whole / 3600, "h", whole / 60 % 60, "min"),
        _ => two(whole / 86_400, "d", whole / 3600 % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::tests::sample;

    #[test]
    fn at_120_columns() {
        let expected = "\
office: server, connected for 59 min 59 s (pid 4711, ovpn-rs 0.1.0)
  data plane  engine on tun0: this kernel has no driver ovpn
  traffic     received 1.5 MB, sent 75.0 MB
  handshakes  5 begun, 3 completed, 1 failed; 7 rekeys
  dropped     12 packets: replayed 12

PEER  ADDRESS              VPN ADDRESSES        CIPHER             RECEIVED     SENT     KEY AGE
anna  [2001:db8::7]:40961  10.8.0.2 fd00::1000  AES-256-GCM epoch    1.5 MB  75.0 MB  1 min 33 s
–     192.0.2.9:5000                            no key yet              0 B      0 B
";
        let wide = report(&sample(), 98, false);
        assert_eq!(wide, expected, "{wide}");
        let full = report(&sample(), usize::MAX, false);
        assert!(full.contains("VIA") && full.contains("1 min 40 s"), "{full}");
    }

    #[test]
    fn no_line_is_wider_than_the_window() {
        for width in [40, 60, 80, 100, 120, 200] {
            let text = report(&sample(), width, false);
            for line in text.lines() {
                assert!(line.chars().count() <= width.max(70), "{width}: {line}");
            }
        }
        let narrow = report(&sample(), 80, false);
        assert!(narrow.contains("10.8.0.2 +1") && narrow.contains("75.0 MB"), "{narrow}");
    }

    #[test]
    fn colour_only_when_asked() {
        assert!(!report(&sample(), 80, false).contains('\x1b'));
        assert!(report(&sample(), 80, true).contains("\x1b[32mconnected\x1b[0m"));
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let mut snapshot = sample();
        snapshot.peers[0].name = Some("\x1b[2Jgone".to_owned());
        assert!(report(&snapshot, 200, false).contains("?[2Jgone"));
    }

    #[test]
    fn units() {
        assert_eq!([0, 999, 1000, 1_250_000].map(bytes), ["0 B", "999 B", "1.0 kB", "1.2 MB"]);
        assert_eq!(bits(9.4e9), "9.4 Gbit/s");
        assert_eq!([5.0, 125.0, 7500.0, 1e6].map(age), ["5 s", "2 min 5 s", "2 h 5 min", "11 d 13 h"]);
        assert_eq!(fit("abcdef", 4), "abc…");
    }
}
