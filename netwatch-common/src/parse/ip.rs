//! What IPv4 and IPv6 have in common: extension headers between them and the transport.

use super::Frame;

/// The bytes an IP packet claims by its own length: nothing beyond `end` belongs to it (RFC 894 padding does not).
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// Where the next header starts.
    pub offset: u32,
    /// Where the packet ends.
    pub end: u32,
}

/// Outcome of looking for a header.
pub(super) enum Found<'a, T> {
    /// There it is.
    Here(&'a T),
    /// The packet ends before it does.
    Short,
    /// The packet has it, but it cannot be read here.
    Unreadable,
}

impl Rest {
    /// The header at the start of the rest.
    #[inline(always)]
    pub(super) fn header<'a, F: Frame, T: super::Header>(&self, frame: &'a F) -> Found<'a, T> {
        if self.offset + size_of::<T>() as u32 > self.end {
            return Found::Short;
        }
        frame.header(self.offset).map_or(Found::Unreadable, Found::Here)
    }

    /// Bytes left. The offset never passes the end.
    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        self.end - self.offset
    }
}

/// The length of the authentication header whose second byte is `len` (RFC 4302, 2.2: in words, minus two).
#[inline(always)]
pub(super) fn authentication_len(len: u8) -> u32 {
    (u32::from(len) + 2) * 4
}
