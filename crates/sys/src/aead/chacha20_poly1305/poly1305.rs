//! Poly1305 (RFC 8439, section 2.5) of whole blocks, eight at a time where there are many.
//!
//! ```text
//!   block, 16 bytes: ┌ low word: 44 bits │ 20 ┬ high word: 24 │ 40 bits ┐ 1     (bit 2^128 of every block)
//!                    └ limb 0 ───────────┴ limb 1 ────────────┴ limb 2 ───┘
//! ```
//!
//! A sum is h = m₁rⁿ + m₂rⁿ⁻¹ + … + mₙr modulo 2¹³⁰ - 5. Eight blocks lie side by side, a limb to a register, and are
//! taken along with r⁸; the last ones get the powers r⁸ to r¹ each (Goll and Gueron, "Vectorization of Poly1305
//! message authentication code"). AVX512-IFMA multiplies 52 bits by 52; its sums have twelve bits to spare, so that up
//! to 32 blocks are multiplied by their powers before anything is carried.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmplt_epi64_mask, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_mask_mov_epi64, _mm512_maskz_mov_epi64,
    _mm512_or_si512, _mm512_permutex2var_epi64, _mm512_reduce_add_epi64, _mm512_set_epi64, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_sub_epi64, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64,
};

use crate::aead::lanes::{load, load_part};

/// Bytes of a block.
const BLOCK: usize = 16;
/// Bytes taken at a time.
const STRIDE: usize = 128;
/// The bits of limbs 0 and 1.
const MASK_44: u64 = (1 << 44) - 1;
/// The bits of limb 2.
const MASK_42: u64 = (1 << 42) - 1;
/// Shorter data is summed sooner than the powers are made.
const WORTH_IT: usize = 192;

/// The one-time key: a factor and what is added at the end.
#[derive(Clone, Copy)]
pub(super) struct Key {
    r: [u64; 2],
    s: u128,
}

impl Key {
    /// From the key's four words; clamps the factor.
    #[inline]
    pub(super) const fn new([r0, r1, s0, s1]: [u64; 4]) -> Self {
        let r = [r0 & 0x0FFF_FFFC_0FFF_FFFF, r1 & 0x0FFF_FFFC_0FFF_FFFC];
        Self { r, s: s0 as u128 | (s1 as u128) << 64 }
    }
}

/// A number modulo 2¹³⁰ - 5, in words; the third is small.
#[derive(Clone, Copy, Default)]
struct Sum([u64; 3]);

impl Sum {
    #[inline]
    const fn add(self, block: u128, top: u64) -> Self {
        let Self([h0, h1, h2]) = self;
        let (low, carry) = (h0 as u128 | (h1 as u128) << 64).overflowing_add(block);
        Self([low as u64, (low >> 64) as u64, h2 + top + carry as u64])
    }

    /// Times a clamped `r`, whose second word is a multiple of 4, so that 2¹²⁸ times it is 5/4 of it.
    #[inline]
    const fn times(self, [r0, r1]: [u64; 2]) -> Self {
        const fn product(a: u64, b: u64) -> u128 {
            a as u128 * b as u128
        }
        let Self([h0, h1, h2]) = self;
        let folded = r1 + (r1 >> 2);
        let d0 = product(h0, r0) + product(h1, folded);
        let d1 = product(h0, r1) + product(h1, r0) + product(h2, folded) + (d0 >> 64);
        let d2 = h2 * r0 + (d1 >> 64) as u64;
        Self([d0 as u64, d1 as u64, d2 & 3]).add(((d2 & !3) + (d2 >> 2)) as u128, 0)
    }

    /// From limbs of up to 56 bits.
    #[inline]
    const fn from_limbs([a, b, c]: [u64; 3]) -> Self {
        let top = c >> 40;
        Self([a, 0, 0])
            .add((b as u128) << 44, 0)
            .add((c as u128) << 88, top & 3)
            .add(((top & !3) + (top >> 2)) as u128, 0)
    }

    /// Below 2¹³⁰ - 5, plus `s`, without the bits from 2¹²⁸ on.
    #[inline]
    const fn finish(self, s: u128) -> u128 {
        // Any bits from 2^130 on first, which leaves at most a little more than 2^130.
        let Self([h0, h1, h2]) = self;
        let Self([h0, h1, h2]) = Self([h0, h1, h2 & 3]).add((5 * (h2 >> 2)) as u128, 0);
        let Self([g0, g1, g2]) = Self([h0, h1, h2]).add(5, 0);
        let over = ((g2 >> 2) as u128).wrapping_neg();
        let (h, g) = (h0 as u128 | (h1 as u128) << 64, g0 as u128 | (g1 as u128) << 64);
        ((h & !over) | (g & over)).wrapping_add(s)
    }

    /// Takes in blocks, of which the last may be short, and is then as good as followed by zeros.
    #[inline(always)]
    fn absorb(mut self, r: [u64; 2], data: &[u8]) -> Self {
        let (blocks, rest) = data.as_chunks::<BLOCK>();
        for block in blocks {
            self = self.add(u128::from_le_bytes(*block), 1).times(r);
        }
        if !rest.is_empty() {
            self = self.add(short_block(rest), 1).times(r);
        }
        self
    }
}

/// A block of fewer than 16 bytes, zeros after them.
#[inline]
fn short_block(rest: &[u8]) -> u128 {
    let word = |bytes: &[u8]| {
        if let Some((low, rest)) = bytes.split_first_chunk::<4>() {
            let high = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            return high << 32 | u64::from(u32::from_le_bytes(*low));
        }
        bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    match rest.split_first_chunk::<8>() {
        Some((low, rest)) => u128::from(u64::from_le_bytes(*low)) | u128::from(word(rest)) << 64,
        None => u128::from(word(rest)),
    }
}

/// Eight numbers modulo 2¹³⁰ - 5, in limbs a little longer than 44, 44 and 42 bits.
#[derive(Clone, Copy)]
struct Limbs([__m512i; 3]);

/// Eight factors: limbs, and twenty times limbs 1 and 2, for what goes beyond 2¹³².
#[derive(Clone, Copy)]
struct Factor {
    limbs: [__m512i; 3],
    folded: [__m512i; 2],
}

impl Factor {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn new(Limbs(limbs): Limbs) -> Self {
        let twenty = |limb| _mm512_madd52lo_epu64(_mm512_setzero_si512(), limb, splat(20));
        Self { limbs, folded: [twenty(limbs[1]), twenty(limbs[2])] }
    }
}

/// Sums of products by limb, the products' low 52 bits and those above them apart.
#[derive(Clone, Copy)]
struct Products {
    low: [__m512i; 3],
    high: [__m512i; 3],
}

impl Products {
    /// Begins with `limbs`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn new(Limbs(low): Limbs) -> Self {
        Self { low, high: [_mm512_setzero_si512(); 3] }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn add(&mut self, Limbs(a): Limbs, factor: &Factor) {
        let ([b0, b1, b2], [f1, f2]) = (factor.limbs, factor.folded);
        let factors = [[b0, b1, b2], [f2, b0, b1], [f1, f2, b0]];
        for (a, factors) in a.iter().zip(&factors) {
            for (low, factor) in self.low.iter_mut().zip(factors) {
                *low = _mm512_madd52lo_epu64(*low, *a, *factor);
            }
            for (high, factor) in self.high.iter_mut().zip(factors) {
                *high = _mm512_madd52hi_epu64(*high, *a, *factor);
            }
        }
    }

    /// Carries once, which is enough for limbs that fit 52 bits, twenty times over too.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn carry(self) -> Limbs {
        let Self { low, high } = self;
        // 2^52 is 2^8 of the next limb's units; of the limb after the last, one unit is 20 of the first.
        let wrapped = _mm512_add_epi64(_mm512_slli_epi64::<12>(high[2]), _mm512_slli_epi64::<10>(high[2]));
        let d0 = _mm512_add_epi64(low[0], wrapped);
        let d1 = _mm512_add_epi64(low[1], _mm512_slli_epi64::<8>(high[0]));
        let d2 = _mm512_add_epi64(low[2], _mm512_slli_epi64::<8>(high[1]));
        let (mask_44, mask_42) = (splat(MASK_44), splat(MASK_42));
        let over = _mm512_srli_epi64::<42>(d2);
        Limbs([
            _mm512_madd52lo_epu64(_mm512_and_si512(d0, mask_44), over, splat(5)),
            _mm512_add_epi64(_mm512_and_si512(d1, mask_44), _mm512_srli_epi64::<44>(d0)),
            _mm512_add_epi64(_mm512_and_si512(d2, mask_42), _mm512_srli_epi64::<44>(d1)),
        ])
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn splat(value: u64) -> __m512i {
    _mm512_set1_epi64(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn multiply(a: Limbs, factor: &Factor) -> Limbs {
    let mut products = Products::new(Limbs([_mm512_setzero_si512(); 3]));
    products.add(a, factor);
    products.carry()
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn blend(mask: u8, Limbs(a): Limbs, Limbs(b): Limbs) -> Limbs {
    Limbs([
        _mm512_mask_blend_epi64(mask, a[0], b[0]),
        _mm512_mask_blend_epi64(mask, a[1], b[1]),
        _mm512_mask_blend_epi64(mask, a[2], b[2]),
    ])
}

/// The limbs of eight numbers, from their low words and their high ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn limbs(low: __m512i, high: __m512i) -> [__m512i; 3] {
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    let mask = splat(MASK_44);
    [_mm512_and_si512(low, mask), _mm512_and_si512(middle, mask), _mm512_srli_epi64::<24>(high)]
}

/// Powers of the factor.
struct Powers {
    /// r⁸, r¹⁶, r²⁴ and r³², each in all lanes.
    strides: [Factor; 4],
    /// r¹ to r⁸.
    first: Limbs,
    /// r⁹ to r¹⁶.
    second: Limbs,
}

impl Powers {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn new(r: [u64; 2]) -> Self {
        let r1 = Limbs(limbs(splat(r[0]), splat(r[1])));
        let r2 = multiply(r1, &Factor::new(r1));
        let by_2 = Factor::new(r2);
        let two = blend(0b1010_1010, r1, r2);
        let r4 = multiply(r2, &by_2);
        let four = blend(0b1100_1100, two, multiply(two, &by_2));
        let by_4 = Factor::new(r4);
        let r8 = multiply(r4, &by_4);
        let first = blend(0b1111_0000, four, multiply(four, &by_4));
        let by_8 = Factor::new(r8);
        let second = multiply(first, &by_8);
        let by_16 = Factor::new(multiply(r8, &by_8));
        let by_24 = Factor::new(multiply(r8, &by_16));
        let by_32 = Factor::new(multiply(Limbs(by_16.limbs), &by_16));
        Self { strides: [by_8, by_16, by_24, by_32], first, second }
    }
}

/// The blocks' places by lane, as [`message`] puts them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn places() -> __m512i {
    _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0)
}

/// Eight blocks' limbs, every block with bit 2¹²⁸.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn message(a: __m512i, b: __m512i) -> Limbs {
    let [m0, m1, m2] = limbs(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    Limbs([m0, m1, _mm512_or_si512(m2, splat(1 << 40))])
}

/// Data in strides, the last of which may be a little short, as if zeros followed.
struct Strides<'a> {
    whole: &'a [[u8; STRIDE]],
    rest: &'a [u8],
}

impl Strides<'_> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn get(&self, index: usize) -> Limbs {
        match self.whole.get(index) {
            Some(stride) => {
                let (halves, _) = stride.as_chunks::<64>();
                message(load(&halves[0]), load(&halves[1]))
            }
            None => {
                let (a, b) = halves(self.rest);
                message(a, b)
            }
        }
    }
}

/// Fewer bytes than a stride.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn halves(rest: &[u8]) -> (__m512i, __m512i) {
    let (a, b) = rest.split_at(rest.len().min(64));
    (load_part(a), load_part(b))
}

/// Takes `N` strides from `index` on into `h`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn step<const N: usize>(h: Limbs, powers: &Powers, data: &Strides<'_>, index: usize) -> Limbs {
    let mut products = Products::new(data.get(index + N - 1));
    for i in 0..N - 1 {
        products.add(data.get(index + i), &powers.strides[N - 2 - i]);
    }
    products.add(h, &powers.strides[N - 1]);
    products.carry()
}

/// The sum of `data`, begun with `h`, and a last block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn absorb_wide(begun: Sum, r: [u64; 2], data: &[u8], last: [u64; 2]) -> Sum {
    let powers = Powers::new(r);
    let (whole, mut rest) = data.as_chunks::<STRIDE>();
    let mut strides = whole.len();
    let data = Strides { whole, rest };
    if rest.len() > STRIDE - BLOCK {
        // With the last block it would be one block too many for the lanes below. An empty slice still lies in the buffer:
        // even a load of no bytes at all is slow from an address where there is no memory.
        strides += 1;
        rest = &rest[rest.len()..];
    }

    let Sum([h0, h1, h2]) = begun;
    let [b0, b1, _] = limbs(splat(h0), splat(h1));
    let b2 = splat(h1 >> 24 | h2 << 40);
    let Limbs([m0, m1, m2]) = data.get(0);
    let begin = |m, b| _mm512_add_epi64(m, _mm512_maskz_mov_epi64(1, b));
    let mut h = Limbs([begin(m0, b0), begin(m1, b1), begin(m2, b2)]);
    let mut index = 1;
    match (strides - 1) % 4 {
        1 => h = step::<1>(h, &powers, &data, index),
        2 => h = step::<2>(h, &powers, &data, index),
        3 => h = step::<3>(h, &powers, &data, index),
        _ => {}
    }
    index += (strides - 1) % 4;
    while index < strides {
        h = step::<4>(h, &powers, &data, index);
        index += 4;
    }

    // What is left with the last block, 1 to 8 blocks, in the lanes of their places, the others zero.
    let blocks = rest.len().div_ceil(BLOCK) as u64 + 1;
    let (mut a, mut b) = halves(rest);
    let closing = _mm512_set_epi64(
        last[1].cast_signed(),
        last[0].cast_signed(),
        last[1].cast_signed(),
        last[0].cast_signed(),
        last[1].cast_signed(),
        last[0].cast_signed(),
        last[1].cast_signed(),
        last[0].cast_signed(),
    );
    let place = 3u16 << (2 * (blocks - 1));
    a = _mm512_mask_mov_epi64(a, place as u8, closing);
    b = _mm512_mask_mov_epi64(b, (place >> 8) as u8, closing);
    let places = places();
    let filled = _mm512_cmplt_epi64_mask(places, splat(blocks));
    let [m0, m1, m2] = limbs(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let tail = Limbs([m0, m1, _mm512_or_si512(m2, _mm512_maskz_mov_epi64(filled, splat(1 << 40)))]);

    // Every lane's own power: r^(8 - place + blocks) for the strides, r^(blocks - place) for what was left.
    let (Limbs(first), Limbs(second)) = (powers.first, powers.second);
    let select = |exponents| {
        let at = _mm512_sub_epi64(exponents, splat(1));
        Limbs([
            _mm512_permutex2var_epi64(first[0], at, second[0]),
            _mm512_permutex2var_epi64(first[1], at, second[1]),
            _mm512_permutex2var_epi64(first[2], at, second[2]),
        ])
    };
    let exponents = _mm512_sub_epi64(splat(blocks), places);
    let mut products = Products::new(Limbs([_mm512_setzero_si512(); 3]));
    products.add(tail, &Factor::new(select(exponents)));
    products.add(h, &Factor::new(select(_mm512_add_epi64(exponents, splat(8)))));
    let Limbs([a, b, c]) = products.carry();
    Sum::from_limbs([
        _mm512_reduce_add_epi64(a).cast_unsigned(),
        _mm512_reduce_add_epi64(b).cast_unsigned(),
        _mm512_reduce_add_epi64(c).cast_unsigned(),
    ])
}

/// The tag of an AEAD's data (RFC 8439, section 2.8): `aad`, `data`, each filled up with zeros, and their lengths.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn tag(key: Key, aad: &[u8], data: &[u8]) -> u128 {
    let lengths = [aad.len() as u64, data.len() as u64];
    let begun = Sum::default().absorb(key.r, aad);
    if data.len() < WORTH_IT {
        let last = u128::from(lengths[0]) | u128::from(lengths[1]) << 64;
        return begun.absorb(key.r, data).add(last, 1).times(key.r).finish(key.s);
    }
    absorb_wide(begun, key.r, data, lengths).finish(key.s)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439, section 2.5.2: the last block is short, which data of an AEAD never is.
    #[test]
    fn the_published_tag_comes_out() {
        let key = Key::new([
            0x336D_5557_78BE_D685,
            0xA806_D542_FE52_447F,
            0xFDB2_0DFB_8A80_0301,
            0x1BF5_4941_AFF6_BF4A,
        ]);
        let (message, last) = (
            b"Cryptographic Forum Research Group",
            u128::from_le_bytes(*b"up\x01\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        );
        let sum = Sum::default().absorb(key.r, &message[..32]).add(last, 0).times(key.r);
        assert_eq!(sum.finish(key.s), 0xA927_010C_AF8B_2BC2_C636_5130_C11D_06A8);
    }

    /// RFC 8439, appendix A.3, numbers 7 to 12.
    #[test]
    fn sums_around_the_modulus_are_reduced() {
        const ONES: u128 = u128::MAX;
        let carry = [0xB943_5E50_D794_35E3, 0x0000_0001_CD79_435E_50D7_9433, 0, 1];
        let cases: [(u128, u128, &[u128], u128); 7] = [
            (2, 0, &[ONES], 3),
            (2, ONES, &[2], 3),
            (1, 0, &[ONES, ONES - 0x0F, 0x11], 5),
            (1, 0, &[ONES, 0xFEFE_FEFE_FEFE_FEFE_FEFE_FEFE_FEFE_FEFB, ONES / 0xFF], 0),
            (2, 0, &[ONES - 2], ONES - 5),
            (1 | 4 << 64, 0, &carry, 0x14 | 0x55 << 64),
            (1 | 4 << 64, 0, &carry[..3], 0x13),
        ];
        for (r, s, blocks, tag) in cases {
            let words = |number: u128| [number as u64, (number >> 64) as u64];
            let ([r0, r1], [s0, s1]) = (words(r), words(s));
            let key = Key::new([r0, r1, s0, s1]);
            let data: Vec<u8> = blocks.iter().flat_map(|block| block.to_le_bytes()).collect();
            assert_eq!(Sum::default().absorb(key.r, &data).finish(key.s), tag, "{blocks:X?} times {r}");
        }
    }

    #[test]
    fn limbs_of_any_size_give_their_sum() {
        for limbs in
            [[0; 3], [MASK_44, MASK_44, MASK_42], [(1 << 56) - 1; 3], [5, 0, 1 << 42], [0, 1 << 50, 3 << 40]]
        {
            // Limb by limb with what is known to be right: r = 1 and a sum of parts.
            let part = |limb: u64, shift: u32| {
                let (low, high) = (u128::from(limb) << shift, u128::from(limb) >> 1 >> (127 - shift));
                let high = high as u64;
                Sum([low as u64, (low >> 64) as u64, 0]).add(0, high & 3).add(u128::from(5 * (high >> 2)), 0)
            };
            let sum = [part(limbs[0], 0), part(limbs[1], 44), part(limbs[2], 88)]
                .into_iter()
                .fold(Sum::default(), |sum, Sum([a, b, c])| sum.add(u128::from(a) | u128::from(b) << 64, c));
            assert_eq!(Sum::from_limbs(limbs).finish(0), sum.finish(0), "{limbs:X?}");
        }
    }

    #[test]
    fn eight_at_a_time_or_one_the_sum_is_the_same() {
        if super::super::Key::new(&[1; 32]).is_none() {
            return eprintln!("nothing tested: the processor lacks the instructions");
        }
        let mut random = 1u64;
        let mut next = || {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            random ^ random >> 29
        };
        let mut data: Vec<u8> = (0..4000).map(|_| next() as u8).collect();
        for round in 0..4 {
            match round {
                1 => data.fill(0xFF),
                2 => data.fill(0),
                _ => data.iter_mut().for_each(|byte| *byte = next() as u8),
            }
            let factors = [[u64::MAX; 2], [0; 2], [1, 0], [0, u64::MAX], [next(), next()]];
            for r in factors.map(|[r0, r1]| Key::new([r0, r1, 0, 0]).r) {
                for len in (STRIDE..1300).chain([1399, 1400, 1401, 2047, 2048, 2049, 3999, 4000]) {
                    let begun =
                        [Sum::default(), Sum([u64::MAX, u64::MAX, 4]), Sum([next(), next(), next() & 3])];
                    let (begun, last) =
                        (begun[len % 3], [next(), if len % 2 == 0 { len as u64 } else { u64::MAX }]);
                    let block = u128::from(last[0]) | u128::from(last[1]) << 64;
                    let plain = begun.absorb(r, &data[..len]).add(block, 1).times(r).finish(0);
                    // SAFETY: there is a key, so the processor has all that is asked for.
                    let wide = unsafe { absorb_wide(begun, r, &data[..len], last) }.finish(0);
                    assert_eq!(plain, wide, "{len} bytes times {r:X?} after {:X?}", begun.0);
                }
            }
        }
    }
}
