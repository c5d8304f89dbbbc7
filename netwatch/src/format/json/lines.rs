//! The document as lines, one object each with a `type`: for logs and stores that read line by
//! line.

use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::document::Document;
use super::{escaped, flow, naming, process, series};
use crate::report::Report;

/// A line. The object is the value of the key with the name of its type, because its own keys may
/// include `type`.
struct JsonLine<'a, T> {
    r#type: &'static str,
    run_id: &'a str,
    object: T,
}

impl<T: Serialize> Serialize for JsonLine<'_, T> {
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

/// Writes a line for the report without its long lists, then one per list entry and one per
/// interval of the series.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Lines { run_id: &report.run.id, out };
    lines.write("report", Document { report, with_lists: false })?;
    lines.write_all("endpoint", flow::endpoints(report))?;
    lines.write_all("flow", flow::flows(report, &report.flows))?;
    lines.write_all("loopback_flow", flow::flows(report, &report.loopback.flows))?;
    lines.write_all("lookup", naming::lookups(report))?;
    lines.write_all("attempt", process::attempts(report))?;
    // The document of a capture has no such lists.
    if report.replay.is_none() {
        lines.write_all("process", process::processes(report))?;
        lines.write_all("local_socket", process::local_sockets(&report.processes))?;
    }
    lines.write_all("interval", series::intervals(&report.series))?;
    lines.write_all("endpoint_series", series::endpoints(&report.series))
}

struct Lines<'a> {
    run_id: &'a str,
    out: &'a mut dyn Write,
}

impl Lines<'_> {
    fn write(&mut self, r#type: &'static str, object: impl Serialize) -> io::Result<()> {
        escaped::line(&JsonLine { r#type, run_id: self.run_id, object }, self.out)?;
        self.out.write_all(b"\n")
    }

    fn write_all(&mut self, r#type: &'static str, mut objects: impl Iterator<Item = impl Serialize>) -> io::Result<()> {
        objects.try_for_each(|object| self.write(r#type, object))
    }
}
