//! The process tree with the traffic of each process, and the local sockets.

use std::collections::HashMap;

use super::start_ns;
use crate::format::html::table::{ColumnKind, HtmlCell, HtmlTable, column, detail};
use crate::format::summary::text::command;
use crate::format::words;
use crate::process::{Attribution, LocalSocket, Process, ProcessId};
use crate::report::{FlowSum, Report};

/// Parents before their children.
pub(in crate::format::html) fn tree(report: &Report) -> HtmlTable {
    let used = report.by_process();
    let list = &report.processes.list;
    let ordered = ordered(list);
    let row = |id: &ProcessId| {
        let process = &list[id.0 as usize];
        let FlowSum { flows, counters } = used.get(id.0 as usize).map(|used| used.total).unwrap_or_default();
        let cut = if process.cmdline_cut { " …" } else { "" };
        vec![
            HtmlCell::text(&process.comm),
            HtmlCell::text(process.pid.to_string()),
            HtmlCell::text(process.cmdline.as_ref().map(|arguments| command(arguments) + cut).unwrap_or_default()),
            HtmlCell::text(process.exe.as_deref().unwrap_or_default()),
            HtmlCell::text(process.uid.map(|uid| uid.to_string()).unwrap_or_default()),
            HtmlCell::Number(process.start_ns.saturating_sub(start_ns(report))),
            HtmlCell::unless_zero(flows),
            HtmlCell::unless_zero(counters.egress.wire_bytes),
            HtmlCell::unless_zero(counters.ingress.wire_bytes),
        ]
    };
    HtmlTable {
        id: "processes",
        caption: "Processes and their traffic",
        columns: vec![
            column("Program", ColumnKind::Tree, ""),
            column("PID", ColumnKind::Code, "on the host"),
            column("Command", ColumnKind::Code, ""),
            detail("Executable", ColumnKind::Code, ""),
            detail("User", ColumnKind::Code, "its uid"),
            detail("Start", ColumnKind::At, "since the start of the run"),
            column(
                "Flows",
                ColumnKind::Count,
                "a flow counts for the process with the best evidence, the latest of several",
            ),
            column(
                "Sent",
                ColumnKind::Bytes,
                "a flow counts for the process with the best evidence, the latest of several",
            ),
            column(
                "Received",
                ColumnKind::Bytes,
                "a flow counts for the process with the best evidence, the latest of several",
            ),
        ],
        rows: ordered.iter().map(|(id, _)| row(id)).collect(),
        depths: ordered.iter().map(|(_, depth)| *depth).collect(),
        empty: match &report.processes.attribution {
            Attribution::Absent if report.replay.is_some() => "A capture has no processes.",
            Attribution::Absent => "Processes were not traced.",
            Attribution::Off(_) => "Processes could not be traced.",
            Attribution::On => "No process used the network.",
        },
        ..HtmlTable::default()
    }
}

/// Depth-first order with depths. Processes that no root reaches (their parents form a cycle) come
/// last, at depth 0.
fn ordered(list: &[Process]) -> Vec<(ProcessId, usize)> {
    let mut children: HashMap<Option<ProcessId>, Vec<ProcessId>> = HashMap::new();
    let ids = || (0..u32::try_from(list.len()).unwrap_or(u32::MAX)).map(ProcessId);
    for (id, process) in ids().zip(list) {
        let parent = process.parent.filter(|parent| *parent != id && (parent.0 as usize) < list.len());
        children.entry(parent).or_default().push(id);
    }
    let mut ordered = Vec::with_capacity(list.len());
    let mut seen = vec![false; list.len()];
    let mut waiting: Vec<(ProcessId, usize)> = Vec::new();
    let roots = children.get(&None).cloned().unwrap_or_default();
    for root in roots.into_iter().chain(ids()) {
        waiting.push((root, 0));
        while let Some((id, depth)) = waiting.pop() {
            if std::mem::replace(&mut seen[id.0 as usize], true) {
                continue;
            }
            ordered.push((id, depth));
            let below = children.get(&Some(id)).into_iter().flatten().rev();
            waiting.extend(below.map(|child| (*child, depth + 1)));
        }
    }
    ordered
}

/// Local sockets that the target connected to.
pub(in crate::format::html) fn local_sockets(report: &Report) -> HtmlTable {
    let row = |peer: &LocalSocket| {
        let processes = peer.processes.iter().filter_map(|id| report.processes.get(*id)).map(words::process);
        vec![
            HtmlCell::text(&peer.path),
            HtmlCell::Number(peer.connections),
            HtmlCell::unless_zero(peer.failed),
            HtmlCell::text(processes.collect::<Vec<_>>().join(", ")),
        ]
    };
    HtmlTable {
        id: "local-sockets",
        caption: "Local sockets",
        columns: vec![
            column("Path", ColumnKind::Code, "an abstract name begins with @"),
            column("Connections", ColumnKind::Count, ""),
            column("Failed", ColumnKind::Count, "at once"),
            column("Processes", ColumnKind::Text, ""),
        ],
        rows: report.used_local_sockets().map(row).collect(),
        empty: "No local socket was used.",
        ..HtmlTable::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(parents: &[Option<u32>]) -> Vec<(u32, usize)> {
        let process = |parent: &Option<u32>| Process { parent: parent.map(ProcessId), ..Process::default() };
        let list: Vec<Process> = parents.iter().map(process).collect();
        ordered(&list).into_iter().map(|(id, depth)| (id.0, depth)).collect()
    }

    #[test]
    fn children_follow_their_parent() {
        assert_eq!(shape(&[None, Some(0), Some(0), Some(1)]), [(0, 0), (1, 1), (3, 2), (2, 1)]);
    }

    #[test]
    fn processes_in_a_cycle_or_with_an_unknown_parent_are_listed() {
        assert_eq!(shape(&[Some(1), Some(0), Some(2), Some(9)]), [(2, 0), (3, 0), (0, 0), (1, 1)]);
    }
}
