//! The packet parser: from a frame's first byte to the transport's ports and flags. Generic over how bytes are read
//! ([`Frame`]), so that the classifier (direct packet access) and the host (slices) run the same source. Not: what the
//! packet is counted under by direction ([`orient`]), nor any counting. It never fails without saying why, and it never
//! reads a byte that the packet's own lengths exclude.

mod ip;
mod ipv4;
mod ipv6;
mod link;
mod orient;
mod other;
mod packet;
mod quick;
mod transport;

pub use orient::{Hook, orient};
pub use other::{Announced, Link, announced};
pub use packet::{Packet, part};
pub use quick::{Family, family, quick, quick_of};
pub use transport::protocol;

/// A header that may lie at any address and for which any bytes are valid.
///
/// # Safety
/// The type has alignment 1, no padding and no invalid bit patterns.
pub unsafe trait Header {}

// SAFETY: bytes.
unsafe impl<const N: usize> Header for [u8; N] {}
// SAFETY: `#[repr(C)]` of byte arrays.
unsafe impl Header for network_types::ip::Ipv4Hdr {}
// SAFETY: `#[repr(C)]` of byte arrays.
unsafe impl Header for network_types::ip::Ipv6Hdr {}

const _: () = {
    use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
    assert!(align_of::<Ipv4Hdr>() == 1 && size_of::<Ipv4Hdr>() == 20);
    assert!(align_of::<Ipv6Hdr>() == 1 && size_of::<Ipv6Hdr>() == 40);
};

/// A frame, from its link-layer header on.
pub trait Frame {
    /// The whole frame's length in bytes, also of what cannot be read (non-linear, or cut by a capture).
    fn len(&self) -> u32;

    /// True for a frame without a byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it starts with. Ethernet for the classifier, which is then compiled for nothing else.
    #[inline(always)]
    fn link(&self) -> Link {
        Link::Ethernet
    }

    /// Its end may be missing although nothing says so but the packet's own lengths. Then those are not taken for lies.
    #[inline(always)]
    fn may_lack_its_end(&self) -> bool {
        false
    }

    /// The header at `offset`, if all of it can be read.
    fn header<T: Header>(&self, offset: u32) -> Option<&T>;

    /// The same value. The classifier makes the verifier forget the bounds it knows of it: a chain of extension headers
    /// has a million sums of lengths, and the verifier would follow each.
    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        value
    }
}

/// A frame in memory.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    /// The bytes there are.
    pub bytes: &'a [u8],
    /// The frame's length before a capture cut it.
    pub orig_len: u32,
}

impl<'a> Captured<'a> {
    /// A frame of which every byte is there.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self { bytes, orig_len: bytes.len() as u32 }
    }
}

impl Frame for Captured<'_> {
    fn len(&self) -> u32 {
        self.orig_len.max(self.bytes.len() as u32)
    }

    fn header<T: Header>(&self, offset: u32) -> Option<&T> {
        let bytes = self.bytes.get(offset as usize..)?.get(..size_of::<T>())?;
        // SAFETY: enough bytes, alignment 1 and any bit pattern allowed (`Header`).
        Some(unsafe { &*bytes.as_ptr().cast::<T>() })
    }
}

/// A frame from a capture file. It need not be Ethernet, and whoever handled the file may have cut it without a word.
#[derive(Debug, Clone, Copy)]
pub struct Linked<'a> {
    /// The frame.
    pub captured: Captured<'a>,
    /// What it starts with.
    pub link: Link,
}

impl Frame for Linked<'_> {
    fn len(&self) -> u32 {
        self.captured.len()
    }

    fn link(&self) -> Link {
        self.link
    }

    fn may_lack_its_end(&self) -> bool {
        true
    }

    fn header<T: Header>(&self, offset: u32) -> Option<&T> {
        self.captured.header(offset)
    }
}

/// What the socket buffer says beside its bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Packets that offloading put into one buffer; 0 or 1 for none.
    pub gso_segs: u32,
    /// Payload bytes of each of those; 0 without offloading.
    pub gso_size: u32,
    /// A VLAN tag lies beside the frame, not in it.
    pub tagged: bool,
}

/// Reads a frame's headers into `packet`.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) {
    *packet = Packet::default();
    if let Err(Malformed(reason)) = other::parse(frame, meta, packet) {
        packet.set_malformed(reason);
    }
}

/// One of [`crate::flow::malformed`].
#[derive(Debug, Clone, Copy)]
struct Malformed(u8);
