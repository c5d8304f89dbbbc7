//! The process tree, with what each process used; and the unix sockets through which work left.

use std::collections::HashMap;

use super::began_ns;
use crate::format::html::table::{Cell, Kind, Table, column};
use crate::format::summary::text::command;
use crate::format::words;
use crate::process::{Attribution, LocalSocket, Process, ProcessId};
use crate::report::{FlowSum, Report};

/// Parents before their children.
pub(in crate::format::html) fn tree(report: &Report) -> Table {
    let used = report.by_process();
    let list = &report.processes.list;
    let ordered = ordered(list);
    let row = |id: &ProcessId| {
        let process = &list[id.0 as usize];
        let FlowSum { flows, counters } = used.get(id.0 as usize).map(|used| used.total).unwrap_or_default();
        let cut = if process.cmdline_cut { " …" } else { "" };
        vec![
            Cell::text(&process.comm),
            Cell::text(process.pid.to_string()),
            Cell::text(process.cmdline.as_ref().map(|arguments| command(arguments) + cut).unwrap_or_default()),
            Cell::text(process.exe.as_deref().unwrap_or_default()),
            Cell::text(process.uid.map(|uid| uid.to_string()).unwrap_or_default()),
            Cell::Number(process.start_ns.saturating_sub(began_ns(report))),
            Cell::unless_zero(flows),
            Cell::unless_zero(counters.egress.wire_bytes),
            Cell::unless_zero(counters.ingress.wire_bytes),
        ]
    };
    Table {
        id: "processes",
        caption: "Processes, and the flows that each used",
        columns: vec![
            column("Program", Kind::Tree, ""),
            column("PID", Kind::Code, "on the host"),
            column("Command", Kind::Code, ""),
            column("Executable", Kind::Code, ""),
            column("User", Kind::Code, "its uid"),
            column("Began", Kind::At, "since the start"),
            column("Flows", Kind::Count, "a flow counts for the process that used it, the surest and latest"),
            column("Sent", Kind::Bytes, "a flow counts for the process that used it, the surest and latest"),
            column("Received", Kind::Bytes, "a flow counts for the process that used it, the surest and latest"),
        ],
        rows: ordered.iter().map(|(id, _)| row(id)).collect(),
        depths: ordered.iter().map(|(_, depth)| *depth).collect(),
        empty: match &report.processes.attribution {
            Attribution::Absent if report.replay.is_some() => "A capture knows of no processes.",
            Attribution::Absent => "Processes were not looked for.",
            Attribution::Off(_) => "Processes could not be looked for.",
            Attribution::On => "No process used the network.",
        },
        ..Table::default()
    }
}

/// Depth first, with the depth of each. Whoever cannot be reached from the top (its parent is no ancestor's child) stands at the end, at the top.
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

/// Services of the machine itself.
pub(in crate::format::html) fn unix(report: &Report) -> Table {
    let row = |peer: &LocalSocket| {
        let processes = peer.processes.iter().filter_map(|id| report.processes.get(*id)).map(words::process);
        vec![
            Cell::text(&peer.path),
            Cell::Number(peer.connections),
            Cell::unless_zero(peer.failed),
            Cell::text(processes.collect::<Vec<_>>().join(", ")),
        ]
    };
    Table {
        id: "unix",
        caption: "Unix sockets",
        columns: vec![
            column("Path", Kind::Code, "an abstract name begins with @"),
            column("Connections", Kind::Count, ""),
            column("Failed", Kind::Count, "at once"),
            column("Used by", Kind::Text, ""),
        ],
        rows: report.processes.local_sockets.iter().map(row).collect(),
        empty: "No unix socket was connected to.",
        ..Table::default()
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
    fn nobody_is_lost_in_a_circle_or_behind_an_unknown_parent() {
        assert_eq!(shape(&[Some(1), Some(0), Some(2), Some(9)]), [(2, 0), (3, 0), (0, 0), (1, 1)]);
    }
}
