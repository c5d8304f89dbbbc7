//! Processes of a recording that lost their rows, because only folded flows used them.

use std::collections::HashSet;

use rusqlite::{Connection, Result};

use super::serials::Serials;
use crate::consumer::remembered::RememberedProcesses;
use crate::process::{Process, ProcessId, ProcessNumber};
use crate::record::rows;
use crate::report::Report;

/// Removed processes that can be written again, at least: a session sends each process once.
const MIN_RECENT: usize = 1 << 15;

/// The processes that were removed and not written again.
#[derive(Debug)]
pub(super) struct RemovedProcesses {
    /// Those removed last, with the number of their parent.
    recent: RememberedProcesses<(Process, Option<ProcessNumber>)>,
    /// The numbers of all.
    numbers: Serials,
}

impl Default for RemovedProcesses {
    fn default() -> Self {
        Self { recent: RememberedProcesses::at_least(MIN_RECENT), numbers: Serials::default() }
    }
}

impl RemovedProcesses {
    /// Adds a process that has no row any more.
    pub(super) fn add(&mut self, process: Process, parent: Option<ProcessNumber>) {
        self.numbers.insert(process.number.into());
        self.recent.insert(process.number, (process, parent));
    }

    /// Writes those of these processes that were removed, because they are used again, and their
    /// ancestors. One that is not among the recent ones has no row before the end of the run.
    pub(super) fn restore(&mut self, db: &Connection, used: impl Iterator<Item = ProcessNumber>) -> Result<()> {
        if self.numbers.is_empty() {
            return Ok(());
        }
        for number in used {
            self.restore_one(db, number)?;
        }
        Ok(())
    }

    fn restore_one(&mut self, db: &Connection, number: ProcessNumber) -> Result<()> {
        let mut next = Some(number);
        while let Some(number) = next.filter(|number| self.numbers.contains((*number).into())) {
            let Some((process, parent)) = self.recent.take(number) else { return Ok(()) };
            rows::process(db, &process, parent)?;
            self.numbers.remove(number.into());
            next = parent;
        }
        Ok(())
    }

    /// The processes of the final report that get no row: those that were removed, and that no row
    /// of a flow, failed attempt or local socket names, nor is a descendant of theirs named.
    pub(super) fn left_out(&self, db: &Connection, report: &Report) -> Result<HashSet<ProcessNumber>> {
        let list = &report.processes.list;
        let removed =
            list.iter().map(|process| process.number).filter(|number| self.numbers.contains((*number).into()));
        let mut left_out: HashSet<ProcessNumber> = removed.collect();
        if left_out.is_empty() {
            return Ok(left_out);
        }
        let of_flows = rows::used_processes(db)?;
        let used = (0..).map(ProcessId).zip(list).filter(|(_, process)| of_flows.contains(&process.number));
        let used = used.map(|(id, _)| id).chain(report.attempts.iter().filter_map(|attempt| attempt.process));
        let used =
            used.chain(report.processes.local_sockets.iter().flat_map(|socket| socket.processes.iter().copied()));
        for id in used {
            let mut next = Some(id);
            while let Some(process) = next.and_then(|id| list.get(id.0 as usize)) {
                left_out.remove(&process.number);
                next = process.parent;
            }
        }
        Ok(left_out)
    }
}
