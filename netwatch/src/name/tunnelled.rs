//! Flows inside unencrypted tunnels: they are read like others, under keys of their own.

use netwatch_common::address::Address;
use netwatch_common::parse::{self, Captured, Meta, Packet, part, protocol};

use std::net::{IpAddr, Ipv6Addr};

use super::sample::{NameSample, Segment};
use crate::flow::{Direction, FlowKey, Protocol, TransportAddress};
use crate::wire::{Application, tunnel};

/// A packet of a tunnel, and the frame in it.
#[derive(Debug)]
pub(super) struct Tunnelled {
    pub application: Application,
    frame: Vec<u8>,
    packet: Packet,
}

/// The packet inside, if this is a packet of a tunnel with TCP or UDP in it.
pub(super) fn open(sample: &NameSample<'_>) -> Option<Tunnelled> {
    if Protocol(sample.flow.protocol) != Protocol::UDP {
        return None;
    }
    let inside = tunnel::inner_frame(sample.payload, sample.ports())?;
    let mut packet = Packet::default();
    // The sample may be cut, so the lengths of the headers apply.
    let frame = Captured { bytes: &inside.frame, orig_len: u32::from(u16::MAX) };
    parse::parse(&frame, &Meta::default(), &mut packet);
    let is_read = matches!(packet.protocol, protocol::TCP | protocol::UDP) && packet.has_ports();
    (is_read && packet.fragment != part::LATER).then_some(Tunnelled {
        application: inside.application,
        frame: inside.frame,
        packet,
    })
}

impl Tunnelled {
    /// The inner packet as a sample. It has the direction of the outer one.
    pub fn sample(&self, outer: &NameSample<'_>) -> NameSample<'_> {
        let packet = &self.packet;
        let source = TransportAddress { addr: address(packet.source), port: packet.source_port };
        let destination = TransportAddress { addr: address(packet.destination), port: packet.destination_port };
        let (local, remote) = match outer.direction {
            Direction::Egress => (source, destination),
            Direction::Ingress => (destination, source),
        };
        let start = (packet.payload_offset as usize).min(self.frame.len());
        let end = (start + packet.payload_len as usize).min(self.frame.len());
        let is_tcp = packet.protocol == protocol::TCP;
        NameSample {
            flow: FlowKey { point: outer.flow.point, protocol: packet.protocol, fragment: false, local, remote },
            payload: &self.frame[start..end],
            payload_len: packet.payload_len,
            tcp: is_tcp.then_some(Segment {
                sequence: packet.sequence,
                flags: packet.flags,
                acknowledgment: Some(packet.acknowledgment),
            }),
            ..*outer
        }
    }
}

fn address(address: Address) -> IpAddr {
    Ipv6Addr::from(address.bytes()).to_canonical()
}
