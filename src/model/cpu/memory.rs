//! Arrays whose disjoint parts several threads write at the same time.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::Range;

/// Alignment of small arrays in bytes.
///
/// Two cache lines, so that neighboring arrays never share one.
const ALIGN: usize = 128;
/// Alignment of large arrays in bytes, the size of a huge page.
const HUGE: usize = 2 << 20;

/// Zeroed array of plain numbers whose disjoint parts different threads may write at once.
///
/// The phases of a forward pass determine which thread writes what: within a phase no element is
/// written by one thread and accessed by another, and phases are separated by barriers. The unsafe
/// accessors require this of their callers.
#[derive(Debug)]
pub struct Shared<T: Pod> {
    at: *mut T,
    len: usize,
    /// Start of the allocation; `at` is the first aligned address in it.
    base: *mut u8,
    layout: Layout,
}

/// Types for which every bit pattern is a valid value, zero bytes included.
///
/// Implementors are numbers, and structures of numbers without padding.
pub trait Pod: Copy + Send + Sync + 'static {}
impl Pod for u8 {}
impl Pod for u16 {}
impl Pod for f32 {}

// SAFETY: `Shared` owns its memory, and the elements are plain numbers.
#[allow(unsafe_code)]
unsafe impl<T: Pod> Send for Shared<T> {}
// SAFETY: safe methods only read through a shared reference; writers guarantee disjointness (see
// the type).
#[allow(unsafe_code)]
unsafe impl<T: Pod> Sync for Shared<T> {}

#[allow(unsafe_code)]
impl<T: Pod> Shared<T> {
    /// Allocates `len` zeros.
    ///
    /// The system provides pages of a large array when they are first accessed.
    pub fn new(len: usize) -> Self {
        Self::with_align(len, ALIGN).unwrap_or_else(|layout| handle_alloc_error(layout))
    }

    /// Like [`new`](Self::new); `None` if the system cannot provide the memory.
    pub fn try_new(len: usize) -> Option<Self> {
        Self::with_align(len, ALIGN).ok()
    }

    /// Allocates an array that every pass reads sequentially; `None` if memory is unavailable.
    ///
    /// It uses huge pages if the system has them, so that address translations are rare and the
    /// prefetchers do not stop at every 4 KiB.
    pub fn try_streamed(len: usize) -> Option<Self> {
        let shared = Self::with_align(len, HUGE).ok()?;
        advise_huge(shared.at.cast(), len * size_of::<T>());
        Some(shared)
    }

    fn with_align(len: usize, align: usize) -> Result<Self, Layout> {
        // One line more than requested, so that a load of a whole vector at the end stays inside.
        let size = len
            .checked_mul(size_of::<T>())
            .and_then(|n| n.checked_add(2 * ALIGN + align))
            .unwrap_or(usize::MAX);
        // Aligned by hand: an aligned allocation would zero all pages explicitly, although fresh
        // pages from the system are zero already.
        let Ok(layout) = Layout::from_size_align(size, align_of::<T>()) else {
            // Exceeds the address space; the error reports the largest layout instead.
            return Err(Layout::from_size_align(isize::MAX as usize, 1)
                .unwrap_or_else(|_| Layout::new::<T>()));
        };
        // SAFETY: the layout's size is not 0.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            return Err(layout);
        }
        // SAFETY: the offset is less than `align` bytes, which were allocated in excess of what is
        // used.
        let at = unsafe { base.add(base.align_offset(align)) }.cast::<T>();
        Ok(Self { at, len, base, layout })
    }

    /// Number of elements in the array.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the elements of `range`.
    ///
    /// # Safety
    /// No thread writes any of them while the slice lives.
    pub unsafe fn read(&self, range: Range<usize>) -> &[T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds (checked), initialized (zeroed), and not written meanwhile (guaranteed
        // by the caller).
        unsafe { std::slice::from_raw_parts(self.at.add(range.start), range.len()) }
    }

    /// Returns the elements of `range` for writing.
    ///
    /// # Safety
    /// No other thread accesses any of them, and no other slice of them exists, while the slice
    /// lives.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn write(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds (checked), initialized (zeroed), and not shared (guaranteed by the
        // caller).
        unsafe { std::slice::from_raw_parts_mut(self.at.add(range.start), range.len()) }
    }

    /// Returns all elements through an exclusive borrow.
    pub fn all_mut(&mut self) -> &mut [T] {
        // SAFETY: the exclusive borrow rules out every other slice.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

#[allow(unsafe_code)]
impl<T: Pod> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and no slice of it outlives it.
        unsafe { dealloc(self.base, self.layout) }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
#[allow(unsafe_code)]
fn advise_huge(at: *mut u8, bytes: usize) {
    unsafe extern "C" {
        fn madvise(at: *mut u8, bytes: usize, advice: i32) -> i32;
    }
    const MADV_HUGEPAGE: i32 = 14;
    // SAFETY: the range lies in memory of ours and starts on a page; the advice changes no content,
    // and a failure is harmless.
    unsafe {
        madvise(at, bytes & !4095, MADV_HUGEPAGE);
    }
}

#[cfg(any(not(target_os = "linux"), miri))]
fn advise_huge(_at: *mut u8, _bytes: usize) {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    #[allow(unsafe_code)]
    fn new_arrays_are_zero_and_disjoint_parts_can_be_written() {
        let mut shared = Shared::<f32>::new(100);
        assert_eq!((shared.len(), shared.at as usize % ALIGN), (100, 0));
        assert!(shared.all_mut().iter().all(|&x| x == 0.0));
        // SAFETY: the two parts do not overlap.
        let (a, b) = unsafe { (shared.write(0..50), shared.write(50..100)) };
        a.fill(1.0);
        b.fill(2.0);
        // SAFETY: no thread writes.
        assert_eq!(unsafe { shared.read(49..51) }, [1.0, 2.0]);
        assert_eq!(Shared::<u8>::try_streamed(3 << 20).unwrap().at as usize % HUGE, 0);
    }

    #[test]
    fn unavailable_memory_gives_none() {
        for len in [1 << 60, usize::MAX / 4, usize::MAX] {
            // The optimizer may remove an allocation that is never used.
            let (plain, streamed) =
                (Shared::<f32>::try_new(len), Shared::<u8>::try_streamed(usize::MAX - len / 8));
            assert!(
                std::hint::black_box(plain).is_none() && std::hint::black_box(streamed).is_none()
            );
        }
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    #[allow(unsafe_code)]
    fn reading_out_of_bounds_panics() {
        // SAFETY: the call panics before anything is read.
        let _ = unsafe { Shared::<u8>::new(4).read(2..5).len() };
    }
}
