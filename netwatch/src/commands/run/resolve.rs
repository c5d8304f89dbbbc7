//! The last steps of a report, for which a signal ends the wait.

use std::net::IpAddr;
use std::sync::Arc;

use super::metering::Metering;
use super::signals::SignalStream;
use super::thread::in_thread;
use crate::dns::reverse;
use crate::error::Result;
use crate::report::Report;
use crate::terminal::print_error;

/// Adds names from reverse lookups to the report. A signal ends the wait for them.
pub(in crate::commands) async fn resolved(
    metering: &Metering,
    report: Arc<Report>,
    signals: &SignalStream<'_>,
) -> Result<Arc<Report>> {
    let addresses: Vec<IpAddr> = report.unnamed_addresses().collect();
    if addresses.is_empty() {
        return Ok(report);
    }
    let names = in_thread("resolve", move || reverse::names(addresses.into_iter()));
    let names = signals.unless_interrupted("look up", "names for --resolve", names).await.flatten();
    let names = names.unwrap_or_else(|error| {
        metering.note(error.to_string());
        Vec::new()
    });
    metering.resolve(names).await
}

/// Waits for a part of the report. If a signal ends the wait, this prints a message and returns
/// `None`: the report is missing, and the exit code is still that of the command.
pub(in crate::commands) async fn unless_ended<T>(
    signals: &SignalStream<'_>,
    work: impl Future<Output = T>,
) -> Option<T> {
    signals.unless_interrupted("make", "the report", work).await.inspect_err(print_error).ok()
}
