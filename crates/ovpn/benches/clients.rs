//! What many clients cost a server: the throughput of all of them sending at once beside that of one alone, and the
//! processor time of a thousand that are idle.
//!
//! ```text
//! cargo bench -p ovpn --bench clients -- [CLIENTS [ROUNDS [SECONDS]]]
//! ```
//!
//! Needs root. Each client is a process of ours in a namespace of its own, on a cable of its own to the server's; all
//! share the cores of one machine. In each round the same server carries, one after the other: one stream of one
//! client, as many streams of that client as there are clients, one stream of each client; and the cables the same
//! without tunnels, to tell what the machine itself loses by many streams.
//!
//! The thousand idle ones are control channels alone: what is measured is the server's keeping of a thousand peers, its
//! keepalives included (one to each every ten seconds).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certified;
#[path = "../tests/crowd/mod.rs"]
mod crowd;

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crowd::Crowd;
use ovpn_control::Wrapping;
use ovpn_sys::poll::{Interest, Poller};
use ovpn_testkit::{Netns, Pair, Program, Running, Site, Star, UP};
use rustix::net::sockopt;

const LIMIT: Duration = Duration::from_secs(100);
const IDLE: usize = 1000;
const SERVER: &str = "dev tun\ntopology subnet\nserver 10.77.0.0 255.255.0.0\nproto udp4\nca ca.crt\n\
    cert server.crt\nkey server.key\ndh none\nduplicate-cn\nmax-clients 4096\nkeepalive 10 60\n\
    connect-freq-initial 100000 10\nhand-window 120\nverb 1\n";
const PORT: u16 = 5001;

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
        let tunnel = |_| SocketAddr::from(([10, 77, 0, 1], PORT));
        let one = transfer(&star.hub, &star.leaves[..1], 1, time, &tunnel);
        let streams = transfer(&star.hub, &star.leaves[..1], clients, time, &tunnel);
        let all = transfer(&star.hub, &star.leaves, 1, time, &tunnel);
        let cable = |number| SocketAddr::from(([10, 10, number, 1], PORT));
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
        of_server.push(all.server / one.server);
    }
    println!("{clients} clients ÷ one client: {}", spread(of_one));
    println!("without tunnels: {}", spread(bare_of_one));
    println!("{clients} clients ÷ one client with as many streams: {}", spread(of_streams));
    println!("processor time of the server for each byte, {clients} clients ÷ one: {}", spread(of_server));
    println!("{clients} idle clients, keepalives both ways: {:.2} % of a core", idle_share(&star.hub));
}

struct Transfer {
    /// What arrived, Mbit/s.
    megabits: f64,
    /// Processor time of the server's process, seconds for each gigabyte.
    server: f64,
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} Mbit/s ({:.2} s/GB of the server)", self.megabits, self.server)
    }
}

/// What arrives in the hub when each of `leaves` sends by `streams` connections for `time`, to the address that `sink`
/// tells for its number. One thread gives and one
/// takes: a thread for each connection would be what bounds it.
fn transfer(
    hub: &Netns,
    leaves: &[Netns],
    streams: u8,
    time: Duration,
    sink: &dyn Fn(u8) -> SocketAddr,
) -> Transfer {
    let listener = hub.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))).unwrap().unwrap();
    let mut given = Vec::new();
    let mut taken = Vec::new();
    for (number, leaf) in (1..).zip(leaves) {
        let to = sink(number);
        for _ in 0..streams {
            given.push(leaf.enter(|| TcpStream::connect_timeout(&to, LIMIT)).unwrap().unwrap());
            taken.push(listener.accept().unwrap().0);
            for stream in given.last().into_iter().chain(taken.last()) {
                // Otherwise the kernel tries for minutes to get what is under way to a namespace that is gone, and is short
                // of memory for others' streams, whose windows it then makes small.
                sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
            }
        }
    }
    let (over, came) = (AtomicBool::new(false), AtomicU64::new(0));
    let block = vec![7; 128 << 10];
    let mut room = vec![0; 128 << 10];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            each_ready(&given, Interest::Write, &over, |stream| {
                let _ = (&*stream).write(&block);
            });
        });
        scope.spawn(|| {
            each_ready(&taken, Interest::Read, &over, |stream| {
                let len = (&*stream).read(&mut room).unwrap_or(0);
                came.fetch_add(len as u64, Ordering::Relaxed);
            });
        });
        // All are beyond their slow start.
        std::thread::sleep(Duration::from_secs(1));
        let (before, used, start) =
            (came.load(Ordering::Relaxed), hub.processor_time().unwrap(), Instant::now());
        std::thread::sleep(time);
        let bytes = (came.load(Ordering::Relaxed) - before) as f64;
        let seconds = start.elapsed().as_secs_f64();
        let used = hub.processor_time().unwrap() - used;
        over.store(true, Ordering::Relaxed);
        Transfer { megabits: bytes * 8e-6 / seconds, server: used.as_secs_f64() / bytes * 1e9 }
    })
}

/// Calls `work` for each stream that is ready, until it is over.
fn each_ready(
    streams: &[TcpStream],
    interest: Interest,
    over: &AtomicBool,
    mut work: impl FnMut(&TcpStream),
) {
    let poller = Poller::new().unwrap();
    for (place, stream) in streams.iter().enumerate() {
        stream.set_nonblocking(true).unwrap();
        poller.add(stream, place as u64, interest).unwrap();
    }
    let mut ready = Vec::new();
    while !over.load(Ordering::Relaxed) {
        poller.wait(&mut ready, Some(Duration::from_millis(100))).unwrap();
        ready.iter().for_each(|ready| work(&streams[ready.token as usize]));
    }
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

fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let [least, .., most] = ratios.as_slice() else { return format!("{ratios:.2?}") };
    format!("{:.2} ({least:.2}–{most:.2})", ratios[ratios.len() / 2])
}
