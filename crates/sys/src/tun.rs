//! TUN devices, opened for speed: packets of up to 64 KiB that the kernel has not cut yet, and pieces that it may merge.
//!
//! ```text
//!   read:  ┌ vnet header, 10 ┬ IP packet, up to 65535 ┐     gso_type ≠ 0: one TCP or UDP super-packet to be cut
//!   write: └─────────────────┴────────────────────────┘     into segments of gso_size bytes of payload
//! ```
//!
//! Every queue is a descriptor of its own; a flow keeps to one queue. Checksums may be left unfinished in
//! both directions (`NEEDS_CSUM`). What an older kernel refuses (UDP segmentation came with 6.2) is asked for no more.

mod steer;

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Length of the header in front of every packet of a queue.
pub const VNET_HDR_LEN: usize = 10;
/// Largest frame a queue hands out or takes: header and packet.
pub const MAX_FRAME: usize = VNET_HDR_LEN + 65535;

/// `virtio_net_hdr` of 10 bytes, fields in the machine's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHdr {
    /// [`VnetHdr::NEEDS_CSUM`] or [`VnetHdr::DATA_VALID`].
    pub flags: u8,
    /// Kind of super-packet, one of the `GSO_` constants, perhaps with [`VnetHdr::GSO_ECN`].
    pub gso_type: u8,
    /// Length of IP and transport headers; a hint only.
    pub hdr_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Where the checksum starts counting.
    pub csum_start: u16,
    /// Where, from there, it is stored.
    pub csum_offset: u16,
}

impl VnetHdr {
    /// The checksum holds only the pseudo header's sum and must be finished.
    pub const NEEDS_CSUM: u8 = 1;
    /// The checksum has been verified.
    pub const DATA_VALID: u8 = 2;
    /// One packet.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// TCP over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP datagrams of equal size.
    pub const GSO_UDP_L4: u8 = 5;
    /// The TCP super-packet carries CWR, which belongs on its first segment only.
    pub const GSO_ECN: u8 = 0x80;

    /// Whether it is a TCP super-packet.
    pub fn is_tcp(&self) -> bool {
        matches!(self.gso_type & !Self::GSO_ECN, Self::GSO_TCPV4 | Self::GSO_TCPV6)
    }

    /// Reads the header; `None` where `frame` is shorter.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *frame.first_chunk::<VNET_HDR_LEN>()?;
        Some(Self {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; VNET_HDR_LEN] {
        let ([h0, h1], [g0, g1]) = (self.hdr_len.to_ne_bytes(), self.gso_size.to_ne_bytes());
        let ([s0, s1], [o0, o1]) = (self.csum_start.to_ne_bytes(), self.csum_offset.to_ne_bytes());
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }
}

/// What the kernel agreed to leave undone for us, and to take undone from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// Unfinished checksums and TCP super-packets.
    pub tso: bool,
    /// UDP super-packets (kernel 6.2 and later).
    pub uso: bool,
}

/// An open TUN device with its queues.
#[derive(Debug)]
pub struct Tun {
    /// The interface's name.
    pub name: String,
    /// It was there before (a persistent device): it stays when it is closed.
    pub existed: bool,
    /// What was agreed on.
    pub offloads: Offloads,
    /// A flow keeps its queue. Without that the kernel may move one while packets of it wait.
    pub steered: bool,
    /// One descriptor for each queue.
    pub queues: Vec<TunQueue>,
}

/// One queue of a TUN device. Reading and writing never block.
#[derive(Debug)]
pub struct TunQueue {
    fd: OwnedFd,
}

impl Tun {
    /// Opens the device `name` with `queues` queues. `tun`, or a name with `%d`, takes the next free number; another
    /// name is made, or where it exists as a TUN device that nobody has open, taken over.
    ///
    /// # Errors
    /// `NotFound` without `/dev/net/tun`, `PermissionDenied` without `CAP_NET_ADMIN`, `ResourceBusy` where another
    /// process has the device, `InvalidInput` for a name that is too long or belongs to a device of another kind.
    pub fn open(name: &str, queues: usize) -> io::Result<Self> {
        let pattern = if name == "tun" { "tun%d" } else { name };
        let dynamic = pattern.contains("%d");
        if pattern.is_empty() || pattern.len() >= libc::IFNAMSIZ || pattern.contains('\0') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an interface name has 1 to 15 characters",
            ));
        }
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let multi = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
        let first = open_clone_device()?;
        let (name, existed, multi) = match set_iff(&first, pattern, flags | multi | libc::IFF_TUN_EXCL) {
            Ok(name) => (name, false, multi),
            Err(e) if dynamic || e.raw_os_error() != Some(libc::EBUSY) => return Err(e),
            Err(_) => match set_iff(&first, pattern, flags | multi) {
                Ok(name) => (name, true, multi),
                // A persistent device keeps the kind of queue that it was made with.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    let other = libc::IFF_MULTI_QUEUE - multi;
                    (set_iff(&first, pattern, flags | other)?, true, other)
                }
                Err(e) => return Err(e),
            },
        };
        // A device of several queues lets others join; one that does not persist has an owner.
        if existed && flags_of(&first)? & libc::IFF_PERSIST == 0 {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let header = VNET_HDR_LEN as c_int;
        tun_ioctl(&first, libc::TUNSETVNETHDRSZ, Argument::Int(header))?;
        let offloads = set_offload(&first)?;
        let mut all = vec![TunQueue { fd: first.into() }];
        let more = if multi == 0 { 0 } else { queues.saturating_sub(1) };
        for _ in 0..more {
            let next = open_clone_device()?;
            set_iff(&next, &name, flags | multi)?;
            tun_ioctl(&next, libc::TUNSETVNETHDRSZ, Argument::Int(header))?;
            all.push(TunQueue { fd: next.into() });
        }
        let steered = all.len() == 1 || all.first().is_some_and(|queue| steer::steer(&queue.fd).is_ok());
        Ok(Self { name, existed, offloads, steered, queues: all })
    }

    /// Sets how many frames wait in each queue before the kernel drops them.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set_queue_len(&self, frames: u16) -> io::Result<()> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_ifindex: c_int::from(frames) };
        let mut request = libc::ifreq { ifr_name: ifr_name(&self.name), ifr_ifru };
        // SAFETY: the descriptor is open, and SIOCSIFTXQLEN reads one `ifreq`, of which it takes name and integer.
        let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFTXQLEN, &raw mut request) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sets whether the interface has a carrier.
    ///
    /// # Errors
    /// What the kernel said; kernels before 5.1 cannot.
    pub fn set_carrier(&self, on: bool) -> io::Result<()> {
        match self.queues.first() {
            Some(queue) => queue.set_carrier(on),
            None => Ok(()),
        }
    }
}

impl TunQueue {
    /// Takes the next frame, header first, into `frame` ([`MAX_FRAME`] bytes suffice always).
    ///
    /// # Errors
    /// `WouldBlock` when none waits; `EBADFD` once the device is gone.
    pub fn read(&self, frame: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, frame)?)
    }

    /// Hands one frame, header first, to the kernel; the pieces are gathered.
    ///
    /// # Errors
    /// `EINVAL` where the kernel does not accept the super-packet; `EIO` while the interface is down.
    pub fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(&self.fd, pieces)?)
    }

    /// Sets whether the interface has a carrier.
    ///
    /// # Errors
    /// What the kernel said; kernels before 5.1 cannot.
    pub fn set_carrier(&self, on: bool) -> io::Result<()> {
        tun_ioctl(&self.fd, libc::TUNSETCARRIER, Argument::Int(c_int::from(on)))
    }

    /// A second handle on the same queue.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_clone_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")
}

fn ifr_name(name: &str) -> [libc::c_char; libc::IFNAMSIZ] {
    let mut bytes = [0; libc::IFNAMSIZ];
    // The last byte stays zero.
    for (to, from) in bytes.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    bytes
}

fn set_iff(tun: &File, name: &str, flags: c_int) -> io::Result<String> {
    // The flags fill a short on the wire of this call; libc::IFF_TUN_EXCL is its top bit.
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: flags as u16 as libc::c_short };
    let mut request = libc::ifreq { ifr_name: ifr_name(name), ifr_ifru };
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one `ifreq`, which `request` is.
    let rc = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = request.ifr_name.iter().take_while(|&&c| c != 0).map(|&c| c as u8);
    Ok(String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned())
}

fn flags_of(tun: &File) -> io::Result<c_int> {
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: 0 };
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru };
    // SAFETY: the descriptor is open, and TUNGETIFF writes one `ifreq`, which `request` is.
    let rc = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: TUNGETIFF filled in the flags; every bit pattern is a short.
    Ok(c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
}

fn set_offload(tun: &File) -> io::Result<Offloads> {
    let tso = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let tries = [
        (tso | libc::TUN_F_USO4 | libc::TUN_F_USO6, Offloads { tso: true, uso: true }),
        (tso, Offloads { tso: true, uso: false }),
    ];
    for (flags, offloads) in tries {
        match tun_ioctl(tun, libc::TUNSETOFFLOAD, Argument::Flags(flags)) {
            Ok(()) => return Ok(offloads),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Offloads::default())
}

enum Argument {
    /// Passed by pointer, read by the kernel.
    Int(c_int),
    /// Passed as the argument itself.
    Flags(u32),
}

fn tun_ioctl(fd: &impl AsRawFd, request: libc::Ioctl, argument: Argument) -> io::Result<()> {
    let rc = match argument {
        Argument::Int(value) => {
            // SAFETY: the descriptor is open, and the requests used with this argument read one `int`.
            unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw const value) }
        }
        Argument::Flags(value) => {
            // SAFETY: the descriptor is open, and TUNSETOFFLOAD takes its flags by value and touches no memory.
            unsafe { libc::ioctl(fd.as_raw_fd(), request, libc::c_ulong::from(value)) }
        }
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_reads_back() {
        let hdr = VnetHdr {
            flags: VnetHdr::NEEDS_CSUM,
            gso_type: VnetHdr::GSO_TCPV4,
            hdr_len: 52,
            gso_size: 1360,
            csum_start: 20,
            csum_offset: 16,
        };
        assert_eq!(VnetHdr::parse(&hdr.to_bytes()), Some(hdr));
        assert_eq!(VnetHdr::parse(&hdr.to_bytes()[..9]), None);
    }

    #[test]
    fn tcp_super_packets_are_told_apart() {
        let kind = |gso_type| VnetHdr { gso_type, ..VnetHdr::default() }.is_tcp();
        assert!(kind(VnetHdr::GSO_TCPV4) && kind(VnetHdr::GSO_TCPV6));
        assert!(kind(VnetHdr::GSO_TCPV4 | VnetHdr::GSO_ECN));
        assert!(!kind(VnetHdr::GSO_NONE) && !kind(VnetHdr::GSO_UDP_L4));
    }

    #[test]
    fn a_device_opens_reads_and_is_exclusive() {
        let name = format!("t{}x0", std::process::id());
        let tun = Tun::open(&name, 2).unwrap();
        assert_eq!(tun.name, name);
        assert!(!tun.existed);
        assert_eq!(tun.queues.len(), 2);
        assert!(tun.offloads.tso);
        tun.set_queue_len(1234).unwrap();
        let set = std::fs::read_to_string(format!("/sys/class/net/{name}/tx_queue_len")).unwrap();
        assert_eq!(set.trim(), "1234");
        tun.set_carrier(false).unwrap();
        tun.set_carrier(true).unwrap();
        let mut frame = [0; 64];
        assert_eq!(tun.queues[0].read(&mut frame).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // Down: the kernel refuses packets.
        let hdr = VnetHdr::default().to_bytes();
        let packet = [0x45; 40];
        let refused = tun.queues[1].write(&[IoSlice::new(&hdr), IoSlice::new(&packet)]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EIO));
        // A second owner does not get it.
        assert!(Tun::open(&name, 1).is_err());
    }

    #[test]
    fn a_name_without_a_number_gets_the_next_one() {
        let one = Tun::open("tun", 1).unwrap();
        let two = Tun::open("tun%d", 1).unwrap();
        assert_ne!(one.name, two.name);
        assert!(one.name.starts_with("tun"));
        assert!(Tun::open("sixteen-letters-", 1).is_err());
    }
}
