//! pcapng: sections, interfaces, and three kinds of packet blocks (draft-ietf-opsawg-pcapng).

use std::borrow::Cow;

use netwatch_common::parse::LinkType;
use pcap_parser::{
    Block, EnhancedPacketBlock, InterfaceDescriptionBlock, OptionCode, PcapBlockOwned, SimplePacketBlock, UnknownBlock,
};

use super::broken::BrokenCause;
use super::time::TimeResolution;
use super::{CapturedFrame, Decode, MAX_BLOCK, MAX_FRAME, link_type};

/// The type of the obsolete packet block, which preceded the enhanced one.
const PACKET_BLOCK: u32 = 2;
/// Length of the fixed fields, bytes: type, length, and the length again.
const BLOCK_HEADER: u32 = 12;

/// The state of the section that is being read.
#[derive(Default)]
pub(super) struct Blocks {
    big_endian: bool,
    interfaces: Vec<CaptureInterface>,
    /// Simple packet blocks have no time; they get the time of the packet before.
    latest_ns: u64,
}

#[derive(Clone, Copy)]
struct CaptureInterface {
    link: LinkType,
    link_number: u16,
    /// Maximum number of captured bytes of a frame; 0 for no limit.
    snaplen: u32,
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
    fn frame<'a>(&mut self, block: &PcapBlockOwned<'a>, offset: u64) -> Result<Option<CapturedFrame<'a>>, BrokenCause> {
        let PcapBlockOwned::NG(block) = block else { return Ok(None) };
        match block {
            Block::EnhancedPacket(block) => self.enhanced(block, offset).map(Some),
            Block::SimplePacket(block) => self.simple(block, offset).map(Some),
            Block::Unknown(block) if self.native(block.block_type) == PACKET_BLOCK => {
                self.obsolete(block, offset).map(Some)
            }
            Block::SectionHeader(header) => {
                *self = Self { big_endian: header.big_endian(), latest_ns: self.latest_ns, ..Self::default() };
                Ok(None)
            }
            Block::InterfaceDescription(description) => self.describe(description).map(|()| None),
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

/// The first comment on a packet. Values that are not text are ignored.
fn comment<'a>(block: &EnhancedPacketBlock<'a>) -> Option<&'a str> {
    let option = block.options.iter().find(|option| option.code == OptionCode::Comment)?;
    let Cow::Borrowed(value) = option.value else { return None };
    std::str::from_utf8(value.get(..usize::from(option.len))?).ok()
}

impl Blocks {
    fn enhanced<'a>(&mut self, block: &EnhancedPacketBlock<'a>, offset: u64) -> Result<CapturedFrame<'a>, BrokenCause> {
        let time = Some(u64::from(block.ts_high) << 32 | u64::from(block.ts_low));
        let packet = PacketBlock { interface: block.if_id, time, caplen: block.caplen, orig_len: block.origlen };
        let frame = self.packet(&packet, block.data, offset)?;
        Ok(CapturedFrame { is_egress: self.is_egress(block), comment: comment(block), ..frame })
    }

    /// The direction in the flags of a packet: the two lowest bits.
    fn is_egress(&self, block: &EnhancedPacketBlock<'_>) -> Option<bool> {
        let flags = block.options.iter().find(|option| option.code == OptionCode(2))?;
        match self.number(*flags.value.first_chunk()?) & 3 {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    fn simple<'a>(&mut self, block: &SimplePacketBlock<'a>, offset: u64) -> Result<CapturedFrame<'a>, BrokenCause> {
        let snaplen = self.interfaces.first().map_or(0, |first| first.snaplen);
        let most = if snaplen == 0 { u32::MAX } else { snaplen };
        let caplen = block.origlen.min(most).min(block.data.len() as u32);
        self.packet(&PacketBlock { interface: 0, time: None, caplen, orig_len: block.origlen }, block.data, offset)
    }

    /// Fields of the block: interface and drops of 16 bits each, both halves of the time, both
    /// lengths, then the packet.
    fn obsolete<'a>(&mut self, block: &UnknownBlock<'a>, offset: u64) -> Result<CapturedFrame<'a>, BrokenCause> {
        let (header, data) = block.data.split_first_chunk::<20>().ok_or(BrokenCause::Contradiction)?;
        let number = |at: usize| self.number(header[at..].first_chunk().copied().unwrap_or_default());
        let [a, b, ..] = *header;
        let interface = if self.big_endian { u16::from_be_bytes([a, b]) } else { u16::from_le_bytes([a, b]) };
        let time = Some(u64::from(number(4)) << 32 | u64::from(number(8)));
        let packet = PacketBlock { interface: interface.into(), time, caplen: number(12), orig_len: number(16) };
        self.packet(&packet, data, offset)
    }

    fn packet<'a>(
        &mut self,
        packet: &PacketBlock,
        data: &'a [u8],
        offset: u64,
    ) -> Result<CapturedFrame<'a>, BrokenCause> {
        let interface =
            self.interfaces.get(packet.interface as usize).ok_or(BrokenCause::Interface(packet.interface))?;
        if packet.caplen > MAX_FRAME {
            return Err(BrokenCause::Frame(packet.caplen));
        }
        if let Some(time) = packet.time {
            self.latest_ns = interface.resolution.unix_ns(time, interface.offset);
        }
        Ok(CapturedFrame {
            time_ns: self.latest_ns,
            bytes: data.get(..packet.caplen as usize).ok_or(BrokenCause::Contradiction)?,
            orig_len: packet.orig_len,
            link: interface.link,
            link_number: interface.link_number,
            offset,
            is_egress: None,
            comment: None,
        })
    }

    fn describe(&mut self, description: &InterfaceDescriptionBlock<'_>) -> Result<(), BrokenCause> {
        if self.interfaces.len() > usize::from(u16::MAX) {
            return Err(BrokenCause::Interfaces);
        }
        let option = |code| description.options.iter().find(|option| option.code == code).map(|option| &*option.value);
        // Parsed here, because the crate supports neither binary resolutions nor big-endian
        // offsets.
        let resolution = option(OptionCode::IfTsresol).and_then(|value| value.first().copied());
        let offset = option(OptionCode::IfTsoffset).and_then(|value| value.first_chunk().copied());
        let link_number = description.linktype.0 as u16;
        self.interfaces.push(CaptureInterface {
            link: link_type(link_number),
            link_number,
            snaplen: description.snaplen,
            resolution: resolution.map_or(TimeResolution::DEFAULT, TimeResolution::new),
            offset: offset
                .map_or(0, |bytes| if self.big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) }),
        });
        Ok(())
    }

    fn number(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Converts a block type, which the crate reads as a little-endian number.
    fn native(&self, kind: u32) -> u32 {
        if self.big_endian { kind.swap_bytes() } else { kind }
    }
}
