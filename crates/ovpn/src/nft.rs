//! Rules for the system's packet filter, by the program that everybody has: `nft`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::outcome::Fatal;

/// Puts rules in force, all or none. `option` is who wants them, for the message.
///
/// # Errors
/// A sentence about what is missing or denied.
pub(crate) fn apply(option: &str, rules: &str) -> Result<(), Fatal> {
    let failed =
        |why: &dyn std::fmt::Display| Fatal(format!("--{option}: nft does not take the rules: {why}"));
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Fatal(format!("--{option} needs the program nft: install the package nftables"))
            }
            _ => failed(&error),
        })?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).map_err(|error| failed(&error))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(failed(&text.lines().next().unwrap_or("no reason given")));
    }
    Ok(())
}
