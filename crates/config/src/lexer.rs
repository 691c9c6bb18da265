//! One line of text becomes tokens.
//!
//! ```text
//!   remote  "vpn example"  1194   # the office
//!   └─────┘ └───────────┘  └──┘   └── comment: only where a token would start
//!   column 3        12       27
//! ```
//!
//! Double quotes and bare words know `\\`, `\"` and backslash-blank; single quotes know no escapes; any other backslash is an
//! error. Source: OpenVPN's manual page, section on configuration files.

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Text after quotes and escapes.
    pub text: String,
    /// Column of its first character (a quote counts), from 1.
    pub column: u32,
    /// Characters it takes in the line.
    pub width: u32,
}

/// Why a line is no sequence of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LexError {
    /// A backslash before a character that needs none.
    #[error("bad backslash: only \\\\, \\\" and backslash-blank are known")]
    BadBackslash {
        /// Column of the backslash.
        column: u32,
    },
    /// A quote that is never closed.
    #[error("unterminated quote")]
    UnterminatedQuote {
        /// Column of the quote.
        column: u32,
    },
}

impl LexError {
    /// Where, from 1.
    #[must_use]
    pub const fn column(self) -> u32 {
        match self {
            Self::BadBackslash { column } | Self::UnterminatedQuote { column } => column,
        }
    }
}

/// Splits a line into tokens; the leading dashes of an option are kept (see [`option_tokens`]).
///
/// # Errors
/// A bad backslash or an unclosed quote.
pub fn tokens(line: &str) -> Result<Vec<Token>, LexError> {
    let mut out = Vec::new();
    let mut chars = (1u32..).zip(line.chars()).peekable();
    loop {
        while chars.next_if(|(_, c)| is_blank(*c)).is_some() {}
        let Some(&(start, first)) = chars.peek() else { break };
        if first == '#' || first == ';' {
            break;
        }
        let mut text = String::new();
        let mut end = start;
        match first {
            '\'' => {
                chars.next();
                loop {
                    let (at, c) = chars.next().ok_or(LexError::UnterminatedQuote { column: start })?;
                    end = at;
                    if c == '\'' {
                        break;
                    }
                    text.push(c);
                }
            }
            '"' => {
                chars.next();
                loop {
                    let (at, c) = chars.next().ok_or(LexError::UnterminatedQuote { column: start })?;
                    end = at;
                    match c {
                        '"' => break,
                        '\\' => text.push(escaped(at, chars.next())?),
                        _ => text.push(c),
                    }
                }
            }
            _ => {
                while let Some((at, c)) = chars.next_if(|(_, c)| !is_blank(*c)) {
                    end = at;
                    if c == '\\' {
                        text.push(escaped(at, chars.next())?);
                        end = at + 1;
                    } else {
                        text.push(c);
                    }
                }
            }
        }
        out.push(Token { text, column: start, width: end + 1 - start });
    }
    Ok(out)
}

/// As [`tokens`], with the leading `--` of the first token stripped.
///
/// # Errors
/// As [`tokens`].
pub fn option_tokens(line: &str) -> Result<Vec<Token>, LexError> {
    let mut out = tokens(line)?;
    if let Some(first) = out.first_mut()
        && let Some(name) = first.text.strip_prefix("--")
    {
        first.text = name.to_owned();
    }
    Ok(out)
}

/// Writes a token so that [`tokens`] reads it back as one.
#[must_use]
pub fn quote(text: &str) -> String {
    let plain = |c: char| !is_blank(c) && !matches!(c, '\\' | '"' | '\'');
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with(['#', ';', '<']) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '\\' | '"') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c')
}

const fn escaped(column: u32, next: Option<(u32, char)>) -> Result<char, LexError> {
    match next {
        Some((_, c)) if matches!(c, '\\' | '"') || is_blank(c) => Ok(c),
        _ => Err(LexError::BadBackslash { column }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published_vectors() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/protocol/vectors/control-channel.json");
        let text = std::fs::read_to_string(path).expect("vectors beside the checkout");
        let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let cases = all["config_lexer"]["cases"].as_array().expect("cases");
        assert!(cases.len() >= 18);
        for case in cases {
            let line = case["line"].as_str().expect("line");
            let got = option_tokens(line);
            if let Some(want) = case.get("error") {
                let got = got.expect_err(line).to_string();
                assert!(got.starts_with(want.as_str().expect("text")), "{line}: {got}");
            } else {
                let got: Vec<String> = got.expect(line).into_iter().map(|t| t.text).collect();
                let want: Vec<String> = serde_json::from_value(case["tokens"].clone()).expect("tokens");
                assert_eq!(got, want, "{line}");
            }
        }
    }

    #[test]
    fn columns_count_characters() {
        let got = tokens("  é \"b c\" d\\ e").expect("fine");
        let places: Vec<_> = got.iter().map(|t| (t.column, t.width)).collect();
        assert_eq!(places, [(3, 1), (5, 5), (11, 4)]);
        assert_eq!(tokens("x a\\b"), Err(LexError::BadBackslash { column: 4 }));
    }

    proptest! {
        #[test]
        fn never_panics(line in any::<String>()) {
            let _ = tokens(&line);
        }

        #[test]
        fn quoting_round_trips(words in prop::collection::vec("[^\\x00]{0,12}", 0..6)) {
            let line = words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ");
            let got: Vec<String> = tokens(&line).expect("quoted").into_iter().map(|t| t.text).collect();
            prop_assert_eq!(got, words);
        }
    }
}
