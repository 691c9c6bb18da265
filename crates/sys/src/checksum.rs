//! The sum under the Internet checksum (RFC 1071), in the widest registers that the processor has.
//!
//! ```text
//!   bytes  ┌ 8 ┬ 8 ┬ 8 ┬ 8 ┐ 64-bit words, several to a register; low and high halves are summed apart, so that
//!          └───┴───┴───┴───┘ no carry is lost
//! ```

/// Bytes taken at a time.
const BLOCK: usize = 64;
/// Shorter data is summed sooner than the registers are set up.
const WORTH_IT: usize = 256;

/// A number that leaves the same remainder modulo 65535 as the ones' complement sum of `data`'s 16-bit words, in the
/// machine's byte order; below 2⁴⁸ for data of up to 64 KiB. An odd last byte counts as if a zero followed.
#[inline]
pub fn sum(data: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if data.len() >= WORTH_IT && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that this function asks for.
        return unsafe { sum_avx2(data) };
    }
    if data.len() >= BLOCK { sum_blocks(data) } else { sum_rest(data) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(data: &[u8]) -> u64 {
    sum_blocks(data)
}

/// Compiled for whatever the caller is compiled for.
#[inline(always)]
fn sum_blocks(data: &[u8]) -> u64 {
    const LANES: usize = BLOCK / 8;
    let (mut low, mut high) = ([0u64; LANES], [0u64; LANES]);
    let (blocks, rest) = data.as_chunks::<BLOCK>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for lane in 0..LANES {
            let word = u64::from_ne_bytes(words[lane]);
            low[lane] += word & 0xFFFF_FFFF;
            high[lane] += word >> 32;
        }
    }
    let mut total = 0;
    for lane in 0..LANES {
        total += low[lane] + high[lane];
    }
    total + sum_rest(rest)
}

#[inline(always)]
fn sum_rest(data: &[u8]) -> u64 {
    let (words, tail) = data.as_chunks::<4>();
    let sum = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    sum + u64::from(u32::from_ne_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, word by word.
    fn naive(data: &[u8]) -> u64 {
        let words = data
            .chunks(2)
            .map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
        words.sum::<u64>() % 0xFFFF
    }

    #[test]
    fn every_length_and_place_gives_the_plain_sum() {
        let mut random = 1u64;
        let data: Vec<u8> = (0..70_000)
            .map(|_| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) as u8
            })
            .collect();
        for len in (0..700).chain([1399, 1400, 1401, 65535, 65536]) {
            for start in 0..5 {
                let part = &data[start..data.len().min(start + len)];
                assert_eq!(sum(part) % 0xFFFF, naive(part), "{len} bytes at {start}");
                assert_eq!(sum_blocks(part), sum(part), "{len} bytes at {start}");
            }
        }
    }

    #[test]
    fn carries_are_kept_and_the_sum_stays_small() {
        let data = vec![0xFF; 65536];
        assert_eq!(sum(&data) % 0xFFFF, 0);
        assert_eq!(sum(&data), 16384 * 0xFFFF_FFFF);
        assert!(sum(&data) < 1 << 48);
    }
}
