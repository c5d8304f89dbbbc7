//! pcap: one header, then a record for each packet.

use pcap_parser::{PcapBlockOwned, PcapHeader};

use super::broken::BrokenCause;
use super::{CapturedFrame, CapturedInterface, Decode, MAX_FRAME, link_type, time};

/// Length of a record header, bytes: time and two lengths.
const RECORD_HEADER: usize = 16;
/// Length of a record header in the variant of Linux 2.2, which has more fields, bytes.
const MODIFIED_RECORD_HEADER: usize = 24;

/// The fields of the file header that apply to all records.
pub(super) struct Records {
    link: netwatch_common::parse::LinkType,
    interface: CapturedInterface,
    unit_ns: u64,
    big_endian: bool,
    header: usize,
}

impl Default for Records {
    fn default() -> Self {
        Self::of(&PcapHeader::default())
    }
}

impl Records {
    fn of(header: &PcapHeader) -> Self {
        // The upper half of the field contains the length of the frame check sequence and reserved
        // bits.
        let link_number = header.network.0 as u16;
        Self {
            link: link_type(link_number),
            interface: CapturedInterface { link_number, snaplen: header.snaplen, ..CapturedInterface::default() },
            unit_ns: if header.is_nanosecond_precision() { 1 } else { 1000 },
            big_endian: header.is_bigendian(),
            header: if header.is_modified_format() { MODIFIED_RECORD_HEADER } else { RECORD_HEADER },
        }
    }
}

impl Decode for Records {
    fn frame<'a>(
        &'a mut self,
        block: &'a PcapBlockOwned<'a>,
        offset: u64,
    ) -> Result<Option<CapturedFrame<'a>>, BrokenCause> {
        let record = match block {
            PcapBlockOwned::Legacy(record) => record,
            PcapBlockOwned::LegacyHeader(header) => {
                *self = Self::of(header);
                return Ok(None);
            }
            PcapBlockOwned::NG(_) => return Ok(None),
        };
        if record.caplen > MAX_FRAME {
            return Err(BrokenCause::Frame(record.caplen));
        }
        Ok(Some(CapturedFrame {
            time_ns: time::unix_ns(record.ts_sec, record.ts_usec, self.unit_ns),
            bytes: record.data,
            orig_len: record.origlen,
            link: self.link,
            link_number: self.interface.link_number,
            offset,
            interfaces: std::slice::from_ref(&self.interface),
            interface: (0, 0),
            flags: None,
            lost_before: 0,
            secrets: &[],
            comments: Default::default(),
        }))
    }

    fn stated_length(&self, bytes: &[u8]) -> Result<Option<u64>, BrokenCause> {
        let Some(field) = bytes.get(..self.header).and_then(|header| header[8..].first_chunk()) else {
            return Ok(None);
        };
        let length = if self.big_endian { u32::from_be_bytes(*field) } else { u32::from_le_bytes(*field) };
        if length > MAX_FRAME {
            Err(BrokenCause::Frame(length))
        } else {
            Ok(Some(self.header as u64 + u64::from(length)))
        }
    }
}
