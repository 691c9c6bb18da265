//! A SOCKS5 proxy's part of a connection.
//!
//! ```text
//!   ── 05 n methods ──▶  ◀── 05 method ──
//!   ── 01 user password ──▶  ◀── 01 00 ──                     where method 02 was chosen
//!   ── 05 command 00 address port ──▶  ◀── 05 reply 00 address port ──
//!
//!   UDP: each datagram starts with  00 00 │ fragment │ address │ port
//! ```
//!
//! Pure: bytes in, bytes out. Source: RFC 1928, RFC 1929.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ovpn_control::Credentials;

use super::ProxyError;

const VERSION: u8 = 5;
const NO_PASSWORD: u8 = 0;
const PASSWORD: u8 = 2;

/// What is asked of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// A TCP connection.
    Connect = 1,
    /// A relay for datagrams.
    Associate = 3,
}

/// Where the proxy is to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name that the proxy resolves.
    Name(String, u16),
}

/// The first message: which methods we know.
pub(crate) fn greeting(with_password: bool) -> Vec<u8> {
    if with_password { vec![VERSION, 2, NO_PASSWORD, PASSWORD] } else { vec![VERSION, 1, NO_PASSWORD] }
}

/// True where the proxy wants username and password next.
///
/// # Errors
/// When it is no SOCKS5 proxy or takes none of our methods.
pub(crate) fn method(answer: [u8; 2], with_password: bool) -> Result<bool, ProxyError> {
    match answer {
        [VERSION, NO_PASSWORD] => Ok(false),
        [VERSION, PASSWORD] if with_password => Ok(true),
        [VERSION, 0xff] if !with_password => Err(ProxyError::Refused(
            "the SOCKS proxy wants a password: name a file, `socks-proxy HOST PORT FILE`".to_owned(),
        )),
        [VERSION, _] => Err(ProxyError::Refused(
            "the SOCKS proxy takes neither no password nor username and password".to_owned(),
        )),
        _ => Err(ProxyError::Refused("what listens there is no SOCKS5 proxy".to_owned())),
    }
}

/// Username and password.
///
/// # Errors
/// When one of them is longer than 255 bytes.
pub(crate) fn login(credentials: &Credentials) -> Result<Vec<u8>, ProxyError> {
    let mut out = vec![1];
    for text in [&credentials.username, &credentials.password] {
        let length = u8::try_from(text.len()).map_err(|_| {
            ProxyError::Password("username and password for a SOCKS proxy have at most 255 bytes".to_owned())
        })?;
        out.push(length);
        out.extend_from_slice(text.as_bytes());
    }
    Ok(out)
}

/// The answer to [`login`].
///
/// # Errors
/// When the proxy refuses.
pub(crate) fn logged_in(answer: [u8; 2]) -> Result<(), ProxyError> {
    if answer[1] == 0 {
        return Ok(());
    }
    Err(ProxyError::Password("the SOCKS proxy refuses username and password".to_owned()))
}

/// The request itself.
///
/// # Errors
/// When a name is longer than 255 bytes.
pub(crate) fn request(command: Command, target: &Target) -> Result<Vec<u8>, ProxyError> {
    let mut out = vec![VERSION, command as u8, 0];
    put_target(&mut out, target)?;
    Ok(out)
}

/// How long the proxy's answer is, told by its first 5 bytes.
///
/// # Errors
/// When the proxy refuses, with the reason it gives.
pub(crate) fn reply_length(head: [u8; 5]) -> Result<usize, ProxyError> {
    let [version, reply, _, kind, first] = head;
    if version != VERSION {
        return Err(ProxyError::Refused("what listens there is no SOCKS5 proxy".to_owned()));
    }
    let why = match reply {
        0 => "",
        1 => "general failure",
        2 => "connection not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "it does not know this command (for UDP it needs UDP ASSOCIATE)",
        8 => "it does not know this kind of address",
        _ => "unknown reason",
    };
    if reply != 0 {
        return Err(ProxyError::Refused(format!("the SOCKS proxy refuses: {why}")));
    }
    match kind {
        1 => Ok(4 + 4 + 2),
        4 => Ok(4 + 16 + 2),
        3 => Ok(4 + 1 + usize::from(first) + 2),
        _ => Err(ProxyError::Refused("the SOCKS proxy's answer names no address".to_owned())),
    }
}

/// The address in the proxy's answer; `None` where it is a name.
pub(crate) fn reply_address(reply: &[u8]) -> Option<SocketAddr> {
    get_address(reply.get(3..)?).map(|(address, _)| address)
}

/// What precedes each datagram to `server`.
pub(crate) fn datagram_header(server: SocketAddr) -> Vec<u8> {
    let mut out = vec![0, 0, 0];
    put_address(&mut out, server);
    out
}

/// A relayed datagram: who sent it, and its content. `None` for fragments, which nobody sends, and for garbage.
pub(crate) fn datagram(packet: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let rest = packet.strip_prefix(&[0, 0, 0])?;
    let (from, used) = get_address(rest)?;
    Some((from, rest.get(used..)?))
}

fn put_target(out: &mut Vec<u8>, target: &Target) -> Result<(), ProxyError> {
    match target {
        Target::Address(address) => put_address(out, *address),
        Target::Name(name, port) => {
            let length = u8::try_from(name.len())
                .map_err(|_| ProxyError::Refused("a host name has at most 255 bytes".to_owned()))?;
            out.extend_from_slice(&[3, length]);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&port.to_be_bytes());
        }
    }
    Ok(())
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            out.push(1);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

/// Kind, address and port, and their length.
fn get_address(bytes: &[u8]) -> Option<(SocketAddr, usize)> {
    let (kind, rest) = bytes.split_first()?;
    let (ip, length): (IpAddr, usize) = match kind {
        1 => (Ipv4Addr::from(*rest.first_chunk::<4>()?).into(), 4),
        4 => (Ipv6Addr::from(*rest.first_chunk::<16>()?).into(), 16),
        _ => return None,
    };
    let port = u16::from_be_bytes(*rest.get(length..)?.first_chunk::<2>()?);
    Some((SocketAddr::new(ip, port), 1 + length + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn methods_and_passwords() {
        assert_eq!(greeting(false), [5, 1, 0]);
        assert_eq!(greeting(true), [5, 2, 0, 2]);
        assert_eq!(method([5, 0], true), Ok(false));
        assert_eq!(method([5, 2], true), Ok(true));
        assert!(method([5, 2], false).is_err());
        assert!(method([5, 255], false).unwrap_err().to_string().contains("wants a password"));
        assert!(method([4, 0], false).unwrap_err().to_string().contains("no SOCKS5"));
        let credentials = Credentials { username: "ab".to_owned(), password: "c".to_owned() };
        assert_eq!(login(&credentials).unwrap(), [1, 2, b'a', b'b', 1, b'c']);
        let long = Credentials { username: "x".repeat(256), password: String::new() };
        assert!(login(&long).is_err());
        assert!(matches!(logged_in([1, 1]), Err(ProxyError::Password(_))));
    }

    #[test]
    fn requests_and_replies() {
        let target = Target::Address("192.0.2.1:1194".parse().unwrap());
        assert_eq!(request(Command::Connect, &target).unwrap(), [5, 1, 0, 1, 192, 0, 2, 1, 4, 170]);
        let name = Target::Name("vpn".to_owned(), 80);
        assert_eq!(request(Command::Associate, &name).unwrap(), [5, 3, 0, 3, 3, b'v', b'p', b'n', 0, 80]);
        assert_eq!(reply_length([5, 0, 0, 1, 127]), Ok(10));
        assert_eq!(reply_length([5, 0, 0, 3, 9]), Ok(16));
        assert!(reply_length([5, 5, 0, 1, 0]).unwrap_err().to_string().contains("connection refused"));
        assert_eq!(reply_address(&[5, 0, 0, 1, 192, 0, 2, 9, 0, 7]), Some("192.0.2.9:7".parse().unwrap()));
    }

    #[test]
    fn datagrams_both_ways() {
        for server in ["192.0.2.1:1194", "[2001:db8::1]:443"] {
            let server: SocketAddr = server.parse().unwrap();
            let mut packet = datagram_header(server);
            packet.extend_from_slice(b"hello");
            assert_eq!(datagram(&packet), Some((server, b"hello".as_slice())));
            packet[2] = 1;
            assert_eq!(datagram(&packet), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = datagram(&bytes);
            let _ = reply_address(&bytes);
            if let Some(head) = bytes.first_chunk::<5>() {
                let _ = reply_length(*head);
            }
        }
    }
}
