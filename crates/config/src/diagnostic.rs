//! What is to be said about a configuration, and how it is shown.
//!
//! ```text
//! error: office.ovpn:3:1: unknown option "remtoe"
//!   |
//! 3 | remtoe vpn.example.org 1194
//!   | ^^^^^^
//!   = did you mean `remote`?
//! ```

use std::fmt::Write as _;

use crate::source::{Sources, Span};

/// What kind of statement a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The text is wrong; nothing starts.
    Error,
    /// The text is right, but asks for what is not done here; nothing starts.
    Unsupported,
    /// Something that is needed is missing; the file can be read, but no tunnel comes up from it as it is.
    Incomplete,
    /// Accepted, and weak.
    Insecure,
    /// Accepted under a name or in a form that is going away.
    Deprecated,
    /// Accepted, changes nothing.
    Ignored,
    /// Accepted; something is worth knowing.
    Advice,
}

impl Class {
    /// Its word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Unsupported => "unsupported",
            Self::Incomplete => "incomplete",
            Self::Insecure => "insecure",
            Self::Deprecated => "deprecated",
            Self::Ignored => "ignored",
            Self::Advice => "advice",
        }
    }

    /// Whether the configuration is refused because of it.
    #[must_use]
    pub const fn refuses(self) -> bool {
        matches!(self, Self::Error | Self::Unsupported)
    }

    /// Whether nothing can start because of it.
    #[must_use]
    pub const fn prevents_start(self) -> bool {
        matches!(self, Self::Error | Self::Unsupported | Self::Incomplete)
    }
}

/// One statement about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind.
    pub class: Class,
    /// The option it is about; empty if about none.
    pub option: String,
    /// Where; `None` if about the whole.
    pub span: Option<Span>,
    /// One sentence that says what is.
    pub message: String,
    /// One sentence that says what to do; may be empty.
    pub help: String,
    /// The line stock would print, for programs that match it.
    pub stock: Option<String>,
}

impl Diagnostic {
    /// A statement about a place.
    #[must_use]
    pub fn new(class: Class, option: &str, span: Option<Span>, message: impl Into<String>) -> Self {
        Self {
            class,
            option: option.to_owned(),
            span,
            message: message.into(),
            help: String::new(),
            stock: None,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Adds stock's own line.
    #[must_use]
    pub fn stock(mut self, line: impl Into<String>) -> Self {
        self.stock = Some(line.into());
        self
    }

    /// One line: place, sentence, what to do. For logs.
    #[must_use]
    pub fn one_line(&self, sources: &Sources) -> String {
        let mut out = String::new();
        if let Some(span) = self.span {
            let _ = write!(out, "{}: ", sources.place(span));
        }
        out.push_str(&self.message);
        if !self.help.is_empty() {
            let _ = write!(out, "; {}", self.help);
        }
        out
    }

    /// Several lines with the place shown and marked; without trailing newline.
    #[must_use]
    pub fn render(&self, sources: &Sources, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let code = match self.class {
            Class::Error | Class::Unsupported => "1;31",
            Class::Incomplete | Class::Insecure => "1;33",
            Class::Deprecated | Class::Ignored => "33",
            Class::Advice => "36",
        };
        let mut out = format!("{}: ", paint(code, self.class.as_str()));
        if let Some(span) = self.span {
            let _ = write!(out, "{}: ", sources.place(span));
        }
        out.push_str(&self.message);
        let mut gutter = String::from(" ");
        if let Some((span, line)) = self.span.and_then(|s| Some((s, sources.line(s)?))) {
            let number = span.line.to_string();
            gutter = " ".repeat(number.len() + 1);
            let (shown, column) = window(line, span.column as usize, 100);
            let width =
                (span.width.max(1) as usize).min(shown.chars().count().saturating_sub(column - 1).max(1));
            let marks = format!("{}{}", " ".repeat(column - 1), "^".repeat(width));
            let _ = write!(out, "\n{gutter}|\n{number} | {shown}\n{gutter}| {}", paint(code, &marks));
        }
        if !self.help.is_empty() {
            let _ = write!(out, "\n{gutter}= {}", self.help);
        }
        out
    }
}

/// At most `most` characters of a line around a column, tabs as blanks; and the column in what is shown.
fn window(line: &str, column: usize, most: usize) -> (String, usize) {
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let at = column.clamp(1, chars.len() + 1);
    let start = if chars.len() <= most || at <= most { 0 } else { at - most / 2 };
    (chars.iter().skip(start).take(most).collect(), at - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_marked() {
        let mut sources = Sources::default();
        let source = sources.add("office.ovpn", "client\n\tremtoe vpn 1194\r\n");
        let span = Span { source, line: 2, column: 2, width: 6 };
        let d = Diagnostic::new(Class::Error, "remtoe", Some(span), "unknown option \"remtoe\"")
            .help("did you mean `remote`?");
        let want = "error: office.ovpn:2:2: unknown option \"remtoe\"\n  |\n2 |  remtoe vpn 1194\n  |  ^^^^^^\n  = did \
                    you mean `remote`?";
        assert_eq!(d.render(&sources, false), want);
        assert_eq!(
            d.one_line(&sources),
            "office.ovpn:2:2: unknown option \"remtoe\"; did you mean `remote`?"
        );
        assert!(d.render(&sources, true).contains("\x1b[1;31merror\x1b[0m"));
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let line = "x".repeat(5000) + "!" + &"y".repeat(5000);
        let (shown, column) = window(&line, 5001, 100);
        assert_eq!(shown.chars().nth(column - 1), Some('!'));
        assert_eq!(shown.len(), 100);
        assert_eq!(window("ab", 99, 100), ("ab".to_owned(), 3));
    }
}
