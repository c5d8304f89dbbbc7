//! The blocks of pcapng (draft-ietf-opsawg-pcapng), in little-endian order.

use std::net::IpAddr;

use super::WritablePacket;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const NAME_RESOLUTION: u32 = 4;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;

/// Options of every block.
const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;

/// Maximum length of an option's value, bytes. Its length is a number of 16 bits.
const MAX_OPTION: usize = 65_535;

/// Facts about the section.
#[derive(Debug, Clone, Copy)]
pub struct SectionHeader<'a> {
    /// The operating system.
    pub os: &'a str,
    /// The program that writes the file.
    pub application: &'a str,
    /// Further facts.
    pub comment: &'a str,
}

/// The interface on which packets were captured.
#[derive(Debug, Clone, Copy)]
pub struct InterfaceDescription<'a> {
    /// Its name, if it is known.
    pub name: Option<&'a str>,
    /// What it is, if it is known.
    pub description: Option<&'a str>,
    /// The filter expression, if packets were filtered.
    pub filter: Option<&'a str>,
    /// The operating system.
    pub os: &'a str,
    /// Maximum number of bytes of each packet; 0 for no limit.
    pub snaplen: u32,
    /// The number of its link type.
    pub link: u16,
}

/// What the capture counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceStatistics<'a> {
    /// Start and end of the capture, nanoseconds since the Unix epoch.
    pub span_ns: (u64, u64),
    /// Packets that the interface carried.
    pub received: u64,
    /// Packets that passed the filter.
    pub accepted: u64,
    /// Packets that were lost.
    pub dropped: u64,
    /// Further facts.
    pub comment: &'a str,
}

/// Encodes blocks into a buffer.
#[derive(Debug, Default)]
pub struct PcapNgWriter {
    /// The encoded blocks.
    pub buffer: Vec<u8>,
    /// The options of the packet that is added.
    options: Vec<u8>,
}

impl PcapNgWriter {
    /// Starts a section. Its length is not known, as in every stream.
    pub fn section(&mut self, header: &SectionHeader<'_>) {
        self.block(SECTION_HEADER, |block| {
            block.u32(0x1a2b_3c4d);
            block.u16(1);
            block.u16(0);
            block.u64(u64::MAX);
            block.text(COMMENT, header.comment);
            block.text(3, header.os);
            block.text(4, header.application);
            block.end_of_options();
        });
    }

    /// Describes the next interface of the section.
    pub fn interface(&mut self, interface: &InterfaceDescription<'_>) {
        /// 10⁻⁹ seconds.
        const NANOSECONDS: u8 = 9;
        /// The filter is a text of libpcap.
        const LIBPCAP: u8 = 0;
        self.block(INTERFACE_DESCRIPTION, |block| {
            block.u16(interface.link);
            block.u16(0);
            block.u32(interface.snaplen);
            for (code, text) in [(2, interface.name), (3, interface.description)] {
                if let Some(text) = text {
                    block.option(code, text.as_bytes());
                }
            }
            block.option(9, &[NANOSECONDS]);
            if let Some(filter) = interface.filter {
                block.option(11, &[&[LIBPCAP], filter.as_bytes()].concat());
            }
            block.text(12, interface.os);
            block.end_of_options();
        });
    }

    /// Adds a packet.
    pub fn packet(&mut self, packet: &WritablePacket<'_>) {
        /// The fields before the packet's bytes, and the length after its options.
        const HEAD: usize = 28;
        const TAIL: usize = 4;
        let Self { buffer, options } = self;
        let options = match packet.encoded {
            Some(encoded) if packet.lost_before == 0 => encoded,
            _ => {
                options.clear();
                write_options(options, packet);
                options
            }
        };
        let caplen = packet.caplen();
        let padding = (caplen.next_multiple_of(4) - caplen) as usize;
        let length = HEAD + caplen as usize + padding + options.len() + TAIL;
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&ENHANCED_PACKET.to_le_bytes());
        head[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        head[8..12].copy_from_slice(&packet.interface.to_le_bytes());
        head[12..20].copy_from_slice(&halves(packet.time_ns));
        head[20..24].copy_from_slice(&caplen.to_le_bytes());
        head[24..].copy_from_slice(&packet.orig_len.to_le_bytes());
        buffer.reserve(length);
        buffer.extend_from_slice(&head);
        // Mostly, one part is empty, and so is the padding with usual lengths of heads.
        packet.parts.iter().filter(|part| !part.is_empty()).for_each(|part| buffer.extend_from_slice(part));
        (0..padding).for_each(|_| buffer.push(0));
        buffer.extend_from_slice(options);
        buffer.extend_from_slice(&(length as u32).to_le_bytes());
    }

    /// Names of addresses.
    pub fn names<'a>(&mut self, names: impl Iterator<Item = (IpAddr, &'a str)>) {
        const END_OF_RECORDS: u16 = 0;
        self.block(NAME_RESOLUTION, |block| {
            for (address, name) in names {
                let (kind, address) = match address {
                    IpAddr::V4(v4) => (1, v4.octets().to_vec()),
                    IpAddr::V6(v6) => (2, v6.octets().to_vec()),
                };
                block.option(kind, &[&address, name.as_bytes(), b"\0"].concat());
            }
            block.u16(END_OF_RECORDS);
            block.u16(0);
        });
    }

    /// What was counted on the first interface.
    pub fn statistics(&mut self, statistics: &InterfaceStatistics<'_>) {
        let (start_ns, end_ns) = statistics.span_ns;
        self.block(INTERFACE_STATISTICS, |block| {
            block.u32(0);
            block.time(end_ns);
            block.text(COMMENT, statistics.comment);
            block.option(2, &halves(start_ns));
            block.option(3, &halves(end_ns));
            block.option(4, &statistics.received.to_le_bytes());
            block.option(5, &statistics.dropped.to_le_bytes());
            block.option(6, &statistics.accepted.to_le_bytes());
            block.end_of_options();
        });
    }

    /// Secrets of TLS connections, in the format of SSLKEYLOGFILE, for the packets after them.
    pub fn secrets(&mut self, key_log: &[u8]) {
        /// The format of the secrets: `TLSK`.
        const TLS_KEY_LOG: u32 = 0x544c_534b;
        self.block(DECRYPTION_SECRETS, |block| {
            block.u32(TLS_KEY_LOG);
            block.u32(key_log.len() as u32);
            block.bytes(key_log);
            block.pad();
            block.end_of_options();
        });
    }

    /// Adds a block: its type, its length at both ends, and what `fill` writes.
    fn block(&mut self, kind: u32, fill: impl FnOnce(&mut Block<'_>)) {
        let start = self.buffer.len();
        let mut block = Block { buffer: &mut self.buffer };
        block.u32(kind);
        block.u32(0);
        fill(&mut block);
        let length = (self.buffer.len() - start + 4) as u32;
        self.buffer[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(&length.to_le_bytes());
    }
}

/// The process and the thread of a packet. The thread is not known.
const PROCESS_AND_THREAD: u16 = 8;
const UNKNOWN_THREAD: u32 = 0;

/// Writes the options of a packet. Their length is a multiple of four bytes.
pub(super) fn write_options(buffer: &mut Vec<u8>, packet: &WritablePacket<'_>) {
    let mut block = Block { buffer };
    packet.comments.iter().flatten().for_each(|comment| block.text(COMMENT, comment));
    if let Some(flags) = packet.flags {
        block.option(2, &flags.to_le_bytes());
    }
    if packet.lost_before > 0 {
        block.option(4, &packet.lost_before.to_le_bytes());
    }
    if let Some(pid) = packet.pid {
        block.option(PROCESS_AND_THREAD, &[pid.to_le_bytes(), UNKNOWN_THREAD.to_le_bytes()].concat());
    }
    block.end_of_options();
}

/// Both halves of a time, the high half first.
fn halves(time_ns: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&((time_ns >> 32) as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&(time_ns as u32).to_le_bytes());
    bytes
}

/// The block that is being written.
struct Block<'a> {
    buffer: &'a mut Vec<u8>,
}

impl Block<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn time(&mut self, time_ns: u64) {
        self.bytes(&halves(time_ns));
    }

    /// Fills up to a multiple of four bytes. Blocks start at such multiples.
    fn pad(&mut self) {
        let padding = self.buffer.len().next_multiple_of(4) - self.buffer.len();
        self.bytes(&[0; 3][..padding]);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(MAX_OPTION)];
        self.u16(code);
        self.u16(value.len() as u16);
        self.bytes(value);
        self.pad();
    }

    /// A text, cut at the longest length of an option. No option if it is empty.
    fn text(&mut self, code: u16, text: &str) {
        let mut end = text.len().min(MAX_OPTION);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if end > 0 {
            self.option(code, &text.as_bytes()[..end]);
        }
    }

    fn end_of_options(&mut self) {
        self.u16(END_OF_OPTIONS);
        self.u16(0);
    }
}
