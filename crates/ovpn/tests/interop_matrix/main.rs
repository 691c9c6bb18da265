//! Every way in which a user may pair us with stock OpenVPN, tried for real: `docs/compat.md` is what came out.
//!
//! ```text
//!            ours is      × stock         × transport      × control channel  × data cipher
//!   client, server,         2.6.14, 2.7.8   UDP4 UDP6 TCP4   none, tls-auth,    AES-128-GCM, AES-256-GCM,
//!   peer as TLS client      (2.5.1: main                     tls-crypt,         CHACHA20-POLY1305
//!   or as TLS server         paths)                          tls-crypt-v2
//! ```
//!
//! Each cell is a tunnel of its own between two fresh processes (see [`cell`]). Workers take cells from one list; each
//! has a pair of namespaces of its own. The table in `docs/compat.md` must say what was found; `cargo xtask compat`
//! (which sets `OVPN_COMPAT_UPDATE`) writes it. `OVPN_COMPAT_ONLY=TEXT` runs the cells whose name contains the text
//! and leaves the table alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cell;
mod table;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cell::{Cell, Found};
use ovpn_testkit::{Pair, Program, Site, StockOpenvpn};

#[test]
#[ignore = "takes minutes: `cargo xtask test matrix`"]
fn every_cell_works_and_the_table_says_so() {
    let start = Instant::now();
    let only = std::env::var("OVPN_COMPAT_ONLY").ok();
    let chosen = |cell: &Cell| only.as_ref().is_none_or(|text| cell.to_string().contains(text.as_str()));
    let cells: Vec<Cell> = cell::all().into_iter().filter(chosen).collect();
    assert!(!cells.is_empty(), "no cell is named so");
    let stocks: Vec<Program> = cell::VERSIONS
        .iter()
        .map(|version| StockOpenvpn::release(version).expect("cargo xtask stock").into())
        .collect();
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<anyhow::Result<Found>>>> = Mutex::new(cells.iter().map(|_| None).collect());
    let bench = |name: &str| {
        let pair = Pair::new(name).expect("namespaces");
        let site = Site::new("matrix").expect("folder");
        site.tls_crypt_v2(&stocks[1], "aGVsbG8=").expect("keys");
        (pair, site, Program::ours(env!("CARGO_BIN_EXE_ovpn")))
    };
    let try_one = |number: usize, (pair, site, ours): &(Pair, Site, Program)| {
        let cell = &cells[number];
        let result = cell.run(pair, site, ours, &stocks[cell.version]);
        match &result {
            Ok(found) => println!("{number:3} {cell}: {}", found.times()),
            Err(error) => println!("{number:3} {cell}: FAILED: {error:#}"),
        }
        results.lock().unwrap()[number] = Some(result);
    };
    std::thread::scope(|scope| {
        for worker in 0..workers() {
            let (cells, next, bench, try_one) = (&cells, &next, &bench, &try_one);
            scope.spawn(move || {
                let bench = bench(&format!("mx{worker}"));
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= cells.len() {
                        break;
                    }
                    try_one(number, &bench);
                }
            });
        }
    });
    // Cells depend on real time: one that fails beside another is tried again, alone. Twice is a failure.
    let again: Vec<usize> = {
        let results = results.lock().unwrap();
        (0..cells.len()).filter(|&number| matches!(results[number], Some(Err(_)))).collect()
    };
    println!("{} of {} cells are tried again", again.len(), cells.len());
    if !again.is_empty() {
        let bench = bench("mxagain");
        again.into_iter().for_each(|number| try_one(number, &bench));
    }
    let results: Vec<anyhow::Result<Found>> = results
        .into_inner()
        .unwrap()
        .into_iter()
        .map(|result| result.expect("every cell was tried"))
        .collect();
    let failed: Vec<String> = cells
        .iter()
        .zip(&results)
        .filter_map(|(cell, result)| Some(format!("{cell}: {:#}", result.as_ref().err()?)))
        .collect();
    println!(
        "{} cells, {} failed, {:.0} s; sums: {}",
        cells.len(),
        failed.len(),
        start.elapsed().as_secs_f64(),
        cell::sum_of_times(results.iter().flatten())
    );
    let difference = if only.is_none() { table::judge(&cells, &results) } else { None };
    assert!(failed.is_empty(), "{} cells failed:\n{}", failed.len(), failed.join("\n"));
    if let Some(difference) = difference {
        panic!("{difference}");
    }
}

/// Cells tried at the same time: one more than cores, since a cell also waits.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 7) + 1
}

const LIMIT: Duration = Duration::from_secs(60);
