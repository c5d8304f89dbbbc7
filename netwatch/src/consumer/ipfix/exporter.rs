//! The exporting process: fills messages with records, sends templates again when they are due, and
//! counts what was sent and dropped.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::transport::{FlowMessage, IpfixDestination, MessageTransport, QueueCounts, SendOutcome};
use crate::consumer::Discards;
use crate::error::Result;
use crate::format::ipfix::{
    EncodedRecord, ExporterRecord, MeasurementRecord, MessageWriter, encode_exporter, encode_measurement,
    encode_sampling, templates,
};

/// Time after which templates and options are sent again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// Sends records to one destination.
#[derive(Debug)]
pub(super) struct Exporter {
    domain: u32,
    transport: Box<dyn MessageTransport>,
    message: MessageWriter,
    /// Flow records in the message, their packets and octets.
    pending: FlowMessage,
    /// Data records that were sent in the transport session.
    sequence: u32,
    /// The transport session that has the templates, and when they were sent.
    templates: Option<(u64, Instant)>,
    /// When options were sent.
    options: Option<Instant>,
    counts: ExporterRecord,
    discards: Arc<Discards>,
}

impl Exporter {
    pub(super) fn new(destination: IpfixDestination, domain: u32) -> Self {
        let discards = Arc::new(Discards::new(format!("flow records for {}", destination.name())));
        let transport = destination.transport(discards.clone());
        Self {
            domain,
            message: MessageWriter::new(domain, transport.max_message_bytes()),
            transport,
            pending: FlowMessage::default(),
            sequence: 0,
            templates: None,
            options: None,
            counts: ExporterRecord::default(),
            discards,
        }
    }

    pub(super) fn discards(&self) -> Arc<Discards> {
        self.discards.clone()
    }

    /// Adds a flow with these packets and octets.
    pub(super) fn flow(&mut self, record: &EncodedRecord, packets: u64, octets: u64) -> Result<()> {
        self.add(record)?;
        self.pending.flows += 1;
        self.pending.packets += packets;
        self.pending.octets += octets;
        Ok(())
    }

    /// Whether options are due: in the first interval, and then as often as templates.
    pub(super) fn needs_options(&self) -> bool {
        self.options.is_none_or(|sent| sent.elapsed() > REFRESH_INTERVAL)
    }

    /// Adds what was measured, and what was sent.
    pub(super) fn options(&mut self, measurement: &MeasurementRecord) -> Result<()> {
        self.options = Some(Instant::now());
        self.add(&encode_measurement(self.domain, measurement))?;
        self.add(&encode_exporter(std::process::id(), &self.counts))
    }

    /// Sends the message that is being filled.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.transport.poll();
        self.count_queued();
        if self.message.is_empty() {
            return Ok(());
        }
        self.refresh_templates()?;
        self.send()
    }

    /// Sends everything, and waits for the collector as long as it makes progress.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        self.transport.finish()
    }

    fn add(&mut self, record: &EncodedRecord) -> Result<()> {
        if !self.message.has_room(record) {
            self.flush()?;
        }
        self.message.push(record);
        Ok(())
    }

    /// Sends the templates in a message before this one, if the collector lacks them.
    fn refresh_templates(&mut self) -> Result<()> {
        let session = self.transport.session();
        let is_due = match self.templates {
            Some((known, sent)) => {
                known != session || (self.transport.needs_refresh() && sent.elapsed() > REFRESH_INTERVAL)
            }
            None => true,
        };
        if !is_due {
            return Ok(());
        }
        if self.templates.is_none_or(|(known, _)| known != session) {
            self.sequence = 0;
        }
        self.templates = Some((session, Instant::now()));
        let mut message = MessageWriter::new(self.domain, self.transport.max_message_bytes());
        templates().iter().chain([&encode_sampling()]).for_each(|record| message.push(record));
        let (bytes, records) = message.finish(self.sequence, export_time());
        self.deliver(FlowMessage { bytes, ..FlowMessage::default() }, records)
    }

    fn send(&mut self) -> Result<()> {
        let (bytes, records) = self.message.finish(self.sequence, export_time());
        let message = FlowMessage { bytes, ..std::mem::take(&mut self.pending) };
        self.deliver(message, records)
    }

    fn deliver(&mut self, message: FlowMessage, records: u32) -> Result<()> {
        let FlowMessage { flows, packets, octets, .. } = message;
        match self.transport.send(message)? {
            SendOutcome::Sent => {
                self.sequence = self.sequence.wrapping_add(records);
                self.counts.messages += 1;
                self.counts.flows += flows;
            }
            SendOutcome::Queued => self.sequence = self.sequence.wrapping_add(records),
            SendOutcome::Dropped(reason) => {
                self.counts.unsent_flows += flows;
                self.counts.unsent_packets += packets;
                self.counts.unsent_octets += octets;
                if flows > 0 {
                    self.discards.add(reason, flows);
                }
            }
        }
        self.count_queued();
        Ok(())
    }

    /// Counts messages that waited and were sent or dropped.
    fn count_queued(&mut self) {
        let QueueCounts { sent_messages, sent_flows, dropped_flows, dropped_packets, dropped_octets } =
            self.transport.take_counts();
        self.counts.messages += sent_messages;
        self.counts.flows += sent_flows;
        self.counts.unsent_flows += dropped_flows;
        self.counts.unsent_packets += dropped_packets;
        self.counts.unsent_octets += dropped_octets;
    }
}

/// Seconds since the Unix epoch, modulo 2^32 as RFC 7011 requires.
fn export_time() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as u32)
}
