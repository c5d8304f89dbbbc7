//! A socket buffer as a [`Frame`]: direct packet access, no helper calls.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use netwatch_common::parse::{Frame, Header, Meta};

/// Headers lie within so many bytes of a frame, or it is counted as malformed. Bounds what is copied into linear memory.
const PULL: u32 = 1024;
/// The verifier allows packet pointers only offsets that it can bound by 16 bits.
const MAX_OFFSET: u32 = 0x7fff;

/// The linear part of a socket buffer.
pub struct Skb {
    data: usize,
    end: usize,
    len: u32,
    word: *mut u32,
}

impl Skb {
    /// As it is, for parsers that follow no chain of headers.
    #[inline(always)]
    pub fn direct(ctx: &TcContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end(), len: ctx.len(), word: core::ptr::null_mut() }
    }

    /// As it is.
    ///
    /// # Safety
    /// `word` points into a map's value of which nobody else uses this word meanwhile.
    #[inline(always)]
    pub unsafe fn new(ctx: &TcContext, word: *mut u32) -> Self {
        Self { data: ctx.data(), end: ctx.data_end(), len: ctx.len(), word }
    }

    /// True if bytes lie outside of linear memory.
    #[inline(always)]
    pub fn is_short(&self) -> bool {
        self.data + (self.len as usize) > self.end
    }

    /// Copies more bytes into linear memory. True if that helped, and then this is stale. Rare: the stack does the same for
    /// the headers it reads.
    #[inline(always)]
    pub fn pull(&self, ctx: &TcContext) -> bool {
        let wanted = self.len.min(PULL);
        self.data + (wanted as usize) > self.end && ctx.pull_data(wanted).is_ok()
    }
}

impl Frame for Skb {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.len
    }

    #[inline(always)]
    fn header<T: Header>(&self, offset: u32) -> Option<&T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let start = self.data + offset as usize;
        if start + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: within the linear part, which lives as long as the program runs; alignment 1 and any bit pattern
        // allowed (`Header`).
        Some(unsafe { &*(start as *const T) })
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        if self.word.is_null() {
            return value;
        }
        // The verifier does not track what map memory holds.
        // SAFETY: `new`'s promise.
        unsafe {
            self.word.write_volatile(value);
            self.word.read_volatile()
        }
    }
}

/// What the socket buffer says beside its bytes.
#[inline(always)]
pub fn meta(ctx: &TcContext) -> Meta {
    let skb: *const __sk_buff = ctx.skb.skb;
    // SAFETY: the context lives as long as the program runs.
    unsafe { Meta { gso_segs: (*skb).gso_segs, gso_size: (*skb).gso_size, tagged: (*skb).vlan_present != 0 } }
}
