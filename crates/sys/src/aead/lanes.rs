//! Bytes into 512-bit registers and back: the only places of the ciphers that touch memory by address.

use std::arch::asm;
use std::arch::x86_64::{
    __m128i, __m512i, _mm_loadu_si128, _mm_maskz_loadu_epi8, _mm_storeu_si128, _mm512_loadu_si512,
    _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_storeu_si512,
};

/// Bytes of a register.
pub(super) const WIDTH: usize = 64;

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(bytes: &[u8; WIDTH]) -> __m512i {
    // SAFETY: all 64 bytes read are the array's; the load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(bytes: &mut [u8; WIDTH], value: __m512i) {
    // SAFETY: all 64 bytes written are the array's; the store asks for no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), value) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_four(blocks: &[[u8; 16]; 4]) -> __m512i {
    // SAFETY: all 64 bytes read are the array's; the load asks for no alignment.
    unsafe { _mm512_loadu_si512(blocks.as_ptr().cast()) }
}

/// No instruction at all, but a place in the order of instructions: what `value` is computed from comes before, what
/// is computed from it after, and no two such places are exchanged. So two independent computations stay interleaved
/// as written, where the compiler would put one behind the other.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn pin(value: &mut __m512i) {
    // SAFETY: the text is empty: nothing is read, written or changed.
    unsafe { asm!("/* {0} */", inout(zmm_reg) * value, options(nomem, nostack, preserves_flags)) };
}

/// The lowest `len` bytes, all of them from 64 on.
#[inline]
pub(super) fn mask(len: usize) -> u64 {
    u64::MAX.checked_shr(WIDTH.saturating_sub(len) as u32).unwrap_or(0)
}

/// At most the first 64 bytes, with zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn load_part(bytes: &[u8]) -> __m512i {
    // SAFETY: bytes beyond the slice have no bit in the mask and are not read; the load asks for no alignment.
    unsafe { _mm512_maskz_loadu_epi8(mask(bytes.len()), bytes.as_ptr().cast()) }
}

/// At most the first 64 bytes; the rest of `value` is dropped.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn store_part(bytes: &mut [u8], value: __m512i) {
    // SAFETY: bytes beyond the slice have no bit in the mask and are not written; the store asks for no alignment.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask(bytes.len()), value) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_block(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: all 16 bytes read are the array's; the load asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_block(bytes: &mut [u8; 16], value: __m128i) {
    // SAFETY: all 16 bytes written are the array's; the store asks for no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) }
}

/// At most the first 16 bytes, with zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn load_block_part(bytes: &[u8]) -> __m128i {
    // SAFETY: bytes beyond the slice have no bit in the mask and are not read; the load asks for no alignment.
    unsafe { _mm_maskz_loadu_epi8(mask(bytes.len()) as u16, bytes.as_ptr().cast()) }
}
