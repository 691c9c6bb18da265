//! Where text comes from, and places in it.

use std::fmt;

use zeroize::Zeroize as _;

/// Index of a source in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SourceId(pub u32);

/// A place: source, line and columns. Lines and columns count from 1; a column is a character, not a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span {
    /// Which source.
    pub source: SourceId,
    /// Line from 1; for a command line: the word's number.
    pub line: u32,
    /// Column of the first character, from 1.
    pub column: u32,
    /// Count of characters.
    pub width: u32,
}

/// One text that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name shown: the path, `[CMD-LINE]`, `[PUSH-OPTIONS]` …
    pub name: String,
    /// Its lines, for showing them beside a message.
    lines: Vec<String>,
}

/// Every text that was read, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Takes a text in and names it.
    pub fn add(&mut self, name: &str, text: &str) -> SourceId {
        let id = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push(Source {
            name: name.to_owned(),
            lines: text.lines().map(|l| l.trim_end_matches('\r').to_owned()).collect(),
        });
        SourceId(id)
    }

    /// Forgets the text of lines `from..to` (indices from 0): nobody is to see a secret beside a message.
    pub fn hide(&mut self, id: SourceId, from: usize, to: usize) {
        if let Some(source) = self.0.get_mut(id.0 as usize) {
            for line in source.lines.iter_mut().take(to).skip(from) {
                line.zeroize();
            }
        }
    }

    /// The name of a source, empty if unknown.
    #[must_use]
    pub fn name(&self, id: SourceId) -> &str {
        self.0.get(id.0 as usize).map_or("", |s| s.name.as_str())
    }

    /// The text of the line a span is on, if known.
    #[must_use]
    pub fn line(&self, span: Span) -> Option<&str> {
        let at = (span.line as usize).checked_sub(1)?;
        self.0.get(span.source.0 as usize)?.lines.get(at).map(String::as_str)
    }

    /// `file:line:column`.
    #[must_use]
    pub fn place(&self, span: Span) -> Place {
        Place { file: self.name(span.source).to_owned(), line: span.line, column: span.column }
    }
}

/// A [`Span`] with its file's name: prints as `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the source.
    pub file: String,
    /// Line from 1.
    pub line: u32,
    /// Column from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
