//! Events of connections as they happen: one line of text or of JSON for each. docs/events.md
//! documents both.

use std::io::{self, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::json::escaped::line;
use super::summary::units::{bytes, duration, plural};
use super::words::with_plain_spaces;
use super::{escape, rfc3339};
use crate::flow::{Direction, EndReason, FailedAttempts, Flow, PerDirection, Protocol, TransportAddress};
use crate::name::NameSource;
use crate::process::{Attempt, AttemptCause, AttemptTarget, Process};
use crate::report::{DnsForwarder, FlowNaming, counted};

/// The version of the JSON lines.
const SCHEMA: u32 = 1;

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEventKind {
    /// Its first packets were counted.
    Opened,
    /// The name of its remote became known, or is another one.
    Named,
    /// Attempts failed; all that failed so far.
    Failed(FailedAttempts),
    /// A SYN was answered after its attempt had failed by a timeout.
    Answered,
    /// It ended.
    Ended(EndReason),
}

/// An event of a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionEvent<'a> {
    /// What happened.
    pub kind: ConnectionEventKind,
    /// The flow at this time.
    pub flow: &'a Flow,
    /// Its names.
    pub naming: Option<&'a FlowNaming>,
    /// The processes that use it, the one with the strongest evidence first.
    pub processes: &'a [&'a Process],
    /// The remote is the DNS forwarder of the run.
    pub is_dns_forwarder: bool,
}

impl ConnectionEvent<'_> {
    fn name(&self) -> &'static str {
        match self.kind {
            ConnectionEventKind::Opened => "opened",
            ConnectionEventKind::Named => "named",
            ConnectionEventKind::Failed(_) => "failed",
            ConnectionEventKind::Answered => "answered",
            ConnectionEventKind::Ended(_) => "ended",
        }
    }

    fn time_ns(&self) -> u64 {
        if self.kind == ConnectionEventKind::Opened { self.flow.first_seen_ns } else { self.flow.last_seen_ns }
    }

    /// Writes a line of text.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let key = &self.flow.key;
        let arrow = if self.flow.opened_by == Direction::Egress { "->" } else { "<-" };
        let end = |end: &TransportAddress| end_text(SocketAddr::new(end.addr, end.port));
        let (time, protocol) = (time_of_day(self.time_ns()), Protocol(key.protocol));
        write!(out, "{time} {:<6} {protocol} {} {arrow} {}", self.name(), end(&key.local), end(&key.remote))?;
        if let Some(name) = self.naming.and_then(|naming| naming.display_name.as_ref()) {
            write!(out, " {} ({})", escape(name.name.as_str()), name.source.name())?;
        } else if self.is_dns_forwarder {
            write!(out, " {}", DnsForwarder::NAME)?;
        }
        writeln!(out, "{}{}", processes_text(self.processes), self.details())
    }

    fn details(&self) -> String {
        match self.kind {
            ConnectionEventKind::Opened | ConnectionEventKind::Named => String::new(),
            ConnectionEventKind::Answered => ": it has not failed".to_owned(),
            ConnectionEventKind::Failed(failed) => {
                format!(": {}", failed.causes().map(|(cause, _)| cause).collect::<Vec<_>>().join(", "))
            }
            ConnectionEventKind::Ended(reason) => {
                let counters = &self.flow.counters;
                let lasted = duration(self.flow.last_seen_ns - self.flow.first_seen_ns);
                let rtt = self.flow.tcp.and_then(|tcp| tcp.handshake_rtt_ns).map(duration);
                let rtt = rtt.map_or(String::new(), |rtt| format!(", rtt {rtt}"));
                let again = self.retransmitted();
                let again = if again == 0 { String::new() } else { format!(", {again} retransmitted") };
                let failed: String = self.flow.failed().causes().map(|(cause, _)| format!(", {cause}")).collect();
                format!(
                    ": {lasted}, sent {} in {}, received {} in {}{rtt}{again}{failed}, {}",
                    bytes(counters.egress.wire_bytes),
                    with_plain_spaces(plural(counters.egress.packets, "packet", "packets")),
                    bytes(counters.ingress.wire_bytes),
                    counters.ingress.packets,
                    end_words(reason)
                )
            }
        }
    }

    fn retransmitted(&self) -> u64 {
        self.flow.tcp.map_or(0, |tcp| tcp.retransmitted_packets.egress + tcp.retransmitted_packets.ingress)
    }

    /// Writes a line of JSON.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let Flow { key, epoch, counters, opened_by, .. } = self.flow;
        let mut event = json!({
            "schema": SCHEMA,
            "event": self.name(),
            "time": rfc3339(self.time_ns()),
            "protocol": Protocol(key.protocol).to_string(),
            "local": key.local.addr.to_string(),
            "local_port": key.local.port,
            "remote": key.remote.addr.to_string(),
            "remote_port": key.remote.port,
            "direction": opened_by.of_flow(),
            "epoch": epoch,
        });
        if let Some(name) = self.naming.and_then(|naming| naming.display_name.as_ref()) {
            event["name"] = json!({ "name": name.name.as_str(), "source": name.source.name() });
        }
        add_processes(self.processes, &mut event);
        match self.kind {
            ConnectionEventKind::Opened | ConnectionEventKind::Named | ConnectionEventKind::Answered => {}
            ConnectionEventKind::Failed(failed) => event["failed"] = causes(failed),
            ConnectionEventKind::Ended(reason) => {
                if self.flow.failed().attempts() > 0 {
                    event["failed"] = causes(self.flow.failed());
                }
                event["end_reason"] = reason.name().into();
                event["duration_ns"] = (self.flow.last_seen_ns - self.flow.first_seen_ns).into();
                for (way, counters) in [("egress", &counters.egress), ("ingress", &counters.ingress)] {
                    event[way] = json!({ "packets": counters.packets, "wire_bytes": counters.wire_bytes });
                }
                if let Some(PerDirection { egress, ingress }) = self.flow.payload.bytes() {
                    event["egress"]["payload_bytes"] = egress.into();
                    event["ingress"]["payload_bytes"] = ingress.into();
                }
                if let Some(tcp) = self.flow.tcp {
                    event["retransmitted_packets"] = self.retransmitted().into();
                    if let Some(rtt) = tcp.handshake_rtt_ns {
                        event["handshake_rtt_ns"] = rtt.into();
                    }
                }
            }
        }
        write_line(&event, out)
    }
}

/// Attempts of which no flow shows that they failed: without a packet, or lookups.
#[derive(Debug, Clone, Copy)]
pub struct AttemptEvent<'a> {
    /// The attempts. Their number is that of those that no earlier event contains.
    pub attempt: &'a Attempt,
    /// Their process.
    pub process: Option<&'a Process>,
    /// The name of the address, and its source.
    pub name: Option<(&'a str, NameSource)>,
}

impl AttemptEvent<'_> {
    /// Writes a line of text.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Attempt { last_ns, count, target, protocol, cause, .. } = self.attempt;
        let protocol = protocol.map_or(String::new(), |protocol| format!("{protocol} "));
        let target = match target {
            AttemptTarget::Address(end) => format!("{protocol}-> {}", end_text(*end)),
            AttemptTarget::Name(name, kind) => format!("DNS {} {}", escape(name), escape(kind)),
            AttemptTarget::LocalSocket(path) => escape(path).into_owned(),
        };
        let name = self.name.map_or(String::new(), |(name, source)| format!(" {} ({})", escape(name), source.name()));
        let times = if *count > 1 { format!(" ({count}×)") } else { String::new() };
        let (time, processes) = (time_of_day(*last_ns), processes_text(self.process.as_slice()));
        writeln!(out, "{time} failed {target}{name}{processes}: {}{times}", escape(&cause.word()))
    }

    /// Writes a line of JSON.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let Attempt { last_ns, count, target, protocol, cause, .. } = self.attempt;
        let mut event = json!({ "schema": SCHEMA, "event": "failed", "time": rfc3339(*last_ns), "direction": "out" });
        if let Some(protocol) = protocol {
            event["protocol"] = protocol.to_string().into();
        }
        match target {
            AttemptTarget::Address(end) => {
                event["remote"] = end.ip().to_string().into();
                event["remote_port"] = end.port().into();
            }
            AttemptTarget::Name(name, kind) => event["query"] = json!({ "name": name, "type": kind }),
            AttemptTarget::LocalSocket(_) => {}
        }
        if let Some((name, source)) = self.name {
            event["name"] = json!({ "name": name, "source": source.name() });
        }
        add_processes(self.process.as_slice(), &mut event);
        let cause_name = if let AttemptCause::Dns(code) = cause { code } else { cause.name() };
        event["failed"] = json!({ cause_name: count });
        if let AttemptCause::Errno(errno) = cause {
            event["errno"] = (*errno).into();
        }
        write_line(&event, out)
    }
}

/// The time of day with milliseconds, in UTC.
fn time_of_day(time_ns: u64) -> String {
    let time = rfc3339(time_ns);
    time.get(11..23).unwrap_or(&time).to_owned()
}

/// An address, and the port if there is one.
fn end_text(end: SocketAddr) -> String {
    if end.port() == 0 { end.ip().to_string() } else { end.to_string() }
}

fn processes_text(processes: &[&Process]) -> String {
    let texts = processes.iter().map(|process| format!("{}[{}]", escape(process.program()), process.pid));
    let texts: Vec<_> = texts.collect();
    if texts.is_empty() { String::new() } else { format!(" {}", texts.join(", ")) }
}

fn add_processes(processes: &[&Process], event: &mut Value) {
    let object = |Process { pid, comm, exe, .. }: &Process| match exe {
        Some(exe) => json!({ "pid": pid, "comm": comm, "exe": exe }),
        None => json!({ "pid": pid, "comm": comm }),
    };
    if let Some(first) = processes.first() {
        event["process"] = object(first);
    }
    if processes.len() > 1 {
        event["processes"] = processes.iter().map(|process| object(process)).collect();
    }
}

fn causes(failed: FailedAttempts) -> Value {
    failed.causes().map(|(cause, times)| (cause.to_owned(), Value::from(times))).collect()
}

/// Why a connection ended, for people. Documents have the words of IPFIX.
fn end_words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::EndOfFlow => "closed",
        EndReason::IdleTimeout => "idle",
        EndReason::ForcedEnd => "open at the end of the run",
        EndReason::LackOfResources => "no longer tracked: too many flows",
        EndReason::ActiveTimeout => "continues",
    }
}

/// Writes that observations were lost: an event may be missing.
pub fn write_lost(reason: &str, count: u64, is_json: bool, out: &mut dyn Write) -> io::Result<()> {
    match is_json {
        true => write_line(&json!({ "schema": SCHEMA, "event": "lost", "reason": reason, "count": count }), out),
        false => writeln!(out, "… {} lost: {reason}", counted(count, "observation")),
    }
}

/// Writes a note of the report as a line of JSON.
pub fn write_note(text: &str, out: &mut dyn Write) -> io::Result<()> {
    write_line(&json!({ "schema": SCHEMA, "event": "note", "text": text }), out)
}

fn write_line(event: &Value, out: &mut dyn Write) -> io::Result<()> {
    line(event, out)?;
    out.write_all(b"\n")
}
