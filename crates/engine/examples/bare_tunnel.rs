//! A tunnel that carries and does nothing else: what the system leaves to any engine between a TUN device and a socket.
//!
//! ```text
//! bare_tunnel DEVICE LOCAL REMOTE
//!
//!   a frame of the device ──▶ [magic 4][length 4][vnet header and packet, up to 64 KiB] ──▶ one message, cut anywhere
//! ```
//!
//! No encryption, no headers or checksums for each packet: a super-packet travels as it is, and where a datagram is lost
//! it is lost as a whole. One thread, batches and waiting as the engine has them. For measuring only.

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket as Std};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ovpn_sys::poll::wait_any;
use ovpn_sys::tun::{MAX_FRAME, Tun, TunQueue};
use ovpn_sys::udp::{Outgoing, Path, RecvBatch, UdpSocket};

/// Payload of a datagram, bytes: with its headers it fits an Ethernet packet.
const SEGMENT: u16 = 1452;
const MAGIC: [u8; 4] = *b"bare";
const HEADER: usize = 8;
/// Frames sent in one call.
const FRAMES: usize = 2;
/// Messages received in one call, and of those that the system has merged.
const MESSAGES: usize = 128;
const MERGED_MESSAGES: usize = 8;
/// Messages of this length on average have been merged, bytes.
const MERGED: usize = 8 << 10;
/// A batch with fewer bytes is no stream.
const STREAM: usize = 16 << 10;
/// The engine's socket buffers, bytes.
const RECEIVE_BUFFER: usize = 640 << 10;
const SEND_BUFFER: usize = 1 << 20;
/// The least there is; the system makes it 50 µs longer.
const PAUSE: Duration = Duration::from_micros(1);
/// How long it looks again before it sleeps, in the midst of a stream.
const PATIENCE: Duration = Duration::from_micros(200);
/// Batches that are further apart are no stream.
const APART: Duration = Duration::from_millis(1);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, local, remote] = arguments.as_slice() else {
        return Err("arguments: DEVICE LOCAL REMOTE".into());
    };
    let (local, remote): (SocketAddr, SocketAddr) = (local.parse()?, remote.parse()?);
    let tun = Tun::open(device, 1)?;
    let queue = tun.queues.first().ok_or("no queue")?;
    let socket = Std::bind(local)?;
    socket.connect(remote)?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::new(socket.into())?;
    socket.raise_buffers(RECEIVE_BUFFER, SEND_BUFFER);
    let frames = (0..FRAMES).map(|_| vec![0; HEADER + MAX_FRAME]).collect();
    let mut sender = Sender { frames, path: Path { remote, local: None } };
    let mut receiver = Receiver {
        batch: RecvBatch::new(MESSAGES),
        limit: MESSAGES,
        frame: Vec::with_capacity(MAX_FRAME),
        len: 0,
    };
    let fds = [socket.as_fd(), queue.as_fd()];
    let mut streamed: Option<Instant> = None;
    loop {
        let mut ready = 0;
        if streamed.is_some_and(|last| last.elapsed() <= APART) {
            let from = Instant::now();
            while ready == 0 && from.elapsed() < PATIENCE {
                ready = wait_any(&fds, Some(Duration::ZERO))?;
                if ready == 0 {
                    std::thread::yield_now();
                }
            }
        }
        if ready == 0 {
            ready = wait_any(&fds, None)?;
        }
        let (more, sent) = if ready & 2 != 0 { sender.turn(queue, &socket)? } else { (false, false) };
        let mut pause = false;
        if ready & 1 != 0 {
            let mut full = true;
            while full {
                (full, pause) = receiver.turn(queue, &socket)?;
            }
        }
        if sent || pause {
            streamed = Some(Instant::now());
        }
        if pause && !more {
            std::thread::sleep(PAUSE);
        }
    }
}

struct Sender {
    frames: Vec<Vec<u8>>,
    path: Path,
}

impl Sender {
    /// Sends what waits in the device; whether there may be more, and whether it was much.
    fn turn(&mut self, tun: &TunQueue, socket: &UdpSocket) -> io::Result<(bool, bool)> {
        let mut lengths = [0; FRAMES];
        let mut count = 0;
        for (frame, len) in self.frames.iter_mut().zip(&mut lengths) {
            match tun.read(&mut frame[HEADER..]) {
                Ok(read) => *len = read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            frame[..4].copy_from_slice(&MAGIC);
            frame[4..HEADER].copy_from_slice(&u32::try_from(*len).unwrap_or(0).to_be_bytes());
            count += 1;
        }
        let message = |n: usize| {
            let data = &self.frames[n][..HEADER + lengths[n]];
            let segment = if data.len() > usize::from(SEGMENT) { SEGMENT } else { 0 };
            Outgoing { data, segment, path: self.path }
        };
        let messages: [_; FRAMES] = std::array::from_fn(message);
        // What the system does not take is lost, as on any network.
        let _ = socket.send(&messages[..count]);
        Ok((count == FRAMES, lengths.iter().sum::<usize>() >= STREAM))
    }
}

struct Receiver {
    batch: RecvBatch,
    limit: usize,
    /// What has come of the frame under way, and its length; 0: none is.
    frame: Vec<u8>,
    len: usize,
}

impl Receiver {
    /// Receives a batch; whether there may be more, and whether it was much.
    fn turn(&mut self, tun: &TunQueue, socket: &UdpSocket) -> io::Result<(bool, bool)> {
        let count = match socket.recv_up_to(&mut self.batch, self.limit) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((false, false)),
            // The other end is not there yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok((true, false)),
            Err(error) => return Err(error),
        };
        let mut bytes = 0;
        for index in 0..count {
            let message = self.batch.message(index);
            bytes += message.data.len();
            for datagram in message.data.chunks(message.segment.max(1)) {
                let rest = match datagram.strip_prefix(&MAGIC).and_then(|rest| rest.split_first_chunk()) {
                    Some((len, rest)) => {
                        self.frame.clear();
                        self.len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(0);
                        rest
                    }
                    None => datagram,
                };
                if self.frame.len() + rest.len() > self.len {
                    self.len = 0;
                    continue;
                }
                self.frame.extend_from_slice(rest);
                if self.len != 0 && self.frame.len() == self.len {
                    // A frame that the device does not take is lost.
                    let _ = tun.write(&[IoSlice::new(&self.frame)]);
                    self.len = 0;
                }
            }
        }
        let full = count >= self.limit;
        self.limit = if bytes > count * MERGED { MERGED_MESSAGES } else { MESSAGES };
        Ok((full, bytes >= STREAM))
    }
}
