//! Passes packets of a few flows, in any order, to `Names` with low limits: no panic, and no limit
//! exceeded.

use netwatch::flow::{Direction, FlowKey, ObservationPoint, TransportAddress};
use netwatch::name::{Hosts, NameLimits, NameSample, Names, Segment};

const LIMITS: NameLimits = NameLimits {
    direction_bytes: 2_000,
    waiting_bytes: 10_000,
    open_flows: 8,
    flows: 16,
    addresses: 8,
    lookups: 8,
    pending: 4,
    table_bytes: 1 << 16,
};
const PORTS: [u16; 8] = [53, 80, 443, 5353, 25, 4789, 2152, 9];
/// Bytes that select the flow, the direction and flags, the sequence number, and the length.
const HEADER: usize = 4;

/// Observes the packets that one input describes.
pub fn observe(input: &[u8]) {
    let mut names = Names::new(LIMITS, Hosts::default());
    let mut rest = input;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let [flow, how, place, length] = *header;
        let (payload, after) = after.split_at(after.len().min(usize::from(length) * 4));
        rest = after;
        names.observe(&sample(flow, how, place, payload));
        assert!(names.waiting_bytes() <= LIMITS.waiting_bytes);
        assert!(names.flows().count() <= LIMITS.flows && names.addresses().count() <= LIMITS.addresses);
        assert!(names.lookups().len() <= LIMITS.lookups);
    }
    names.finish();
    assert_eq!(names.waiting_bytes(), 0);
}

fn sample(flow: u8, how: u8, place: u8, payload: &[u8]) -> NameSample<'_> {
    let is_tcp = flow & 0x80 != 0;
    let end = |addr: [u8; 4], port| TransportAddress { addr: addr.into(), port };
    let direction = if how & 1 == 0 { Direction::Egress } else { Direction::Ingress };
    NameSample {
        time_ns: place.into(),
        flow: FlowKey {
            point: ObservationPoint::Link,
            protocol: if is_tcp { 6 } else { 17 },
            fragment: false,
            local: end([10, 0, 0, 2], 40_000),
            remote: end([203, 0, 113, flow >> 3 & 0x0f], PORTS[usize::from(flow & 7)]),
        },
        direction,
        opened_by: if how & 2 == 0 { Direction::Egress } else { Direction::Ingress },
        payload,
        payload_len: payload.len() as u32 + u32::from(how >> 2 & 1),
        // Some packets have FIN, SYN or RST.
        tcp: is_tcp.then(|| Segment {
            sequence: u32::from(place) * 8,
            flags: (how >> 3) & 7,
            acknowledgment: Some(u32::from(place >> 1) * 8),
        }),
    }
}
