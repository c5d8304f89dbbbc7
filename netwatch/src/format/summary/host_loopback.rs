//! The traffic with services of the host's loopback (`--host-loopback`): on the loopback of the
//! namespace, so in no total.

use std::collections::{BTreeMap, BTreeSet};

use super::text::together;
use super::units::bytes;
use crate::format::escape;
use crate::report::{HostService, Report};

/// Services listed; further ones are added up.
const MAX_SERVICES: usize = 5;

#[derive(Default)]
struct ServiceTraffic<'a> {
    wire_bytes: u64,
    programs: BTreeSet<&'a str>,
}

/// `host loopback: tcp 127.0.0.1:3128 1.9 kB (curl)`; `None` without such traffic.
pub(super) fn text(report: &Report) -> Option<String> {
    let mut services: Vec<_> = by_service(report).into_iter().collect();
    services.sort_by_key(|(_, traffic)| std::cmp::Reverse(traffic.wire_bytes));
    let (shown, rest) = services.split_at(services.len().min(MAX_SERVICES));
    let mut texts: Vec<String> = shown.iter().map(|(service, traffic)| line(service, traffic)).collect();
    if !rest.is_empty() {
        let sum = rest.iter().map(|(_, traffic)| traffic.wire_bytes).sum();
        texts.push(together(&format!("{} more {}", rest.len(), bytes(sum))));
    }
    (!texts.is_empty()).then(|| format!("host loopback: {}", texts.join(", ")))
}

fn by_service(report: &Report) -> BTreeMap<HostService, ServiceTraffic<'_>> {
    let mut services: BTreeMap<HostService, ServiceTraffic<'_>> = BTreeMap::new();
    for known in &report.loopback.flows {
        let Some(service) = report.interface.host_service_of(&known.flow) else { continue };
        let traffic = services.entry(service).or_default();
        traffic.wire_bytes += known.flow.counters.both().wire_bytes;
        let user = known.users.first().and_then(|user| report.processes.get(user.process));
        traffic.programs.extend(user.map(|process| process.program()));
    }
    services
}

fn line(service: &HostService, traffic: &ServiceTraffic<'_>) -> String {
    let programs: Vec<String> = traffic.programs.iter().map(|program| escape(program).to_string()).collect();
    let programs = if programs.is_empty() { String::new() } else { format!(" ({})", programs.join(", ")) };
    together(&format!("{service} {}{programs}", bytes(traffic.wire_bytes)))
}
