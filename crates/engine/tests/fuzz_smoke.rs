//! Every fuzz target for a bounded time, on whatever compiler there is: random inputs, and mutations of what got far.
//!
//! `FUZZ_SECONDS` sets the time of each target (1 by default). The long runs are cargo-fuzz's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

#[path = "../../../fuzz/src/targets.rs"]
mod targets;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Inputs worth starting from.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let ip = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    match name {
        "aead" => (0..40).map(|n| vec![n as u8; 60 + 41 * n]).collect(),
        "decrypt" => vec![
            [&[0, 21, 1][..], &ip].concat(),
            [&[4, 22, 1, 0xFA][..], &ip].concat(),
            vec![4, 12, 1, 0x66, 19, b'E', b' ', 0x20, 65, 0, 0, 0x11, 0, 0],
            vec![12, 10, 1, 0x50, 1, 0x2F, b'E', b' ', 1, 0, 40, 0x50],
            vec![2, 30, 0, 0x48, 0, 0, 7, 0, 1],
            // Whole, and in two pieces: not the last, the last behind pieces of 12 bytes.
            [&[0x20, 25, 1, 0, 0, 0, 0][..], &ip].concat(),
            [&[0x20, 17, 1, 0, 0, 0, 5][..], &ip[..12], &[13, 1, 0, 1, 0x84, 6], &ip[12..]].concat(),
        ],
        "gso_split" => {
            let mut tcp = vec![1, 1, 54, 0, 100, 0, 20, 0, 16, 0];
            tcp.extend(ip);
            tcp.extend([0, 1, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
            tcp.extend([7; 500]);
            vec![tcp]
        }
        "gro_coalesce" => vec![[&[3][..], &[8, 1, 0x10, 100, 0, 1, 0, 0, 0].repeat(8)].concat()],
        "lzo" => vec![vec![19, b'E', b' ', 0x20, 65, 0, 0, 0x11, 0, 0]],
        "config_lexer" => vec![b"remote 'a b' \"c\\\"d\" 1194 # x\nkey \"\\\\\"".to_vec()],
        _ => vec![vec![255, 0, 3, 1, 2, 3, 0, 1, 9]],
    }
}

fn run(name: &str, target: fn(&[u8])) -> u64 {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(1.0, |text| text.parse().unwrap());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut pool = seeds(name);
    let start = Instant::now();
    let mut runs = 0;
    while start.elapsed() < Duration::from_secs_f64(seconds) {
        let mut input = if random.below(8) == 0 {
            let len = random.below(400);
            random.bytes(len)
        } else {
            pool[random.below(pool.len())].clone()
        };
        for _ in 0..random.below(6) {
            let at = random.below(input.len());
            match random.below(5) {
                0 if !input.is_empty() => input[at] = random.next() as u8,
                1 if !input.is_empty() => input[at] ^= 1 << random.below(8),
                2 => input.truncate(at),
                3 => {
                    let len = random.below(40);
                    let more = random.bytes(len);
                    input.splice(at..at, more);
                }
                _ => {
                    let other = &pool[random.below(pool.len())];
                    input.extend(&other[random.below(other.len())..]);
                }
            }
        }
        input.truncate(4096);
        target(&input);
        runs += 1;
        if pool.len() < 200 {
            pool.push(input);
        } else {
            let slot = random.below(pool.len());
            pool[slot] = input;
        }
    }
    runs
}

#[test]
fn every_target_finds_nothing() {
    for (name, target) in targets::ALL {
        let runs = run(name, target);
        println!("{name}: {runs} runs");
        assert!(runs > 10, "{name}");
    }
}
