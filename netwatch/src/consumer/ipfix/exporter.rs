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
        Self::over(transport, discards, domain)
    }

    fn over(transport: Box<dyn MessageTransport>, discards: Arc<Discards>, domain: u32) -> Self {
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
        let mut message = MessageWriter::new(self.domain, self.transport.max_message_bytes());
        templates().iter().chain([&encode_sampling()]).for_each(|record| message.push(record));
        let (bytes, records) = message.finish(self.sequence, export_time());
        // Those that were dropped are sent before the next message.
        if self.deliver(FlowMessage { bytes, ..FlowMessage::default() }, records)? {
            self.templates = Some((session, Instant::now()));
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let (bytes, records) = self.message.finish(self.sequence, export_time());
        let message = FlowMessage { bytes, ..std::mem::take(&mut self.pending) };
        self.deliver(message, records).map(drop)
    }

    /// Returns whether the message was not dropped.
    fn deliver(&mut self, message: FlowMessage, records: u32) -> Result<bool> {
        let FlowMessage { flows, packets, octets, .. } = message;
        let outcome = self.transport.send(message)?;
        match outcome {
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
        Ok(!matches!(outcome, SendOutcome::Dropped(_)))
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A collector whose host has no room for the first message.
    #[derive(Debug)]
    struct Full {
        sent: Arc<Mutex<Vec<Vec<u8>>>>,
        is_full: bool,
    }

    impl MessageTransport for Full {
        fn max_message_bytes(&self) -> usize {
            1232
        }

        fn needs_refresh(&self) -> bool {
            true
        }

        fn send(&mut self, message: FlowMessage) -> Result<SendOutcome> {
            if std::mem::take(&mut self.is_full) {
                return Ok(SendOutcome::Dropped("beyond the send buffer"));
            }
            self.sent.lock().expect("not poisoned").push(message.bytes);
            Ok(SendOutcome::Sent)
        }

        fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn templates_that_were_dropped_are_sent_before_the_next_message() {
        let sent = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let transport = Box::new(Full { sent: sent.clone(), is_full: true });
        let mut exporter = Exporter::over(transport, Arc::new(Discards::new("flow records".into())), 1);
        for _ in 0..3 {
            exporter.options(&MeasurementRecord::default()).expect("added");
            exporter.flush().expect("sent");
        }
        // The id of the first set of each message: 2 is that of templates.
        let sent = sent.lock().expect("not poisoned");
        let sets: Vec<u16> = sent.iter().map(|message| u16::from_be_bytes([message[16], message[17]])).collect();
        assert_eq!(sets.iter().position(|set| *set == 2), Some(1), "{sets:?}");
        assert_eq!(sets.iter().filter(|set| **set == 2).count(), 1, "{sets:?}");
    }
}
