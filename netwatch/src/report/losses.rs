//! Names of the reasons why observations were lost, the same in recordings, events, metrics and
//! JSON reports.

use crate::flow::ObservationLosses;
use crate::name::NamesLost;
use crate::process::ProcessLosses;

/// Every reason with its count. Reasons of names and of processes have a prefix.
pub fn loss_reasons(
    observations: &ObservationLosses,
    names: &NamesLost,
    processes: &ProcessLosses,
) -> Vec<(&'static str, u64)> {
    vec![
        ("samples", observations.samples),
        ("unreadable", observations.unreadable),
        ("table_full", observations.table_full),
        ("insert_failed", observations.insert_failed),
        ("new_flows", observations.new_flows),
        ("unselected", observations.unselected),
        ("names.direction_bytes", names.direction_bytes),
        ("names.waiting_bytes", names.waiting_bytes),
        ("names.open_flows", names.open_flows),
        ("names.flows", names.flows),
        ("names.addresses", names.addresses),
        ("names.names", names.names),
        ("names.lookups", names.lookups),
        ("names.pending", names.pending),
        ("names.records", names.records),
        ("names.http2_broken", names.http2_broken),
        ("processes.events", processes.events),
        ("processes.sockets", processes.sockets),
        ("processes.exited", processes.gone),
        ("processes.unreadable", processes.unreadable),
        ("processes.unknown_records", processes.unknown),
        ("processes.over_limit", processes.beyond),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_count() {
        let observations = ObservationLosses { samples: 3, ..Default::default() };
        let processes = ProcessLosses { events: 5, ..Default::default() };
        let reasons = loss_reasons(&observations, &NamesLost::default(), &processes);
        let names: std::collections::BTreeSet<_> = reasons.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), reasons.len());
        let counted: Vec<_> = reasons.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("samples", 3), ("processes.events", 5)]);
    }
}
