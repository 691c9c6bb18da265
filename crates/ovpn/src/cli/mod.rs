//! `ovpn-cli`, the test bed: the grammar of the kernel's selftest tool, against the engine or the kernel.
//!
//! ```text
//!   words ─ grammar ─▶ Command ─ commands ─▶ dyn DataPlane: engine process or kernel (OVPN_DRIVER)
//!                         └─ key_file, peers_file            │
//!   standard error ◀─ report                                 │
//!   standard output ◀─ notification (listen_mcast) ◀─────────┘
//! ```
//!
//! A command that opens a socket goes into the background when it has succeeded and keeps the socket open; killing
//! it closes the socket. Exit status: 0, the negative errno in 8 bits, or 255.

pub(crate) mod grammar;

mod commands;
mod driver;
mod key_file;
mod listen;
mod manual;
mod notification;
mod peers_file;
mod report;
mod transport;
mod windows;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use ovpn_sys::background::{Background, Split, split};

use driver::Driver;
pub(crate) use manual::man_page;

const EXAMPLES: &str = "
Exit code: 0 done, else an errno, negative, in 8 bits.

Examples:
  ovpn cli new_iface tun0 P2P
  ovpn cli new_peer tun0 1 none 1194 192.0.2.2 1194
  ovpn cli new_key tun0 1 1 0 aes 0 data64.key
  ovpn cli get_peer tun0
  ovpn cli del_iface tun0";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong.
    #[error(transparent)]
    Grammar(#[from] grammar::GrammarError),
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A key file is none.
    #[error(transparent)]
    Key(#[from] key_file::KeyFileError),
    /// A socket or the system refused.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The data plane refused.
    #[error(transparent)]
    Dco(#[from] ovpn_dco::Error),
}

impl Failure {
    /// The exit status that the kernel's tool would have.
    fn status(&self) -> u8 {
        let errno = match self {
            Self::Dco(error) => error.errno(),
            Self::System(error) | Self::File(_, error) => error.raw_os_error().unwrap_or(1),
            Self::Key(_) => 22,
            Self::Grammar(grammar::GrammarError::Value { .. }) => 22,
            Self::Grammar(_) => 1,
        };
        u8::try_from((-errno) & 0xFF).unwrap_or(255)
    }
}

/// Runs a tool, if the program was called as one: by its name (`ovpn-cli`, `ovpn-dco-cli`), or by
/// its word (`ovpn cli`, `ovpn dco-cli`, `ovpn engine`).
pub(crate) fn dispatch(words: &[String]) -> Option<ExitCode> {
    let (name, words) = words.split_first()?;
    let name = std::path::Path::new(name).file_name()?.to_str()?;
    if name == "ovpn-cli" {
        return Some(run(words));
    }
    if name == "ovpn-dco-cli" {
        return Some(windows::run(words));
    }
    let (word, words) = words.split_first()?;
    match word.as_str() {
        "dco-cli" => Some(windows::run(words)),
        "cli" => Some(run(words)),
        "engine" => Some(crate::engine_process::run(words)),
        _ => None,
    }
}

/// Whether somebody wants to know how a tool is used.
pub(crate) fn asks_for_help(words: &[String]) -> bool {
    matches!(words.first().map(String::as_str), Some("--help" | "-h" | "help"))
}

/// Runs the tool with the arguments after its name.
pub(crate) fn run(words: &[String]) -> ExitCode {
    if asks_for_help(words) {
        println!(
            "Drives a data plane by hand, in the grammar of the kernel's test tool.

{}
{EXAMPLES}",
            grammar::usage()
        );
        return ExitCode::SUCCESS;
    }
    let command = match grammar::parse(words) {
        Ok(command) => command,
        Err(error) => return failed(&error.into()),
    };
    let driver = match Driver::from_environment() {
        Ok(driver) => driver,
        Err(error) => return failed(&error),
    };
    if !command.stays() {
        return match commands::run(driver, &command) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    match split() {
        Ok(Split::Waiting(waiting)) => waiting.status().into(),
        Ok(Split::Background(background)) => stay(driver, &command, background),
        Err(error) => failed(&error.into()),
    }
}

/// Carries out the command, tells the waiting process, and holds the sockets until killed.
fn stay(driver: Driver, command: &grammar::Command, background: Background) -> ExitCode {
    let held = match commands::run(driver, command) {
        Ok(held) => held,
        Err(error) => return failed(&error),
    };
    if let Err(error) = background.report(0) {
        return failed(&error.into());
    }
    loop {
        std::thread::park();
        // Woken without reason; the sockets stay open.
        std::hint::black_box(&held);
    }
}

fn failed(error: &Failure) -> ExitCode {
    eprintln!("ovpn-cli: {error}");
    error.status().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovpn_dco::{Error, ErrorKind};

    #[test]
    fn the_status_is_the_negative_errno() {
        let status = |kind| Failure::Dco(Error::new(kind, "")).status();
        assert_eq!(status(ErrorKind::NoSuchPeer), 254);
        assert_eq!(status(ErrorKind::InvalidArgument), 234);
        assert_eq!(Failure::Grammar(grammar::GrammarError::Arguments("")).status(), 255);
        assert_eq!(Failure::System(io::Error::from_raw_os_error(13)).status(), 243);
    }
}
