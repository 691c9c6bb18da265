//! Inner offload: what cutting and merging costs beside the cipher.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ovpn_engine::offload::checksum::Sum;
use ovpn_engine::offload::gro_coalesce::Coalescer;
use ovpn_engine::offload::gso_split::split;
use ovpn_sys::tun::VnetHdr;

const MSS: usize = 1348;
const SEGMENTS: usize = 46;

/// A TCP super-packet as the kernel hands it out.
fn super_packet() -> (VnetHdr, Vec<u8>) {
    let mut packet = vec![0x5A; 52 + SEGMENTS * MSS];
    packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 8, 0, 1, 10, 8, 0, 2]);
    packet[20..40]
        .copy_from_slice(&[0x13, 0x89, 1, 187, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10, 1, 0, 0, 0, 0, 0]);
    packet[40..52].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1]);
    let hdr = VnetHdr {
        flags: VnetHdr::NEEDS_CSUM,
        gso_type: VnetHdr::GSO_TCPV4,
        hdr_len: 52,
        gso_size: MSS as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (hdr, packet)
}

fn offload(c: &mut Criterion) {
    let (hdr, packet) = super_packet();
    let mut group = c.benchmark_group("offload");
    group.throughput(Throughput::Bytes(1400));
    group.bench_function("checksum 1400", |b| {
        b.iter(|| black_box(Sum::default().bytes(black_box(&packet[..1400])).checksum()));
    });
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    group.bench_function("gso split", |b| {
        b.iter_batched_ref(
            || packet.clone(),
            |packet| split(&hdr, packet, |segment| _ = black_box(segment.len())).unwrap(),
            BatchSize::LargeInput,
        );
    });
    let (mut arena, mut places) = (Vec::new(), Vec::new());
    split(&hdr, &mut packet.clone(), |segment| {
        places.push((arena.len(), segment.len()));
        arena.extend_from_slice(segment);
    })
    .unwrap();
    let mut coalescer = Coalescer::new(true, true);
    group.bench_function("gro coalesce", |b| {
        b.iter_batched_ref(
            || arena.clone(),
            |arena| {
                for &(at, len) in &places {
                    coalescer.push(arena, at, len);
                }
                let mut frames = 0;
                coalescer.drain(arena, |_, count, pieces| {
                    frames += 1;
                    assert_eq!((count, pieces.len()), (SEGMENTS, SEGMENTS + 1));
                    Ok(())
                });
                assert_eq!(frames, 1);
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, offload);
criterion_main!(benches);
