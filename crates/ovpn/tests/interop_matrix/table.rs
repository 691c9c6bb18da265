//! The table in `docs/compat.md`, between two marks: what the run found, and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::cell::{CIPHERS, Cell, Found, LINKS, ROLES, VERSIONS, WRAPS};

const BEGIN: &str = "<!-- matrix: begin, written by `cargo xtask compat` -->\n";
const END: &str = "<!-- matrix: end -->\n";

/// Compares the document with what was found, or writes it where that is asked for. `Some`: how they differ.
pub(crate) fn judge(cells: &[Cell], results: &[anyhow::Result<Found>]) -> Option<String> {
    let found = render(cells, results);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compat.md");
    std::fs::write(&kept, &found).expect("the found table can be kept");
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compat.md");
    let text = std::fs::read_to_string(&document).expect("docs/compat.md");
    let (head, rest) = text.split_once(BEGIN).expect("the table's first mark");
    let (stated, tail) = rest.split_once(END).expect("the table's last mark");
    if std::env::var_os("OVPN_COMPAT_UPDATE").is_some() {
        std::fs::write(&document, format!("{head}{BEGIN}{found}{END}{tail}")).expect("docs/compat.md");
        return None;
    }
    (stated != found).then(|| {
        format!("docs/compat.md says other than {}: run `cargo xtask compat` and commit it", kept.display())
    })
}

fn render(cells: &[Cell], results: &[anyhow::Result<Found>]) -> String {
    let all: Vec<(&Cell, &anyhow::Result<Found>)> = cells.iter().zip(results).collect();
    let passed = results.iter().filter(|result| result.is_ok()).count();
    let mut out = format!("\n{passed} of {} cells passed.\n", cells.len());
    for (version, name) in VERSIONS.iter().enumerate().rev() {
        let of_version = || all.iter().filter(move |(cell, _)| cell.version == version);
        let tls: BTreeSet<&str> =
            of_version().filter_map(|(_, found)| Some(found.as_ref().ok()?.tls.as_str())).collect();
        let tls = tls.into_iter().collect::<Vec<_>>().join("; ");
        let _ = write!(out, "\n### Stock {name} ({tls})\n\n| transport | control channel |");
        for role in ROLES {
            let _ = write!(out, " ours: {role} |");
        }
        out.push_str("\n|---|---|---|---|---|---|\n");
        for link in LINKS {
            for wrap in WRAPS {
                let row = || of_version().filter(move |(cell, _)| cell.link == link && cell.wrap == wrap);
                if row().next().is_none() {
                    continue;
                }
                let _ = write!(out, "| {link} | {wrap} |");
                for role in ROLES {
                    for cipher in CIPHERS {
                        let result = row().find(|(cell, _)| cell.ours == role && cell.cipher == cipher);
                        out.push_str(match result {
                            None => " –",
                            Some((_, Ok(_))) => " ✓",
                            Some((_, Err(_))) => " ✗",
                        });
                    }
                    out.push_str(" |");
                }
                out.push('\n');
            }
        }
    }
    out.push('\n');
    out
}
