//! `cargo xtask compat`: runs the interoperability matrix and writes what it found into `docs/compat.md`.

use anyhow::Result;

use crate::run::{cargo, run};
use crate::{stock, tools};

/// Runs every cell; the table is written even where some failed.
pub(crate) fn compat() -> Result<()> {
    tools::ensure(tools::DEMO)?;
    tools::ensure(tools::TEST)?;
    run_matrix(true)
}

/// Runs every cell, and writes the table or compares it with what is stated.
pub(crate) fn run_matrix(update: bool) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--package", "ovpn", "--all-features", "--test", "interop_matrix", "--"]);
    command.args(["--ignored", "--nocapture"]).env("OVPN_STOCK_DIR", stock::fetch()?);
    if update {
        command.env("OVPN_COMPAT_UPDATE", "1");
    }
    run(&mut command)
}
