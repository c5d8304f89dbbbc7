//! pcapng: sections, interfaces, and three kinds of packet blocks (draft-ietf-opsawg-pcapng).

use netwatch_common::parse::LinkType;
use pcap_parser::{
    Block, EnhancedPacketBlock, InterfaceDescriptionBlock, OptionCode, PcapBlockOwned, SecretsType, SimplePacketBlock,
    UnknownBlock,
};

use super::broken::BrokenCause;
use super::comment::parse_losses;
use super::time::TimeResolution;
use super::{
    CapturedFrame, CapturedInterface, Decode, MAX_BLOCK, MAX_COMMENTS, MAX_FRAME, MAX_INTERFACE_TEXT, MAX_INTERFACES,
    link_type,
};

/// The type of the obsolete packet block, which preceded the enhanced one.
const PACKET_BLOCK: u32 = 2;
/// Options of enhanced packet blocks.
const FLAGS: OptionCode = OptionCode(2);
const DROP_COUNT: OptionCode = OptionCode(4);
/// The option of interface statistics.
const STATED_DROPS: OptionCode = OptionCode(5);
/// Length of the fixed fields, bytes: type, length, and the length again.
const BLOCK_HEADER: u32 = 12;

/// The state of the section that is being read.
#[derive(Default)]
pub(super) struct Blocks {
    big_endian: bool,
    /// The number of the section.
    section: u32,
    interfaces: Vec<InterfaceFormat>,
    /// What the file states about the same interfaces.
    about: Vec<CapturedInterface>,
    /// Number of interfaces of all sections so far, and the length of their texts.
    described: usize,
    text_bytes: usize,
    /// Simple packet blocks have no time; they get the time of the packet before.
    latest_ns: u64,
    /// The sum of the statistics so far.
    dropped: u64,
    /// A block that netwatch writes at the end of a capture.
    has_end: bool,
    /// Lost packets, sent and received, of the last balance.
    losses: Option<(u64, u64)>,
    /// Secrets of TLS connections since the last frame.
    secrets: Vec<u8>,
    has_frame: bool,
}

/// How packets of an interface are stored.
#[derive(Clone, Copy)]
struct InterfaceFormat {
    link: LinkType,
    resolution: TimeResolution,
    /// Seconds to add to every time.
    offset: i64,
}

/// The fields that all kinds of packet blocks have.
struct PacketBlock {
    interface: u32,
    time: Option<u64>,
    caplen: u32,
    orig_len: u32,
}

impl Decode for Blocks {
    fn frame<'a>(
        &'a mut self,
        block: &'a PcapBlockOwned<'a>,
        offset: u64,
    ) -> Result<Option<CapturedFrame<'a>>, BrokenCause> {
        let PcapBlockOwned::NG(block) = block else { return Ok(None) };
        if std::mem::take(&mut self.has_frame) {
            self.secrets.clear();
        }
        match block {
            Block::EnhancedPacket(block) => self.enhanced(block, offset).map(Some),
            Block::SimplePacket(block) => self.simple(block, offset).map(Some),
            Block::Unknown(block) if self.native(block.block_type) == PACKET_BLOCK => {
                self.obsolete(block, offset).map(Some)
            }
            Block::SectionHeader(header) => {
                let Self { section, latest_ns, dropped, has_end, losses, described, text_bytes, .. } = *self;
                let (big_endian, section) = (header.big_endian(), section.saturating_add(1));
                *self = Self {
                    big_endian,
                    section,
                    latest_ns,
                    dropped,
                    has_end,
                    losses,
                    described,
                    text_bytes,
                    ..Self::default()
                };
                Ok(None)
            }
            Block::InterfaceDescription(description) => self.describe(description).map(|()| None),
            Block::DecryptionSecrets(secrets) if secrets.secrets_type == SecretsType::TlsKeyLog => {
                let length = secrets.data.len().min(secrets.secrets_len as usize);
                if self.secrets.len() + length > MAX_BLOCK {
                    return Err(BrokenCause::Secrets);
                }
                self.secrets.extend_from_slice(&secrets.data[..length]);
                Ok(None)
            }
            Block::InterfaceStatistics(statistics) => {
                let dropped = statistics.options.iter().find(|option| option.code == STATED_DROPS);
                let dropped = dropped.and_then(|option| option.value.first_chunk().copied());
                let dropped = dropped.map_or(0, |bytes| long_number(bytes, self.big_endian));
                self.dropped = self.dropped.saturating_add(dropped);
                self.has_end = true;
                let comments = statistics.options.iter().filter(|option| option.code == OptionCode::Comment);
                let losses = |text: &[u8]| parse_losses(std::str::from_utf8(text).ok()?.trim_end_matches('\0'));
                let losses = comments.filter_map(|option| losses(&option.value)).next_back();
                self.losses = losses.or(self.losses);
                Ok(None)
            }
            // Only an interface has statistics.
            Block::NameResolution(_) => {
                self.has_end |= self.interfaces.is_empty();
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn stated_length(&self, bytes: &[u8]) -> Result<Option<u64>, BrokenCause> {
        const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
        const BYTE_ORDER: u32 = 0x1a2b_3c4d;
        let [kind, length] = match bytes {
            [a, b, c, d, e, f, g, h, ..] => [[*a, *b, *c, *d], [*e, *f, *g, *h]],
            _ => return Ok(None),
        };
        let mut big_endian = self.big_endian;
        if kind == SECTION_HEADER {
            let Some(magic) = bytes.get(8..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
            big_endian = u32::from_be_bytes(*magic) == BYTE_ORDER;
            if !big_endian && u32::from_le_bytes(*magic) != BYTE_ORDER {
                return Err(BrokenCause::ByteOrder);
            }
        }
        let length = if big_endian { u32::from_be_bytes(length) } else { u32::from_le_bytes(length) };
        if length < BLOCK_HEADER || length % 4 != 0 || length as usize > MAX_BLOCK {
            return Err(BrokenCause::Block(length));
        }
        Ok(Some(length.into()))
    }
}

impl Blocks {
    pub(super) fn has_end(&self) -> bool {
        self.has_end
    }

    pub(super) fn losses(&self) -> Option<(u64, u64)> {
        self.losses
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn enhanced<'a>(
        &'a mut self,
        block: &'a EnhancedPacketBlock<'a>,
        offset: u64,
    ) -> Result<CapturedFrame<'a>, BrokenCause> {
        let time = Some(u64::from(block.ts_high) << 32 | u64::from(block.ts_low));
        let packet = PacketBlock { interface: block.if_id, time, caplen: block.caplen, orig_len: block.origlen };
        let big_endian = self.big_endian;
        let mut frame = self.packet(&packet, block.data, offset)?;
        let mut comments = 0;
        for option in &block.options {
            let value = option.value.get(..usize::from(option.len)).unwrap_or_default();
            match option.code {
                // Values that are not text are ignored.
                OptionCode::Comment if comments < MAX_COMMENTS => {
                    frame.comments[comments] = std::str::from_utf8(value).ok();
                    comments += usize::from(frame.comments[comments].is_some());
                }
                FLAGS => frame.flags = value.first_chunk().map(|bytes| number(*bytes, big_endian)),
                DROP_COUNT => {
                    frame.lost_before = value.first_chunk().map_or(0, |bytes| long_number(*bytes, big_endian))
                }
                _ => {}
            }
        }
        Ok(frame)
    }

    fn simple<'a>(&'a mut self, block: &SimplePacketBlock<'a>, offset: u64) -> Result<CapturedFrame<'a>, BrokenCause> {
        let snaplen = self.about.first().map_or(0, |first| first.snaplen);
        let most = if snaplen == 0 { u32::MAX } else { snaplen };
        let caplen = block.origlen.min(most).min(block.data.len() as u32);
        self.packet(&PacketBlock { interface: 0, time: None, caplen, orig_len: block.origlen }, block.data, offset)
    }

    /// Fields of the block: interface and drops of 16 bits each, both halves of the time, both
    /// lengths, then the packet.
    fn obsolete<'a>(&'a mut self, block: &UnknownBlock<'a>, offset: u64) -> Result<CapturedFrame<'a>, BrokenCause> {
        let (header, data) = block.data.split_first_chunk::<20>().ok_or(BrokenCause::Contradiction)?;
        let number = |at: usize| self.number(header[at..].first_chunk().copied().unwrap_or_default());
        let [a, b, ..] = *header;
        let interface = if self.big_endian { u16::from_be_bytes([a, b]) } else { u16::from_le_bytes([a, b]) };
        let time = Some(u64::from(number(4)) << 32 | u64::from(number(8)));
        let packet = PacketBlock { interface: interface.into(), time, caplen: number(12), orig_len: number(16) };
        self.packet(&packet, data, offset)
    }

    fn packet<'a>(
        &'a mut self,
        packet: &PacketBlock,
        data: &'a [u8],
        offset: u64,
    ) -> Result<CapturedFrame<'a>, BrokenCause> {
        let interface =
            self.interfaces.get(packet.interface as usize).ok_or(BrokenCause::Interface(packet.interface))?;
        if packet.caplen > MAX_FRAME {
            return Err(BrokenCause::Frame(packet.caplen));
        }
        self.has_frame = true;
        if let Some(time) = packet.time {
            self.latest_ns = interface.resolution.unix_ns(time, interface.offset);
        }
        Ok(CapturedFrame {
            time_ns: self.latest_ns,
            bytes: data.get(..packet.caplen as usize).ok_or(BrokenCause::Contradiction)?,
            orig_len: packet.orig_len,
            link: interface.link,
            link_number: self.about[packet.interface as usize].link_number,
            offset,
            interfaces: &self.about,
            interface: (self.section, packet.interface),
            flags: None,
            lost_before: 0,
            secrets: &self.secrets,
            comments: Default::default(),
        })
    }

    fn describe(&mut self, description: &InterfaceDescriptionBlock<'_>) -> Result<(), BrokenCause> {
        if self.described >= MAX_INTERFACES || self.about.len() > usize::from(u16::MAX) {
            return Err(BrokenCause::Interfaces);
        }
        self.described += 1;
        let option = |code| description.options.iter().find(|option| option.code == code).map(|option| &*option.value);
        // Parsed here, because the crate supports neither binary resolutions nor big-endian
        // offsets.
        let resolution = option(OptionCode::IfTsresol).and_then(|value| value.first().copied());
        let offset = option(OptionCode::IfTsoffset).and_then(|value| value.first_chunk().copied());
        let link_number = description.linktype.0 as u16;
        let text = |code| option(code).map(text_of);
        // The first byte is the kind of filter: 0 for an expression.
        let filter = option(OptionCode(11)).filter(|value| value.first() == Some(&0));
        let about = CapturedInterface {
            filter: filter.map(|value| text_of(&value[1..])),
            name: text(OptionCode::IfName),
            description: text(OptionCode::IfDescription),
            link_number,
            snaplen: description.snaplen,
        };
        let texts = [&about.filter, &about.name, &about.description];
        self.text_bytes += texts.into_iter().flatten().map(String::len).sum::<usize>();
        if self.text_bytes > MAX_INTERFACE_TEXT {
            return Err(BrokenCause::InterfaceTexts);
        }
        self.about.push(about);
        self.interfaces.push(InterfaceFormat {
            link: link_type(link_number),
            resolution: resolution.map_or(TimeResolution::DEFAULT, TimeResolution::new),
            offset: offset
                .map_or(0, |bytes| if self.big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) }),
        });
        Ok(())
    }

    fn number(&self, bytes: [u8; 4]) -> u32 {
        number(bytes, self.big_endian)
    }

    /// Converts a block type, which the crate reads as a little-endian number.
    fn native(&self, kind: u32) -> u32 {
        if self.big_endian { kind.swap_bytes() } else { kind }
    }
}

/// The padding of a text is not part of it.
fn text_of(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn number(bytes: [u8; 4], big_endian: bool) -> u32 {
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

fn long_number(bytes: [u8; 8], big_endian: bool) -> u64 {
    if big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) }
}
