//! Merges packets of the same flow into super-packets for the device, without moving a payload.
//!
//! ```text
//!   arena   [hdr|payload 0] [other flow] [hdr|payload 1] [hdr|payload 2]
//!   frame 0 [vnet][hdr'|payload 0]            [payload 1]    [payload 2]     one gathered write
//!   frame 1 [vnet]          [other flow]
//! ```
//!
//! What goes into one frame could have been cut from it: same addresses, ports, options and acknowledgement, adjoining
//! sequence numbers, equal sizes but for the last. A checksum is verified before a packet is merged; a damaged packet
//! goes its own way, unchanged. Packets of a flow keep their order; whatever cannot be merged ends its flow's frame.

use std::io::IoSlice;

use ovpn_sys::tun::{VNET_HDR_LEN, VnetHdr};

use super::checksum::{Sum, pseudo_header};

/// The most packets in one frame.
pub const MAX_PIECES: usize = 128;
/// The most datagrams in one frame (the kernel's limit for UDP).
const MAX_DATAGRAMS: usize = 64;
/// The most flows that are open for merging at once.
const MAX_FLOWS: usize = 32;
/// Longest headers that are merged: IPv6, TCP with all options.
const MAX_HEADERS: usize = 100;

const TCP: u8 = 6;
const UDP: u8 = 17;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;

/// The device did not take a frame of several packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Collects packets that lie in one arena, and makes frames of them.
#[derive(Debug)]
pub struct Coalescer {
    tcp: bool,
    udp: bool,
    frames: Vec<Frame>,
    /// Packets that follow the first of a frame, linked in order.
    pieces: Vec<Piece>,
    /// Frames to which packets may still be added.
    open: Vec<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    hash: u32,
    frame: u32,
}

#[derive(Debug)]
struct Frame {
    at: u32,
    len: u32,
    shape: Option<Shape>,
    /// Sequence number that the next packet must have.
    next_seq: u32,
    /// Length of the whole super-packet.
    total: u32,
    count: u16,
    verified: bool,
    /// The last packet had PSH, which the super-packet then carries.
    push: bool,
    /// First and last of the following pieces.
    chain: (u32, u32),
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    at: u32,
    len: u32,
    next: u32,
}

/// What is known of a packet that may be merged.
#[derive(Debug, Clone, Copy)]
struct Shape {
    hash: u32,
    v6: bool,
    protocol: u8,
    ip_len: u8,
    headers: u8,
    payload: u16,
}

impl Coalescer {
    /// Merges TCP and UDP, as the device takes them.
    pub fn new(tcp: bool, udp: bool) -> Self {
        Self {
            tcp,
            udp,
            frames: Vec::with_capacity(256),
            pieces: Vec::with_capacity(1024),
            open: Vec::with_capacity(MAX_FLOWS),
        }
    }

    /// Stops merging TCP or UDP: the device has refused it.
    pub fn disable(&mut self, udp: bool) {
        if udp {
            self.udp = false;
        } else {
            self.tcp = false;
        }
    }

    /// True where no packet waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds the packet `arena[at..at + len]`.
    #[inline]
    pub fn push(&mut self, arena: &[u8], at: usize, len: usize) {
        let packet = &arena[at..at + len];
        let Some(shape) = self.shape(packet) else {
            // It may be a fragment or a control segment of any flow: nothing that comes later may overtake it.
            self.open.clear();
            self.frame(at, len, None, 0);
            return;
        };
        let found = self.open.iter().position(|open| {
            open.hash == shape.hash
                && self.frames.get(open.frame as usize).is_some_and(|f| f.same_flow(arena, packet, &shape))
        });
        let seq = if shape.protocol == TCP { read_u32(packet, usize::from(shape.ip_len) + 4) } else { 0 };
        let mergeable = shape.payload > 0 && shape.may_follow(packet);
        if let Some(index) = found {
            let frame_index = self.open[index].frame;
            if mergeable && self.append(frame_index as usize, arena, at, &shape, seq) {
                if !self.frames[frame_index as usize].is_open(&shape) {
                    self.open.swap_remove(index);
                }
                return;
            }
            self.open.swap_remove(index);
        }
        self.frame(at, len, Some(shape), seq);
        let last = shape.protocol == TCP && packet[usize::from(shape.ip_len) + 13] & PSH != 0;
        if mergeable && !last {
            if self.open.len() == MAX_FLOWS {
                self.open.swap_remove(0);
            }
            self.open.push(Open { hash: shape.hash, frame: (self.frames.len() - 1) as u32 });
        }
    }

    /// Hands out all frames in order, header first, and forgets them. Frames of several packets that `write` refuses
    /// are handed out again packet by packet.
    pub fn drain(
        &mut self,
        arena: &mut [u8],
        mut write: impl FnMut(&VnetHdr, usize, &[IoSlice<'_>]) -> Result<(), Refused>,
    ) {
        let plain = VnetHdr::default();
        let plain_bytes = plain.to_bytes();
        for frame in &self.frames {
            let (at, len) = (frame.at as usize, frame.len as usize);
            let Some(shape) = frame.shape.filter(|_| frame.count > 1) else {
                let _ = write(&plain, 1, &[IoSlice::new(&plain_bytes), IoSlice::new(&arena[at..at + len])]);
                continue;
            };
            let headers = usize::from(shape.headers);
            let mut saved = [0; MAX_HEADERS];
            saved[..headers].copy_from_slice(&arena[at..at + headers]);
            let hdr = frame.super_headers(&mut arena[at..at + headers], &shape);
            let hdr_bytes: [u8; VNET_HDR_LEN] = hdr.to_bytes();
            let mut slices = [IoSlice::new(&[]); MAX_PIECES + 1];
            slices[0] = IoSlice::new(&hdr_bytes);
            slices[1] = IoSlice::new(&arena[at..at + len]);
            let mut used = 2;
            for (at, len) in self.chain(frame) {
                slices[used] = IoSlice::new(&arena[at + headers..at + len]);
                used += 1;
            }
            if write(&hdr, usize::from(frame.count), &slices[..used]).is_ok() {
                continue;
            }
            arena[at..at + headers].copy_from_slice(&saved[..headers]);
            for (at, len) in std::iter::once((at, len)).chain(self.chain(frame)) {
                let _ = write(&plain, 1, &[IoSlice::new(&plain_bytes), IoSlice::new(&arena[at..at + len])]);
            }
        }
        self.frames.clear();
        self.pieces.clear();
        self.open.clear();
    }

    /// Places of the packets that follow a frame's first.
    fn chain(&self, frame: &Frame) -> Chain<'_> {
        Chain { pieces: &self.pieces, next: frame.chain.0 }
    }

    fn frame(&mut self, at: usize, len: usize, shape: Option<Shape>, seq: u32) {
        self.frames.push(Frame {
            at: at as u32,
            len: len as u32,
            next_seq: seq.wrapping_add(shape.map_or(0, |s| u32::from(s.payload))),
            shape,
            total: len as u32,
            count: 1,
            verified: false,
            push: false,
            chain: (NONE, NONE),
        });
    }

    /// Adds a packet of the same flow to a frame, if it fits its end.
    fn append(&mut self, frame: usize, arena: &[u8], at: usize, shape: &Shape, seq: u32) -> bool {
        let frame = &mut self.frames[frame];
        let Some(first_shape) = frame.shape else { return false };
        let first = &arena[frame.at as usize..][..frame.len as usize];
        let packet = &arena[at..][..usize::from(shape.headers) + usize::from(shape.payload)];
        let payload = u32::from(shape.payload);
        let limit = if shape.protocol == TCP { MAX_PIECES } else { MAX_DATAGRAMS };
        if shape.payload > first_shape.payload
            || frame.total + payload > 65535
            || usize::from(frame.count) >= limit
            || !shape.continues(first, packet, frame.count, frame.next_seq == seq)
        {
            return false;
        }
        if !frame.verified {
            if !first_shape.is_intact(first) {
                return false;
            }
            frame.verified = true;
        }
        if !shape.is_intact(packet) {
            return false;
        }
        let piece = self.pieces.len() as u32;
        self.pieces.push(Piece { at: at as u32, len: packet.len() as u32, next: NONE });
        match self.pieces.get_mut(frame.chain.1 as usize) {
            Some(last) => last.next = piece,
            None => frame.chain.0 = piece,
        }
        frame.chain.1 = piece;
        frame.total += payload;
        frame.count += 1;
        frame.next_seq = seq.wrapping_add(payload);
        frame.push = shape.protocol == TCP && packet[usize::from(shape.ip_len) + 13] & PSH != 0;
        true
    }

    /// Looks at a packet's headers; `None` for whatever is never merged and belongs to no flow we can tell.
    #[inline]
    fn shape(&self, packet: &[u8]) -> Option<Shape> {
        let (v6, protocol, ip_len) = match packet.first()? {
            0x45 => {
                let header: &[u8; 20] = packet.first_chunk()?;
                let whole = usize::from(u16::from_be_bytes([header[2], header[3]])) == packet.len();
                // No fragment: offset zero and nothing to follow.
                if !whole || header[6] & 0x3F != 0 || header[7] != 0 {
                    return None;
                }
                (false, header[9], 20)
            }
            first if first >> 4 == 6 => {
                let header: &[u8; 40] = packet.first_chunk()?;
                if usize::from(u16::from_be_bytes([header[4], header[5]])) + 40 != packet.len() {
                    return None;
                }
                (true, header[6], 40)
            }
            _ => return None,
        };
        let transport = match protocol {
            TCP if self.tcp => usize::from(packet.get(ip_len + 12)? >> 4) * 4,
            UDP if self.udp => 8,
            _ => return None,
        };
        let headers = ip_len + transport;
        if (protocol == TCP && transport < 20) || headers > packet.len() || headers > MAX_HEADERS {
            return None;
        }
        if protocol == UDP {
            let len = usize::from(u16::from_be_bytes([packet[ip_len + 4], packet[ip_len + 5]]));
            if len != packet.len() - ip_len {
                return None;
            }
        }
        // Addresses lie right before the ports in both versions.
        let (addresses, _) = packet[if v6 { 8 } else { 12 }..ip_len + 4].as_chunks::<4>();
        let hash = addresses.iter().fold(u32::from(protocol), |hash, word| {
            (hash.rotate_left(5) ^ u32::from_ne_bytes(*word)).wrapping_mul(0x9E37_79B1)
        });
        Some(Shape {
            hash,
            v6,
            protocol,
            ip_len: ip_len as u8,
            headers: headers as u8,
            payload: (packet.len() - headers) as u16,
        })
    }
}

impl Frame {
    /// Whether `packet` has the addresses, ports and protocol of this frame's packets.
    fn same_flow(&self, arena: &[u8], packet: &[u8], shape: &Shape) -> bool {
        let Some(own) = self.shape else { return false };
        let first = &arena[self.at as usize..][..self.len as usize];
        let range = if shape.v6 { 8..44 } else { 12..24 };
        own.v6 == shape.v6 && own.protocol == shape.protocol && first[range.clone()] == packet[range]
    }

    /// Whether another packet may follow the one of `last` shape.
    fn is_open(&self, last: &Shape) -> bool {
        !self.push && self.shape.is_some_and(|first| first.payload == last.payload)
    }

    /// Turns the first packet's headers into the super-packet's.
    fn super_headers(&self, headers: &mut [u8], shape: &Shape) -> VnetHdr {
        let ip_len = usize::from(shape.ip_len);
        let total = self.total as usize;
        if shape.v6 {
            headers[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
        } else {
            headers[2..4].copy_from_slice(&(total as u16).to_be_bytes());
            headers[10..12].fill(0);
            let checksum = Sum::default().bytes(&headers[..ip_len]).checksum();
            headers[10..12].copy_from_slice(&checksum);
        }
        let pseudo = pseudo_header(headers, shape.protocol, total - ip_len).folded();
        let (gso_type, csum_offset) = if shape.protocol == TCP {
            if self.push {
                headers[ip_len + 13] |= PSH;
            }
            headers[ip_len + 16..ip_len + 18].copy_from_slice(&pseudo);
            (if shape.v6 { VnetHdr::GSO_TCPV6 } else { VnetHdr::GSO_TCPV4 }, 16)
        } else {
            headers[ip_len + 4..ip_len + 6].copy_from_slice(&((total - ip_len) as u16).to_be_bytes());
            headers[ip_len + 6..ip_len + 8].copy_from_slice(&pseudo);
            (VnetHdr::GSO_UDP_L4, 6)
        };
        VnetHdr {
            flags: VnetHdr::NEEDS_CSUM,
            gso_type,
            hdr_len: u16::from(shape.headers),
            gso_size: shape.payload,
            csum_start: u16::from(shape.ip_len),
            csum_offset,
        }
    }
}

impl Shape {
    /// Whether a packet's own flags allow that it is merged at all.
    fn may_follow(&self, packet: &[u8]) -> bool {
        let transport = &packet[usize::from(self.ip_len)..];
        if self.protocol == TCP {
            transport[13] & !(PSH | ECE) == ACK
        } else {
            // No checksum, nothing to verify.
            transport[6..8] != [0, 0]
        }
    }

    /// Whether `packet` could be the one after `count` packets that began with `first`.
    fn continues(&self, first: &[u8], packet: &[u8], count: u16, in_sequence: bool) -> bool {
        let ip_len = usize::from(self.ip_len);
        let same_ip = if self.v6 {
            first[..4] == packet[..4] && first[7] == packet[7]
        } else {
            let id = |p: &[u8]| u16::from_be_bytes([p[4], p[5]]);
            let dont_fragment = packet[6] & 0x40 != 0;
            first[1] == packet[1]
                && first[6] == packet[6]
                && first[8] == packet[8]
                // Where fragmentation is forbidden the id means nothing (RFC 6864), and many leave it as it is.
                && (id(packet) == id(first).wrapping_add(count) || dont_fragment && id(packet) == id(first))
        };
        if self.protocol == UDP {
            return same_ip;
        }
        let (a, b) = (&first[ip_len..], &packet[ip_len..]);
        let headers = usize::from(self.headers) - ip_len;
        same_ip
            && in_sequence
            && a[8..13] == b[8..13]
            && a[13] == b[13] & !PSH
            && a[14..16] == b[14..16]
            && a[18..headers] == b[18..headers]
    }

    fn is_intact(&self, packet: &[u8]) -> bool {
        let ip_len = usize::from(self.ip_len);
        let ip_intact = self.v6 || Sum::default().bytes(&packet[..ip_len]).is_intact();
        ip_intact
            && pseudo_header(packet, self.protocol, packet.len() - ip_len)
                .bytes(&packet[ip_len..])
                .is_intact()
    }
}

const NONE: u32 = u32::MAX;

struct Chain<'a> {
    pieces: &'a [Piece],
    next: u32,
}

impl Iterator for Chain<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let piece = self.pieces.get(self.next as usize)?;
        self.next = piece.next;
        Some((piece.at as usize, piece.len as usize))
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::super::gso_split;
    use super::super::packets::{self, Flow, Random, naive_segments};
    use super::*;

    /// What is written for `packets`: header, number of packets, bytes.
    fn frames(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<(VnetHdr, usize, Vec<u8>)> {
        let mut arena = Vec::new();
        let mut places = Vec::new();
        for packet in packets {
            arena.extend([0xEE; 3]);
            places.push((arena.len(), packet.len()));
            arena.extend(packet);
        }
        for &(at, len) in &places {
            coalescer.push(&arena, at, len);
        }
        let mut all = Vec::new();
        coalescer.drain(&mut arena, |hdr, count, slices| {
            let whole: Vec<u8> = slices.iter().flat_map(|s| s.to_vec()).collect();
            assert_eq!(VnetHdr::parse(&whole), Some(*hdr));
            all.push((*hdr, count, whole[VNET_HDR_LEN..].to_vec()));
            Ok(())
        });
        assert!(coalescer.is_empty());
        all
    }

    fn split_all(frames: &[(VnetHdr, usize, Vec<u8>)]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for (hdr, count, packet) in frames {
            let before = all.len();
            gso_split::split(hdr, &mut packet.clone(), |p| all.push(p.to_vec())).unwrap();
            assert_eq!(all.len() - before, *count);
        }
        all
    }

    #[test]
    fn a_train_becomes_one_frame_and_back() {
        for v6 in [false, true] {
            for protocol in [TCP, UDP] {
                for (len, size) in [(2800, 1400), (64000, 1348), (5000, 999), (100, 60), (60 * 40, 40)] {
                    let flow = Flow { v6, protocol, flags: ACK | PSH, ..Flow::default() };
                    let data: Vec<u8> = (0..len).map(|i: usize| (i * 13) as u8).collect();
                    let packets = naive_segments(&flow, &data, size);
                    let got = frames(&mut Coalescer::new(true, true), &packets);
                    assert_eq!(got.len(), 1, "v6 {v6} protocol {protocol} {len} by {size}");
                    let (hdr, packet) = packets::super_packet(&flow, &data, size);
                    assert_eq!((&got[0].0, &got[0].2), (&hdr, &packet));
                    assert_eq!(split_all(&got), packets);
                }
            }
        }
    }

    #[test]
    fn flows_are_told_apart_and_keep_their_order() {
        let mut random = Random(3);
        for round in 0..300 {
            let mut flows: Vec<(Flow, usize)> = (0..1 + random.below(40))
                .map(|i| {
                    let protocol = if random.below(3) == 0 { UDP } else { TCP };
                    let v6 = random.below(2) == 0;
                    (Flow { v6, protocol, port: i as u16, ..Flow::default() }, 0)
                })
                .collect();
            let mut sent = Vec::new();
            for _ in 0..random.below(200) {
                let which = random.below(flows.len());
                let (flow, number) = &mut flows[which];
                let len = [100, 100, 100, 100, 60, 0, 101][random.below(7)];
                let data: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
                let flags = [ACK, ACK, ACK, ACK, ACK | PSH, ACK | 1, 2][random.below(7)];
                if random.below(20) == 0 {
                    flow.seq = flow.seq.wrapping_add(5);
                }
                let mut packet = packets::packet(flow, &data, flow.id, flow.seq, flags);
                flow.id = flow.id.wrapping_add(1);
                flow.seq = flow.seq.wrapping_add(len as u32);
                *number += 1;
                if random.below(10) == 0 {
                    let at = random.below(packet.len());
                    packet[at] ^= 1 << random.below(8);
                } else if random.below(10) == 0 {
                    packet = vec![0x45; random.below(30)];
                }
                sent.push(packet);
            }
            let got = split_all(&frames(&mut Coalescer::new(true, true), &sent));
            assert_eq!(got.len(), sent.len());
            // The same packets, every flow in its order. A flow here: the bytes that name it.
            let flow_of = |p: &Vec<u8>| {
                let range = if p.first().is_some_and(|b| b >> 4 == 6) { 8..44 } else { 12..24 };
                p.get(range).map(<[u8]>::to_vec)
            };
            let mut names: Vec<_> = sent.iter().map(flow_of).collect();
            names.sort();
            names.dedup();
            for name in names {
                let of = |all: &[Vec<u8>]| -> Vec<Vec<u8>> {
                    all.iter().filter(|p| flow_of(p) == name).cloned().collect()
                };
                for (got, sent) in of(&got).iter().zip(of(&sent)) {
                    assert_eq!(got, &sent, "round {round}");
                }
                assert_eq!(of(&got).len(), of(&sent).len(), "round {round}");
            }
        }
    }

    #[test]
    fn what_could_not_have_been_cut_from_it_is_not_merged() {
        let flow = Flow { protocol: TCP, ..Flow::default() };
        let data = [7; 300];
        let base = naive_segments(&flow, &data, 100);
        let separate = |change: &dyn Fn(&mut Flow)| {
            let mut other = flow.clone();
            other.seq = other.seq.wrapping_add(100);
            other.id = other.id.wrapping_add(1);
            change(&mut other);
            let packets = vec![base[0].clone(), naive_segments(&other, &data[..100], 100).remove(0)];
            frames(&mut Coalescer::new(true, true), &packets).len() == 2
        };
        assert!(!separate(&|_| ()));
        assert!(separate(&|f| f.seq += 1));
        assert!(separate(&|f| f.ack += 1));
        assert!(separate(&|f| f.tos = 3));
        assert!(separate(&|f| f.options[4] += 1));
        assert!(separate(&|f| f.options.truncate(4)));
        assert!(separate(&|f| f.port += 1));
        for flags in [0x11, 0x12, 0x14, 0x30, 0x90, 0x00, 0x50] {
            assert!(separate(&|f| f.flags = flags), "flags {flags:#x}");
        }
    }

    #[test]
    fn a_damaged_packet_passes_unchanged() {
        for damaged in 0..3 {
            let flow = Flow::default();
            let mut packets = naive_segments(&flow, &[9; 300], 100);
            packets[damaged][80] ^= 4;
            let got = frames(&mut Coalescer::new(true, true), &packets);
            assert_eq!(got.iter().map(|f| f.1).sum::<usize>(), 3);
            assert!(got.iter().any(|f| f.1 == 1 && f.2 == packets[damaged] && f.0 == VnetHdr::default()));
        }
    }

    #[test]
    fn a_refused_frame_is_written_packet_by_packet() {
        let flow = Flow { flags: ACK | PSH, ..Flow::default() };
        let packets = naive_segments(&flow, &[9; 300], 100);
        let mut arena: Vec<u8> = packets.concat();
        let mut coalescer = Coalescer::new(true, true);
        let mut at = 0;
        for packet in &packets {
            coalescer.push(&arena, at, packet.len());
            at += packet.len();
        }
        let mut written: Vec<Vec<u8>> = Vec::new();
        coalescer.drain(&mut arena, |_, count, slices| {
            if count > 1 {
                return Err(Refused);
            }
            written.push(slices[1].to_vec());
            Ok(())
        });
        assert_eq!(written, packets);
    }

    #[test]
    fn what_the_device_does_not_take_is_left_alone() {
        for protocol in [TCP, UDP] {
            let packets = naive_segments(&Flow { protocol, ..Flow::default() }, &[9; 300], 100);
            let mut coalescer = Coalescer::new(true, true);
            coalescer.disable(protocol == UDP);
            assert_eq!(frames(&mut coalescer, &packets).len(), 3);
        }
    }

    #[test]
    fn no_packet_makes_it_panic() {
        let mut random = Random(11);
        let flow = Flow::default();
        let base = naive_segments(&flow, &[1; 400], 100);
        for _ in 0..20_000 {
            let mut packets = base.clone();
            for packet in &mut packets {
                let keep = random.below(packet.len() * 2).min(packet.len());
                packet.truncate(keep);
                for _ in 0..random.below(3) {
                    let at = random.below(60);
                    if let Some(byte) = packet.get_mut(at) {
                        *byte = random.next() as u8;
                    }
                }
            }
            let got = frames(&mut Coalescer::new(true, true), &packets);
            assert_eq!(got.iter().map(|f| f.1).sum::<usize>(), packets.len());
        }
    }
}
