//! Messages: a header and sets of records, up to the size of a packet.

use super::EncodedRecord;

/// The version in the header of a message.
const VERSION: u16 = 10;
const HEADER_BYTES: usize = 16;
const SET_HEADER_BYTES: usize = 4;
/// The largest message: its length is a number of 16 bits.
pub const MAX_MESSAGE_BYTES: usize = u16::MAX as usize;
/// The first set with data; sets below have templates.
const FIRST_DATA_SET: u16 = 256;

/// Collects records into a message.
#[derive(Debug)]
pub struct MessageWriter {
    domain: u32,
    max_bytes: usize,
    bytes: Vec<u8>,
    /// Id and place of the last set.
    set: Option<(u16, usize)>,
    data_records: u32,
}

impl MessageWriter {
    /// Messages of this observation domain, each of at most `max_bytes`.
    pub fn new(domain: u32, max_bytes: usize) -> Self {
        let max_bytes = max_bytes.min(MAX_MESSAGE_BYTES);
        Self { domain, max_bytes, bytes: vec![0; HEADER_BYTES], set: None, data_records: 0 }
    }

    /// Whether there is room for this record.
    pub fn has_room(&self, record: &EncodedRecord) -> bool {
        self.bytes.len() + SET_HEADER_BYTES + record.bytes.len() <= self.max_bytes
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES
    }

    /// Adds a record.
    pub fn push(&mut self, record: &EncodedRecord) {
        if self.set.is_none_or(|(set, _)| set != record.set) {
            self.end_set();
            self.set = Some((record.set, self.bytes.len()));
            self.bytes.extend(record.set.to_be_bytes());
            self.bytes.extend([0, 0]);
        }
        self.bytes.extend(&record.bytes);
        self.data_records += u32::from(record.set >= FIRST_DATA_SET);
    }

    /// The message and its number of data records; the next one is empty. `sequence` is the number
    /// of data records in all messages before, `export_time` in seconds since the Unix epoch.
    pub fn finish(&mut self, sequence: u32, export_time: u32) -> (Vec<u8>, u32) {
        self.end_set();
        let mut message = std::mem::replace(&mut self.bytes, vec![0; HEADER_BYTES]);
        let length = message.len() as u16;
        message[0..2].copy_from_slice(&VERSION.to_be_bytes());
        message[2..4].copy_from_slice(&length.to_be_bytes());
        message[4..8].copy_from_slice(&export_time.to_be_bytes());
        message[8..12].copy_from_slice(&sequence.to_be_bytes());
        message[12..16].copy_from_slice(&self.domain.to_be_bytes());
        (message, std::mem::take(&mut self.data_records))
    }

    /// Writes the length of the last set.
    fn end_set(&mut self) {
        if let Some((_, at)) = self.set.take() {
            let length = (self.bytes.len() - at) as u16;
            self.bytes[at + 2..at + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(set: u16, bytes: usize) -> EncodedRecord {
        EncodedRecord { set, bytes: vec![7; bytes] }
    }

    #[test]
    fn a_message_has_its_length_and_sets_have_theirs() {
        let mut message = MessageWriter::new(0x0102_0304, 100);
        [record(2, 8), record(256, 10), record(256, 10), record(257, 5)].iter().for_each(|record| message.push(record));
        let (bytes, records) = message.finish(9, 77);
        assert_eq!(records, 3, "templates are no data records");
        assert_eq!(bytes.len(), 16 + (4 + 8) + (4 + 20) + (4 + 5));
        assert_eq!(bytes[..16], [0, 10, 0, 61, 0, 0, 0, 77, 0, 0, 0, 9, 1, 2, 3, 4]);
        assert_eq!(
            (&bytes[16..20], &bytes[28..32], &bytes[52..56]),
            (&[0, 2, 0, 12][..], &[1, 0, 0, 24][..], &[1, 1, 0, 9][..])
        );
        assert!(message.is_empty() && message.finish(0, 0).0.len() == 16, "the next one is empty");
    }

    #[test]
    fn a_message_never_exceeds_its_maximum() {
        let mut message = MessageWriter::new(1, 100);
        while message.has_room(&record(256, 30)) {
            message.push(&record(256, 30));
        }
        let (bytes, records) = message.finish(0, 0);
        assert_eq!((bytes.len(), records), (80, 2));
    }
}
