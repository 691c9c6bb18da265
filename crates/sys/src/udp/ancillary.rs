//! Socket addresses and ancillary data, laid out and read as bytes.
//!
//! ```text
//!   ┌ len: usize ┬ level: int ┬ type: int ┬ data … ┬ padding to usize ┐ ┌ next …
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::unmap;

const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;

/// Room for one address.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name(pub(super) [u8; 28]);

/// Room for a packet-info and a segment size, and what else the caller's socket options may add.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; 128]);

impl Name {
    pub(super) const EMPTY: Self = Self([0; 28]);

    /// Encodes `address` for a socket of IPv6 or IPv4; returns its length.
    pub(super) fn set(&mut self, address: SocketAddr, v6: bool) -> u32 {
        let address = match (address, v6) {
            (SocketAddr::V4(v4), true) => {
                SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
            }
            (other, _) => unmap_for(other, v6),
        };
        self.0[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                self.0[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                self.0[4..8].copy_from_slice(&v4.ip().octets());
                self.0[8..16].fill(0);
                16
            }
            SocketAddr::V6(v6) => {
                self.0[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                self.0[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                self.0[8..24].copy_from_slice(&v6.ip().octets());
                self.0[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                28
            }
        }
    }

    /// The address the kernel wrote; IPv4-mapped ones as IPv4.
    pub(super) fn get(&self) -> SocketAddr {
        let port = u16::from_be_bytes([self.0[2], self.0[3]]);
        if u16::from_ne_bytes([self.0[0], self.0[1]]) == libc::AF_INET6 as u16 {
            let ip = Ipv6Addr::from(array::<16>(&self.0[8..24]));
            let scope = u32::from_ne_bytes(array(&self.0[24..28]));
            unmap(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)))
        } else {
            SocketAddr::from((array::<4>(&self.0[4..8]), port))
        }
    }
}

impl Control {
    pub(super) const EMPTY: Self = Self([0; 128]);

    /// Encodes source address and segment size; returns the length, 0 for neither.
    pub(super) fn set(&mut self, local: Option<IpAddr>, scope: u32, segment: u16, v6: bool) -> usize {
        let mut at = 0;
        match (local, v6) {
            (Some(IpAddr::V4(v4)), false) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&v4.octets());
                at = self.put(at, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            (Some(local), true) => {
                let ip = match local {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                if ip.is_unicast_link_local() {
                    info[16..20].copy_from_slice(&scope.to_ne_bytes());
                }
                at = self.put(at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            (Some(IpAddr::V6(_)), false) | (None, _) => {}
        }
        if segment != 0 {
            at = self.put(at, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        at
    }

    fn put(&mut self, at: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
        let end = at + HEADER + data.len();
        self.0[at..at + WORD].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        self.0[at + WORD..at + WORD + 4].copy_from_slice(&level.to_ne_bytes());
        self.0[at + WORD + 4..at + HEADER].copy_from_slice(&kind.to_ne_bytes());
        self.0[at + HEADER..end].copy_from_slice(data);
        end.next_multiple_of(WORD)
    }

    /// Reads local address and segment size (0: not merged) of the first `len` bytes.
    pub(super) fn get(&self, len: usize) -> (Option<IpAddr>, usize) {
        let (mut local, mut segment) = (None, 0);
        let mut rest = self.0.get(..len).unwrap_or(&self.0);
        while let Some((header, _)) = rest.split_first_chunk::<HEADER>() {
            let length = usize::from_ne_bytes(array(&header[..WORD]));
            let level = i32::from_ne_bytes(array(&header[WORD..WORD + 4]));
            let kind = i32::from_ne_bytes(array(&header[WORD + 4..]));
            let Some(data) = rest.get(HEADER..length) else { break };
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= 12 => {
                    local = Some(IpAddr::V4(Ipv4Addr::from(array::<4>(&data[8..12]))));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if data.len() >= 20 => {
                    let ip = Ipv6Addr::from(array::<16>(&data[..16]));
                    local = Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4));
                }
                (libc::SOL_UDP, libc::UDP_GRO) if data.len() >= 4 => {
                    segment = usize::try_from(i32::from_ne_bytes(array(&data[..4]))).unwrap_or(0);
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(WORD)..).unwrap_or(&[]);
        }
        (local, segment)
    }
}

fn unmap_for(address: SocketAddr, v6: bool) -> SocketAddr {
    if v6 { address } else { unmap(address) }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

pub(super) fn set_int_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let (data, len) = ((&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the descriptor is open, and `data` points to one `int`, which the options set here are.
    let rc = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, data, len) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Word of the memory information that counts dropped messages (SK_MEMINFO_DROPS).
const DROPS: usize = 8;

pub(super) fn socket_drops(fd: BorrowedFd<'_>) -> u32 {
    let mut words = [0u32; DROPS + 1];
    let mut len = size_of_val(&words) as libc::socklen_t;
    let (level, name, data) = (libc::SOL_SOCKET, libc::SO_MEMINFO, words.as_mut_ptr().cast());
    // SAFETY: the descriptor is open, and at most `len` bytes are written to `data`, which holds so many.
    let rc = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, data, &raw mut len) };
    // An older kernel fills in less, and the word stays 0.
    if rc < 0 { 0 } else { words[DROPS] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        let mut name = Name::EMPTY;
        for (text, v6, len) in [
            ("192.0.2.1:1194", false, 16),
            ("192.0.2.1:1194", true, 28),
            ("[2001:db8::1]:443", true, 28),
            ("[fe80::1%7]:443", true, 28),
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(name.set(address, v6), len);
            assert_eq!(name.get(), address);
        }
    }

    #[test]
    fn broken_ancillary_data_ends_the_walk() {
        let mut control = Control::EMPTY;
        let len = control.set(Some("192.0.2.1".parse().unwrap()), 0, 1400, false);
        assert_eq!(control.get(len).0, Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        for length in [0usize, 1, HEADER - 1, usize::MAX - 8, 4096] {
            control.0[..WORD].copy_from_slice(&length.to_ne_bytes());
            let _ = control.get(len);
            let _ = control.get(4096);
        }
    }
}
