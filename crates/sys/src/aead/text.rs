//! What a cipher works on.

/// Where the data comes from and where it goes: two buffers of one length, or one.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "nobody reads it there"))]
pub(super) enum Text<'a> {
    Apart { source: &'a [u8], target: &'a mut [u8] },
    InPlace(&'a mut [u8]),
}

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "nobody reads it there"))]
impl Text<'_> {
    #[inline]
    pub(super) fn source(&self) -> &[u8] {
        match self {
            Self::Apart { source, .. } => source,
            Self::InPlace(text) => text,
        }
    }

    #[inline]
    pub(super) fn target(&mut self) -> &mut [u8] {
        match self {
            Self::Apart { target, .. } => target,
            Self::InPlace(text) => text,
        }
    }
}
