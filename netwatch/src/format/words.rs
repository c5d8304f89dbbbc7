//! What the formats for people say in the same words: services, attempts, losses, the balance. Plain text; each format escapes it.

use crate::flow::{Amount, BalanceState, Difference, EndpointKey, PerDirection, Remote};
use crate::format::summary::units::{count, plural, signed};
use crate::process::{Attempt, AttemptCause, AttemptTarget, Process};
use crate::report::Report;

/// `tcp/443`; `icmp` where there are no ports.
pub(super) fn service(key: &EndpointKey) -> String {
    let EndpointKey { protocol, port, fragment, .. } = key;
    match protocol.name() {
        None => format!("protocol {protocol}"),
        Some(name) if *fragment => format!("{name} fragments"),
        Some(name) if protocol.has_ports() && key.remote != Remote::Others => format!("{name}/{port}"),
        Some(name) => name.to_owned(),
    }
}

/// `198.51.100.7`, or what stands for all that had no room.
pub(super) fn address(remote: &Remote) -> String {
    match remote {
        Remote::Address(address) => address.to_string(),
        Remote::Others => "other remotes".to_owned(),
    }
}

/// What an attempt was to reach.
pub(super) fn target(attempt: &Attempt) -> String {
    match (&attempt.target, attempt.protocol) {
        (AttemptTarget::Address(end), Some(protocol)) if !protocol.has_ports() => format!("{} ({protocol})", end.ip()),
        (AttemptTarget::Address(end), Some(protocol)) => format!("{end} ({protocol})"),
        (AttemptTarget::Address(end), None) => end.to_string(),
        (AttemptTarget::Name(name, kind), _) => format!("{name} ({kind})"),
        (AttemptTarget::LocalSocket(path), _) => path.clone(),
    }
}

/// Why nothing came of it.
pub(super) fn cause(attempt: &Attempt) -> String {
    match &attempt.cause {
        AttemptCause::Unanswered => format!("no answer ({})", unbroken(plural(attempt.tries, "try", "tries"))),
        AttemptCause::Refused => "refused".to_owned(),
        AttemptCause::Reset => "reset in the handshake".to_owned(),
        AttemptCause::Icmp(error) => format!("unreachable (ICMP type {}, code {})", error.kind, error.code),
        AttemptCause::Errno(number) => nix::errno::Errno::from_raw(*number).desc().to_ascii_lowercase(),
        AttemptCause::NoPacket => "failed at once, without a packet".to_owned(),
        AttemptCause::Dns(code) if code == "unanswered" => "DNS: no answer".to_owned(),
        AttemptCause::Dns(code) => format!("DNS: {}", code.to_uppercase()),
    }
}

/// `curl (4242)`.
pub(super) fn process(process: &Process) -> String {
    format!("{} ({})", process.comm, process.pid)
}

/// What has to be said behind a number of flows that knows only those that are kept one by one; empty where these are all.
pub(super) fn beside_folded(report: &Report) -> String {
    let said = match report.folded.flows {
        0 => return String::new(),
        1 => "1 flow that was counted in its endpoint only is not among them".to_owned(),
        many => format!("{} flows that were counted in their endpoint only are not among them", count(many)),
    };
    format!("; {}{said}", at_least(report))
}

/// Stands before a number of flows where there were more than could be told apart.
pub(super) fn at_least(report: &Report) -> &'static str {
    if report.folded.at_least { "at least " } else { "" }
}

/// A kind of loss: its number, and what it means.
pub(super) struct Loss {
    pub number: u64,
    pub what: &'static str,
    pub means: &'static str,
}

/// Everything that was not observed, by reason, also where that is 0.
pub(super) fn losses(report: &Report) -> Vec<Loss> {
    let loss = |number, what, means| Loss { number, what, means };
    let (lost, folded) = (report.lost, report.folded);
    let (names, processes) = (report.naming.lost, report.processes.lost);
    let mut losses = vec![
        loss(lost.samples, "samples", "packet heads for which there was no room: names may be missing"),
        loss(lost.new_flows, "start times", "flows whose first time is not precise"),
        loss(lost.unreadable, "unreadable packets", "counted, but under no flow"),
        loss(lost.table_full.saturating_add(lost.insert_failed), "packets without a flow", "counted by protocol only"),
        loss(folded.flows, "folded flows", "counted in their endpoint only"),
        loss(folded.icmp_errors, "ICMP errors", "not noted with their flow"),
        loss(names.direction_bytes, "names: too long", "beginnings of connections that had more bytes than are kept"),
        loss(
            names.waiting_bytes.saturating_add(names.open_flows),
            "names: too many at once",
            "connections given up while their names were awaited",
        ),
        loss(
            names.flows.saturating_add(names.addresses).saturating_add(names.names),
            "names: forgotten",
            "flows, addresses and names beyond those that are kept",
        ),
        loss(names.lookups.saturating_add(names.pending), "DNS questions", "questions beyond those that are kept"),
        loss(names.records.saturating_add(names.http2_broken), "DNS records, HTTP/2 headers", "not read"),
        loss(
            processes.events.saturating_add(processes.sockets).saturating_add(processes.unknown),
            "process events",
            "flows whose process may not be known",
        ),
        loss(processes.gone, "short-lived processes", "gone before their program or arguments could be read"),
        loss(processes.unreadable, "unreadable programs", "their path or arguments could not be read"),
        loss(processes.beyond, "processes and attempts", "beyond those that are kept"),
    ];
    if let Some(replay) = &report.replay {
        losses.insert(0, loss(replay.cut_frames, "cut frames", "of which the capture has only the beginning"));
    }
    losses
}

/// Whether its figures stop before the run did: netwatch was killed, or the disk full. Interim figures have the interface's counters too, or the
/// interface is gone: what is said then has to be true of both.
pub(super) fn stops_early(report: &Report) -> bool {
    !report.complete && report.replay.is_none() && report.balance.state == BalanceState::Unknown
}

/// Why there is nothing to balance with.
pub(super) fn why_unknown(report: &Report) -> &'static str {
    if stops_early(report) {
        return "the interface's counters had not been read by then";
    }
    "the interface was gone before its counters could be read"
}

/// Whether the balance closes, in a sentence without a full stop.
pub(super) fn balance(report: &Report) -> String {
    let balance = &report.balance;
    if let Some(file) = &balance.file {
        let frames = unbroken(plural(file.frames.skbs, "frame", "frames"));
        return match balance.closed() {
            true => format!("closed: difference 0 with the file's {frames}"),
            false => format!("OPEN: difference {} with the file's {frames}", difference(file.difference)),
        };
    }
    match (balance.state, balance.difference) {
        (BalanceState::Closed, _) if balance.dropped > 0 => {
            let dropped = unbroken(plural(balance.dropped, "buffer", "buffers"));
            format!("closed: difference 0, the interface dropped {dropped} of the received")
        }
        (BalanceState::Closed, _) => "closed: difference 0 with the interface's own counters".to_owned(),
        (BalanceState::Live, _) => "not closed yet: interim figures, read while packets moved".to_owned(),
        (BalanceState::Open, Some(PerDirection { egress, ingress })) => {
            format!("OPEN: difference {} sent, {} received", difference(egress), difference(ingress))
        }
        (BalanceState::Open | BalanceState::Unknown, _) => {
            format!("unknown: {}", why_unknown(report))
        }
    }
}

/// `96 skbs, 1,226,118 bytes`.
pub(super) fn amount(Amount { skbs, bytes }: Amount) -> String {
    format!("{} skbs, {} bytes", count(skbs), count(bytes))
}

fn difference(Difference { skbs, bytes }: Difference) -> String {
    format!("{} skbs, {} bytes", signed(skbs), signed(bytes))
}

/// With ordinary blanks.
pub(super) fn unbroken(text: String) -> String {
    text.replace('\u{a0}', " ")
}
