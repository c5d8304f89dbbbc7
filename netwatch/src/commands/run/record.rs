//! What a run hands to its recording: once a second a step of the series, the flows that changed, and the rest; at the end everything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::changed::Changed;
use crate::error::{Error, Result};
use crate::flow::{Counters, FlowTable, Increment, ObservationPoint, PerDirection, Traffic};
use crate::name::Names;
use crate::process::FlowUsers;
use crate::record::{Batch, Closing, Destination, Keep, Place, Recorder, Rest, Steps, Store};
use crate::report::{Facts, Interval, Report, ReportFlow, Series};
use crate::settings::RunSettings;
use crate::target::user::Identity;

/// Flows in a batch. The others come with the next ones, in their last state: looking at so many takes some 15 ms of the event loop.
const BATCH_FLOWS: usize = 32_768;
/// Flows are handed over once a second, and later by as much for each of them, so that a recording of many that change all the time takes few
/// percent of a core.
const FLOW_EACH: Duration = Duration::from_micros(60);
/// The rest is handed over once a second, and later by as much for each thing in it that there may be many of, which is some microseconds' work.
const REST: Duration = Duration::from_secs(1);
const REST_EACH: Duration = Duration::from_micros(200);

/// Where the run will be recorded, if it starts.
#[derive(Debug, Default)]
pub(super) struct Planned {
    destination: Option<Destination>,
    /// `--record`: then it is an error if it fails, and not a note.
    is_asked_for: bool,
}

impl Planned {
    /// Checks what can be checked before anything starts.
    pub(super) fn make(arguments: &RunSettings, user: &Identity) -> Result<Self> {
        if arguments.no_record {
            return Ok(Self::default());
        }
        if arguments.record.is_some() && arguments.record == arguments.output {
            let file = arguments.record.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            return Err(Error::said("record to", file, "-o writes there too").hint("choose another file for --record"));
        }
        let place = match &arguments.record {
            Some(path) => Place::File(absolute(path.clone())?, None),
            None => Place::Store(Store::of(user)?, Keep { runs: arguments.keep, bytes: arguments.keep_size }),
        };
        let destination = Destination { place, user: user.clone(), limit_bytes: arguments.record_size };
        Ok(Self { destination: Some(destination.check()?), is_asked_for: arguments.record.is_some() })
    }
}

impl Drop for Planned {
    fn drop(&mut self) {
        self.destination.iter().for_each(Destination::abandon);
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|error| Error::os("record to", path.display().to_string(), error))
}

/// The recording of a run, and its series, which there is without one too.
#[derive(Debug, Default)]
pub(super) struct Recording {
    planned: Planned,
    recorder: Option<Recorder>,
    failed: Option<Error>,
    series: Series,
    /// Steps from here on are not handed over yet.
    steps_from: Option<u64>,
    step: Now,
    changed: Changed,
    /// When flows are handed over again; at once if never.
    next_flows: Option<Instant>,
    /// When the rest is handed over again; at once if never.
    next_rest: Option<Instant>,
}

/// The step that is being filled: what there was when it began.
#[derive(Debug, Default)]
struct Now {
    number: u64,
    start_ns: u64,
    totals: PerDirection<Counters>,
    opened: u64,
    active: u64,
}

impl Recording {
    pub(super) fn new(planned: Option<Planned>) -> Self {
        Self { planned: planned.unwrap_or_default(), ..Self::default() }
    }

    /// The command runs.
    pub(super) fn begin(&mut self, run_id: &str, started_ns: u64) {
        self.step.start_ns = started_ns;
        let Some(destination) = self.planned.destination.take() else { return };
        match Recorder::start(destination, run_id.to_owned(), started_ns) {
            Ok(recorder) => self.recorder = Some(recorder),
            Err(error) => self.failed = Some(error),
        }
    }

    /// Adds growth to the table and remembers whose it was.
    pub(super) fn apply(&mut self, increment: Increment, table: &mut FlowTable) {
        let place = table.apply(increment).place;
        if !matches!(increment.traffic, Traffic::Flow(_)) {
            return;
        }
        let is_active = increment.scope == ObservationPoint::Link && increment.counters != PerDirection::default();
        let (step, is_recorded) = (self.step.number, self.recorder.is_some());
        let is_first = place.is_none_or(|place| self.changed.note(place, step, is_recorded));
        self.step.active += u64::from(is_active && is_first);
    }

    /// What was counted since the step before is a step.
    pub(super) fn end_step(&mut self, now_ns: u64, table: &FlowTable) {
        let (totals, opened) = (table.totals_by_sums(ObservationPoint::Link), table.opened(ObservationPoint::Link));
        let step = &self.step;
        let from = self.series.push(Interval {
            start_ns: step.start_ns,
            length_ns: now_ns.saturating_sub(step.start_ns),
            totals: totals.zip(step.totals, |now, before| now - before),
            opened: opened - step.opened,
            active: step.active,
        });
        self.steps_from = [self.steps_from, from].into_iter().flatten().min();
        self.step = Now { number: step.number + 1, start_ns: now_ns, totals, opened, active: 0 };
    }

    /// Hands over what changed, if the recording has time for it.
    pub(super) fn hand_over(
        &mut self,
        table: &FlowTable,
        names: &Names,
        facts: impl FnOnce() -> Result<(Facts, FlowUsers)>,
    ) {
        let Some(recorder) = &self.recorder else { return };
        if recorder.has_failed() {
            self.failed = recorder.failure();
            self.recorder = None;
            return;
        }
        if !recorder.is_idle() {
            return;
        }
        let now = Instant::now();
        let is_due = |next: Option<Instant>| next.is_none_or(|next| now >= next);
        let rest = if is_due(self.next_rest) { facts().ok() } else { None };
        let mut flows = Vec::new();
        if is_due(self.next_flows) {
            flows = take_changed(&mut self.changed, table, names);
            self.next_flows = Some(later(FLOW_EACH, flows.len()));
        }
        let batch = Batch {
            until_ns: self.step.start_ns,
            flows,
            waiting: self.changed.waiting() as u64,
            steps: take_steps(&mut self.steps_from, &self.series),
            rest: rest.map(|(facts, users)| Box::new(rest_of(facts, users, table, names))),
        };
        if let Some(rest) = &batch.rest {
            let many =
                rest.lookups.len() + rest.folded_endpoints.len() + rest.facts.processes.list.len() + rest.users.len();
            self.next_rest = Some(later(REST_EACH, many) + REST);
        }
        recorder.send(batch);
    }

    /// Why there is no recording, as a note; an error that was asked for is told at the end.
    pub(super) fn note(&mut self) -> Option<String> {
        let failed = self.recorder.as_ref().filter(|recorder| recorder.has_failed()).and_then(Recorder::failure);
        if let Some(error) = failed {
            (self.failed, self.recorder) = (Some(error), None);
        }
        self.failed.as_ref().map(|error| format!("the run is not recorded: {error}"))
    }

    /// The run is over.
    pub(super) fn finish(self, report: Arc<Report>) -> (Series, Recorded) {
        let Self { planned, recorder, failed, series, .. } = self;
        let closing = recorder.map(|recorder| recorder.finish(report, series.clone()));
        (series, Recorded { closing, failed, is_asked_for: planned.is_asked_for })
    }
}

/// What became of the recording.
#[derive(Debug)]
pub(super) struct Recorded {
    closing: Option<Closing>,
    failed: Option<Error>,
    is_asked_for: bool,
}

impl Recorded {
    /// Waits until everything is written. An error where `--record` asked for it; otherwise it is only said.
    pub(super) fn wait(self) -> Result<()> {
        let written = self.closing.map_or(Ok(()), Closing::wait);
        match (self.failed.map_or(Ok(()), Err), written) {
            (Err(error), _) | (_, Err(error)) if self.is_asked_for => Err(error),
            (Ok(()), Err(error)) => {
                crate::terminal::print_error(&error);
                Ok(())
            }
            // A note of the report has said it.
            _ => Ok(()),
        }
    }
}

/// When so many things have had their time.
fn later(each: Duration, many: usize) -> Instant {
    Instant::now() + each * u32::try_from(many).unwrap_or(u32::MAX)
}

fn take_changed(changed: &mut Changed, table: &FlowTable, names: &Names) -> Vec<ReportFlow> {
    // Who used them comes with the rest: processes are numbered anew each time.
    let nobody = FlowUsers::default();
    let flows = changed.take(BATCH_FLOWS).into_iter().filter_map(|place| table.at(place));
    flows.map(|flow| ReportFlow::new(flow, names, &nobody)).collect()
}

fn take_steps(from: &mut Option<u64>, series: &Series) -> Steps {
    let from_ns = from.take();
    let first =
        from_ns.map_or(series.intervals.len(), |from| series.intervals.partition_point(|step| step.start_ns < from));
    Steps { from_ns, steps: series.intervals[first..].to_vec() }
}

fn rest_of(facts: Facts, users: FlowUsers, table: &FlowTable, names: &Names) -> Rest {
    Rest {
        facts,
        users,
        loopback: table.totals_by_sums(ObservationPoint::Loopback),
        totals: table.totals_by_sums(ObservationPoint::Link),
        remainders: table.remainders(ObservationPoint::Link).clone(),
        folded: table.folded(),
        folded_endpoints: table.untracked_endpoints().collect(),
        lookups: names.lookups().to_vec(),
        names_lost: names.lost(),
    }
}
