//! Scripts: a command line split by the configuration's rules, run without a shell.
//!
//! Running one waits only in its own task; no other peer notices a slow script.

use std::io;
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;

use crate::environment::Environment;

/// What `script-security` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Security {
    /// 0: nothing is run.
    Nothing,
    /// 1: only the system's own tools.
    #[default]
    BuiltIn,
    /// 2: scripts of the configuration.
    Scripts,
    /// 3: scripts, and passwords in their environment.
    Passwords,
}

impl Security {
    /// From the option's number; larger ones mean 3.
    pub(crate) const fn from_level(level: u8) -> Self {
        match level {
            0 => Self::Nothing,
            1 => Self::BuiltIn,
            2 => Self::Scripts,
            _ => Self::Passwords,
        }
    }
}

/// A script that could not say yes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `script-security` forbids it.
    #[error(
        "{what} script not run: external program may not be called unless '--script-security 2' or higher is set"
    )]
    Forbidden {
        /// The option that names it.
        what: &'static str,
    },
    /// The command line is empty or breaks the quoting rules.
    #[error("{what} script has no usable command line: {command:?}")]
    CommandLine {
        /// The option that names it.
        what: &'static str,
        /// Its text.
        command: String,
    },
    /// It could not be started.
    #[error("{what} script {program} could not be started: {error}")]
    Start {
        /// The option that names it.
        what: &'static str,
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// It ended with something else than 0.
    #[error("{what} script {program} failed: {status}")]
    Failed {
        /// The option that names it.
        what: &'static str,
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
}

impl Error {
    /// The exit code, where the script ran and gave one.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Failed { status, .. } => status.code(),
            _ => None,
        }
    }
}

/// One run of a script.
pub(crate) struct Script<'a> {
    /// The option that names it (`up`, `client-connect`, …), for messages.
    pub(crate) what: &'static str,
    /// The command line of the configuration.
    pub(crate) command: &'a str,
    /// Arguments put behind it.
    pub(crate) arguments: Vec<String>,
    /// Its whole environment, but for `PATH`, which is ours.
    pub(crate) environment: &'a Environment,
}

impl Script<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// Every row of [`Error`].
    pub(crate) async fn run(self, security: Security) -> Result<(), Error> {
        let what = self.what;
        if security < Security::Scripts {
            return Err(Error::Forbidden { what });
        }
        let words = split(self.command)
            .filter(|words| !words.is_empty())
            .ok_or_else(|| Error::CommandLine { what, command: self.command.to_owned() })?;
        let program = words[0].clone();
        let mut command = Command::new(&program);
        command.args(&words[1..]).args(&self.arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(self.environment.iter());
        let status =
            command.status().await.map_err(|error| Error::Start { what, program: program.clone(), error })?;
        if status.success() { Ok(()) } else { Err(Error::Failed { what, program, status }) }
    }
}

/// Splits a command line by the configuration's quoting rules; `None` where they are broken.
fn split(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = command.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(&first) = chars.peek() else { return Some(words) };
        let mut word = String::new();
        let quote = matches!(first, '"' | '\'').then_some(first);
        if quote.is_some() {
            chars.next();
        }
        loop {
            match (chars.next(), quote) {
                (None, None) => break,
                (None, Some(_)) => return None,
                (Some(c), Some(q)) if c == q => break,
                (Some(c), None) if c.is_whitespace() => break,
                (Some('\\'), Some('"') | None) => match chars.next() {
                    Some(c @ ('\\' | '"' | ' ' | '\t')) => word.push(c),
                    _ => return None,
                },
                (Some(c), _) => word.push(c),
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_configuration_lines_are() {
        assert_eq!(split("/bin/a b  c").unwrap(), ["/bin/a", "b", "c"]);
        assert_eq!(split(r#"/bin/a "b c" 'd\e' f\ g"#).unwrap(), ["/bin/a", "b c", r"d\e", "f g"]);
        assert_eq!(split("").unwrap(), Vec::<String>::new());
        assert_eq!(split(r#""a"#), None);
        assert_eq!(split(r"a\n"), None);
    }

    #[tokio::test]
    async fn only_its_own_environment_reaches_a_script() {
        let mut environment = Environment::default();
        environment.set("GREETING", "hello");
        let command =
            r#"/bin/sh -c "test \"$GREETING\" = hello && test -z \"$HOME\" && test \"$1\" = tun0" x"#;
        let run = |security| {
            let script =
                Script { what: "up", command, arguments: vec!["tun0".to_owned()], environment: &environment };
            script.run(security)
        };
        run(Security::Scripts).await.unwrap();
        assert!(matches!(run(Security::BuiltIn).await, Err(Error::Forbidden { .. })));
        let environment = Environment::default();
        let script =
            Script { what: "up", command: "/bin/false", arguments: Vec::new(), environment: &environment };
        assert_eq!(script.run(Security::Scripts).await.unwrap_err().exit_code(), Some(1));
    }
}
