//! Events of connections for people and programs: a line for each connection that was opened,
//! named, failed or ended, and for each attempt that failed without one.

mod attempts;
mod queriers;
mod recent_names;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use self::attempts::WrittenAttempts;
use self::recent_names::RecentNames;
use super::remembered::{RememberedFlows, RememberedProcesses};
use super::{Consumer, StreamEnd};
use crate::error::{Error, Result};
use crate::flow::{EndpointKey, FailedAttempts};
use crate::format::events::{AttemptEvent, ConnectionEvent, ConnectionEventKind, write_lost, write_note};
use crate::process::{Attempt, Process, ProcessId};
use crate::report::{Interface, Report};
use crate::session::{Event, EventKinds, FlowRecord, ProcessRecord};

/// Writes the events of connections.
#[derive(Debug)]
pub struct EventLines<W: Write> {
    out: BufWriter<W>,
    is_json: bool,
    /// What is written, and where, for errors.
    object: String,
    /// What was written about each flow.
    flows: RememberedFlows<Written>,
    attempts: WrittenAttempts,
    names: RecentNames,
    processes: RememberedProcesses<Arc<ProcessRecord>>,
    interface: Interface,
}

#[derive(Debug, Default, Clone, Copy)]
struct Written {
    /// It was opened, and has not ended since.
    is_open: bool,
    /// A hash of its name; `None` without a name.
    name: Option<u64>,
    failed: FailedAttempts,
}

/// What a record of a flow reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordChange {
    Opened,
    Grew,
    Ended,
}

impl<W: Write> EventLines<W> {
    /// Writes to `out`: text, or JSON lines.
    pub fn new(out: W, is_json: bool) -> Self {
        Self {
            out: BufWriter::new(out),
            is_json,
            object: "events".to_owned(),
            flows: RememberedFlows::default(),
            attempts: WrittenAttempts::default(),
            names: RecentNames::default(),
            processes: RememberedProcesses::default(),
            interface: Interface::default(),
        }
    }

    /// Errors name this file.
    #[must_use]
    pub fn to(self, path: &Path) -> Self {
        Self { object: format!("events to {}", path.display()), ..self }
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::FlowOpened(record) => self.flow(record, RecordChange::Opened),
            Event::FlowGrew(record) => self.flow(record, RecordChange::Grew),
            Event::FlowEnded(record, reason) => {
                self.flow(record, RecordChange::Ended)?;
                self.write(ConnectionEventKind::Ended(*reason), record)
            }
            Event::UsedBy(used) => {
                self.processes.insert(used.process.number, used.clone());
                Ok(())
            }
            Event::Started(started) => {
                self.interface.clone_from(&started.interface);
                Ok(())
            }
            Event::Attempts(all) => {
                let new = self.attempts.new_calls(all);
                self.write_attempts(&new)
            }
            Event::DnsExchange(_, lookup) => {
                self.names.note_lookup(lookup);
                let new = self.attempts.new_of_lookup(lookup);
                self.write_attempts(&new)
            }
            Event::Finished(finished) => self.last_attempts(&finished.report),
            Event::Lost(reason, count) => write_lost(reason, *count, self.is_json, &mut self.out),
            // As text, notes of importance are on standard error already.
            Event::Note(text) if self.is_json => write_note(text, &mut self.out),
            _ => Ok(()),
        }
    }

    /// Writes what is new about a flow.
    fn flow(&mut self, record: &FlowRecord, change: RecordChange) -> io::Result<()> {
        self.attempts.note_flow(record);
        self.names.note_flow(record);
        let serial = record.flow.serial;
        // Late segments, errors and names: the flow has not opened again. If it was forgotten, it
        // ended long ago.
        let is_late = change == RecordChange::Grew && record.flow.ended.is_some();
        let is_known = self.flows.has(serial);
        if is_late && !is_known {
            return Ok(());
        }
        let failed = if change == RecordChange::Ended { record.flow.failed() } else { record.flow.failed_so_far() };
        let display = record.naming.as_ref().and_then(|naming| naming.display_name.as_ref());
        let name = display.map(|display| hash_of(display.name.as_str()));
        let written = self.flows.entry(serial);
        let before = *written;
        let is_open = change != RecordChange::Ended && !is_late;
        *written = Written { is_open, name: name.or(before.name), failed };
        match change {
            RecordChange::Ended => self.flows.end(serial),
            _ if is_open && !before.is_open => self.flows.reopen(serial),
            _ => {}
        }
        // An end comes alone if the flow was live again only since the last records.
        let ends_again = change == RecordChange::Ended && is_known;
        let opens = !before.is_open && !is_late && !ends_again;
        if opens {
            self.write(ConnectionEventKind::Opened, record)?;
        }
        // The line of the opening has the name.
        if name.is_some() && name != before.name && !is_late && !opens {
            self.write(ConnectionEventKind::Named, record)?;
        }
        if failed.attempts() > before.failed.attempts() {
            self.write(ConnectionEventKind::Failed(failed), record)?;
        } else if before.failed.unanswered > 0 && failed.attempts() == 0 {
            self.write(ConnectionEventKind::Answered, record)?;
        }
        Ok(())
    }

    fn write(&mut self, kind: ConnectionEventKind, record: &FlowRecord) -> io::Result<()> {
        let FlowRecord { flow, naming, usages } = record;
        let users: Vec<_> = usages.iter().filter_map(|usage| self.processes.get(usage.process).cloned()).collect();
        let processes: Vec<&Process> = users.iter().map(|user| &user.process).collect();
        let is_dns_forwarder = self.interface.is_dns_forwarder(&EndpointKey::of(&flow.key, flow.opened_by));
        let event = ConnectionEvent { kind, flow, naming: naming.as_deref(), processes: &processes, is_dns_forwarder };
        if self.is_json { event.write_json(&mut self.out) } else { event.write_text(&mut self.out) }
    }

    fn write_attempts(&mut self, new: &[Attempt]) -> io::Result<()> {
        for attempt in new {
            let process = attempt.process.and_then(|ProcessId(number)| self.processes.get(number).cloned());
            self.write_attempt(attempt, process.as_ref().map(|record| &record.process))?;
        }
        Ok(())
    }

    fn write_attempt(&mut self, attempt: &Attempt, process: Option<&Process>) -> io::Result<()> {
        let name = self.names.name(attempt);
        let event = AttemptEvent { attempt, process, name };
        if self.is_json { event.write_json(&mut self.out) } else { event.write_text(&mut self.out) }
    }

    /// Writes the attempts of which only the end shows that they failed.
    fn last_attempts(&mut self, report: &Report) -> io::Result<()> {
        for attempt in self.attempts.new_of_report(report) {
            let process = attempt.process.and_then(|id| report.processes.get(id));
            self.write_attempt(&attempt, process)?;
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::os("write", self.object.clone(), error)
    }

    /// Writes how much the session did not deliver, because this consumer was too slow.
    fn write_missed(&mut self, end: &StreamEnd) -> io::Result<()> {
        if let StreamEnd::Concluded(missed) = end {
            let count = missed.events + missed.flows.counts().flows;
            if count > 0 {
                write_lost("events.missed", count, self.is_json, &mut self.out)?;
            }
        }
        self.out.flush()
    }
}

/// Stands for a text in the memory of flows.
fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl<W: Write + Send + 'static> Consumer for EventLines<W> {
    fn name(&self) -> &'static str {
        "events"
    }

    fn wants(&self) -> EventKinds {
        EventKinds::FLOW_OPENED
            .with(EventKinds::FLOW_GREW)
            .with(EventKinds::FLOW_ENDED)
            .with(EventKinds::USED_BY)
            .with(EventKinds::ATTEMPTS)
            .with(EventKinds::DNS_EXCHANGE)
            .with(EventKinds::LOST)
            .with(EventKinds::NOTE)
            .with(EventKinds::SESSION)
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        let written = events.iter().try_for_each(|event| self.event(event)).and_then(|()| self.out.flush());
        written.map_err(|error| self.failed(error))
    }

    fn finish(&mut self, end: &StreamEnd) -> Result<()> {
        self.write_missed(end).map_err(|error| self.failed(error))
    }
}
