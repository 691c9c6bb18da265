//! Counting instructions (callgrind), and holding them to a file.
//!
//! ```text
//!   bench ─▶ valgrind bench --case NAME 0     set-up alone
//!         ─▶ valgrind bench --case NAME N     and N times the step: the difference, over N
//! ```
//!
//! Counts hardly depend on what else the machine does, so a small change shows. The file has a line for each case: its
//! count and its name. With `OVPN_BLESS=1` it is written anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

/// A step to be counted.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// How often it is done for a count.
    pub times: u32,
    /// Sets up, and does it so many times. The set-up is the same for any number.
    pub run: fn(u32),
}

/// The whole of a benchmark program's `main`: counts every case, and fails where one takes over `tolerance` (a part of
/// one) more than `file` says.
pub fn instructions(file: &Path, tolerance: f64, cases: &[Case]) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match &words[..] {
        [flag, name, times] if flag == "--case" => one(cases, name, times),
        _ => all(file, tolerance, cases),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn one(cases: &[Case], name: &str, times: &str) -> anyhow::Result<()> {
    let case = cases.iter().find(|case| case.name == name).context("no such case")?;
    (case.run)(times.parse()?);
    Ok(())
}

fn all(file: &Path, tolerance: f64, cases: &[Case]) -> anyhow::Result<()> {
    let written = std::fs::read_to_string(file).unwrap_or_default();
    let written = parse(&written);
    let (mut lines, mut worse) = (String::new(), Vec::new());
    println!("{:>10} {:>10}  instructions", "now", "written");
    for case in cases {
        let whole = count(case.name, case.times)?.checked_sub(count(case.name, 0)?);
        let now = whole.with_context(|| format!("{}: its set-up depends on the number", case.name))?
            / u64::from(case.times);
        let before = written.get(case.name).copied();
        let over = before.is_none_or(|before| now as f64 > before as f64 * (1.0 + tolerance));
        println!(
            "{now:>10} {:>10}  {}{}",
            before.unwrap_or(0),
            case.name,
            if over { "  TOO MANY" } else { "" }
        );
        lines += &format!("{now} {}\n", case.name);
        if over {
            worse.push(case.name);
        }
    }
    if std::env::var_os("OVPN_BLESS").is_some() {
        return Ok(std::fs::write(file, lines)?);
    }
    ensure!(
        worse.is_empty(),
        "more instructions than {} says: {}; where that is wanted, OVPN_BLESS=1 writes it anew",
        file.display(),
        worse.join(", ")
    );
    Ok(())
}

fn parse(text: &str) -> BTreeMap<&str, u64> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(count, name)| Some((name, count.parse().ok()?))).collect()
}

/// Instructions of a whole run of this program.
fn count(name: &str, times: u32) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--case", name, &times.to_string()])
        .output()
        .context("valgrind is needed: apt-get install valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {told}");
    collected(&told).with_context(|| format!("{name}: no count in what callgrind said: {told}"))
}

fn collected(told: &str) -> Option<u64> {
    told.lines().find_map(|line| line.split_once("Collected : "))?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(collected("==7== x\n==7== Collected : 1234567\n==7==\n"), Some(1_234_567));
        assert_eq!(collected("==7== Events : Ir\n"), None);
        let file = parse("12 open, 64 bytes\n3 x\n\nnonsense\n");
        assert_eq!(file, BTreeMap::from([("open, 64 bytes", 12), ("x", 3)]));
    }
}
