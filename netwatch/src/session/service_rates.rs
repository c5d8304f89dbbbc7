//! The highest rates of the services of the target: connections and bytes in any second.

use std::collections::HashMap;

use crate::flow::{EndpointKey, FlowChange, FlowKey, Increment, Protocol};
use crate::report::PeakRates;

/// Maximum number of services; further ones have no rates.
const MAX_SERVICES: usize = 16_384;

const SECOND: u64 = 1_000_000_000;

/// The services, and what they did since the last full second.
#[derive(Debug, Default)]
pub(super) struct ServiceRates {
    start_ns: u64,
    services: HashMap<(Protocol, u16), ServiceSecond>,
}

#[derive(Debug, Default)]
struct ServiceSecond {
    current: PeakRates,
    peak: Option<PeakRates>,
}

impl ServiceRates {
    pub fn start(&mut self, started_ns: u64) {
        self.start_ns = started_ns;
    }

    /// Adds an increment of a flow of the link.
    pub fn add(&mut self, flow: &FlowKey, change: FlowChange, increment: &Increment) {
        let endpoint = EndpointKey::of(flow, increment.opened_by);
        if !endpoint.is_service() {
            return;
        }
        let key = (endpoint.protocol, endpoint.port);
        if self.services.len() < MAX_SERVICES || self.services.contains_key(&key) {
            let current = &mut self.services.entry(key).or_default().current;
            current.connections += match endpoint.protocol {
                Protocol::TCP => increment.connections.into(),
                _ => u64::from(change == FlowChange::Opened),
            };
            current.wire_bytes += increment.counters.both().wire_bytes;
        }
    }

    /// Ends the current second if it has passed.
    pub fn end_interval(&mut self, now_ns: u64) {
        let length_ns = now_ns.saturating_sub(self.start_ns);
        if length_ns < SECOND {
            return;
        }
        self.start_ns = now_ns;
        let rate = |number: u64| {
            let rounded = (u128::from(number) * u128::from(SECOND) + u128::from(length_ns / 2)) / u128::from(length_ns);
            u64::try_from(rounded).unwrap_or(u64::MAX)
        };
        for service in self.services.values_mut() {
            let PeakRates { connections, wire_bytes } = std::mem::take(&mut service.current);
            let peak = service.peak.get_or_insert_default();
            peak.connections = peak.connections.max(rate(connections));
            peak.wire_bytes = peak.wire_bytes.max(rate(wire_bytes));
        }
    }

    /// The highest rates so far. A second that is not over is not among them.
    pub fn peaks(&self) -> impl Iterator<Item = ((Protocol, u16), PeakRates)> + '_ {
        self.services.iter().filter_map(|(key, service)| Some((*key, service.peak?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Counters, Direction, ObservationPoint, PayloadGrowth, PerDirection, Traffic, TransportAddress};

    fn add(rates: &mut ServiceRates, port: u16, opened_by: Direction, wire_bytes: u64) {
        let end = |port| TransportAddress { addr: [192, 0, 2, 1].into(), port };
        let point = ObservationPoint::Link;
        let flow = FlowKey { point, protocol: 6, fragment: false, local: end(port), remote: end(50_000) };
        let counters = Counters { skbs: 1, packets: 1, bytes: wire_bytes, wire_bytes };
        let increment = Increment {
            traffic: Traffic::Flow(flow),
            point,
            counters: PerDirection { egress: counters, ingress: Counters::default() },
            payload: PayloadGrowth::default(),
            first_seen_ns: 0,
            last_seen_ns: 0,
            opened_by,
            connections: 1,
            initial_sequence: None,
            epoch: 0,
            superseded: false,
            ended: None,
            is_last: false,
            tcp: None,
        };
        rates.add(&flow, FlowChange::Opened, &increment);
    }

    #[test]
    fn the_peak_is_that_of_the_busiest_second() {
        let mut rates = ServiceRates::default();
        rates.start(5 * SECOND);
        let seconds = [(1, 100), (8, 10), (2, 900)];
        for (at, (connections, wire_bytes)) in (6..).zip(seconds) {
            (0..connections).for_each(|_| add(&mut rates, 80, Direction::Ingress, wire_bytes));
            add(&mut rates, 443, Direction::Egress, 1);
            // Half a second later no second has passed.
            rates.end_interval(at * SECOND - SECOND / 2);
            rates.end_interval(at * SECOND);
        }
        add(&mut rates, 80, Direction::Ingress, 1_000_000);
        let peaks: Vec<_> = rates.peaks().collect();
        assert_eq!(peaks, [((Protocol::TCP, 80), PeakRates { connections: 8, wire_bytes: 1_800 })]);
    }

    #[test]
    fn a_late_end_of_a_second_makes_no_higher_rate() {
        let mut rates = ServiceRates::default();
        (0..10).for_each(|_| add(&mut rates, 80, Direction::Ingress, 30));
        rates.end_interval(SECOND / 2);
        assert_eq!(rates.peaks().count(), 0);
        rates.end_interval(4 * SECOND);
        assert_eq!(rates.peaks().next().map(|(_, peak)| (peak.connections, peak.wire_bytes)), Some((3, 75)));
    }
}
