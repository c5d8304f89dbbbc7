//! Writes captures: packets to the bytes of pcap and pcapng. Files are written elsewhere.

mod checksum;
mod layout;
mod pcap;
mod pcapng;
#[cfg(test)]
mod pcapng_tests;
mod segment;
#[cfg(test)]
mod tests;

pub use layout::Layout;
pub use pcap::PcapWriter;
pub use pcapng::{InterfaceDescription, InterfaceStatistics, PcapNgWriter, SectionHeader};
pub use segment::{ObservedFrame, Segmenter, WirePacket, insert_tag};

/// Link type of Ethernet (<https://www.tcpdump.org/linktypes.html>).
pub const ETHERNET: u16 = 1;

/// Values of a packet's flags (`epb_flags`): its direction.
pub const INBOUND: u32 = 1;
/// The target sent it.
pub const OUTBOUND: u32 = 2;

/// A packet as a record of a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WritablePacket<'a> {
    /// Time, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The number of its interface in the section.
    pub interface: u32,
    /// Its flags, as pcapng has them.
    pub flags: Option<u32>,
    /// Length on the wire in bytes.
    pub orig_len: u32,
    /// The captured bytes, in two parts: headers that may have been changed, and the rest.
    pub parts: [&'a [u8]; 2],
    /// Comments on the packet.
    pub comments: &'a [Option<&'a str>],
    /// The process that sent or receives it.
    pub pid: Option<u32>,
    /// Packets that were lost between the previous packet and this one.
    pub lost_before: u64,
    /// What [`WritablePacket::options`] returned for the same flags, comments and process.
    pub encoded: Option<&'a [u8]>,
}

impl WritablePacket<'_> {
    /// Its options as pcapng has them, which are those of other packets of its flow too. Losses
    /// before it are not among them.
    pub fn options(&self) -> Vec<u8> {
        let mut options = Vec::new();
        pcapng::write_options(&mut options, &Self { lost_before: 0, ..*self });
        options
    }

    /// Number of captured bytes.
    fn caplen(&self) -> u32 {
        self.parts.iter().map(|part| part.len() as u32).sum()
    }
}
