//! Lines become options with spans: files, includes, inline blocks, `<connection>` blocks, command lines, pushed options.
//!
//! ```text
//! client                     Statement { client }
//! config more.conf     ──►   … the statements of more.conf …
//! <connection>               Item::Connection [ Statement { remote … }, … ]
//! remote a 1194
//! </connection>
//! <ca>                       Statement { ca, [inline text] }
//! ```

use std::borrow::Cow;
use std::io;

use zeroize::{Zeroize as _, Zeroizing};

use crate::diagnostic::{Class, Diagnostic};
use crate::lexer::{self, Token};
use crate::source::{SourceId, Sources, Span};
use crate::table::{self, Contexts, OptionSpec};

/// Deepest nesting of `config` lines, as stock.
const MAX_DEPTH: u32 = 10;
/// Most messages kept; a file of noise must not become a bigger file of messages.
const MAX_DIAGNOSTICS: usize = 500;

/// Opens files for `config` lines. The name is as written, after `cd`; `stdin` means standard input.
pub trait Reader {
    /// The whole content.
    ///
    /// # Errors
    /// Whatever opening or reading meets.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
}

/// A [`Reader`] that has no files.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Reader for NoFiles {
    fn read(&self, _name: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// One argument of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Text after quotes and escapes, or the content of the inline block.
    pub text: String,
    /// Where it stands.
    pub span: Span,
    /// It is the content of an inline block.
    pub inline: bool,
}

impl Drop for Arg {
    fn drop(&mut self) {
        // Blocks hold private keys and passwords.
        if self.inline {
            self.text.zeroize();
        }
    }
}

/// One option as written, known and with the right number of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its row in the table.
    pub spec: &'static OptionSpec,
    /// Where its name stands.
    pub span: Span,
    /// Its arguments.
    pub args: Vec<Arg>,
}

/// One step of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An option.
    Option(Statement),
    /// A `<connection>` block.
    Connection {
        /// Where its tag stands.
        span: Span,
        /// Its options.
        options: Vec<Statement>,
    },
}

/// Reads text into [`Item`]s; collects what is to be said.
pub struct Parser<'r> {
    reader: &'r dyn Reader,
    context: Contexts,
    sources: Sources,
    items: Vec<Item>,
    diagnostics: Vec<Diagnostic>,
    ignore_unknown: Vec<String>,
    forward_compatible: bool,
    directory: String,
}

/// What a [`Parser`] leaves.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The options, in order.
    pub items: Vec<Item>,
    /// What is to be said.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts, for showing places.
    pub sources: Sources,
}

impl<'r> Parser<'r> {
    /// A parser for one context.
    #[must_use]
    pub fn new(context: Contexts, reader: &'r dyn Reader) -> Self {
        Self {
            reader,
            context,
            sources: Sources::default(),
            items: Vec::new(),
            diagnostics: Vec::new(),
            ignore_unknown: Vec::new(),
            forward_compatible: false,
            directory: String::new(),
        }
    }

    /// Ends; gives what was found.
    #[must_use]
    pub fn finish(self) -> Parsed {
        Parsed { items: self.items, diagnostics: self.diagnostics, sources: self.sources }
    }

    /// Reads a file through the reader.
    pub fn file(&mut self, name: &str) {
        self.include(name, None, 1);
    }

    /// Reads a text that is already here.
    pub fn text(&mut self, name: &str, bytes: &[u8]) {
        self.bytes(name, bytes, 1);
    }

    /// Reads options that came one by one (pushed, or from the management interface).
    pub fn options<S: AsRef<str>>(&mut self, name: &str, options: &[S]) {
        let lines: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        let source = self.sources.add(name, &lines.join("\n").replace('\r', " "));
        for (number, line) in (1u32..).zip(&lines) {
            match lexer::option_tokens(line) {
                Ok(tokens) => self.tokens(source, number, tokens, 1),
                Err(error) => self.lex_error(source, number, error),
            }
        }
    }

    /// Reads the words of a command line (without the program's name): `--option value …` in order; a single word without
    /// dashes is a file.
    pub fn command_line<S: AsRef<str>>(&mut self, words: &[S]) {
        let shown: Vec<String> = words.iter().map(|w| shown_word(w.as_ref())).collect();
        let source = self.sources.add("[CMD-LINE]", &shown.join(" "));
        let mut column = 1;
        let mut tokens = Vec::new();
        for (word, shown) in words.iter().zip(&shown) {
            let width = u32::try_from(shown.chars().count()).unwrap_or(u32::MAX);
            tokens.push(Token { text: word.as_ref().to_owned(), column, width });
            column = column.saturating_add(width).saturating_add(1);
        }
        if let [only] = tokens.as_slice()
            && !only.text.starts_with("--")
        {
            let span = Span { source, line: 1, column: 1, width: only.width };
            self.include(&only.text.clone(), Some(span), 1);
            return;
        }
        let mut rest = tokens.into_iter().peekable();
        while let Some(mut token) = rest.next() {
            let Some(name) = token.text.strip_prefix("--").filter(|n| !n.is_empty()) else {
                let span = Span { source, line: 1, column: token.column, width: token.width };
                let text = &token.text;
                self.say(
                    Diagnostic::new(Class::Error, "", Some(span), format!("\"{text}\" is not an option"))
                        .help("options start with two dashes; a word after an option that takes none belongs to nobody")
                        .stock(format!(
                            "Options error: I'm trying to parse \"{text}\" as an --option parameter but I don't see a leading '--'"
                        )),
                );
                continue;
            };
            token.text = name.to_owned();
            let mut option = vec![token];
            while let Some(word) = rest.next_if(|t| !t.text.starts_with("--")) {
                option.push(word);
            }
            self.tokens(source, 1, option, 1);
        }
    }

    fn say(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        }
    }

    fn include(&mut self, name: &str, from: Option<Span>, depth: u32) {
        if depth > MAX_DEPTH {
            let text = format!("\"{name}\" is nested more than {MAX_DEPTH} files deep");
            self.say(
                Diagnostic::new(Class::Error, "config", from, text).help("let no file include itself").stock(format!(
                    "In {name}:1: Maximum recursive include levels exceeded in include attempt of file {name} -- probably \
                     you have a configuration file that tries to include itself."
                )),
            );
            return;
        }
        let path = self.path(name);
        match self.reader.read(&path) {
            Ok(bytes) => self.bytes(name, &Zeroizing::new(bytes), depth),
            Err(error) => self.say(
                Diagnostic::new(Class::Error, "config", from, format!("cannot read \"{name}\": {error}"))
                    .help("check the path; it is relative to the working directory, not to the file that names it")
                    .stock(format!("Options error: Error opening configuration file: {name}")),
            ),
        }
    }

    /// The name after `cd`.
    fn path(&self, name: &str) -> String {
        if self.directory.is_empty() || name.starts_with('/') || name == "stdin" {
            name.to_owned()
        } else {
            format!("{}/{name}", self.directory)
        }
    }

    fn bytes(&mut self, name: &str, bytes: &[u8], depth: u32) {
        let text = decoded(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let source = self.sources.add(name, text);
        let lines: Vec<&str> = text.split('\n').collect();
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
            at += 1;
            match lexer::option_tokens(line) {
                Err(error) => self.lex_error(source, number, error),
                Ok(tokens) => match block_tag(&tokens) {
                    None => self.tokens(source, number, tokens, depth),
                    Some(tag) => {
                        let tag = tag.to_owned();
                        let width = tokens.first().map_or(1, |t| t.width);
                        let column = tokens.first().map_or(1, |t| t.column);
                        let span = Span { source, line: number, column, width };
                        at = self.block(&tag, span, &lines, at);
                    }
                },
            }
        }
    }

    /// An inline block from line index `at`; gives the index after it.
    fn block(&mut self, tag: &str, span: Span, lines: &[&str], at: usize) -> usize {
        let close = format!("</{tag}>");
        let rest = lines.get(at..).unwrap_or_default();
        let by_rule = rest.iter().position(|l| l.trim_start().starts_with(&close));
        // Recovery for files that stock refuses: the closing tag stands behind content on the same line.
        let end = by_rule.or_else(|| rest.iter().position(|l| l.trim_end().ends_with(&close)));
        let Some(end) = end else {
            self.say(
                Diagnostic::new(Class::Error, tag, Some(span), format!("the block <{tag}> has no end"))
                    .help(format!("add a line {close} after its content"))
                    .stock(format!("ERROR: Endtag {close} missing")),
            );
            self.sources.hide(span.source, at, lines.len());
            return lines.len();
        };
        let mut content = String::new();
        for line in rest.iter().take(end) {
            content.push_str(line.trim_end_matches('\r'));
            content.push('\n');
        }
        if by_rule.is_none() {
            if let Some(last) = rest.get(end).and_then(|l| l.trim_end().strip_suffix(&close)) {
                content.push_str(last);
                content.push('\n');
            }
            let text = format!("{close} stands behind content on the same line; stock refuses this");
            self.say(
                Diagnostic::new(Class::Advice, tag, Some(span), text)
                    .help(format!("put {close} on a line of its own")),
            );
        }
        if tag == "connection" {
            self.connection(span, &Zeroizing::new(content), at);
        } else {
            self.sources.hide(span.source, at, at + end);
            let name = Token { text: tag.to_owned(), column: span.column, width: span.width };
            let arg = Arg { text: content, span, inline: true };
            if let Some(statement) =
                self.statement(span.source, span.line, &name, Vec::new(), Some(arg), self.context)
            {
                self.items.push(Item::Option(statement));
            }
        }
        at + end + 1
    }

    fn connection(&mut self, span: Span, content: &str, first: usize) {
        if !self.context.contains(Contexts::FILE) {
            self.misplaced("connection", span);
            return;
        }
        let mut options = Vec::new();
        let lines: Vec<&str> = content.lines().collect();
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            let number = u32::try_from(first + at + 1).unwrap_or(u32::MAX);
            at += 1;
            let tokens = match lexer::option_tokens(line) {
                Ok(tokens) => tokens,
                Err(error) => {
                    self.lex_error(span.source, number, error);
                    continue;
                }
            };
            let Some((name, args)) = tokens.split_first() else { continue };
            let mut inline = None;
            let mut name = name.clone();
            if let Some(tag) = block_tag(&tokens) {
                let close = format!("</{tag}>");
                let rest = lines.get(at..).unwrap_or_default();
                let Some(end) = rest.iter().position(|l| l.trim_start().starts_with(&close)) else {
                    let span =
                        Span { source: span.source, line: number, column: name.column, width: name.width };
                    let text = format!("the block <{tag}> has no end inside <connection>");
                    self.say(
                        Diagnostic::new(Class::Error, tag, Some(span), text)
                            .help(format!("add a line {close}")),
                    );
                    break;
                };
                let text = rest.iter().take(end).flat_map(|l| [l, "\n"]).collect::<String>();
                self.sources.hide(span.source, first + at, first + at + end);
                let span = Span { source: span.source, line: number, column: name.column, width: name.width };
                inline = Some(Arg { text, span, inline: true });
                name.text = tag.to_owned();
                at += end + 1;
            }
            let args = if inline.is_some() { Vec::new() } else { args.to_vec() };
            if let Some(statement) =
                self.statement(span.source, number, &name, args, inline, Contexts::CONNECTION)
            {
                options.push(statement);
            }
        }
        self.items.push(Item::Connection { span, options });
    }

    fn tokens(&mut self, source: SourceId, line: u32, mut tokens: Vec<Token>, depth: u32) {
        if tokens.is_empty() {
            return;
        }
        let name = tokens.remove(0);
        let Some(statement) = self.statement(source, line, &name, tokens, None, self.context) else { return };
        let first = statement.args.first().map(|a| a.text.clone());
        match (statement.spec.name, first) {
            ("config", Some(file)) => {
                self.include(&file, Some(statement.span), depth + 1);
                return;
            }
            ("cd", Some(directory)) => self.directory = self.path(&directory),
            ("ignore-unknown-option", _) => {
                self.ignore_unknown.extend(statement.args.iter().map(|a| a.text.clone()));
            }
            ("setenv", Some(word)) if word == "FORWARD_COMPATIBLE" => {
                self.forward_compatible = statement.args.get(1).is_some_and(|a| a.text == "1");
            }
            _ => {}
        }
        self.items.push(Item::Option(statement));
    }

    /// Looks a line up in the table and counts its arguments.
    fn statement(
        &mut self,
        source: SourceId,
        line: u32,
        name: &Token,
        mut args: Vec<Token>,
        inline: Option<Arg>,
        context: Contexts,
    ) -> Option<Statement> {
        let at = |t: &Token| Span { source, line, column: t.column, width: t.width };
        let mut name = name.clone();
        let mut lenient = self.forward_compatible;
        // `setenv opt NAME …`: an option that older releases may not know. Servers cannot push it this way.
        if name.text == "setenv"
            && !context.contains(Contexts::PUSHED)
            && args.first().is_some_and(|a| a.text == "opt")
        {
            args.remove(0);
            if args.is_empty() {
                args.push(Token { text: String::new(), ..name.clone() });
            }
            name = args.remove(0);
            if let Some(stripped) = name.text.strip_prefix("--") {
                name.text = stripped.to_owned();
            }
            lenient = true;
        }
        let span = at(&name);
        let Some(spec) = table::lookup(&name.text) else {
            self.unknown(&name.text, span, lenient, inline.is_some());
            return None;
        };
        if !spec.contexts.contains(context) {
            let on_command_line =
                spec.contexts.contains(Contexts::CMDLINE) && context.contains(Contexts::FILE);
            if !on_command_line || self.sources.name(source) != "[CMD-LINE]" {
                self.misplaced(spec.name, span);
                return None;
            }
        }
        if inline.is_some() && !spec.inline {
            let text = format!("`{}` cannot be written as an inline block", spec.name);
            self.say(
                Diagnostic::new(Class::Error, spec.name, Some(span), text)
                    .help(format!("write it on one line: `{}`", spec.synopsis()))
                    .stock(format!("Options error: option {} is not expected to be inline", spec.name)),
            );
            return None;
        }
        let args: Vec<Arg> = match inline {
            Some(arg) => vec![arg],
            None => args.iter().map(|t| Arg { text: t.text.clone(), span: at(t), inline: false }).collect(),
        };
        let (least, most) = (usize::from(spec.arity.0), usize::from(spec.arity.1));
        if args.len() < least || (args.len() > most && most < 15) {
            let (what, span) = if args.len() < least {
                ("misses an argument", span)
            } else {
                ("has an argument too many", args.get(most).map_or(span, |a| a.span))
            };
            let class = if lenient { Class::Ignored } else { Class::Error };
            let diagnostic = Diagnostic::new(class, spec.name, Some(span), format!("`{}` {what}", spec.name))
                .help(format!("write `{}`", spec.synopsis()))
                .stock(self.unrecognized(spec.name, span));
            self.say(diagnostic);
            return None;
        }
        Some(Statement { spec, span, args })
    }

    fn unknown(&mut self, name: &str, span: Span, lenient: bool, block: bool) {
        let shown: String = name.chars().take(80).collect();
        let listed = self.ignore_unknown.iter().any(|n| n == name || n.strip_prefix("--") == Some(name));
        let near = table::nearest(name);
        let what = if block { "block" } else { "option" };
        let mut diagnostic = if listed || lenient {
            Diagnostic::new(
                Class::Ignored,
                &shown,
                Some(span),
                format!("unknown {what} \"{shown}\" is left out"),
            )
            .help(if listed { "`ignore-unknown-option` asks for it" } else { "" })
        } else {
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("remove it, or put `ignore-unknown-option {}` before it", lexer::quote(&shown))
                }
            };
            Diagnostic::new(Class::Error, &shown, Some(span), format!("unknown {what} \"{shown}\""))
                .help(help)
        };
        diagnostic.stock = Some(self.unrecognized(&shown, span));
        self.say(diagnostic);
    }

    fn misplaced(&mut self, name: &str, span: Span) {
        let file = self.sources.name(span.source);
        let stock = format!("Options error: option '{name}' cannot be used in this context ({file})");
        let row = table::lookup(name);
        let help = match row {
            Some(row) if row.contexts == Contexts::CMDLINE => "give it on the command line",
            Some(row)
                if !row.contexts.contains(Contexts::FILE) && row.contexts.contains(Contexts::CLIENT) =>
            {
                "it belongs into a client's file in `client-config-dir`, or into what a client-connect script writes"
            }
            Some(row) if row.contexts.contains(Contexts::FILE) => "it belongs into the configuration itself",
            _ => "only a server sends it",
        };
        self.say(
            Diagnostic::new(Class::Error, name, Some(span), format!("`{name}` cannot stand here"))
                .help(help)
                .stock(stock),
        );
    }

    fn unrecognized(&self, name: &str, span: Span) -> String {
        let file = self.sources.name(span.source);
        format!(
            "Options error: Unrecognized option or missing or extra parameter(s) in {file}:{}: {name} ({})",
            span.line,
            env!("CARGO_PKG_VERSION")
        )
    }

    fn lex_error(&mut self, source: SourceId, line: u32, error: lexer::LexError) {
        let span = Span { source, line, column: error.column(), width: 1 };
        let (message, help) = match error {
            lexer::LexError::BadBackslash { .. } => (
                "a backslash must be doubled",
                "write `\\\\` for each backslash, or put the word into single quotes",
            ),
            lexer::LexError::UnterminatedQuote { .. } => {
                ("this quote is never closed", "close it on the same line")
            }
        };
        let file = self.sources.name(source);
        let stock = match error {
            lexer::LexError::BadBackslash { .. } => {
                format!("Options warning: Bad backslash ('\\') usage in {file}:{line}")
            }
            lexer::LexError::UnterminatedQuote { .. } => {
                format!("Options error: No closing quotation in {file}:{line}")
            }
        };
        self.say(Diagnostic::new(Class::Error, "", Some(span), message).help(help).stock(stock));
    }
}

/// The text of a file: UTF-8, where wrong bytes (comments in old encodings) do not matter; or UTF-16 by its byte order mark,
/// as some editors save.
fn decoded(bytes: &[u8]) -> Cow<'_, str> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return String::from_utf8_lossy(bytes),
    };
    let units = bytes.chunks_exact(2).filter_map(|pair| Some(unit(pair.try_into().ok()?)));
    Cow::Owned(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

/// The name in a line that is only `<name>`.
fn block_tag(tokens: &[Token]) -> Option<&str> {
    let [only] = tokens else { return None };
    let name = only.text.strip_prefix('<')?.strip_suffix('>')?;
    (!name.is_empty() && !name.starts_with('/')).then_some(name)
}

/// A word of the command line as it is shown; long ones are cut.
fn shown_word(word: &str) -> String {
    let word: String = word.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if word.contains(' ') { format!("\"{word}\"") } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Files(BTreeMap<String, Vec<u8>>);

    impl Reader for Files {
        fn read(&self, name: &str) -> io::Result<Vec<u8>> {
            self.0.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    fn parse(text: &str) -> Parsed {
        let mut parser = Parser::new(Contexts::FILE, &NoFiles);
        parser.text("t.conf", text.as_bytes());
        parser.finish()
    }

    fn names(parsed: &Parsed) -> Vec<String> {
        parsed
            .items
            .iter()
            .map(|item| match item {
                Item::Option(s) => {
                    let mut words = vec![s.spec.name];
                    words.extend(s.args.iter().map(|a| a.text.as_str()));
                    words.join(" ")
                }
                Item::Connection { options, .. } => format!("<connection:{}>", options.len()),
            })
            .collect()
    }

    #[test]
    fn inline_blocks_keep_their_text() {
        let got = parse("\u{feff}client\r\n <ca>\r\n# 2048 bit\r\n\r\n  indented\r\n  </ca> rest\r\nverb 3");
        assert_eq!(got.diagnostics, []);
        assert_eq!(names(&got), ["client", "ca # 2048 bit\n\n  indented\n", "verb 3"]);
    }

    #[test]
    fn secrets_are_not_kept_beside_messages() {
        let got = parse("<key>\nSECRET\n</key>\nverb 3\n");
        let span = Span { source: SourceId(0), line: 2, column: 1, width: 1 };
        assert_eq!(got.sources.line(span), Some(""));
        assert_eq!(got.sources.line(Span { line: 4, ..span }), Some("verb 3"));
    }

    #[test]
    fn a_block_without_end_is_an_error() {
        let got = parse("<ca>\nx\n");
        assert_eq!(got.diagnostics[0].stock.as_deref(), Some("ERROR: Endtag </ca> missing"));
        let got = parse("<ca>\nx</ca>\nverb 3");
        assert_eq!(got.diagnostics[0].class, Class::Advice);
        assert_eq!(names(&got), ["ca x\n", "verb 3"]);
    }

    #[test]
    fn unknown_options() {
        let got = parse("client\nremtoe a\n");
        let d = &got.diagnostics[0];
        assert_eq!((d.class, d.help.as_str()), (Class::Error, "did you mean `remote`?"));
        let want = format!(
            "Options error: Unrecognized option or missing or extra parameter(s) in t.conf:2: remtoe ({})",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(d.stock.as_deref(), Some(want.as_str()));
        for lenient in [
            "ignore-unknown-option foo bar\nfoo 1\nbar",
            "setenv opt foo 1",
            "setenv FORWARD_COMPATIBLE 1\nfoo",
        ] {
            let got = parse(lenient);
            assert!(!got.diagnostics.is_empty(), "{lenient}");
            assert!(
                got.diagnostics.iter().all(|d| d.class == Class::Ignored),
                "{lenient}: {:?}",
                got.diagnostics
            );
        }
        assert_eq!(names(&parse("setenv opt block-outside-dns")), ["block-outside-dns"]);
        let got = parse("foo 1\nignore-unknown-option foo");
        assert_eq!(got.diagnostics[0].class, Class::Error, "only a previous line counts");
    }

    #[test]
    fn argument_counts() {
        assert_eq!(parse("client x").diagnostics[0].message, "`client` has an argument too many");
        assert_eq!(parse("server 10.8.0.0").diagnostics[0].message, "`server` misses an argument");
        assert_eq!(parse("iroute 10.0.0.0").diagnostics[0].message, "`iroute` cannot stand here");
        assert_eq!(
            parse("<verb>\n3\n</verb>").diagnostics[0].message,
            "`verb` cannot be written as an inline block"
        );
    }

    #[test]
    fn connection_blocks() {
        let got = parse(
            "<connection>\nremote a 1 tcp\n<tls-auth>\nK\n</tls-auth>\n\nverb 3\n</connection>\nverb 4",
        );
        assert_eq!(names(&got), ["<connection:2>", "verb 4"]);
        assert_eq!(got.diagnostics[0].message, "`verb` cannot stand here");
        assert_eq!(got.diagnostics[0].span.map(|s| s.line), Some(7));
    }

    #[test]
    fn includes_nest_and_stop() {
        let mut files = Files::default();
        files.0.insert("a".into(), b"verb 1\ncd sub\nconfig b\nverb 3".to_vec());
        files.0.insert("sub/b".into(), b"verb 2".to_vec());
        files.0.insert("loop".into(), b"config loop".to_vec());
        let mut parser = Parser::new(Contexts::FILE, &files);
        parser.command_line(&["--verb", "0", "--config", "a", "--push", "route 1.2.3.0 255.255.255.0"]);
        let got = parser.finish();
        assert_eq!(got.diagnostics, []);
        assert_eq!(
            names(&got),
            ["verb 0", "verb 1", "cd sub", "verb 2", "verb 3", "push route 1.2.3.0 255.255.255.0"]
        );
        let mut parser = Parser::new(Contexts::FILE, &files);
        parser.command_line(&["loop"]);
        assert!(parser.finish().diagnostics[0].message.contains("more than 10 files deep"));
    }

    #[test]
    fn command_line_words() {
        let mut parser = Parser::new(Contexts::FILE, &NoFiles);
        parser.command_line(&["--verb", "3", "--client", "oops", "--show-tls"]);
        let got = parser.finish();
        assert_eq!(names(&got), ["verb 3", "show-tls"]);
        assert_eq!(got.diagnostics[0].message, "`client` has an argument too many");
        assert_eq!(got.diagnostics[0].span.map(|s| s.column), Some(19));
        let mut parser = Parser::new(Contexts::FILE, &NoFiles);
        parser.command_line(&["-x", "y"]);
        assert!(parser.finish().diagnostics[0].stock.as_deref().is_some_and(|s| s.contains("leading '--'")));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let mut parser = Parser::new(Contexts::FILE, &NoFiles);
            parser.text("x", &bytes);
            let _ = parser.finish();
        }

        #[test]
        fn lines_like_options_never_panic(lines in proptest::collection::vec("(<|</|--|setenv opt )?[a-z]{0,3}(connection|tls-auth|remote|ca|push)?>? ?[^\\n]{0,10}", 0..20)) {
            let mut parser = Parser::new(Contexts::FILE, &NoFiles);
            parser.text("x", lines.join("\n").as_bytes());
            for d in &parser.finish().diagnostics { let _ = d.render(&Sources::default(), true); }
        }
    }
}
