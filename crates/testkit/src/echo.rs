//! Echo requests whose every answer counts.
//!
//! `ping` gives up when twice its longest round trip has passed after the last request: on a busy machine it reports
//! answers as lost that come a moment later. This waits for all of them, for a time that only a real loss uses up.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

use crate::Netns;

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Room for answers that were not read yet, bytes.
const ROOM: usize = 8 << 20;

/// Echo requests to send.
#[derive(Debug, Clone, Copy)]
pub struct Echo {
    /// How many.
    pub count: u16,
    /// Payload of each, bytes.
    pub size: usize,
    /// Time between two of them.
    pub pause: Duration,
}

impl Echo {
    /// Sends the requests from a namespace to `to`; every one must be answered once, within 15 s of the last.
    ///
    /// # Errors
    /// Names the requests without an answer, or what the system said.
    pub fn run(&self, from: &Netns, to: IpAddr) -> anyhow::Result<()> {
        // Opens sockets for echoes to root's group, in this namespace only.
        from.run("sysctl", &["-qw", "net.ipv4.ping_group_range=0 0"])?;
        let (family, protocol) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let fd: OwnedFd = from
            .enter(|| socket(family, SocketType::DGRAM, Some(protocol)))?
            .context("a socket for echoes")?;
        // Answers wait here while the machine does other things.
        set_socket_recv_buffer_size_force(&fd, ROOM)?;
        // The standard library's calls fit: the system fills in identifier and checksum.
        let socket = UdpSocket::from(fd);
        socket.connect(SocketAddr::new(to, 0))?;
        let missing = self.exchange(&socket, if to.is_ipv4() { 8 } else { 128 })?;
        let shown: Vec<_> = missing.iter().take(20).collect();
        anyhow::ensure!(
            missing.is_empty(),
            "{} of {} echo requests to {to} not answered: {shown:?}",
            missing.len(),
            self.count
        );
        Ok(())
    }

    fn exchange(&self, socket: &UdpSocket, request: u8) -> anyhow::Result<BTreeSet<u16>> {
        let mut missing: BTreeSet<u16> = BTreeSet::new();
        let begin = Instant::now();
        let mut packet = vec![0x2A; 8 + self.size];
        for number in 0..self.count {
            packet[..8].fill(0);
            packet[0] = request;
            packet[6..8].copy_from_slice(&number.to_be_bytes());
            socket.send(&packet).with_context(|| format!("echo request {number}"))?;
            missing.insert(number);
            take_until(socket, &mut missing, begin + self.pause * (u32::from(number) + 1))?;
        }
        let end = Instant::now() + PATIENCE;
        while !missing.is_empty() && Instant::now() < end {
            take_until(socket, &mut missing, (Instant::now() + Duration::from_millis(100)).min(end))?;
        }
        Ok(missing)
    }
}

/// Takes answers until `time`, or until none is missing that was sent.
fn take_until(socket: &UdpSocket, missing: &mut BTreeSet<u16>, time: Instant) -> anyhow::Result<()> {
    let mut buffer = vec![0; 65536];
    loop {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(len) if len >= 8 => {
                let number = u16::from_be_bytes([buffer[6], buffer[7]]);
                anyhow::ensure!(missing.remove(&number), "echo request {number} was answered twice");
            }
            Ok(_) => {}
            // Nothing in time, a signal, or an error that the network reported: it shows in what is missing.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pair;

    #[test]
    fn answers_are_counted_and_losses_named() {
        let pair = Pair::new("echo").unwrap();
        let echo = Echo { count: 5, size: 3000, pause: Duration::from_millis(2) };
        echo.run(&pair.left, "10.10.1.2".parse().unwrap()).unwrap();
        echo.run(&pair.right, "fd00:0:0:1::1".parse().unwrap()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        // It hears itself once, and nothing of what is taken out of its hands.
        let echo = Echo { count: 1, ..echo };
        assert!(echo.exchange(&socket, 8).unwrap().is_empty());
    }
}
