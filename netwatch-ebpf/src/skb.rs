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
}

impl Skb {
    /// As it is.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end(), len: ctx.len() }
    }

    /// True if bytes lie outside of linear memory.
    #[inline(always)]
    pub fn is_short(&self) -> bool {
        self.data + (self.len as usize) > self.end
    }

    /// Copies more bytes into linear memory. Rare: the stack does so itself for headers it reads.
    #[inline(always)]
    pub fn pull(&mut self, ctx: &TcContext) {
        // Also after a failure the pointers must be read again: the verifier forgets them at the call.
        let _readable_or_counted = ctx.pull_data(self.len.min(PULL));
        *self = Self::new(ctx);
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
}

/// What the socket buffer says beside its bytes.
#[inline(always)]
pub fn meta(ctx: &TcContext) -> Meta {
    let skb: *const __sk_buff = ctx.skb.skb;
    // SAFETY: the context lives as long as the program runs.
    unsafe { Meta { gso_segs: (*skb).gso_segs, gso_size: (*skb).gso_size, tagged: (*skb).vlan_present != 0 } }
}
