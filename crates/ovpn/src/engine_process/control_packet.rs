//! Control packets on the socket pair between an engine process and the owner of a transport.
//!
//! One message is one packet behind an envelope of 44 bytes; numbers in network order, unused bytes zero.
//!
//! ```text
//!   0      1        2      4              20         24        25       28             44
//!   │ kind │ family │ port │ remote address │ scope id │ local  │   0    │ local address │ packet …
//!                                                       family
//! ```
//!
//! Kind 0: a packet, `remote` is its sender (or receiver, on the way out). Kind 1: the TCP peer has closed.
//! Kind 2: the socket failed; the packet is the errno, 4 bytes. Families: 0 none, 4, 6. The end of the socket pair
//! itself means that the other process is gone, or has closed the transport.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Length of the envelope.
pub(crate) const ENVELOPE_LEN: usize = 44;

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// A control packet.
    Packet {
        /// Where it came from or goes to; `None` where TCP leaves it open.
        remote: Option<SocketAddr>,
        /// The local address it came to or leaves from.
        local: Option<IpAddr>,
    },
    /// The TCP peer has closed.
    End,
    /// The socket failed; the errno follows.
    Failed,
}

impl Envelope {
    /// The envelope's bytes.
    pub(crate) fn encode(&self) -> [u8; ENVELOPE_LEN] {
        let mut bytes = [0; ENVELOPE_LEN];
        match self {
            Self::End => bytes[0] = 1,
            Self::Failed => bytes[0] = 2,
            Self::Packet { remote, local } => {
                if let Some(remote) = remote {
                    bytes[1] = put_ip(&mut bytes[4..20], remote.ip());
                    bytes[2..4].copy_from_slice(&remote.port().to_be_bytes());
                    if let SocketAddr::V6(v6) = remote {
                        bytes[20..24].copy_from_slice(&v6.scope_id().to_be_bytes());
                    }
                }
                if let Some(local) = local {
                    bytes[24] = put_ip(&mut bytes[28..44], *local);
                }
            }
        }
        bytes
    }

    /// Reads an envelope; the packet is what follows. `None` for anything that is no message.
    pub(crate) fn decode(message: &[u8]) -> Option<(Self, &[u8])> {
        let (head, packet) = message.split_first_chunk::<ENVELOPE_LEN>()?;
        let envelope = match head[0] {
            0 => {
                let port = u16::from_be_bytes([head[2], head[3]]);
                let scope = u32::from_be_bytes([head[20], head[21], head[22], head[23]]);
                let remote = get_ip(head[1], &head[4..20])?.map(|ip| match ip {
                    IpAddr::V4(_) => SocketAddr::new(ip, port),
                    IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
                });
                Self::Packet { remote, local: get_ip(head[24], &head[28..44])? }
            }
            1 => Self::End,
            2 => Self::Failed,
            _ => return None,
        };
        Some((envelope, packet))
    }
}

fn put_ip(place: &mut [u8], ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(v4) => {
            place[..4].copy_from_slice(&v4.octets());
            4
        }
        IpAddr::V6(v6) => {
            place[..16].copy_from_slice(&v6.octets());
            6
        }
    }
}

/// The outer option is the reading's success.
#[expect(clippy::option_option, reason = "no address is a legal content")]
fn get_ip(family: u8, bytes: &[u8]) -> Option<Option<IpAddr>> {
    match family {
        0 => Some(None),
        4 => Some(Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into())),
        6 => Some(Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for remote in [None, Some("10.0.0.1:1194"), Some("[fe80::1%7]:1")] {
            for local in [None, Some("10.0.0.2"), Some("fd00::2")] {
                let envelope = Envelope::Packet {
                    remote: remote.map(|text| text.parse().unwrap()),
                    local: local.map(|text| text.parse().unwrap()),
                };
                let mut message = envelope.encode().to_vec();
                message.extend_from_slice(b"packet");
                assert_eq!(Envelope::decode(&message), Some((envelope, &b"packet"[..])));
            }
        }
        for envelope in [Envelope::End, Envelope::Failed] {
            assert_eq!(Envelope::decode(&envelope.encode()), Some((envelope, &b""[..])));
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(Envelope::decode(&[0; 43]), None);
        for (at, value) in [(0, 3), (1, 5), (24, 1)] {
            let mut message = [0; ENVELOPE_LEN];
            message[at] = value;
            assert_eq!(Envelope::decode(&message), None);
        }
    }
}
