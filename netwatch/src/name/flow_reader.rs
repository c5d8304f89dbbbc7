//! Reads one flow.

use super::datagrams::Datagrams;
use super::direction_reader::{DirectionReader, may_turn_to_tls};
use super::event::NameEvent;
use super::limits::{NameLimits, NamesLost};
use super::sample::{NameSample, Segment, flag, ports};
use crate::flow::{Direction, FlowKey, Protocol};

/// Events, with the direction of the packet that each was read from.
pub(super) type ReadEvents = Vec<(Direction, NameEvent)>;

/// The state of a flow that is being read.
#[derive(Debug)]
pub(super) enum FlowReader {
    /// TCP.
    Stream(Box<Connection>),
    /// UDP.
    Datagrams(Datagrams),
}

impl FlowReader {
    /// `None` for protocols that are not read.
    pub fn new(flow: &FlowKey, limits: &NameLimits) -> Option<Self> {
        match Protocol(flow.protocol) {
            Protocol::TCP => Some(Self::Stream(Box::new(Connection::new(limits)))),
            Protocol::UDP => Some(Self::Datagrams(Datagrams::default())),
            _ => None,
        }
    }

    /// Bytes of payload that are buffered.
    pub fn held(&self) -> usize {
        match self {
            Self::Stream(connection) => connection.held(),
            Self::Datagrams(datagrams) => datagrams.held(),
        }
    }

    /// True if nothing more can be read.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Stream(connection) => connection.is_done(),
            Self::Datagrams(datagrams) => datagrams.is_done(),
        }
    }

    /// Reads a sample.
    pub fn observe(&mut self, sample: &NameSample<'_>, lost: &mut NamesLost, read: &mut ReadEvents) {
        match (self, sample.tcp) {
            (Self::Stream(connection), Some(segment)) => connection.observe(sample, segment, lost, read),
            (Self::Datagrams(datagrams), None) => {
                let mut events = Vec::new();
                datagrams.observe(sample, &mut events);
                tag(sample.direction, events, read);
            }
            // A sample of another protocol than its key is ignored.
            _ => {}
        }
    }

    /// Parses buffered bytes as far as possible.
    pub fn finish(&mut self, flow: &FlowKey, read: &mut ReadEvents) {
        if let Self::Stream(connection) = self {
            connection.finish(flow, read);
        }
    }

    /// Whether this is a SYN of another connection between the same ends.
    pub fn is_over(&mut self, sample: &NameSample<'_>) -> bool {
        match (self, sample.tcp) {
            (Self::Stream(connection), Some(segment)) if segment.has(flag::SYN) => {
                !connection.side(sample.direction).begin(segment.payload_sequence())
            }
            _ => false,
        }
    }
}

/// Both directions of a TCP connection.
#[derive(Debug)]
pub(super) struct Connection {
    egress: DirectionReader,
    ingress: DirectionReader,
    /// Directions in which a FIN was sent.
    finished: [bool; 2],
}

impl Connection {
    fn new(limits: &NameLimits) -> Self {
        let side = || DirectionReader::new(limits.direction_bytes);
        Self { egress: side(), ingress: side(), finished: [false; 2] }
    }

    fn side(&mut self, direction: Direction) -> &mut DirectionReader {
        match direction {
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        }
    }

    fn observe(&mut self, sample: &NameSample<'_>, segment: Segment, lost: &mut NamesLost, read: &mut ReadEvents) {
        let mut events = Vec::new();
        let side = self.side(sample.direction);
        if !side.push(segment.payload_sequence(), sample.payload, sample.is_cut(), sample.ports(), &mut events) {
            lost.direction_bytes += 1;
        }
        events.extend(self.greet());
        if events
            .iter()
            .any(|event| matches!(event, NameEvent::Proven(application, _) if may_turn_to_tls(*application)))
        {
            self.egress.mark_recognized();
            self.ingress.mark_recognized();
        }
        tag(sample.direction, events, read);
        if segment.has(flag::FIN) {
            self.finished[usize::from(sample.direction == Direction::Egress)] = true;
        }
        if segment.has(flag::RST) || self.finished == [true; 2] {
            self.finish(&sample.flow, read);
        }
    }

    /// The greetings of both directions may identify a protocol that one alone does not.
    fn greet(&mut self) -> Option<NameEvent> {
        let application = self.egress.greeting?.with(self.ingress.greeting?)?;
        (self.egress.greeting, self.ingress.greeting) = (None, None);
        Some(NameEvent::Proven(application, "greetings"))
    }

    fn finish(&mut self, flow: &FlowKey, read: &mut ReadEvents) {
        for direction in [Direction::Egress, Direction::Ingress] {
            let mut events = Vec::new();
            self.side(direction).finish(ports(flow, direction), &mut events);
            tag(direction, events, read);
        }
    }

    fn held(&self) -> usize {
        self.egress.held() + self.ingress.held()
    }

    fn is_done(&self) -> bool {
        self.egress.is_done() && self.ingress.is_done()
    }
}

fn tag(direction: Direction, events: Vec<NameEvent>, read: &mut ReadEvents) {
    read.extend(events.into_iter().map(|event| (direction, event)));
}
