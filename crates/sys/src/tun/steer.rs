//! In which queue of a device a packet waits: a flow keeps to one queue.
//!
//! ```text
//!   addresses ⊕ (TCP or UDP, no fragment: ports) ─▶ × odd constant, uppermost bits ─▶ mod queues
//! ```
//!
//! Left alone, the kernel moves a flow to the queue that its answers were written to, and between two queues packets
//! overtake each other. The program is one of eBPF, for the kernel takes no other here; it may read the packet and
//! nothing else.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// One instruction, as the kernel reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the lower four bits, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What `BPF_PROG_LOAD` reads: the first fields of the kernel's union, the rest being zero by the length given.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instructions: u32,
    first: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;
const LICENCE: &CStr = c"Apache-2.0 OR MIT";

/// Steers the flows of the device that `queue` belongs to.
///
/// # Errors
/// `PermissionDenied` without `CAP_BPF` and `CAP_NET_ADMIN` (or where they count only in a user namespace); what else
/// the kernel said. The device then is as usable as before.
pub(super) fn steer(queue: &impl AsRawFd) -> io::Result<()> {
    let program = load(&program())?;
    // The device takes its own reference.
    super::tun_ioctl(queue, libc::TUNSETSTEERINGEBPF, super::Argument::Int(program.as_raw_fd()))
}

fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let request = ProgramLoad {
        kind: BPF_PROG_TYPE_SOCKET_FILTER,
        instructions: instructions.len() as u32,
        first: instructions.as_ptr() as u64,
        licence: LICENCE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let len = size_of::<ProgramLoad>() as libc::c_long;
    // SAFETY: the kernel reads `len` bytes of the request, and the instructions and the licence that it points to; all
    // outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const request, len) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The program. A load beyond the packet's end ends it with 0, the first queue.
fn program() -> Vec<Instruction> {
    const CONTEXT: u8 = 6;
    const HASH: u8 = 8;
    const PORTS_AT: u8 = 9;
    const PROTOCOL: u8 = 7;
    const RESULT: u8 = 0;
    const MOVE: u8 = 0xBF;
    const MOVE_CONST: u8 = 0xB7;
    const XOR: u8 = 0xAF;
    const AND_CONST: u8 = 0x57;
    const LEFT_CONST: u8 = 0x67;
    const RIGHT_CONST: u8 = 0x77;
    const MULTIPLY_CONST_32: u8 = 0x24;
    const RIGHT_CONST_32: u8 = 0x74;
    const LOAD_WORD: u8 = 0x20;
    const LOAD_HALF: u8 = 0x28;
    const LOAD_BYTE: u8 = 0x30;
    const LOAD_WORD_AT: u8 = 0x40;
    const IF_EQUAL: u8 = 0x15;
    const IF_DIFFERENT: u8 = 0x55;
    const IF_BITS: u8 = 0x45;
    const EXIT: u8 = 0x95;
    const FRAGMENT: i32 = 0x3FFF;
    const TCP: i32 = 6;
    const UDP: i32 = 17;
    let step = |code, destination: u8, source: u8, offset, immediate| Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate,
    };
    // What is loaded lands in RESULT.
    let load = |code, at| step(code, 0, 0, 0, at);
    let mix = |at| [load(LOAD_WORD, at), step(XOR, HASH, RESULT, 0, 0)];

    // Read from the end, as jumps go forward: how far it is from each part to the end is known then.
    let finish = vec![
        step(MULTIPLY_CONST_32, HASH, 0, 0, 0x9E37_79B1_u32.cast_signed()),
        // Only the uppermost bits depend on all of a port; ten of them are enough for 64 queues.
        step(RIGHT_CONST_32, HASH, 0, 0, 22),
        step(MOVE, RESULT, HASH, 0, 0),
        step(EXIT, 0, 0, 0, 0),
    ];
    let ports = [
        step(IF_EQUAL, PROTOCOL, 0, 1, TCP),
        step(IF_DIFFERENT, PROTOCOL, 0, 2, UDP),
        step(LOAD_WORD_AT, 0, PORTS_AT, 0, 0),
        step(XOR, HASH, RESULT, 0, 0),
    ];
    let mut ipv6: Vec<Instruction> = (8..40).step_by(4).flat_map(mix).collect();
    ipv6.extend([
        load(LOAD_BYTE, 6),
        step(MOVE, PROTOCOL, RESULT, 0, 0),
        step(MOVE_CONST, PORTS_AT, 0, 0, 40),
    ]);
    let mut ipv4: Vec<Instruction> = [12, 16].into_iter().flat_map(mix).collect();
    let whole = [
        load(LOAD_BYTE, 9),
        step(MOVE, PROTOCOL, RESULT, 0, 0),
        load(LOAD_BYTE, 0),
        step(AND_CONST, RESULT, 0, 0, 15),
        step(LEFT_CONST, RESULT, 0, 0, 2),
        step(MOVE, PORTS_AT, RESULT, 0, 0),
        step(IF_EQUAL, 0, 0, 0, 0),
    ];
    let to_finish = (whole.len() + ipv6.len() + ports.len()) as i16;
    ipv4.extend([load(LOAD_HALF, 6), step(IF_BITS, RESULT, 0, to_finish, FRAGMENT)]);
    ipv4.extend(whole);
    if let Some(over) = ipv4.last_mut() {
        const ALWAYS: u8 = 0x05;
        *over = step(ALWAYS, 0, 0, ipv6.len() as i16, 0);
    }
    let to_ipv6 = (1 + ipv4.len()) as i16;
    let neither = (ipv4.len() + ipv6.len() + ports.len()) as i16;
    let mut all = vec![
        step(MOVE, CONTEXT, 1, 0, 0),
        step(MOVE_CONST, HASH, 0, 0, 0),
        load(LOAD_BYTE, 0),
        step(RIGHT_CONST, RESULT, 0, 0, 4),
        step(IF_EQUAL, RESULT, 0, to_ipv6, 6),
        step(IF_DIFFERENT, RESULT, 0, neither, 4),
    ];
    all.extend(ipv4);
    all.extend(ipv6);
    all.extend(ports);
    all.extend(finish);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::io::IoSlice;
    use std::net::UdpSocket;
    use std::time::Duration;

    use ipnet::IpNet;

    use super::super::{MAX_FRAME, Tun, VNET_HDR_LEN, VnetHdr};
    use crate::netlink::route::{LinkChange, Rtnetlink};

    const QUEUES: usize = 4;

    /// In which queue the packets of each local port wait.
    fn queues_of_ports(tun: &Tun, v6: bool) -> HashMap<u16, HashSet<usize>> {
        let mut seen: HashMap<u16, HashSet<usize>> = HashMap::new();
        let mut frame = vec![0; MAX_FRAME];
        for (number, queue) in tun.queues.iter().enumerate() {
            while let Ok(len) = queue.read(&mut frame) {
                let packet = &frame[VNET_HDR_LEN..len];
                let (protocol, ports) = if v6 { (6, 40) } else { (9, 20) };
                if packet[0] >> 4 == if v6 { 6 } else { 4 } && packet[protocol] == 17 {
                    let port = u16::from_be_bytes([packet[ports], packet[ports + 1]]);
                    seen.entry(port).or_default().insert(number);
                }
            }
        }
        seen
    }

    /// An answer to the datagram of `port`, as an IPv4 packet without checksums.
    fn answer(port: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 99, 0, 2, 10, 99, 0, 1];
        let mut sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        sum = (sum & 0xFFFF) + (sum >> 16);
        packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        packet.extend([0x1F, 0x90]);
        packet.extend(port.to_be_bytes());
        packet.extend([0, 12, 0, 0, 1, 2, 3, 4]);
        packet
    }

    #[test]
    fn a_flow_keeps_its_queue_wherever_its_answers_come_from() {
        crate::netns::in_new(|| {
            let tun = Tun::open("steer0", QUEUES).unwrap();
            assert!(tun.steered);
            let net = Rtnetlink::open().unwrap();
            let index = net.link_by_name("steer0").unwrap().index;
            net.link_change(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
            net.address_add(index, "10.99.0.1/24".parse::<IpNet>().unwrap()).unwrap();
            net.address_add(index, "fd99::1/64".parse::<IpNet>().unwrap()).unwrap();
            let hdr = VnetHdr::default().to_bytes();
            for (bind, to) in [("10.99.0.1", "10.99.0.2:8080"), ("[::]", "[fd99::2]:8080")] {
                let v6 = to.starts_with('[');
                // Even ports, as the kernel gives them to connections.
                let flow = |number| UdpSocket::bind(format!("{bind}:{}", 40_000 + 2 * number)).unwrap();
                let flows: Vec<_> = (0..40).map(flow).collect();
                // An IPv6 address takes a moment to become one's own.
                while flows[0].send_to(b"first", to).is_err() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let mut seen: HashMap<u16, HashSet<usize>> = HashMap::new();
                for round in 0..8 {
                    for flow in &flows {
                        flow.send_to(b"question", to).unwrap();
                        if !v6 {
                            let port = flow.local_addr().unwrap().port();
                            let queue = &tun.queues[(usize::from(port) + round) % QUEUES];
                            queue.write(&[IoSlice::new(&hdr), IoSlice::new(&answer(port))]).unwrap();
                        }
                    }
                    for (port, queues) in queues_of_ports(&tun, v6) {
                        seen.entry(port).or_default().extend(queues);
                    }
                }
                assert_eq!(seen.len(), flows.len());
                assert!(seen.values().all(|queues| queues.len() == 1), "{seen:?}");
                let used: HashSet<usize> = seen.values().flatten().copied().collect();
                assert_eq!(used.len(), QUEUES, "the flows are spread");
            }
        })
        .unwrap();
    }
}
