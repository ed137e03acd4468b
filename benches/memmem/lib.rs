//! The search of the memchr crate over bytes that lie in one piece, for C's calling convention. Nothing around it.

/// How often `needle` is in the `len` bytes at `bytes`, overlaps not counted.
///
/// # Safety
/// Both point to so many readable bytes, which nobody changes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmem_count(bytes: *const u8, len: usize, needle: *const u8, needle_len: usize) -> usize {
    // SAFETY: as the caller says.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, len) };
    // SAFETY: as the caller says.
    let needle = unsafe { std::slice::from_raw_parts(needle, needle_len) };
    memchr::memmem::find_iter(bytes, needle).count()
}
