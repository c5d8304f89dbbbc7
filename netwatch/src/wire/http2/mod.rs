//! HTTP/2 without encryption (RFC 9113): the authorities of requests.

mod hpack;
mod huffman;
mod static_table;

use super::ByteReader;
use hpack::Decoder;

/// The first bytes of a client (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER: usize = 9;
/// Maximum size of a header block that is reassembled, bytes.
const MAX_BLOCK: usize = 1 << 14;

mod kind {
    pub const HEADERS: u8 = 1;
    pub const PUSH_PROMISE: u8 = 5;
    pub const CONTINUATION: u8 = 9;
}

mod flag {
    pub const END_HEADERS: u8 = 0x04;
    pub const PADDED: u8 = 0x08;
    pub const PRIORITY: u8 = 0x20;
}

/// The element at the start of the client's stream.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameStep {
    /// A frame of this length, of which part may still be missing, and the authority of the request
    /// that it completes.
    Frame(u64, Option<Vec<u8>>),
    /// At least this many bytes are needed.
    Needs(usize),
    /// The rest cannot be read, because it depends on a header block that is missing.
    Broken,
}

/// The client's direction of one connection, after the preface.
#[derive(Debug, Default)]
pub struct Requests {
    decoder: Decoder,
    /// A header block that is continued by CONTINUATION frames.
    block: Vec<u8>,
}

impl Requests {
    /// Parses the frame at the start of `stream`.
    pub fn step(&mut self, stream: &[u8]) -> FrameStep {
        let mut reader = ByteReader::new(stream);
        let (Some(length), Some(kind), Some(flags), Some(_)) = (reader.u24(), reader.u8(), reader.u8(), reader.u32())
        else {
            return FrameStep::Needs(FRAME_HEADER);
        };
        let length = length as usize;
        if !matches!(kind, kind::HEADERS | kind::CONTINUATION) {
            // A client does not push.
            return if kind == kind::PUSH_PROMISE {
                FrameStep::Broken
            } else {
                FrameStep::Frame((FRAME_HEADER + length) as u64, None)
            };
        }
        if length > MAX_BLOCK {
            return FrameStep::Broken;
        }
        let Some(payload) = reader.take(length) else { return FrameStep::Needs(FRAME_HEADER + length) };
        let fragment = if kind == kind::HEADERS { fragment(payload, flags) } else { Some(payload) };
        let authority = fragment.and_then(|fragment| self.take(fragment, flags & flag::END_HEADERS != 0));
        authority.map_or(FrameStep::Broken, |authority| FrameStep::Frame((FRAME_HEADER + length) as u64, authority))
    }

    /// `None` if the block cannot be read.
    #[expect(clippy::option_option, reason = "broken, no authority, an authority")]
    fn take(&mut self, fragment: &[u8], is_last: bool) -> Option<Option<Vec<u8>>> {
        if self.block.len() + fragment.len() > MAX_BLOCK {
            return None;
        }
        self.block.extend_from_slice(fragment);
        if !is_last {
            return Some(None);
        }
        let block = std::mem::take(&mut self.block);
        let (mut authority, mut host) = (None, None);
        self.decoder.decode(&block, &mut |name, value| match name {
            b":authority" => authority = Some(value.to_vec()),
            b"host" => host = Some(value.to_vec()),
            _ => {}
        })?;
        Some(authority.or(host))
    }

    /// Number of bytes held.
    pub fn held(&self) -> usize {
        self.block.len() + self.decoder.size()
    }
}

/// The header block fragment of a HEADERS frame, without padding and priority (section 6.2).
fn fragment(payload: &[u8], flags: u8) -> Option<&[u8]> {
    let mut reader = ByteReader::new(payload);
    let padding = if flags & flag::PADDED != 0 { usize::from(reader.u8()?) } else { 0 };
    if flags & flag::PRIORITY != 0 {
        reader.take(5)?;
    }
    let length = reader.rest().len().checked_sub(padding)?;
    reader.take(length)
}

#[cfg(test)]
mod tests;
