//! `cargo xtask demo`: builds, then lets the program show itself.

use std::process::Command;

use anyhow::Result;

use crate::run::{cargo, root, run};
use crate::tools;

/// Builds a release and runs the demonstration.
pub(crate) fn demo() -> Result<()> {
    tools::ensure(tools::DEMO)?;
    run(cargo().args(["build", "--release", "--package", "ovpn"]))?;
    run(Command::new(root().join("target/release/ovpn")).arg("demo"))
}
