//! ClientHellos of DTLS (RFC 6347, RFC 9147): records in datagrams, and handshake messages in
//! fragments of any size and order.

use super::{Carrier, ClientHello, Hello};
use crate::wire::{Assembly, ByteReader};

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
/// The highest number that is defined for a handshake message (RFC 8446), key update.
const MAX_MESSAGE: u8 = 24;
/// Maximum length of a ClientHello that is reassembled, bytes.
const MAX_HELLO: usize = 1 << 14;

/// Whether this datagram is DTLS: a record header with a length that fits, followed by a handshake
/// header or an epoch.
pub fn looks_like(datagram: &[u8]) -> bool {
    let mut reader = ByteReader::new(datagram);
    record(&mut reader).is_some_and(|record| match record.kind {
        HANDSHAKE if record.epoch == 0 => record.body.first().is_some_and(|kind| *kind <= MAX_MESSAGE),
        CHANGE_CIPHER_SPEC if record.epoch == 0 => record.body == [1],
        CHANGE_CIPHER_SPEC..=APPLICATION_DATA => record.whole,
        _ => false,
    })
}

struct DtlsRecord<'a> {
    kind: u8,
    epoch: u16,
    /// The body, as far as it has arrived.
    body: &'a [u8],
    whole: bool,
}

fn record<'a>(reader: &mut ByteReader<'a>) -> Option<DtlsRecord<'a>> {
    const SEQUENCE: usize = 6;
    let (kind, version, epoch) = (reader.u8()?, reader.u16()?, reader.u16()?);
    reader.take(SEQUENCE)?;
    let length = reader.u16()?;
    let known = matches!(kind, CHANGE_CIPHER_SPEC..=APPLICATION_DATA) && matches!(version, 0xfefd..=0xfeff | 0x0100);
    if !known || length == 0 {
        return None;
    }
    let (body, whole) = reader.take_some(length.into());
    Some(DtlsRecord { kind, epoch, body, whole })
}

/// A fragment of a handshake message.
struct Fragment<'a> {
    kind: u8,
    length: usize,
    sequence: u16,
    offset: u64,
    bytes: &'a [u8],
}

fn fragment<'a>(reader: &mut ByteReader<'a>) -> Option<Fragment<'a>> {
    let kind = reader.u8()?;
    let length = reader.u24()? as usize;
    let sequence = reader.u16()?;
    let offset = reader.u24()?.into();
    let here = reader.u24()? as usize;
    let (bytes, _) = reader.take_some(here);
    Some(Fragment { kind, length, sequence, offset, bytes })
}

/// Reassembles the ClientHello of one flow. A second one, with the cookie of the server, replaces
/// the first only while the first is incomplete.
#[derive(Debug, Default)]
pub struct DtlsHandshake {
    partial: Option<PartialHello>,
}

#[derive(Debug)]
struct PartialHello {
    sequence: u16,
    length: usize,
    pieces: Assembly,
}

impl DtlsHandshake {
    /// Takes a datagram; returns the facts of the hello if there are more than before.
    pub fn observe(&mut self, datagram: &[u8]) -> Option<Hello> {
        let mut grew = false;
        let mut reader = ByteReader::new(datagram);
        while let Some(record) = record(&mut reader) {
            let mut body = ByteReader::new(record.body);
            while record.kind == HANDSHAKE
                && record.epoch == 0
                && let Some(fragment) = fragment(&mut body)
            {
                grew |= self.take(&fragment);
            }
        }
        if grew { self.hello() } else { None }
    }

    fn take(&mut self, fragment: &Fragment<'_>) -> bool {
        if fragment.kind != CLIENT_HELLO || fragment.length > MAX_HELLO {
            return false;
        }
        if self
            .partial
            .as_ref()
            .is_none_or(|partial| (partial.sequence, partial.length) != (fragment.sequence, fragment.length))
        {
            let pieces = Assembly::new(fragment.length);
            self.partial = Some(PartialHello { sequence: fragment.sequence, length: fragment.length, pieces });
        }
        let Some(partial) = &mut self.partial else { return false };
        let before = partial.pieces.from(0).len();
        if fragment.offset + fragment.bytes.len() as u64 > fragment.length as u64 {
            return false;
        }
        // This fails only if there are too many pieces; then the hello stays as it is.
        let _ = partial.pieces.insert(fragment.offset, fragment.bytes);
        partial.pieces.from(0).len() > before
    }

    fn hello(&self) -> Option<Hello> {
        let partial = self.partial.as_ref()?;
        let body = partial.pieces.from(0);
        ClientHello::parse(body, body.len() == partial.length, Carrier::Dtls).map(|hello| Hello::from(&hello))
    }

    /// Number of bytes held.
    pub fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.pieces.held())
    }
}
