//! Loads the runs that a subcommand is about: recordings, captures, which are replayed, and JSON
//! reports.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::snapshot;
use crate::capture::Capture;
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::flow::DEFAULT_IDLE_TIMEOUT;
use crate::import;
use crate::meter::defaults;
use crate::record::{self, Recorded};
use crate::replay::{LocalAddresses, ReplayPlan, replay};
use crate::report::{Replay, Report};
use crate::rights;
use crate::settings::value::extension;
use crate::terminal::Spinner;

/// The data of a run or of a capture.
pub(super) struct LoadedRun {
    pub report: Report,
}

impl LoadedRun {
    /// How the run is named on a command line: its id, or the capture's file name.
    pub(super) fn selector(&self) -> String {
        match &self.report.replay {
            Some(replay) => replay.file.clone(),
            None => self.report.run.id.clone(),
        }
    }

    /// Whether both are of one run, or of one capture and the same frames in it: another filter or
    /// other local addresses give other endpoints.
    fn is_same(&self, other: &Self) -> bool {
        match (&self.report.replay, &other.report.replay) {
            (Some(own), Some(replay)) => {
                let times = |replay: &Replay| (replay.started_ns, replay.duration_ns);
                let endpoints = |run: &Self| -> Vec<_> {
                    let endpoints = run.report.endpoints.iter().map(|known| &known.endpoint);
                    endpoints.map(|endpoint| (endpoint.key, endpoint.counters)).collect()
                };
                own.file == replay.file && times(own) == times(replay) && endpoints(self) == endpoints(other)
            }
            (None, None) => !self.report.run.id.is_empty() && self.report.run.id == other.report.run.id,
            _ => false,
        }
    }

    /// The run's id, or the capture's file name without folders and extension.
    pub(super) fn name(&self) -> String {
        match &self.report.replay {
            Some(replay) => {
                Path::new(&replay.file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
            }
            None => self.report.run.id.clone(),
        }
    }
}

/// Loads runs by number, id or file, in this order; the newest run if none is named.
pub(super) fn load_runs(selectors: &[String], spinner: &Spinner) -> Result<Vec<LoadedRun>> {
    if selectors.is_empty() {
        return read_recording(None).map(|run| vec![run]);
    }
    if selectors.len() > record::MAX_RUNS {
        let cause = format!("at most {} can be combined", record::MAX_RUNS);
        return Err(Error::other("read", format!("{} runs", selectors.len()), cause).hint("name fewer runs"));
    }
    let load = |(number, selector): (usize, &String)| {
        // Also set for a single run, because `diff` loads two lists with one spinner.
        spinner.set_message(match selectors.len() {
            1 => "reading".to_owned(),
            count => format!("reading {number} of {count}"),
        });
        load_run(selector)
    };
    (1..).zip(selectors).map(load).collect()
}

/// Each run once, and what to tell about the others: a recording and a JSON report of one run have
/// its id. The longest counts, because an interim report ends before the run.
pub(super) fn once_each(runs: Vec<LoadedRun>) -> (Vec<LoadedRun>, Vec<String>) {
    let (mut kept, mut messages): (Vec<LoadedRun>, Vec<String>) = (Vec::new(), Vec::new());
    for run in runs {
        let Some(known) = kept.iter_mut().find(|known| known.is_same(&run)) else {
            kept.push(run);
            continue;
        };
        messages.push(format!("{} is named more than once and counts once", escape(&run.selector())));
        if run.report.run.duration_ns > known.report.run.duration_ns {
            *known = run;
        }
    }
    (kept, messages)
}

fn load_run(selector: &str) -> Result<LoadedRun> {
    let path = Path::new(selector);
    match ForeignFile::of(path) {
        Some(ForeignFile::Capture) => replay_capture(path),
        Some(ForeignFile::Json) => read_json(path),
        None => read_recording(Some(selector)),
    }
}

/// Files that are no recordings, by their first bytes.
enum ForeignFile {
    Capture,
    Json,
}

impl ForeignFile {
    /// `None` for anything else, also if there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let user = rights::caller().ok()?;
        rights::as_user((user.uid, user.gid), || Self::by_content(path))
    }

    fn by_content(path: &Path) -> Option<Self> {
        // pcap, in either byte order and resolution, and pcapng.
        const MAGIC: [[u8; 4]; 5] = [
            [0xa1, 0xb2, 0xc3, 0xd4],
            [0xd4, 0xc3, 0xb2, 0xa1],
            [0xa1, 0xb2, 0x3c, 0x4d],
            [0x4d, 0x3c, 0xb2, 0xa1],
            [0x0a, 0x0d, 0x0d, 0x0a],
        ];
        // SQLite.
        const RECORDING: &[u8] = b"SQLi";
        if !path.metadata().is_ok_and(|data| data.is_file()) {
            return None;
        }
        let mut start = Vec::new();
        File::open(path).and_then(|file| file.take(4).read_to_end(&mut start)).ok()?;
        let is_named_json = || extension(path) == "json" && start != RECORDING;
        match start {
            _ if MAGIC.iter().any(|magic| start == magic) => Some(Self::Capture),
            _ if import::is_json(&start) || is_named_json() => Some(Self::Json),
            _ => None,
        }
    }
}

fn read_json(path: &Path) -> Result<LoadedRun> {
    let shown = || path.display().to_string();
    let user = rights::caller()?;
    let read = rights::as_user((user.uid, user.gid), || std::fs::read(path));
    let bytes = read.map_err(|error| Error::os("read", shown(), error))?;
    let report = import::report(&bytes).map_err(|cause| {
        Error::other("read", shown(), cause).hint("write it with `netwatch report --format json` of the same version")
    })?;
    Ok(LoadedRun { report })
}

/// Opens a capture with the rights of the caller of sudo.
pub(super) fn open_capture(path: &Path, stop: &'static AtomicBool) -> Result<Capture> {
    let user = rights::caller()?;
    rights::as_user((user.uid, user.gid), || Capture::open(path, stop))
}

fn replay_capture(path: &Path) -> Result<LoadedRun> {
    // Never set: a signal ends netwatch here.
    static STOP: AtomicBool = AtomicBool::new(false);
    let local = LocalAddresses::new([]).map_err(|cause| Error::other("replay", path.display().to_string(), cause))?;
    let plan = ReplayPlan {
        local,
        by_kernel: false,
        filter: None,
        max_flows: defaults::MAX_FLOWS,
        idle_timeout: DEFAULT_IDLE_TIMEOUT,
        resolve: None,
    };
    let mut capture = open_capture(path, &STOP)?;
    let replayed = replay(&mut capture, &plan, &mut ())?;
    Ok(LoadedRun { report: replayed.report })
}

/// A run that is live is read by its snapshot, because its recording is locked.
pub(super) fn read_recording(selector: Option<&str>) -> Result<LoadedRun> {
    let live = match selector.and_then(snapshot::read) {
        Some(live) => Some(live),
        None => record::live_id(selector).as_deref().and_then(snapshot::read),
    };
    let recorded = live.unwrap_or_else(|| record::open(selector).or_else(|error| read_unstored(selector, error)))?;
    Ok(LoadedRun { report: recorded.report })
}

/// A live run that is selected by the first characters of its id, and has no recording in the
/// user's folder. Otherwise the error of reading a recording.
fn read_unstored(selector: Option<&str>, error: Error) -> Result<Recorded> {
    let prefix = selector.filter(|text| !text.is_empty() && !Path::new(text).exists());
    prefix.and_then(snapshot::read_by_prefix).unwrap_or(Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, duration_ns: u64) -> LoadedRun {
        let run = crate::report::Run { id: id.to_owned(), duration_ns, ..crate::report::Run::default() };
        LoadedRun { report: Report { run, ..Report::empty() } }
    }

    #[test]
    fn a_run_that_is_named_twice_counts_once() {
        let (kept, messages) = once_each(vec![run("a", 1), run("b", 2), run("a", 3), run("", 1), run("", 1)]);
        let kept: Vec<_> = kept.iter().map(|run| (run.name(), run.report.run.duration_ns)).collect();
        assert_eq!(kept, [("a", 3), ("b", 2), ("", 1), ("", 1)].map(|(id, ns)| (id.to_owned(), ns)));
        assert_eq!(messages, ["a is named more than once and counts once"]);
    }

    #[test]
    fn a_file_that_looks_like_json_is_no_report() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("a.json", "{"), ("b", "{}"), ("c.json", "[1, 2]"), ("d.json", "")] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            let error = load_run(path.to_str().expect("text")).err().expect("no report").to_string();
            assert!(error.contains("not a JSON report of netwatch"), "{name}: {error}");
        }
    }

    #[test]
    fn the_spinner_shows_the_current_list() {
        let spinner = Spinner::new("reading", true);
        let absent = |count: usize| vec!["./absent".to_owned(); count];
        for (count, message) in [(2, "reading 1 of 2"), (1, "reading")] {
            assert!(load_runs(&absent(count), &spinner).is_err());
            assert_eq!(spinner.message(), message);
        }
    }
}
