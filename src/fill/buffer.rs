//! Memory for results: aligned, uninitialized, in huge pages where they pay. The only code that allocates.

use crate::error::{Error, Result};
use std::alloc::{Layout, alloc, dealloc};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Every buffer begins at a multiple of a cache line, which is also what XLA asks of memory that it borrows.
pub const ALIGNMENT: usize = 64;

/// A type of that alignment.
#[repr(align(64))]
struct Line;

/// Buffers of this size and more begin at a multiple of a huge page and ask for such pages: faulting 4 KiB pages in one by one
/// would take longer than filling them. The size is NumPy's own threshold.
const HUGE_FROM: usize = 4 << 20;
const HUGE_PAGE: usize = 2 << 20;

/// Memory for a result: aligned to [`ALIGNMENT`], uninitialized, freed on drop.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory belongs to the buffer alone, and no method changes it through a shared reference.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Room for `bytes` bytes; none are needed for zero.
    ///
    /// # Errors
    /// [`Error::Memory`] where the system has not as much, or the size is no possible one.
    pub fn new(bytes: usize) -> Result<Buffer> {
        let failed = Error::Memory { bytes };
        let alignment = if bytes < HUGE_FROM { ALIGNMENT } else { HUGE_PAGE };
        let layout = Layout::from_size_align(bytes, alignment).map_err(|_| failed.clone())?;
        if bytes == 0 {
            return Ok(Buffer { start: NonNull::<Line>::dangling().cast(), layout });
        }
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) }).ok_or(failed)?;
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_FROM {
            // SAFETY: advice about the whole pages of memory that is ours; it changes no content. Refusal costs only speed.
            unsafe { libc::madvise(start.as_ptr().cast(), bytes & !4095, libc::MADV_HUGEPAGE) };
        }
        Ok(Buffer { start, layout })
    }

    /// Its first byte; dangling, but aligned, where there are none.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.layout.size()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its memory as elements, as many as fit. `T` must not need more alignment than [`ALIGNMENT`].
    pub fn as_uninit_slice<T>(&mut self) -> &mut [MaybeUninit<T>] {
        const { assert!(align_of::<T>() <= ALIGNMENT && size_of::<T>() > 0) };
        // SAFETY: the memory is ours alone for as long as `self` is borrowed, aligned for `T`, and long enough.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len() / size_of::<T>()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.is_empty() {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_impossible_ones_refused() {
        for bytes in [0, 1, 63, 64, 1000, HUGE_FROM - 1, HUGE_FROM, HUGE_FROM + 1] {
            let mut buffer = Buffer::new(bytes).unwrap();
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % ALIGNMENT), (bytes, 0));
            buffer.as_uninit_slice::<u8>().fill(MaybeUninit::new(1));
            assert_eq!(buffer.as_uninit_slice::<f64>().len(), bytes / 8);
        }
        for bytes in [usize::MAX, isize::MAX as usize, 1 << 60] {
            assert_eq!(Buffer::new(bytes).unwrap_err(), Error::Memory { bytes });
        }
    }
}
