//! Connections and metrics for receivers of OpenTelemetry (OTLP over HTTP): a consumer that posts a
//! log record for each finished connection, and the sums of the run. A receiver that is slow or
//! dead costs records, which are counted, and delays the end of a run by five seconds at most: for
//! the request that it has not answered yet, and for all that are left.

mod receiver;
mod records;
mod resolver;
mod spool;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(test)]
mod tls_tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;

pub use receiver::{OtlpOptions, OtlpReceiver, OtlpTarget};
pub use spool::SpoolOptions;

use self::receiver::{OtlpAnswer, REQUEST_TIMEOUT};
use self::spool::{MAX_REQUEST, OtlpSpool};
use super::finished::{FinishedFlow, FinishedFlows, FlowProcess};
use super::{Consumer, Discards, StreamEnd};
use crate::error::{Error, Result};
use crate::flow::{Counters, EndReason, PerDirection};
use crate::report::Run;
use crate::session::{Event, EventKinds, FlowRecord, IntervalTotals};

/// Connections that wait for a receiver, about 20 MB.
const MAX_WAITING: usize = 65_536;
/// Time between two requests with metrics.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);
/// Time after which no further request begins before the next events. Shorter than the second
/// between two intervals, so that the end of the run is not missed for long.
const MAX_POSTING: Duration = Duration::from_millis(500);
/// Time for all requests at the end.
const MAX_FINISH: Duration = Duration::from_secs(2);
/// Pauses after a request that failed: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

const QUEUE_FULL: &str = "queue full";
const REFUSED: &str = "refused by the receiver";
const SPOOL_FULL: &str = "spool full";
const SPOOL_FAILED: &str = "spool not readable or writable";
const NOT_REACHED: &str = "receiver not reached before the end of the run";

/// Posts connections and metrics to a receiver.
#[derive(Debug)]
pub struct Otlp {
    receiver: OtlpReceiver,
    run: Run,
    finished: FinishedFlows,
    /// Connections that the receiver does not have yet, oldest first.
    waiting: VecDeque<EndedConnection>,
    totals: Option<Arc<IntervalTotals>>,
    next_metrics: Instant,
    /// No request before this time, and the pause after the next failure.
    retry: (Instant, Duration),
    /// No request after this time.
    until: Instant,
    is_finishing: bool,
    discards: Arc<Discards>,
}

/// A connection that has ended.
#[derive(Debug)]
struct EndedConnection {
    record: Arc<FlowRecord>,
    counters: PerDirection<Counters>,
    retransmitted: PerDirection<u64>,
    failure: Option<&'static str>,
    reason: EndReason,
    process: Option<FlowProcess>,
    observed_ns: u64,
}

impl Otlp {
    /// Posts to this receiver.
    pub fn new(receiver: OtlpReceiver) -> Self {
        Self {
            discards: Arc::new(Discards::new(format!("connections for {}", receiver.name()))),
            receiver,
            run: Run::default(),
            finished: FinishedFlows::default(),
            waiting: VecDeque::new(),
            totals: None,
            next_metrics: Instant::now(),
            retry: (Instant::now(), PAUSES.0),
            until: Instant::now(),
            is_finishing: false,
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Started(started) => self.run = started.run.clone(),
            Event::UsedBy(used) => self.finished.add_process(&used),
            // Only of flows that are live again after their end.
            Event::FlowGrew(record) => self.finished.grow(&record.flow),
            Event::FlowEnded(record, reason) => self.flow(record, reason),
            _ => {}
        }
    }

    fn flow(&mut self, record: Arc<FlowRecord>, reason: EndReason) {
        let Some(finished) = self.finished.end(&record) else { return };
        let FinishedFlow { counters, retransmitted, failure, process } = finished;
        let (process, observed_ns) = (process.cloned(), now_ns());
        let ended = EndedConnection { record, counters, retransmitted, failure, reason, process, observed_ns };
        self.waiting.push_back(ended);
        if self.waiting.len() >= MAX_REQUEST && self.may_post() {
            self.post_logs();
        }
        if self.waiting.len() <= MAX_WAITING {
            return;
        }
        if self.receiver.spool.is_some() {
            self.spool_oldest();
        } else {
            self.waiting.pop_front();
            self.discards.add(QUEUE_FULL, 1);
        }
    }

    fn may_post(&self) -> bool {
        (self.retry.0..self.until).contains(&Instant::now())
    }

    /// Moves the oldest connections to the disk, if there is a spool: fewer of them if a request
    /// would be larger than the spool may be.
    fn spool_oldest(&mut self) {
        let Some(spool) = &mut self.receiver.spool else { return };
        let mut number = self.waiting.len().min(MAX_REQUEST);
        let encode = |number| {
            let logs = self.waiting.iter().take(number).map(records::connection).collect();
            records::logs(&self.run, logs).encode_to_vec()
        };
        let mut body = encode(number);
        while !spool.fits(body.len()) && number > 1 {
            number /= 2;
            body = encode(number);
        }
        let (reason, lost) = if spool.fits(body.len()) {
            let removed = spool.push(&body, number as u64);
            removed.map_or((SPOOL_FAILED, number as u64), |removed| (SPOOL_FULL, removed))
        } else {
            (SPOOL_FULL, number as u64)
        };
        self.discards.add(reason, lost);
        self.waiting.drain(..number);
    }

    /// Posts what is on disk, which is older than what waits. Returns whether nothing is left.
    fn post_spooled(&mut self) -> bool {
        while let Some((body, records)) = self.receiver.spool.as_ref().and_then(OtlpSpool::oldest) {
            if Instant::now() >= self.until {
                return false;
            }
            let (reason, lost) = match body.map(|body| self.post("logs", &body)) {
                Ok(OtlpAnswer::Accepted { rejected }) => (REFUSED, rejected.min(records)),
                Ok(OtlpAnswer::Refused) => (REFUSED, records),
                Ok(failed) => {
                    self.pause(failed);
                    return false;
                }
                Err(_) => (SPOOL_FAILED, records),
            };
            self.discards.add(reason, lost);
            self.receiver.spool.as_mut().map(OtlpSpool::remove_oldest);
            self.retry.1 = PAUSES.0;
        }
        true
    }

    /// Posts what waits, until a request fails or the time has passed.
    fn post_logs(&mut self) {
        if !self.post_spooled() {
            return;
        }
        while !self.waiting.is_empty() && Instant::now() < self.until {
            let number = self.waiting.len().min(MAX_REQUEST);
            let logs = self.waiting.iter().take(number).map(records::connection).collect();
            let refused = match self.post("logs", &records::logs(&self.run, logs).encode_to_vec()) {
                OtlpAnswer::Accepted { rejected } => rejected.min(number as u64),
                OtlpAnswer::Refused => number as u64,
                failed => return self.pause(failed),
            };
            self.waiting.drain(..number);
            self.discards.add(REFUSED, refused);
            self.retry.1 = PAUSES.0;
        }
    }

    /// Posts a request. At the end of the run, it has the time that is left.
    fn post(&self, signal: &str, body: &[u8]) -> OtlpAnswer {
        let left = self.until.saturating_duration_since(Instant::now());
        self.receiver.post(signal, body, if self.is_finishing { left } else { REQUEST_TIMEOUT })
    }

    /// No request for a while: as long as the receiver requests, or longer after each failure.
    fn pause(&mut self, failed: OtlpAnswer) {
        let pause = if let OtlpAnswer::Later(Some(requested)) = failed { requested } else { self.retry.1 };
        self.retry = (Instant::now() + pause, (self.retry.1 * 2).min(PAUSES.1));
    }

    /// Posts the sums. What a request lacks, the next one has.
    fn post_metrics(&mut self) {
        let Some(totals) = self.totals.take() else { return };
        self.next_metrics = Instant::now() + METRICS_INTERVAL;
        let failed = self.post("metrics", &records::metrics(&totals).encode_to_vec());
        if matches!(failed, OtlpAnswer::Later(_) | OtlpAnswer::Unreachable) {
            self.pause(failed);
        }
    }
}

impl Consumer for Otlp {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn wants(&self) -> EventKinds {
        EventKinds::SESSION.with(EventKinds::FLOW_ENDED).with(EventKinds::USED_BY).with(EventKinds::INTERVAL)
    }

    fn discards(&self) -> Option<Arc<Discards>> {
        Some(self.discards.clone())
    }

    fn consume(&mut self, events: Vec<Event>) -> Result<()> {
        self.until = Instant::now() + MAX_POSTING;
        let totals = events.iter().rev().find_map(|event| match event {
            Event::Interval(totals) => Some(totals.clone()),
            _ => None,
        });
        self.totals = totals.or(self.totals.take());
        // Before connections, which can need the whole time while the spool has many.
        if self.may_post() && Instant::now() >= self.next_metrics {
            self.post_metrics();
        }
        events.into_iter().for_each(|event| self.event(event));
        if self.may_post() {
            self.post_logs();
        }
        Ok(())
    }

    /// Tries once more, also during a pause.
    fn finish(&mut self, _end: &StreamEnd) -> Result<()> {
        (self.is_finishing, self.until) = (true, Instant::now() + MAX_FINISH);
        if self.receiver.spool.as_ref().is_some_and(|spool| !spool.is_empty()) {
            // Connections have the spool if the time is not enough.
            self.post_metrics();
        }
        self.post_logs();
        if self.waiting.is_empty() && Instant::now() < self.until {
            self.post_metrics();
        }
        while self.receiver.spool.is_some() && !self.waiting.is_empty() {
            self.spool_oldest();
        }
        self.discards.add(NOT_REACHED, self.waiting.len() as u64);
        self.waiting.clear();
        let not_removed = self.receiver.spool.as_mut().and_then(OtlpSpool::not_removed);
        let Some(report) = self.discards.report() else { return not_removed.map_or(Ok(()), Err) };
        let last_failure = self.receiver.last_failure().map(|failure| format!("the last request failed: {failure}"));
        let hints: Vec<_> = last_failure.into_iter().chain(not_removed.map(|error| error.to_string())).collect();
        let error = Error::other("export", "every connection", report);
        Err(if hints.is_empty() { error } else { error.hint(hints.join("; ")) })
    }
}

/// The system's time, nanoseconds since the Unix epoch.
fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
