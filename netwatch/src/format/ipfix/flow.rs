//! The record of a flow: a biflow whose source opened it.

use std::net::IpAddr;

use super::element::{TemplateField, encode_template, push_text};
use super::{EncodedRecord, milliseconds};

/// Bytes of an Ethernet header, which IPFIX does not count as octets of a flow.
const ETHERNET_HEADER_BYTES: u64 = 14;

/// Where the packets of a flow begin.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum FirstHeader {
    /// With an Ethernet header: at interfaces.
    #[default]
    Ethernet,
    /// With the IP header: at the sockets of cgroups.
    Ip,
}

/// biflowDirection: the source is the end that opened the flow.
const INITIATOR: u8 = 1;

/// What a flow sent in one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DirectionRecord {
    /// Packets as a wire would carry them.
    pub packets: u64,
    /// Their bytes, from the first header on.
    pub wire_bytes: u64,
    /// The header that they begin with.
    pub first_header: FirstHeader,
    /// OR of all flag bytes of TCP.
    pub tcp_flags: u8,
    /// Packets that repeat data, or came out of order.
    pub retransmitted: u64,
}

/// A flow as it is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BiflowRecord<'a> {
    /// Identifies the flow within the run.
    pub id: u64,
    /// The end that opened it.
    pub source: (IpAddr, u16),
    /// The other end.
    pub destination: (IpAddr, u16),
    /// IANA protocol number.
    pub protocol: u8,
    /// Why it ended, as flowEndReason.
    pub end_reason: u8,
    /// Its first and last packet, nanoseconds since the Unix epoch.
    pub time_ns: (u64, u64),
    /// What the source sent.
    pub forward: DirectionRecord,
    /// What the other end sent.
    pub reverse: DirectionRecord,
    /// Round trip of the TCP handshake, nanoseconds; 0 if it was not measured.
    pub handshake_ns: u64,
    /// The application protocol; empty if not known.
    pub service: &'a str,
    /// The name of the remote; empty if not known.
    pub remote_name: &'a str,
    /// The process that used it, and its program; 0 and empty if not known.
    pub process: (u32, &'a str),
}

impl DirectionRecord {
    /// Bytes from the IP header on.
    pub fn octets(&self) -> u64 {
        match self.first_header {
            FirstHeader::Ethernet => self.wire_bytes.saturating_sub(self.packets.saturating_mul(ETHERNET_HEADER_BYTES)),
            FirstHeader::Ip => self.wire_bytes,
        }
    }

    /// Bytes with the header of layer 2; 0 if the packets have none.
    fn layer2_octets(&self) -> u64 {
        match self.first_header {
            FirstHeader::Ethernet => self.wire_bytes,
            FirstHeader::Ip => 0,
        }
    }
}

/// Writes a field of a record.
type Write = fn(&BiflowRecord<'_>, &mut Vec<u8>);

/// A template of flows: its id, and the fields for the addresses.
pub(super) struct FlowTemplate {
    id: u16,
    addresses: [TemplateField; 2],
}

/// Of IPv4 and of IPv6.
pub(super) const TEMPLATES: [FlowTemplate; 2] = [
    FlowTemplate { id: 256, addresses: [TemplateField::of(8, 4), TemplateField::of(12, 4)] },
    FlowTemplate { id: 257, addresses: [TemplateField::of(27, 16), TemplateField::of(28, 16)] },
];

/// The fields after the addresses, and what they contain.
const FIELDS: [(TemplateField, Write); 25] = [
    // sourceTransportPort, destinationTransportPort, protocolIdentifier
    (TemplateField::of(7, 2), |flow, out| out.extend(flow.source.1.to_be_bytes())),
    (TemplateField::of(11, 2), |flow, out| out.extend(flow.destination.1.to_be_bytes())),
    (TemplateField::of(4, 1), |flow, out| out.push(flow.protocol)),
    // flowEndReason, biflowDirection, flowId
    (TemplateField::of(136, 1), |flow, out| out.push(flow.end_reason)),
    (TemplateField::of(239, 1), |_, out| out.push(INITIATOR)),
    (TemplateField::of(148, 8), |flow, out| out.extend(flow.id.to_be_bytes())),
    // flowStartMilliseconds, flowEndMilliseconds
    (TemplateField::of(152, 8), |flow, out| out.extend(milliseconds(flow.time_ns.0).to_be_bytes())),
    (TemplateField::of(153, 8), |flow, out| out.extend(milliseconds(flow.time_ns.1).to_be_bytes())),
    // packetDeltaCount, octetDeltaCount, layer2OctetDeltaCount, tcpControlBits
    (TemplateField::of(2, 8), |flow, out| out.extend(flow.forward.packets.to_be_bytes())),
    (TemplateField::of(1, 8), |flow, out| out.extend(flow.forward.octets().to_be_bytes())),
    (TemplateField::of(352, 8), |flow, out| out.extend(flow.forward.layer2_octets().to_be_bytes())),
    (TemplateField::of(6, 1), |flow, out| out.push(flow.forward.tcp_flags)),
    // The same of the other direction.
    (TemplateField::reverse(2, 8), |flow, out| out.extend(flow.reverse.packets.to_be_bytes())),
    (TemplateField::reverse(1, 8), |flow, out| out.extend(flow.reverse.octets().to_be_bytes())),
    (TemplateField::reverse(352, 8), |flow, out| out.extend(flow.reverse.layer2_octets().to_be_bytes())),
    (TemplateField::reverse(6, 1), |flow, out| out.push(flow.reverse.tcp_flags)),
    // applicationName
    (TemplateField::text(96), |flow, out| push_text(flow.service, out)),
    // processId, processName, remoteName, handshakeMicroseconds, retransmittedPackets and their
    // reverse.
    (TemplateField::own(1, 4), |flow, out| out.extend(flow.process.0.to_be_bytes())),
    (TemplateField::own_text(2), |flow, out| push_text(flow.process.1, out)),
    (TemplateField::own_text(3), |flow, out| push_text(flow.remote_name, out)),
    (TemplateField::own(4, 4), |flow, out| out.extend(microseconds(flow.handshake_ns).to_be_bytes())),
    (TemplateField::own(5, 8), |flow, out| out.extend(flow.forward.retransmitted.to_be_bytes())),
    (TemplateField::own(6, 8), |flow, out| out.extend(flow.reverse.retransmitted.to_be_bytes())),
    // flowStartNanosecondsRest, flowEndNanosecondsRest: what the milliseconds lack.
    (TemplateField::own(7, 4), |flow, out| out.extend(below_millisecond(flow.time_ns.0).to_be_bytes())),
    (TemplateField::own(8, 4), |flow, out| out.extend(below_millisecond(flow.time_ns.1).to_be_bytes())),
];

impl FlowTemplate {
    pub(super) fn encode(&self) -> Vec<u8> {
        let fields: Vec<TemplateField> =
            self.addresses.into_iter().chain(FIELDS.iter().map(|(field, _)| *field)).collect();
        encode_template(self.id, None, fields.into_iter())
    }
}

/// Encodes the record of a flow.
pub fn encode_flow(flow: &BiflowRecord<'_>) -> EncodedRecord {
    let mut bytes = Vec::with_capacity(192);
    let [v4, v6] = TEMPLATES.map(|template| template.id);
    let set = match (flow.source.0, flow.destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            v4
        }
        (source, destination) => {
            bytes.extend([source, destination].into_iter().flat_map(octets_v6));
            v6
        }
    };
    FIELDS.iter().for_each(|(_, write)| write(flow, &mut bytes));
    EncodedRecord { set, bytes }
}

fn octets_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn microseconds(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(1000)).unwrap_or(u32::MAX)
}

fn below_millisecond(ns: u64) -> u32 {
    (ns % 1_000_000) as u32
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn sent(packets: u64, wire_bytes: u64, tcp_flags: u8, retransmitted: u64) -> DirectionRecord {
        DirectionRecord { packets, wire_bytes, first_header: FirstHeader::Ethernet, tcp_flags, retransmitted }
    }

    pub(in super::super) fn record() -> BiflowRecord<'static> {
        BiflowRecord {
            id: 7,
            source: ([198, 51, 100, 2].into(), 40_000),
            destination: ([203, 0, 113, 10].into(), 443),
            protocol: 6,
            end_reason: 3,
            time_ns: (1_700_000_000_001_000_002, 1_700_000_000_900_000_003),
            forward: sent(3, 300, 0x1b, 1),
            reverse: sent(2, 3000, 0x13, 0),
            handshake_ns: 1_500,
            service: "h2",
            remote_name: "app.example",
            process: (4711, "curl"),
        }
    }

    #[test]
    fn packets_without_an_ethernet_header_have_no_octets_of_layer_2() {
        let sent = DirectionRecord { first_header: FirstHeader::Ip, ..sent(3, 300, 0, 0) };
        assert_eq!((sent.octets(), sent.layer2_octets()), (300, 0));
    }

    #[test]
    fn octets_are_those_of_the_ip_layer_and_a_long_text_is_cut() {
        let flow = record();
        assert_eq!((flow.forward.octets(), flow.reverse.octets()), (300 - 42, 3000 - 28));
        let long = "ä".repeat(100);
        let encoded = encode_flow(&BiflowRecord { remote_name: &long, ..flow });
        let length = encoded.bytes.iter().position(|byte| *byte == 128).expect("a length of 128 bytes");
        assert_eq!(&encoded.bytes[length + 1..][..128], "ä".repeat(64).as_bytes());
    }
}
