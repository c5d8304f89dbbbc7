//! Code that IPv4 and IPv6 share: bounds of the bytes after the IP header, and the authentication
//! header.

use super::Frame;

/// The bytes of an IP packet that are not parsed yet, according to the packet's own length. Bytes
/// beyond `end` do not belong to the packet, for example padding (RFC 894).
#[derive(Debug, Clone, Copy)]
pub(super) struct IpBytes {
    /// Offset of the next header in the frame.
    pub offset: u32,
    /// Offset of the packet's end in the frame.
    pub end: u32,
}

/// Result of reading a header.
pub(super) enum HeaderAt<'a, T> {
    /// The header.
    Here(&'a T),
    /// The packet ends before the header does.
    Short,
    /// The packet has the header, but its bytes cannot be read.
    Unreadable,
}

impl IpBytes {
    /// Reads the next header.
    #[inline(always)]
    pub(super) fn header<'a, F: Frame, T: super::Header>(&self, frame: &'a F) -> HeaderAt<'a, T> {
        if self.offset + size_of::<T>() as u32 > self.end {
            return HeaderAt::Short;
        }
        frame.header(self.offset).map_or(HeaderAt::Unreadable, HeaderAt::Here)
    }

    /// Number of bytes left. The offset never exceeds the end.
    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        self.end - self.offset
    }
}

/// Length in bytes of an authentication header with second byte `len`, which is in words minus two
/// (RFC 4302, 2.2).
#[inline(always)]
pub(super) fn authentication_len(len: u8) -> u32 {
    (u32::from(len) + 2) * 4
}
