//! Receiving: as many messages as wait, in one call, into buffers that are used again.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::ancillary::{Control, Name};

/// The most messages one call takes.
const MAX_SLOTS: usize = 128;
/// Room for the largest message.
const SLOT: usize = 65536;
/// From slot to slot: no power of two, so that the beginnings of slots do not fight for the same cache lines.
const STRIDE: usize = SLOT + 4096 + 1472;

/// Buffers for messages. Memory is touched only as far as messages reach.
pub struct RecvBatch {
    data: Vec<u8>,
    slots: Vec<Slot>,
}

struct Slot {
    name: Name,
    control: Control,
    len: usize,
    control_len: usize,
    truncated: bool,
}

/// A received message: a datagram, or several of the same sender merged.
#[derive(Debug)]
pub struct Message<'a> {
    /// The bytes.
    pub data: &'a mut [u8],
    /// Length of each merged datagram but the last; the whole length where nothing was merged.
    pub segment: usize,
    /// The sender; IPv4-mapped addresses are given as IPv4.
    pub from: SocketAddr,
    /// The local address it was sent to; not told where the socket is bound to one.
    pub local: Option<IpAddr>,
    /// The end was cut off.
    pub truncated: bool,
}

impl RecvBatch {
    /// Buffers for at most `slots` messages a call (and never more than 128).
    pub fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, MAX_SLOTS);
        let empty =
            || Slot { name: Name::EMPTY, control: Control::EMPTY, len: 0, control_len: 0, truncated: false };
        Self { data: vec![0; slots * STRIDE], slots: (0..slots).map(|_| empty()).collect() }
    }

    /// How many messages one call takes at most.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Message `index` of the last call.
    ///
    /// # Panics
    /// Where `index` is not below what that call returned.
    pub fn message(&mut self, index: usize) -> Message<'_> {
        let slot = &self.slots[index];
        let (local, segment) = slot.control.get(slot.control_len);
        Message {
            data: &mut self.data[index * STRIDE..][..slot.len],
            segment: if segment == 0 { slot.len } else { segment },
            from: slot.name.get(),
            local,
            truncated: slot.truncated,
        }
    }

    pub(super) fn recv(&mut self, fd: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_SLOTS];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_SLOTS];
        let count = self.slots.len().min(limit);
        for (index, slot) in self.slots.iter_mut().enumerate().take(count) {
            let vector = vectors[index].write(libc::iovec {
                iov_base: self.data[index * STRIDE..][..SLOT].as_mut_ptr().cast(),
                iov_len: SLOT,
            });
            headers[index].write(super::send::header(
                (slot.name.0.as_mut_ptr(), slot.name.0.len() as u32),
                vector,
                (slot.control.0.as_mut_ptr(), slot.control.0.len()),
            ));
        }
        let (first, flags) = (headers.as_mut_ptr().cast(), libc::MSG_DONTWAIT);
        // SAFETY: the first `count` headers are written; each points to its own name, vector, control and data, which
        // live, unmoved and unshared, until the call is over, and tells their true lengths.
        let rc = unsafe {
            libc::recvmmsg(fd.as_raw_fd(), first, count as libc::c_uint, flags as _, std::ptr::null_mut())
        };
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        let got = usize::try_from(rc).unwrap_or(0).min(count);
        for (slot, header) in self.slots.iter_mut().zip(&headers[..got]) {
            // SAFETY: `got` is at most `count`, and the first `count` headers are written.
            let header = unsafe { header.assume_init_ref() };
            slot.len = (header.msg_len as usize).min(SLOT);
            #[allow(clippy::unnecessary_cast, reason = "u32 in other C libraries")]
            let control_len = header.msg_hdr.msg_controllen as usize;
            slot.control_len = control_len;
            slot.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        }
        Ok(got)
    }
}

impl std::fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecvBatch({} slots)", self.slots.len())
    }
}
