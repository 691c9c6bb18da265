//! AES-GCM (NIST SP 800-38D) in 512-bit registers (AVX-512, VAES, VPCLMULQDQ): four blocks to a register, eight
//! registers to a group.
//!
//! ```text
//!   nonce ‖ 1   nonce ‖ 2   nonce ‖ 3 …              aad     ciphertext …     lengths
//!      │AES        │AES        │AES                   │          │               │
//!      │        plaintext ⊕ … = ciphertext            ▼          ▼               ▼
//!      └──────────────────────────────────────▶ ⊕ ◀── GHASH: one polynomial in H = AES(0)
//!                                              tag
//!
//!   register   ┌ block 0 ┬ block 1 ┬ block 2 ┬ block 3 ┐
//!   times      └  H^32   ┴  H^31   ┴  H^30   ┴  H^29   ┘  the group's first; its last is times H^4 … H^1
//! ```
//!
//! GHASH works on blocks with their bytes reversed, where bit i stands for x^(127 - i). Carry-less products come out
//! one bit too low there; a hash key multiplied by x beforehand makes up for that, and the reduction is two
//! multiplications by the constant in the polynomial (Gueron and Kounavis, "Intel carry-less multiplication
//! instruction and its usage for computing the GCM mode"). The products of a group, of three multiplications each
//! (Karatsuba), are summed before they are reduced. One register is multiplied between every two rounds of AES of
//! eight others, so that both units of the processor are busy: the group's own ciphertext while opening, the last
//! group's while sealing.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_aeskeygenassist_si128, _mm_cvtsi128_si32, _mm_set_epi64x, _mm_set1_epi32,
    _mm_testz_si128, _mm_xor_si128, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_xor_si256,
    _mm512_add_epi32, _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_broadcast_i32x4,
    _mm512_castsi512_si128, _mm512_castsi512_si256, _mm512_clmulepi64_epi128, _mm512_extracti64x4_epi64,
    _mm512_maskz_mov_epi8, _mm512_set_epi32, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_shuffle_epi32, _mm512_xor_si512, _mm512_zextsi128_si512,
};

use std::hint::black_box;
use std::sync::OnceLock;

use zeroize::Zeroizing;

use super::TAG_LEN;
use super::lanes::{
    WIDTH, load, load_block, load_block_part, load_four, load_part, mask, pin, store, store_block, store_part,
};
use super::text::Text;

type Block = [u8; 16];

/// Registers of a group.
const GROUP: usize = 8;
const GROUP_LEN: usize = GROUP * WIDTH;
/// Round keys of the longest key.
const ROUND_KEYS: usize = 15;
/// Powers of the hash key for texts of up to one register: its blocks' and the lengths', rounded up.
const FEW: usize = 8;
/// For all others: a group's and the lengths', rounded up so that the group's are aligned.
const MANY: usize = 4 * GROUP + 4;
/// Zeros after the powers.
const ZEROS: usize = 4;
/// The polynomial's part that takes 64 bits off a product: x^127 + x^126 + x^121, less its lower half.
const FOLD: i64 = 0xC2_u64.rotate_right(8).cast_signed();

/// Powers of the hash key from the highest to the first, then zeros: any four that begin in range are one load.
type Powers<const N: usize> = Zeroizing<[Block; N]>;

pub(super) struct Key {
    few: Powers<{ FEW + ZEROS }>,
    /// Made when first needed: most keys of a large server see nothing but keepalives.
    many: OnceLock<Box<Powers<{ MANY + ZEROS }>>>,
    round_keys: Zeroizing<[Block; ROUND_KEYS]>,
    rounds: usize,
}

impl Key {
    pub(super) fn new(key: &[u8]) -> Option<Box<Self>> {
        let able = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("aes")
            && std::arch::is_x86_feature_detected!("vaes")
            && std::arch::is_x86_feature_detected!("vpclmulqdq");
        if !able || ![16, 24, 32].contains(&key.len()) {
            return None;
        }
        let rounds = key.len() / 4 + 6;
        let mut new = Box::new(Self {
            few: Zeroizing::new([[0; 16]; FEW + ZEROS]),
            many: OnceLock::new(),
            round_keys: Zeroizing::new([[0; 16]; ROUND_KEYS]),
            rounds,
        });
        // SAFETY: the processor has all that this function asks for.
        unsafe { new.expand(key) };
        Some(new)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn expand(&mut self, key: &[u8]) {
        expand_key(key, self.round_keys.as_flattened_mut());
        // The last ten stand in the last places, however many there are.
        let optional = self.rounds - 10;
        self.round_keys.copy_within(1 + optional..=self.rounds, 5);
        let mut h = [_mm512_setzero_si512()];
        self.encrypt(&mut h, &mut [], |_| ());
        let [h] = h;
        // Times x: one bit up, and the bit that falls out comes back as the polynomial.
        let mut bytes = Zeroizing::new([0; 16]);
        store_block(&mut bytes, _mm512_castsi512_si128(h));
        let h = u128::from_be_bytes(*bytes);
        let h = (h << 1) ^ ((h >> 127).wrapping_neg() & ((0xC2 << 120) | 1));
        *bytes = h.to_le_bytes();
        write_powers(_mm512_zextsi128_si512(load_block(&bytes)), &mut self.few[..FEW]);
    }

    /// For texts longer than a register.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn many(&self) -> &[Block; MANY + ZEROS] {
        if let Some(powers) = self.many.get() {
            return powers;
        }
        let mut powers = Box::new(Zeroizing::new([[0; 16]; MANY + ZEROS]));
        write_powers(self.first_power(), &mut powers[..MANY]);
        self.many.get_or_init(|| powers)
    }

    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: Text<'_>, tag: &mut [u8; TAG_LEN]) {
        // SAFETY: the processor has all that this function asks for, or there were no key.
        unsafe { self.seal_wide(nonce, aad, text, tag) }
    }

    pub(super) fn open(&self, nonce: [u8; 12], aad: &[u8], text: Text<'_>, tag: &[u8; TAG_LEN]) -> bool {
        // SAFETY: the processor has all that this function asks for, or there were no key.
        unsafe { self.open_wide(nonce, aad, text, tag) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn seal_wide(&self, nonce: [u8; 12], aad: &[u8], text: Text<'_>, tag: &mut [u8; TAG_LEN]) {
        store_block(tag, self.pass::<false>(nonce, aad, text));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn open_wide(&self, nonce: [u8; 12], aad: &[u8], text: Text<'_>, tag: &[u8; TAG_LEN]) -> bool {
        let difference = _mm_xor_si128(self.pass::<true>(nonce, aad, text), load_block(tag));
        _mm_testz_si128(difference, difference) == 1
    }

    /// Encrypts or decrypts everything and gives the tag.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn pass<const OPENS: bool>(&self, nonce: [u8; 12], aad: &[u8], mut text: Text<'_>) -> __m128i {
        let mut counter = Counter::new(nonce);
        let pad = counter.first();
        let mut hash = self.hash_aad(aad);
        let len = text.source().len();
        let lengths = _mm_set_epi64x(aad.len() as i64 * 8, len as i64 * 8);
        let lengths = Product::none().add(_mm512_zextsi128_si512(lengths), self.first_power());
        let powers: &[Block] = if len > WIDTH { self.many() } else { &self.few[..] };
        let mut at = 0;
        while len - at > GROUP_LEN {
            // Tables are read where they are used: kept over the loop, they would not fit into the registers.
            let (key, powers) = black_box((self, powers));
            let mut stream = counter.take::<GROUP>();
            if OPENS {
                hash = key.encrypt_and_hash(&mut stream, &mut [], group(text.source(), at), powers, hash);
            } else if at > 0 {
                let hashed = group(text.target(), at - GROUP_LEN);
                hash = key.encrypt_and_hash(&mut stream, &mut [], hashed, powers, hash);
            } else {
                key.encrypt(&mut stream, &mut [], |_| ());
            }
            let source = group(text.source(), at);
            for i in 0..GROUP {
                stream[i] = _mm512_xor_si512(stream[i], load(&source[i]));
            }
            let (target, _) = text.target()[at..at + GROUP_LEN].as_chunks_mut();
            for i in 0..GROUP {
                store(&mut target[i], stream[i]);
            }
            at += GROUP_LEN;
        }
        let rest = Rest { counter, pad, hash, lengths, powers, at };
        match (len - at).div_ceil(WIDTH) {
            0 => self.rest::<OPENS, 0>(text, rest),
            1 => self.rest::<OPENS, 1>(text, rest),
            2 => self.rest::<OPENS, 2>(text, rest),
            3 => self.rest::<OPENS, 3>(text, rest),
            4 => self.rest::<OPENS, 4>(text, rest),
            5 => self.rest::<OPENS, 5>(text, rest),
            6 => self.rest::<OPENS, 6>(text, rest),
            7 => self.rest::<OPENS, 7>(text, rest),
            _ => self.rest::<OPENS, 8>(text, rest),
        }
    }

    /// What is left, in `N` registers, the last of them often not full; then the lengths and the tag.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn rest<const OPENS: bool, const N: usize>(&self, mut text: Text<'_>, rest: Rest<'_>) -> __m128i {
        let Rest { mut counter, pad, mut hash, lengths, powers, at } = rest;
        let (mut stream, mut pad) = (counter.take::<N>(), [pad]);
        let left = &text.source()[at..];
        let mut blocks = [_mm512_setzero_si512(); N];
        let (full, end) = left.split_at(N.saturating_sub(1) * WIDTH);
        let (full, _) = full.as_chunks();
        for (i, block) in blocks.iter_mut().enumerate() {
            *block = if let Some(from) = full.get(i) { load(from) } else { load_part(end) };
        }
        let last_len = end.len();
        // The lengths come after the last block.
        let power = left.len().div_ceil(16) + 1;
        let mut last = Hash::<N> { before: hash, powers: from(powers, power), product: lengths };
        if OPENS {
            self.encrypt(&mut stream, &mut pad, |i| {
                if i < N {
                    last.add(i, blocks[i]);
                }
            });
        } else if at > 0 {
            let hashed = group(text.target(), at - GROUP_LEN);
            hash = self.encrypt_and_hash(&mut stream, &mut pad, hashed, powers, hash);
            last.before = hash;
        } else {
            self.encrypt(&mut stream, &mut pad, |_| ());
        }
        let (full, end) = text.target()[at..].split_at_mut(N.saturating_sub(1) * WIDTH);
        let (full, _) = full.as_chunks_mut();
        for i in 0..N {
            let mut block = _mm512_xor_si512(blocks[i], stream[i]);
            if let Some(to) = full.get_mut(i) {
                store(to, block);
            } else {
                block = _mm512_maskz_mov_epi8(mask(last_len), block);
                store_part(end, block);
            }
            if !OPENS {
                last.add(i, block);
            }
        }
        if N == 0 {
            last.product = last.product.add(hash, self.first_power());
        }
        _mm512_castsi512_si128(_mm512_xor_si512(pad[0], reverse(last.product.sum())))
    }

    /// AES of some blocks, and meanwhile the hash of a group of others.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn encrypt_and_hash<const N: usize, const M: usize>(
        &self,
        blocks: &mut [__m512i; N],
        more: &mut [__m512i; M],
        hashed: &[[u8; WIDTH]; GROUP],
        powers: &[Block],
        before: __m512i,
    ) -> __m512i {
        let mut hash = Hash::<GROUP> { before, powers: from(powers, 4 * GROUP), product: Product::none() };
        self.encrypt(blocks, more, |i| {
            if let Some(four) = hashed.get(i) {
                hash.add(i, load(four));
            }
        });
        hash.product.sum()
    }

    /// AES of blocks and more blocks, with something else to do while the first nine rounds go on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn encrypt<const N: usize, const M: usize>(
        &self,
        blocks: &mut [__m512i; N],
        more: &mut [__m512i; M],
        mut meanwhile: impl FnMut(usize),
    ) {
        let key = self.round_key(0);
        for block in blocks.iter_mut() {
            *block = _mm512_xor_si512(*block, key);
        }
        for block in more.iter_mut() {
            *block = _mm512_xor_si512(*block, key);
        }
        // The optional rounds come first, so that the others are one run of instructions with `meanwhile` between.
        if self.rounds > 10 {
            self.round(1, blocks, more);
            self.round(2, blocks, more);
        }
        if self.rounds > 12 {
            self.round(3, blocks, more);
            self.round(4, blocks, more);
        }
        for i in 0..9 {
            self.round(i + 5, blocks, more);
            for block in blocks.iter_mut() {
                pin(block);
            }
            meanwhile(i);
        }
        let key = self.round_key(ROUND_KEYS - 1);
        for block in blocks.iter_mut() {
            *block = _mm512_aesenclast_epi128(*block, key);
        }
        for block in more.iter_mut() {
            *block = _mm512_aesenclast_epi128(*block, key);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn round<const N: usize, const M: usize>(
        &self,
        at: usize,
        blocks: &mut [__m512i; N],
        more: &mut [__m512i; M],
    ) {
        let key = self.round_key(at);
        for block in blocks.iter_mut() {
            *block = _mm512_aesenc_epi128(*block, key);
        }
        for block in more.iter_mut() {
            *block = _mm512_aesenc_epi128(*block, key);
        }
    }

    /// The hash of the associated data, in the lowest block. The data channel's has 8 or 12 bytes, which were written
    /// just now: those are read as 8 and 4, as they were written, or they had to reach the cache first.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn hash_aad(&self, aad: &[u8]) -> __m512i {
        if let 8 | 12 = aad.len()
            && let Some((first, rest)) = aad.split_first_chunk::<8>()
        {
            let rest = rest.first_chunk::<4>().map_or(0, |rest| i64::from(u32::from_be_bytes(*rest)) << 32);
            let block = _mm512_zextsi128_si512(_mm_set_epi64x(i64::from_be_bytes(*first), rest));
            return Product::none().add(block, self.first_power()).reduce();
        }
        let mut hash = _mm512_setzero_si512();
        for block in aad.chunks(16) {
            let block = reverse(_mm512_zextsi128_si512(load_block_part(block)));
            hash = Product::none().add(_mm512_xor_si512(hash, block), self.first_power()).reduce();
        }
        hash
    }

    /// H in the lowest place.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn first_power(&self) -> __m512i {
        _mm512_zextsi128_si512(load_block(&self.few[FEW - 1]))
    }

    /// In all four places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn round_key(&self, at: usize) -> __m512i {
        _mm512_broadcast_i32x4(load_block(&self.round_keys[at]))
    }
}

/// H to the power of `highest` and those below it.
#[inline]
fn from<const N: usize>(powers: &[Block], highest: usize) -> &[[Block; 4]; N] {
    let (fours, _) = powers[powers.len() - ZEROS - highest..].as_chunks();
    fours.first_chunk().unwrap_or(&[[[0; 16]; 4]; N])
}

/// The powers of `h`, the first in the last place.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
fn write_powers(h: __m512i, powers: &mut [Block]) {
    let mut power = h;
    for place in powers.iter_mut().rev() {
        store_block(place, _mm512_castsi512_si128(power));
        power = Product::none().add(power, h).reduce();
    }
}

/// What a packet's last registers need.
struct Rest<'a> {
    counter: Counter,
    pad: __m512i,
    hash: __m512i,
    lengths: Product,
    powers: &'a [Block],
    at: usize,
}

const SWAP: i32 = 0b01_00_11_10;

/// The sum of every block's halves, in both.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
fn halves(blocks: __m512i) -> __m512i {
    _mm512_xor_si512(blocks, _mm512_shuffle_epi32::<SWAP>(blocks))
}

/// The hash of up to `N` times four blocks in the making.
struct Hash<'a, const N: usize> {
    /// The hash of all that comes before, to be added to the first block.
    before: __m512i,
    powers: &'a [[Block; 4]; N],
    product: Product,
}

impl<const N: usize> Hash<'_, N> {
    /// Adds the four blocks at `at`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn add(&mut self, at: usize, four: __m512i) {
        let mut four = reverse(four);
        if at == 0 {
            four = _mm512_xor_si512(four, self.before);
        }
        self.product = self.product.add(four, load_four(&self.powers[at]));
        let Product { low, middle, high } = &mut self.product;
        pin(low);
        pin(middle);
        pin(high);
    }
}

/// The group from `at` on.
#[inline]
fn group(text: &[u8], at: usize) -> &[[u8; WIDTH]; GROUP] {
    text[at..at + GROUP_LEN].as_chunks().0.first_chunk().unwrap_or(&[[0; WIDTH]; GROUP])
}

/// The bytes of every block in reverse.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
fn reverse(blocks: __m512i) -> __m512i {
    let order = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0A0B_0C0D_0E0F));
    _mm512_shuffle_epi8(blocks, order)
}

/// Four counter blocks, the count in the machine's byte order.
#[derive(Clone, Copy)]
struct Counter(__m512i);

impl Counter {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn new(nonce: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = nonce;
        let low = i64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let high = i64::from(u32::from_le_bytes(rest));
        let nonce = _mm512_broadcast_i32x4(_mm_set_epi64x(high, low));
        Self(_mm512_add_epi32(nonce, _mm512_set_epi32(4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0)))
    }

    /// The block of the tag, in the lowest place; data begins with the next.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn first(&mut self) -> __m512i {
        let first = self.0;
        self.advance(1);
        Self::bytes(first)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn take<const N: usize>(&mut self) -> [__m512i; N] {
        let mut blocks = [self.0; N];
        for block in &mut blocks {
            *block = Self::bytes(self.0);
            self.advance(4);
        }
        blocks
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn advance(&mut self, by: i32) {
        let step = _mm512_set_epi32(by, 0, 0, 0, by, 0, 0, 0, by, 0, 0, 0, by, 0, 0, 0);
        self.0 = _mm512_add_epi32(self.0, step);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn bytes(blocks: __m512i) -> __m512i {
        let order = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0C0D_0E0F_0B0A_0908, 0x0706_0504_0302_0100));
        _mm512_shuffle_epi8(blocks, order)
    }
}

/// Products of four pairs of blocks, or sums of such, before the reduction: low halves, sums of both halves, high halves.
#[derive(Clone, Copy)]
struct Product {
    low: __m512i,
    middle: __m512i,
    high: __m512i,
}

impl Product {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn none() -> Self {
        let zero = _mm512_setzero_si512();
        Self { low: zero, middle: zero, high: zero }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn add(self, a: __m512i, b: __m512i) -> Self {
        let middle = _mm512_clmulepi64_epi128::<0x00>(halves(a), halves(b));
        Self {
            low: _mm512_xor_si512(self.low, _mm512_clmulepi64_epi128::<0x00>(a, b)),
            middle: _mm512_xor_si512(self.middle, middle),
            high: _mm512_xor_si512(self.high, _mm512_clmulepi64_epi128::<0x11>(a, b)),
        }
    }

    /// Four blocks: from the low end, 64 bits at a time are taken off by adding the polynomial's multiple.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn reduce(self) -> __m512i {
        let crosswise = _mm512_xor_si512(self.middle, _mm512_xor_si512(self.low, self.high));
        let fold = _mm512_set1_epi64(FOLD);
        let off = _mm512_clmulepi64_epi128::<0x00>(self.low, fold);
        let middle = _mm512_xor_si512(crosswise, _mm512_shuffle_epi32::<SWAP>(self.low));
        let middle = _mm512_xor_si512(middle, off);
        let off = _mm512_clmulepi64_epi128::<0x00>(middle, fold);
        let high = _mm512_xor_si512(self.high, _mm512_shuffle_epi32::<SWAP>(middle));
        _mm512_xor_si512(high, off)
    }

    /// The four blocks' sum, in the lowest place, with zeros above.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,aes,vaes,vpclmulqdq")]
    fn sum(self) -> __m512i {
        let four = self.reduce();
        let two = _mm256_xor_si256(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64::<1>(four));
        let one = _mm_xor_si128(_mm256_castsi256_si128(two), _mm256_extracti128_si256::<1>(two));
        _mm512_zextsi128_si512(one)
    }
}

/// AES's key schedule (FIPS 197), word by word, with the processor's own substitution: no tables.
#[target_feature(enable = "aes")]
fn expand_key(key: &[u8], round_keys: &mut [u8]) {
    let substitute = |word: u32| {
        let words = _mm_aeskeygenassist_si128::<0>(_mm_set1_epi32(word.cast_signed()));
        _mm_cvtsi128_si32(words).cast_unsigned()
    };
    let (words, _) = round_keys.as_chunks_mut::<4>();
    let (key, _) = key.as_chunks::<4>();
    words[..key.len()].copy_from_slice(key);
    let mut constant = 1u8;
    for at in key.len()..4 * (key.len() + 7) {
        let mut word = u32::from_le_bytes(words[at - 1]);
        if at % key.len() == 0 {
            word = substitute(word).rotate_right(8) ^ u32::from(constant);
            constant = (constant << 1) ^ ((constant >> 7) * 0x1B);
        } else if key.len() == 8 && at % 8 == 4 {
            word = substitute(word);
        }
        words[at] = (word ^ u32::from_le_bytes(words[at - key.len()])).to_le_bytes();
    }
}
