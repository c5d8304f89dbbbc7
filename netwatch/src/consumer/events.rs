//! Events of connections for people and programs: a line for each connection that was opened,
//! named, failed or ended.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use super::remembered::RememberedProcesses;
use super::{Consumer, StreamEnd};
use crate::error::{Error, Result};
use crate::flow::{EndpointKey, FailedAttempts, FlowId};
use crate::format::events::{ConnectionEvent, ConnectionEventKind, write_lost, write_note};
use crate::process::Process;
use crate::report::Interface;
use crate::session::{Event, EventKinds, FlowRecord};

/// Writes the events of connections.
#[derive(Debug)]
pub struct EventLines<W: Write> {
    out: BufWriter<W>,
    is_json: bool,
    /// What was written about each live flow.
    flows: HashMap<FlowId, Written>,
    processes: RememberedProcesses<Process>,
    interface: Interface,
}

#[derive(Debug, Default, Clone, Copy)]
struct Written {
    is_named: bool,
    failed: FailedAttempts,
}

impl<W: Write> EventLines<W> {
    /// Writes to `out`: text, or JSON lines.
    pub fn new(out: W, is_json: bool) -> Self {
        let (flows, processes, interface) = (HashMap::new(), RememberedProcesses::default(), Interface::default());
        Self { out: BufWriter::new(out), is_json, flows, processes, interface }
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::FlowOpened(record) | Event::FlowGrew(record) => self.flow(record, record.flow.failed_so_far()),
            Event::FlowEnded(record, reason) => {
                self.flow(record, record.flow.failed())?;
                self.flows.remove(&record.id());
                self.write(ConnectionEventKind::Ended(*reason), record)
            }
            Event::UsedBy(used) => {
                self.processes.insert(used.process.number, used.process.clone());
                Ok(())
            }
            Event::Started(started) => {
                self.interface.clone_from(&started.interface);
                Ok(())
            }
            Event::Lost(reason, count) => write_lost(reason, *count, self.is_json, &mut self.out),
            // As text, notes of importance are on standard error already.
            Event::Note(text) if self.is_json => write_note(text, &mut self.out),
            _ => Ok(()),
        }
    }

    /// Writes what is new about a flow with these failed attempts.
    fn flow(&mut self, record: &FlowRecord, failed: FailedAttempts) -> io::Result<()> {
        let before = self.flows.get(&record.id()).copied();
        let is_named = record.naming.as_ref().is_some_and(|naming| naming.display_name.is_some());
        self.flows.insert(record.id(), Written { is_named, failed });
        if before.is_none() {
            self.write(ConnectionEventKind::Opened, record)?;
        }
        let before = before.unwrap_or_default();
        if is_named && !before.is_named {
            self.write(ConnectionEventKind::Named, record)?;
        }
        if has_new_failures(before.failed, failed) {
            self.write(ConnectionEventKind::Failed(failed), record)?;
        } else if before.failed.unanswered > 0 && failed.unanswered == 0 {
            self.write(ConnectionEventKind::Answered, record)?;
        }
        Ok(())
    }

    fn write(&mut self, kind: ConnectionEventKind, record: &FlowRecord) -> io::Result<()> {
        let process = record.usages.first().and_then(|usage| self.processes.get(usage.process));
        let FlowRecord { flow, naming, .. } = record;
        let is_dns_forwarder = self.interface.is_dns_forwarder(&EndpointKey::of(&flow.key, flow.opened_by));
        let event = ConnectionEvent { kind, flow, naming: naming.as_deref(), process, is_dns_forwarder };
        if self.is_json { event.write_json(&mut self.out) } else { event.write_text(&mut self.out) }
    }
}

/// Whether attempts failed that had not failed before, or in another way.
fn has_new_failures(before: FailedAttempts, now: FailedAttempts) -> bool {
    now.causes().any(|(cause, attempts)| {
        before.causes().find(|(earlier, _)| *earlier == cause).is_none_or(|(_, earlier)| attempts > earlier)
    })
}

impl<W: Write + Send + 'static> Consumer for EventLines<W> {
    fn name(&self) -> &'static str {
        "events"
    }

    fn wants(&self) -> EventKinds {
        EventKinds::FLOW_OPENED
            .with(EventKinds::FLOW_GREW)
            .with(EventKinds::FLOW_ENDED)
            .with(EventKinds::USED_BY)
            .with(EventKinds::LOST)
            .with(EventKinds::NOTE)
            .with(EventKinds::SESSION)
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        let written = events.iter().try_for_each(|event| self.event(event)).and_then(|()| self.out.flush());
        written.map_err(|error| Error::os("write", "events", error))
    }

    fn finish(&mut self, _end: &StreamEnd) -> Result<()> {
        self.out.flush().map_err(|error| Error::os("write", "events", error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::flow::{
        Counters, Direction, EndReason, FlowKey, Increment, ObservationPoint, PayloadGrowth, PerDirection, TcpFacts,
        Traffic, TransportAddress,
    };
    use crate::session::{CaptureScope, GrowthTiming, Session, SessionConfig};

    /// What was written.
    #[derive(Debug, Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn increment(ended: Option<EndReason>) -> Increment {
        let end = |addr: [u8; 4], port| TransportAddress { addr: addr.into(), port };
        let key = FlowKey {
            point: ObservationPoint::Link,
            protocol: 6,
            fragment: false,
            local: end([198, 51, 100, 2], 5000),
            remote: end([198, 51, 100, 1], 443),
        };
        let egress = Counters { skbs: 1, packets: 1, bytes: 60, wire_bytes: 60 };
        let counters = PerDirection { egress, ingress: Counters::default() };
        Increment {
            traffic: Traffic::Flow(key),
            point: ObservationPoint::Link,
            counters,
            payload: PayloadGrowth { bytes: PerDirection { egress: 6, ingress: 0 }, ..PayloadGrowth::default() },
            first_seen_ns: 1_000_000_000,
            last_seen_ns: 3_000_000_000,
            opened_by: Direction::Egress,
            connections: 1,
            initial_sequence: None,
            epoch: 0,
            superseded: false,
            is_last: false,
            ended,
            tcp: Some(TcpFacts::default()),
        }
    }

    /// The lines of a connection that is opened in one interval and ends in the next.
    fn lines(is_json: bool) -> String {
        let out = Shared::default();
        let mut events = EventLines::new(out.clone(), is_json);
        let mut session = Session::new(CaptureScope::default(), SessionConfig::default());
        let outlet = session.attach(events.wants());
        for ended in [None, Some(EndReason::EndOfFlow)] {
            session.apply(increment(ended));
            events.consume(session.deliver(outlet, 100, GrowthTiming::Now)).expect("written");
        }
        session.note("noted".to_owned());
        events.consume(session.deliver(outlet, 100, GrowthTiming::Now)).expect("written");
        let text = out.0.lock().expect("not poisoned").clone();
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn a_connection_has_a_line_when_it_opens_and_when_it_ends() {
        let text = lines(false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("00:00:01.000 opened tcp 198.51.100.2:5000 -> 198.51.100.1:443"), "{text}");
        assert!(lines[1].contains("ended") && lines[1].ends_with(", closed"), "{text}");
    }

    /// The events of a connection of which more SYNs, and SYN-ACKs, are observed in each interval.
    fn handshake(steps: &[(u64, u64, Option<EndReason>)]) -> Vec<String> {
        let out = Shared::default();
        let mut events = EventLines::new(out.clone(), true);
        let mut session = Session::new(CaptureScope::default(), SessionConfig::default());
        let outlet = session.attach(events.wants());
        for (step, (syns, syn_acks, ended)) in steps.iter().enumerate() {
            let syns = PerDirection { egress: *syns, ingress: 0 };
            let syn_acks = PerDirection { egress: 0, ingress: *syn_acks };
            let tcp = Some(TcpFacts { syns, syn_acks, ..TcpFacts::default() });
            session.apply(Increment { tcp, connections: (step == 0).into(), ..increment(*ended) });
            events.consume(session.deliver(outlet, 100, GrowthTiming::Now)).expect("written");
        }
        let text = String::from_utf8(out.0.lock().expect("not poisoned").clone()).expect("UTF-8");
        let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["event"].clone();
        text.lines().map(|line| event(line).as_str().expect("a text").to_owned()).collect()
    }

    #[test]
    fn a_handshake_in_flight_has_not_failed() {
        let ended = Some(EndReason::EndOfFlow);
        assert_eq!(handshake(&[(1, 0, None), (0, 1, ended)]), ["opened", "ended"]);
        assert_eq!(handshake(&[(1, 0, None), (0, 0, ended)]), ["opened", "failed", "ended"]);
        assert_eq!(handshake(&[(1, 0, None), (1, 0, None), (1, 0, None)]), ["opened", "failed"]);
        assert_eq!(handshake(&[(1, 0, None), (1, 0, None), (0, 1, ended)]), ["opened", "failed", "answered", "ended"]);
    }

    #[test]
    fn json_lines_have_the_counts_of_the_connection() {
        let text = lines(true);
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((&events[0]["event"], &events[1]["event"]), (&"opened".into(), &"ended".into()), "{text}");
        assert_eq!(
            events[1]["egress"],
            serde_json::json!({ "packets": 2, "wire_bytes": 120, "payload_bytes": 12 }),
            "{text}"
        );
        assert_eq!(events[2], serde_json::json!({ "schema": 1, "event": "note", "text": "noted" }));
        assert_eq!((&events[1]["end_reason"], &events[1]["remote_port"]), (&"end_of_flow".into(), &443.into()));
    }
}
