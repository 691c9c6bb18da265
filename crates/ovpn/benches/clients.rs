//! What many clients cost a server: the throughput of all of them sending at once beside that of one alone, and the
//! processor time of a thousand that are idle.
//!
//! ```text
//! cargo bench -p ovpn --bench clients -- [CLIENTS [ROUNDS [SECONDS]]]
//! ```
//!
//! Needs root. Each client is a process of ours in a namespace of its own, on a cable of its own to the server's; all
//! share the cores of one machine, and what is told in s/GB is the server's processor time. In each round the same server carries, one after the other: one stream of one
//! client, as many streams of that client as there are clients, one stream of each client; and the cables the same
//! without tunnels, to tell what the machine itself loses by many streams.
//!
//! The thousand idle ones are control channels alone: what is measured is the server's keeping of a thousand peers, its
//! keepalives included (one to each every ten seconds).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certified;
#[path = "../tests/crowd/mod.rs"]
mod crowd;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crowd::Crowd;
use ovpn_control::Wrapping;
use ovpn_testkit::{Carried, Netns, Pair, Program, Running, Site, Star, Streams, UP, spread};

const LIMIT: Duration = Duration::from_secs(100);
const IDLE: usize = 1000;
const SERVER: &str = "dev tun\ntopology subnet\nserver 10.77.0.0 255.255.0.0\nproto udp4\nca ca.crt\n\
    cert server.crt\nkey server.key\ndh none\nduplicate-cn\nmax-clients 4096\nkeepalive 10 60\n\
    connect-freq-initial 100000 10\nhand-window 120\nverb 1\n";

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let clients = numbers.next().unwrap_or(100).clamp(1, 250) as u8;
    let rounds = numbers.next().unwrap_or(7);
    let time = Duration::from_secs(numbers.next().unwrap_or(3));
    let site = Site::new("clients").unwrap();
    let program = Program::ours(env!("CARGO_BIN_EXE_ovpn"));
    busy_clients(&site, &program, clients, rounds, time);
    idle_clients(&site, &program);
}

fn busy_clients(site: &Site, program: &Program, clients: u8, rounds: u64, time: Duration) {
    let star = Star::new("clients", clients).unwrap();
    let mut server = site.start(program, &star.hub, "server.conf", SERVER).unwrap();
    server.wait_for_text(UP, LIMIT).unwrap();
    let mut running: Vec<Running> = Vec::new();
    for number in 1..=clients {
        let file = format!("client{number}.conf");
        let config = format!(
            "client\ndev tun\nremote 10.10.{number}.1 1194 udp4\nnobind\nca ca.crt\ncert client1.crt\n\
             key client1.key\nremote-cert-tls server\nverb 1\n"
        );
        running.push(site.start(program, &star.leaves[usize::from(number) - 1], &file, &config).unwrap());
    }
    for client in &mut running {
        client.wait_for_text(UP, LIMIT).unwrap();
    }
    let mut of_one = Vec::new();
    let mut of_streams = Vec::new();
    let mut bare_of_one = Vec::new();
    let mut of_server = Vec::new();
    for round in 0..rounds {
        let tunnel = |_| Ipv4Addr::new(10, 77, 0, 1);
        let one = transfer(&star.hub, &star.leaves[..1], 1, time, &tunnel);
        let streams = transfer(&star.hub, &star.leaves[..1], clients, time, &tunnel);
        let all = transfer(&star.hub, &star.leaves, 1, time, &tunnel);
        let cable = |number| Ipv4Addr::new(10, 10, number, 1);
        let bare = |leaves, streams| transfer(&star.hub, leaves, streams, time, &cable).megabits;
        let [bare_one, bare_streams, bare_all] =
            [bare(&star.leaves[..1], 1), bare(&star.leaves[..1], clients), bare(&star.leaves, 1)];
        println!(
            "round {round}: one client {one}, with {clients} streams {streams}, {clients} clients {all}: {:.2} and {:.2} of it",
            all.megabits / one.megabits,
            all.megabits / streams.megabits
        );
        println!(
            "without tunnels {bare_one:.0}, {bare_streams:.0}, {bare_all:.0} Mbit/s: {:.2} and {:.2}",
            bare_all / bare_one,
            bare_all / bare_streams
        );
        bare_of_one.push(bare_all / bare_one);
        of_one.push(all.megabits / one.megabits);
        of_streams.push(all.megabits / streams.megabits);
        of_server.push(all.cost / one.cost);
    }
    println!("{clients} clients ÷ one client: {}", spread(of_one));
    println!("without tunnels: {}", spread(bare_of_one));
    println!("{clients} clients ÷ one client with as many streams: {}", spread(of_streams));
    println!("processor time of the server for each byte, {clients} clients ÷ one: {}", spread(of_server));
    println!("{clients} idle clients, keepalives both ways: {:.2} % of a core", idle_share(&star.hub));
}

/// Carries `streams` streams of each of `leaves` to the address of the hub's that `sink` tells for its number.
fn transfer(
    hub: &Netns,
    leaves: &[Netns],
    streams: u8,
    time: Duration,
    sink: &dyn Fn(u8) -> Ipv4Addr,
) -> Carried {
    let mut carried = Streams::to(hub).unwrap();
    for (number, leaf) in (1..).zip(leaves) {
        carried.add(leaf, sink(number), streams.into()).unwrap();
    }
    carried.carry(time, || hub.processor_time()).unwrap()
}

fn idle_clients(site: &Site, program: &Program) {
    let pair = Pair::new("clients").unwrap();
    let mut server = site.start(program, &pair.left, "idle.conf", SERVER).unwrap();
    server.wait_for_text(UP, LIMIT).unwrap();
    let crowd = Crowd {
        params: certified::params(site, Wrapping::None, LIMIT),
        server: "10.10.1.1:1194".parse().unwrap(),
        count: IDLE,
        credentials: &|_| None,
    };
    pair.right.enter(|| crowd.connect(LIMIT, &|_| {})).unwrap();
    // The last handshakes' work is done.
    std::thread::sleep(Duration::from_secs(5));
    println!("{IDLE} idle peers: {:.2} % of a core", idle_share(&pair.left));
}

/// What the programs of a namespace take of a core, per cent.
fn idle_share(ns: &Netns) -> f64 {
    let (before, start) = (ns.processor_time().unwrap(), Instant::now());
    std::thread::sleep(Duration::from_secs(20));
    let used = ns.processor_time().unwrap() - before;
    100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64()
}
