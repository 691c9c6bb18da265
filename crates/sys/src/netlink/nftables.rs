//! nf_tables, as far as a tunnel needs it: clamping the TCP maximum segment size of what passes a device.
//!
//! ```text
//!   table inet ovpn-rs-tun0 (owned by the socket: it goes with the process, however that ends)
//!     chain out  hook postrouting, priority mangle   oif tun0 · TCP SYN · maxseg := min(maxseg, …)
//!     chain in   hook prerouting,  priority mangle   iif tun0 · TCP SYN · maxseg := min(maxseg, …)
//! ```
//!
//! All of it is put in force in one transaction, with one rule for each address family in each chain. Numbers are
//! those of `linux/netfilter/nf_tables.h`.

use super::message::{AttributeWriter, MessageBuilder, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use super::socket::{Protocol, Socket};
use super::{Error, Result};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;

const FAMILY_UNSPEC: u8 = 0;
const FAMILY_INET: u8 = 1;
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;
/// The table belongs to the socket that made it.
const TABLE_OWNER: u32 = 2;
const HOOK_PREROUTING: u32 = 0;
const HOOK_POSTROUTING: u32 = 4;
/// Priority "mangle".
const PRIORITY: u32 = (-150i32).cast_unsigned();

const REGISTER: u32 = 1;
const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const TRANSPORT_HEADER: u32 = 2;
const TCP: u8 = 6;
const TCP_FLAGS: u32 = 13;
const TCP_SYN: u8 = 2;
const TCP_OPTION_MSS: u8 = 2;
const OPERATION_TCP_OPTION: u32 = 1;
const COMPARE_EQUAL: u32 = 0;
const COMPARE_OTHER: u32 = 1;

/// Lowers the MSS that TCP connections through one device announce, in both directions. Dropping it takes the rules
/// away, and so does the end of the process.
#[derive(Debug)]
pub struct MssClamp {
    socket: Socket,
    table: String,
    device: u32,
}

impl MssClamp {
    /// Makes the table for a device (name and index), without rules yet, in the network namespace of the calling
    /// thread.
    ///
    /// # Errors
    /// What the system says: `EPERM`, or that the kernel has no nf_tables or is older than Linux 5.12.
    pub fn new(name: &str, device: u32) -> Result<Self> {
        let clamp =
            Self { socket: Socket::open(Protocol::Netfilter)?, table: format!("ovpn-rs-{name}"), device };
        clamp.transaction(vec![clamp.new_table()])?;
        Ok(clamp)
    }

    /// Announces at most this MSS over IPv4 and 20 less over IPv6, from now on; 0 leaves connections alone.
    ///
    /// # Errors
    /// What the system says; what was in force before then stays.
    pub fn set(&self, mss: u16) -> Result<()> {
        let name = |a: &mut AttributeWriter| _ = a.string(1, &self.table);
        let mut list = vec![message(DEL_TABLE, 0, name), self.new_table()];
        if mss > 0 {
            for (chain, hook, device) in
                [("out", HOOK_POSTROUTING, META_OIF), ("in", HOOK_PREROUTING, META_IIF)]
            {
                list.push(self.new_chain(chain, hook));
                for (family, mss) in [(FAMILY_IPV4, mss), (FAMILY_IPV6, mss.saturating_sub(20))] {
                    list.push(self.new_rule(chain, device, family, mss));
                }
            }
        }
        self.transaction(list)
    }

    fn transaction(&self, list: Vec<MessageBuilder>) -> Result<()> {
        let edge = |kind| MessageBuilder::new(kind, NLM_F_REQUEST).header(&header(FAMILY_UNSPEC, SUBSYSTEM));
        let mut all = vec![edge(BATCH_BEGIN)];
        all.extend(list);
        all.push(edge(BATCH_END));
        self.socket.batch(all).map_err(|error| Error::during(error, format!("nf_tables {}", self.table)))
    }

    fn new_table(&self) -> MessageBuilder {
        message(NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, |a| {
            be32(a.string(1, &self.table), 2, TABLE_OWNER);
        })
    }

    fn new_chain(&self, chain: &str, hook: u32) -> MessageBuilder {
        message(NEW_CHAIN, NLM_F_CREATE, |a| {
            a.string(1, &self.table).string(3, chain).nest(4, |a| {
                be32(a, 1, hook);
                be32(a, 2, PRIORITY);
            });
            a.string(7, "filter");
        })
    }

    fn new_rule(&self, chain: &str, device: u32, family: u8, mss: u16) -> MessageBuilder {
        message(NEW_RULE, NLM_F_CREATE, |a| {
            a.string(1, &self.table).string(2, chain).nest(4, |a| {
                meta(a, device);
                compare(a, COMPARE_EQUAL, &self.device.to_ne_bytes());
                meta(a, META_NFPROTO);
                compare(a, COMPARE_EQUAL, &[family]);
                meta(a, META_L4PROTO);
                compare(a, COMPARE_EQUAL, &[TCP]);
                expression(a, "payload", |a| {
                    for (kind, value) in [(1, REGISTER), (2, TRANSPORT_HEADER), (3, TCP_FLAGS), (4, 1)] {
                        be32(a, kind, value);
                    }
                });
                expression(a, "bitwise", |a| {
                    for (kind, value) in [(1, REGISTER), (2, REGISTER), (3, 1)] {
                        be32(a, kind, value);
                    }
                    a.nest(4, |a| _ = a.bytes(1, &[TCP_SYN])).nest(5, |a| _ = a.bytes(1, &[0]));
                });
                compare(a, COMPARE_OTHER, &[0]);
                expression(a, "immediate", |a| {
                    be32(a, 1, REGISTER);
                    a.nest(2, |a| _ = a.bytes(1, &mss.to_be_bytes()));
                });
                // It only ever lowers.
                expression(a, "exthdr", |a| {
                    a.u8(2, TCP_OPTION_MSS);
                    for (kind, value) in [(3, 2), (4, 2), (6, OPERATION_TCP_OPTION), (7, REGISTER)] {
                        be32(a, kind, value);
                    }
                });
            });
        })
    }
}

/// `nfgenmsg`: family, version 0, resource id in network order.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn message(kind: u16, flags: u16, write: impl FnOnce(&mut AttributeWriter)) -> MessageBuilder {
    MessageBuilder::new(kind, flags | NLM_F_REQUEST | NLM_F_ACK).header(&header(FAMILY_INET, 0)).with(write)
}

fn be32(a: &mut AttributeWriter, kind: u16, value: u32) {
    a.bytes(kind, &value.to_be_bytes());
}

fn expression(a: &mut AttributeWriter, name: &str, write: impl FnOnce(&mut AttributeWriter)) {
    a.nest(1, |a| _ = a.string(1, name).nest(2, write));
}

fn meta(a: &mut AttributeWriter, key: u32) {
    expression(a, "meta", |a| {
        be32(a, 1, REGISTER);
        be32(a, 2, key);
    });
}

fn compare(a: &mut AttributeWriter, operation: u32, value: &[u8]) {
    expression(a, "cmp", |a| {
        be32(a, 1, REGISTER);
        be32(a, 2, operation);
        a.nest(3, |a| _ = a.bytes(1, value));
    });
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::netlink::route::{LinkChange, Rtnetlink};
    use crate::netns;

    fn segment_size(address: &str) -> i32 {
        let listener = TcpListener::bind(address).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        server.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        let mut mss: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>() as libc::socklen_t;
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open; value and size are of this function and live past the call.
        let result = unsafe {
            libc::getsockopt(
                client.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_MAXSEG,
                (&raw mut mss).cast(),
                &raw mut size,
            )
        };
        assert_eq!(result, 0);
        mss
    }

    /// Over the loopback device of a namespace of its own; needs root and a kernel with nf_tables.
    #[test]
    fn connections_are_clamped_until_it_goes() {
        netns::in_new(|| {
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            Rtnetlink::open().unwrap().link_change(1, &up).unwrap();
            let (v4, v6) = ("127.0.0.1:0", "[::1]:0");
            let open = (segment_size(v4), segment_size(v6));
            assert!(open.0 > 2000 && open.1 > 2000, "{open:?}");
            let clamp = MssClamp::new("lo", 1).unwrap();
            assert_eq!((segment_size(v4), segment_size(v6)), open);
            // time stamps take 12 bytes of each segment
            clamp.set(1400).unwrap();
            assert_eq!((segment_size(v4), segment_size(v6)), (1388, 1368));
            clamp.set(1380).unwrap();
            assert_eq!((segment_size(v4), segment_size(v6)), (1368, 1348));
            // one table a device, and only its owner touches it
            assert_eq!(MssClamp::new("lo", 1).unwrap_err().errno(), libc::EPERM);
            // another device's connections are none of its business
            let other = MssClamp::new("other", 99).unwrap();
            clamp.set(0).unwrap();
            other.set(500).unwrap();
            assert_eq!((segment_size(v4), segment_size(v6)), open);
            clamp.set(1300).unwrap();
            assert_eq!(segment_size(v4), 1288);
            drop(clamp);
            assert_eq!((segment_size(v4), segment_size(v6)), open);
        })
        .unwrap();
    }
}
