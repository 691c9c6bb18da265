//! How many handshakes a server does in a second when many clients come at once: ours beside stock's.
//!
//! ```text
//! cargo bench -p ovpn --bench handshakes -- [CLIENTS [ROUNDS]]
//! ```
//!
//! Needs root and `cargo xtask stock`. Server and clients are in two namespaces of one machine and share its cores;
//! the clients are control channels alone, the same for both servers. In each round each server starts afresh, in
//! turn. A handshake is one with certificates at both sides, up to the client's data keys.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certified;
#[path = "../tests/crowd/mod.rs"]
mod crowd;

use std::time::{Duration, Instant};

use crowd::Crowd;
use ovpn_control::Wrapping;
use ovpn_crypto::static_key::StaticKey;
use ovpn_testkit::{Pair, Program, Site, StockOpenvpn, UP};

const LIMIT: Duration = Duration::from_secs(100);

/// What a run of one server came to.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Handshakes a second, until the last client was up.
    rate: f64,
    /// When half of the clients were up.
    half: Duration,
    /// Time of processors that the server took for each.
    busy: Duration,
    /// Cores that the server kept busy.
    cores: f64,
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let clients = numbers.next().unwrap_or(500);
    let rounds = numbers.next().unwrap_or(5);
    let site = Site::new("handshakes").unwrap();
    let ours = Program::ours(env!("CARGO_BIN_EXE_ovpn"));
    let stock: Program = StockOpenvpn::release("2.7.8").expect("cargo xtask stock").into();
    let programs = [("ours", ours), ("stock 2.7.8", stock)];
    let mut runs = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for ((name, program), runs) in programs.iter().zip(&mut runs) {
            let run = measure(&site, program, clients);
            println!(
                "round {round}, {name}: {:.0} a second, half of them up in {:.2} s; the server took {:.2} ms for each, on {:.2} cores",
                run.rate,
                run.half.as_secs_f64(),
                run.busy.as_secs_f64() * 1e3,
                run.cores
            );
            runs.push(run);
        }
    }
    let [ours, stock] = &runs;
    let rates = |runs: &[Run]| median(runs.iter().map(|run| run.rate));
    let busy = |runs: &[Run]| median(runs.iter().map(|run| run.busy.as_secs_f64() * 1e3));
    let ratio = median(ours.iter().zip(stock).map(|(ours, stock)| ours.rate / stock.rate));
    println!(
        "{clients} clients at once, medians of {rounds} rounds: ours {:.0} handshakes a second ({:.2} ms of a core each), stock 2.7.8 {:.0} ({:.2} ms): {ratio:.1} times",
        rates(ours),
        busy(ours),
        rates(stock),
        busy(stock)
    );
}

fn measure(site: &Site, program: &Program, count: usize) -> Run {
    let mut config = String::from(
        "dev tun\ntopology subnet\nserver 10.77.0.0 255.255.0.0\nproto udp4\nca ca.crt\ncert server.crt\n\
         key server.key\ndh none\ntls-crypt static.key\nduplicate-cn\nmax-clients 4096\nkeepalive 60 300\n\
         connect-freq-initial 100000 10\nhand-window 120\nverb 1\n",
    );
    if matches!(program, Program::Stock(_)) {
        config += "disable-dco\n";
    }
    let pair = Pair::new("handshakes").unwrap();
    let mut server = site.start(program, &pair.left, "server.conf", &config).unwrap();
    server.wait_for_text(UP, Duration::from_secs(20)).unwrap();
    let key = StaticKey::from_text(&site.read("static.key")).unwrap();
    let params = certified::params(site, Wrapping::TlsCrypt(key), LIMIT);
    let crowd = Crowd { params, server: "10.10.1.1:1194".parse().unwrap(), count, credentials: &|_| None };
    let before = pair.left.processor_time().unwrap();
    let start = Instant::now();
    let mut times = pair.right.enter(|| crowd.connect(LIMIT, &|_| {})).unwrap();
    let took = start.elapsed();
    let busy = pair.left.processor_time().unwrap() - before;
    times.sort();
    let each = u32::try_from(count).unwrap();
    Run {
        rate: count as f64 / took.as_secs_f64(),
        half: times[times.len() / 2],
        busy: busy / each,
        cores: busy.as_secs_f64() / took.as_secs_f64(),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
