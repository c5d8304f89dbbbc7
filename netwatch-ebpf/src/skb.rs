//! A socket buffer as a [`Frame`]: direct packet access, no helper calls.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use netwatch_common::parse::{Frame, Header, LinkType, Meta};

use crate::variant;

/// Headers must lie within this many bytes of a frame, or it is counted as malformed. Bounds the
/// copy into linear memory.
const MAX_PULL: u32 = 1024;
/// The verifier only allows packet offsets that it can bound by 16 bits.
const MAX_OFFSET: u32 = 0x7fff;

/// The linear part of a socket buffer.
pub struct Skb {
    data: usize,
    end: usize,
    len: u32,
    word: *mut u32,
}

impl Skb {
    /// Without working memory for [`Frame::forget`], for parsers that follow no chain of headers.
    #[inline(always)]
    pub fn direct(ctx: &TcContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end(), len: ctx.len(), word: core::ptr::null_mut() }
    }

    /// With working memory for [`Frame::forget`].
    ///
    /// # Safety
    /// `word` points into a map value, and nothing else uses this word meanwhile.
    #[inline(always)]
    pub unsafe fn new(ctx: &TcContext, word: *mut u32) -> Self {
        Self { data: ctx.data(), end: ctx.data_end(), len: ctx.len(), word }
    }

    /// Whether some bytes are outside of linear memory.
    #[inline(always)]
    pub fn is_nonlinear(&self) -> bool {
        self.data + (self.len as usize) > self.end
    }

    /// Copies more bytes into linear memory. If it returns true, they are there and this value is
    /// stale. Rarely needed: the network stack does the same for headers it reads.
    #[inline(always)]
    pub fn pull(&self, ctx: &TcContext) -> bool {
        let wanted = self.len.min(MAX_PULL);
        self.data + (wanted as usize) > self.end && variant::pull(ctx, wanted)
    }
}

impl Frame for Skb {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.len
    }

    #[inline(always)]
    fn link(&self) -> LinkType {
        variant::LINK
    }

    #[inline(always)]
    fn header<T: Header>(&self, offset: u32) -> Option<&T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let start = self.data + offset as usize;
        let past = start + size_of::<T>();
        // For one byte the compiler compares `start >= end`, from which the verifier derives no
        // range.
        let past = if size_of::<T>() == 1 { core::hint::black_box(past) } else { past };
        if past > self.end {
            return None;
        }
        // SAFETY: within the linear part, which lives as long as the program runs; `Header` types
        // have alignment 1 and allow any bit pattern.
        Some(unsafe { &*(start as *const T) })
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        if self.word.is_null() {
            return value;
        }
        // The verifier does not track the contents of map memory.
        // SAFETY: guaranteed by the caller of `new`.
        unsafe {
            self.word.write_volatile(value);
            self.word.read_volatile()
        }
    }
}

/// The metadata of a socket buffer.
#[inline(always)]
pub fn meta(ctx: &TcContext) -> Meta {
    let skb: *const __sk_buff = ctx.skb.skb;
    // SAFETY: the context lives as long as the program runs.
    unsafe { Meta { gso_segs: (*skb).gso_segs, gso_size: (*skb).gso_size, tagged: variant::is_tagged(skb) } }
}
