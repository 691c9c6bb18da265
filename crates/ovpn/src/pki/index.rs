//! What was issued and what was revoked: OpenSSL's `index.txt`.
//!
//! ```text
//! V  270101000000Z                 0A3F…  unknown  /CN=alice
//! R  270101000000Z  261122101500Z  0A40…  unknown  /CN=bob
//! │  expires        revoked        serial          subject
//! ```

use std::fmt::Write as _;

use super::Sentence;

/// Whether a certificate still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Valid,
    /// Since when, in seconds since 1970.
    Revoked(u64),
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) serial: Vec<u8>,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    pub(crate) state: State,
}

/// Every certificate of the authority, in the order of issue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) entries: Vec<Entry>,
}

impl Index {
    /// Reads the file.
    ///
    /// # Errors
    /// A sentence naming the line that cannot be read.
    pub(crate) fn parse(text: &str) -> Result<Self, Sentence> {
        let mut entries = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, l)| !l.trim().is_empty()) {
            entries.push(
                parse_line(line).ok_or_else(|| format!("index.txt:{number}: this line cannot be read"))?,
            );
        }
        Ok(Self { entries })
    }

    /// The file.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        for entry in &self.entries {
            let serial: String = entry.serial.iter().map(|b| format!("{b:02X}")).collect();
            let (mark, revoked) = match entry.state {
                State::Valid => ('V', String::new()),
                State::Revoked(when) => ('R', show_time(when)),
            };
            let _ = writeln!(
                out,
                "{mark}\t{}\t{revoked}\t{serial}\tunknown\t/CN={}",
                show_time(entry.expires),
                entry.name
            );
        }
        out
    }
}

fn parse_line(line: &str) -> Option<Entry> {
    let mut fields = line.split('\t');
    let (mark, expires, revoked, serial) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let subject = fields.nth(1)?;
    let state = match mark {
        "R" => State::Revoked(read_time(revoked.split(',').next()?)?),
        // OpenSSL marks what has expired; the time says so as well.
        "V" | "E" => State::Valid,
        _ => return None,
    };
    let serial = (serial.len() % 2 == 0 && serial.is_ascii()).then_some(serial)?;
    let serial = (0..serial.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(serial.get(at..at + 2)?, 16).ok())
        .collect::<Option<Vec<u8>>>()?;
    let name = subject.rsplit_once("CN=").map_or(subject, |(_, name)| name);
    let name = name.split('/').next().unwrap_or(name).to_owned();
    Some(Entry { name, serial, expires: read_time(expires)?, state })
}

/// `YYMMDDHHMMSSZ`, or with four digits for years from 2050 on.
fn show_time(seconds: u64) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let rest = seconds % 86_400;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let clock = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if year < 2050 { format!("{:02}{clock}", year % 100) } else { format!("{year:04}{clock}") }
}

fn read_time(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z').filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let (year, rest) = match digits.len() {
        12 => {
            let short: u64 = digits.get(..2)?.parse().ok()?;
            (if short < 50 { 2000 + short } else { 1900 + short }, digits.get(2..)?)
        }
        14 => (digits.get(..4)?.parse().ok()?, digits.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let days = days_since_1970(
        year,
        part(0).filter(|m| (1..=12).contains(m))?,
        part(2).filter(|d| (1..=31).contains(d))?,
    )?;
    Some(days * 86_400 + part(4)? * 3600 + part(6)? * 60 + part(8)?)
}

/// Year, month and day of a count of days since 1970 (proleptic Gregorian calendar, eras of 400 years).
pub(crate) fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    (era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year)
        .checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_openssl() {
        let text = "V\t361119235959Z\t\t0A1B\tunknown\t/CN=server\nR\t20510101000000Z\t261122101500Z,superseded\tFF\tunknown\t/C=NL/CN=bob\n";
        let index = Index::parse(text).expect("readable");
        assert_eq!(index.entries[0].name, "server");
        assert_eq!(index.entries[0].serial, [0x0a, 0x1b]);
        assert_eq!(index.entries[1].name, "bob");
        assert_eq!(index.entries[1].state, State::Revoked(1_795_342_500));
        assert_eq!(show_time(1_795_342_500), "261122101500Z");
        assert_eq!(
            Index::parse("V\tx\t\t0A\tunknown\t/CN=a"),
            Err("index.txt:1: this line cannot be read".to_owned())
        );
    }

    proptest! {
        #[test]
        fn times_round_trip(seconds in 0u64..8_000_000_000) {
            // Two digits tell 1950 to 2049.
            prop_assert_eq!(read_time(&show_time(seconds)), Some(seconds));
        }

        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ = Index::parse(&text);
        }
    }
}
