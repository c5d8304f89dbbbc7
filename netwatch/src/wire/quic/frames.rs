//! Frames of Initial packets (RFC 9000 section 19): those that carry the TLS handshake.

use super::version::QuicVersion;
use crate::wire::ByteReader;

/// A fragment of the handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CryptoFragment<'a> {
    pub offset: u64,
    pub bytes: &'a [u8],
}

/// The fragments in a decrypted packet, up to a frame that is not allowed there.
pub(super) fn crypto_fragments(frames: &[u8], version: QuicVersion) -> impl Iterator<Item = CryptoFragment<'_>> {
    let mut rest = ByteReader::new(frames);
    std::iter::from_fn(move || {
        loop {
            let kind = rest.u8()?;
            let fragment = if version.has_google_frames() { google(&mut rest, kind)? } else { ietf(&mut rest, kind)? };
            if fragment.is_some() {
                return fragment;
            }
        }
    })
}

/// `Some(None)` for a frame without handshake data; `None` for one that is not allowed.
#[expect(clippy::option_option, reason = "a fragment, no fragment, the end")]
fn ietf<'a>(rest: &mut ByteReader<'a>, kind: u8) -> Option<Option<CryptoFragment<'a>>> {
    match kind {
        0x00 | 0x01 => Some(None), // PADDING, PING
        0x02 => skip_ack(rest).map(|()| None),
        0x03 => {
            skip_ack(rest)?;
            (0..3).try_for_each(|_| rest.varint().map(drop)).map(|()| None)
        }
        0x06 => crypto(rest).map(Some),
        _ => None,
    }
}

/// Frames of Chromium, versions 50 and 51. Acknowledgments are skipped in the form that the first
/// packets have.
#[expect(clippy::option_option, reason = "a fragment, no fragment, the end")]
fn google<'a>(rest: &mut ByteReader<'a>, kind: u8) -> Option<Option<CryptoFragment<'a>>> {
    match kind {
        0x00 | 0x07 => Some(None), // PADDING, PING
        0x08 => crypto(rest).map(Some),
        0x40 => rest.take(5).map(|_| None),
        0x60 => rest.take(8).map(|_| None),
        _ => None,
    }
}

fn crypto<'a>(rest: &mut ByteReader<'a>) -> Option<CryptoFragment<'a>> {
    let offset = rest.varint()?;
    let length = usize::try_from(rest.varint()?).ok()?;
    Some(CryptoFragment { offset, bytes: rest.take(length)? })
}

fn skip_ack(rest: &mut ByteReader<'_>) -> Option<()> {
    let (_largest, _delay) = (rest.varint()?, rest.varint()?);
    let ranges = rest.varint()?;
    let _first = rest.varint()?;
    // Each takes at least two bytes, so the loop ends with the packet.
    (0..ranges).try_for_each(|_| rest.varint().and_then(|_gap| rest.varint()).map(drop))
}
