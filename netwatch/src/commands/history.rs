//! `netwatch history`: lists, shows and removes recorded runs.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::Path;

use super::{load, snapshot};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::flow::{Counters, PerDirection};
use crate::format::escape;
use crate::format::history::{RecordedFacts, RecordedRun, RecordingStatus, json, table};
use crate::record::{self, Completeness, Recorded, Store, Stored};
use crate::report::Run;
use crate::rights;
use crate::settings::{ColorChoice, HistorySettings};
use crate::terminal::{Show, Spinner, print, print_with};

/// Accesses the store with the rights of the caller of sudo, because the store belongs to them, and
/// runs in progress with those of netwatch.
pub(super) fn history(settings: &HistorySettings) -> Result<Exit> {
    let user = rights::caller()?;
    let store = Store::of(&user)?;
    let owner = (user.uid, user.gid);
    match settings {
        HistorySettings::List { json } => {
            let entries = rights::as_user(owner, || Ok(store.list()?.iter().map(entry).collect()))?;
            list(&store, with_snapshots(entries), *json)
        }
        HistorySettings::Show { json, color, run } => show(*json, *color, run.as_deref()),
        HistorySettings::Remove(runs) => rights::as_user(owner, || remove(&store, runs)),
        HistorySettings::RemoveAll => rights::as_user(owner, || remove_all(&store)),
    }?;
    Ok(Exit::Success)
}

/// Adds the facts of runs in progress, whose recordings are locked. Only root can read their
/// snapshots.
fn with_snapshots(mut entries: Vec<RecordedRun>) -> Vec<RecordedRun> {
    for entry in entries.iter_mut().filter(|entry| entry.state == RecordingStatus::Running) {
        let Some(Ok(Recorded { report, .. })) = snapshot::read(&entry.id) else { continue };
        entry.facts = Some(facts(&report.run, &report.totals));
    }
    entries
}

fn list(store: &Store, entries: Vec<RecordedRun>, as_json: bool) -> Result<()> {
    if as_json {
        return print(json(&entries));
    }
    if entries.is_empty() {
        return print(format!("no recorded runs in {}\n", escape(&store.folder().display().to_string())));
    }
    let stdout = io::stdout();
    let width = stdout.is_terminal().then(|| Show::on(&stdout, false, false, ColorChoice::Never).width());
    print(table(&entries, width))
}

fn entry(stored: &Stored) -> RecordedRun {
    let (state, facts) = match record::summary(&stored.path) {
        Ok(summary) => (state(summary.complete), Some(facts(&summary.run, &summary.totals))),
        Err(_) if record::is_live(&stored.path) => (RecordingStatus::Running, None),
        Err(error) => (RecordingStatus::Unreadable(error.to_string()), None),
    };
    RecordedRun {
        number: stored.number,
        id: stored.id.clone(),
        file: stored.path.display().to_string(),
        file_bytes: stored.path.metadata().map_or(0, |data| data.len()),
        state,
        facts,
    }
}

fn state(complete: Completeness) -> RecordingStatus {
    match complete {
        Completeness::Complete => RecordingStatus::Complete,
        Completeness::Incomplete { until_ns, .. } => RecordingStatus::Incomplete(until_ns),
    }
}

fn facts(run: &Run, totals: &PerDirection<Counters>) -> RecordedFacts {
    RecordedFacts {
        command: run.command.clone(),
        started_ns: run.started_ns,
        duration_ns: run.duration_ns,
        exit: run.exit,
        egress_wire_bytes: totals.egress.wire_bytes,
        ingress_wire_bytes: totals.ingress.wire_bytes,
    }
}

fn show(json: bool, color: ColorChoice, run: Option<&str>) -> Result<()> {
    let spinner = Spinner::new("reading", false);
    let recorded = load::read_recording(run)?;
    let show = Show::on(&io::stdout(), json, false, color);
    drop(spinner);
    print_with(|out| show.write_screen(&recorded.report, false, out))
}

/// Finds all runs before it removes the first one, because removing a run changes the numbers of
/// the others. A run that is named twice is removed once.
fn remove(store: &Store, runs: &[String]) -> Result<()> {
    let paths = runs.iter().map(|run| store.find(Some(run))).collect::<Result<BTreeSet<_>>>()?;
    for path in &paths {
        refuse_live(path)?;
        // A damaged recording in the store can be removed. A file elsewhere must be a recording.
        if path.parent() != Some(store.folder()) {
            record::check(path)?;
        }
    }
    paths.iter().try_for_each(|path| record::remove(path))
}

fn remove_all(store: &Store) -> Result<()> {
    let mut ended = store.list()?.into_iter().filter(|run| !record::is_live(&run.path));
    ended.try_for_each(|run| record::remove(&run.path))
}

fn refuse_live(path: &Path) -> Result<()> {
    if record::is_live(path) {
        let error = Error::other("remove", path.display().to_string(), "the run is still in progress");
        return Err(error.hint("end the run first"));
    }
    Ok(())
}
