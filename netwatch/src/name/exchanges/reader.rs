//! Exchanges of one connection: a request is what the client sends until the service answers. Both
//! ends acknowledge what they received, which shows whether a sample is missing between the last
//! byte of a request and the first byte of its response.

use smallvec::SmallVec;

use super::head::{HeadVerdict, Opening, OpeningBytes, ResponseHead};
use super::tls::{TlsRecord, TlsStage};
use crate::name::sample::Segment;

/// Maximum number of parts of a request with gaps between them. Beyond it, no time is measured.
const MAX_PARTS: usize = 8;

/// Payload of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExchangeSegment<'a> {
    pub time_ns: u64,
    pub tcp: Segment,
    /// The payload as far as it was sampled, and its whole length.
    pub payload: &'a [u8],
    pub payload_len: u32,
    pub is_from_client: bool,
    /// What TLS carries may be several exchanges at a time (HTTP/2), or that is unknown.
    pub may_interleave: bool,
}

/// The result of an exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ExchangeOutcome {
    /// From the last byte of the request to the first byte of the response, nanoseconds; `None` if
    /// one of the two was not sampled, or the response began before the request was complete.
    pub time_ns: Option<u64>,
    /// The status of HTTP/1.
    pub status: Option<u16>,
}

/// The state of a connection.
#[derive(Debug, Default)]
pub(super) struct ExchangeReader {
    /// The ends of what the client and the service sent until the end of the last exchange.
    request_end: Option<u32>,
    response_end: Option<u32>,
    request: Option<PendingRequest>,
    response: Option<PendingResponse>,
    tls: Option<TlsStage>,
    is_stopped: bool,
}

/// A request without a response so far.
#[derive(Debug)]
struct PendingRequest {
    /// What arrived, sorted and merged: start and end of each part.
    parts: SmallVec<[(u32, u32); 2]>,
    has_too_many_parts: bool,
    /// Time of the newest byte.
    last_ns: u64,
    /// What the client received before: the response begins there.
    acknowledged: Option<u32>,
    head: OpeningBytes,
    /// Further requests that were sent together with it.
    further: u64,
}

/// A response of which the first bytes are awaited.
#[derive(Debug)]
struct PendingResponse {
    outcome: ExchangeOutcome,
    head: ResponseHead,
    /// The sequence number of the next byte.
    next: u32,
    /// The request asks for a tunnel.
    is_tunnel: bool,
}

impl ExchangeReader {
    /// Takes a segment with payload. Returns the number of bytes of requests among it that were
    /// not sampled before.
    pub fn observe(&mut self, segment: &ExchangeSegment<'_>, out: &mut Vec<ExchangeOutcome>) -> u64 {
        if self.is_stopped || segment.payload_len == 0 {
            return 0;
        }
        let start = segment.tcp.payload_sequence();
        let end = start.wrapping_add(segment.payload_len);
        let known_end = if segment.is_from_client { self.request_end } else { self.response_end };
        // A retransmission.
        if known_end.is_some_and(|known| !is_after(end, known)) {
            return 0;
        }
        let skip = known_end.filter(|known| is_after(*known, start)).map_or(0, |known| known.wrapping_sub(start));
        let payload = segment.payload.get(skip as usize..).unwrap_or_default();
        let range = (start.wrapping_add(skip), end);
        if segment.is_from_client {
            return self.request(segment, range, payload, out);
        }
        self.respond(segment, range, payload, out);
        0
    }

    /// Ends the connection: what is pending has no further bytes.
    pub fn finish(&mut self, out: &mut Vec<ExchangeOutcome>) {
        self.end_response(out);
        self.give_up(out);
    }

    /// The pending request gets no response that could be measured.
    fn give_up(&mut self, out: &mut Vec<ExchangeOutcome>) {
        let Some(request) = self.request.take().filter(|_| !self.is_stopped) else { return };
        self.request_end = request.end();
        let is_counted = match request.head.opening() {
            Opening::Other | Opening::Tunnel => self.tls.is_none(),
            Opening::TlsData => self.tls == Some(TlsStage::Open) && !request.is_tls_notice(),
            _ => false,
        };
        if is_counted {
            out.push(ExchangeOutcome::default());
            request.add_further(out);
        }
    }

    fn request(
        &mut self,
        segment: &ExchangeSegment<'_>,
        (first, end): (u32, u32),
        payload: &[u8],
        out: &mut Vec<ExchangeOutcome>,
    ) -> u64 {
        let mut start = first;
        self.end_response(out);
        let acknowledged = segment.tcp.acknowledgment;
        let response_end = self.response_end;
        // The client received a response of which no sample arrived.
        if self.request.as_ref().is_some_and(|request| request.is_answered(acknowledged, response_end)) {
            self.give_up(out);
            let answered = self.request_end.unwrap_or(start);
            if !is_after(end, answered) {
                return 0;
            }
            start = later(start, answered);
        }
        let skip = start.wrapping_sub(first) as usize;
        let request = self.request.get_or_insert_with(|| PendingRequest {
            parts: SmallVec::new(),
            has_too_many_parts: false,
            last_ns: 0,
            acknowledged,
            head: OpeningBytes::default(),
            further: 0,
        });
        let added = request.add((start, end));
        if added == 0 {
            return 0;
        }
        request.last_ns = request.last_ns.max(segment.time_ns);
        if acknowledged.is_some_and(|new| request.acknowledged.is_none_or(|known| is_after(new, known))) {
            request.acknowledged = acknowledged;
        }
        let payload = payload.get(skip..).unwrap_or_default();
        request.head.add(start, payload);
        // Not a retransmission, not even in part.
        if added == u64::from(end.wrapping_sub(start)) {
            request.further += request.head.further_requests(start, payload);
        }
        added
    }

    fn respond(
        &mut self,
        segment: &ExchangeSegment<'_>,
        (start, end): (u32, u32),
        payload: &[u8],
        out: &mut Vec<ExchangeOutcome>,
    ) {
        self.response_end = Some(end);
        let Some(request) = self.request.take() else { return self.continue_response(start, end, payload, out) };
        self.request_end = request.end();
        let is_start = request.acknowledged == Some(start);
        let record = TlsRecord::of(payload);
        let is_counted = self.count(&request, record, segment.may_interleave);
        if self.is_stopped || !is_counted {
            return;
        }
        request.add_further(out);
        let is_notice = self.tls.is_some() && request.is_tls_notice();
        let is_data = self.tls.is_none() || record.is_some_and(TlsRecord::is_message);
        if is_notice && !is_data {
            return;
        }
        let is_whole = is_start && is_data && !is_notice && request.is_whole(segment.tcp.acknowledgment);
        let time_ns = if is_whole { segment.time_ns.checked_sub(request.last_ns) } else { None };
        let outcome = ExchangeOutcome { time_ns, status: None };
        if !is_start {
            return out.push(outcome);
        }
        let is_tunnel = request.head.opening() == Opening::Tunnel;
        self.response = Some(PendingResponse { outcome, head: ResponseHead::default(), next: start, is_tunnel });
        self.continue_response(start, end, payload, out);
    }

    /// Whether an exchange with this request counts, and follows the handshake of TLS. `record` is
    /// what its response begins with.
    fn count(&mut self, request: &PendingRequest, record: Option<TlsRecord>, may_interleave: bool) -> bool {
        let opening = request.head.opening();
        match (self.tls, opening) {
            (_, Opening::Interleaved) => self.is_stopped = true,
            (_, Opening::TlsHello) => self.tls = Some(TlsStage::Hello),
            // The handshake was not observed.
            (None, Opening::Other | Opening::Tunnel) => return true,
            (None, _) => self.is_stopped = true,
            (Some(stage), Opening::TlsData) if stage.is_over(record) => {
                self.tls = Some(TlsStage::Open);
                self.is_stopped |= may_interleave;
                return !may_interleave;
            }
            (Some(stage), _) => {
                self.tls = Some(stage.after(opening, record));
                self.is_stopped |= stage == TlsStage::Open && may_interleave;
            }
        }
        false
    }

    /// Takes further bytes of the response.
    fn continue_response(&mut self, start: u32, end: u32, payload: &[u8], out: &mut Vec<ExchangeOutcome>) {
        let Some(response) = &mut self.response else { return };
        if response.next != start {
            return self.end_response(out);
        }
        response.next = end;
        match response.head.push(payload) {
            HeadVerdict::Incomplete => {}
            HeadVerdict::Other => self.end_response(out),
            HeadVerdict::Status(status) => {
                response.outcome.status = Some(status);
                self.end_response(out);
            }
        }
    }

    /// Nothing more is awaited of a response.
    fn end_response(&mut self, out: &mut Vec<ExchangeOutcome>) {
        let Some(PendingResponse { outcome, is_tunnel, .. }) = self.response.take() else { return };
        // `100 Continue` asks for the rest of the request.
        if outcome.status != Some(100) {
            out.push(outcome);
        }
        let has_tunnel = is_tunnel && outcome.status.is_none_or(|status| (200..300).contains(&status));
        // `101 Switching Protocols`: what follows need not be exchanges.
        self.is_stopped |= has_tunnel || outcome.status == Some(101);
    }
}

impl PendingRequest {
    /// Whether the client acknowledges bytes that follow those it acknowledged before, and those
    /// that were sampled.
    fn is_answered(&self, acknowledged: Option<u32>, response_end: Option<u32>) -> bool {
        let known = acknowledged.zip(self.acknowledged);
        known.is_some_and(|(new, known)| is_after(new, response_end.map_or(known, |end| later(known, end))))
    }

    /// Whether this has the length of an encrypted alert or KeyUpdate of TLS 1.3, and nothing else.
    fn is_tls_notice(&self) -> bool {
        let record = self.head.record();
        record.is_some_and(|record| !record.is_message() && self.bytes() == record.bytes())
    }

    /// Adds the requests that were sent together with the first one: of their responses nothing is
    /// read.
    fn add_further(&self, out: &mut Vec<ExchangeOutcome>) {
        out.extend((0..self.further).map(|_| ExchangeOutcome::default()));
    }

    fn end(&self) -> Option<u32> {
        self.parts.last().map(|(_, end)| *end)
    }

    /// Whether every byte that the service received arrived here, and no other.
    fn is_whole(&self, received: Option<u32>) -> bool {
        self.parts.len() == 1 && !self.has_too_many_parts && self.end() == received
    }

    /// Adds a part; returns the number of bytes among it that are new.
    fn add(&mut self, (start, end): (u32, u32)) -> u64 {
        let before = self.bytes();
        let place = self.parts.iter().position(|part| is_after(part.0, start)).unwrap_or(self.parts.len());
        self.parts.insert(place, (start, end));
        let mut merged: SmallVec<[(u32, u32); 2]> = SmallVec::new();
        for (start, end) in self.parts.drain(..) {
            match merged.last_mut() {
                Some(last) if !is_after(start, last.1) => last.1 = later(last.1, end),
                _ => merged.push((start, end)),
            }
        }
        if merged.len() > MAX_PARTS {
            self.has_too_many_parts = true;
            merged.remove(0);
        }
        self.parts = merged;
        self.bytes().saturating_sub(before)
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().map(|(start, end)| u64::from(end.wrapping_sub(*start))).sum()
    }
}

/// Whether a sequence number comes after another one, in the arithmetic of TCP.
fn is_after(sequence: u32, other: u32) -> bool {
    sequence.wrapping_sub(other).cast_signed() > 0
}

fn later(one: u32, other: u32) -> u32 {
    if is_after(one, other) { one } else { other }
}
