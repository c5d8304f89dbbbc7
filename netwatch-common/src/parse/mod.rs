//! The packet parser: from the first byte of a frame to the ports and flags of the transport. It is
//! generic over how bytes are read ([`Frame`]), so that the classifier (direct packet access) and
//! the host meter (slices) run the same source. Counting is done elsewhere. The parser never fails
//! without a reason, and it never reads a byte that the packet's own lengths exclude.

mod ip;
mod ipv4;
mod ipv6;
mod link;
mod orient;
mod other;
mod packet;
mod quick;
mod timestamp;
mod transport;

pub use orient::{Hook, orient};
pub use other::{LinkPayload, LinkType, link_payload};
pub use packet::{Packet, part};
pub use quick::{IpFamily, ip_family, quick, quick_of};
pub use timestamp::timestamp;
pub use transport::protocol;

/// A header that may start at any address and for which any bytes are valid.
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
    /// Length of the whole frame in bytes, including bytes that cannot be read (non-linear, or
    /// truncated by a capture).
    fn len(&self) -> u32;

    /// Whether the frame has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The link layer the frame starts with. Ethernet for the classifier, so that the code for
    /// others is compiled away.
    #[inline(always)]
    fn link(&self) -> LinkType {
        LinkType::Ethernet
    }

    /// Whether the end of the frame may be missing without notice. If so, a packet that claims more
    /// bytes than there are is not malformed.
    #[inline(always)]
    fn may_be_truncated(&self) -> bool {
        false
    }

    /// The header at `offset`, if it can be read completely.
    fn header<T: Header>(&self, offset: u32) -> Option<&T>;

    /// Returns the same value. The classifier makes the verifier forget its bounds: a chain of
    /// extension headers has a million possible total lengths, and the verifier would follow each
    /// of them.
    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        value
    }
}

/// A frame in memory.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    /// The captured bytes.
    pub bytes: &'a [u8],
    /// Length of the frame before it was truncated.
    pub orig_len: u32,
}

impl<'a> Captured<'a> {
    /// A frame that is not truncated.
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

/// A frame from a capture file. It need not be Ethernet, and it may have been truncated without
/// notice.
#[derive(Debug, Clone, Copy)]
pub struct Linked<'a> {
    /// The frame.
    pub captured: Captured<'a>,
    /// The link layer it starts with.
    pub link: LinkType,
}

impl Frame for Linked<'_> {
    fn len(&self) -> u32 {
        self.captured.len()
    }

    fn link(&self) -> LinkType {
        self.link
    }

    fn may_be_truncated(&self) -> bool {
        true
    }

    fn header<T: Header>(&self, offset: u32) -> Option<&T> {
        self.captured.header(offset)
    }
}

/// Metadata of a socket buffer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Packets that offloading combined into this buffer; 0 or 1 without offloading.
    pub gso_segs: u32,
    /// Payload bytes of each of these packets; 0 without offloading.
    pub gso_size: u32,
    /// Whether a VLAN tag is stored outside the frame.
    pub tagged: bool,
}

/// Parses the headers of a frame into `packet`.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, meta: &Meta, packet: &mut Packet) {
    *packet = Packet::default();
    if let Err(ParseError(reason)) = other::parse(frame, meta, packet) {
        packet.set_malformed(reason);
    }
}

/// Why a frame is malformed: one of [`crate::flow::malformed`].
#[derive(Debug, Clone, Copy)]
struct ParseError(u8);
