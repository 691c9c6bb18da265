//! Push replies and their option lines.
//!
//! A reply is one or more text messages `PUSH_REPLY,option,option,…`; each but the last ends with
//! `push-continuation 2`, the last of several with `push-continuation 1`. An option is a line of the configuration
//! language and can never contain a comma. [`split`] makes the messages, [`PushAssembler`] puts them together again.
//! `PUSH_UPDATE` has the same form; its options may carry the prefixes of [`UpdateOption`].
//! Source: OpenVPN wire protocol, "PUSH_REPLY", "PUSH_UPDATE"; configuration language, "Lines and tokens".

use thiserror::Error;

/// The longest message, its NUL included, that every peer takes.
pub const BUNDLE_LEN: usize = 1024;

/// Bytes of a message that stay free for `push-continuation` and what a sender may append.
const RESERVE: usize = 84;

/// The most options that one reply may have in all its parts together.
const MAX_OPTIONS: usize = 16 * 1024;

/// An option that no message can carry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnpushableOption {
    /// It contains a comma or a control character.
    #[error("option {0:?} contains a comma or a control character")]
    Character(String),
    /// It does not fit into one message.
    #[error("option {0:?} is too long for a push message")]
    TooLong(String),
}

/// The texts (without NUL) that carry these options after `command`, which is `PUSH_REPLY` or `PUSH_UPDATE`: at least
/// one.
pub fn split<S: AsRef<str>>(
    command: &str,
    options: impl IntoIterator<Item = S>,
) -> Result<Vec<String>, UnpushableOption> {
    let limit = BUNDLE_LEN - RESERVE;
    let mut messages = Vec::new();
    let mut message = command.to_owned();
    for option in options {
        let option = option.as_ref();
        if option.contains(|c: char| c == ',' || c.is_control()) {
            return Err(UnpushableOption::Character(option.to_owned()));
        }
        if command.len() + 1 + option.len() > limit {
            return Err(UnpushableOption::TooLong(option.to_owned()));
        }
        if message.len() + 1 + option.len() > limit {
            message.push_str(",push-continuation 2");
            messages.push(std::mem::replace(&mut message, command.to_owned()));
        }
        message.push(',');
        message.push_str(option);
    }
    if !messages.is_empty() {
        message.push_str(",push-continuation 1");
    }
    messages.push(message);
    Ok(messages)
}

/// More options than anyone can mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("more than {MAX_OPTIONS} pushed options")]
pub struct TooManyOptions;

/// Collects the options of a reply that may come in parts.
#[derive(Debug, Clone, Default)]
pub struct PushAssembler {
    options: Vec<String>,
}

impl PushAssembler {
    /// Takes the options of one message (what follows `PUSH_REPLY,`); returns all options once the last part is there,
    /// without the continuation marks, and starts over. On an error, what was collected is dropped.
    pub fn add(&mut self, options: &str) -> Result<Option<Vec<String>>, TooManyOptions> {
        let mut more = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.strip_prefix("push-continuation") {
                Some(value) if value.starts_with([' ', '\t']) => more = value.trim() == "2",
                _ if self.options.len() == MAX_OPTIONS => {
                    self.options.clear();
                    return Err(TooManyOptions);
                }
                _ => self.options.push(option.to_owned()),
            }
        }
        Ok((!more).then(|| std::mem::take(&mut self.options)))
    }
}

/// An option of a `PUSH_UPDATE` with its prefixes taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateOption<'a> {
    /// `-`: the option is withdrawn.
    pub remove: bool,
    /// `?`: a client that cannot update this option goes on without.
    pub optional: bool,
    /// The option line.
    pub line: &'a str,
}

impl<'a> UpdateOption<'a> {
    /// Takes the prefixes off; only `-`, `?` and `-?` are prefixes.
    pub fn parse(option: &'a str) -> Self {
        let (remove, rest) = option.strip_prefix('-').map_or((false, option), |rest| (true, rest));
        let (optional, line) = rest.strip_prefix('?').map_or((false, rest), |rest| (true, rest));
        Self { remove, optional, line }
    }
}

/// Why a line of options could not be cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// A quotation without its end.
    #[error("quotation mark without its end")]
    UnterminatedQuote,
    /// A backslash before a character that needs none, or at the end.
    #[error("backslash before a character that it cannot escape")]
    Backslash,
}

/// Cuts an option line into its tokens: white space separates, `"…"` quotes with backslash escapes, `'…'` quotes
/// without, `#` and `;` start a comment where a token would start, a leading `--` of the first token falls away.
pub fn tokens(line: &str) -> Result<Vec<String>, TokenError> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        let quote = match chars.peek() {
            None | Some('#' | ';') => break,
            Some('"' | '\'') => chars.next(),
            Some(_) => None,
        };
        let mut token = String::new();
        loop {
            match chars.next() {
                None if quote.is_some() => return Err(TokenError::UnterminatedQuote),
                None => break,
                Some(c) if quote == Some(c) => break,
                Some('\\') if quote != Some('\'') => {
                    let escapable = |c: &char| matches!(c, '\\' | '"' | ' ' | '\t');
                    token.push(chars.next_if(escapable).ok_or(TokenError::Backslash)?);
                }
                Some(c) if quote.is_none() && c.is_ascii_whitespace() => break,
                Some(c) => token.push(c),
            }
        }
        tokens.push(token);
    }
    if let Some(first) = tokens.first_mut()
        && let Some(bare) = first.strip_prefix("--")
    {
        *first = bare.to_owned();
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn together(messages: &[String]) -> Vec<String> {
        let mut assembler = PushAssembler::default();
        let mut done = None;
        for message in messages {
            assert!(done.is_none(), "a part after the last");
            let options = message.strip_prefix("PUSH_REPLY").unwrap();
            done = assembler.add(options).unwrap();
        }
        done.unwrap()
    }

    proptest! {
        #[test]
        fn what_is_split_comes_together(options in prop::collection::vec("[a-z0-9 .-]{1,120}", 0..200)) {
            let messages = split("PUSH_REPLY", &options).unwrap();
            prop_assert!(messages.iter().all(|message| message.len() < BUNDLE_LEN));
            prop_assert_eq!(together(&messages), options);
        }

        #[test]
        fn any_line_is_cut_or_refused(line: String) {
            if let Ok(tokens) = tokens(&line) {
                prop_assert!(tokens.len() <= line.len());
            }
        }
    }

    #[test]
    fn parts_carry_continuation_marks() {
        let options = vec!["x".repeat(500); 3];
        let messages = split("PUSH_REPLY", &options).unwrap();
        assert_eq!(messages.len(), 3);
        assert!(
            messages[0].ends_with(",push-continuation 2") && messages[2].ends_with(",push-continuation 1")
        );
        assert_eq!(split("PUSH_REPLY", [""; 0]).unwrap(), ["PUSH_REPLY"]);
        assert_eq!(split("PUSH_REPLY", ["ping 5"]).unwrap(), ["PUSH_REPLY,ping 5"]);
        assert!(split("PUSH_REPLY", ["a,b"]).is_err());
        assert!(split("PUSH_REPLY", ["x".repeat(940)]).is_err());
    }

    #[test]
    fn options_are_counted() {
        let mut assembler = PushAssembler::default();
        let part = format!("{}push-continuation 2", "x,".repeat(MAX_OPTIONS));
        assert_eq!(assembler.add(&part), Ok(None));
        assert_eq!(assembler.add("x"), Err(TooManyOptions));
        assert_eq!(assembler.add("y"), Ok(Some(vec!["y".to_owned()])));
    }

    #[test]
    fn update_prefixes() {
        let parse = |option| {
            let UpdateOption { remove, optional, line } = UpdateOption::parse(option);
            (remove, optional, line)
        };
        assert_eq!(parse("route 10.0.0.0"), (false, false, "route 10.0.0.0"));
        assert_eq!(parse("-route"), (true, false, "route"));
        assert_eq!(parse("?dns"), (false, true, "dns"));
        assert_eq!(parse("-?dns"), (true, true, "dns"));
        assert_eq!(parse("?-dns"), (false, true, "-dns"));
    }
}
