//! The notes that a run adds to its report.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::dns::stats::Stats;
use crate::error::Error;
use crate::host::conntrack::{RefusedConnections, TrackedNow};
use crate::host::socket_drain::DrainOutcome;
use crate::loopback::LoopbackCounts;
use crate::report::{counted, were};
use crate::target::inherited::InheritedSocket;

pub(super) const NO_UPLINK: &str = "no uplink: the host has no default route, so only the host itself can be reached";

/// Sysctls of the host that the namespace does not have.
pub(super) fn refused_sysctls(refused: &[Error]) -> Option<String> {
    let first = refused.first()?;
    let number = counted(refused.len() as u64, "sysctl");
    Some(format!("{number} of the host could not be copied for the command: {first}"))
}

/// A consumer failed, before or after its start.
pub(super) fn consumer_failed(name: &str, has_started: bool, error: &Error) -> String {
    let verb = if name.ends_with('s') { "are" } else { "is" };
    match has_started {
        true => format!("the {name} {verb} incomplete: {error}"),
        false => format!("no {name}: {error}"),
    }
}

/// Services of the host's loopback that the namespace does not have.
pub(super) fn host_services_left_out(number: usize) -> Option<String> {
    let ports = counted(number as u64, "port");
    (number > 0)
        .then(|| format!("not in the namespace: {ports} of the host's loopback; name ports with --host-loopback"))
}

/// Sockets of the host that the command has.
pub(super) fn inherited_sockets(sockets: &[InheritedSocket]) -> Option<String> {
    let one = |InheritedSocket { fd, local, peer }: &InheritedSocket| {
        let ends: Vec<String> = [local, peer].into_iter().flatten().map(ToString::to_string).collect();
        format!("{fd} ({})", ends.join(" to "))
    };
    let listed: Vec<String> = sockets.iter().map(one).collect();
    let listed = Some(listed.join(", ")).filter(|listed| !listed.is_empty())?;
    Some(format!("the command inherited sockets of the host, whose traffic is not counted: descriptor {listed}"))
}

/// Interfaces that the command made, beside the link of the run.
pub(super) fn made_links(names: &BTreeSet<String>) -> Option<String> {
    let listed = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| {
        format!(
            "the command made network interfaces ({listed}): what a tunnel carries is counted as packets of the \
             tunnel, and what does not leave the namespaces of the command is not counted"
        )
    })
}

/// A published port that the user of a failed command may not bind, and that nothing bound.
pub(super) fn privileged_port(port: u16) -> String {
    format!(
        "port {port} is published, but no program bound it: that needs root, and the user of the command can only bind \
         higher ports (see -u)"
    )
}

/// What the proxy of `--host-loopback` could not pass on.
pub(super) fn host_loopback(counts: &LoopbackCounts) -> Vec<String> {
    let LoopbackCounts { refused, last_refusal, cut_off, dropped_datagrams, evicted_clients, .. } = counts;
    let mut notes = Vec::new();
    if *refused > 0 {
        let last = last_refusal.as_deref().unwrap_or_default();
        notes.push(format!(
            "host loopback: the host refused {}, the last one to {last}",
            counted(*refused, "connection")
        ));
    }
    if *cut_off > 0 {
        notes.push(format!(
            "host loopback: {} cut off with data that the host had not read",
            were(*cut_off, "connection")
        ));
    }
    if *dropped_datagrams > 0 {
        notes.push(format!("host loopback: {} refused or dropped", were(*dropped_datagrams, "datagram")));
    }
    if *evicted_clients > 0 {
        notes.push(format!("host loopback: {} gave way to newer ones", counted(*evicted_clients, "UDP client")));
    }
    notes
}

/// Unsent data of exited processes; `None` if there was nothing to wait for.
pub(super) fn drained(outcome: &DrainOutcome) -> Option<String> {
    match (outcome.left.sockets, outcome.waited.as_millis()) {
        (0, 0..5) => None,
        (0, ms) => Some(format!("waited {ms} ms for data that the command had left in its sockets")),
        (sockets, ms) => Some(format!(
            "{} in {}, which the command had closed, not delivered within {ms} ms (see --drain-timeout)",
            counted(outcome.left.bytes, "byte"),
            counted(sockets.into(), "socket")
        )),
    }
}

/// Queries that the DNS forwarder could not answer.
pub(super) fn dns(stats: &Stats, resolvers: &[SocketAddr]) -> Vec<String> {
    let mut notes = Vec::new();
    let dropped = stats.dropped_queries + stats.dropped_by_kernel;
    if dropped > 0 {
        notes.push(format!("the DNS forwarder was overloaded: dropped UDP queries: {dropped}"));
    }
    if stats.strangers > 0 {
        notes.push(format!(
            "the DNS forwarder ignored {} from other programs of the host",
            counted(stats.strangers, "message")
        ));
    }
    if stats.servfail > 0 {
        let resolvers = resolvers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        notes.push(format!(
            "no resolver ({resolvers}) answered DNS queries of the command: netwatch answered {} with SERVFAIL",
            stats.servfail
        ));
    }
    notes
}

/// Packets of the command that the table of the run has dropped, by reason.
pub(super) fn drops(drops: &[(String, u64)]) -> Vec<String> {
    let note = |(reason, packets): &(String, u64)| {
        format!("netwatch dropped packets that the command sent and that are counted as sent: {packets} ({reason})")
    };
    drops.iter().map(note).collect()
}

/// A connection tracking of the host that was full during the run. `refused` is about all programs
/// of the host, and packets are also dropped for other reasons.
pub(super) fn tracking_full(refused: RefusedConnections, TrackedNow { count, limit }: TrackedNow) -> Option<String> {
    let RefusedConnections { dropped, evicted } = refused;
    (evicted > 0 || count >= limit).then(|| {
        format!(
            "the host's connection tracking was full (nf_conntrack_max {limit}): {} removed to make room and {} \
             dropped, of the command or of other programs",
            were(evicted, "connection"),
            were(dropped, "packet")
        )
    })
}

/// Processes that had to be ended.
pub(super) fn left_over(processes: u32) -> Option<String> {
    match processes {
        0 => None,
        1 => Some("1 background process was still running and was ended (see --linger)".into()),
        n => Some(format!("{n} background processes were still running and were ended (see --linger)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_consumer_is_noted() {
        let error = Error::other("write", "events to run.log", "the disk is full");
        let why = "incomplete: cannot write events to run.log: the disk is full";
        assert_eq!(consumer_failed("events", true, &error), format!("the events are {why}"));
        assert_eq!(consumer_failed("recording", true, &error), format!("the recording is {why}"));
        assert!(consumer_failed("events", false, &error).starts_with("no events: cannot write"));
    }

    #[test]
    fn a_full_connection_tracking_is_noted() {
        let note = |evicted, count| {
            tracking_full(RefusedConnections { dropped: 2, evicted }, TrackedNow { count, limit: 1000 })
        };
        assert_eq!(note(0, 999), None, "packets are dropped for other reasons too");
        let full = "the host's connection tracking was full (nf_conntrack_max 1000): ";
        let of = "of the command or of other programs";
        let expected = format!("{full}1 connection was removed to make room and 2 packets were dropped, {of}");
        assert_eq!(note(1, 5), Some(expected));
        let expected = format!("{full}0 connections were removed to make room and 2 packets were dropped, {of}");
        assert_eq!(note(0, 1000), Some(expected));
    }

    #[test]
    fn messages_of_other_programs_to_the_forwarder_are_noted() {
        assert_eq!(dns(&Stats::default(), &[]), <[String; 0]>::default());
        let notes = dns(&Stats { strangers: 1, ..Stats::default() }, &[]);
        assert_eq!(notes, ["the DNS forwarder ignored 1 message from other programs of the host"]);
    }
}
