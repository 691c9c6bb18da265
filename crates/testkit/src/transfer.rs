//! A TCP transfer between two namespaces, judged by its hash.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest::{Context as Digest, SHA256};

use crate::Netns;

const BLOCK: usize = 64 * 1024;

/// Sends `bytes` (whole blocks of 64 KiB) from one namespace to an address of another and compares the hashes of what
/// was sent and what came. Returns how long it took from connecting to the last byte.
///
/// # Errors
/// When it is not over within `limit` or the hashes differ.
pub fn transfer(from: &Netns, to: &Netns, address: IpAddr, bytes: u64, limit: Duration) -> Result<Duration> {
    let mut block = vec![0; BLOCK];
    aws_lc_rs::rand::fill(&mut block)?;
    transfer_of(block, from, to, address, bytes, limit)
}

/// As [`transfer`], of bytes that compress well.
///
/// # Errors
/// As [`transfer`].
pub fn transfer_text(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    bytes: u64,
    limit: Duration,
) -> Result<Duration> {
    let block =
        b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle().take(BLOCK).collect();
    transfer_of(block, from, to, address, bytes, limit)
}

fn transfer_of(
    block: Vec<u8>,
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    bytes: u64,
    limit: Duration,
) -> Result<Duration> {
    let end = Instant::now() + limit;
    let listener = to.enter(|| TcpListener::bind((address, 0)))?.context("no listener at the far end")?;
    let to_address = listener.local_addr()?;
    let (sent, received) = std::thread::scope(|scope| {
        let sender = scope.spawn(move || from.enter(|| send(block, to_address, bytes, end))?);
        let received = receive(&listener, end).context("receiving");
        let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?.context("sending");
        anyhow::Ok((sent?, received?))
    })?;
    ensure!(received.len == bytes, "{} of {bytes} bytes came", received.len);
    ensure!(received.hash == sent, "what came has another hash than what was sent");
    Ok(received.took)
}

struct Received {
    hash: Vec<u8>,
    len: u64,
    took: Duration,
}

fn send(mut block: Vec<u8>, to: SocketAddr, bytes: u64, end: Instant) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, left(end)?)?;
    let mut hash = Digest::new(&SHA256);
    for number in 0..bytes / BLOCK as u64 {
        // Blocks differ, so that one lost, doubled or in the wrong place shows.
        if let Some(head) = block.first_chunk_mut() {
            *head = number.to_be_bytes();
        }
        stream.set_write_timeout(Some(left(end)?))?;
        stream.write_all(&block)?;
        hash.update(&block);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(hash.finish().as_ref().to_vec())
}

fn receive(listener: &TcpListener, end: Instant) -> Result<Received> {
    listener.set_nonblocking(true)?;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                left(end)?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    };
    stream.set_nonblocking(false)?;
    let start = Instant::now();
    let (mut hash, mut len) = (Digest::new(&SHA256), 0);
    let mut buffer = vec![0; 4 * BLOCK];
    loop {
        stream.set_read_timeout(Some(left(end)?))?;
        let n = stream.read(&mut buffer).with_context(|| format!("after {len} bytes"))?;
        if n == 0 {
            break;
        }
        hash.update(buffer.get(..n).unwrap_or_default());
        len += n as u64;
    }
    Ok(Received { hash: hash.finish().as_ref().to_vec(), len, took: start.elapsed() })
}

fn left(end: Instant) -> Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    ensure!(!left.is_zero(), "the time is over");
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pair;

    #[test]
    fn all_bytes_arrive_and_time_is_limited() {
        let pair = Pair::new("copy").unwrap();
        let address = "10.10.1.2".parse().unwrap();
        transfer(&pair.left, &pair.right, address, 4 << 20, Duration::from_secs(20)).unwrap();
        pair.left.ip("link set veth1 down").unwrap();
        transfer(&pair.left, &pair.right, address, 4 << 20, Duration::from_millis(300)).unwrap_err();
    }
}
