//! `cargo xtask test`: everything that CI runs, in the order in which a mistake shows soonest.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::run::{cargo, has, is_root, run};
use crate::{stock, tools};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] =
    &[("fmt", fmt), ("clippy", clippy), ("doc", doc), ("deny", deny), ("unit", unit), ("netns", netns)];

/// Runs the named steps, or all.
pub(crate) fn test(wanted: &[String]) -> Result<()> {
    if let Some(unknown) = wanted.iter().find(|name| STEPS.iter().all(|(step, _)| step != name)) {
        let known: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no step is called '{unknown}'; there are: {}", known.join(" "));
    }
    tools::ensure(tools::DEMO)?;
    tools::ensure(tools::TEST)?;
    let mut took = Vec::new();
    for (name, step) in STEPS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            println!("== {name}");
            let start = Instant::now();
            step()?;
            took.push(format!("{name} {:.0} s", start.elapsed().as_secs_f64()));
        }
    }
    println!("== all passed: {}", took.join(", "));
    Ok(())
}

fn fmt() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn doc() -> Result<()> {
    run(cargo().args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn deny() -> Result<()> {
    if !has("cargo-deny")
        && !cargo().args(["deny", "--version"]).output().is_ok_and(|out| out.status.success())
    {
        run(cargo().args(["install", "--quiet", "--locked", "cargo-deny"]))?;
    }
    run(cargo().args(["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]))
}

/// Tests that need no privilege: everything but the binary's namespace tests.
fn unit() -> Result<()> {
    run(cargo().args(["test", "--quiet", "--workspace", "--all-features"]))
}

/// Tests in network namespaces, with stock peers; marked `#[ignore]` because they need root.
fn netns() -> Result<()> {
    if !is_root() {
        bail!("the namespace tests need root: run `sudo -E cargo xtask test netns`");
    }
    let dir = stock::fetch()?;
    run(cargo()
        .args(["test", "--workspace", "--all-features", "--", "--ignored", "--test-threads=1"])
        .env("OVPN_STOCK_DIR", dir))
}
