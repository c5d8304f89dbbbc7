//! A decoder of HPACK, the header compression of HTTP/2 (RFC 7541), in bounded memory. Existing
//! crates are either internal to HTTP stacks or no longer maintained.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::huffman;
use super::static_table::TABLE;
use crate::wire::ByteReader;

/// Size of an entry besides its strings, octets (section 4.1).
const ENTRY_OVERHEAD: usize = 32;
/// Size of the table unless another was negotiated (RFC 9113 section 6.5.2).
const DEFAULT_SIZE: usize = 4096;
/// Maximum size of the table, octets. Servers may allow more.
const MAX_SIZE: usize = 1 << 16;
/// Maximum length of a string, octets.
const MAX_STRING: usize = 1 << 14;

type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The dynamic table of one direction of a connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    max_size: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, max_size: DEFAULT_SIZE }
    }
}

impl Decoder {
    pub fn size(&self) -> usize {
        self.size
    }

    /// Decodes a complete block and passes each field to `field`. `None` if it cannot be read; then
    /// no later block can.
    pub fn decode(&mut self, block: &[u8], field: &mut impl FnMut(&[u8], &[u8])) -> Option<()> {
        let mut reader = ByteReader::new(block);
        while let Some(first) = reader.u8() {
            match first {
                0x80.. => {
                    let (name, value) = self.entry(integer(&mut reader, first, 7)?)?;
                    field(&name, &value);
                }
                0x40..0x80 => {
                    let (name, value) = self.literal(&mut reader, first, 6)?;
                    field(&name, &value);
                    let (name, value) = (name.into_owned(), value.into_owned());
                    self.add(name, value);
                }
                0x20..0x40 => self.resize(integer(&mut reader, first, 5)?)?,
                _ => {
                    let (name, value) = self.literal(&mut reader, first, 4)?;
                    field(&name, &value);
                }
            }
        }
        Some(())
    }

    fn literal<'a, 'b: 'a>(&'a self, reader: &mut ByteReader<'b>, first: u8, prefix: u32) -> Option<Field<'a>> {
        let name = match integer(reader, first, prefix)? {
            0 => string(reader)?,
            index => self.entry(index)?.0,
        };
        Some((name, string(reader)?))
    }

    fn entry(&self, index: usize) -> Option<Field<'_>> {
        let index = index.checked_sub(1)?;
        if let Some((name, value)) = TABLE.get(index) {
            return Some((Cow::Borrowed(name.as_bytes()), Cow::Borrowed(value.as_bytes())));
        }
        let (name, value) = self.table.get(index - TABLE.len())?;
        Some((Cow::Borrowed(name), Cow::Borrowed(value)))
    }

    fn add(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.shrink(self.max_size.saturating_sub(size));
        // An entry that is larger than the table empties it (section 4.4).
        if size <= self.max_size {
            self.size += size;
            self.table.push_front((name, value));
        }
    }

    fn resize(&mut self, size: usize) -> Option<()> {
        self.max_size = Some(size).filter(|size| *size <= MAX_SIZE)?;
        self.shrink(size);
        Some(())
    }

    fn shrink(&mut self, size: usize) {
        while self.size > size
            && let Some((name, value)) = self.table.pop_back()
        {
            self.size -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

/// An integer whose first bits are in the byte `first` (section 5.1).
fn integer(reader: &mut ByteReader<'_>, first: u8, prefix: u32) -> Option<usize> {
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value < mask {
        return Some(value);
    }
    // Three more bytes cover every valid value here.
    for shift in [0, 7, 14] {
        let byte = usize::from(reader.u8()?);
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn string<'a>(reader: &mut ByteReader<'a>) -> Option<Cow<'a, [u8]>> {
    const HUFFMAN: u8 = 0x80;
    let first = reader.u8()?;
    let length = integer(reader, first, 7).filter(|length| *length <= MAX_STRING)?;
    let bytes = reader.take(length)?;
    if first & HUFFMAN == 0 { Some(Cow::Borrowed(bytes)) } else { huffman::decode(bytes).map(Cow::Owned) }
}
