//! `--soak`: searches the series for findings while the run lasts, and writes interim reports as
//! files.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use crate::error::{Error, Result};
use crate::format::{json, rfc3339, soak};
use crate::report::Report;
use crate::session::{IsolatedScope, Session};
use crate::settings::SoakSettings;
use crate::soak::Soak;
use crate::target::user::Identity;
use crate::terminal::Output;

/// Time between two searches: the series then still has fine intervals of what is new.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);
/// Interim reports that are kept; older ones are removed.
const MAX_FILES: usize = 24;

/// The soak of a run.
#[derive(Debug)]
pub(in crate::commands) struct SoakWatch {
    soak: Soak,
    report_every: Duration,
    next_search: Instant,
    next_report: Instant,
    files: ReportFiles,
    failures: WriteFailures,
}

/// Interim reports that could not be written.
#[derive(Debug, Default)]
struct WriteFailures {
    count: u64,
    first: Option<String>,
}

impl WriteFailures {
    fn add(&mut self, errors: Vec<Error>) {
        for error in errors {
            self.count += 1;
            self.first.get_or_insert_with(|| error.to_string());
        }
    }

    /// One note, however many there are: a run can last for weeks.
    fn note(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(match self.count {
            1 => first.clone(),
            count => format!("{count} interim reports could not be written or removed; the first: {first}"),
        })
    }
}

impl SoakWatch {
    /// An error if no report could be written.
    pub(super) fn new(settings: &SoakSettings, run_id: &str, user: &Identity) -> Result<Self> {
        let folder = settings.report_dir.clone().unwrap_or_else(|| PathBuf::from("."));
        let shown = folder.display().to_string();
        let folder = std::path::absolute(folder).map_err(|error| Error::os("write reports to", shown, error))?;
        let owner = (user.uid, user.gid);
        test_folder(&folder, run_id, owner)?;
        let now = Instant::now();
        Ok(Self {
            soak: Soak::default(),
            report_every: settings.report_every,
            next_search: now + SEARCH_INTERVAL,
            next_report: now + settings.report_every,
            files: ReportFiles {
                folder: ReportFolder { path: folder, owner },
                run_id: run_id.to_owned(),
                written: VecDeque::new(),
                writing: None,
            },
            failures: WriteFailures::default(),
        })
    }

    /// To be called after each interval. Returns whether an interim report is due.
    pub(super) fn tick(&mut self, session: &Session<IsolatedScope>, (started_ns, now_ns): (u64, u64)) -> bool {
        let now = Instant::now();
        if now >= self.next_search {
            self.next_search = now + SEARCH_INTERVAL;
            self.soak.observe(session.series(), started_ns, now_ns);
        }
        let is_due = now >= self.next_report;
        if is_due {
            self.next_report = now + self.report_every;
        }
        is_due
    }

    /// The findings so far, and reports that could not be written, as notes of a report.
    pub(super) fn notes(
        &mut self,
        session: &Session<IsolatedScope>,
        (started_ns, now_ns): (u64, u64),
        is_final: bool,
    ) -> Vec<String> {
        match is_final {
            false => self.soak.observe(session.series(), started_ns, now_ns),
            true => self.soak.observe_end(session.series(), started_ns, now_ns),
        }
        let findings = self.soak.findings(session.series(), (started_ns, now_ns), session.first_used());
        findings.iter().map(soak::sentence).chain(self.failures.note()).collect()
    }

    /// Writes an interim report, in a thread, because a disk can be slow.
    pub(super) fn write(&mut self, report: Arc<Report>, now_ns: u64) {
        let before = self.files.write(report, now_ns);
        self.failures.add(before);
    }

    /// Waits for the report that is being written.
    pub(super) fn finish(&mut self) {
        let last = self.files.finish();
        self.failures.add(last);
    }
}

/// Writes and removes a file: whether reports can be written is known before the command starts.
fn test_folder(folder: &Path, run_id: &str, owner: (Uid, Gid)) -> Result<()> {
    let name = format!("netwatch-{run_id}-test.json");
    Output::create_in(folder, &name, owner)?;
    Output::remove_in(folder, &name, owner)
}

/// The files of interim reports.
#[derive(Debug)]
struct ReportFiles {
    folder: ReportFolder,
    run_id: String,
    /// Their names, the oldest first.
    written: VecDeque<String>,
    writing: Option<BegunReport>,
}

/// The report that is being written.
#[derive(Debug)]
struct BegunReport {
    name: String,
    /// Those that it replaces.
    oldest: Vec<String>,
    thread: JoinHandle<WorkResult>,
}

#[derive(Debug, Clone)]
struct ReportFolder {
    path: PathBuf,
    owner: (Uid, Gid),
}

/// What became of the oldest reports, in their order, and of the new one.
#[derive(Debug)]
struct WorkResult {
    removed: Vec<Result<()>>,
    written: Result<()>,
}

impl ReportFolder {
    /// Removes the oldest reports first, so that a full disk has room for the new one. That gets
    /// its name when it is complete.
    fn replace(&self, oldest: &[String], name: &str, report: &Report) -> WorkResult {
        let Self { path, owner } = self;
        let removed = oldest.iter().map(|oldest| Output::remove_in(path, oldest, *owner)).collect();
        let part = format!("{name}.part");
        let written = Output::create_in(path, &part, *owner).and_then(|output| {
            let written = output.write(|out| json::write(report, out));
            let written = written.and_then(|()| Output::rename_in(path, &part, name, *owner));
            written.inspect_err(|_| {
                // If that fails, an incomplete report remains.
                let _ = Output::remove_in(path, &part, *owner);
            })
        });
        WorkResult { removed, written }
    }
}

impl ReportFiles {
    /// Begins to write a report. Returns what failed with the one before.
    fn write(&mut self, report: Arc<Report>, now_ns: u64) -> Vec<Error> {
        if self.writing.as_ref().is_some_and(|begun| !begun.thread.is_finished()) {
            return vec![Error::other("write", "an interim report", "the one before is still being written")];
        }
        let mut failed = self.finish();
        // `20260101T120000Z`
        let time: String = rfc3339(now_ns).chars().take(19).filter(char::is_ascii_alphanumeric).collect();
        let name = format!("netwatch-{}-{time}Z.json", self.run_id);
        // More than one if some could not be removed.
        let oldest: Vec<_> = self.written.drain(..(self.written.len() + 1).saturating_sub(MAX_FILES)).collect();
        let (folder, of_thread) = (self.folder.clone(), (oldest.clone(), name.clone()));
        let work = move || folder.replace(&of_thread.0, &of_thread.1, &report);
        match std::thread::Builder::new().name("soak".into()).spawn(work) {
            Ok(thread) => self.writing = Some(BegunReport { name, oldest, thread }),
            Err(error) => {
                self.put_back(oldest);
                failed.push(Error::os("start thread", "soak", error));
            }
        }
        failed
    }

    /// These could not be removed: the next attempt is due with the next report.
    fn put_back(&mut self, oldest: Vec<String>) {
        oldest.into_iter().rev().for_each(|name| self.written.push_front(name));
    }

    /// Waits for the report that is being written. Returns what failed.
    fn finish(&mut self) -> Vec<Error> {
        let Some(BegunReport { name, oldest, thread }) = self.writing.take() else { return Vec::new() };
        let Ok(WorkResult { removed, written }) = thread.join() else {
            self.put_back(oldest);
            return vec![Error::other("write", "an interim report", "a thread panicked")];
        };
        let remains = |removed: &Result<()>| removed.as_ref().is_err_and(|error| error.errno() != Some(Errno::ENOENT));
        let left = oldest.into_iter().zip(&removed).filter(|(_, removed)| remains(removed)).map(|(name, _)| name);
        self.put_back(left.collect());
        if written.is_ok() {
            self.written.push_back(name);
        }
        removed.into_iter().chain([written]).filter_map(Result::err).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_reports_that_cannot_be_written_are_one_note() {
        let mut failures = WriteFailures::default();
        failures.add(Vec::new());
        assert_eq!(failures.note(), None);
        let failed = |name: &str| vec![Error::other("write", name, "the disk is full")];
        failures.add(failed("first.json"));
        assert!(failures.note().is_some_and(|note| note.contains("first.json") && !note.contains("reports")));
        (0..1_000).for_each(|_| failures.add(failed("later.json")));
        let note = failures.note().expect("a note");
        assert!(note.starts_with("1001 interim reports") && note.contains("first.json"), "{note}");
    }

    #[test]
    fn a_folder_is_tested_before_the_run() {
        let owner = (Uid::current(), Gid::current());
        let folder = std::env::temp_dir().join(format!("netwatch-soak-{}", std::process::id()));
        assert!(test_folder(&folder, "1", owner).is_err());
        std::fs::create_dir(&folder).expect("created");
        assert!(test_folder(&folder, "1", owner).is_ok());
        assert_eq!(std::fs::read_dir(&folder).expect("read").count(), 0);
        std::fs::remove_dir(&folder).expect("removed");
    }

    fn files_of(dir: &Path) -> ReportFiles {
        let folder = ReportFolder { path: dir.to_owned(), owner: (Uid::current(), Gid::current()) };
        ReportFiles { folder, run_id: "1".into(), written: VecDeque::new(), writing: None }
    }

    #[test]
    fn reports_that_cannot_be_removed_are_removed_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut files, report) = (files_of(dir.path()), Arc::new(Report::empty()));
        let mut write = |second: usize| {
            let before = files.write(report.clone(), second as u64 * 1_000_000_000);
            assert!(before.is_empty(), "{before:?}");
            (files.finish().len(), files.written.len())
        };
        let oldest = |second: usize| dir.path().join(format!("netwatch-1-19700101T0000{second:02}Z.json"));
        (0..MAX_FILES).for_each(|second| assert_eq!(write(second), (0, second + 1)));
        std::fs::remove_file(oldest(0)).and_then(|()| std::fs::create_dir(oldest(0))).expect("an obstacle");
        assert_eq!(write(30), (1, MAX_FILES + 1), "the first cannot be removed");
        assert_eq!(write(31), (1, MAX_FILES + 1));
        assert!(!oldest(1).exists() && oldest(2).exists(), "the others are");
        std::fs::remove_dir(oldest(0)).and_then(|()| std::fs::write(oldest(0), "")).expect("a file");
        assert_eq!(write(32), (0, MAX_FILES));
        assert!(!oldest(0).exists());
        std::fs::remove_file(oldest(3)).expect("removed");
        assert_eq!(write(33), (1, MAX_FILES), "another process removed it");
        assert_eq!(write(34), (0, MAX_FILES));
    }

    #[test]
    fn the_oldest_report_is_removed_also_if_the_new_one_cannot_be_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut files = files_of(dir.path());
        let report = Arc::new(Report::empty());
        let names = || {
            let entries = std::fs::read_dir(dir.path()).expect("a directory");
            let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
            names.sort();
            names
        };
        let mut write = |second: u64| {
            let before = files.write(report.clone(), second * 1_000_000_000);
            assert!(before.is_empty(), "{before:?}");
            files.finish()
        };
        (0..MAX_FILES as u64).for_each(|second| assert!(write(second).is_empty()));
        let all = names();
        assert_eq!(all.len(), MAX_FILES);
        let obstacle = dir.path().join("netwatch-1-19700101T000100Z.json.part");
        std::fs::create_dir(&obstacle).expect("created");
        let failed = write(60);
        assert!(failed.len() == 1 && failed[0].to_string().contains("(EISDIR)"), "{failed:?}");
        std::fs::remove_dir(&obstacle).expect("removed");
        assert_eq!(names(), all[1..]);
        // There is room for one more now.
        assert!(write(61).is_empty());
        assert_eq!((names().len(), &names()[..MAX_FILES - 1]), (MAX_FILES, &all[1..]));
    }
}
