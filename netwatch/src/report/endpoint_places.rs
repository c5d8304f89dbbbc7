//! Which endpoint of a report a flow belongs to. Several endpoints have one key if their flows have
//! different names.

use std::collections::HashMap;

use super::{Report, ReportEndpoint, ReportFlow};
use crate::flow::EndpointKey;

/// The places of endpoints in a report, by the flows that belong to them.
#[derive(Debug)]
pub struct EndpointPlaces<'a> {
    endpoints: &'a [ReportEndpoint],
    places: HashMap<EndpointKey, Vec<usize>>,
}

impl EndpointPlaces<'_> {
    /// The endpoint of a flow: the one with its display name, or the first with its key.
    pub fn of(&self, known: &ReportFlow) -> Option<usize> {
        let places = self.places.get(&EndpointKey::of(&known.flow.key, known.flow.opened_by))?;
        let name = known.display_name().map(|shown| &shown.name);
        let is_named = |place: &&usize| {
            self.endpoints[**place].display_name.as_ref().is_some_and(|shown| Some(&shown.name) == name)
        };
        places.iter().find(is_named).or(places.first()).copied()
    }

    /// The first endpoint with this key: that of folded flows and of flows without a name.
    pub fn of_key(&self, key: &EndpointKey) -> Option<usize> {
        self.places.get(key)?.first().copied()
    }
}

impl Report {
    /// The handshake times of the flows of each endpoint, nanoseconds, in the order of the
    /// endpoints. Empty where only folded flows had one.
    pub fn handshakes(&self) -> Vec<Vec<u64>> {
        let places = self.endpoint_places();
        let mut times = vec![Vec::new(); self.endpoints.len()];
        for known in &self.flows {
            let rtt = known.flow.tcp.and_then(|tcp| tcp.handshake_rtt_ns);
            if let (Some(rtt), Some(place)) = (rtt, places.of(known)) {
                times[place].push(rtt);
            }
        }
        times
    }

    /// The flows of each endpoint, in the order of the endpoints.
    pub fn flows_by_endpoint(&self) -> Vec<Vec<&ReportFlow>> {
        let places = self.endpoint_places();
        let mut flows = vec![Vec::new(); self.endpoints.len()];
        for known in &self.flows {
            if let Some(place) = places.of(known) {
                flows[place].push(known);
            }
        }
        flows
    }

    /// The places of endpoints by their flows.
    pub fn endpoint_places(&self) -> EndpointPlaces<'_> {
        let mut places: HashMap<EndpointKey, Vec<usize>> = HashMap::new();
        for (place, known) in self.endpoints.iter().enumerate() {
            places.entry(known.endpoint.key).or_default().push(place);
        }
        EndpointPlaces { endpoints: &self.endpoints, places }
    }
}
