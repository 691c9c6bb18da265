//! ChaCha20's key stream (RFC 8439, section 2.3), up to 28 blocks at once.
//!
//! ```text
//!   rows, four blocks to a set:            columns, sixteen blocks:
//!     a ┌ 0..3 ┬ 0..3 ┬ 0..3 ┬ 0..3 ┐         0 ┌ word 0 of block 0 ┬ of block 1 ┬ … ┬ of block 15 ┐
//!     b │ 4..7 │ 4..7 │ 4..7 │ 4..7 │         1 │ word 1            │            │   │             │
//!     c │ 8..  │ 8..  │ 8..  │ 8..  │         ⋮
//!     d └12..15┴12..15┴12..15┴12..15┘        15 └ word 15           ┴            ┴   ┴             ┘
//!         block 0   1      2      3
//! ```
//!
//! Columns take fewest instructions, for rows must be shifted against each other in every round; sets of rows are
//! soonest done with few blocks. A few sets go through the rounds together with the columns and fill the gaps between
//! instructions that wait for one another; of the 32 registers 28 hold a state.

use std::arch::x86_64::{
    __m512i, _mm_set_epi32, _mm256_extract_epi64, _mm512_add_epi32, _mm512_broadcast_i32x4,
    _mm512_castsi512_si256, _mm512_rol_epi32, _mm512_set_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_shuffle_epi32, _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use crate::aead::lanes::{load, load_block, load_part, store, store_part};
use crate::aead::text::Text;

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;
/// The first four words, "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646E, 0x7962_2D32, 0x6B20_6574];

/// Key and nonce.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    /// The key.
    pub(super) key: &'a [u8; 32],
    /// The nonce.
    pub(super) nonce: [u8; 12],
}

impl Start<'_> {
    /// The word at `index` of the blocks' first states; the counter is zero.
    #[inline]
    fn word(&self, index: usize) -> u32 {
        let words = |bytes: &[u8], index: usize| {
            bytes.as_chunks::<4>().0.get(index).map_or(0, |w| u32::from_le_bytes(*w))
        };
        match index {
            0..4 => CONSTANTS[index],
            4..12 => words(self.key, index - 4),
            12 => 0,
            _ => words(&self.nonce, index - 13),
        }
    }

    /// The rows of four blocks from `counter` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn rows(&self, counter: u32) -> [__m512i; 4] {
        let [c0, c1, c2, c3] = CONSTANTS.map(u32::cast_signed);
        let [n0, n1, n2] = [self.word(13), self.word(14), self.word(15)].map(u32::cast_signed);
        let (key, _) = self.key.as_chunks::<16>();
        let numbers = _mm512_set_epi32(0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0);
        let last = _mm512_broadcast_i32x4(_mm_set_epi32(n2, n1, n0, counter.cast_signed()));
        [
            _mm512_broadcast_i32x4(_mm_set_epi32(c3, c2, c1, c0)),
            _mm512_broadcast_i32x4(load_block(&key[0])),
            _mm512_broadcast_i32x4(load_block(&key[1])),
            _mm512_add_epi32(last, numbers),
        ]
    }

    /// The word at `index` of sixteen blocks from `counter` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn column(&self, index: usize, counter: u32) -> __m512i {
        if index == 12 {
            let numbers = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
            return _mm512_add_epi32(_mm512_set1_epi32(counter.cast_signed()), numbers);
        }
        _mm512_set1_epi32(self.word(index).cast_signed())
    }
}

/// A quarter of a quarter round, at three registers of a state: `a += b; d = (d ^ a) <<< LEFT`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn mix<const LEFT: i32, const N: usize>(state: &mut [__m512i; N], a: usize, b: usize, d: usize) {
    state[a] = _mm512_add_epi32(state[a], state[b]);
    state[d] = _mm512_rol_epi32::<LEFT>(_mm512_xor_si512(state[d], state[a]));
}

/// One round of everything; `turn` is 1 where the columns' diagonals are meant. (Rows are turned beforehand.)
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn round<const SETS: usize, const COLUMNS: bool>(
    rows: &mut [[__m512i; 4]; SETS],
    columns: &mut [__m512i; 16],
    turn: usize,
) {
    macro_rules! quarter {
        ($left:literal, $a:expr, $b:expr, $d:expr) => {
            for set in rows.iter_mut() {
                mix::<$left, 4>(set, $a, $b, $d);
            }
            if COLUMNS {
                for i in 0..4 {
                    let at = |row: usize| 4 * row + (i + row * turn) % 4;
                    mix::<$left, 16>(columns, at($a), at($b), at($d));
                }
            }
        };
    }
    quarter!(16, 0, 1, 3);
    quarter!(12, 2, 3, 1);
    quarter!(8, 0, 1, 3);
    quarter!(7, 2, 3, 1);
}

/// Turns four registers of four 16-byte lanes: lane `i` of register `j` becomes lane `j` of register `i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn turn([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_low, cd_low) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d));
    let (ab_high, cd_high) = (_mm512_shuffle_i32x4::<0xEE>(a, b), _mm512_shuffle_i32x4::<0xEE>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0xDD>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xDD>(ab_high, cd_high),
    ]
}

/// Encrypts the text's block of this number, however much of it there is.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn encrypt(text: &mut Text<'_>, number: usize, stream: __m512i) {
    let (blocks, rest) = text.source().as_chunks::<BLOCK>();
    if let Some(block) = blocks.get(number) {
        let block = _mm512_xor_si512(load(block), stream);
        if let Some(target) = text.target().as_chunks_mut::<BLOCK>().0.get_mut(number) {
            store(target, block);
        }
    } else if number == blocks.len() && !rest.is_empty() {
        let rest = _mm512_xor_si512(load_part(rest), stream);
        store_part(text.target().as_chunks_mut::<BLOCK>().1, rest);
    }
}

/// Encrypts what the key stream's blocks from `counter` on are for, `4 * SETS` of them and sixteen more where
/// `COLUMNS`. The text begins with block 1; of block 0 the first words are given back, which are Poly1305's key.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn pass<const SETS: usize, const COLUMNS: bool>(
    start: Start<'_>,
    counter: u32,
    text: &mut Text<'_>,
) -> [u64; 4] {
    let mut rows = [[_mm512_setzero_si512(); 4]; SETS];
    let mut columns = [_mm512_setzero_si512(); 16];
    let column_counter = counter.wrapping_add(4 * SETS as u32);
    for (set, rows) in (0..).zip(&mut rows) {
        *rows = start.rows(counter.wrapping_add(4 * set));
    }
    if COLUMNS {
        for (index, column) in columns.iter_mut().enumerate() {
            *column = start.column(index, column_counter);
        }
    }
    for _ in 0..10 {
        round::<SETS, COLUMNS>(&mut rows, &mut columns, 0);
        // The second row, last to be ready, stays where it is, and the others are turned against it.
        for [a, _, c, d] in &mut rows {
            *a = _mm512_shuffle_epi32::<0x93>(*a);
            *c = _mm512_shuffle_epi32::<0x39>(*c);
            *d = _mm512_shuffle_epi32::<0x4E>(*d);
        }
        round::<SETS, COLUMNS>(&mut rows, &mut columns, 1);
        for [a, _, c, d] in &mut rows {
            *a = _mm512_shuffle_epi32::<0x39>(*a);
            *c = _mm512_shuffle_epi32::<0x93>(*c);
            *d = _mm512_shuffle_epi32::<0x4E>(*d);
        }
    }

    let number = counter as usize;
    let mut first = [0; 4];
    for (set, rows) in rows.iter().enumerate() {
        let begun = start.rows(counter.wrapping_add(4 * set as u32));
        let mut ended = *rows;
        for (ended, begun) in ended.iter_mut().zip(begun) {
            *ended = _mm512_add_epi32(*ended, begun);
        }
        let blocks = turn(ended);
        for (i, block) in blocks.into_iter().enumerate() {
            match (number + 4 * set + i).checked_sub(1) {
                Some(number) => encrypt(text, number, block),
                None => first = words(block),
            }
        }
    }
    if COLUMNS {
        for (index, column) in columns.iter_mut().enumerate() {
            *column = _mm512_add_epi32(*column, start.column(index, column_counter));
        }
        // After this, register `4 * g + i` holds words 4g to 4g + 3 of blocks i, 4 + i, 8 + i and 12 + i.
        for g in 0..4 {
            let [a, b, c, d] = [columns[4 * g], columns[4 * g + 1], columns[4 * g + 2], columns[4 * g + 3]];
            let (ab_low, cd_low) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            columns[4 * g] = _mm512_unpacklo_epi64(ab_low, cd_low);
            columns[4 * g + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
            columns[4 * g + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
            columns[4 * g + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
        }
        let number = number + 4 * SETS - 1;
        for i in 0..4 {
            let blocks = turn([columns[i], columns[4 + i], columns[8 + i], columns[12 + i]]);
            for (lane, block) in blocks.into_iter().enumerate() {
                encrypt(text, number + 4 * lane + i, block);
            }
        }
    }
    first
}

/// Encrypts (or decrypts) a text with blocks 1 and following, and gives the first words of block 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn apply(start: Start<'_>, text: &mut Text<'_>) -> [u64; 4] {
    let mut left = 1 + text.source().len().div_ceil(BLOCK);
    let (mut counter, mut key) = (0, [0; 4]);
    loop {
        let (first, done) = match left {
            0..=4 => (pass::<1, false>(start, counter, text), 4),
            5..=8 => (pass::<2, false>(start, counter, text), 8),
            9..=12 => (pass::<3, false>(start, counter, text), 12),
            13..=20 => (pass::<1, true>(start, counter, text), 20),
            21..=24 => (pass::<2, true>(start, counter, text), 24),
            _ => (pass::<3, true>(start, counter, text), 28),
        };
        if counter == 0 {
            key = first;
        }
        counter = counter.wrapping_add(done);
        left = left.saturating_sub(done as usize);
        if left == 0 {
            return key;
        }
    }
}

/// The first four words of a block, 64 bits each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn words(block: __m512i) -> [u64; 4] {
    let words = _mm512_castsi512_si256(block);
    [
        _mm256_extract_epi64::<0>(words).cast_unsigned(),
        _mm256_extract_epi64::<1>(words).cast_unsigned(),
        _mm256_extract_epi64::<2>(words).cast_unsigned(),
        _mm256_extract_epi64::<3>(words).cast_unsigned(),
    ]
}
