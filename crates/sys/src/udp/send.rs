//! Sending: several messages in one call, each of them perhaps many segments.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use super::ancillary::{Control, Name};
use super::{Path, UdpSocket};

/// The most segments one message may have.
pub const MAX_SEGMENTS: usize = 64;
/// The most messages one call sends.
const MAX_MESSAGES: usize = 32;

/// A message to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The datagram, or several of `segment` bytes each, the last one perhaps shorter.
    pub data: &'a [u8],
    /// Length of each datagram; 0 for a message of one.
    pub segment: u16,
    /// Where to.
    pub path: Path,
}

pub(super) fn send(socket: &UdpSocket, messages: &[Outgoing<'_>]) -> io::Result<usize> {
    let mut sent = 0;
    for chunk in messages.chunks(MAX_MESSAGES) {
        match send_chunk(socket, chunk) {
            Ok(n) => {
                sent += n;
                if n < chunk.len() {
                    break;
                }
            }
            Err(e) if sent == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(sent)
}

fn send_chunk(socket: &UdpSocket, messages: &[Outgoing<'_>]) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<Name>::uninit() }; MAX_MESSAGES];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; MAX_MESSAGES];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_MESSAGES];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_MESSAGES];
    for (index, message) in messages.iter().enumerate() {
        let scope = match message.path.remote {
            SocketAddr::V6(remote) => remote.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let name = names[index].write(Name::EMPTY);
        let name_len = name.set(message.path.remote, socket.v6);
        let control = controls[index].write(Control::EMPTY);
        // The address it is bound to need not be told.
        let local = message.path.local.filter(|_| message.path.local != socket.bound);
        let control_len = control.set(local, scope, message.segment, socket.v6);
        let vector = vectors[index].write(libc::iovec {
            iov_base: message.data.as_ptr().cast_mut().cast(),
            iov_len: message.data.len(),
        });
        let control = (control.0.as_mut_ptr(), control_len);
        headers[index].write(header((name.0.as_mut_ptr(), name_len), vector, control));
    }
    let (first, count) = (headers.as_mut_ptr().cast(), messages.len() as libc::c_uint);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `count` headers are written; each points to its own name, vector and control and to borrowed
    // data, which live until the call is over, and tells their true lengths. The kernel only reads the data.
    let rc = unsafe { libc::sendmmsg(socket.fd.as_raw_fd(), first, count, flags as _) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(rc).unwrap_or(0)) }
}

/// A header over its parts; it holds bare pointers to them.
pub(super) fn header(
    name: (*mut u8, u32),
    vector: &mut libc::iovec,
    control: (*mut u8, usize),
) -> libc::mmsghdr {
    // SAFETY: all of its fields are integers and pointers, for which zero is a value.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = name.0.cast();
    header.msg_hdr.msg_namelen = name.1;
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    if control.1 > 0 {
        header.msg_hdr.msg_control = control.0.cast();
        header.msg_hdr.msg_controllen = control.1 as _;
    }
    header
}
