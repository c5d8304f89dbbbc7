//! Memory of BPF arrays that is mapped into user space. User space reads words that the classifier
//! changes concurrently, so every access is one whole word.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::{Error, Result};

/// The elements of an array of `T`, mapped.
#[derive(Debug)]
pub(super) struct Region<T> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: the memory belongs to the map, not to a thread; all access is by whole words through raw
// pointers.
unsafe impl<T> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Region<T> {}

impl<T> Region<T> {
    /// Maps the first `len` elements of an array that was created with `BPF_F_MMAPABLE`. The kernel
    /// rounds the size of an element up to eight bytes. Arrays are only mapped from their
    /// beginning, because any other offset would have to be a multiple of the page size, which
    /// differs between machines.
    pub(super) fn map(array: impl AsFd, name: &str, len: usize) -> Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() >= 8) };
        let failed = |cause: io::Error| Error::os("map BPF array", name, cause);
        let bytes =
            NonZeroUsize::new(len * size_of::<T>()).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, array, 0) };
        Ok(Self { start: start.map_err(|errno| failed(errno.into()))?.cast(), len })
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Element `index`.
    ///
    /// # Panics
    /// If there is no such element.
    pub(super) fn element(&self, index: usize) -> *mut T {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: within the mapping.
        unsafe { self.start.as_ptr().add(index) }
    }

    /// A copy of element `index`. It is copied word by word, and words may change in between.
    pub(super) fn read(&self, index: usize) -> T
    where
        T: aya::Pod,
    {
        let from = self.element(index).cast::<u64>();
        let mut copy = std::mem::MaybeUninit::<T>::uninit();
        let to = copy.as_mut_ptr().cast::<u64>();
        for word in 0..size_of::<T>() / 8 {
            // SAFETY: within the element and within the copy; plain data for which any bytes are
            // valid.
            unsafe { to.add(word).write(from.add(word).read_volatile()) };
        }
        // SAFETY: every word was written.
        unsafe { copy.assume_init() }
    }

    /// Clears element `index`, which must be unused.
    pub(super) fn clear(&self, index: usize) {
        let words = self.element(index).cast::<u64>();
        for word in 0..size_of::<T>() / 8 {
            // SAFETY: within the element.
            unsafe { words.add(word).write_volatile(0) };
        }
    }
}

impl<T> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and there are no references into it.
        let _gone = unsafe { munmap(self.start.cast(), self.len * size_of::<T>()) };
    }
}

/// A word that both sides change, as an atomic.
///
/// # Safety
/// `word` points into a region that outlives the reference.
pub(super) unsafe fn atomic<'a>(word: *mut u64) -> &'a AtomicU64 {
    // SAFETY: aligned to eight bytes like every element; the rest is guaranteed by the caller.
    unsafe { AtomicU64::from_ptr(word) }
}

/// Reads a word that the classifier changes.
///
/// # Safety
/// As for [`atomic`].
pub(super) unsafe fn load(word: *mut u64) -> u64 {
    // SAFETY: guaranteed by the caller.
    unsafe { atomic(word).load(Ordering::Acquire) }
}

/// Writes a word that the classifier reads. Earlier writes become visible before it.
///
/// # Safety
/// As for [`atomic`].
pub(super) unsafe fn store(word: *mut u64, value: u64) {
    // SAFETY: guaranteed by the caller.
    unsafe { atomic(word).store(value, Ordering::Release) };
}

/// Replaces a word that the classifier changes too, if it is `old`. Returns whether it was.
///
/// # Safety
/// As for [`atomic`].
pub(super) unsafe fn replace(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { atomic(word).compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() }
}
