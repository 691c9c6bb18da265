//! Messages of `ovpn-dco-v2` (uapi `linux/ovpn_dco.h` of the 2024 releases).
//!
//! ```text
//!  nlmsghdr │ genlmsghdr: command 1 · version 1 · 0 0 │ IFINDEX │ nest numbered as the command + 1 { … }
//! ```
//!
//! | | `ovpn` | `ovpn-dco-v2` |
//! |---|---|---|
//! | remote | address and port attributes | a `sockaddr_in` or `sockaddr_in6` as it lies in memory |
//! | slot and key id, cipher | `u32` | `u8`, `u16` |
//! | deletion event | command of its own | the deletion command, in the device's namespace |
//! | floats, used-up keys | events | nothing is told |
//! | counters | 4 or 8 bytes | bytes 8, packets 4 |
//! | point-to-point dump | the peer | nothing |
//! | control packets over TCP, once attached | one a call | a stream |

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use ovpn_dco::netlink::{Command, NewPeer, Request, SocketRef};
use ovpn_dco::{
    CipherAlg, Counters, DataFormat, DelReason, Error, ErrorKind, Event, Framing, Keepalive, KeyConfig,
    KeySlot, PeerId, PeerInfo, PeerStats, PeerUpdate, Result, VpnAddrs,
};
use ovpn_sys::netlink::message::{
    AttributeWriter, Message, MessageBuilder, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, attributes,
};
use zeroize::Zeroizing;

pub(crate) const FAMILY_NAME: &str = "ovpn-dco-v2";
const VERSION: u8 = 1;

const NEW_PEER: u8 = 1;
const SET_PEER: u8 = 2;
const DEL_PEER: u8 = 3;
const NEW_KEY: u8 = 4;
const SWAP_KEYS: u8 = 5;
const DEL_KEY: u8 = 6;
const GET_PEER: u8 = 7;

const IFINDEX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The nest of a command.
const fn nest_of(command: u8) -> u16 {
    command as u16 + 1
}

/// The request's bytes.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for what this driver has no words for.
pub(crate) fn encode(family: u16, request: &Request) -> Result<Zeroizing<Vec<u8>>> {
    let mut writer = AttributeWriter::with_capacity(512);
    let command = write(&request.command, &mut writer)?;
    let body = Zeroizing::new(writer.into_bytes());
    let dump = matches!(request.command, Command::PeerDump);
    let flags = NLM_F_REQUEST | if dump { NLM_F_DUMP } else { NLM_F_ACK };
    let message = MessageBuilder::new(family, flags).header(&[command, VERSION, 0, 0]).with(|a| {
        a.u32(IFINDEX, request.ifindex);
        if !dump {
            a.nest(nest_of(command), |a| {
                a.append(&body);
            });
        }
    });
    Ok(Zeroizing::new(message.finish()))
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("ovpn-dco-v2 has no {what}"))
}

/// Writes the nest's content; gives the command's number.
fn write(command: &Command, a: &mut AttributeWriter) -> Result<u8> {
    Ok(match command {
        Command::PeerNew(new) => {
            write_new(new, a)?;
            NEW_PEER
        }
        Command::PeerSet { id, update } => {
            let PeerUpdate {
                remote: None,
                local: None,
                vpn: VpnAddrs { v4: None, v6: None },
                tx_id: None,
                ..
            } = update
            else {
                return Err(unsupported("change of a peer's addresses and ids"));
            };
            a.u32(1, id.get());
            if let Some(keepalive) = update.keepalive {
                a.u32(2, seconds(keepalive.interval)).u32(3, seconds(keepalive.timeout));
            }
            SET_PEER
        }
        Command::PeerGet(id) => {
            a.u32(1, id.get());
            GET_PEER
        }
        Command::PeerDump => GET_PEER,
        Command::PeerDel(id) => {
            a.u32(2, id.get());
            DEL_PEER
        }
        Command::KeyNew { peer, slot, key } => {
            write_key(*peer, *slot, key, a)?;
            NEW_KEY
        }
        Command::KeyDel { peer, slot } => {
            a.u32(1, peer.get()).u8(2, slot_number(*slot));
            DEL_KEY
        }
        Command::KeySwap(peer) => {
            a.u32(1, peer.get());
            SWAP_KEYS
        }
        Command::KeyGet { .. } => return Err(unsupported("way to read keys")),
        _ => return Err(unsupported("such operation")),
    })
}

fn write_new(new: &NewPeer, a: &mut AttributeWriter) -> Result<()> {
    if new.tx_id.is_some_and(|tx_id| tx_id != new.id) {
        return Err(unsupported("asymmetric peer ids"));
    }
    if new.framing != Framing::None {
        return Err(unsupported("compression framing"));
    }
    if new.fragment.is_some() {
        return Err(unsupported("fragmentation inside the tunnel"));
    }
    let SocketRef::Descriptor(socket) = new.socket else { return Err(unsupported("transports")) };
    a.u32(1, new.id.get()).u32(3, socket);
    if let Some(remote) = new.remote {
        a.bytes(2, &sockaddr(remote));
    }
    if let Some(v4) = new.vpn.v4 {
        a.bytes(4, &v4.octets());
    }
    if let Some(v6) = new.vpn.v6 {
        a.bytes(5, &v6.octets());
    }
    if let Some(local) = new.local {
        a.ip(6, local.to_canonical());
    }
    Ok(())
}

fn write_key(peer: PeerId, slot: KeySlot, key: &KeyConfig, a: &mut AttributeWriter) -> Result<()> {
    if key.format != DataFormat::V2 {
        return Err(unsupported("such packet format"));
    }
    let cipher = match key.cipher {
        CipherAlg::None => 0,
        CipherAlg::AesGcm => 1,
        CipherAlg::ChaCha20Poly1305 => 2,
    };
    a.u32(1, peer.get()).u8(2, slot_number(slot)).u8(3, key.key_id.get()).u16(4, cipher);
    for (kind, direction) in [(5, &key.encrypt), (6, &key.decrypt)] {
        a.nest(kind, |a| {
            a.bytes(1, &direction.cipher_key).bytes(2, &direction.nonce_tail);
        });
    }
    Ok(())
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

const fn slot_number(slot: KeySlot) -> u8 {
    match slot {
        KeySlot::Primary => 0,
        KeySlot::Secondary => 1,
    }
}

/// An address as the C library lays it out: family in host order, port and address in network order.
fn sockaddr(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => {
            bytes.extend_from_slice(&AF_INET.to_ne_bytes());
            bytes.extend_from_slice(&address.port().to_be_bytes());
            bytes.extend_from_slice(&v4.octets());
            bytes.extend_from_slice(&[0; 8]);
        }
        IpAddr::V6(v6) => {
            let scope = if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
            bytes.extend_from_slice(&AF_INET6.to_ne_bytes());
            bytes.extend_from_slice(&address.port().to_be_bytes());
            bytes.extend_from_slice(&[0; 4]); // flow information
            bytes.extend_from_slice(&v6.octets());
            bytes.extend_from_slice(&scope.to_ne_bytes());
        }
    }
    bytes
}

fn read_sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match u16::from_ne_bytes(*bytes.first_chunk()?) {
        AF_INET => Some(SocketAddr::from((*bytes.get(4..)?.first_chunk::<4>()?, port))),
        AF_INET6 => {
            let ip = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("answer of ovpn-dco-v2: {what}"))
}

/// Reads an answer to GET_PEER; `payload` is what follows the netlink header.
pub(crate) fn decode_peer(payload: &[u8]) -> Result<PeerInfo> {
    let nest = find_nest(payload, nest_of(GET_PEER))?.ok_or_else(|| malformed("no peer"))?;
    let mut id = None;
    let (mut remote, mut local_ip, mut local_port) = (None, None, 0);
    let mut vpn = VpnAddrs::default();
    let mut keepalive = Keepalive::default();
    let (mut inner, mut link) = (Counters::default(), Counters::default());
    for field in attributes(nest) {
        let field = field?;
        let time = || -> Result<Duration> { Ok(Duration::from_secs(field.u32()?.into())) };
        match field.kind {
            1 => id = PeerId::new(field.u32()?),
            2 => remote = read_sockaddr(field.payload),
            3 => vpn.v4 = Some(field.array::<4>()?.into()),
            4 => vpn.v6 = Some(field.array::<16>()?.into()),
            5 => local_ip = Some(field.ip()?),
            6 => local_port = field.be16()?,
            7 => keepalive.interval = time()?,
            8 => keepalive.timeout = time()?,
            9 => inner.rx_bytes = field.uint()?,
            10 => inner.tx_bytes = field.uint()?,
            11 => inner.rx_packets = field.uint()?,
            12 => inner.tx_packets = field.uint()?,
            13 => link.rx_bytes = field.uint()?,
            14 => link.tx_bytes = field.uint()?,
            15 => link.rx_packets = field.uint()?,
            16 => link.tx_packets = field.uint()?,
            _ => {}
        }
    }
    let id = id.ok_or_else(|| malformed("no peer id"))?;
    Ok(PeerInfo {
        id,
        tx_id: id,
        remote,
        local: local_ip.map(|ip| SocketAddr::new(ip, local_port)),
        vpn,
        keepalive,
        stats: PeerStats { vpn: inner, link },
    })
}

/// Reads a notification: deletions are the only ones.
pub(crate) fn decode_event(message: &Message<'_>) -> Result<Option<(u32, Event)>> {
    let (header, top) = message.after_header(4)?;
    if header.first() != Some(&DEL_PEER) {
        return Ok(None);
    }
    let (mut ifindex, mut id, mut reason) = (0, None, DelReason::Teardown);
    for attribute in top {
        let attribute = attribute?;
        if attribute.kind == IFINDEX {
            ifindex = attribute.u32()?;
        }
        if attribute.kind != nest_of(DEL_PEER) {
            continue;
        }
        for field in attribute.attributes() {
            let field = field?;
            match field.kind {
                1 => {
                    reason = match field.u8()? {
                        1 => DelReason::Userspace,
                        2 => DelReason::Expired,
                        3 => DelReason::TransportError,
                        4 => DelReason::TransportDisconnect,
                        _ => DelReason::Teardown,
                    }
                }
                2 => id = PeerId::new(field.u32()?),
                _ => {}
            }
        }
    }
    let peer = id.ok_or_else(|| malformed("no peer id"))?;
    Ok(Some((ifindex, Event::PeerDeleted { peer, reason })))
}

fn find_nest(payload: &[u8], kind: u16) -> Result<Option<&[u8]>> {
    let message = Message { kind: 0, flags: 0, sequence: 0, port: 0, payload };
    for attribute in message.after_header(4)?.1 {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(Some(attribute.payload));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use ovpn_dco::{KeyDirection, KeyId};
    use ovpn_sys::netlink::message::messages;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    fn id(number: u32) -> PeerId {
        PeerId::new(number).unwrap()
    }

    fn new_peer() -> NewPeer {
        NewPeer {
            id: id(5),
            tx_id: None,
            socket: SocketRef::Descriptor(9),
            remote: Some("10.10.1.2:1194".parse().unwrap()),
            local: Some("10.10.1.1".parse().unwrap()),
            vpn: VpnAddrs { v4: Some("5.5.5.2".parse().unwrap()), v6: None },
            keepalive: None,
            framing: Framing::None,
            fragment: None,
        }
    }

    #[track_caller]
    fn golden(command: Command, expected: &str) {
        let bytes = encode(0x21, &Request { ifindex: 3, command }).unwrap();
        assert_eq!(*bytes, hex(expected), "\n{:02x?}", *bytes);
    }

    #[test]
    fn requests() {
        golden(
            Command::PeerNew(new_peer()),
            "54000000 2100 0500 00000000 00000000 01 01 0000
             0800 0100 03000000
             3800 0280 0800 0100 05000000 0800 0300 09000000
               1400 0200 0200 04aa 0a0a0102 0000000000000000
               0800 0400 05050502 0800 0600 0a0a0101",
        );
        golden(
            Command::PeerDel(id(5)),
            "28000000 2100 0500 00000000 00000000 03 01 0000
             0800 0100 03000000  0c00 0480 0800 0200 05000000",
        );
        golden(Command::PeerDump, "1c000000 2100 0103 00000000 00000000 07 01 0000  0800 0100 03000000");
        let v6 = NewPeer {
            remote: Some("[fe80::1%7]:1194".parse().unwrap()),
            local: Some("fe80::2".parse().unwrap()),
            vpn: VpnAddrs { v4: None, v6: Some("fd00::2".parse().unwrap()) },
            ..new_peer()
        };
        golden(
            Command::PeerNew(v6),
            "78000000 2100 0500 00000000 00000000 01 01 0000
             0800 0100 03000000
             5c00 0280 0800 0100 05000000 0800 0300 09000000
               2000 0200 0a00 04aa 00000000 fe800000000000000000000000000001 07000000
               1400 0500 fd000000000000000000000000000002 1400 0600 fe800000000000000000000000000002",
        );
        // over TCP there is no remote address
        golden(
            Command::PeerNew(NewPeer { remote: None, local: None, vpn: VpnAddrs::default(), ..new_peer() }),
            "30000000 2100 0500 00000000 00000000 01 01 0000
             0800 0100 03000000  1400 0280 0800 0100 05000000 0800 0300 09000000",
        );
        let keepalive = Keepalive { interval: Duration::from_secs(60), timeout: Duration::from_secs(120) };
        golden(
            Command::PeerSet {
                id: id(5),
                update: PeerUpdate { keepalive: Some(keepalive), ..PeerUpdate::default() },
            },
            "38000000 2100 0500 00000000 00000000 02 01 0000
             0800 0100 03000000
             1c00 0380 0800 0100 05000000 0800 0200 3c000000 0800 0300 78000000",
        );
        golden(
            Command::PeerGet(id(5)),
            "28000000 2100 0500 00000000 00000000 07 01 0000
             0800 0100 03000000  0c00 0880 0800 0100 05000000",
        );
        golden(
            Command::KeySwap(id(5)),
            "28000000 2100 0500 00000000 00000000 05 01 0000
             0800 0100 03000000  0c00 0680 0800 0100 05000000",
        );
        golden(
            Command::KeyDel { peer: id(5), slot: KeySlot::Secondary },
            "30000000 2100 0500 00000000 00000000 06 01 0000
             0800 0100 03000000  1400 0780 0800 0100 05000000 0500 0200 01 000000",
        );
        let direction = |byte: u8| KeyDirection { cipher_key: vec![byte; 16], nonce_tail: [byte + 1; 8] };
        let key = KeyConfig {
            key_id: KeyId::new(3).unwrap(),
            cipher: CipherAlg::AesGcm,
            format: DataFormat::V2,
            key_len: 16,
            encrypt: direction(0xA0),
            decrypt: direction(0xB0),
        };
        golden(
            Command::KeyNew { peer: id(5), slot: KeySlot::Secondary, key },
            "88000000 2100 0500 00000000 00000000 04 01 0000
             0800 0100 03000000
             6c00 0580 0800 0100 05000000 0500 0200 01 000000 0500 0300 03 000000 0600 0400 0100 0000
               2400 0580 1400 0100 a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0 0c00 0200 a1a1a1a1a1a1a1a1
               2400 0680 1400 0100 b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0 0c00 0200 b1b1b1b1b1b1b1b1",
        );
    }

    #[test]
    fn sockaddr_round_trip() {
        for address in ["10.0.0.1:1194", "[fe80::1%7]:5"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(read_sockaddr(&sockaddr(address)), Some(address));
        }
        assert_eq!(sockaddr("[::ffff:1.2.3.4]:5".parse().unwrap()), sockaddr("1.2.3.4:5".parse().unwrap()));
        assert_eq!(read_sockaddr(&[2, 0, 1]), None);
    }

    #[test]
    fn answers_and_events() {
        let peer = hex("58000000 2100 0000 00000000 00000000 07 01 0000
             4400 0880 0800 0100 05000000 0800 0700 3c000000 0800 0800 78000000
               1400 0200 0200 04aa 0a0a0102 0000000000000000
               0600 0600 04aa 0000 0c00 0900 0100000001000000");
        let info = decode_peer(&peer[16..]).unwrap();
        assert_eq!((info.id, info.remote), (id(5), Some("10.10.1.2:1194".parse().unwrap())));
        assert_eq!(info.stats.vpn.rx_bytes, 0x1_0000_0001);
        assert_eq!(info.keepalive.timeout, Duration::from_secs(120));

        let event = hex("30000000 2100 0000 00000000 00000000 03 01 0000
             0800 0100 03000000  1400 0480 0500 0100 02 000000 0800 0200 05000000");
        let event = decode_event(&messages(&event).next().unwrap().unwrap()).unwrap();
        assert_eq!(event, Some((3, Event::PeerDeleted { peer: id(5), reason: DelReason::Expired })));
    }

    #[test]
    fn what_it_lacks_is_refused() {
        let asymmetric = NewPeer { tx_id: Some(id(6)), ..new_peer() };
        let moved = PeerUpdate { remote: new_peer().remote, ..PeerUpdate::default() };
        for command in [
            Command::PeerNew(asymmetric),
            Command::PeerSet { id: id(5), update: moved },
            Command::KeyGet { peer: id(5), slot: KeySlot::Primary },
        ] {
            let error = encode(0x21, &Request { ifindex: 3, command }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }
}
