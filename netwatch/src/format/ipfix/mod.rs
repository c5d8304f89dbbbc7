//! Flow records in IPFIX (RFC 7011) as biflows (RFC 5103): the templates, and how a flow is
//! encoded. Not here: how messages reach a collector. docs/ipfix.md documents every element.

mod element;
mod flow;
mod message;
mod options;

pub use flow::{BiflowRecord, DirectionRecord, FirstHeader, encode_flow};
pub use message::{MAX_MESSAGE_BYTES, MessageWriter};
pub use options::{ExporterRecord, MeasurementRecord, encode_exporter, encode_measurement, encode_sampling};

/// An encoded record and the template that it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRecord {
    /// The set that it belongs to: the id of its template.
    pub set: u16,
    /// Its fields.
    pub bytes: Vec<u8>,
}

/// The set of templates.
const TEMPLATE_SET: u16 = 2;
/// The set of templates of options.
const OPTIONS_TEMPLATE_SET: u16 = 3;

/// Every template, each as a record of its set.
pub fn templates() -> Vec<EncodedRecord> {
    let flows = flow::TEMPLATES.iter().map(|template| (TEMPLATE_SET, template.encode()));
    let options = options::templates().into_iter().map(|bytes| (OPTIONS_TEMPLATE_SET, bytes));
    flows.chain(options).map(|(set, bytes)| EncodedRecord { set, bytes }).collect()
}

/// Milliseconds of a time in nanoseconds since the Unix epoch.
fn milliseconds(ns: u64) -> u64 {
    ns / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the fields of each template, from its bytes.
    fn lengths(record: &EncodedRecord) -> Vec<u16> {
        let header = if record.set == TEMPLATE_SET { 4 } else { 6 };
        let mut rest = &record.bytes[header..];
        let mut lengths = Vec::new();
        while let [id, _, high, low, after @ ..] = rest {
            lengths.push(u16::from_be_bytes([*high, *low]));
            rest = if id & 0x80 == 0 { after } else { &after[4..] };
        }
        lengths
    }

    /// Bytes of the record that fields of these lengths take.
    fn measured(lengths: &[u16], record: &[u8]) -> usize {
        lengths.iter().fold(0, |at, length| match *length {
            u16::MAX => at + 1 + usize::from(record[at]),
            fixed => at + usize::from(fixed),
        })
    }

    #[test]
    fn every_record_is_as_long_as_its_template_requires() {
        let templates = templates();
        let find = |set: u16| {
            let is_it = |template: &&EncodedRecord| template.bytes[..2] == set.to_be_bytes();
            templates.iter().find(is_it).unwrap_or_else(|| panic!("template {set}"))
        };
        let mut v6 = flow::tests::record();
        v6.source = ("2001:db8::1".parse().expect("an address"), 1);
        v6.destination = ("2001:db8::2".parse().expect("an address"), 2);
        let records = [
            encode_flow(&flow::tests::record()),
            encode_flow(&v6),
            encode_exporter(1, &ExporterRecord::default()),
            encode_measurement(1, &MeasurementRecord::default()),
            encode_sampling(),
        ];
        for record in &records {
            let lengths = lengths(find(record.set));
            assert_eq!(measured(&lengths, &record.bytes), record.bytes.len(), "{record:?}");
        }
        assert_eq!(records.map(|record| record.set), [256, 257, 258, 259, 260]);
        assert_eq!(templates.len(), 5);
    }
}
