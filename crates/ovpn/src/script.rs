//! Scripts: a command line split by the configuration's rules, run without a shell.
//!
//! Running one waits only in its own task; no other peer notices a slow script.

use std::io;
use std::process::{ExitStatus, Stdio};

use ovpn_config::model::{Command, ScriptSecurity};

use crate::environment::Environment;

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
    /// The option that names it (`up`, `client-connect`, …), for messages and as `script_type`.
    pub(crate) what: &'static str,
    /// The command of the configuration.
    pub(crate) command: &'a Command,
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
    pub(crate) async fn run(self, security: ScriptSecurity) -> Result<(), Error> {
        let what = self.what;
        if security < ScriptSecurity::Scripts {
            return Err(Error::Forbidden { what });
        }
        let Some((program, words)) = self.command.argv.split_first() else { return Ok(()) };
        let mut command = tokio::process::Command::new(program);
        command.args(words).args(&self.arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(self.environment.iter());
        command.env("script_type", what);
        let status =
            command.status().await.map_err(|error| Error::Start { what, program: program.clone(), error })?;
        if status.success() { Ok(()) } else { Err(Error::Failed { what, program: program.clone(), status }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Command {
        Command { argv: words.iter().map(|&word| word.to_owned()).collect(), span: Default::default() }
    }

    #[tokio::test]
    async fn only_its_own_environment_reaches_a_script() {
        let mut environment = Environment::default();
        environment.set("GREETING", "hello");
        let test =
            r#"test "$GREETING" = hello && test -z "$HOME" && test "$1" = tun0 && test "$script_type" = up"#;
        let up = command(&["/bin/sh", "-c", test, "x"]);
        let run = |security| {
            let script = Script {
                what: "up",
                command: &up,
                arguments: vec!["tun0".to_owned()],
                environment: &environment,
            };
            script.run(security)
        };
        run(ScriptSecurity::Scripts).await.unwrap();
        assert!(matches!(run(ScriptSecurity::BuiltIn).await, Err(Error::Forbidden { .. })));
        let failing = command(&["/bin/sh", "-c", "exit 3"]);
        let script =
            Script { what: "up", command: &failing, arguments: Vec::new(), environment: &environment };
        assert_eq!(script.run(ScriptSecurity::Scripts).await.unwrap_err().exit_code(), Some(3));
    }
}
