//! One netlink socket.
//!
//! ```text
//!   request ──▶ kernel ──▶ replies … acknowledgement(errno, sentence)
//!   dump    ──▶ kernel ──▶ part, part, … DONE      (again from the start where the kernel says it was interrupted)
//!   subscribe                ◀── notifications      (non-blocking; an overrun is reported, not hidden)
//! ```
//!
//! Requests are serialized by a lock: a socket may be shared between threads. Notifications need a socket of their own
//! ([`Subscription`]), so that an acknowledgement never hides behind them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::message::{
    Message, MessageBuilder, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_NOOP,
    messages, set_sequence,
};
use super::{Error, Result};

/// Longest that a request may wait for its answer; the kernel answers within the system call.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A dump that is interrupted this often is given up.
const DUMP_ATTEMPTS: usize = 16;
/// The kernel fills at most 32 KiB of a dump into one datagram; a single message can be larger.
const BUFFER: usize = 128 * 1024;
/// Receive buffer of a subscription, bytes.
const SUBSCRIPTION_BUFFER: usize = 4 * 1024 * 1024;

const NETLINK_ADD_MEMBERSHIP: libc::c_int = 1;
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;
const NETLINK_GET_STRICT_CHK: libc::c_int = 12;

/// The netlink families used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// rtnetlink: links, addresses, routes, rules.
    Route,
    /// Generic netlink.
    Generic,
    /// Netfilter: nf_tables.
    Netfilter,
}

/// One message of an answer, taken out of the receive buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its type.
    pub kind: u16,
    /// Its payload: the family's header and attributes.
    pub payload: Vec<u8>,
}

impl Reply {
    /// As [`Message::after_header`].
    ///
    /// # Errors
    /// Where the payload is shorter than the header.
    pub fn after_header(
        &self,
        len: usize,
    ) -> std::result::Result<(&[u8], super::message::Attributes<'_>), super::message::Malformed> {
        Message { kind: self.kind, flags: 0, sequence: 0, port: 0, payload: &self.payload }.after_header(len)
    }
}

/// A socket for requests and dumps, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket of this family.
    ///
    /// # Errors
    /// What the system says; `EPROTONOSUPPORT` where the family is not there.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let fd = open(protocol, SocketFlags::CLOEXEC)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        // An acknowledgement shall not repeat the request, which may hold keys; it shall say why it refuses. Older
        // kernels lack these options and do without.
        let _ = set_option(&fd, NETLINK_CAP_ACK, 1);
        let _ = set_option(&fd, NETLINK_EXT_ACK, 1);
        let _ = set_option(&fd, NETLINK_GET_STRICT_CHK, 1);
        Ok(Self { fd, state: Mutex::new(State { sequence: 0, buffer: vec![0; BUFFER] }) })
    }

    /// Sends a request and waits for its acknowledgement; gives the replies that came before it.
    ///
    /// # Errors
    /// The kernel's refusal, or what the socket says.
    pub fn request(&self, request: MessageBuilder) -> Result<Vec<Reply>> {
        self.exchange(request.finish(), NLM_F_REQUEST | NLM_F_ACK)
    }

    /// Sends a finished message (flags as they stand, plus request and acknowledgement).
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn request_bytes(&self, request: Vec<u8>) -> Result<Vec<Reply>> {
        self.exchange(request, NLM_F_REQUEST | NLM_F_ACK)
    }

    /// Asks for all objects of a kind. An interrupted dump is begun again.
    ///
    /// # Errors
    /// The kernel's refusal, or `EINTR` where other changes interrupt it without end.
    pub fn dump(&self, request: MessageBuilder) -> Result<Vec<Reply>> {
        self.dump_bytes(&request.finish())
    }

    /// As [`Self::dump`], with a finished message.
    ///
    /// # Errors
    /// As [`Self::dump`].
    pub fn dump_bytes(&self, request: &[u8]) -> Result<Vec<Reply>> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.exchange(request.to_vec(), NLM_F_REQUEST | NLM_F_DUMP) {
                Err(error) if error.errno() == libc::EINTR => {}
                result => return result,
            }
        }
        Err(Error::new(libc::EINTR, "the dump was interrupted again and again by changes"))
    }

    /// Sends several messages at once, with their flags as they stand, and waits until the last that wants an
    /// acknowledgement has one: a transaction of nf_tables.
    ///
    /// # Errors
    /// The first refusal, or what the socket says.
    pub fn batch(&self, messages: Vec<MessageBuilder>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let State { sequence, buffer } = &mut *state;
        let (mut bytes, first, mut last) = (Vec::new(), sequence.wrapping_add(1).max(1), 0);
        *sequence = first;
        for message in messages {
            let mut message = message.finish();
            if super::message::u16_at(&message, 6) & NLM_F_ACK != 0 {
                last = *sequence;
            }
            set_sequence(&mut message, *sequence, 0);
            *sequence += 1;
            bytes.extend_from_slice(&message);
        }
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        loop {
            let bytes = receive(&self.fd, buffer, RecvFlags::empty())?;
            for message in super::message::messages(bytes) {
                let message = message?;
                if !(first..*sequence).contains(&message.sequence) {
                    continue;
                }
                if let Some(ack) = message.ack()? {
                    ack.into_result()?;
                    if message.sequence == last {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn exchange(&self, mut request: Vec<u8>, flags: u16) -> Result<Vec<Reply>> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let State { sequence, buffer } = &mut *state;
        *sequence = sequence.wrapping_add(1).max(1);
        set_sequence(&mut request, *sequence, 0);
        if let Some(field) = request.get_mut(6..8) {
            let old = u16::from_ne_bytes([field[0], field[1]]);
            field.copy_from_slice(&(old | flags).to_ne_bytes());
        }
        let sent = rustix::net::send(&self.fd, &request, SendFlags::empty());
        request.fill(0); // it may hold keys
        sent?;
        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut replies = Vec::new();
        let mut interrupted = false;
        loop {
            let bytes = receive(&self.fd, buffer, RecvFlags::empty())?;
            for message in messages(bytes) {
                let message = message?;
                if message.sequence != *sequence || message.kind == NLMSG_NOOP {
                    continue; // the rest of an exchange that was given up
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                let Some(ack) = message.ack()? else {
                    replies.push(Reply { kind: message.kind, payload: message.payload.to_vec() });
                    continue;
                };
                if interrupted && message.kind == NLMSG_DONE {
                    return Err(Error::new(libc::EINTR, ""));
                }
                if dump && message.kind != NLMSG_DONE && ack.errno == 0 {
                    continue; // an acknowledgement of the request for a dump
                }
                ack.into_result()?;
                return Ok(replies);
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket that receives multicast notifications, without blocking.
#[derive(Debug)]
pub struct Subscription {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// What a subscription gives next.
#[derive(Debug)]
pub enum Notification<'a> {
    /// A datagram of one or more messages.
    Messages(super::message::Messages<'a>),
    /// Notifications were lost since the last one; what they told must be read anew.
    Lost,
}

impl Subscription {
    /// Joins multicast groups by number (rtnetlink's are constants, generic netlink's are looked up).
    ///
    /// # Errors
    /// What the system says.
    pub fn open(protocol: Protocol, groups: &[u32]) -> Result<Self> {
        let fd = open(protocol, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // The first needs CAP_NET_ADMIN, the second is cut to rmem_max.
        if sockopt::set_socket_recv_buffer_size_force(&fd, SUBSCRIPTION_BUFFER).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&fd, SUBSCRIPTION_BUFFER);
        }
        for &group in groups {
            let group = libc::c_int::try_from(group).map_err(|_| Error::new(libc::EINVAL, "group number"))?;
            set_option(&fd, NETLINK_ADD_MEMBERSHIP, group)?;
        }
        Ok(Self { fd, buffer: vec![0; BUFFER] })
    }

    /// The next datagram, `None` when there is none now.
    ///
    /// # Errors
    /// Where the socket has failed.
    pub fn receive(&mut self) -> Result<Option<Notification<'_>>> {
        match receive(&self.fd, &mut self.buffer, RecvFlags::DONTWAIT) {
            Ok(bytes) => Ok(Some(Notification::Messages(messages(bytes)))),
            Err(error) if error.errno() == libc::EAGAIN => Ok(None),
            Err(error) if matches!(error.errno(), libc::ENOBUFS | libc::EMSGSIZE) => {
                Ok(Some(Notification::Lost))
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the receive buffer to this many bytes (the kernel doubles it and has a least size).
    ///
    /// # Errors
    /// What the system says.
    pub fn set_buffer(&self, bytes: usize) -> io::Result<()> {
        Ok(sockopt::set_socket_recv_buffer_size(&self.fd, bytes)?)
    }
}

impl AsFd for Subscription {
    /// Readable while notifications (or the report of a loss) wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open(protocol: Protocol, flags: SocketFlags) -> Result<OwnedFd> {
    let protocol = match protocol {
        // rustix has no name for 0
        Protocol::Route => None,
        Protocol::Generic => Some(rustix::net::netlink::GENERIC),
        Protocol::Netfilter => Some(rustix::net::netlink::NETFILTER),
    };
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
    Ok(fd)
}

/// One datagram of the kernel's; those of other processes are skipped.
fn receive<'a>(fd: &OwnedFd, buffer: &'a mut [u8], flags: RecvFlags) -> Result<&'a [u8]> {
    let length = loop {
        let (_, length, from) = match rustix::net::recvfrom(fd, &mut *buffer, flags | RecvFlags::TRUNC) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        if from.is_some_and(|from| SocketAddrNetlink::try_from(from).is_ok_and(|from| from.pid() == 0)) {
            break length;
        }
    };
    buffer.get(..length).ok_or_else(|| Error::new(libc::EMSGSIZE, "a message larger than the buffer"))
}

/// Sets an option of level `SOL_NETLINK`.
fn set_option(fd: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the value is an int that lives past the call, whose size is told.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_option_is_an_error() {
        let fd = open(Protocol::Route, SocketFlags::CLOEXEC).unwrap();
        set_option(&fd, NETLINK_EXT_ACK, 1).unwrap();
        assert_eq!(set_option(&fd, 9999, 1).unwrap_err().raw_os_error(), Some(libc::ENOPROTOOPT));
    }

    #[test]
    fn refusals_carry_the_kernels_sentence() {
        let socket = Socket::open(Protocol::Route).unwrap();
        // RTM_GETLINK of an interface that is not there
        let mut header = [0u8; 16];
        header[4..8].copy_from_slice(&0x7FFF_FFFFu32.to_ne_bytes());
        let error = socket.request(MessageBuilder::new(18, 0).header(&header)).unwrap_err();
        assert_eq!(error.errno(), libc::ENODEV);
        // a request type that does not exist
        let error = socket.request(MessageBuilder::new(9999, 0).header(&header)).unwrap_err();
        assert_eq!(error.errno(), libc::EOPNOTSUPP);
    }

    #[test]
    fn one_socket_serves_several_threads() {
        let socket = Socket::open(Protocol::Route).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let links = socket.dump(MessageBuilder::new(18, 0).header(&[0; 16])).unwrap();
                        assert!(links.iter().all(|link| link.kind == 16));
                        assert!(!links.is_empty());
                    }
                });
            }
        });
    }
}
