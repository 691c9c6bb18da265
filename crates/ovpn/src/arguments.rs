//! The words of a subcommand: options, values, names. One place for what all of them do with `--help`, a slip of the
//! fingers, a missing value, and with the exit code.
//!
//! ```text
//! ovpn COMMAND [--help] WORDS… ─▶ parse ─▶ what is wanted ─▶ perform
//!                         2 ◀── wrong use            1 ◀── failed
//! ```

use std::process::ExitCode;

/// A sentence about how a command was used wrongly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) String);

impl Wrong {
    /// More names than a command takes.
    pub(crate) fn too_many(word: &str) -> Self {
        Self(format!("\"{word}\" is one word too many"))
    }
}

/// The words still to be read.
pub(crate) struct Arguments<'a> {
    rest: std::slice::Iter<'a, String>,
}

impl<'a> Arguments<'a> {
    /// All words after the command's name.
    pub(crate) fn new(words: &'a [String]) -> Self {
        Self { rest: words.iter() }
    }

    /// The next word: one of `options`, or a name.
    ///
    /// # Errors
    /// Where it looks like an option and is none of them.
    pub(crate) fn next(&mut self, options: &[&str]) -> Result<Option<&'a str>, Wrong> {
        let Some(word) = self.rest.next() else { return Ok(None) };
        if word.len() > 1 && word.starts_with('-') && !options.contains(&word.as_str()) {
            return Err(Wrong(unknown(word, options)));
        }
        Ok(Some(word))
    }

    /// The value of an option.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn value(&mut self, option: &str) -> Result<&'a str, Wrong> {
        self.rest.next().map(String::as_str).ok_or_else(|| Wrong(format!("{option} wants a value")))
    }
}

/// A sentence about a word that is none of `known`, with the one that was probably meant.
pub(crate) fn unknown(word: &str, known: &[&str]) -> String {
    match ovpn_config::table::nearest_of(word, known.iter().copied()) {
        Some(near) => format!("\"{word}\" is not known here; did you mean {near}?"),
        None if known.len() <= 6 && !known.is_empty() => {
            format!("\"{word}\" is not known here; take one of {}", known.join(", "))
        }
        None => format!("\"{word}\" is not known here"),
    }
}

/// A sentence about wrong use, and where the right one is shown.
pub(crate) fn with_help(sentence: &str, command: &str) -> String {
    let stop = if sentence.ends_with('?') { "" } else { ";" };
    format!("{sentence}{stop} `ovpn {command} --help` shows how")
}

/// A sentence for people: without the numbers of system errors (` (os error 2)`).
pub(crate) fn plain(sentence: &str) -> String {
    let mut out = String::with_capacity(sentence.len());
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        out.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    out + rest
}

/// Runs a command: its help, or what its words ask for.
pub(crate) fn run<W>(
    name: &str,
    help: &str,
    words: &[String],
    parse: impl FnOnce(Arguments<'_>) -> Result<W, Wrong>,
    perform: impl FnOnce(W) -> Result<(), String>,
) -> ExitCode {
    use std::io::Write as _;
    if words.iter().any(|word| word == "--help" || word == "-h") {
        // A pager that was closed early is no error.
        let _ = std::io::stdout().lock().write_all(help.as_bytes());
        return ExitCode::SUCCESS;
    }
    let wish = match parse(Arguments::new(words)) {
        Ok(wish) => wish,
        Err(Wrong(sentence)) => {
            eprintln!("ovpn {name}: {}", with_help(&sentence, name));
            return ExitCode::from(2);
        }
    };
    match perform(wish) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("ovpn {name}: {}", plain(&sentence));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_missing_values() {
        let words: Vec<String> = ["name", "--days", "9", "--dayz"].map(str::to_owned).to_vec();
        let mut arguments = Arguments::new(&words);
        let known = ["--days", "--password"];
        assert_eq!(arguments.next(&known), Ok(Some("name")));
        assert_eq!(arguments.next(&known), Ok(Some("--days")));
        assert_eq!(arguments.value("--days"), Ok("9"));
        let error = arguments.next(&known).unwrap_err().0;
        assert_eq!(error, "\"--dayz\" is not known here; did you mean --days?");
        assert_eq!(arguments.value("--days"), Err(Wrong("--days wants a value".to_owned())));
        assert_eq!(
            unknown("ad", &["add", "list"]),
            "\"ad\" is not known here; take one of add, list",
            "too short to guess"
        );
        assert_eq!(with_help("did you mean x?", "init"), "did you mean x? `ovpn init --help` shows how");
        assert_eq!(plain("a: No such file (os error 2); do b"), "a: No such file; do b");
    }
}
