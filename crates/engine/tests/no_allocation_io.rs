//! No heap allocation while packets pass a whole tunnel, from device to socket and from socket to device: an allocator
//! that counts, and traffic made by other programs.
//!
//! A test binary of its own, for the allocator is the whole process's; only what the engines' workers ask for counts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use ovpn_dco::{
    CipherAlg, DataFormat, DataPlane, Framing, KeyConfig, KeyDirection, KeyId, KeySlot, Mode, PeerConfig,
    PeerId, SocketSource, Transport, VpnAddrs,
};
use ovpn_engine::{Engine, EngineConfig, Workers};
use ovpn_testkit::{Netns, Pair, Running, wait_for};
use rustix::thread::gettid;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Threads whose allocations count; 0 is none.
static WORKERS: [AtomicI32; 8] = [const { AtomicI32::new(0) }; 8];

thread_local! {
    /// This thread's id, once it was asked for. Needs neither allocation nor destructor itself.
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

fn count() {
    if THREAD.get() == 0 {
        THREAD.set(gettid().as_raw_pid());
    }
    if WORKERS.iter().any(|worker| worker.load(Ordering::Relaxed) == THREAD.get()) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts for the workers of all engines that are open.
fn watch() -> anyhow::Result<usize> {
    let mut found = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?;
        if std::fs::read_to_string(task.path().join("comm"))?.starts_with("tun0-") {
            let id = task.file_name().to_string_lossy().parse()?;
            WORKERS[found].store(id, Ordering::Relaxed);
            found += 1;
        }
    }
    WORKERS[found..].iter().for_each(|rest| rest.store(0, Ordering::Relaxed));
    Ok(found)
}

// SAFETY: every call is the system allocator's, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ID: u32 = 1;

fn end(
    ns: &Netns,
    socket: OwnedFd,
    number: u8,
    workers: Workers,
    tcp: bool,
) -> anyhow::Result<(Engine, Transport)> {
    let config = EngineConfig { workers, ..EngineConfig::new("tun0", Mode::P2p) };
    let engine = ns.enter(|| Engine::open(config))??;
    let transport = engine.transport_open(SocketSource::Socket(socket))?;
    let id = PeerId::new(ID).unwrap();
    let remote = if tcp { None } else { Some(format!("10.10.1.{}:1194", 3 - number).parse()?) };
    let (vpn, framing) = (VpnAddrs::default(), Framing::None);
    engine.peer_new(&PeerConfig {
        id,
        tx_id: None,
        transport: transport.id,
        remote,
        local: None,
        vpn,
        framing,
        fragment: None,
    })?;
    let direction = |byte| KeyDirection { cipher_key: vec![byte; 32], nonce_tail: [byte; 8] };
    let (encrypt, decrypt) = (direction(number), direction(3 - number));
    let key = KeyConfig {
        key_id: KeyId::FIRST,
        cipher: CipherAlg::AesGcm,
        format: DataFormat::V2,
        key_len: 32,
        encrypt,
        decrypt,
    };
    engine.key_new(id, KeySlot::Primary, &key)?;
    ns.ip(&format!("addr add 10.8.0.{number}/24 dev tun0"))?;
    ns.ip("link set tun0 up")?;
    Ok((engine, transport))
}

/// Bulk TCP both ways, UDP one way, echoes.
fn traffic(pair: &Pair) -> anyhow::Result<()> {
    for options in ["-t 1", "-t 1 -R", "-t 1 -u -b 20M -l 300"] {
        let mut server = pair.right.command("iperf3");
        let mut server = Running::start(server.args(["-s", "-1", "--forceflush"]))?;
        server.wait_for_text("listening", Duration::from_secs(10))?;
        let words: Vec<&str> = "-c 10.8.0.2".split(' ').chain(options.split(' ')).collect();
        pair.left.run("iperf3", &words)?;
    }
    pair.left.run("ping", &["-qf", "-c", "300", "-w", "5", "10.8.0.2"])?;
    Ok(())
}

#[test]
fn packets_that_pass_a_tunnel_allocate_nothing() -> anyhow::Result<()> {
    for tcp in [false, true] {
        for workers in [Workers::One, Workers::Many(2)] {
            let pair = Pair::new("alloc")?;
            if !tcp {
                // Datagrams come one by one, so that the busiest sender has a socket of its own before it counts.
                for ns in [&pair.left, &pair.right] {
                    ns.run("ethtool", &["-K", "veth1", "gso", "off", "tx-udp-segmentation", "off"])?;
                }
            }
            let [left, right]: [OwnedFd; 2] = if tcp {
                let listener = pair.right.enter(|| TcpListener::bind("10.10.1.2:443"))??;
                let left = pair.left.enter(|| TcpStream::connect("10.10.1.2:443"))??;
                [left.into(), listener.accept()?.0.into()]
            } else {
                [
                    pair.left.enter(|| UdpSocket::bind("10.10.1.1:1194"))??.into(),
                    pair.right.enter(|| UdpSocket::bind("10.10.1.2:1194"))??.into(),
                ]
            };
            let ends = [end(&pair.left, left, 1, workers, tcp)?, end(&pair.right, right, 2, workers, tcp)?];
            assert_eq!(watch()?, if workers == Workers::One { 2 } else { 4 });
            // Buffers grow to what this traffic needs, and call sites of the log are registered.
            traffic(&pair)?;
            let packets = || -> anyhow::Result<u64> {
                let stats = ends[0].0.peer_get(PeerId::new(ID).unwrap())?.stats.vpn;
                Ok(stats.rx_packets + stats.tx_packets)
            };
            let before = (ALLOCATIONS.load(Ordering::Relaxed), packets()?);
            traffic(&pair)?;
            let after = (ALLOCATIONS.load(Ordering::Relaxed), packets()?);
            let (allocations, packets) = (after.0 - before.0, after.1 - before.1);
            println!("TCP {tcp}, {workers:?}: {allocations} allocations, {packets} packets");
            assert!(packets > 5000 && allocations == 0, "{allocations} for {packets}");
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            // It would have been noticed: a control packet is kept for the control plane.
            let anywhere = "10.10.1.2:1194".parse()?;
            ends[0].1.port.send(b"\x38control", anywhere, None)?;
            wait_for("a control packet", Duration::from_secs(5), || ends[1].1.port.recv(&mut [0; 100]).ok())?;
            assert!(ALLOCATIONS.load(Ordering::Relaxed) > before);
        }
    }
    Ok(())
}
