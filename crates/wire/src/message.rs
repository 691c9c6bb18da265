//! Text messages of the control channel.
//!
//! After key-method 2 both sides send commands as text, each with a final NUL, each in one TLS record:
//! `PUSH_REQUEST`, `PUSH_REPLY,…`, `AUTH_FAILED,…`, … [`commands`] cuts a record into commands, [`Message::parse`] reads
//! one, [`Message`]'s `Display` writes it. Commands are told apart by prefix; unknown ones are no error.
//! Source: OpenVPN wire protocol, "Text messages".

use std::fmt;

use thiserror::Error;

/// The longest record of text that is accepted.
pub const MAX_RECORD: usize = 2048;

/// A text command.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// A client asks for its configuration; also its sign of life while authentication is pending.
    PushRequest,
    /// Options, possibly one part of several: what follows `PUSH_REPLY,`; see [`crate::push::PushAssembler`].
    PushReply(String),
    /// Changed options, in the same form.
    PushUpdate(String),
    /// The login was refused.
    AuthFailed(AuthFailed),
    /// The login continues out of band.
    AuthPending {
        /// How long the client should wait, in seconds.
        timeout: Option<u64>,
        /// Further keywords, as they stand.
        keywords: String,
    },
    /// Text for the user interface before the push reply, e.g. `WEB_AUTH:flags:url`.
    InfoPre(String),
    /// Text for the user interface.
    Info(String),
    /// The client's answer to a `CR_TEXT`, in base64.
    CrResponse(String),
    /// The client must connect anew.
    Restart(Restart),
    /// The client must stop; the text may say why.
    Halt(String),
    /// The sender goes away.
    Exit,
    /// Anything else, as it stands: log it and go on.
    Unknown(String),
}

/// Why a login was refused, and what the client should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthFailed {
    /// Refused, with a reason or an empty text.
    Refused(String),
    /// The session's token has expired; the text says more.
    Session(String),
    /// Refused for now: try again.
    Temporary {
        /// Wait so many seconds first.
        backoff: Option<u32>,
        /// Where to try.
        advance: Advance,
        /// For the user; as it stands after the colon.
        reason: String,
    },
    /// The server asks a question first (`CRV1:flags:state:user:text`).
    Challenge {
        /// `R`: an answer is required, `E`: it may be shown while typed.
        flags: String,
        /// Opaque; goes back to the server.
        state: String,
        /// The user name in base64.
        username: String,
        /// The question.
        text: String,
    },
}

/// Where a client tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Advance {
    /// Nothing was said.
    #[default]
    Unspecified,
    /// The same address.
    No,
    /// The next address of the same remote.
    Address,
    /// The next remote.
    Remote,
}

/// How a client connects anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restart {
    /// `P`: user name and password are kept; without it they are forgotten.
    pub keep_credentials: bool,
    /// `N`: the next remote is tried; without it the same.
    pub advance: bool,
    /// For the log.
    pub text: String,
}

/// A command that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Its NUL is missing.
    #[error("text command without its final NUL")]
    Unterminated,
    /// It contains control characters or is no UTF-8.
    #[error("text command with control characters")]
    Characters,
}

/// Cuts one TLS record into commands: NULs end them, CR and LF at the end fall away, empty ones are skipped.
pub fn commands(record: &[u8]) -> impl Iterator<Item = Result<&str, CommandError>> {
    let mut rest = record;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let Some(end) = rest.iter().position(|byte| *byte == 0) else {
                rest = &[];
                return Some(Err(CommandError::Unterminated));
            };
            let command = &rest[..end];
            rest = &rest[end + 1..];
            let trimmed = command.trim_ascii_end_of_line();
            if trimmed.is_empty() {
                continue;
            }
            return Some(match std::str::from_utf8(trimmed) {
                Ok(text) if !text.contains(char::is_control) => Ok(text),
                _ => Err(CommandError::Characters),
            });
        }
        None
    })
}

trait TrimEndOfLine {
    fn trim_ascii_end_of_line(&self) -> &Self;
}

impl TrimEndOfLine for [u8] {
    fn trim_ascii_end_of_line(&self) -> &Self {
        let mut text = self;
        while let [head @ .., b'\r' | b'\n'] = text {
            text = head;
        }
        text
    }
}

impl Message {
    /// Reads one command.
    pub fn parse(command: &str) -> Self {
        let after = |name: &str| {
            let rest = command.strip_prefix(name)?;
            Some(rest.strip_prefix(',').unwrap_or(rest))
        };
        if command.starts_with("PUSH_REQUEST") {
            Self::PushRequest
        } else if let Some(options) = after("PUSH_REPLY") {
            Self::PushReply(options.to_owned())
        } else if let Some(options) = after("PUSH_UPDATE") {
            Self::PushUpdate(options.to_owned())
        } else if let Some(reason) = after("AUTH_FAILED") {
            Self::AuthFailed(AuthFailed::parse(reason))
        } else if let Some(keywords) = after("AUTH_PENDING") {
            Self::auth_pending(keywords)
        } else if let Some(text) = after("INFO_PRE") {
            Self::InfoPre(text.to_owned())
        } else if let Some(text) = after("INFO") {
            Self::Info(text.to_owned())
        } else if let Some(response) = after("CR_RESPONSE") {
            Self::CrResponse(response.to_owned())
        } else if let Some(rest) = after("RESTART") {
            Self::Restart(Restart::parse(rest))
        } else if let Some(rest) = after("HALT") {
            let text = flags_and_text(rest).1;
            Self::Halt(text.to_owned())
        } else if command.starts_with("EXIT") {
            Self::Exit
        } else {
            Self::Unknown(command.to_owned())
        }
    }

    /// The command with its NUL, as one TLS record carries it.
    pub fn to_record(&self) -> Vec<u8> {
        let mut record = self.to_string().into_bytes();
        record.push(0);
        record
    }

    /// The command's name, for logs: messages may carry tokens.
    pub fn name(&self) -> &str {
        match self {
            Self::PushRequest => "PUSH_REQUEST",
            Self::PushReply(_) => "PUSH_REPLY",
            Self::PushUpdate(_) => "PUSH_UPDATE",
            Self::AuthFailed(_) => "AUTH_FAILED",
            Self::AuthPending { .. } => "AUTH_PENDING",
            Self::InfoPre(_) => "INFO_PRE",
            Self::Info(_) => "INFO",
            Self::CrResponse(_) => "CR_RESPONSE",
            Self::Restart(_) => "RESTART",
            Self::Halt(_) => "HALT",
            Self::Exit => "EXIT",
            Self::Unknown(text) => text.split(',').next().unwrap_or_default(),
        }
    }

    fn auth_pending(keywords: &str) -> Self {
        let mut timeout = None;
        let mut others = Vec::new();
        for keyword in keywords.split(',').filter(|keyword| !keyword.is_empty()) {
            match keyword.strip_prefix("timeout ").and_then(|seconds| seconds.trim().parse().ok()) {
                Some(seconds) => timeout = Some(seconds),
                None => others.push(keyword),
            }
        }
        Self::AuthPending { timeout, keywords: others.join(",") }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |f: &mut fmt::Formatter<'_>, name: &str, rest: &str| match rest {
            "" => f.write_str(name),
            rest => write!(f, "{name},{rest}"),
        };
        match self {
            Self::PushRequest | Self::Exit => f.write_str(self.name()),
            Self::PushReply(options) | Self::PushUpdate(options) => with(f, self.name(), options),
            Self::AuthFailed(failed) => with(f, self.name(), &failed.to_string()),
            Self::AuthPending { timeout, keywords } => {
                f.write_str(self.name())?;
                if let Some(seconds) = timeout {
                    write!(f, ",timeout {seconds}")?;
                }
                with(f, "", keywords)
            }
            Self::InfoPre(text) | Self::Info(text) | Self::CrResponse(text) => {
                write!(f, "{},{text}", self.name())
            }
            Self::Restart(restart) => {
                let flags = match (restart.keep_credentials, restart.advance) {
                    (false, false) => "",
                    (true, false) => "[P]",
                    (false, true) => "[N]",
                    (true, true) => "[PN]",
                };
                with(f, self.name(), &format!("{flags}{}", restart.text))
            }
            Self::Halt(text) => with(f, self.name(), text),
            Self::Unknown(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Options may hold tokens.
            Self::PushReply(options) | Self::PushUpdate(options) => {
                write!(f, "{}({} options)", self.name(), options.split(',').count())
            }
            Self::CrResponse(_) => write!(f, "{}(…)", self.name()),
            other => write!(f, "{:?}", other.to_string()),
        }
    }
}

/// `[flags]text`: flags may be absent.
fn flags_and_text(rest: &str) -> (&str, &str) {
    rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).unwrap_or(("", rest))
}

impl Restart {
    fn parse(rest: &str) -> Self {
        let (flags, text) = flags_and_text(rest);
        Self { keep_credentials: flags.contains('P'), advance: flags.contains('N'), text: text.to_owned() }
    }
}

impl AuthFailed {
    fn parse(reason: &str) -> Self {
        if let Some(rest) = reason.strip_prefix("TEMP") {
            return Self::temporary(rest);
        }
        if let Some(rest) = reason.strip_prefix("SESSION:") {
            return Self::Session(rest.trim_start().to_owned());
        }
        if let Some(challenge) = reason.strip_prefix("CRV1:") {
            let mut parts = challenge.splitn(4, ':').map(str::to_owned);
            if let (Some(flags), Some(state), Some(username), Some(text)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            {
                return Self::Challenge { flags, state, username, text };
            }
        }
        Self::Refused(reason.to_owned())
    }

    /// What follows `TEMP`: `[backoff N,advance …]` and `:reason`, both optional.
    fn temporary(rest: &str) -> Self {
        let (mut backoff, mut advance) = (None, Advance::Unspecified);
        let (flags, rest) = flags_and_text(rest);
        for flag in flags.split(',') {
            match flag.trim().split_once(' ') {
                Some(("backoff", seconds)) => backoff = seconds.trim().parse().ok(),
                Some(("advance", "no")) => advance = Advance::No,
                Some(("advance", "addr")) => advance = Advance::Address,
                Some(("advance", "remote")) => advance = Advance::Remote,
                _ => {}
            }
        }
        let reason = rest.strip_prefix(':').unwrap_or(rest).to_owned();
        Self::Temporary { backoff, advance, reason }
    }
}

impl fmt::Display for AuthFailed {
    /// What follows `AUTH_FAILED,`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason),
            Self::Session(text) => write!(f, "SESSION: {text}"),
            Self::Challenge { flags, state, username, text } => {
                write!(f, "CRV1:{flags}:{state}:{username}:{text}")
            }
            Self::Temporary { backoff, advance, reason } => {
                let backoff = backoff.map(|seconds| format!("backoff {seconds}"));
                let advance = match advance {
                    Advance::Unspecified => None,
                    Advance::No => Some("advance no".to_owned()),
                    Advance::Address => Some("advance addr".to_owned()),
                    Advance::Remote => Some("advance remote".to_owned()),
                };
                f.write_str("TEMP")?;
                let flags: Vec<String> = [backoff, advance].into_iter().flatten().collect();
                if !flags.is_empty() {
                    write!(f, "[{}]", flags.join(","))?;
                }
                if reason.is_empty() { Ok(()) } else { write!(f, ":{reason}") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_command_is_read_and_written() {
        let info = |text: &str| Message::Info(text.to_owned());
        let refused = |text: &str| Message::AuthFailed(AuthFailed::Refused(text.to_owned()));
        let pending =
            |timeout, keywords: &str| Message::AuthPending { timeout, keywords: keywords.to_owned() };
        let cases = [
            ("PUSH_REQUEST", Message::PushRequest),
            ("PUSH_REPLY", Message::PushReply(String::new())),
            ("PUSH_REPLY,ping 5,peer-id 0", Message::PushReply("ping 5,peer-id 0".to_owned())),
            ("PUSH_UPDATE,-route", Message::PushUpdate("-route".to_owned())),
            ("AUTH_FAILED", refused("")),
            ("AUTH_FAILED,no such user", refused("no such user")),
            (
                "AUTH_FAILED,SESSION: token expired",
                Message::AuthFailed(AuthFailed::Session("token expired".to_owned())),
            ),
            (
                "AUTH_FAILED,CRV1:R,E:Om01u7Fh4LrGBS7uh0SWmzwabUiGiW6l:Y3Ix:Please enter: token",
                Message::AuthFailed(AuthFailed::Challenge {
                    flags: "R,E".to_owned(),
                    state: "Om01u7Fh4LrGBS7uh0SWmzwabUiGiW6l".to_owned(),
                    username: "Y3Ix".to_owned(),
                    text: "Please enter: token".to_owned(),
                }),
            ),
            ("AUTH_FAILED,CRV1:broken", refused("CRV1:broken")),
            ("AUTH_PENDING", pending(None, "")),
            ("AUTH_PENDING,timeout 300", pending(Some(300), "")),
            ("AUTH_PENDING,timeout 300,new thing", pending(Some(300), "new thing")),
            ("INFO_PRE,WEB_AUTH::https://x/?a,b", Message::InfoPre("WEB_AUTH::https://x/?a,b".to_owned())),
            ("INFO,hello", info("hello")),
            ("CR_RESPONSE,SGVsbG8=", Message::CrResponse("SGVsbG8=".to_owned())),
            (
                "RESTART,[P]bye",
                Message::Restart(Restart { keep_credentials: true, advance: false, text: "bye".to_owned() }),
            ),
            ("HALT", Message::Halt(String::new())),
            ("HALT,go home", Message::Halt("go home".to_owned())),
            ("EXIT", Message::Exit),
            ("ACC,ctrl,6,5,hello", Message::Unknown("ACC,ctrl,6,5,hello".to_owned())),
        ];
        for (text, message) in cases {
            assert_eq!(Message::parse(text), message, "{text}");
            assert_eq!(message.to_string(), text);
        }
        assert_eq!(Message::parse("HALT,[N]go"), Message::Halt("go".to_owned()));
    }

    #[test]
    fn records_are_cut_at_nuls() {
        let record = b"EXIT\r\n\0\0INFO,x\0\x01\0PUSH_REQUEST";
        let cut: Vec<_> = commands(record).collect();
        assert_eq!(
            cut,
            [Ok("EXIT"), Ok("INFO,x"), Err(CommandError::Characters), Err(CommandError::Unterminated)]
        );
        assert_eq!(Message::Exit.to_record(), b"EXIT\0");
    }

    #[test]
    fn tokens_are_not_printed() {
        let reply = Message::PushReply("auth-token SESS_ID_AT_x".to_owned());
        assert_eq!(format!("{reply:?}"), "PUSH_REPLY(1 options)");
    }

    proptest! {
        #[test]
        fn any_record_is_read(record: Vec<u8>) {
            for command in commands(&record).flatten() {
                let message = Message::parse(command);
                // Writing is a normal form: what was written reads as the same message.
                prop_assert_eq!(Message::parse(&message.to_string()), message);
            }
        }

        #[test]
        fn any_command_is_read(
            name in prop::sample::select(vec!["AUTH_FAILED", "AUTH_FAILED,TEMP", "AUTH_PENDING", "RESTART", "HALT", "INFO_PRE"]),
            rest in "[,:\\[\\]A-Za-z0-9 ]{0,30}",
        ) {
            let _ = Message::parse(&format!("{name}{rest}"));
        }
    }
}
