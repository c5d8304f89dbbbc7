//! The services that remotes connected to, each in a few lines: rates, response times and errors.

use super::text::together;
use super::units::{count, plural};
use crate::format::words;
use crate::report::{InboundService, Report};

/// Services listed; the JSON document has all of them.
const MAX_SERVICES: usize = 10;

/// A paragraph per service, that with most bytes first.
pub(super) fn facts(report: &Report) -> Vec<String> {
    let services = report.services();
    let mut facts: Vec<String> = services.iter().take(MAX_SERVICES).map(|service| fact(report, service)).collect();
    if services.len() > MAX_SERVICES {
        facts.push(format!("{} more", count((services.len() - MAX_SERVICES) as u64)));
    }
    facts
}

/// `tcp/80, published as 8080: 3 clients, 12.5 connections/s (peak 40), …`.
fn fact(report: &Report, service: &InboundService) -> String {
    let InboundService { protocol, port, clients, failed, .. } = service;
    let mut parts = vec![plural(*clients, "client", "clients")];
    parts.extend(words::rates(report, service));
    parts.extend(words::response_times(service).map(|times| format!("response {times}")));
    parts.extend(words::unmeasured(service));
    parts.extend(words::statuses(service));
    if failed.attempts() > 0 {
        parts.push(format!("{} failed", plural(failed.attempts(), "attempt", "attempts")));
    }
    let parts: Vec<String> = parts.iter().map(|part| together(part)).collect();
    let name = words::published(&format!("{protocol}/{port}"), &service.published);
    format!("{name}: {}", parts.join(", "))
}
