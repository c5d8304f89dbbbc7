//! The same document as lines, one object each with a `type`: for logs and stores that read line by line.

use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::flow::{Endpoints, Flows};
use super::model::{Counters, Document};
use super::naming;
use super::process;
use crate::format::rfc3339;
use crate::report::{Interval, Report, Series};

/// A line. The object stands under its type's name: its own keys are the document's, where `type` may be one of them.
struct Line<'a, T> {
    r#type: &'static str,
    run_id: &'a str,
    object: T,
}

impl<T: Serialize> Serialize for Line<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.r#type)?;
        if !self.run_id.is_empty() {
            map.serialize_entry("run_id", self.run_id)?;
        }
        map.serialize_entry(self.r#type, &self.object)?;
        map.end()
    }
}

#[derive(Serialize)]
struct JsonStep {
    start: String,
    length_ns: u64,
    egress: Counters,
    ingress: Counters,
    opened: u64,
    active: u64,
}

/// Writes a line for the report without its long lists, then one for each thing in them, and for each step in time.
pub fn write(report: &Report, series: &Series, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Lines { run_id: &report.run.id, out };
    lines.put("report", Document::without_lists(report))?;
    lines.all("endpoint", Endpoints(report).each())?;
    lines.all("flow", Flows(&report.flows, &report.processes).each())?;
    lines.all("loopback_flow", Flows(&report.loopback.flows, &report.processes).each())?;
    lines.all("lookup", naming::lookups(report))?;
    lines.all("attempt", process::attempts(report).into_iter())?;
    // A capture knows of none: then the document has no such lists.
    if report.replay.is_none() {
        lines.all("process", process::processes(report).into_iter())?;
        lines.all("unix_socket", process::unix_sockets(&report.processes).into_iter())?;
    }
    lines.all("step", series.intervals.iter().map(JsonStep::from))
}

struct Lines<'a> {
    run_id: &'a str,
    out: &'a mut dyn Write,
}

impl Lines<'_> {
    fn put(&mut self, r#type: &'static str, object: impl Serialize) -> io::Result<()> {
        super::harmless::line(&Line { r#type, run_id: self.run_id, object }, self.out)?;
        self.out.write_all(b"\n")
    }

    fn all(&mut self, r#type: &'static str, objects: impl Iterator<Item = impl Serialize>) -> io::Result<()> {
        objects.into_iter().try_for_each(|object| self.put(r#type, object))
    }
}

impl From<&Interval> for JsonStep {
    fn from(step: &Interval) -> Self {
        Self {
            start: rfc3339(step.start_ns),
            length_ns: step.length_ns,
            egress: step.totals.egress.into(),
            ingress: step.totals.ingress.into(),
            opened: step.opened,
            active: step.active,
        }
    }
}
