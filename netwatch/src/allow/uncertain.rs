//! Lost observations that could hide a violation.

use super::access::{AccessTarget, NetworkAccess};
use super::decide::Decision;
use super::rule::AllowList;
use crate::flow::{BalanceState, RemainderKind, Remote};
use crate::report::Report;
use crate::wire::port;

/// What the verdict about a report rests on, beside addresses and ports.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Reliance {
    /// Something was allowed by its name.
    names: bool,
    /// Something was allowed by its name that has no server name: one may have been lost.
    unclaimed_names: bool,
    /// Something was allowed by its program.
    programs: bool,
    /// Names that were only looked up are checked.
    lookups: bool,
    /// Folded connections were allowed by name or program.
    folded: u64,
}

impl Reliance {
    fn of(list: &AllowList, decided: &[(NetworkAccess, Decision)]) -> Self {
        let mut reliance = Self { lookups: !list.any_lookup, ..Self::default() };
        for (access, decision) in decided {
            let Decision::Allowed(index) = decision else { continue };
            let (Some(rule), AccessTarget::Service { .. }) = (list.rules.get(*index), &access.target) else { continue };
            let (by_name, by_program) = (!rule.names.is_empty(), !rule.processes.is_empty());
            reliance.names |= by_name;
            reliance.unclaimed_names |= by_name && access.claimed.is_none();
            reliance.programs |= by_program;
            if access.is_folded && (by_name || by_program) {
                reliance.folded += access.count;
            }
        }
        reliance
    }
}

/// Sentences without a full stop; empty if nothing that was lost could hide a violation.
pub(super) fn uncertainties(report: &Report, list: &AllowList, decided: &[(NetworkAccess, Decision)]) -> Vec<String> {
    let reliance = Reliance::of(list, decided);
    let mut found = Vec::new();
    let mut add = |applies: bool, text: String| {
        if applies {
            found.push(text);
        }
    };
    add(!report.complete, "the run had not ended, or its recording is incomplete".into());
    if let Some(early) = report.replay.as_ref().and_then(|replay| replay.ended_early.as_ref()) {
        add(true, format!("the capture was read up to byte {} only ({})", early.offset, early.cause));
    }
    let packets = |kind| report.remainders.of(kind).both().packets;
    let (overflow, malformed) = (packets(RemainderKind::Overflow), packets(RemainderKind::Malformed));
    add(overflow > 0, format!("the flow table was full for {overflow} packets: their remotes are unknown"));
    add(malformed > 0, format!("{malformed} packets were malformed: their remotes are unknown"));
    let is_open = report.balance.state == BalanceState::Open;
    add(is_open, "the interface counted other packets than netwatch: the balance is open".into());
    let others = report.endpoints.iter().filter(|known| known.endpoint.key.remote == Remote::Others);
    add(others.count() > 0, "the endpoint table was full: some remotes are unknown".into());
    names(report, &reliance, &mut add);
    let lost = &report.processes.lost;
    let processes = lost.events + lost.unknown + lost.sockets + lost.beyond;
    add(
        processes > 0 && reliance.programs,
        format!("{processes} process events, sockets or processes were lost: programs may be wrong"),
    );
    let folded = reliance.folded;
    add(
        folded > 0,
        format!(
            "{folded} connections were folded into their endpoints: only names and programs of the \
         endpoints are known"
        ),
    );
    found
}

/// What hides names and lookups.
fn names(report: &Report, reliance: &Reliance, add: &mut impl FnMut(bool, String)) {
    let (samples, lost) = (report.lost.samples, &report.naming.lost);
    let relies = reliance.lookups || reliance.unclaimed_names;
    add(samples > 0 && relies, format!("{samples} samples were lost: server names and lookups may be missing"));
    let unread = lost.direction_bytes + lost.waiting_bytes + lost.open_flows + lost.flows + lost.names;
    add(
        unread > 0 && reliance.unclaimed_names,
        format!("server names of up to {unread} connections were not read: they may contradict DNS"),
    );
    let broken = lost.http2_broken;
    add(broken > 0 && reliance.names, format!("{broken} HTTP/2 connections could not be decoded"));
    let lookups = lost.lookups + lost.records;
    add(lookups > 0 && reliance.lookups, format!("{lookups} DNS lookups or records were not recorded"));
    let answers_itself = report.loopback.flows.iter().any(|known| {
        let (key, counters) = (&known.flow.key, &known.flow.counters);
        let is_answered = counters.egress.packets > 0 && counters.ingress.packets > 0;
        let is_own = report.interface.host_service_of(&known.flow).is_none();
        is_own && is_answered && [key.local.port, key.remote.port].contains(&port::DNS)
    });
    add(
        answers_itself && reliance.names,
        "the program queried a DNS server of its own on the loopback, which can return any address for a name".into(),
    );
}
