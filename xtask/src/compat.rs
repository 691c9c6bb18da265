//! `cargo xtask compat`: runs the interoperability matrix and writes what it found into `docs/compat.md`.

use anyhow::Result;

use crate::run::{cargo, run};
use crate::{stock, tools};

/// Runs every cell; the table is written even where some failed.
pub(crate) fn compat() -> Result<()> {
    tools::ensure(tools::DEMO)?;
    tools::ensure(tools::TEST)?;
    run(cargo()
        .args([
            "test",
            "--package",
            "ovpn",
            "--all-features",
            "--test",
            "interop_matrix",
            "--",
            "--ignored",
            "--nocapture",
        ])
        .env("OVPN_STOCK_DIR", stock::fetch()?)
        .env("OVPN_COMPAT_UPDATE", "1"))
}
