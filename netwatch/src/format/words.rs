//! Wording shared by the formats for people: services, attempts, losses, the balance. Plain text;
//! each format escapes it.

use crate::flow::{Amount, BalanceState, Difference, Endpoint, EndpointKey, PayloadGap, PerDirection, Remote};
use crate::format::summary::units::{bytes, count, duration, plural, signed};
use crate::process::{Attempt, AttemptCause, AttemptTarget, Process};
use crate::report::{ApplicationProtocol, Failure, InboundService, Report};
use crate::wire::port;

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

/// `198.51.100.7`, or the label of remotes that found the endpoint table full.
pub(super) fn address(remote: &Remote) -> String {
    match remote {
        Remote::Address(address) => address.to_string(),
        Remote::Others => "other remotes".to_owned(),
    }
}

/// The resolvers that the forwarder asks: `via 192.0.2.53`, `via 192.0.2.53 +1`. `None` if the
/// endpoint is not the forwarder.
pub(super) fn via(report: &Report, endpoint: &Endpoint) -> Option<String> {
    let (first, others) = report.forwarded_to(endpoint).split_first()?;
    let resolver = if first.port() == port::DNS { first.ip().to_string() } else { first.to_string() };
    let more = if others.is_empty() { String::new() } else { format!(" +{}", others.len()) };
    Some(format!("via {resolver}{more}"))
}

/// `tcp/80, published as 8080`.
pub(super) fn published(service: &str, ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    if ports.is_empty() { service.to_owned() } else { format!("{service}, published as {}", ports.join(" and ")) }
}

/// `12.5 connections/s (peak 40)` and `1.2 MB/s (peak 3 MB/s)`; nothing of a run that took no time.
pub(super) fn rates(report: &Report, service: &InboundService) -> Vec<String> {
    let with_peak = |mean: String, peak: Option<String>| match peak {
        Some(peak) => format!("{mean} (peak {peak})"),
        None => mean,
    };
    let per_second = |number| InboundService::per_second(report, number);
    let peak = service.activity.peak;
    let connections = per_second(service.connections).map(|mean| {
        let mean = match mean {
            small if small < 10.0 => format!("{small:.2}"),
            middle if middle < 100.0 => format!("{middle:.1}"),
            large => count(large.round() as u64),
        };
        with_peak(format!("{mean} connections/s"), peak.map(|peak| count(peak.connections)))
    });
    let wire_bytes = per_second(service.counters.both().wire_bytes).map(|mean| {
        let peak = peak.map(|peak| format!("{}/s", bytes(peak.wire_bytes)));
        with_peak(format!("{}/s", bytes(mean.round() as u64)), peak)
    });
    [connections, wire_bytes].into_iter().flatten().collect()
}

/// `50.2 ms (p99 81 ms, 120 measured)`; `None` without any.
pub(super) fn response_times(service: &InboundService) -> Option<String> {
    let times = &service.activity.exchanges.times;
    let [median, p99] = [times.quantile(50, 100)?, times.quantile(99, 100)?].map(duration);
    Some(format!("{median} (p99 {p99}, {} measured)", count(times.count())))
}

/// What the response times of a service leave out: `3 requests without a time, 1.2 MB of requests
/// not measured`; `responses not measured` if there is neither a time nor anything of these; `None`
/// if everything was measured.
pub(super) fn unmeasured(service: &InboundService) -> Option<String> {
    let exchanges = &service.activity.exchanges;
    let without = match exchanges.unmeasured {
        0 => None,
        requests => Some(format!("{} without a time", plural(requests, "request", "requests"))),
    };
    let has_sample = !exchanges.is_empty();
    let rest = service.unsampled_request_bytes().filter(|rest| has_sample && *rest > 0);
    let rest = rest.map(|rest| format!("{} of requests not measured", bytes(rest)));
    let parts: Vec<String> = [without, rest].into_iter().flatten().collect();
    if has_sample && parts.is_empty() && exchanges.times.count() == 0 {
        return Some("responses not measured".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `2xx 118, 5xx 2`: the responses of HTTP/1 by the first digit of their status.
pub(super) fn statuses(service: &InboundService) -> Option<String> {
    let statuses = (1..).zip(service.activity.exchanges.statuses).filter(|(_, responses)| *responses > 0);
    let parts: Vec<String> = statuses.map(|(class, responses)| format!("{class}xx {}", count(responses))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The name of an application protocol; `https?` if only the port suggests it.
pub(super) fn application(application: &ApplicationProtocol) -> String {
    if application.is_proven() { application.name.to_string() } else { format!("{}?", application.name) }
}

/// The target of an attempt, with the name that the program looked up.
pub(super) fn target(failure: &Failure<'_>) -> String {
    let attempt = failure.attempt;
    let target = bare_target(attempt);
    match (&attempt.target, failure.name) {
        (AttemptTarget::Address(_), Some(name)) => format!("{name}, {target}"),
        _ => target,
    }
}

fn bare_target(attempt: &Attempt) -> String {
    match (&attempt.target, attempt.protocol) {
        (AttemptTarget::Address(end), Some(protocol)) if !protocol.has_ports() => format!("{} ({protocol})", end.ip()),
        (AttemptTarget::Address(end), Some(protocol)) => format!("{end} ({protocol})"),
        (AttemptTarget::Address(end), None) => end.to_string(),
        (AttemptTarget::Name(name, _), _) => format!("{name} (DNS)"),
        (AttemptTarget::LocalSocket(path), _) => path.clone(),
    }
}

/// Why an attempt failed: the word of every output, and details.
pub(super) fn cause(failure: &Failure<'_>) -> String {
    let cause = &failure.attempt.cause;
    let word = cause.word();
    let details = match cause {
        AttemptCause::Timeout => with_plain_spaces(plural(failure.packets, "SYN", "SYNs")),
        AttemptCause::Icmp(error) => format!("ICMP type {}, code {}", error.kind, error.code),
        AttemptCause::Errno(number) => nix::errno::Errno::from_raw(*number).desc().to_ascii_lowercase(),
        AttemptCause::NoPacket => "see --failed-calls".to_owned(),
        AttemptCause::Refused | AttemptCause::Reset | AttemptCause::Dns(_) => return word,
    };
    format!("{word} ({details})")
}

/// `curl (4242)`.
pub(super) fn process(process: &Process) -> String {
    format!("{} ({})", process.program(), process.pid)
}

/// The remark behind a number of flows that does not include folded ones; empty without any.
pub(super) fn not_counting_folded(report: &Report) -> String {
    let remark = match report.folded.flows {
        0 => return String::new(),
        1 => "1 folded flow is not included".to_owned(),
        many => format!("{} folded flows are not included", count(many)),
    };
    format!("; {}{remark}", at_least(report))
}

/// Why a payload is unknown.
pub(super) fn payload_gap(gap: PayloadGap) -> &'static str {
    match gap {
        PayloadGap::Protocol => "neither TCP nor UDP",
        PayloadGap::NoHandshake => "the handshake of a connection was not observed",
        PayloadGap::AmbiguousHandshake => "the handshakes of a connection contradict each other",
        PayloadGap::Fragment => "IP fragments",
        PayloadGap::TooMuch => "a connection carried too much at once",
        PayloadGap::TableFull => "packets in no flow",
        PayloadGap::NotRecorded => "not recorded by that version of netwatch",
    }
}

/// The prefix of a number of flows that is a lower bound.
pub(super) fn at_least(report: &Report) -> &'static str {
    if report.folded.at_least { "at least " } else { "" }
}

/// Lost observations of one kind.
pub(super) struct Loss {
    pub number: u64,
    pub name: &'static str,
    pub meaning: &'static str,
}

/// Lost observations by kind, also those of which there are none.
pub(super) fn losses(report: &Report) -> Vec<Loss> {
    let loss = |number, name, meaning| Loss { number, name, meaning };
    let (lost, folded) = (report.lost, report.folded);
    let (names, processes) = (report.naming.lost, report.processes.lost);
    let mut losses = vec![
        loss(lost.samples, "samples", "packet heads that found the ring buffer full: names may be missing"),
        loss(lost.new_flows, "flow starts", "flows without a precise start: their process is inferred"),
        loss(lost.unreadable, "unreadable packets", "counted as malformed, in no flow"),
        loss(
            lost.table_full.saturating_add(lost.insert_failed),
            "packets without a flow",
            "the flow table was full: counted by protocol",
        ),
        loss(folded.flows, "folded flows", "only their endpoints have their counters"),
        loss(folded.icmp_errors, "ICMP errors", "without a flow entry"),
        loss(names.direction_bytes, "names: too long", "connections with more bytes before a name than are buffered"),
        loss(
            names.waiting_bytes.saturating_add(names.open_flows),
            "names: too many at once",
            "connections abandoned before their names were read",
        ),
        loss(
            names.flows.saturating_add(names.addresses).saturating_add(names.names),
            "names: evicted",
            "flows, addresses and names beyond the limits",
        ),
        loss(names.lookups.saturating_add(names.pending), "DNS queries", "queries beyond the limits"),
        loss(names.records.saturating_add(names.http2_broken), "DNS records, HTTP/2 headers", "could not be decoded"),
        loss(
            processes.events.saturating_add(processes.sockets).saturating_add(processes.unknown),
            "process events",
            "the process of some flows may be unknown",
        ),
        loss(processes.gone, "short-lived processes", "exited before their program or arguments were read"),
        loss(processes.unreadable, "unreadable programs", "their path or arguments could not be read"),
        loss(processes.beyond, "processes and attempts", "beyond the limits"),
    ];
    // Only `--pid-only` selects.
    if lost.unselected > 0 {
        let meaning = "beyond the limits of --pid-only: their packets are not counted";
        losses.push(loss(lost.unselected, "unselected processes and sockets", meaning));
    }
    if let Some(replay) = &report.replay {
        losses.insert(0, loss(replay.cut_frames, "truncated frames", "the capture holds them only in part"));
    }
    losses
}

/// Whether the data ends before the run did, because netwatch was killed or the disk was full.
/// Interim figures, in contrast, have the counters of the interface, unless it vanished: the
/// wording has to fit both.
pub(super) fn ends_early(report: &Report) -> bool {
    !report.complete && report.replay.is_none() && report.balance.state == BalanceState::Unknown
}

/// The time after which data that [`ends_early`] leaves everything unknown: `after 2.02 s`. `None`
/// if the data covers the run so far.
pub(super) fn unknown_after(report: &Report) -> Option<String> {
    ends_early(report).then(|| format!("after {}", with_plain_spaces(duration(report.run.duration_ns))))
}

/// Why the counters of the interface are missing.
pub(super) fn unknown_reason(report: &Report) -> &'static str {
    if ends_early(report) {
        return "the interface counters had not been read yet";
    }
    if report.run.is_attached() {
        return "the counters of an interface are gone or not comparable";
    }
    "the interface vanished before its counters were read"
}

/// What is known of losses, with the number of lost observations in the data.
pub(super) fn losses_known(report: &Report, lost: u64) -> String {
    match (lost, unknown_after(report)) {
        (0, None) => "No observation was lost.".to_owned(),
        (0, Some(after)) => format!("No observation is known to be lost; losses {after} are unknown."),
        (_, None) if report.balance.closed() => "Some detail was lost. All packets were counted.".to_owned(),
        (_, None) => "Some detail was lost.".to_owned(),
        (_, Some(after)) => format!("Some detail was lost; losses {after} are unknown."),
    }
}

/// Whether the balance closes, in a sentence without a full stop.
pub(super) fn balance(report: &Report) -> String {
    let balance = &report.balance;
    if let Some(file) = &balance.file {
        let frames = with_plain_spaces(plural(file.frames.skbs, "frame", "frames"));
        return match balance.closed() {
            true => format!("closed: difference 0 to the {frames} of the file"),
            false => format!("OPEN: difference {} to the {frames} of the file", difference(file.difference)),
        };
    }
    match (balance.state, balance.difference) {
        (BalanceState::Closed, _) if balance.dropped > 0 => {
            let dropped = with_plain_spaces(plural(balance.dropped, "skb", "skbs"));
            format!("closed: difference 0; the interface dropped {dropped} on receive")
        }
        (BalanceState::Closed, _) => "closed: difference 0 to the interface counters".to_owned(),
        (BalanceState::Live, _) => "pending (run in progress)".to_owned(),
        (BalanceState::NotApplicable, _) => "not applicable: no interface counts the packets of sockets".to_owned(),
        (BalanceState::Open, Some(PerDirection { egress, ingress })) => {
            format!("OPEN: difference {} sent, {} received", difference(egress), difference(ingress))
        }
        (BalanceState::Open | BalanceState::Unknown, _) => {
            let later = unknown_after(report).map(|after| format!("; packets {after} are unknown"));
            format!("unknown: {}{}", unknown_reason(report), later.unwrap_or_default())
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

/// Replaces no-break spaces.
pub(super) fn with_plain_spaces(text: String) -> String {
    text.replace('\u{a0}', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FailedAttempts, Payload, Protocol};
    use crate::report::ServiceActivity;

    /// A service that received 1,000 bytes.
    fn served(activity: ServiceActivity) -> InboundService {
        InboundService {
            protocol: Protocol::TCP,
            port: 443,
            clients: 1,
            at_least: false,
            connections: 1,
            counters: PerDirection::default(),
            payload: Payload::of_bytes(PerDirection { egress: 5_000, ingress: 1_000 }),
            failed: FailedAttempts::default(),
            handshake_rtt_ns: None,
            application: None,
            processes: Vec::new(),
            top_clients: Vec::new(),
            activity,
            published: Vec::new(),
        }
    }

    #[test]
    fn what_has_no_response_time_is_stated() {
        let words = |request_bytes, times, without| {
            let mut activity = ServiceActivity::default();
            activity.exchanges.request_bytes = request_bytes;
            activity.exchanges.unmeasured = without;
            activity.exchanges.times.add(50_000_000, times);
            unmeasured(&served(activity))
        };
        assert_eq!(words(1_000, 1, 0), None);
        // Those of HTTP/2 are sampled, and are not read.
        assert_eq!(words(24, 0, 0).as_deref(), Some("976 B of requests not measured"));
        assert_eq!(words(1_000, 0, 2).as_deref(), Some("2\u{a0}requests without a time"));
        assert_eq!(words(1_000, 0, 0).as_deref(), Some("responses not measured"));
        assert_eq!(words(0, 0, 0), None, "nothing was sampled");
    }
}
