//! Reads captures of several link types into samples, as far as this test needs.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use netwatch::flow::{Direction, FlowKey, ObservationPoint, TransportAddress};
use netwatch::name::{NameSample, Names, Segment};
use netwatch_common::address::Address;
use netwatch_common::parse::{self, Captured, Meta, Packet, part, protocol};
use netwatch_common::tcp;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

/// A frame as captured.
struct CapturedFrame {
    link: u32,
    bytes: Vec<u8>,
    time_ns: u64,
}

/// The payload of a packet, and its flow.
pub struct Payload {
    time_ns: u64,
    flow: FlowKey,
    direction: Direction,
    pub bytes: Vec<u8>,
    length: u32,
    tcp: Option<Segment>,
}

/// How much of a flow is sampled.
#[derive(Clone, Copy)]
pub enum Budget {
    /// Everything, as in a replay.
    All,
    /// As the classifier samples: the first packets with payload of each direction, and every
    /// packet of DNS.
    Live { packets: u32, bytes: usize, snaplen: usize },
}

/// Every TCP and UDP payload of a file. The sender of the first packet is the local end of the
/// flow.
pub fn payloads(path: &Path) -> Vec<Payload> {
    let mut known = HashSet::new();
    frames(path).iter().filter_map(|frame| payload(frame, &mut known)).collect()
}

/// Passes payloads to `names`, within a budget.
pub fn feed(payloads: &[Payload], budget: Budget, names: &mut Names) {
    let mut spent: HashMap<(FlowKey, Direction), (u32, usize)> = HashMap::new();
    for payload in payloads {
        let spent = spent.entry((payload.flow, payload.direction)).or_default();
        let Some(length) = budget.allows(payload, spent) else { continue };
        names.observe(&NameSample {
            time_ns: payload.time_ns,
            flow: payload.flow,
            direction: payload.direction,
            opened_by: Direction::Egress,
            payload: &payload.bytes[..length],
            payload_len: payload.length,
            tcp: payload.tcp,
        });
    }
    names.finish();
}

impl Budget {
    /// Number of bytes of the payload that are sampled, if any.
    fn allows(self, payload: &Payload, spent: &mut (u32, usize)) -> Option<usize> {
        let Self::Live { packets, bytes, snaplen } = self else { return Some(payload.bytes.len()) };
        let is_dns = [payload.flow.local.port, payload.flow.remote.port].contains(&53);
        if payload.bytes.is_empty() || (!is_dns && (spent.0 >= packets || spent.1 >= bytes)) {
            return None;
        }
        let length = payload.bytes.len().min(snaplen);
        *spent = (spent.0 + 1, spent.1 + length);
        Some(length)
    }
}

fn frames(path: &Path) -> Vec<CapturedFrame> {
    let mut file = BufReader::new(File::open(path).unwrap());
    let mut magic = [0; 4];
    file.read_exact(&mut magic).unwrap();
    file.rewind().unwrap();
    if magic == [0x0a, 0x0d, 0x0d, 0x0a] { pcapng(file) } else { pcap(file) }
}

/// Up to the first packet that cannot be read: some files are damaged on purpose.
fn pcap(file: impl Read) -> Vec<CapturedFrame> {
    let mut reader = PcapReader::new(file).unwrap();
    let link = reader.header().datalink.into();
    let mut frames = Vec::new();
    while let Some(Ok(packet)) = reader.next_packet() {
        frames.push(CapturedFrame {
            link,
            bytes: packet.data.into_owned(),
            time_ns: packet.timestamp.as_nanos() as u64,
        });
    }
    frames
}

fn pcapng(file: impl Read) -> Vec<CapturedFrame> {
    let mut reader = PcapNgReader::new(file).unwrap();
    let mut links: Vec<u32> = Vec::new();
    let mut frames = Vec::new();
    while let Some(Ok(block)) = reader.next_block() {
        match block {
            Block::InterfaceDescription(interface) => links.push(interface.linktype.into()),
            Block::EnhancedPacket(packet) => frames.push(CapturedFrame {
                link: links[packet.interface_id as usize],
                time_ns: packet.timestamp.as_nanos() as u64,
                bytes: packet.data.into_owned(),
            }),
            Block::SimplePacket(packet) => {
                frames.push(CapturedFrame { link: links[0], time_ns: 0, bytes: packet.data.into_owned() });
            }
            _ => {}
        }
    }
    frames
}

/// The frame with an Ethernet header in place of its own header.
fn as_ethernet(frame: &CapturedFrame) -> Option<Vec<u8>> {
    let bytes = &frame.bytes[..];
    let version = |at: usize| match bytes.get(at).map(|byte| byte >> 4) {
        Some(4) => Some(0x0800),
        Some(6) => Some(0x86dd),
        _ => None,
    };
    let number = |at: usize| bytes.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let (ethertype, at): (u16, usize) = match frame.link {
        1 => return Some(frame.bytes.clone()),
        12 | 14 | 101 | 228 | 229 => (version(0)?, 0), // raw IP
        0 | 108 => (version(4)?, 4),                   // BSD's loopback
        113 => (number(14)?, 16),                      // Linux cooked
        276 => (number(0)?, 20),                       // Linux cooked, version 2
        9 | 50 => {
            let at = if bytes.starts_with(&[0xff, 3]) || bytes.starts_with(&[0x0f, 0]) { 4 } else { 2 };
            (version(at)?, at)
        }
        104 => (number(2)?, 4), // Cisco's HDLC
        _ => return None,
    };
    let mut ethernet = vec![0; 12];
    ethernet.extend(ethertype.to_be_bytes());
    ethernet.extend(&bytes[at..]);
    Some(ethernet)
}

fn payload(frame: &CapturedFrame, known: &mut HashSet<FlowKey>) -> Option<Payload> {
    let ethernet = as_ethernet(frame)?;
    let mut packet = Packet::default();
    // Some files were cut by programs that also changed the length on the wire, so the length in
    // the IP header is used.
    let captured = Captured { bytes: &ethernet, orig_len: u32::from(u16::MAX) };
    parse::parse(&captured, &Meta::default(), &mut packet);
    let is_read = matches!(packet.protocol, protocol::TCP | protocol::UDP) && packet.has_ports();
    if !is_read || packet.fragment == part::LATER {
        return None;
    }
    let received = key(&packet, false);
    let direction = if known.contains(&received) { Direction::Ingress } else { Direction::Egress };
    let flow = if direction == Direction::Egress { key(&packet, true) } else { received };
    known.insert(flow);
    let start = (packet.payload_offset as usize).min(ethernet.len());
    let end = (start + packet.payload_len as usize).min(ethernet.len());
    let is_tcp = packet.protocol == protocol::TCP;
    Some(Payload {
        time_ns: frame.time_ns,
        flow,
        direction,
        bytes: ethernet[start..end].to_vec(),
        length: packet.payload_len,
        tcp: is_tcp.then_some(Segment {
            sequence: packet.sequence,
            flags: packet.flags,
            acknowledgment: Some(packet.acknowledgment),
        }),
    })
}

fn key(packet: &Packet, sent: bool) -> FlowKey {
    let source = TransportAddress { addr: address(packet.source), port: packet.source_port };
    let destination = TransportAddress { addr: address(packet.destination), port: packet.destination_port };
    let (local, remote) = if sent { (source, destination) } else { (destination, source) };
    FlowKey { point: ObservationPoint::Link, protocol: packet.protocol, fragment: false, local, remote }
}

fn address(address: Address) -> IpAddr {
    Ipv6Addr::from(address.bytes()).to_canonical()
}

impl Payload {
    /// The packet with another payload.
    pub fn with(&self, bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u32;
        // Without RST, so that reading does not end early.
        let tcp = self.tcp.map(|segment| Segment { flags: segment.flags & !tcp::RST, ..segment });
        Self { bytes, length, tcp, ..*self }
    }
}
