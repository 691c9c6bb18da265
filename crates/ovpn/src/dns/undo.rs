//! A command that takes DNS settings back: now, or by a shell that waits for its time with the rights of today.
//!
//! The shell reads its standard input to the end, and runs the command then: when it is told to, or when this process
//! has gone, however it went.

use std::io;
use std::process::Stdio;

use tokio::process::{Child, ChildStdin, Command};

/// A command for later.
#[derive(Debug)]
pub(super) enum Undo {
    /// To be started when its time has come.
    Later(&'static str, Vec<String>),
    /// A shell waits.
    Waiting(Child, ChildStdin),
}

const SHELL: &str = r#"trap "" HUP INT TERM; cat >/dev/null; exec "$@""#;

impl Undo {
    /// `rights_go`: the process gives up root before the command's time comes.
    ///
    /// # Errors
    /// When no shell can be started.
    pub(super) fn new(program: &'static str, arguments: Vec<String>, rights_go: bool) -> io::Result<Self> {
        if !rights_go {
            return Ok(Self::Later(program, arguments));
        }
        let mut child = Command::new("sh")
            .args(["-c", SHELL, "sh", program])
            .args(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let stdin = child.stdin.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(Self::Waiting(child, stdin))
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it fails.
    pub(super) async fn run(self) -> io::Result<()> {
        match self {
            Self::Later(program, arguments) => super::run(program, &arguments, None).await,
            Self::Waiting(mut child, stdin) => {
                drop(stdin);
                let status = child.wait().await?;
                if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_for_its_time() {
        let file = std::env::temp_dir().join(format!("ovpn-undo-{}", std::process::id()));
        let arguments = || vec![file.display().to_string()];
        for rights_go in [false, true] {
            let undo = Undo::new("touch", arguments(), rights_go).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            assert!(!file.exists(), "too early");
            undo.run().await.unwrap();
            std::fs::remove_file(&file).unwrap();
        }
        let undo = Undo::new("false", Vec::new(), true).unwrap();
        assert!(undo.run().await.is_err());
        // Who goes without a word is cleaned up after, too.
        drop(Undo::new("touch", arguments(), true).unwrap());
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !file.exists() {
            assert!(std::time::Instant::now() < end);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        std::fs::remove_file(&file).unwrap();
    }
}
