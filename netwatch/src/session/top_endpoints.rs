//! The series of the endpoints with most traffic. An endpoint that becomes one of them later has
//! its earlier traffic as one sum.

use std::collections::HashMap;

use crate::flow::{Counters, Direction, EndpointKey, FlowKey, PerDirection};
use crate::report::{EndpointSeries, Interval};

/// Number of endpoints with a series.
const MAX_SERIES: usize = 8;
/// Maximum number of endpoints of which the sums are known, so that they can become one of them.
const MAX_CANDIDATES: usize = 4_096;
/// An endpoint replaces the smallest one with a series if it has so many times its traffic.
const REPLACE_FACTOR: u64 = 2;

type ByEndpoint<V> = HashMap<EndpointKey, V, foldhash::fast::RandomState>;

/// The endpoints of the link with most traffic.
#[derive(Debug, Default)]
pub(super) struct TopEndpoints {
    series: Vec<EndpointSeries>,
    /// The bytes of each.
    sums: Vec<u64>,
    /// What happened in the current interval.
    current: ByEndpoint<Interval>,
    /// The sums of endpoints without a series.
    candidates: ByEndpoint<PerDirection<Counters>>,
}

impl TopEndpoints {
    /// The current interval of the endpoint of a flow; `None` if there are too many endpoints.
    pub(super) fn interval(&mut self, flow: &FlowKey, opened_by: Direction) -> Option<&mut Interval> {
        let key = EndpointKey::of(flow, opened_by);
        let has_room = self.current.len() < MAX_CANDIDATES || self.current.contains_key(&key);
        has_room.then(|| self.current.entry(key).or_default())
    }

    /// The series of the largest endpoints, largest first.
    pub(super) fn to_series(&self) -> Vec<EndpointSeries> {
        let mut series = self.series.clone();
        series.sort_by_cached_key(|known| (std::cmp::Reverse(bytes(&known.totals())), known.key));
        series
    }

    /// Ends the current interval.
    pub(super) fn end_interval(&mut self, start_ns: u64, length_ns: u64) {
        let mut current = std::mem::take(&mut self.current);
        for (known, sum) in self.series.iter_mut().zip(&mut self.sums) {
            if let Some(interval) = current.remove(&known.key) {
                *sum = sum.saturating_add(bytes(&interval.totals));
                known.push(Interval { start_ns, length_ns, ..interval });
            }
        }
        for (key, interval) in current.drain().filter(|(_, interval)| !interval.is_empty()) {
            self.add_candidate(key, Interval { start_ns, length_ns, ..interval });
        }
        // Its memory is kept.
        self.current = current;
    }

    /// Adds an interval of an endpoint without a series, which gets one if it is large enough.
    fn add_candidate(&mut self, key: EndpointKey, interval: Interval) {
        let before = self.candidates.get(&key).copied();
        let mut sum = before.unwrap_or_default();
        let own = bytes(&sum).saturating_add(bytes(&interval.totals));
        let smallest = self.sums.iter().zip(0..).min();
        let has_room = self.series.len() < MAX_SERIES;
        let replaced = smallest.filter(|(least, _)| !has_room && own > least.saturating_mul(REPLACE_FACTOR));
        let replaced = replaced.map(|(_, place)| place);
        if !has_room && replaced.is_none() {
            sum += interval.totals;
            if before.is_some() || self.candidates.len() < MAX_CANDIDATES {
                self.candidates.insert(key, sum);
            }
            return;
        }
        self.candidates.remove(&key);
        let series = EndpointSeries { key, before: sum, intervals: vec![interval] };
        match replaced {
            Some(place) => {
                let smaller: EndpointSeries = std::mem::replace(&mut self.series[place], series);
                self.sums[place] = own;
                self.candidates.insert(smaller.key, smaller.totals());
            }
            None => {
                self.series.push(series);
                self.sums.push(own);
            }
        }
    }
}

fn bytes(totals: &PerDirection<Counters>) -> u64 {
    totals.both().wire_bytes
}
