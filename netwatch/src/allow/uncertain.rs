//! Lost observations that could hide a violation.

use super::access::{AccessTarget, NetworkAccess};
use super::decide::Decision;
use super::rule::AllowList;
use crate::flow::{BalanceState, Counters, Flow, PerDirection, Protocol, RemainderKind, Remote};
use crate::report::Report;
use crate::wire::port;

/// What the verdict about a report relies on, besides addresses and ports.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Reliance {
    /// Something was allowed by its name.
    names: bool,
    /// Something without a server name was allowed by its name. Its server name may have been lost.
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
            reliance.unclaimed_names |= by_name && access.claimed.is_empty();
            reliance.programs |= by_program;
            if access.is_folded && (by_name || by_program) {
                reliance.folded = reliance.folded.saturating_add(access.count);
            }
        }
        reliance
    }
}

/// Sentences without a full stop; empty if nothing that was lost could hide a violation.
pub(super) fn uncertainties(report: &Report, list: &AllowList, decided: &[(NetworkAccess, Decision)]) -> Vec<String> {
    let reliance = Reliance::of(list, decided);
    let always = remotes(report);
    let lost = &report.processes.lost;
    let processes = sum([lost.events, lost.unknown, lost.sockets, lost.beyond]);
    let others = [
        counted(
            reliance.programs,
            processes,
            ["process event or socket was", "process events or sockets were"],
            "lost",
        ),
        counted(
            reliance.programs,
            sum([lost.gone, lost.unreadable]),
            ["process", "processes"],
            "exited or could not be read before the program was known",
        ),
        counted(
            true,
            reliance.folded,
            ["connection was", "connections were"],
            "folded: only the names and programs of the endpoint are known",
        ),
    ];
    always
        .into_iter()
        .chain(names(report, &reliance))
        .chain(loopback(report, &reliance))
        .chain(others)
        .flatten()
        .collect()
}

/// Adds up without overflow, because a recording or document may contain any number.
fn sum<const N: usize>(counts: [u64; N]) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// A sentence about this number of things; `None` if they do not matter or there are none.
fn counted(matters: bool, count: u64, [one, many]: [&str; 2], what: &str) -> Option<String> {
    let subject = if count == 1 { one } else { many };
    (matters && count > 0).then(|| format!("{count} {subject} {what}"))
}

/// Losses that hide remotes, and with them any violation.
fn remotes(report: &Report) -> [Option<String>; 7] {
    let packets = |kind| report.remainders.of(kind).both().packets;
    let early = report.replay.as_ref().and_then(|replay| replay.ended_early.as_ref());
    let is_open = report.balance.state == BalanceState::Open;
    let mut remotes = report.endpoints.iter().map(|known| known.endpoint.key.remote);
    [
        (!report.complete).then(|| "the run had not ended, or its recording is incomplete".to_owned()),
        early.map(|early| format!("the capture was read up to byte {} only ({})", early.offset, early.cause)),
        counted(
            true,
            report.replay.as_ref().map_or(0, |replay| replay.missing),
            ["packet is", "packets are"],
            "missing in the capture, as it states",
        ),
        counted(
            true,
            packets(RemainderKind::Overflow),
            ["packet", "packets"],
            "found the flow table full: the remotes are unknown",
        ),
        counted(
            true,
            packets(RemainderKind::Malformed),
            ["packet was", "packets were"],
            "malformed: the remotes are unknown",
        ),
        is_open.then(|| "the interface counted other packets than netwatch: the balance is open".to_owned()),
        remotes
            .any(|remote| remote == Remote::Others)
            .then(|| "the endpoint table was full: some remotes are unknown".to_owned()),
    ]
}

/// Losses that hide names and lookups.
fn names(report: &Report, reliance: &Reliance) -> [Option<String>; 4] {
    let lost = &report.naming.lost;
    let unread = sum([lost.direction_bytes, lost.waiting_bytes, lost.open_flows, lost.flows, lost.names]);
    [
        counted(
            reliance.lookups || reliance.unclaimed_names,
            report.lost.samples,
            ["sample was", "samples were"],
            "lost: server names and lookups may be missing",
        ),
        counted(
            reliance.unclaimed_names,
            unread,
            ["server name was", "server names were"],
            "possibly not read: they may contradict DNS",
        ),
        counted(reliance.names, lost.http2_broken, ["HTTP/2 connection", "HTTP/2 connections"], "could not be decoded"),
        counted(
            reliance.lookups,
            sum([lost.lookups, lost.records]),
            ["DNS lookup or record was", "DNS lookups or records were"],
            "beyond the limits",
        ),
    ]
}

/// Losses that hide services of the host, and DNS responses of the program itself.
fn loopback(report: &Report, reliance: &Reliance) -> [Option<String>; 2] {
    let flows = &report.loopback.flows;
    let packets = |counters: PerDirection<Counters>| counters.both().packets;
    let listed = flows.iter().map(|known| packets(known.flow.counters)).fold(0, u64::saturating_add);
    let unlisted = packets(report.loopback.totals).saturating_sub(listed);
    let can_answer = flows.iter().any(|known| can_be_own_dns(report, &known.flow));
    [
        counted(
            reliance.names || !report.interface.host_loopback.is_empty(),
            unlisted,
            ["packet on the loopback is", "packets on the loopback are"],
            "in no listed flow: it was folded, or never tracked",
        ),
        (can_answer && reliance.names).then(|| {
            "the program exchanged datagrams or DNS with itself on the loopback, and a DNS server of its own can \
             return any address for a name"
                .to_owned()
        }),
    ]
}

/// Whether the flow can contain DNS responses of the program itself. They are read from datagrams
/// of any port, and the protocol that a flow was identified as does not exclude them.
fn can_be_own_dns(report: &Report, flow: &Flow) -> bool {
    let key = &flow.key;
    let is_answered = flow.counters.egress.packets > 0 && flow.counters.ingress.packets > 0;
    let can_be_dns = Protocol(key.protocol) == Protocol::UDP || [key.local.port, key.remote.port].contains(&port::DNS);
    is_answered && can_be_dns && report.interface.host_service_of(flow).is_none()
}
