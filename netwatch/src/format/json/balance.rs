//! The balance, lost observations, folded flows and remainders as JSON objects.

use std::collections::BTreeMap;

use serde::Serialize;

use super::document::{JsonCounters, JsonDirections, protocol_name};
use super::{is_false, is_zero};
use crate::flow::{
    Amount, Balance, Counters, Difference, FileBalance, FoldedCounts, ObservationLosses, PerDirection, Protocol,
    RemainderKind, Traffic,
};
use crate::report::Report;

/// The balance always has all of its numbers, also those that are 0: a difference of 0 is its
/// result.
#[derive(Serialize)]
pub(super) struct JsonBalance {
    state: &'static str,
    counted: JsonDirections<JsonAmount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<JsonDirections<JsonAmount>>,
    dropped_skbs: u64,
    flows: JsonDirections<JsonAmount>,
    remainders: BTreeMap<&'static str, JsonDirections<JsonAmount>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<JsonDirections<JsonDifference>>,
    unassigned: JsonDirections<JsonDifference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<JsonFileBalance>,
}

#[derive(Serialize)]
struct JsonAmount {
    skbs: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct JsonDifference {
    skbs: i64,
    bytes: i64,
}

#[derive(Serialize)]
struct JsonFileBalance {
    frames: JsonAmount,
    left_out: JsonAmount,
    difference: JsonDifference,
}

#[derive(Serialize)]
pub(super) struct JsonLost {
    #[serde(skip_serializing_if = "is_zero")]
    samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    unreadable: u64,
    #[serde(skip_serializing_if = "is_zero")]
    table_full: u64,
    #[serde(skip_serializing_if = "is_zero")]
    insert_failed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    new_flows: u64,
    #[serde(skip_serializing_if = "is_zero")]
    unselected: u64,
}

#[derive(Serialize)]
pub(super) struct JsonFolded {
    #[serde(skip_serializing_if = "is_zero")]
    flows: u64,
    #[serde(skip_serializing_if = "is_false")]
    at_least: bool,
    #[serde(skip_serializing_if = "is_zero")]
    icmp_errors: u64,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    egress: JsonCounters,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    ingress: JsonCounters,
}

#[derive(Serialize)]
pub(super) struct JsonRemainder {
    kind: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    egress: JsonCounters,
    #[serde(skip_serializing_if = "JsonCounters::is_zero")]
    ingress: JsonCounters,
}

/// Remainders by their detail, converted one at a time. Link housekeeping has no detail beyond
/// `balance.remainders`.
pub(super) fn remainders(report: &Report) -> impl Iterator<Item = JsonRemainder> {
    let remainder = |(traffic, counters): (&Traffic, &PerDirection<Counters>)| {
        let (kind, detail) = (RemainderKind::of(traffic)?.name(), detail(traffic)?);
        Some(JsonRemainder { kind, detail, egress: counters.egress.into(), ingress: counters.ingress.into() })
    };
    report.remainders.details().filter_map(remainder)
}

fn detail(traffic: &Traffic) -> Option<String> {
    match traffic {
        Traffic::NonIp(0) => Some("802.3".to_owned()),
        Traffic::NonIp(ethertype) => Some(format!("{ethertype:#06x}")),
        Traffic::Malformed(reason) => Some(reason.name().to_owned()),
        Traffic::Overflow(protocol) => Some(protocol_name(Protocol(*protocol)).into_owned()),
        Traffic::Flow(_) | Traffic::Housekeeping(_) => None,
    }
}

impl From<&Balance> for JsonBalance {
    fn from(balance: &Balance) -> Self {
        Self {
            state: balance.state.name(),
            counted: balance.counted.into(),
            interface: balance.interface.map(Into::into),
            dropped_skbs: balance.dropped,
            flows: balance.flows.into(),
            remainders: balance.remainders.iter().map(|(kind, amounts)| (kind.name(), (*amounts).into())).collect(),
            difference: balance.difference.map(Into::into),
            unassigned: balance.unassigned.into(),
            file: balance.file.map(Into::into),
        }
    }
}

impl From<FileBalance> for JsonFileBalance {
    fn from(FileBalance { frames, left_out, difference }: FileBalance) -> Self {
        Self { frames: frames.into(), left_out: left_out.into(), difference: difference.into() }
    }
}

impl From<Amount> for JsonAmount {
    fn from(Amount { skbs, bytes }: Amount) -> Self {
        Self { skbs, bytes }
    }
}

impl From<Difference> for JsonDifference {
    fn from(Difference { skbs, bytes }: Difference) -> Self {
        Self { skbs, bytes }
    }
}

impl From<ObservationLosses> for JsonLost {
    fn from(lost: ObservationLosses) -> Self {
        let ObservationLosses { samples, unreadable, table_full, insert_failed, new_flows, unselected } = lost;
        Self { samples, unreadable, table_full, insert_failed, new_flows, unselected }
    }
}

impl From<FoldedCounts> for JsonFolded {
    fn from(folded: FoldedCounts) -> Self {
        Self {
            flows: folded.flows,
            at_least: folded.at_least,
            icmp_errors: folded.icmp_errors,
            egress: folded.counters.egress.into(),
            ingress: folded.counters.ingress.into(),
        }
    }
}
