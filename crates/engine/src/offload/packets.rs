//! Packets for tests: built and cut the slow and plain way.

use ovpn_sys::tun::VnetHdr;

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// What the packets of a flow have in common, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) v6: bool,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) id: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) tos: u8,
    pub(crate) options: Vec<u8>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            v6: false,
            protocol: 6,
            port: 5001,
            id: 0xFFFE,
            seq: 0xFFFF_FF00,
            ack: 77,
            flags: 0x10,
            tos: 0,
            options: vec![1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
        }
    }
}

/// Ones' complement checksum of `data`, word by word.
fn checksum(data: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in data.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo(packet: &[u8], protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = if packet[0] >> 4 == 6 { packet[8..40].to_vec() } else { packet[12..20].to_vec() };
    bytes.extend([0, protocol]);
    bytes.extend((len as u16).to_be_bytes());
    bytes
}

fn headers(flow: &Flow, payload: usize, id: u16, seq: u32, flags: u8) -> (Vec<u8>, usize) {
    let transport = if flow.protocol == 6 { 20 + flow.options.len() } else { 8 };
    let mut packet = Vec::new();
    if flow.v6 {
        packet.extend([0x60 | flow.tos >> 4, flow.tos << 4, 0, 1]);
        packet.extend(((transport + payload) as u16).to_be_bytes());
        packet.extend([flow.protocol, 64]);
        packet.extend([0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    } else {
        packet.extend([0x45, flow.tos]);
        packet.extend(((20 + transport + payload) as u16).to_be_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend([0x40, 0, 64, flow.protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let ip = packet.len();
    packet.extend(flow.port.to_be_bytes());
    packet.extend(443u16.to_be_bytes());
    if flow.protocol == 6 {
        packet.extend(seq.to_be_bytes());
        packet.extend(flow.ack.to_be_bytes());
        packet.extend([(transport as u8 / 4) << 4, flags, 1, 0, 0, 0, 0, 0]);
        packet.extend(&flow.options);
    } else {
        packet.extend(((8 + payload) as u16).to_be_bytes());
        packet.extend([0, 0]);
    }
    (packet, ip)
}

/// One whole packet.
pub(crate) fn packet(flow: &Flow, data: &[u8], id: u16, seq: u32, flags: u8) -> Vec<u8> {
    let (mut packet, ip) = headers(flow, data.len(), id, seq, flags);
    packet.extend(data);
    let mut counted = pseudo(&packet, flow.protocol, packet.len() - ip);
    counted.extend(&packet[ip..]);
    let mut sum = checksum(&counted);
    let at = ip + if flow.protocol == 6 { 16 } else { 6 };
    if flow.protocol == 17 && sum == 0 {
        sum = 0xFFFF;
    }
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A super-packet as the kernel hands it out.
pub(crate) fn super_packet(flow: &Flow, data: &[u8], size: usize) -> (VnetHdr, Vec<u8>) {
    let (mut packet, ip) = headers(flow, data.len(), flow.id, flow.seq, flow.flags);
    let hdr_len = packet.len() as u16;
    let offset = if flow.protocol == 6 { 16 } else { 6 };
    let unfinished = !checksum(&pseudo(&packet, flow.protocol, packet.len() - ip + data.len()));
    packet[ip + offset..ip + offset + 2].copy_from_slice(&unfinished.to_be_bytes());
    packet.extend(data);
    let gso_type = match (flow.protocol, flow.v6) {
        (6, false) => VnetHdr::GSO_TCPV4,
        (6, true) => VnetHdr::GSO_TCPV6,
        _ => VnetHdr::GSO_UDP_L4,
    };
    let hdr = VnetHdr {
        flags: VnetHdr::NEEDS_CSUM,
        gso_type,
        hdr_len,
        gso_size: size as u16,
        csum_start: ip as u16,
        csum_offset: offset as u16,
    };
    (hdr, packet)
}

/// The packets that a super-packet stands for.
pub(crate) fn naive_segments(flow: &Flow, data: &[u8], size: usize) -> Vec<Vec<u8>> {
    let chunks: Vec<&[u8]> = data.chunks(size).collect();
    let mut all = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        let mut flags = flow.flags;
        if index + 1 < chunks.len() {
            flags &= !0x09;
        }
        if index > 0 {
            flags &= !0x80;
        }
        let seq = flow.seq.wrapping_add((index * size) as u32);
        all.push(packet(flow, chunk, flow.id.wrapping_add(index as u16), seq, flags));
    }
    all
}

/// Asserts that lengths and checksums of a packet are right.
pub(crate) fn check_packet(packet: &[u8]) {
    let v6 = packet[0] >> 4 == 6;
    let ip = if v6 { 40 } else { 20 };
    let len =
        usize::from(u16::from_be_bytes(if v6 { [packet[4], packet[5]] } else { [packet[2], packet[3]] }));
    assert_eq!(len + if v6 { 40 } else { 0 }, packet.len());
    if !v6 {
        assert_eq!(checksum(&packet[..20]), 0);
    }
    let protocol = if v6 { packet[6] } else { packet[9] };
    let mut counted = pseudo(packet, protocol, packet.len() - ip);
    counted.extend(&packet[ip..]);
    assert_eq!(checksum(&counted), 0);
}
