//! Asking a person: systemd's agents under a service manager, else the terminal.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// Asks for one line; `echo` shows it while it is typed. Blocks.
///
/// # Errors
/// A sentence where nobody can be asked.
pub(crate) fn ask(question: &str, echo: bool) -> Result<String, String> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    match terminal {
        Ok(tty) => {
            let mut out = &tty;
            let _ = write!(out, "{question} ");
            let before = tcgetattr(&tty).ok();
            if let (false, Some(before)) = (echo, &before) {
                let mut quiet = before.clone();
                quiet.local_modes.remove(LocalModes::ECHO);
                let _ = tcsetattr(&tty, OptionalActions::Flush, &quiet);
            }
            let mut line = String::new();
            let read = BufReader::new(&tty).read_line(&mut line);
            if let (false, Some(before)) = (echo, &before) {
                let _ = tcsetattr(&tty, OptionalActions::Flush, before);
                let _ = writeln!(out);
            }
            match read {
                Ok(n) if n > 0 => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
                _ => Err(format!("no answer to \"{question}\"")),
            }
        }
        Err(_) => ask_agent(question, echo),
    }
}

fn ask_agent(question: &str, echo: bool) -> Result<String, String> {
    let mut command = Command::new("systemd-ask-password");
    command.arg("--icon=network-vpn").arg("--timeout=0");
    if echo {
        command.arg("--echo=yes");
    }
    let output = command.arg(question).stdin(Stdio::null()).stderr(Stdio::null()).output().map_err(|_| {
        format!(
            "nobody can be asked \"{question}\": there is no terminal; name a file in the configuration \
                 (auth-user-pass FILE, askpass FILE) or use the management interface"
        )
    })?;
    if !output.status.success() {
        return Err(format!("no answer to \"{question}\" from the password agent"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
