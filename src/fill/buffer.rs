//! Memory for results and intermediate results: aligned, and in huge pages if it is large. Only this file
//! allocates memory in proportion to a tensor.

use crate::dtype::Element;
use crate::error::{Error, Result};
use ndarray::ArrayViewMutD;
use std::alloc::{Layout, alloc, dealloc};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
#[cfg(target_os = "linux")]
use std::sync::Mutex;

/// Every buffer begins at a cache line, as XLA requires of memory that it borrows.
pub const ALIGNMENT: usize = 64;

/// A type of that alignment.
#[repr(align(64))]
struct Line;

/// Buffers of at least this size begin at a huge page and request huge pages: page faults for pages of 4 KiB
/// would take longer than the fill.
#[cfg(any(test, target_os = "linux"))]
const HUGE_FROM: usize = HUGE_PAGE;
#[cfg(any(test, target_os = "linux"))]
const HUGE_PAGE: usize = 2 << 20;

/// Freed buffers of [`HUGE_FROM`] or more are kept for new ones of the same size, up to this many bytes in all.
/// The system takes their pages where it needs them.
#[cfg(target_os = "linux")]
const KEPT: usize = 64 << 20;

/// Memory for a result: aligned to [`ALIGNMENT`], uninitialized or zero, freed on drop.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
    origin: Origin,
}

/// Proof that the system has zeroed some memory and nothing has been written to it since.
#[derive(Clone, Copy, Debug)]
pub struct Untouched(());

/// Where the memory of a buffer comes from, and is returned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// There is no memory.
    Empty,
    /// The allocator, which gave this block; the buffer begins at the first multiple of [`ALIGNMENT`] in it.
    /// A request for the alignment would take several times as long: glibc caches small blocks only for plain
    /// requests.
    Heap { block: NonNull<u8> },
    /// The system: whole pages, zeroed when they are first touched unless an earlier buffer has `used` them.
    #[cfg(target_os = "linux")]
    Pages { used: bool },
}

// SAFETY: the buffer owns its memory, and no method changes it through a shared reference.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// As [`Buffer::new`], in the memory of a freed buffer if one of this size is kept: huge pages that the system
    /// must find and zero take up to a third of the time of a fill.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    #[cfg(feature = "python")]
    pub fn reused(bytes: usize) -> Result<Buffer> {
        #[cfg(target_os = "linux")]
        if let Some(start) = SPARES.try_lock().ok().and_then(|mut spares| spares.take(bytes)) {
            return Ok(Buffer { start, bytes, origin: Origin::Pages { used: true } });
        }
        Buffer::new(bytes)
    }

    /// Memory of `bytes` bytes; nothing is allocated for zero.
    ///
    /// # Errors
    /// [`Error::Memory`] where it cannot be allocated.
    pub fn new(bytes: usize) -> Result<Buffer> {
        if bytes == 0 {
            return Ok(Buffer { start: NonNull::<Line>::dangling().cast(), bytes, origin: Origin::Empty });
        }
        #[cfg(target_os = "linux")]
        if bytes >= HUGE_FROM {
            let start = map(bytes).ok_or(Error::Memory { bytes })?;
            return Ok(Buffer { start, bytes, origin: Origin::Pages { used: false } });
        }
        let no_memory = || Error::Memory { bytes };
        let layout = heap_layout(bytes).ok_or_else(no_memory)?;
        // SAFETY: the size is not zero.
        let block = NonNull::new(unsafe { alloc(layout) }).ok_or_else(no_memory)?;
        // SAFETY: less than the alignment, by which the block is larger than the buffer.
        let start = unsafe { block.add(block.align_offset(ALIGNMENT)) };
        Ok(Buffer { start, bytes, origin: Origin::Heap { block } })
    }

    /// Its first byte; dangling, but aligned, where there are none.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Proof that the system has zeroed the memory; `None` if it has not.
    ///
    /// # Safety
    /// Nothing may have been written to the memory yet, and the result may be used for one fill of all of it
    /// only.
    #[cfg(any(feature = "python", all(test, target_os = "linux")))]
    pub unsafe fn untouched(&self) -> Option<Untouched> {
        match self.origin {
            Origin::Heap { .. } => None,
            #[cfg(target_os = "linux")]
            Origin::Pages { used: true } => None,
            _ => Some(Untouched(())),
        }
    }

    /// Its memory as elements, as many as fit. `T` must not need more alignment than [`ALIGNMENT`].
    pub fn as_uninit_slice<T>(&mut self) -> &mut [MaybeUninit<T>] {
        const { assert!(align_of::<T>() <= ALIGNMENT && size_of::<T>() > 0) };
        // SAFETY: the memory is owned by `self`, which is mutably borrowed, aligned for `T`, and long enough.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.bytes / size_of::<T>()) }
    }
}

/// Memory for intermediate results: numbers, initially zero.
#[derive(Debug)]
pub(crate) struct Scratch {
    buffer: Buffer,
    used: bool,
}

impl Scratch {
    /// Memory of `bytes` bytes.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub(crate) fn new(bytes: usize) -> Result<Scratch> {
        let mut buffer = Buffer::new(bytes)?;
        if bytes > 0 {
            super::limits::check_small()?;
        }
        if matches!(buffer.origin, Origin::Heap { .. }) {
            buffer.as_uninit_slice::<u8>().fill(MaybeUninit::new(0));
        }
        Ok(Scratch { buffer, used: false })
    }

    /// The memory as rows of numbers, and whether all of them are still zero.
    pub(crate) fn rows<T: Element, const N: usize>(&mut self) -> (&mut [[T; N]], bool) {
        const { assert!(align_of::<T>() <= ALIGNMENT && size_of::<T>() > 0 && N > 0) };
        let zero = !std::mem::replace(&mut self.used, true);
        let length = self.buffer.len() / size_of::<[T; N]>();
        // SAFETY: the memory is initialized, aligned for `T`, long enough and owned by `self`, which is
        // mutably borrowed; any bits are a number in every format.
        (unsafe { std::slice::from_raw_parts_mut(self.buffer.as_ptr().cast(), length) }, zero)
    }
}

/// The layout of a block in which a buffer of this size can be aligned; `None` where the size is too large
/// for one.
fn heap_layout(bytes: usize) -> Option<Layout> {
    Layout::array::<u8>(bytes.checked_add(ALIGNMENT)?).ok()
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.origin {
            Origin::Empty => {}
            Origin::Heap { block } => {
                if let Some(layout) = heap_layout(self.bytes) {
                    // SAFETY: allocated in `new` with this layout.
                    unsafe { dealloc(block.as_ptr(), layout) };
                }
            }
            #[cfg(target_os = "linux")]
            Origin::Pages { .. } => {
                let spare = Spare { start: self.start, size: self.bytes.next_multiple_of(PAGE) };
                if let Ok(mut spares) = SPARES.try_lock() {
                    spares.keep(spare);
                }
            }
        }
    }
}

/// The whole pages of a freed buffer, which nothing refers to; unmapped on drop.
#[cfg(target_os = "linux")]
struct Spare {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: owns its memory.
#[cfg(target_os = "linux")]
unsafe impl Send for Spare {}

/// Freed buffers for new ones, the oldest first.
#[cfg(target_os = "linux")]
struct Spares(Vec<Spare>);

/// Those of the process. Whoever finds them locked does without: a fork copies the lock as it is.
#[cfg(target_os = "linux")]
static SPARES: Mutex<Spares> = Mutex::new(Spares(Vec::new()));

#[cfg(target_os = "linux")]
impl Spares {
    /// Keeps the memory for [`Spares::take`], instead of older memory if there is too much.
    fn keep(&mut self, spare: Spare) {
        // A forked process gets empty pages. Shared ones would be copied, one by one, when either writes.
        if spare.size <= KEPT && spare.advise(libc::MADV_WIPEONFORK) && spare.advise(libc::MADV_FREE) {
            self.0.push(spare);
            while self.0.iter().map(|spare| spare.size).sum::<usize>() > KEPT {
                self.0.remove(0);
            }
        }
    }

    /// The memory that was kept last of that for buffers of this size.
    #[cfg(any(test, feature = "python"))]
    fn take(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        if !(HUGE_FROM..=KEPT).contains(&bytes) {
            return None;
        }
        let number = self.0.iter().rposition(|spare| spare.size == bytes.next_multiple_of(PAGE))?;
        let spare = self.0.remove(number);
        // The next user's data must not be missing in a forked process.
        spare.advise(libc::MADV_KEEPONFORK).then(|| std::mem::ManuallyDrop::new(spare).start)
    }
}

#[cfg(target_os = "linux")]
impl Spare {
    /// Whether the system took this advice.
    fn advise(&self, advice: i32) -> bool {
        // SAFETY: whole pages that nothing refers to, so their content does not matter.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.size, advice) == 0 }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Spare {
    fn drop(&mut self) {
        // SAFETY: whole pages that nothing refers to.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// Sizes are rounded up to this, a multiple of every page size of Linux.
#[cfg(target_os = "linux")]
const PAGE: usize = 64 << 10;

/// Untouched memory that begins at a huge page, in huge pages where the system allows it.
#[cfg(target_os = "linux")]
fn map(bytes: usize) -> Option<NonNull<u8>> {
    let size = bytes.checked_next_multiple_of(PAGE)?;
    let room = size.checked_add(HUGE_PAGE)?;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: maps new memory at an address of the system's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), room, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    let before = (start as usize).next_multiple_of(HUGE_PAGE) - start as usize;
    let after = HUGE_PAGE - before;
    // SAFETY: unmaps what lies before and after the aligned part, to which there are no references; all three
    // are whole pages of the new mapping. The advice does not change the content; if it is refused, only
    // speed is lost.
    unsafe {
        let aligned = start.byte_add(before);
        if before > 0 {
            libc::munmap(start, before);
        }
        if after > 0 {
            libc::munmap(aligned.byte_add(size), after);
        }
        libc::madvise(aligned, size, libc::MADV_HUGEPAGE);
        NonNull::new(aligned.cast())
    }
}

/// Requests huge pages for the part of an output that has no pages yet, if it is large and contiguous: other
/// allocators seldom do. The content does not change.
pub(super) fn prefer_huge_pages<T>(out: &mut ArrayViewMutD<'_, MaybeUninit<T>>) {
    #[cfg(target_os = "linux")]
    if out.len() * size_of::<T>() >= HUGE_FROM
        && let Some(memory) = out.as_slice_memory_order_mut()
    {
        let range = memory.as_mut_ptr_range();
        let start = range.start.addr().next_multiple_of(PAGE);
        let size = (range.end.addr() - start) / PAGE * PAGE;
        // SAFETY: whole pages within memory that is mutably borrowed. The advice does not change the content;
        // if it is refused, only speed is lost.
        unsafe { libc::madvise(range.start.with_addr(start).cast(), size, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = out;
}

/// Makes the system find and zero the pages of the memory from address `start` on before they are written to,
/// if they are not there: one by one, at the first write to each, takes longer. The content does not change. Does
/// nothing where the system cannot do that (Linux before 5.14), or where little would be gained.
pub(super) fn populate(start: usize, bytes: usize) {
    #[cfg(target_os = "linux")]
    if bytes >= POPULATE_FROM {
        let (first, end) = (start.next_multiple_of(PAGE), (start + bytes) / PAGE * PAGE);
        let (first, last) =
            (std::ptr::without_provenance_mut(first), std::ptr::without_provenance_mut(end - PAGE));
        let mut is_there = 0_u8;
        // SAFETY: no call changes memory besides `is_there`, which has room for the one page that is asked for.
        unsafe {
            if libc::mincore(last, 1, &raw mut is_there) == 0 && is_there & 1 == 0 {
                libc::madvise(first, end - first.addr(), libc::MADV_POPULATE_WRITE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}

/// Less memory than this is not worth the calls: also where all pages are there, they take two microseconds.
#[cfg(target_os = "linux")]
const POPULATE_FROM: usize = 1 << 20;

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

    /// The length, and whether all bytes are zero.
    #[cfg(target_os = "linux")]
    fn content(buffer: &mut Buffer) -> (usize, bool) {
        // SAFETY: mapped memory is initialized.
        let zero = buffer.as_uninit_slice::<u8>().iter().all(|byte| unsafe { byte.assume_init() } == 0);
        (buffer.len(), zero)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_newest_freed_memory_is_kept_for_its_size() {
        let sizes = [HUGE_FROM + PAGE, HUGE_FROM + 3 * PAGE, KEPT - HUGE_FROM, KEPT + PAGE];
        let mut spares = Spares(Vec::new());
        for size in sizes {
            spares.keep(Spare { start: map(size).unwrap(), size });
        }
        // The third one had no room beside the others, and the last one alone has none.
        for (size, kept) in sizes.into_iter().zip([false, false, true, false]) {
            assert!(spares.take(size - PAGE).is_none(), "{size}");
            let taken = spares.take(size - 1);
            assert_eq!(taken.is_some(), kept, "{size}");
            drop(taken.map(|start| Spare { start, size }));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_memory_of_the_system_is_called_untouched() {
        for bytes in [1, HUGE_FROM, KEPT] {
            let mut buffer = Buffer::new(bytes).unwrap();
            // SAFETY: only looked at.
            let untouched = unsafe { buffer.untouched() };
            assert_eq!(untouched.is_some(), bytes >= HUGE_FROM);
            assert!(untouched.is_none() || content(&mut buffer) == (bytes, true));
        }
        let (start, bytes) = (map(HUGE_FROM).unwrap(), HUGE_FROM);
        let used = Buffer { start, bytes, origin: Origin::Pages { used: true } };
        // SAFETY: only looked at.
        assert!(unsafe { used.untouched() }.is_none());
    }

    #[test]
    fn populating_changes_nothing() {
        for bytes in [0, 1, (1 << 20) + 1, HUGE_FROM, HUGE_FROM + 12345] {
            let mut buffer = Buffer::new(bytes).unwrap();
            populate(buffer.as_ptr().addr(), bytes);
            buffer.as_uninit_slice::<u8>().fill(MaybeUninit::new(7));
            populate(buffer.as_ptr().addr(), bytes);
            // SAFETY: all bytes are written.
            assert!(buffer.as_uninit_slice::<u8>().iter().all(|byte| unsafe { byte.assume_init() } == 7));
        }
        populate(usize::MAX / 2, 1 << 20);
    }
}
