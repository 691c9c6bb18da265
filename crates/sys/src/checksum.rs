//! The sum under the Internet checksum (RFC 1071), in the widest registers that the processor has.
//!
//! ```text
//!   ┌ 8 ┬ 8 ┬ 8 ┬ 8 ┐ 64-bit words, four to a register; low and high halves are summed apart, so that no carry is lost
//! ```

/// Bytes taken at a time.
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = 64;
/// Shorter data is summed sooner than the registers are set up.
#[cfg(target_arch = "x86_64")]
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
    sum_words(data)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(data: &[u8]) -> u64 {
    use std::arch::x86_64::{
        _mm256_add_epi64, _mm256_and_si256, _mm256_extract_epi64, _mm256_loadu_si256, _mm256_set1_epi64x,
        _mm256_setzero_si256, _mm256_srli_epi64,
    };
    let mask = _mm256_set1_epi64x(0xFFFF_FFFF);
    let (mut low, mut high) = ([_mm256_setzero_si256(); 2], [_mm256_setzero_si256(); 2]);
    let (blocks, rest) = data.as_chunks::<BLOCK>();
    for block in blocks {
        let (words, _) = block.as_chunks::<32>();
        for half in 0..2 {
            // SAFETY: the word is 32 bytes long, of which all are read; the load asks for no alignment.
            let word = unsafe { _mm256_loadu_si256(words[half].as_ptr().cast()) };
            low[half] = _mm256_add_epi64(low[half], _mm256_and_si256(word, mask));
            high[half] = _mm256_add_epi64(high[half], _mm256_srli_epi64::<32>(word));
        }
    }
    let sum = _mm256_add_epi64(_mm256_add_epi64(low[0], low[1]), _mm256_add_epi64(high[0], high[1]));
    let [a, b, c, d] = [
        _mm256_extract_epi64::<0>(sum),
        _mm256_extract_epi64::<1>(sum),
        _mm256_extract_epi64::<2>(sum),
        _mm256_extract_epi64::<3>(sum),
    ];
    [a, b, c, d].map(i64::cast_unsigned).iter().sum::<u64>() + sum_words(rest)
}

/// 64-bit words, with the carries in the upper half of 128-bit sums.
#[inline]
fn sum_words(data: &[u8]) -> u64 {
    let (mut even, mut odd) = (0u128, 0u128);
    let (blocks, rest) = data.as_chunks::<16>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        even += u128::from(u64::from_ne_bytes(words[0]));
        odd += u128::from(u64::from_ne_bytes(words[1]));
    }
    let total = even + odd;
    (total as u64 & 0xFFFF_FFFF) + (total as u64 >> 32) + (total >> 64) as u64 + sum_rest(rest)
}

/// Fewer than 16 bytes, without a call that copies so few.
#[inline]
fn sum_rest(rest: &[u8]) -> u64 {
    let (words, rest) = rest.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    sum + match *rest {
        [a] => u64::from(u16::from_ne_bytes([a, 0])),
        [a, b] => u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c] => u64::from(u16::from_ne_bytes([a, b])) + u64::from(u16::from_ne_bytes([c, 0])),
        _ => 0,
    }
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
                assert_eq!(sum_words(part) % 0xFFFF, sum(part) % 0xFFFF, "{len} bytes at {start}");
            }
        }
    }

    #[test]
    fn carries_are_kept_and_the_sum_stays_small() {
        let data = vec![0xFF; 65536];
        assert_eq!(sum(&data) % 0xFFFF, 0);
        assert!(sum(&data) < 1 << 48);
    }
}
