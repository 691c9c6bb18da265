//! The program at one end of a tunnel: ours or stock. Both are started the same way.

use std::path::PathBuf;
use std::process::Command;

use crate::{Netns, StockOpenvpn};

/// The line that says a tunnel is up, at both ends.
pub const UP: &str = "Initialization Sequence Completed";

/// An OpenVPN program.
#[derive(Debug, Clone)]
pub enum Program {
    /// The one under test.
    Ours(PathBuf),
    /// The judge.
    Stock(StockOpenvpn),
}

impl Program {
    /// Ours: `$OVPN_PROGRAM` where that is set (a release build, say), else the one built with the tests.
    pub fn ours(built: &str) -> Self {
        Self::Ours(std::env::var_os("OVPN_PROGRAM").unwrap_or_else(|| built.into()).into())
    }

    /// A command that runs it inside a namespace.
    pub fn command(&self, ns: &Netns) -> Command {
        ns.command(self.path())
    }

    /// A command that runs it where we are.
    pub fn command_outside(&self) -> Command {
        Command::new(self.path())
    }

    /// Whether it knows `disable-dco` (stock from 2.6 on, and ours).
    pub fn knows_dco(&self) -> bool {
        !matches!(self, Self::Stock(stock) if stock.version.starts_with("2.5") || stock.version.starts_with("2.4"))
    }

    fn path(&self) -> &PathBuf {
        match self {
            Self::Ours(path) => path,
            Self::Stock(stock) => &stock.path,
        }
    }
}

impl From<StockOpenvpn> for Program {
    fn from(stock: StockOpenvpn) -> Self {
        Self::Stock(stock)
    }
}
