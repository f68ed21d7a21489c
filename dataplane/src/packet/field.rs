//! Big-endian fields at an offset, read and written without panics.

/// The `N` bytes at `at`.
#[inline]
pub(crate) fn bytes<const N: usize>(b: &[u8], at: usize) -> Option<[u8; N]> {
    b.get(at..)?.first_chunk::<N>().copied()
}

/// The 16 bits at `at`, in host order.
#[inline]
pub(crate) fn get16(b: &[u8], at: usize) -> Option<u16> {
    bytes(b, at).map(u16::from_be_bytes)
}

/// The 32 bits at `at`, in host order.
#[inline]
pub(crate) fn get32(b: &[u8], at: usize) -> Option<u32> {
    bytes(b, at).map(u32::from_be_bytes)
}

/// Writes `value` at `at`. None, and nothing written, if it does not fit.
#[inline]
pub(crate) fn put<const N: usize>(b: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *b.get_mut(at..)?.first_chunk_mut::<N>()? = value;
    Some(())
}

/// Writes 16 bits at `at`.
#[inline]
pub(crate) fn put16(b: &mut [u8], at: usize, value: u16) -> Option<()> {
    put(b, at, value.to_be_bytes())
}

/// Writes 32 bits at `at`.
#[inline]
pub(crate) fn put32(b: &mut [u8], at: usize, value: u32) -> Option<()> {
    put(b, at, value.to_be_bytes())
}
