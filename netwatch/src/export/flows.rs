//! The table of flows.

use super::column::{ExportCell, ExportColumn};
use crate::flow::{
    EndReason, FailedAttempts, IcmpError, ObservationPoint, PayloadGap, PerDirection, Protocol, TcpFacts,
};
use crate::process::{FlowUser, Process};
use crate::report::{ApplicationProtocol, FlowNaming, Report, ReportFlow, TlsFacts};

/// A flow of a run.
pub(super) struct FlowRow<'a> {
    report: &'a Report,
    known: &'a ReportFlow,
    failed: FailedAttempts,
}

/// The flows of the link, then those of the loopback, both in the order of their first packets.
pub(super) fn rows(report: &Report) -> impl Iterator<Item = FlowRow<'_>> {
    let flows = report.flows.iter().chain(&report.loopback.flows);
    flows.map(move |known| FlowRow { report, known, failed: known.flow.failed() })
}

impl<'a> FlowRow<'a> {
    fn naming(&self) -> Option<&'a FlowNaming> {
        self.known.naming.as_deref()
    }

    fn application(&self) -> Option<&'a ApplicationProtocol> {
        self.naming()?.application.as_ref()
    }

    fn tls(&self) -> Option<&'a TlsFacts> {
        self.naming()?.tls.as_ref()
    }

    fn tcp(&self) -> Option<&'a TcpFacts> {
        self.known.flow.tcp.as_ref()
    }

    fn icmp(&self) -> Option<IcmpError> {
        self.known.flow.icmp_error
    }

    fn payload(&self) -> Option<PerDirection<u64>> {
        self.known.flow.payload.bytes()
    }

    /// The user with the best evidence.
    fn user(&self) -> Option<&'a FlowUser> {
        self.known.users.first()
    }

    fn process(&self) -> Option<&'a Process> {
        self.report.processes.get(self.user()?.process)
    }
}

/// The columns, in their order.
pub(super) fn columns<'a>() -> Vec<ExportColumn<FlowRow<'a>>> {
    vec![
        ExportColumn::text("run_id", |row| row.report.run.id.as_str().into()),
        ExportColumn::text("observation_point", |row| observation_point(row.known.flow.key.point).into()),
        ExportColumn::text("direction", |row| row.known.flow.opened_by.of_flow().into()),
        ExportColumn::text("protocol", |row| Protocol(row.known.flow.key.protocol).to_string().into()),
        ExportColumn::text("local", |row| row.known.flow.key.local.addr.to_string().into()),
        ExportColumn::integer("local_port", |row| u64::from(row.known.flow.key.local.port).into()),
        ExportColumn::text("remote", |row| row.known.flow.key.remote.addr.to_string().into()),
        ExportColumn::integer("remote_port", |row| u64::from(row.known.flow.key.remote.port).into()),
        ExportColumn::integer("epoch", |row| u64::from(row.known.flow.epoch).into()),
        ExportColumn::flag("fragment", |row| row.known.flow.key.fragment.into()),
        ExportColumn::text("name", |row| row.known.display_name().map(|shown| shown.name.as_str()).into()),
        ExportColumn::text("name_source", |row| row.known.display_name().map(|shown| shown.source.name()).into()),
        ExportColumn::text("application", |row| row.application().map(|application| application.name.as_ref()).into()),
        ExportColumn::text("application_evidence", |row| {
            row.application().map(|application| application.evidence.as_ref()).into()
        }),
        ExportColumn::text("hidden", hidden),
        ExportColumn::text("tls_offered_version", |row| row.tls().map(|tls| tls.offered_version.as_str()).into()),
        ExportColumn::text("tls_alpn", |row| row.tls().map(|tls| tls.alpn.join(" ")).into()),
        ExportColumn::text("tls_ja4", |row| row.tls().and_then(|tls| tls.ja4.as_deref()).into()),
        ExportColumn::flag("tls_post_quantum", |row| row.tls().map(|tls| tls.post_quantum).into()),
        ExportColumn::time("first_seen", |row| row.known.flow.first_seen_ns.into()),
        ExportColumn::time("last_seen", |row| row.known.flow.last_seen_ns.into()),
        ExportColumn::integer("duration_ns", |row| {
            row.known.flow.last_seen_ns.saturating_sub(row.known.flow.first_seen_ns).into()
        }),
        ExportColumn::integer("egress_skbs", |row| row.known.flow.counters.egress.skbs.into()),
        ExportColumn::integer("egress_packets", |row| row.known.flow.counters.egress.packets.into()),
        ExportColumn::integer("egress_bytes", |row| row.known.flow.counters.egress.bytes.into()),
        ExportColumn::integer("egress_wire_bytes", |row| row.known.flow.counters.egress.wire_bytes.into()),
        ExportColumn::integer("ingress_skbs", |row| row.known.flow.counters.ingress.skbs.into()),
        ExportColumn::integer("ingress_packets", |row| row.known.flow.counters.ingress.packets.into()),
        ExportColumn::integer("ingress_bytes", |row| row.known.flow.counters.ingress.bytes.into()),
        ExportColumn::integer("ingress_wire_bytes", |row| row.known.flow.counters.ingress.wire_bytes.into()),
        ExportColumn::integer("connections", |row| row.known.flow.connections().into()),
        ExportColumn::integer("handshake_rtt_ns", |row| row.tcp().and_then(|tcp| tcp.handshake_rtt_ns).into()),
        ExportColumn::integer("egress_retransmitted_packets", |row| {
            row.tcp().map(|tcp| tcp.retransmitted_packets.egress).into()
        }),
        ExportColumn::integer("ingress_retransmitted_packets", |row| {
            row.tcp().map(|tcp| tcp.retransmitted_packets.ingress).into()
        }),
        ExportColumn::integer("egress_retransmitted_bytes", |row| {
            row.tcp().map(|tcp| tcp.retransmitted_bytes.egress).into()
        }),
        ExportColumn::integer("ingress_retransmitted_bytes", |row| {
            row.tcp().map(|tcp| tcp.retransmitted_bytes.ingress).into()
        }),
        ExportColumn::integer("egress_resets", |row| row.tcp().map(|tcp| tcp.resets.egress).into()),
        ExportColumn::integer("ingress_resets", |row| row.tcp().map(|tcp| tcp.resets.ingress).into()),
        ExportColumn::integer("egress_zero_windows", |row| row.tcp().map(|tcp| tcp.zero_windows.egress).into()),
        ExportColumn::integer("ingress_zero_windows", |row| row.tcp().map(|tcp| tcp.zero_windows.ingress).into()),
        ExportColumn::integer("rtt_count", |row| row.tcp().map(|tcp| tcp.round_trips.count).into()),
        ExportColumn::integer("rtt_min_ns", |row| row.tcp().and_then(|tcp| tcp.round_trips.min_ns).into()),
        ExportColumn::integer("rtt_mean_ns", |row| row.tcp().and_then(|tcp| tcp.round_trips.mean_ns()).into()),
        ExportColumn::text("end_reason", |row| row.known.flow.end_reason().map(EndReason::name).into()),
        ExportColumn::integer("icmp_error_type", |row| row.icmp().map(|error| u64::from(error.kind)).into()),
        ExportColumn::integer("icmp_error_code", |row| row.icmp().map(|error| u64::from(error.code)).into()),
        ExportColumn::integer("failed_attempts", |row| row.failed.attempts().into()),
        ExportColumn::integer("refused", |row| row.failed.refused.into()),
        ExportColumn::integer("timeout", |row| row.failed.unanswered.into()),
        ExportColumn::integer("timeout_syns", |row| row.failed.unanswered_tries.into()),
        ExportColumn::integer("handshake_resets", |row| row.failed.reset.into()),
        ExportColumn::integer("unreachable", |row| row.failed.unreachable.into()),
        ExportColumn::integer("pid", |row| row.process().map(|process| u64::from(process.pid)).into()),
        ExportColumn::text("comm", |row| row.process().map(|process| process.comm.as_str()).into()),
        ExportColumn::text("exe", |row| row.process().and_then(|process| process.exe.as_deref()).into()),
        ExportColumn::text("cmdline", |row| {
            row.process().and_then(|process| process.cmdline.as_ref()).map(|words| words.join(" ")).into()
        }),
        ExportColumn::integer("uid", |row| row.process().and_then(|process| process.uid).map(u64::from).into()),
        ExportColumn::text("process_evidence", |row| row.user().map(|user| user.evidence.name()).into()),
        ExportColumn::integer("processes", |row| (row.known.users.len() as u64).into()),
        ExportColumn::integer("payload_egress_bytes", |row| row.payload().map(|bytes| bytes.egress).into()),
        ExportColumn::integer("payload_ingress_bytes", |row| row.payload().map(|bytes| bytes.ingress).into()),
        ExportColumn::text("payload_unknown", |row| row.known.flow.payload.missing().map(PayloadGap::name).into()),
    ]
}

fn observation_point(point: ObservationPoint) -> &'static str {
    match point {
        ObservationPoint::Link => "link",
        ObservationPoint::Loopback => "loopback",
    }
}

fn hidden<'r>(row: &'r FlowRow<'_>) -> ExportCell<'r> {
    let reasons = row.naming().map(|naming| naming.hidden.as_slice()).filter(|reasons| !reasons.is_empty());
    reasons.map(|reasons| reasons.iter().map(|reason| reason.name()).collect::<Vec<_>>().join(" ")).into()
}
