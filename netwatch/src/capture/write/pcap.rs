//! pcap with times in nanoseconds, for tools that do not read pcapng. It has no directions, no
//! processes and no counts of losses.

use super::WritablePacket;

/// Times are in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
const NANOSECONDS: u64 = 1_000_000_000;

/// Encodes records into a buffer.
#[derive(Debug, Default)]
pub struct PcapWriter {
    /// The encoded records.
    pub buffer: Vec<u8>,
}

impl PcapWriter {
    /// Starts the file.
    pub fn header(&mut self, snaplen: u32, link: u16) {
        self.u32(MAGIC);
        VERSION.iter().for_each(|number| self.buffer.extend_from_slice(&number.to_le_bytes()));
        // Time zone and accuracy, which are always 0.
        self.u32(0);
        self.u32(0);
        self.u32(snaplen);
        self.u32(link.into());
    }

    /// Adds a packet.
    pub fn packet(&mut self, packet: &WritablePacket<'_>) {
        self.u32((packet.time_ns / NANOSECONDS) as u32);
        self.u32((packet.time_ns % NANOSECONDS) as u32);
        self.u32(packet.caplen());
        self.u32(packet.orig_len);
        packet.parts.iter().for_each(|part| self.buffer.extend_from_slice(part));
    }

    fn u32(&mut self, value: u32) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }
}
