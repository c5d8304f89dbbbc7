//! Extracts the first handshake message from a TCP stream, from one record or from several (RFC
//! 8446 section 5.1).

use std::borrow::Cow;

use crate::wire::ByteReader;

const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
/// Maximum length of a record: 2^14, and what encryption of older versions may add.
const MAX_RECORD: u16 = (1 << 14) + 2048;
/// Maximum length of a hello, bytes. OpenSSL accepts up to 131,396.
const MAX_HELLO: usize = 1 << 17;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// A hello message, as far as the stream has it.
#[derive(Debug, PartialEq, Eq)]
pub struct HelloMessage<'a> {
    /// It is a ClientHello; otherwise a ServerHello.
    pub is_client: bool,
    /// The message without the handshake header.
    pub body: Cow<'a, [u8]>,
    /// The message is complete.
    pub whole: bool,
    /// The minimum length of the stream that can hold all of it.
    pub needs: usize,
}

/// The hello at the start of a stream; `None` if the stream begins with something else. The first
/// bytes of a possible hello count as one.
pub fn first_message(stream: &[u8]) -> Option<HelloMessage<'_>> {
    let mut payload = Cow::Borrowed(&[][..]);
    let mut rest = ByteReader::new(stream);
    while let Some(length) = record(&mut rest)? {
        let (fragment, whole) = rest.take_some(length);
        append(&mut payload, fragment);
        if !whole || is_whole(&payload) {
            return message(payload, stream.len(), length - fragment.len());
        }
    }
    message(payload, stream.len(), 0)
}

/// Whether this stream may begin with a ClientHello. An empty stream may.
pub fn may_begin_client_hello(stream: &[u8]) -> bool {
    let begins = |at: usize, allowed: fn(u8) -> bool| stream.get(at).is_none_or(|byte| allowed(*byte));
    begins(0, |kind| kind == HANDSHAKE)
        && begins(1, |major| major == 3)
        && begins(2, |minor| minor <= 4)
        && begins(RECORD_HEADER, |kind| kind == CLIENT_HELLO)
}

/// Whether these are records from the middle of a connection: one that ends exactly at the end of
/// the bytes, or two in a row. Other content is unlikely to have this form by chance.
pub fn looks_like_records(stream: &[u8]) -> bool {
    let mut rest = ByteReader::new(stream);
    let Some(length) = any_record(&mut rest) else { return false };
    if rest.take(length).is_none() {
        return false;
    }
    rest.is_empty() || any_record(&mut rest).is_some()
}

fn any_record(rest: &mut ByteReader<'_>) -> Option<usize> {
    let (kind, version, length) = (rest.u8()?, rest.u16()?, rest.u16()?);
    let plausible = matches!(kind, CHANGE_CIPHER_SPEC..=APPLICATION_DATA) && matches!(version, 0x0300..=0x0304);
    let right_length = match kind {
        CHANGE_CIPHER_SPEC => length == 1,
        ALERT => length >= 2,
        _ => length > 0,
    };
    (plausible && right_length && length <= MAX_RECORD).then_some(length.into())
}

/// Takes the header of a handshake record and returns its length, or `Some(None)` if the header is
/// incomplete. `None` if it is something else.
#[expect(clippy::option_option, reason = "not a record, not yet a record, a record")]
fn record(rest: &mut ByteReader<'_>) -> Option<Option<usize>> {
    if !starts_like_record(rest.rest()) {
        return None;
    }
    let Some(header) = rest.take(RECORD_HEADER) else { return Some(None) };
    let length = u16::from_be_bytes([header[3], header[4]]);
    (1..=MAX_RECORD).contains(&length).then_some(Some(length.into()))
}

fn starts_like_record(bytes: &[u8]) -> bool {
    matches!(bytes, [] | [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, 0..=4, ..])
}

/// Appends a fragment. A payload in a single record is borrowed and not copied.
fn append<'a>(payload: &mut Cow<'a, [u8]>, fragment: &'a [u8]) {
    if payload.is_empty() {
        *payload = Cow::Borrowed(fragment);
    } else {
        payload.to_mut().extend_from_slice(fragment);
    }
}

fn is_whole(payload: &[u8]) -> bool {
    body_length(payload).is_some_and(|length| payload.len() - HANDSHAKE_HEADER >= length)
}

fn body_length(payload: &[u8]) -> Option<usize> {
    let mut reader = ByteReader::new(payload);
    reader.u8()?;
    reader.u24().map(|length| length as usize)
}

/// `in_record`: bytes of the last record that are still missing.
fn message(payload: Cow<'_, [u8]>, stream: usize, in_record: usize) -> Option<HelloMessage<'_>> {
    let is_client = match payload.first() {
        Some(&CLIENT_HELLO) | None => true,
        Some(&SERVER_HELLO) => false,
        Some(_) => return None,
    };
    let length = body_length(&payload).unwrap_or(1);
    let body = skip_header(payload);
    let missing = length.saturating_sub(body.len());
    let header = if missing > in_record { RECORD_HEADER } else { 0 };
    let whole = missing == 0;
    let needs = if whole { stream } else { stream + missing + header };
    (length <= MAX_HELLO).then_some(HelloMessage { is_client, body: cut(body, length), whole, needs })
}

fn skip_header(payload: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match payload {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(HANDSHAKE_HEADER..).unwrap_or_default()),
        Cow::Owned(mut bytes) => {
            bytes.drain(..HANDSHAKE_HEADER.min(bytes.len()));
            Cow::Owned(bytes)
        }
    }
}

fn cut(body: Cow<'_, [u8]>, length: usize) -> Cow<'_, [u8]> {
    match body {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..length.min(bytes.len())]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(length);
            Cow::Owned(bytes)
        }
    }
}
